"""Which class is taken for which, as a table whose cells are as dark as their share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_deform.report.cells import PERCENT
from wsi_deform.report.tables import NOTHING, Table


def confusion_table(counts: NDArray[np.int64], names: Sequence[str]) -> Table:
    """A confusion matrix.

    Args:
        counts: (C, C) pixels ``[true, predicted]``.
        names: Of the classes.

    Returns:
        A row per class of the labels, a column per class of the mask; shares of the row, pixels below them.

    Raises:
        ValueError: There are not as many classes as names.
    """
    if counts.shape != (len(names), len(names)):
        raise ValueError(f"counts of shape {counts.shape} and {len(names)} classes")
    totals = counts.sum(axis=1)
    rows, shade = [], {}
    for index, name in enumerate(names):
        cells = [name]
        for other, count in enumerate(counts[index].tolist()):
            share = count / totals[index] if totals[index] else None
            cells.append(NOTHING if share is None else f"{share:{PERCENT}}\n{count:,} px")
            shade[index, other + 1] = share or 0.0
        rows.append(tuple(cells))
    return Table(header=("labels below, mask right", *names), rows=tuple(rows), shade=shade)
