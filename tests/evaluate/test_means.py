"""Mean IoU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.evaluate.means import mean_classes, measured_miou
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.tables import measures_of

NAMES = ["background", "gland", "tumour"]
CLASSES = ClassTable.from_names(NAMES)


def counts(*rows):
    return Confusion(np.array(rows, np.int64))


def test_a_mean_over_all_classes_is_what_it_always_was():
    found = counts([50, 10, 0], [5, 20, 5], [0, 0, 10])
    assert measured_miou(found) == found.miou() == pytest.approx((50 / 65 + 20 / 40 + 10 / 15) / 3)
    assert measured_miou(found, without=0) == found.miou(without=0)
    assert measures_of(found, CLASSES)["miou_classes"] == {"labelled": NAMES, "over": NAMES, "absent": []}


@pytest.mark.parametrize("only", [[90, 0, 0], [60, 30, 0]])
def test_labels_of_one_class_have_no_mean(only):
    found = counts(only, [0, 0, 0], [0, 0, 0])
    assert measured_miou(found) is None
    said = measures_of(found, CLASSES)
    assert said["miou"] is said["miou_without_background"] is None
    assert said["iou"]["background"] == only[0] / 90
    assert said["miou_classes"]["labelled"] == ["background"]
    assert said["miou_classes"]["over"] == []


def test_nothing_labelled_has_no_mean():
    assert measured_miou(Confusion.empty(3)) is None
    assert mean_classes(Confusion.empty(3), NAMES).text() == "cannot be measured: no pixel is labelled"


def test_absent_classes_are_named_and_predicted_ones_count_as_0():
    absent = counts([50, 10, 0], [5, 20, 0], [0, 0, 0])
    assert mean_classes(absent, NAMES).to_data() == {
        "labelled": ["background", "gland"],
        "over": ["background", "gland"],
        "absent": ["tumour"],
    }
    assert measured_miou(absent) == pytest.approx((50 / 65 + 20 / 35) / 2)
    predicted = counts([50, 10, 0], [5, 20, 5], [0, 0, 0])
    assert mean_classes(predicted, NAMES).over == tuple(NAMES)
    assert mean_classes(predicted, NAMES).labelled == ("background", "gland")
    assert measured_miou(predicted) == pytest.approx((50 / 65 + 20 / 40 + 0) / 3)
