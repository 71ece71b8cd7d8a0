"""Confusion counts and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_deform.errors import ShapeError
from wsi_deform.evaluate.measures import Confusion


def brute_iou(truth: np.ndarray, predicted: np.ndarray, classes: int) -> list[float]:
    labelled = truth != 255
    result = []
    for each in range(classes):
        a, b = (truth == each) & labelled, (predicted == each) & labelled
        union = (a | b).sum()
        result.append((a & b).sum() / union if union else float("nan"))
    return result


@pytest.mark.parametrize(
    "kind", ["mixed", "constant truth", "constant prediction", "both constant", "unlabelled"]
)
def test_measures_equal_brute_force(kind: str) -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 2, 255], (40, 30)).astype(np.uint8)
    predicted = rng.choice([0, 1, 3], (40, 30)).astype(np.uint8)
    if kind in ("constant truth", "both constant"):
        truth[:] = 2
    if kind in ("constant prediction", "both constant"):
        predicted[:] = 1
    if kind == "unlabelled":
        truth[:] = 255
    confusion = Confusion.of(truth, predicted, 5)
    iou = brute_iou(truth, predicted, 5)
    np.testing.assert_allclose(confusion.iou(), iou)
    labelled = truth != 255
    if kind == "unlabelled":
        assert np.isnan(confusion.miou())
        assert np.isnan(confusion.accuracy())
    else:
        assert confusion.miou() == pytest.approx(np.nanmean(iou))
        assert confusion.miou(without=0) == pytest.approx(np.nanmean(iou[1:]))
        assert confusion.accuracy() == pytest.approx((truth == predicted)[labelled].mean())


def test_absent_classes_do_not_count() -> None:
    confusion = Confusion.of(np.array([[0, 1]], np.uint8), np.array([[0, 1]], np.uint8), 9)
    assert confusion.miou() == 1.0


def test_counts_of_slides_add_up() -> None:
    a = np.array([[0, 0, 1, 1]], np.uint8)
    b = np.array([[0, 1, 1, 0]], np.uint8)
    together = Confusion.of(np.hstack([a, b]), np.hstack([b, b]), 2)
    np.testing.assert_array_equal((Confusion.of(a, b, 2) + Confusion.of(b, b, 2)).counts, together.counts)


def test_labels_that_are_no_class_are_refused_only_where_they_count() -> None:
    truth = np.array([[0, 255]], np.uint8)
    assert Confusion.of(truth, np.array([[1, 7]], np.uint8), 2).counts.sum() == 1
    with pytest.raises(ShapeError, match=r"predicted label map: class 7 found\. Needed classes 0 to 1"):
        Confusion.of(truth, np.array([[7, 0]], np.uint8), 2)
    with pytest.raises(ShapeError, match="predicted label map: unlabelled"):
        Confusion.of(truth, np.array([[255, 0]], np.uint8), 2)
    with pytest.raises(ShapeError, match="true label map: class 3 found"):
        Confusion.of(np.array([[3]], np.uint8), np.array([[0]], np.uint8), 2)
    with pytest.raises(ShapeError, match="shapes"):
        Confusion.of(truth, truth.T, 2)
