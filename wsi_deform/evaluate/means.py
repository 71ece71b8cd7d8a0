"""Mean IoU where there is one, and which classes it is over."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.evaluate.measures import Confusion


def mean_classes(counts: Confusion, names: Sequence[str], *, labelled_alone: bool = False) -> MeanClasses:
    """Which classes the mean IoU of some counts is over.

    Args:
        counts: Pixels by true and predicted class.
        names: Of the classes.
        labelled_alone: Whether the mean is that of ``labelled_miou``.
    """
    labelled = counts.counts.sum(axis=1) > 0
    occurs = labelled if labelled_alone else ~np.isnan(counts.iou())
    measured = labelled.sum() > 1
    return MeanClasses(
        labelled=tuple(name for name, is_so in zip(names, labelled, strict=True) if is_so),
        over=tuple(name for name, is_so in zip(names, occurs & measured, strict=True) if is_so),
        absent=tuple(name for name, is_so in zip(names, occurs, strict=True) if not is_so),
    )


def measured_miou(counts: Confusion, *, without: int | None = None) -> float | None:
    """Mean IoU over the classes that occur, ``Confusion.miou``, where it measures anything.

    Args:
        counts: Pixels by true and predicted class.
        without: Class to leave out of the mean.

    Returns:
        In [0, 1]; None where the labels hold fewer than two classes.
    """
    if np.count_nonzero(counts.counts.sum(axis=1)) < 2:
        return None
    return counts.miou(without=without)


def labelled_miou(counts: Confusion, *, without: int | None = None) -> float | None:
    """Mean IoU over the classes that the labels have, whatever is predicted: the same classes for every model.

    Args:
        counts: Pixels by true and predicted class. Those that are predicted as a class without labels are errors of
            their true classes.
        without: Class to leave out of the mean.

    Returns:
        In [0, 1]; None where the labels hold fewer than two classes.
    """
    labelled = counts.counts.sum(axis=1) > 0
    if np.count_nonzero(labelled) < 2:
        return None
    if without is not None:
        labelled[without] = False
    return float(counts.iou()[labelled].mean())
