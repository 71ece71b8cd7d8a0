"""The samples of all fields in the arrays that the kernels read: whole numbers, field after field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.kernels.compiled import UNITS_PER_PX
from wsi_deform.reverse.samples import FieldSamples

_FULL_SCORE = 65535
"""Probability 1 as a whole number, where triangles are of ordinary size."""

_WIDEST_UNITS2 = 1 << 43
"""Width times height of the largest triangle for which 64-bit integers hold every sum of full scores."""


_FAR_PX = 1 << 21
"""Beyond every pixel of every level, also of the partial pixels at the right and bottom edge."""


def packed_samples(
    points_px: Sequence[NDArray[np.float64]], labels: Sequence[NDArray[Any]]
) -> NDArray[np.int32]:
    """(N, 3) x, y (units) and label of all samples, field after field."""
    packed = np.empty((sum(len(each) for each in labels), 3), np.int32)
    stop = 0
    for points, field_labels in zip(points_px, labels, strict=True):
        start, stop = stop, stop + len(field_labels)
        packed[start:stop, :2] = np.rint(points * UNITS_PER_PX)
        packed[start:stop, 2] = field_labels
    return packed


def packed_lattices(fields: Sequence[FieldSamples], samples: NDArray[np.int32]) -> NDArray[np.int64]:
    """(F, 4) first sample, width, height and full score of each field's lattice; see ``packed_scores``."""
    lattices = np.zeros((len(fields), 4), np.int64)
    first = 0
    for row, field in zip(lattices, fields, strict=True):
        if field.probabilities is None or field.lattice is None:
            raise ShapeError(
                f'field that keeps {field.kept}: no probabilities. interpolation="linear" needed those of '
                "every field, with the lattice."
            )
        stop = first + field.lattice.area
        points = samples[first:stop, :2].reshape(*field.lattice.shape, 2)
        row[:] = first, field.lattice.width, field.lattice.height, _full_score(points)
        first = stop
    return lattices


def packed_scores(
    fields: Sequence[FieldSamples], samples: NDArray[np.int32], lattices: NDArray[np.int64]
) -> NDArray[np.uint16]:
    """(N, C) probabilities as whole numbers; 1 is the full score of the field."""
    given = [each.probabilities for each in fields if each.probabilities is not None]
    counts = sorted({each.shape[1] for each in given})
    if len(counts) > 1:
        raise ShapeError(
            f"probabilities: {counts} classes in the fields of one slide. Needed as many in each."
        )
    scores = np.empty((len(samples), counts[0] if counts else 0), np.uint16)
    for each, (first, width, height, full) in zip(given, lattices.tolist(), strict=True):
        scale = np.float32(full / 255 if each.dtype == np.uint8 else full)
        scores[first : first + width * height] = np.rint(each * scale)
    return scores


def _full_score(points: NDArray[np.int32]) -> int:
    """Probability 1 as a whole number, such that 64-bit integers hold every sum in a (h, w, 2) lattice."""
    steps = [np.abs(np.diff(points.astype(np.int64), axis=axis)) for axis in (0, 1)]
    reach = sum(each.max(axis=(0, 1), initial=0) for each in steps)  # no triangle is wider or higher
    return _FULL_SCORE >> (int(np.prod(reach)) // _WIDEST_UNITS2).bit_length()


def packed_kept(regions: Sequence[Region], size: Size) -> NDArray[np.int64]:
    """(F, 4) left, top, right, bottom, level-0 px; those on the slide's right or bottom edge move far out."""
    edges = np.array([(r.x, r.y, r.right, r.bottom) for r in regions], np.int64).reshape(-1, 4)
    edges[:, :2] = np.maximum(edges[:, :2], 0)
    edges[edges[:, 2] >= size.width, 2] = _FAR_PX
    edges[edges[:, 3] >= size.height, 3] = _FAR_PX
    order = np.argsort(edges[:, 0], kind="stable")
    ordered = edges[order]
    stops = np.searchsorted(ordered[:, 0], ordered[:, 2])  # later ones that begin before this one ends
    for i, stop in enumerate(stops):
        rest = ordered[i + 1 : stop]
        meets = (rest[:, 1] < ordered[i, 3]) & (rest[:, 3] > ordered[i, 1])
        if meets.any():
            other = regions[order[i + 1 + int(np.argmax(meets))]]
            raise ShapeError(
                f"kept regions {regions[order[i]]} and {other} overlap. Needed disjoint regions."
            )
    return edges
