"""Intervals of every measure: those of slides that agree have no width, others are those of slides drawn again."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_evaluation import CLASSES, drawn_evaluation, evaluation_of

from wsi_deform.evaluate.bootstrap import Resamples, difference_of_miou
from wsi_deform.evaluate.folder import write_all
from wsi_deform.evaluate.intervals import intervals_data, with_ends
from wsi_deform.evaluate.masks import Evaluation
from wsi_deform.evaluate.rows import measured_data
from wsi_deform.evaluate.tables import evaluation_data


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return drawn_evaluation()


def middle(values: list[float]) -> list[float]:
    return np.quantile(values, [0.025, 0.975]).tolist()


def drawn_again(evaluation: Evaluation, resamples: Resamples) -> list[dict[str, Any]]:
    """The data of evaluations whose slides are those of a resample, each as often as it was drawn."""
    return [
        evaluation_data(
            evaluation_of(
                [
                    replace(slide, patient="one")
                    for slide, often in zip(evaluation.slides, row.tolist(), strict=True)
                    for _ in range(often)
                ]
            )
        )
        for row in resamples.drawn
    ]


def test_every_interval_is_that_of_slides_that_were_drawn_again(
    evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = Resamples.of([slide.slide_id for slide in evaluation.slides], resamples=60)
    assert some is not None
    again = drawn_again(evaluation, some)
    monkeypatch.setattr(Evaluation, "resamples", property(lambda self: some))
    found = intervals_data(evaluation, measured_data(evaluation.measured, CLASSES))
    assert found is not None
    assert (found["groups"], found["of"]) == (7, "slides")
    for kind, held in (("predicted", found), ("sampled", found["sampled"])):
        pooled = [each["pooled"][kind] for each in again]
        for key in ("miou", "mdice", "miou_without_background", "accuracy"):
            assert held[key] == pytest.approx(middle([each[key] for each in pooled])), (kind, key)
        for key in ("iou", "dice", "precision", "recall"):
            for name in CLASSES.names:
                assert held[key][name] == pytest.approx(middle([each[key][name] for each in pooled])), key
    shares = {
        "touched": "objects", "half_covered": "objects", "predicted_touching": "predicted_objects",
        "predicted_half_true": "predicted_objects", "predicted_false": "predicted_objects",
    }  # fmt: skip
    for kind in ("trimap", "boundary", "objects", "frequency"):
        rows = [each["measured"][kind] for each in again]
        assert len(found[kind]) == len(rows[0]) > 1
        for place, intervals in enumerate(found[kind]):
            for key, interval in intervals.items():
                values = [
                    each[place][key]
                    / (each[place][shares[key]] if kind == "objects" and key in shares else 1)
                    for each in rows
                ]
                # Percentiles are looked for in steps of a 512th of all border pixels.
                near = {"rel": 0.02} if key == "percentile_95" else {}
                assert interval == pytest.approx(middle(values), **near), (kind, place, key)
    errors = [each["measured"]["calibration"] for each in again]
    assert found["calibration"]["expected_calibration_error"] == pytest.approx(
        middle([each["expected_calibration_error"] for each in errors])
    )
    for name in CLASSES.names:
        assert found["calibration"]["class_errors"][name] == pytest.approx(
            middle([each["class_errors"][name] for each in errors])
        )


def test_slides_that_agree_have_intervals_without_width_at_the_measure(evaluation: Evaluation) -> None:
    (slide,) = evaluation.slides[2:3]
    same = evaluation_of([replace(slide, slide_id=str(number)) for number in range(5)])
    data = evaluation_data(same)
    held, measured = data["intervals"], data["measured"]
    assert held["accuracy"] == pytest.approx([data["pooled"]["predicted"]["accuracy"]] * 2)
    for row, interval in zip(measured["boundary"], held["boundary"], strict=True):
        assert interval["mean"] == pytest.approx([row["mean"]] * 2)
        assert interval["percentile_95"] == pytest.approx([row["percentile_95"]] * 2, rel=0.02)
    for row, interval in zip(measured["objects"], held["objects"], strict=True):
        assert interval["touched"] == pytest.approx([row["touched"] / row["objects"]] * 2)


def test_few_slides_have_no_intervals_and_their_tables_the_same_columns(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    few = evaluation_of(list(evaluation.slides[2:6]))
    assert evaluation_data(few)["intervals"] is None
    headers = []
    for name, each in (("few", few), ("many", evaluation)):
        write_all(each, tmp_path / name, provenance={}, figures=False)
        files = sorted((tmp_path / name / "test").glob("*.csv"))
        headers.append(
            {path.name: path.read_text(encoding="utf-8").splitlines()[0].split(",") for path in files}
        )
    assert headers[0] == headers[1]
    assert headers[0]["boundary.csv"][-6:] == [
        "mean_low", "mean_high", "percentile_95_low", "percentile_95_high", "capped_share_low", "capped_share_high",
    ]  # fmt: skip
    with (tmp_path / "many" / "test" / "boundary.csv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert 0 < float(row["mean_low"]) < float(row["mean"]) < float(row["mean_high"])


def test_rows_get_their_ends() -> None:
    rows = [{"a": 1.0}, {"a": 2.0}]
    assert with_ends(rows, [{"a": [0.5, 1.5]}, {"a": None}], ["a"]) == [
        {"a": 1.0, "a_low": 0.5, "a_high": 1.5},
        {"a": 2.0, "a_low": None, "a_high": None},
    ]
    assert with_ends(rows[:1], None, ["a"]) == [{"a": 1.0, "a_low": None, "a_high": None}]


def test_the_difference_of_two_methods_is_told_apart_from_how_hard_slides_are() -> None:
    # Slides differ much, the second method is better by about as much on each of them.
    hard = [np.array([[900 - 100 * n, 100 + 100 * n], [0, 1000]]) for n in range(6)]
    better = [np.array([[950 - 100 * n, 50 + 100 * n], [0, 1000]]) for n in range(6)]
    drawn = Resamples.of(list("abcdef"))
    assert drawn is not None
    found = difference_of_miou(better, hard, drawn)
    assert found is not None
    assert 0.02 < found[0] < found[1] < 0.06
    assert difference_of_miou(hard, hard, drawn) == (0, 0)
    swapped = difference_of_miou(hard, better, drawn)
    assert swapped == pytest.approx((-found[1], -found[0]))
