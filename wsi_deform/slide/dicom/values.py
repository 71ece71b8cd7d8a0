"""Values of a parsed dataset, in the type that is needed: a damaged file may hold anything in their place."""

from __future__ import annotations

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


def number(dataset: Any, keyword: str) -> float | None:
    """A number, or None where there is none."""
    value = dataset.get(keyword)
    return float(value) if isinstance(value, int | float | str) and value != "" else None
