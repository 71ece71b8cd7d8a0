"""Intervals of every measure of an evaluation, beside its rows: which patients were measured decides how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.evaluate.bootstrap import (
    Interval,
    Resamples,
    Values,
    interval_of,
    means,
    occurring,
    pixel_intervals,
    shares,
)
from wsi_deform.evaluate.boundary import BINS_PER_UNIT, BorderPair, Distances
from wsi_deform.evaluate.masks import Evaluation
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.objects import COVERED, HALF, OBJECTS, PIXELS, SIZES, TOUCHED, ObjectCounts
from wsi_deform.evaluate.rows import Row
from wsi_deform.evaluate.slide_measures import Measured

STEPS = 512
"""Percentiles of distances are looked for among so many, equally many border pixels apart."""


def intervals_data(evaluation: Evaluation, measured: Mapping[str, Any]) -> dict[str, Any] | None:
    """Intervals of all pooled measures, from one set of resamples.

    Args:
        evaluation: What was measured.
        measured: ``rows.measured_data`` of all slides together.

    Returns:
        None where patients, or slides, are too few. Else ``groups`` and what they are (``of``); [low, high] or None of
        ``miou``, ``mdice``, ``miou_without_background`` and ``accuracy``; class -> [low, high] of ``iou``, ``dice``,
        ``precision`` and ``recall``; ``sampled``, the same of Y' against Y, or None; and for each row of ``measured``
        in its order a mapping measure -> [low, high], in ``trimap``, ``boundary``, ``objects`` and ``frequency``;
        ``calibration`` has that of its errors.
    """
    drawn = evaluation.resamples
    if drawn is None:
        return None
    classes = evaluation.classes
    slides = [slide.measured for slide in evaluation.slides]
    sampled = [slide.sampled for slide in evaluation.slides]
    return {
        "groups": drawn.groups,
        "of": evaluation.groups_are,
        **_of_pixels(
            [slide.predicted for slide in evaluation.slides], drawn, classes.names, classes.background
        ),
        "sampled": _of_pixels(sampled, drawn, classes.names, classes.background)
        if any(each is not None for each in sampled)
        else None,
        "trimap": _trimap(measured["trimap"], slides, drawn),
        "boundary": _boundary(measured["boundary"], slides, drawn, classes.names),
        "objects": _objects(measured["objects"], slides, drawn, classes.names),
        "frequency": _frequency(measured["frequency"], slides, drawn),
        "calibration": _calibration(slides, drawn, classes.names) if measured["calibration"] else None,
    }


def with_ends(rows: Sequence[Row], intervals: Sequence[Row] | None, measures: Sequence[str]) -> list[Row]:
    """Rows with ``<measure>_low`` and ``<measure>_high`` behind them, None where there are none.

    Args:
        rows: Of ``measured_data``.
        intervals: Of each row, as ``intervals_data`` gives them; None where there are none.
        measures: Which.
    """
    return [
        {**row, **{f"{name}_{end}": value for name in measures for end, value in _ends(each.get(name))}}
        for row, each in zip(rows, intervals or [{}] * len(rows), strict=True)
    ]


def _ends(interval: Sequence[float] | None) -> list[tuple[str, float | None]]:
    low, high = interval or (None, None)
    return [("low", low), ("high", high)]


def _of_pixels(
    counts: Sequence[Confusion | None], drawn: Resamples, names: Sequence[str], background: int | None
) -> dict[str, Any]:
    found = pixel_intervals(
        [None if each is None else each.counts for each in counts], drawn, background=background
    )
    return {
        **{
            key: _pair(getattr(found, key))
            for key in ("miou", "mdice", "miou_without_background", "accuracy")
        },
        **{
            key: {name: _pair(each) for name, each in zip(names, getattr(found, key), strict=True)}
            for key in ("iou", "dice", "precision", "recall")
        },
    }


def _trimap(rows: Sequence[Row], slides: Sequence[Measured], drawn: Resamples) -> list[Row]:
    found = []
    for row in rows:
        band = row["unit"], row["width"]
        counts = [
            None
            if slide.trimap is None or band not in slide.trimap.bands
            else slide.trimap.bands[band].counts
            for slide in slides
        ]
        pooled = drawn.sums(counts)
        hit = np.diagonal(pooled, axis1=1, axis2=2)
        iou = shares(hit, pooled.sum(axis=1) + pooled.sum(axis=2) - hit)
        found.append(
            {
                "accuracy": _look(shares(hit.sum(axis=1), pooled.sum(axis=(1, 2)))),
                # Of labels of one class there is no mean.
                "miou": None if row["miou"] is None else _look(means(iou, occurring(counts))),
            }
        )
    return found


def _boundary(
    rows: Sequence[Row], slides: Sequence[Measured], drawn: Resamples, names: Sequence[str]
) -> list[Row]:
    found = []
    for row in rows:
        index = names.index(row["class"])
        pairs: list[BorderPair | None] = [
            None
            if slide.boundary is None or row["unit"] not in slide.boundary.units
            else slide.boundary.units[row["unit"]][index]
            for slide in slides
        ]
        total, capped, count = drawn.sums([None if pair is None else _sums(pair) for pair in pairs]).T
        found.append(
            {
                "mean": _look(shares(total, count)),
                "percentile_95": _look(
                    np.fmax(
                        _percentiles([None if pair is None else pair.to_true for pair in pairs], drawn, 0.95),
                        _percentiles(
                            [None if pair is None else pair.to_predicted for pair in pairs], drawn, 0.95
                        ),
                    )
                ),
                "capped_share": _look(shares(capped, count)),
            }
        )
    return found


def _sums(pair: BorderPair) -> NDArray[np.float64]:
    """Sum of the distances of both ways, how many are capped, and how many there are."""
    both = (pair.to_true, pair.to_predicted)
    return np.array(
        [sum(getattr(way, key) for way in both) for key in ("total", "capped", "count")], np.float64
    )


def _percentiles(parts: Sequence[Distances | None], drawn: Resamples, share: float) -> Values:
    """(R,) the least distance that ``share`` of all do not exceed, to a ``STEPS``-th of all; NaN without any."""
    there = [part for part in parts if part is not None and part.count]
    if not there:
        return np.full(len(drawn.drawn), np.nan)
    bins, place = np.unique(np.concatenate([part.bins for part in there]), return_inverse=True)
    counts = np.bincount(place, weights=np.concatenate([part.counts for part in there]))
    reached = np.searchsorted(
        counts.cumsum(), np.linspace(0, 1, STEPS + 1)[1:] * counts.sum() - 1e-6, side="left"
    )
    ends = bins[np.unique(np.minimum(reached, len(bins) - 1))]
    pooled = drawn.sums(
        [
            None
            if part is None
            else np.bincount(np.searchsorted(ends, part.bins), weights=part.counts, minlength=len(ends))
            for part in parts
        ]
    ).cumsum(axis=1)
    total = pooled[:, -1]
    first = (pooled >= (share * total - 1e-6)[:, None]).argmax(axis=1)
    return np.where(total > 0, ends[first] / BINS_PER_UNIT, np.nan)


def _objects(
    rows: Sequence[Row], slides: Sequence[Measured], drawn: Resamples, names: Sequence[str]
) -> list[Row]:
    pooled: dict[str, tuple[Values, Values]] = {}
    found = []
    for row in rows:
        unit = row["unit"].removesuffix("^2")
        if unit not in pooled:
            counted = [_counts_of(slide.objects, unit) for slide in slides]
            both = drawn.sums(counted)
            pooled[unit] = both[:, 0], both[:, 1]
        index = names.index(row["class"])
        sizes = slice(None) if row["from"] is None else slice(*_size_of(row["from"], unit))
        true, predicted = (side[:, index, sizes].sum(axis=1) for side in pooled[unit])
        found.append(
            {
                "touched": _look(shares(true[:, TOUCHED], true[:, OBJECTS])),
                "half_covered": _look(shares(true[:, HALF], true[:, OBJECTS])),
                "covered": _look(shares(true[:, COVERED], true[:, PIXELS])),
                "predicted_touching": _look(shares(predicted[:, TOUCHED], predicted[:, OBJECTS])),
                "predicted_half_true": _look(shares(predicted[:, HALF], predicted[:, OBJECTS])),
                "predicted_false": _look(
                    shares(predicted[:, OBJECTS] - predicted[:, TOUCHED], predicted[:, OBJECTS])
                ),
            }
        )
    return found


def _counts_of(objects: ObjectCounts | None, unit: Any) -> NDArray[np.int64] | None:
    """(2, C, S, 5): objects of the labels and of the mask, by class and size."""
    if objects is None or unit not in objects.true:
        return None
    return np.stack([objects.true[unit], objects.predicted[unit]])


def _size_of(begin: float, unit: Any) -> tuple[int, int]:
    place = SIZES[unit].index(begin)
    return place, place + 1


def _frequency(rows: Sequence[Row], slides: Sequence[Measured], drawn: Resamples) -> list[Row]:
    if not rows:
        return []
    counts = [
        None if slide.frequency is None else np.stack([slide.frequency.samples, slide.frequency.pixels])
        for slide in slides
    ]
    pooled = drawn.sums(counts)
    of_samples, of_pixels = (shares(pooled[:, side], pooled[:, side].sum(axis=1)[:, None]) for side in (0, 1))
    ratio = shares(of_samples, of_pixels)
    return [
        {
            "share_of_samples": _look(of_samples[:, index]),
            "share_of_pixels": _look(of_pixels[:, index]),
            "ratio": _look(ratio[:, index]),
        }
        for index in range(len(rows))
    ]


def _calibration(slides: Sequence[Measured], drawn: Resamples, names: Sequence[str]) -> dict[str, Any]:
    top = drawn.sums([None if slide.calibration is None else slide.calibration.top for slide in slides])
    each = drawn.sums([None if slide.calibration is None else slide.calibration.classes for slide in slides])
    return {
        "expected_calibration_error": _look(_errors(top)),
        "class_errors": {name: _look(_errors(each[:, index])) for index, name in enumerate(names)},
    }


def _errors(counts: Values) -> Values:
    """(R,) expected calibration errors of (R, bins, 3) counts, as in ``calibration.py``."""
    return shares(np.abs(counts[..., 2] - counts[..., 1]).sum(axis=1), counts[..., 0].sum(axis=1))


def _look(values: Values) -> list[float] | None:
    return _pair(interval_of(values))


def _pair(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)
