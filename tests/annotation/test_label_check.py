"""Values without a class, classes without pixels: what is refused, and the class table that is offered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from wsi_deform.annotation.classes import ClassTable, class_table_from_data, read_class_table
from wsi_deform.annotation.label_check import (
    SeenValues,
    judge_labels,
    refuse_labels_of_one_class,
    values_text,
)
from wsi_deform.annotation.suggested_classes import class_table_text, suggested_classes
from wsi_deform.errors import AnnotationError
from wsi_deform.manifest.rows import ManifestRow

GLAND = ["background", "gland"]
TUMOUR = ["background", "gland", "tumour"]


def seen(**splits):
    return SeenValues(pixels=splits, masks=dict.fromkeys(splits, 1))


def judged(table, *, allow=False, **splits):
    return judge_labels(seen(**splits), class_table_from_data(table, "table"), allow_empty_classes=allow)


@pytest.mark.parametrize(
    ("table", "values", "text"),
    [
        (GLAND, (0, 255), "classes:\n- {name: background, value: 0}\n- {name: gland, value: 255}"),
        (GLAND, (1, 255), "classes:\n- {name: background, value: 255}\n- {name: gland, value: 1}"),
        (
            GLAND,
            (0, 128, 255),
            "classes:\n- {name: background, value: 0}\n- {name: gland, value: 128}\n- {name: class 255, value: 255}",
        ),
        (GLAND, (128, 255), "classes:\n- {name: background, value: 128}\n- {name: gland, value: 255}"),
        # 255 is left alone where the classes have their values.
        (
            GLAND,
            (0, 1, 3, 255),
            "classes:\n- {name: background, value: 0}\n- {name: gland, value: 1}\n- {name: class 3, value: 3}",
        ),
        (["gland"], (0, 255), "classes:\n- {name: background, value: 0}\n- {name: gland, value: 255}"),
        ({"gland": 1}, (0, 1), "classes:\n- {name: background, value: 0}\n- {name: gland, value: 1}"),
        (
            TUMOUR,
            (0, 255),
            "classes:\n- {name: background, value: 0}\n- {name: gland, value: 255}\n"
            "# no mask holds a value for: tumour",
        ),
        (
            {
                "classes": [
                    {"name": "yes", "values": [0, 7], "color": "#010203"},
                    {"name": "stroma: a", "value": 9},
                ],
                "background": "yes",
                "unlabelled": [200, 255],
            },
            (0, 7, 255),
            "classes:\n- {name: 'yes', color: [1, 2, 3], values: [0, 7]}\n- {name: 'stroma: a', value: 255}\n"
            "background: 'yes'\nunlabelled: [200]",
        ),
    ],
)
def test_every_value_gets_a_class_in_text_that_reads_as_a_class_table(table, values, text, tmp_path):
    suggested = suggested_classes(values, class_table_from_data(table, "table"))
    assert suggested is not None
    assert suggested.text == text
    (tmp_path / "classes.yaml").write_text(suggested.text)
    assert read_class_table(tmp_path / "classes.yaml") == suggested.table
    assert suggested.table.mapping.keys() >= set(values)


def test_nothing_is_suggested_where_all_is_said_or_the_values_are_no_labels():
    table = ClassTable.from_names(GLAND)
    assert suggested_classes((0, 1, 255), table) is None
    assert suggested_classes((0,), table) is None
    assert suggested_classes(range(100), table) is None


def test_a_class_table_as_text_is_the_same_table():
    table = class_table_from_data({"classes": {"stroma": 3, "gland": [1, 2]}, "unlabelled": [0]}, "table")
    assert class_table_text(table) == (
        "classes:\n- {name: stroma, value: 3}\n- {name: gland, values: [1, 2]}\nunlabelled: [0]"
    )
    assert class_table_from_data(yaml.safe_load(class_table_text(table)), "text") == table


def test_masks_of_0_and_255_are_refused_with_the_table_to_paste():
    (problem,) = judged(GLAND, train={0: 818, 255: 182}, val={0: 90, 255: 10}).problems
    assert str(problem) == (
        "class table: only class 'background' has pixels in 2 masks, which hold 0 ('background', 82.5 %), 255 "
        "(unlabelled, 17.5 %). Needed pixels of two classes or more, for there is nothing to tell apart in one. Pass "
        "--allow-empty-classes if it is meant so. If 255 is 'gland', write this into classes.yaml:\n"
        "classes:\n- {name: background, value: 0}\n- {name: gland, value: 255}"
    )


def test_masks_of_background_alone_are_refused_without_a_table():
    (problem,) = judged(GLAND, train={0: 1000}).problems
    assert "only class 'background' has pixels in 1 mask, which hold 0 ('background', 100.0 %)" in str(
        problem
    )
    assert str(problem).endswith(
        "Check that these are the finished labels and that mask_channel is right, or pass --allow-empty-classes if it "
        "is meant so."
    )


def test_a_table_of_one_class_is_refused():
    (problem,) = judged(["gland"], train={0: 1000}).problems
    assert problem.found.startswith("only class 'gland' has pixels in 1 mask")


def test_values_without_a_meaning_are_refused_also_with_the_switch():
    for allow in (False, True):
        (problem,) = judged(GLAND, allow=allow, train={0: 900, 128: 60, 255: 40}).problems
        assert problem.found == (
            "1 value of the masks without a meaning; they hold 0 ('background', 90.0 %), 128 (no meaning, 6.0 %), 255 "
            "(unlabelled, 4.0 %)"
        )
        assert "if 128 is 'gland' and 255 is 'class 255', write this into classes.yaml" in problem.remedy


def test_class_indices_beyond_the_table_are_offered_as_classes():
    (problem,) = judged(GLAND, train={0: 900, 1: 60, 2: 40}).problems
    assert "if 2 is 'class 2', write this" in problem.remedy
    assert problem.paste.endswith("- {name: class 2, value: 2}")


def test_pictures_and_blended_labels_are_called_that():
    (problem,) = judged(GLAND, train=dict.fromkeys(range(0, 256, 5), 1)).problems
    assert problem.remedy.endswith("export the labels without blending (nearest neighbour)")
    assert "give the numbers of all objects to one class (values: [1, 2, ...])" in problem.remedy
    assert problem.paste == ""
    assert problem.found.endswith("and 44 other values")


def test_a_class_that_no_training_mask_has_is_a_problem():
    found = judged(TUMOUR, train={0: 900, 1: 100}, val={0: 50, 1: 25, 2: 25}, test={0: 5, 1: 5, 2: 5})
    (problem,) = found.problems
    assert problem.found == (
        "class 'tumour' is in no training mask: 0 ('background', 90.0 %), 1 ('gland', 10.0 %)"
    )
    assert problem.paste == ""
    assert found.remarks == []


def test_a_missing_class_may_be_what_means_unlabelled():
    (problem,) = judged(TUMOUR, train={0: 800, 1: 100, 255: 100}).problems
    assert "If 255 is 'tumour', write this into classes.yaml" in problem.remedy
    assert problem.paste.endswith("- {name: tumour, value: 255}")


def test_masks_without_a_split_are_looked_at_as_training_masks_are():
    (problem,) = judged(TUMOUR, **{"": {0: 900, 1: 100}}).problems
    assert problem.found.startswith("class 'tumour' is in no mask: 0")
    assert problem.needed == "pixels of every class"
    assert judged(TUMOUR, test={0: 900, 1: 100}).problems == []


def test_one_class_in_val_is_a_problem_and_in_test_a_remark():
    found = judged(GLAND, train={0: 900, 1: 100}, val={0: 80, 255: 20}, test={1: 100})
    (problem,) = found.problems
    assert problem.found == (
        "the masks of split val hold only class 'background': 0 ('background', 80.0 %), 255 (unlabelled, 20.0 %); a "
        "mean IoU cannot be measured by them"
    )
    assert found.remarks == [
        "split test: no pixel of class 'background': a mean IoU of test cannot be measured"
    ]


def test_classes_that_val_and_test_lack_are_remarks():
    found = judged(TUMOUR, train={0: 8, 1: 1, 2: 1}, val={0: 8, 2: 1}, test={0: 8, 1: 1, 2: 1})
    assert found.problems == []
    assert found.remarks == ["split val: no pixel of class 'gland': a mean IoU of val is over the others"]
    assert judged(TUMOUR, train={0: 8, 1: 1, 2: 1}, test={0: 8, 2: 1}).remarks == [
        "split test: no pixel of class 'gland': a mean IoU of test is over the others, with 0 for one that is predicted"
    ]


def test_the_switch_makes_remarks_of_classes_without_pixels():
    for splits in ({"train": {0: 90, 255: 10}}, {"train": {0: 9, 1: 1}, "val": {0: 10}}):
        strict, allowed = judged(TUMOUR, **splits), judged(TUMOUR, allow=True, **splits)
        assert strict.problems
        assert allowed.problems == []
        assert [f"{each.where}: {each.found}" for each in strict.problems] == allowed.remarks[
            : len(strict.problems)
        ]


def test_masks_of_one_class_beside_unlabelled_are_named_where_others_hold_more():
    table, found = ClassTable.from_names(GLAND), SeenValues()
    for name, values in (("a", {0: 5, 1: 5}), ("b", {0: 5, 255: 5}), ("c", {0: 5})):
        found.add(ManifestRow(slide=Path(name), slide_id=name, split="train"), values, table)
    judgement = judge_labels(found, table)
    assert judgement.problems == []
    assert judgement.remarks == [
        "1 of 3 masks hold one class and beside it only what means unlabelled (255): b. If that is a class there, give "
        "these masks the values of the others"
    ]


def test_small_shares_are_not_shown_as_none():
    assert values_text({1: 1, 0: 99_999}) == "0 (100.0 %), 1 (less than 0.1 %)"


def test_labels_that_measure_nothing_are_refused_before_they_are_measured(tmp_path):
    table, rows = ClassTable.from_names(GLAND), []
    for name, values in (("a", (0, 255)), ("b", (0, 0))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.repeat(np.array(values, np.uint8), 50).reshape(10, 10))
        rows.append(ManifestRow(slide=tmp_path / name, slide_id=name, mask=tmp_path / f"{name}.tif"))
    with pytest.raises(AnnotationError, match=r"0 \('background', 75\.0 %\), 255 \(unlabelled, 25\.0 %\)"):
        refuse_labels_of_one_class(rows, table)
    missing = ManifestRow(slide=tmp_path / "c", slide_id="c", mask=tmp_path / "none.tif")
    refuse_labels_of_one_class([rows[1], missing], table)  # background is labelled, and nothing is hidden
    tifffile.imwrite(tmp_path / "b.tif", np.ones((10, 10), np.uint8))
    refuse_labels_of_one_class(rows, table)
