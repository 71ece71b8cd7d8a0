"""Colours as annotation files write them."""

from __future__ import annotations

import re
from typing import Any

from wsi_deform.annotation.outlines.outline import Colour

_NUMBERS = re.compile(r"rgba?\(([0-9., ]+)\)")


def colour_from_json(value: Any) -> Colour | None:
    """A list of three numbers, a packed number (ARGB), ``#rrggbb`` or ``rgb(r, g, b)``; None for anything else."""
    if isinstance(value, list) and len(value) >= 3:
        return _colour(value[:3])
    if isinstance(value, int) and not isinstance(value, bool):
        return (value >> 16) & 255, (value >> 8) & 255, value & 255
    return colour_from_text(value) if isinstance(value, str) else None


def colour_from_text(text: str) -> Colour | None:
    """``#rrggbb``, ``#rrggbbaa`` or ``rgb(r, g, b)``; None for anything else."""
    text = text.strip()
    if re.fullmatch(r"#[0-9a-fA-F]{6}([0-9a-fA-F]{2})?", text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    found = _NUMBERS.fullmatch(text)
    if not found:
        return None
    try:
        return _colour([float(each) for each in found[1].split(",")[:3]])
    except ValueError:
        return None


def colour_from_bgr(text: str) -> Colour | None:
    """A Windows colour number, blue in the highest byte: 255 is red; None for anything else."""
    if not re.fullmatch(r"\s*-?[0-9]{1,12}\s*", text):
        return None
    value = int(text)
    return value & 255, (value >> 8) & 255, (value >> 16) & 255


def colour_text(colour: Colour) -> str:
    """A colour as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _colour(parts: list[Any]) -> Colour | None:
    # Asked for every object of a file: no loop.
    if len(parts) < 3 or not {type(parts[0]), type(parts[1]), type(parts[2])} <= {int, float}:
        return None
    red, green, blue = parts[:3]
    is_colour = 0 <= red <= 255 and 0 <= green <= 255 and 0 <= blue <= 255
    return (int(red), int(green), int(blue)) if is_colour else None
