"""Values of a parsed dataset, in the type that is needed: a damaged file may hold anything in their place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def items(dataset: Any, keyword: str) -> Sequence[Any]:
    """The items of a sequence; none where a damaged file has something else in its place."""
    import pydicom.sequence

    value = dataset.get(keyword)
    return value if isinstance(value, pydicom.sequence.Sequence) else ()


def whole(dataset: Any, keyword: str, otherwise: int) -> int:
    """A whole number, or another one where there is none.

    Raises:
        ValueError: There is something else in its place.
    """
    value = dataset.get(keyword)
    if value is None or value == "":
        return otherwise
    if not isinstance(value, int | float | str):
        raise ValueError(f"{keyword} {value}")
    return int(value)


def spacing_um(value: Any) -> tuple[float, float] | None:
    """A PixelSpacing, mm from row to row and from column to column, as um along x and y; None where it is none."""
    if value is None or isinstance(value, int | float | str) or len(value) != 2:
        return None
    try:
        y_um, x_um = (float(one) * 1000 for one in value)
    except (TypeError, ValueError):
        return None
    return (x_um, y_um) if all(math.isfinite(one) and one > 0 for one in (x_um, y_um)) else None


def number(dataset: Any, keyword: str) -> float | None:
    """A number, or None where there is none."""
    value = dataset.get(keyword)
    return float(value) if isinstance(value, int | float | str) and value != "" else None
