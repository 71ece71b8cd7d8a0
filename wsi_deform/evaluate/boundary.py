"""Boundary distance: how far the border of a predicted class lies from the border of the true one."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.evaluate.block import Block
from wsi_deform.evaluate.trimap import Unit
from wsi_deform.geometry import Mpp, Region, steps_of

CAP_PX = 512
BINS_PER_UNIT = 64
MAX_POINTS = 30_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distances:
    """Distances of many border pixels, added up.

    Attributes:
        bins: (N,) int64, rising: distances in 1/64 px or um, rounded.
        counts: (N,) int64, how many there are of each.
        total: Sum of all distances, exact.
        capped: How many are capped.
    """

    bins: NDArray[np.int64]
    counts: NDArray[np.int64]
    total: float
    capped: int

    @classmethod
    def of(cls, distances: NDArray[np.float64], capped: int = 0) -> Distances:
        """Count distances, (N,) px or um."""
        bins, counts = np.unique(np.rint(distances * BINS_PER_UNIT).astype(np.int64), return_counts=True)
        return cls(bins=bins, counts=counts.astype(np.int64), total=float(distances.sum()), capped=capped)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def percentile(self, share: float) -> float:
        """The least distance, to 1/64, that ``share`` (0 to 1) of all do not exceed; NaN where there is none."""
        if not self.count:
            return float("nan")
        reached = np.searchsorted(self.counts.cumsum(), share * self.count - 1e-9)
        return float(self.bins[reached] / BINS_PER_UNIT)

    def __add__(self, other: Distances) -> Distances:
        bins, place = np.unique(np.concatenate([self.bins, other.bins]), return_inverse=True)
        counts = np.zeros(len(bins), np.int64)
        np.add.at(counts, place, np.concatenate([self.counts, other.counts]))
        return Distances(
            bins=bins, counts=counts, total=self.total + other.total, capped=self.capped + other.capped
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BorderPair:
    """Distances between two borders of one class, both ways.

    Attributes:
        to_true: From each pixel of the predicted border to the nearest of the true one.
        to_predicted: From each pixel of the true border to the nearest of the predicted one.
    """

    to_true: Distances
    to_predicted: Distances

    def mean(self) -> float:
        """Mean over the pixels of both borders; NaN where there is none."""
        count = self.to_true.count + self.to_predicted.count
        return (self.to_true.total + self.to_predicted.total) / count if count else float("nan")

    def percentile_95(self) -> float:
        """The larger of the 95th percentiles of both ways (HD95); NaN where there is no border."""
        return float(np.fmax(self.to_true.percentile(0.95), self.to_predicted.percentile(0.95)))

    def capped_share(self) -> float:
        """Share of the border pixels that are as far as is looked, or further; NaN where there is none."""
        count = self.to_true.count + self.to_predicted.count
        return (self.to_true.capped + self.to_predicted.capped) / count if count else float("nan")

    def __add__(self, other: BorderPair) -> BorderPair:
        return BorderPair(
            to_true=self.to_true + other.to_true, to_predicted=self.to_predicted + other.to_predicted
        )


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryDistances:
    """The borders of all classes.

    Attributes:
        units: "px", and "um" where the slide's mpp is known -> a pair of borders per class.
    """

    units: Mapping[Unit, tuple[BorderPair, ...]]

    def __add__(self, other: BoundaryDistances) -> BoundaryDistances:
        units = dict(self.units)
        for unit, pairs in other.units.items():
            own = units.get(unit)
            units[unit] = pairs if own is None else tuple(a + b for a, b in zip(own, pairs, strict=True))
        return BoundaryDistances(units)


@dataclass(slots=True)
class _Row:
    """The border pixels, (N, 2) float64 (y, x), of a row of blocks, per side and class."""

    top: int
    bottom: int
    true: list[list[NDArray[np.float64]]]
    predicted: list[list[NDArray[np.float64]]]

    @classmethod
    def empty(cls, region: Region, classes: int) -> _Row:
        true: list[list[NDArray[np.float64]]] = [[] for _ in range(classes)]
        predicted: list[list[NDArray[np.float64]]] = [[] for _ in range(classes)]
        return cls(region.y, region.bottom, true, predicted)

    @property
    def points(self) -> int:
        return sum(len(part) for side in (self.true, self.predicted) for of in side for part in of)


class Boundary:
    """Measures distances between predicted and true borders of each class; a ``BlockMeasure``.

    Args:
        classes: Number of classes.
        mpp: um per level-0 pixel of the slide, of both axes or along x and y, or None.
        cap_px: As far as is looked.

    Convention:
        The border of a class is the set of its pixels with a labelled 4-neighbour of another class; the frame of the
        slide and the edge of what is unlabelled are none. Distances are exact, between centres of pixels at level 0,
        up to ``cap_px`` (in um: of the shorter side of a pixel); a border with no counterpart as near as that, such as
        that of a missed object, counts as ``cap_px`` away, and ``BorderPair.capped_share`` says how many pixels are.
        Classes are apart: a gland that is called a tumour has no counterpart in either class. Memory follows the length
        of the borders in ``cap_px`` and one row of blocks; with more than 30 million pixels there, as in noise, nothing
        is measured.
    """

    halo_px = 1

    def __init__(self, *, classes: int, mpp: Mpp | None, cap_px: int = CAP_PX) -> None:
        self._classes, self._cap_px = classes, cap_px
        self._rows: deque[_Row] = deque()
        self._waiting = 0  # index of the first row in ``_rows`` that is not measured yet
        self._points = 0
        self._gave_up = False
        nothing = Distances.of(np.empty(0))
        empty = BorderPair(to_true=nothing, to_predicted=nothing)
        # Lengths of a pixel along y and x in each unit.
        self._steps: dict[Unit, tuple[float, float]] = {"px": (1.0, 1.0)}
        if mpp is not None:
            steps = steps_of(mpp)
            self._steps["um"] = (steps.y, steps.x)
        self._found: dict[Unit, list[BorderPair]] = {unit: [empty] * classes for unit in self._steps}

    def add(self, block: Block) -> None:
        """Take the borders of a block."""
        if self._gave_up:
            return
        region = block.region
        if not self._rows or self._rows[-1].top != region.y:
            self._advance(known_to=region.y)
            self._rows.append(_Row.empty(region, self._classes))
        row = self._rows[-1]
        for labels, borders, kept in (
            (block.truth, block.true_borders, row.true),
            (block.predicted, block.predicted_borders, row.predicted),
        ):
            y, x = np.divmod(np.flatnonzero(borders[block.inner]), region.width)
            of = labels[block.inner][y, x]
            points = np.stack([y + region.y, x + region.x], axis=1).astype(np.float64)
            for index in range(self._classes):
                some = points[of == index]
                if len(some):
                    kept[index].append(some)
            self._points += len(points)
        if self._points > MAX_POINTS:
            self._gave_up = True
            self._rows.clear()

    def result(self) -> BoundaryDistances | None:
        """The distances; None where the borders were too long to hold. Ends the measure."""
        if self._gave_up:
            return None
        self._advance(known_to=None)
        return BoundaryDistances({unit: tuple(pairs) for unit, pairs in self._found.items()})

    def _advance(self, known_to: int | None) -> None:
        """Measure the rows whose surroundings are known, and forget what no other row needs."""
        while self._waiting < len(self._rows):
            row = self._rows[self._waiting]
            if known_to is not None and row.bottom + self._cap_px > known_to:
                break
            self._measure(row)
            self._waiting += 1
        next_top = self._rows[self._waiting].top if self._waiting < len(self._rows) else known_to
        while self._waiting and next_top is not None and self._rows[0].bottom + self._cap_px <= next_top:
            self._points -= self._rows.popleft().points
            self._waiting -= 1

    def _measure(self, row: _Row) -> None:
        """Distances from the borders in a row to those around it."""
        for index in range(self._classes):
            borders = [
                (_joined(own), _joined([p for part in others for p in part]))
                for own, others in (
                    (row.predicted[index], [each.true[index] for each in self._rows]),
                    (row.true[index], [each.predicted[index] for each in self._rows]),
                )
            ]
            ways = [self._distances(own, others, row) for own, others in borders]
            for unit, pairs in self._found.items():
                down, across = self._steps[unit]
                found = ways
                if down != across:  # the nearest in px need not be the nearest in um
                    found = [self._distances(own, others, row, (down, across)) for own, others in borders]
                scale = min(down, across)
                to_true, to_predicted = (
                    Distances.of(way * scale, int((way >= self._cap_px).sum())) for way in found
                )
                pairs[index] = pairs[index] + BorderPair(to_true=to_true, to_predicted=to_predicted)

    def _distances(
        self,
        own: NDArray[np.float64],
        others: NDArray[np.float64],
        row: _Row,
        step: tuple[float, float] = (1.0, 1.0),
    ) -> NDArray[np.float64]:
        """Distance of each border pixel of a row to the nearest of the other border, in its shorter step, capped."""
        from scipy.spatial import cKDTree

        near = (others[:, 0] >= row.top - self._cap_px) & (others[:, 0] < row.bottom + self._cap_px)
        # Borders are long and thin: a tree that is not balanced is made in a fifth of the time, and asked as fast.
        steps = np.array(step) / min(step)
        tree = cKDTree(others[near] * steps, balanced_tree=False, compact_nodes=False, leafsize=32)
        found: NDArray[np.float64] = tree.query(own * steps, distance_upper_bound=self._cap_px)[0]
        return np.minimum(found, self._cap_px)


def _joined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.empty((0, 2)), *parts])
