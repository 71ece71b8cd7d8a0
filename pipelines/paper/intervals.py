"""Measures of records with intervals: over images (or patients) by the bootstrap, over seeds by their range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
MIN_GROUPS = 5
"""Of fewer images or patients nothing can be said beyond themselves."""
Kind = Literal["predicted", "sampled", "on_tissue"]
Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with what is known of its spread.

    Attributes:
        value: Mean over the seeds, of measures pooled over all images.
        low: Lower end of the 95 % interval over images; None where there are too few.
        high: Upper end.
        seeds: The values of each seed, in order.
    """

    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]

    def text(self, scale: float = 100.0, *, signed: bool = False) -> str:
        """In points: the mean, the interval over images, and the range over seeds where there are several."""
        sign = "+" if signed else ""
        words = f"{self.value * scale:{sign}.1f}"
        if self.low is not None and self.high is not None:
            words += f" [{self.low * scale:{sign}.1f}, {self.high * scale:{sign}.1f}]"
        if len(self.seeds) > 1:
            words += f" ({min(self.seeds) * scale:{sign}.1f} to {max(self.seeds) * scale:{sign}.1f})"
        return words


def ious(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU of each class, NaN where it occurs in neither; (..., C, C) counts give (..., C)."""
    hit = np.diagonal(counts, axis1=-2, axis2=-1)
    union = counts.sum(-1) + counts.sum(-2) - hit
    found: NDArray[np.float64] = np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)
    return found


def mious(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean IoU over the classes that occur; (..., C, C) counts give (...)."""
    found = ious(counts)
    present = ~np.isnan(found)
    total = np.where(present, found, 0.0).sum(-1)
    mean: NDArray[np.float64] = total / np.maximum(present.sum(-1), 1)
    return mean


def image_counts(record: Record, kind: Kind, names: Sequence[str]) -> NDArray[np.float64]:
    """Counts (images, C, C) counts of a record, in the order of the names."""
    return np.array([record["images"][name][kind] for name in names], dtype=float)


def groups_of(record: Record, names: Sequence[str]) -> NDArray[np.intp]:
    """A number for each image: that of its patient, or its own where nobody says."""
    keys = [record["images"][name].get("patient") or name for name in names]
    return np.unique(keys, return_inverse=True)[1]


def estimate(
    records: Sequence[Record],
    *,
    minus: Sequence[Record] | None = None,
    kind: Kind = "predicted",
    class_index: int | None = None,
) -> Estimate | None:
    """Mean IoU, or the IoU of a class, of trials that differ by seed alone; or by how much it is above others'.

    Args:
        records: One per seed.
        minus: As many of another system, with the same seeds in the same order; differences are paired.
        kind: Of the mask, of the true labels at the samples put back, or of the mask on tissue alone.
        class_index: A class; None is the mean over classes.

    Returns:
        The estimate; None without records, or where an image lacks counts.

    Convention:
        A resample draws as many patients as there are (images, where nobody says whose they are), with replacement,
        pools the counts of their images for every seed and averages over the seeds; the ends of the interval are the
        2.5th and 97.5th percentile of 2,000.
    """
    if not records or (minus is not None and len(minus) != len(records)):
        return None
    names = sorted(records[0]["images"])
    everything = [*records, *(minus or ())]
    if any(kind not in record["images"].get(name, {}) for record in everything for name in names):
        return None
    group = groups_of(records[0], names)

    def measured(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """(resamples, seeds) for (resamples, images) weights."""
        own = _weighted(records, kind, names, weights, class_index)
        return own if minus is None else own - _weighted(minus, kind, names, weights, class_index)

    seeds = measured(np.ones((1, len(names))))[0]
    low = high = None
    if group.max() + 1 >= MIN_GROUPS:
        drawn = np.random.default_rng(0).multinomial(
            group.max() + 1, np.full(group.max() + 1, 1 / (group.max() + 1)), size=RESAMPLES
        )
        values = measured(drawn[:, group].astype(float)).mean(axis=1)
        low, high = (float(each) for each in np.nanpercentile(values, (2.5, 97.5)))
    return Estimate(value=float(seeds.mean()), low=low, high=high, seeds=tuple(seeds.tolist()))


def _weighted(
    records: Sequence[Record],
    kind: Kind,
    names: Sequence[str],
    weights: NDArray[np.float64],
    class_index: int | None,
) -> NDArray[np.float64]:
    columns = []
    for record in records:
        counts = np.tensordot(weights, image_counts(record, kind, names), axes=1)
        columns.append(mious(counts) if class_index is None else ious(counts)[:, class_index])
    return np.stack(columns, axis=1)
