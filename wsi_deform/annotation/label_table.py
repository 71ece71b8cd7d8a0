"""Pixels and shares of each class in each split, as a table for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.value_text import share_text
from wsi_deform.manifest.rows import SPLITS

NO_SPLIT, UNKNOWN = "no split", "no meaning"


def label_table(pixels: Mapping[str, Mapping[int, int]], table: ClassTable) -> list[str]:
    """Say how much of each class there is.

    Args:
        pixels: Split, "" for none -> raw value -> level-0 px.
        table: What the values mean.

    Returns:
        Lines of a table: a row per class, one for what is unlabelled where there is any, and one for values without
        a meaning; of each split pixels and share of the split's pixels. Empty where nothing was counted.
    """
    splits = [split for split in (*SPLITS, "") if split in pixels]
    if not splits:
        return []
    counts = {split: class_pixels(pixels[split], table) for split in splits}
    names: list[tuple[int | None, str]] = list(enumerate(table.names))
    others: list[tuple[int | None, str]] = [(UNLABELLED, "unlabelled"), (None, UNKNOWN)]
    names += [(index, name) for index, name in others if any(counts[split].get(index) for split in splits)]
    header = ["class"]
    for split in splits:
        header += [f"{split or NO_SPLIT}, px", "share"]
    rows = [header]
    for index, name in names:
        cells = [name]
        for split in splits:
            number = counts[split].get(index, 0)
            cells += [f"{number:,}", share_text(number, sum(counts[split].values()))]
        rows.append(cells)
    return aligned(rows)


def class_pixels(values: Mapping[int, int], table: ClassTable) -> dict[int | None, int]:
    """Pixels of each class; those of values that mean unlabelled as 255, and of values without a meaning as None."""
    mapping = table.meanings
    counts: dict[int | None, int] = {}
    for value, number in values.items():
        index = mapping.get(value)
        counts[index] = counts.get(index, 0) + number
    return counts


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names flush left, numbers flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
