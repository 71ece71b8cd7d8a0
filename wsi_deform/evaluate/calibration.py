"""Calibration: whether the network is right as often as its probabilities say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.annotation.labels import Labels
from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.samples import SlideSamples
from wsi_deform.slide.tiff.tiles import TiffTiles

BINS = 15
POINTS_AT_ONCE = 1 << 20

Source = Literal["probability maps", "samples"]
Probabilities = NDArray[np.float64]
LabelArray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Probabilities and how often they came true, in bins of equal width.

    Attributes:
        top: (B, 3): labelled points whose largest probability lies in the bin, the sum of that probability over them,
            and how many of them are of its class.
        classes: (C, B, 3): for each class, points whose probability of it lies in the bin, its sum, and how many are
            of the class.

    Convention:
        Bin b of B holds probabilities p with b / B < p <= (b + 1) / B, the first one also 0. Points of probability
        maps stand for equal areas, samples do not: they lie closer where the network looked closely.
    """

    top: NDArray[np.float64]
    classes: NDArray[np.float64]

    @classmethod
    def of(cls, probabilities: Probabilities, truth: LabelArray, bins: int = BINS) -> Calibration:
        """Count points.

        Args:
            probabilities: (N, C), a sum of 1 over the classes.
            truth: (N,) class indices, 255 unlabelled.
            bins: Number of bins.
        """
        known = truth != UNLABELLED
        probabilities, truth = probabilities[known], truth[known]
        best = probabilities.argmax(axis=1)
        largest = np.take_along_axis(probabilities, best[:, None], axis=1)[:, 0]
        each = [
            _binned(probabilities[:, index], truth == index, bins) for index in range(probabilities.shape[1])
        ]
        return cls(top=_binned(largest, best == truth, bins), classes=np.stack(each))

    def expected_error(self) -> float:
        """Expected calibration error of the predicted class, in [0, 1]; NaN without points.

        The mean over all points of |share that is right - mean probability| of their bins.

        Source:
            Guo et al. 2017, equation 3.
        """
        return _expected_error(self.top)

    def class_errors(self) -> list[float]:
        """The same for the probability of each class, whether it is the largest or not."""
        return [_expected_error(counts) for counts in self.classes]

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(top=self.top + other.top, classes=self.classes + other.classes)


def calibration_of(
    truth: Labels, probability_map: Path, samples: SlideSamples | None, *, classes: int
) -> tuple[Calibration, Source] | None:
    """The calibration of a slide, from its probability map, else from its samples.

    Args:
        truth: The labels.
        probability_map: Where the map lies, if there is one.
        samples: The samples, if they were kept.
        classes: Number of classes.

    Returns:
        The counts and where they are from; None where neither says probabilities.

    Raises:
        MaskError: The map is not one of this slide and these classes.
    """
    source: Source
    if probability_map.is_file():
        source, points = "probability maps", _map_points(probability_map, truth.slide_size, classes)
    elif samples is not None and any(field.probabilities is not None for field in samples.fields):
        source, points = "samples", _sample_points(samples, classes)
    else:
        return None
    counts = Calibration(top=np.zeros((BINS, 3)), classes=np.zeros((classes, BINS, 3)))
    for at, probabilities in points:
        counts += Calibration.of(probabilities, truth.at_points(at))
    return counts, source


def _map_points(path: Path, size: Size, classes: int) -> Iterator[tuple[NDArray[np.float64], Probabilities]]:
    """Centres of the pixels of a map, level-0 px, and what it says there; some rows at a time."""
    tiles = TiffTiles(path)
    step = 1
    while Size(-(-size.width // step), -(-size.height // step)) != tiles.size and step <= size.long:
        step *= 2
    if step > size.long or tiles.channels != classes or tiles.dtype != np.uint8:
        raise MaskError(
            f"probability map {path}: {tiles.size} px, {tiles.channels} channels of {tiles.dtype}. Needed that of a "
            f"slide of {size} px and {classes} classes, uint8. Segment the slide again with --probabilities."
        )
    rows = max(1, POINTS_AT_ONCE // tiles.size.width)
    # Whole tiles: else each is decoded more than once.
    rows = -(-rows // tiles.levels[0].tile.height) * tiles.levels[0].tile.height
    for top in range(0, tiles.size.height, rows):
        band = Region(0, top, tiles.size.width, rows).intersection(Region.whole(tiles.size))
        values = tiles.read_region(0, band).reshape(-1, classes)
        seen = np.flatnonzero(values.any(axis=1))  # elsewhere no field looked
        y, x = np.divmod(seen, band.width)
        at = (np.stack([x, y + top], axis=1) + 0.5) * step
        found = values[seen].astype(np.float64)
        yield at, found / found.sum(axis=1, keepdims=True)


def _sample_points(
    samples: SlideSamples, classes: int
) -> Iterator[tuple[NDArray[np.float64], Probabilities]]:
    for field in samples.fields:
        if field.probabilities is None or field.probabilities.shape[1] != classes:
            continue
        found = field.probabilities.astype(np.float64)
        found = found / np.maximum(found.sum(axis=1, keepdims=True), 1e-12)
        yield field.points_px, found


def _binned(values: NDArray[np.float64], right: NDArray[np.bool_], bins: int) -> NDArray[np.float64]:
    """(bins, 3): how many values lie in each bin, their sum, and how many of them are right."""
    # Rounding first: 255 p of a map puts a value like 0.6 on either side of an edge.
    place = np.clip(np.ceil(np.round(values * bins, 9)).astype(np.int64) - 1, 0, bins - 1)
    return np.stack(
        [
            np.bincount(place, minlength=bins).astype(float),
            np.bincount(place, weights=values, minlength=bins),
            np.bincount(place, weights=right.astype(float), minlength=bins),
        ],
        axis=1,
    )


def _expected_error(counts: NDArray[np.float64]) -> float:
    total = counts[:, 0].sum()
    return float(np.abs(counts[:, 2] - counts[:, 1]).sum() / total) if total else float("nan")
