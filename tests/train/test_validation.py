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


@pytest.mark.parametrize("counts", [([90, 0, 0], [0, 0, 0], [0, 0, 0]), ([0, 0, 0], [0, 0, 0], [0, 0, 0])])
def test_labels_of_one_class_or_of_none_are_not_a_score_of_1(counts):
    assert row(*counts).keys() == {"miou_classes"}
