"""Colours of classes that the table gives none."""

from __future__ import annotations

import colorsys

from wsi_deform.annotation.class_data import colour_from_hex

BACKGROUND_COLOUR = (220, 220, 220)
# Okabe and Ito 2008, then Paul Tol's muted scheme: both stay apart for colour-blind readers.
PALETTE = [
    "E69F00",
    "009E73",
    "0072B2",
    "D55E00",
    "56B4E9",
    "CC79A7",
    "F0E442",
    "332288",
    "88CCEE",
    "44AA99",
    "117733",
    "999933",
    "DDCC77",
    "CC6677",
    "882255",
    "AA4499",
]


def default_colour(index: int, background: int | None) -> tuple[int, int, int]:
    """Colour of a class that has none: grey for the background, then a colour-blind-safe palette."""
    if index == background:
        return BACKGROUND_COLOUR
    place = index - 1 if background is not None and index > background else index
    if place < len(PALETTE):
        return colour_from_hex(PALETTE[place])
    # Past the palette: the golden angle keeps successive hues apart.
    red, green, blue = colorsys.hsv_to_rgb(place * 0.618034 % 1, 0.55 + 0.35 * (place % 2), 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)
