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


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """95 % percentile intervals of pooled measures.

    Attributes:
        groups: How many patients, or slides, were drawn from.
        miou: Of the mean IoU over the classes that occur at all; resamples that lack one of them have no mean.
        mdice: Of the mean Dice coefficient.
        iou: Of each class; None where it hardly ever occurs.
        dice: The same of the Dice coefficient.
    """

    groups: int
    miou: Interval | None
    mdice: Interval | None
    iou: tuple[Interval | None, ...]
    dice: tuple[Interval | None, ...]


def intervals_of(
    counts: Sequence[NDArray[np.int64]],
    groups: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Intervals | None:
    """Draw groups with replacement, add up their counts, and look how the measures spread.

    Args:
        counts: (C, C) counts ``[true, predicted]`` of each slide.
        groups: The patient of each slide, or the slide itself; slides of one group are drawn together.
        resamples: How often.
        seed: Of the draws: the same counts give the same intervals.

    Returns:
        The intervals from the 2.5th to the 97.5th percentile; None for fewer than ``MIN_GROUPS`` groups.

    Source:
        Efron and Tibshirani 1993, the percentile interval, with patients as clusters.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < MIN_GROUPS:
        return None
    totals = np.zeros((len(names), *counts[0].shape))
    for name, each in zip(groups, counts, strict=True):
        totals[names.index(name)] += each
    drawn = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / len(names)), resamples
    )
    pooled = np.tensordot(drawn, totals, axes=1)
    hit = np.diagonal(pooled, axis1=1, axis2=2)
    either = pooled.sum(axis=1) + pooled.sum(axis=2)
    iou = _shares(hit, either - hit)
    dice = _shares(2 * hit, either)
    whole = totals.sum(axis=0)
    occurs = whole.sum(axis=0) + whole.sum(axis=1) > 0
    return Intervals(
        groups=len(names),
        miou=_interval(_means(iou, occurs)),
        mdice=_interval(_means(dice, occurs)),
        iou=tuple(_interval(column) for column in iou.T),
        dice=tuple(_interval(column) for column in dice.T),
    )


def _shares(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return shares


def _means(values: NDArray[np.float64], occurs: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean of each row over the same columns; NaN where one of them is not there."""
    if not occurs.any():
        return np.full(len(values), np.nan)
    means: NDArray[np.float64] = values[:, occurs].mean(axis=1)
    return means


def _interval(values: NDArray[np.float64]) -> Interval | None:
    """The middle 95 % of the resamples in which there is a value; None where that is less than half of them."""
    there = values[~np.isnan(values)]
    if 2 * len(there) < len(values):
        return None
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
