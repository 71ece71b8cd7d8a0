"""Values of masks in words: what they mean, how frequent they are, and to which class an unknown colour is nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wsi_deform.annotation.class_data import COLOUR_VALUE, value_text
from wsi_deform.annotation.classes import UNLABELLED, ClassTable

SHOWN_VALUES = 8


def values_text(values: Mapping[int, int], table: ClassTable | None = None) -> str:
    """Values with what they mean and their share of the pixels, the most frequent first where they are many."""
    total = sum(values.values())
    shown = sorted(values)
    if len(shown) > SHOWN_VALUES:
        shown = sorted(shown, key=lambda value: -values[value])[:SHOWN_VALUES]
    parts = []
    for value in shown:
        meaning = "" if table is None else f"{meaning_text(value, table)}, "
        parts.append(f"{value_text(value)} ({meaning}{share_text(values[value], total)})")
    more = f" and {len(values) - len(shown)} other values" if len(values) > len(shown) else ""
    return ", ".join(parts) + more


def unknown_colours_text(values: Mapping[int, int], table: ClassTable) -> str:
    """Colours that no class has, the most frequent first: each with its pixels and the class whose colour is nearest.

    Args:
        values: Raw value -> px; others than unknown colours are passed over.
        table: The class table; has colours of classes.
    """
    known = table.mapping
    unknown = sorted(
        (value for value in values if value >= COLOUR_VALUE and value not in known),
        key=lambda value: (-values[value], value),
    )
    parts = [
        f"{value_text(value)} ({values[value]:,} px, nearest {nearest_text(value, table)})"
        for value in unknown[:SHOWN_VALUES]
    ]
    more = f" and {len(unknown) - SHOWN_VALUES} more" if len(unknown) > SHOWN_VALUES else ""
    return ", ".join(parts) + more


def nearest_text(value: int, table: ClassTable) -> str:
    """The class, or unlabelled, with the colour nearest to one in RGB, and that colour: "'road' #804080"."""
    known = (each for each in table.mapping if each >= COLOUR_VALUE)
    near = min(known, key=lambda each: (_distance(each, value), each))
    return f"{meaning_text(near, table)} {value_text(near)}"


def meaning_text(value: int, table: ClassTable) -> str:
    """What a value means: a class in quotes, unlabelled, or no meaning."""
    index = table.meanings.get(value)
    if index is None:
        return "no meaning"
    return "unlabelled" if index == UNLABELLED else repr(table.names[index])


def listed(values: Sequence[int]) -> str:
    """Some values, the first of many."""
    shown = ", ".join(map(value_text, values[:SHOWN_VALUES]))
    return f"{shown} and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else shown


def share_text(part: int, whole: int) -> str:
    """A share in percent."""
    share = 100 * part / max(1, whole)
    return "less than 0.1 %" if 0 < share < 0.05 else f"{share:.1f} %"


def masks_text(count: int) -> str:
    """A number of masks."""
    return f"{count} mask{'s' if count != 1 else ''}"


def _distance(one: int, other: int) -> int:
    """Squared distance of the colours that two values stand for."""
    return sum(((one >> shift & 255) - (other >> shift & 255)) ** 2 for shift in (0, 8, 16))
