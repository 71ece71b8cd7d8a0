from __future__ import annotations

import math

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.errors import MaskError
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.tables import write_evaluation
from wsi_deform.geometry import Size
from wsi_deform.report.measured import measures
from wsi_deform.report.tables import Table, comparison_table, mean_and_spread


def evaluation(tmp_path, sampled: bool = True) -> Evaluation:
    counts = np.array([[80, 10, 0], [5, 5, 0], [0, 0, 0]])
    slide = SlideEvaluation(
        slide_id="a",
        size=Size(10, 10),
        predicted=Confusion(counts),
        sampled=Confusion(np.diag([90, 10, 0])) if sampled else None,
    )
    classes = ClassTable.from_names(["background", "gland", "tumour"])
    return Evaluation(masks=tmp_path, split="test", classes=classes, slides=(slide,), unmeasured=())


def test_best_of_each_column_stands_out_and_ties_share_it() -> None:
    table = comparison_table({"joint": {"mIoU": 0.64, "x": 0.5}, "uniform": {"mIoU": 0.42, "x": 0.5004}})
    assert table.rows == (("joint", "0.640", "0.500"), ("uniform", "0.420", "0.500"))
    assert table.best == {(0, 1), (0, 2), (1, 2)}
    assert "| **0.640** |" in table.markdown()


def test_one_row_or_no_wish_marks_nothing() -> None:
    assert not comparison_table({"joint": {"mIoU": 0.6}}).best
    assert not comparison_table({"a": {"x": 1.0}, "b": {"x": 0.0}}, largest_is_best=()).best


def test_missing_and_undefined_measures_are_dashes() -> None:
    table = comparison_table({"a": {"x": math.nan, "y": 1.0}, "b": {"x": 0.25}})
    assert table.rows == (("a", "–", "1.000"), ("b", "0.250", "–"))
    assert table.best == {(1, 1), (0, 2)}


def test_text_stays_inside_its_cell() -> None:
    table = Table(header=("slide", "reason"), rows=(("<b>a", "one | two\nthree"),), is_text=True)
    assert r"| <b>a | one \| two three |" in table.markdown()


def test_mean_and_spread_says_how_many_seeds() -> None:
    assert mean_and_spread([0.5, 0.52, 0.48]) == "0.500 ± 0.020 (3)"
    assert mean_and_spread([0.5]) == "0.500"
    assert mean_and_spread([]) == "–"


def test_evaluation_and_its_file_give_the_same_measures(tmp_path) -> None:
    direct = measures(evaluation(tmp_path))
    path, _ = write_evaluation(evaluation(tmp_path), tmp_path / "evaluation.json", provenance={})
    again = measures(path)
    assert list(direct) == list(again)
    assert math.isnan(direct["IoU tumour"])
    del direct["IoU tumour"], again["IoU tumour"]
    assert direct == again
    assert direct["IoU background"] == pytest.approx(80 / 95)
    assert direct["mIoU without background"] == pytest.approx(5 / 20)
    assert direct["mIoU(Y', Y)"] == 1.0


def test_masks_without_samples_have_no_ceiling(tmp_path) -> None:
    assert "mIoU(Y', Y)" not in measures(evaluation(tmp_path, sampled=False))


def test_something_else_than_an_evaluation_is_refused(tmp_path) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text('{"pooled": 3}')
    with pytest.raises(MaskError, match="evaluation.json: not an evaluation"):
        measures(path)
