"""Intervals: how much a pooled measure depends on which patients, or slides, happened to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
MIN_GROUPS = 5
"""Of fewer patients or slides an interval would say nothing."""
LEVEL = 0.95

Interval = tuple[float, float]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resamples:
    """Patients, or slides, drawn with replacement again and again.

    Attributes:
        drawn: (R, G) int64, how often each resample has each group.
        group_of: (N,) int64, the group of each slide; slides of one group are drawn together.

    Source:
        Efron and Tibshirani 1993, the percentile interval, with patients as clusters.
    """

    drawn: NDArray[np.int64]
    group_of: NDArray[np.int64]

    @classmethod
    def of(cls, groups: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0) -> Resamples | None:
        """Draw groups.

        Args:
            groups: The patient of each slide, or the slide itself.
            resamples: How often.
            seed: Of the draws: the same groups are drawn in the same way.

        Returns:
            The draws; None for fewer than ``MIN_GROUPS`` groups.
        """
        places = {name: place for place, name in enumerate(dict.fromkeys(groups))}
        count = len(places)
        if count < MIN_GROUPS:
            return None
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), resamples)
        return cls(drawn=drawn, group_of=np.array([places[name] for name in groups]))

    @property
    def groups(self) -> int:
        """How many patients, or slides, are drawn from."""
        return int(self.drawn.shape[1])

    def sums(self, values: Sequence[NDArray[np.generic] | None]) -> Values:
        """Add up what was counted of slides, in each resample.

        Args:
            values: Of each slide an array of one shape, or None, which adds nothing; not all are None.

        Returns:
            (R, ...) float64.
        """
        shape = next(value.shape for value in values if value is not None)
        totals = np.zeros((self.groups, *shape))
        for group, value in zip(self.group_of, values, strict=True):
            if value is not None:
                totals[group] += value
        sums: Values = np.tensordot(self.drawn.astype(np.float64), totals, axes=1)
        return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """95 % percentile intervals of measures of pixel counts; None where a measure hardly ever has a value.

    Attributes:
        groups: How many patients, or slides, were drawn from.
        miou: Of the mean IoU over the classes that occur at all; resamples that lack one of them have no mean.
        mdice: Of the mean Dice coefficient.
        miou_without_background: Of the mean IoU without the background; None also where no class is that.
        accuracy: Of the share of pixels that are right.
        iou: Of each class.
        dice: The same of the Dice coefficient.
        precision: The same of the precision.
        recall: The same of the recall.
    """

    groups: int
    miou: Interval | None
    mdice: Interval | None
    miou_without_background: Interval | None
    accuracy: Interval | None
    iou: tuple[Interval | None, ...]
    dice: tuple[Interval | None, ...]
    precision: tuple[Interval | None, ...]
    recall: tuple[Interval | None, ...]


def intervals_of(
    counts: Sequence[NDArray[np.int64]],
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    background: int | None = None,
) -> Intervals | None:
    """Draw groups with replacement, add up their counts, and look how the measures spread.

    Args:
        counts: (C, C) counts ``[true, predicted]`` of each slide.
        groups: The patient of each slide, or the slide itself; slides of one group are drawn together.
        resamples: How often.
        seed: Of the draws: the same counts give the same intervals.
        background: Class that one of the means leaves out, or None.

    Returns:
        The intervals from the 2.5th to the 97.5th percentile; None for fewer than ``MIN_GROUPS`` groups.
    """
    drawn = Resamples.of(groups, resamples=resamples, seed=seed)
    return None if drawn is None else pixel_intervals(counts, drawn, background=background)


def pixel_intervals(
    counts: Sequence[NDArray[np.int64] | None], resamples: Resamples, *, background: int | None = None
) -> Intervals:
    """Look how measures of pixel counts spread over resamples.

    Args:
        counts: (C, C) counts ``[true, predicted]`` of each slide, or None, which adds nothing; not all are None.
        resamples: The draws.
        background: Class that one of the means leaves out, or None.

    Returns:
        The intervals from the 2.5th to the 97.5th percentile.
    """
    pooled = resamples.sums(counts)
    hit = np.diagonal(pooled, axis1=1, axis2=2)
    true, predicted = pooled.sum(axis=2), pooled.sum(axis=1)
    iou, dice = shares(hit, true + predicted - hit), shares(2 * hit, true + predicted)
    occurs = occurring(counts)
    others = occurs.copy()
    if background is not None:
        others[background] = False

    def each(values: Values) -> tuple[Interval | None, ...]:
        return tuple(interval_of(column) for column in values.T)

    return Intervals(
        groups=resamples.groups,
        miou=interval_of(means(iou, occurs)),
        mdice=interval_of(means(dice, occurs)),
        miou_without_background=None if background is None else interval_of(means(iou, others)),
        accuracy=interval_of(shares(hit.sum(axis=1), true.sum(axis=1))),
        iou=each(iou),
        dice=each(dice),
        precision=each(shares(hit, predicted)),
        recall=each(shares(hit, true)),
    )


def difference_of_miou(
    one: Sequence[NDArray[np.int64]], other: Sequence[NDArray[np.int64]], resamples: Resamples
) -> Interval | None:
    """Interval of the mean IoU of one method less that of another on the same slides.

    Args:
        one: (C, C) counts ``[true, predicted]`` of each slide.
        other: The same of the other method, of the same slides in the same order.
        resamples: The draws, which are the same for both: how hard the slides are cancels out.

    Returns:
        From the 2.5th to the 97.5th percentile, over the classes that occur in one or the other; None where that
        hardly ever has a value.
    """
    both = occurring(one) | occurring(other)
    mious = []
    for counts in (one, other):
        pooled = resamples.sums(counts)
        hit = np.diagonal(pooled, axis1=1, axis2=2)
        mious.append(means(shares(hit, pooled.sum(axis=1) + pooled.sum(axis=2) - hit), both))
    return interval_of(mious[0] - mious[1])


def occurring(counts: Sequence[NDArray[np.int64] | None]) -> NDArray[np.bool_]:
    """(C,) which classes occur in labels or masks of any slide."""
    whole = np.sum([each for each in counts if each is not None], axis=0)
    occurs: NDArray[np.bool_] = whole.sum(axis=0) + whole.sum(axis=1) > 0
    return occurs


def shares(part: Values, whole: Values) -> Values:
    """Parts of wholes of the same shape, or of one that is repeated; NaN of nothing."""
    found: Values = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return found


def means(values: Values, of: NDArray[np.bool_]) -> Values:
    """Mean of some columns in each row of (R, C); NaN where one of them is not there."""
    if not of.any():
        return np.full(len(values), np.nan)
    found: Values = values[:, of].mean(axis=1)
    return found


def interval_of(values: Values) -> Interval | None:
    """The middle 95 % of the resamples in which there is a value; None where that is less than half of them."""
    there = values[~np.isnan(values)]
    if 2 * len(there) < len(values):
        return None
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
