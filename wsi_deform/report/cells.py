"""Cells of tables: numbers as people read them, with their intervals below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_deform.evaluate.summary import UNITS
from wsi_deform.report.tables import NOTHING

Interval = Sequence[float] | None

SHARE, PERCENT, COUNT, LENGTH, RATIO = ".3f", ".1%", ",.0f", ",.2f", ".2f"

COSTS = {
    "samples": ("samples", 1.0, ",.0f"),
    "read_pixels": ("pixels read, million", 1e6, ",.3f"),
    "decoded_pixels": ("pixels decoded, million", 1e6, ",.3f"),
    "decoded_bytes": ("bytes decoded, MB", 1e6, ",.1f"),
    "flops": ("GFLOPs", 1e9, ",.2f"),
    "seconds": ("seconds", 1.0, ",.2f"),
    "peak_memory_bytes": ("peak memory, MB", 1e6, ",.0f"),
}
"""Key of a cost -> its words, what it is divided by, and how it is written."""


def cell(value: float | None, how: str, interval: Interval = None) -> str:
    """A number, below it its interval where there is one; a dash where nothing was there to measure.

    Args:
        value: The number.
        how: Its format.
        interval: Low and high end.
    """
    if value is None or value != value:  # NaN
        return NOTHING
    return f"{value:{how}}" + ("" if interval is None else f"\n{ends(interval, how)}")


def ends(interval: Sequence[float], how: str = SHARE) -> str:
    """An interval in words."""
    low, high = interval
    return f"{low:{how}} to {high:{how}}"


def part_of(part: int, whole: int, interval: Interval = None) -> str:
    """A count and its share of a whole, whose interval it may have."""
    if not whole:
        return NOTHING
    below = "" if interval is None else f", {ends(interval, '.0%')}"
    return f"{part:,}\n{part / whole:.0%}{below}"


def cost_cell(key: str, value: float | None) -> str:
    """A cost in its unit."""
    _, scale, how = COSTS[key]
    return NOTHING if value is None else f"{value / scale:{how}}"


def size_text(row: Mapping[str, Any]) -> str:
    """From which to which area a row of objects is."""
    if row["from"] is None:
        return "all sizes"
    unit = UNITS[row["unit"]]
    return f"{row['from']:,.0f} {unit} or more" if row["to"] is None else (
        f"{row['from']:,.0f} to {row['to']:,.0f} {unit}"
    )  # fmt: skip


def left_out(shown: int, of: int, what: str, where: str) -> list[str]:
    """A sentence about what a table does not show; none where it shows all."""
    return [] if shown >= of else [f"{shown:,} of {of:,} {what} are shown. All are in {where}."]


def folder_of(path: Path) -> str:
    """The folder of an evaluation as a page names it: that of its split, in the folder of all."""
    return "/".join(path.parent.parts[-2:])
