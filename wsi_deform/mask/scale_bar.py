"""How long the scale bar of a picture of a slide is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wsi_deform.geometry import Mpp, Size, both_axes

# A bar is at most this share of the longer side of its picture.
MOST_OF_LONG_SIDE = 0.2
UM_PER_MM = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleBar:
    """A horizontal bar of a round length.

    Attributes:
        share: Its length / the width of the picture of the whole slide, above 0 and at most 1.
        text: Its length as people read it: "500 µm", "2 mm", or level-0 px, "1,000 px".
    """

    share: float
    text: str


def scale_bar(size: Size, mpp: Mpp | None) -> ScaleBar:
    """The scale bar of a picture of a whole slide.

    Args:
        size: Level-0 size of the slide, px.
        mpp: Level-0 um per pixel; None gives a bar in level-0 px.

    Returns:
        The longest bar of 1, 2 or 5 times a power of ten, um or px, that is at most a fifth of the longer side of the
        slide, and no longer than the slide is wide.
    """
    both = both_axes(1.0 if mpp is None else mpp)
    width, height = size.width * both.x, size.height * both.y
    most = min(width, MOST_OF_LONG_SIDE * max(width, height))
    if mpp is None:
        most = max(1.0, most)
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    length = next(factor * power for factor in (5, 2, 1) if factor * power <= most * (1 + 1e-9))
    return ScaleBar(
        share=min(1.0, length / width), text=_text(length, "px" if mpp is None else "\N{MICRO SIGN}m")
    )


def _text(length: float, unit: str) -> str:
    """A length with its unit, in mm from 1 mm on."""
    if unit != "px" and length >= UM_PER_MM:
        return f"{length / UM_PER_MM:,g} mm"
    return f"{length:,g} {unit}"
