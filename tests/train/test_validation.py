"""What the log gets of a validation."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.train.validation import validation_row

CLASSES = ClassTable.from_names(["background", "gland", "tumour"])


def row(*counts):
    return validation_row(Confusion(np.array(counts, np.int64)), CLASSES)


def test_complete_labels_give_the_mean_over_all_classes():
    found = row([50, 10, 0], [5, 20, 5], [0, 0, 10])
    assert found["val_miou"] == pytest.approx((50 / 65 + 20 / 40 + 10 / 15) / 3)
    assert found["val_miou_without_background"] == pytest.approx((20 / 40 + 10 / 15) / 2)
    assert (found["val_classes"], found["val_classes_absent"]) == (3, 0)


def test_absent_classes_are_counted_and_named():
    found = row([50, 10, 0], [5, 20, 0], [0, 0, 0])
    assert found["val_miou"] == pytest.approx((50 / 65 + 20 / 35) / 2)
    assert (found["val_classes"], found["val_classes_absent"]) == (2, 1)
    assert found["miou_classes"]["absent"] == ["tumour"]


def test_a_class_that_val_lacks_is_in_no_mean_whether_it_is_predicted_or_not():
    good, guessing = row([90, 0, 10], [0, 50, 0], [0, 0, 0]), row([60, 30, 0], [10, 50, 0], [0, 0, 0])
    assert good["val_miou"] == pytest.approx((90 / 100 + 50 / 50) / 2)
    assert good["val_miou_without_background"] == pytest.approx(1.0)
    # With 0 for the class that is predicted it would be .633, near the .578 of the worse one.
    assert guessing["val_miou"] == pytest.approx((60 / 100 + 50 / 90) / 2)
    for found in (good, guessing):
        assert (found["val_classes"], found["val_classes_absent"]) == (2, 1)
        assert found["miou_classes"] == {
            "labelled": ["background", "gland"],
            "over": ["background", "gland"],
            "absent": ["tumour"],
        }


@pytest.mark.parametrize("counts", [([90, 0, 0], [0, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 0, 0], [0, 0, 0])])
def test_labels_of_one_class_or_of_none_are_not_a_score_of_1(counts):
    assert row(*counts).keys() == {"miou_classes", "val_confusion"}
    assert row(*counts)["val_confusion"] == [list(each) for each in counts]
