"""How the pixels of a slide are shared out among its fields, where their blocks compete for one budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.deform.blocks import BlockLayout, parts_of
from wsi_deform.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldWorth:
    """What the first look at a field says of its blocks.

    Attributes:
        layout: Levels and blocks.
        priority: (N,) of the blocks of level 1 that may be read; higher is read first.
        worth: (N,) the same as a number of 0 or more, of which twice as much is worth twice as many pixels.
        within: By level from 1 on, (N,), how many blocks of that level in each of these may be read; 1 of level 1.
        looked_px: Pixels that its first looks take: the one that told this, too.
    """

    layout: BlockLayout
    priority: NDArray[np.float64]
    worth: NDArray[np.float64]
    within: tuple[NDArray[np.int64], ...]
    looked_px: int


def shared_counts(
    fields: Sequence[FieldWorth], *, budget_px: float, split: Sequence[float] | None = None
) -> list[tuple[int, ...]]:
    """How many blocks of each level each field reads.

    Args:
        fields: What is known of each; layouts have the same levels and windows.
        budget_px: Pixels read of all fields and levels, with margins.
        split: As for ``BlockLayout.counts``.

    Returns:
        Of each field, blocks of levels 1, 2, ...; at least one of each, as of a field alone, which is all that may go
        beyond the budget.

    Raises:
        ShapeError: Another number of parts than of further levels, or no fields.

    Convention:
        Blocks of level 1 of all fields compete one by one. Which of the finer ones are worth reading is known when
        their field is read, one after the other, so that these are shared out in proportion to what the blocks above
        them are worth.
    """
    if not fields:
        raise ShapeError("no fields: needed at least one to share a budget.")
    parts = parts_of(fields[0].layout, split)
    window = fields[0].layout.read_px ** 2
    left = max(0.0, budget_px - sum(field.looked_px for field in fields))
    found: list[list[int]] = [[] for _ in fields]
    read: list[NDArray[np.bool_]] = []
    for number, part in enumerate(parts):
        wanted = round(left * part / sum(parts[number:]) / window) if part else 0
        if number == 0:
            read = _best(fields, wanted)
            counts = np.array([each.sum() for each in read])
        else:
            most = np.array([field.within[number][of].sum() for field, of in zip(fields, read, strict=True)])
            most = np.minimum(most, 4 * np.array([each[-1] for each in found]))
            masses = np.array([field.worth[of].sum() for field, of in zip(fields, read, strict=True)])
            counts = proportional(masses, np.maximum(1, most), wanted)
        counts = np.maximum(1, counts)
        for of_field, count in zip(found, counts.tolist(), strict=True):
            of_field.append(count)
        left = max(0.0, left - float(counts.sum()) * window)
    return [tuple(each) for each in found]


def _best(fields: Sequence[FieldWorth], wanted: int) -> list[NDArray[np.bool_]]:
    """Of each field (N,), the blocks of level 1 that are read: each field's best, and the best of all the others."""
    first = np.concatenate([_is_best(field.priority) for field in fields])
    priority = np.concatenate([field.priority for field in fields])
    order = np.lexsort((np.arange(len(priority)), -priority, ~first))
    chosen = np.zeros(len(priority), np.bool_)
    chosen[order[: max(wanted, int(first.sum()))]] = True
    return np.split(chosen, np.cumsum([len(field.priority) for field in fields])[:-1])


def _is_best(priority: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which is the first of the highest."""
    found = np.zeros(len(priority), np.bool_)
    if len(priority):
        found[priority.argmax()] = True
    return found


def proportional(masses: NDArray[np.float64], most: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    """Whole numbers in proportion to masses, between 1 and a limit.

    Args:
        masses: (F,) 0 or more; all 0 are alike.
        most: (F,) 1 or more.
        wanted: Their sum, if the limits allow.

    Returns:
        (F,).
    """
    shares = masses if masses.sum() > 0 else np.ones(len(masses))
    shares = np.maximum(shares, 1e-12 * shares.max())
    # What limits cut off, or add, is made good by the others: the factor with which the sum comes closest from below.
    low, high = 0.0, float((most / shares).max())
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(shares * middle, 1, most).sum() <= wanted else (low, middle)
    exact = np.clip(shares * low, 1, most)
    given = np.floor(exact + 1e-9).astype(np.int64)
    over = max(0, min(wanted, int(most.sum())) - int(given.sum()))
    by_fraction = np.lexsort((np.arange(len(given)), given - exact))
    for field in by_fraction[given[by_fraction] < most[by_fraction]][:over]:
        given[field] += 1
    found: NDArray[np.int64] = given
    return found
