"""Run-length encoded masks as Kaggle writes them, decoded a band of rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Size


def parse_runs(text: str, size: Size, name: str) -> NDArray[np.int64]:
    """The runs of a mask.

    Args:
        text: Pairs of a start and a length, separated by spaces; empty for an empty mask.
        size: Of the mask, px.
        name: What errors call it.

    Returns:
        (N, 2) int64, first pixel and the one behind the last, from 0, column by column.

    Raises:
        AnnotationError: It is no such text, or a run leaves the mask.

    Convention:
        Pixels are counted from 1, down the first column, then down the second.
    """
    try:
        numbers = np.array(text.split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise AnnotationError(
            f"run lengths of {name}: not whole numbers ({error}). Needed pairs of a start and a length. Download the "
            "table again."
        ) from error
    if numbers.size % 2:
        raise AnnotationError(
            f"run lengths of {name}: {numbers.size} numbers. Needed pairs of a start and a length. The table may be "
            "cut off: download it again."
        )
    starts, lengths = numbers[0::2] - 1, numbers[1::2]
    if (starts < 0).any() or (lengths < 1).any() or (starts + lengths > size.area).any():
        raise AnnotationError(
            f"run lengths of {name}: a run outside {size} px. Needed runs of a mask of its slide's size. Check that "
            "the table and the slides are of one download."
        )
    return np.stack([starts, starts + lengths], axis=1)


def mask_bands(runs: NDArray[np.int64], size: Size, band_px: int) -> Iterator[NDArray[np.uint8]]:
    """Draw runs from the top on.

    Args:
        runs: See ``parse_runs``.
        size: Of the mask, px.
        band_px: Rows at a time.

    Yields:
        (h, width) uint8, 1 where a run is; ``band_px`` rows each and the rest in the last one.
    """
    columns, tops, bottoms = _by_column(runs, size.height)
    for top in range(0, size.height, band_px):
        rows = min(band_px, size.height - top)
        here = (tops < top + rows) & (bottoms > top)
        # A run adds 1 where it starts and takes it away below its end: sums down the columns are the mask.
        steps = np.zeros((rows + 1, size.width), np.int32)
        np.add.at(steps, (np.maximum(tops[here] - top, 0), columns[here]), 1)
        np.add.at(steps, (np.minimum(bottoms[here] - top, rows), columns[here]), -1)
        np.cumsum(steps, axis=0, out=steps)
        yield (steps[:rows] > 0).view(np.uint8)


def _by_column(runs: NDArray[np.int64], height: int) -> tuple[NDArray[np.int64], ...]:
    """Column, first row and the row behind the last of each run, cut where it goes on in the next column."""
    first, last = runs[:, 0] // height, (runs[:, 1] - 1) // height
    spans = last - first + 1
    which = np.repeat(np.arange(len(runs)), spans)
    columns = first[which] + np.arange(spans.sum()) - np.repeat(np.cumsum(spans) - spans, spans)
    tops = np.maximum(runs[which, 0], columns * height) - columns * height
    bottoms = np.minimum(runs[which, 1], (columns + 1) * height) - columns * height
    return columns, tops, bottoms
