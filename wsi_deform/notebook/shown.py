"""Slides and masks as notebooks show them: a picture with its name, scale and legend, as PNG and as HTML."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import Mpp, Size, both_axes
from wsi_deform.mask.caption import LegendEntry, captioned
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.notebook.png import png_of

JPEG_QUALITY = 82


def caption_of(name: str, size: Size, mpp: Mpp | None) -> str:
    """Name, size and scale in a line."""
    return f"{name}: {size.width:,} x {size.height:,} px, {scale_text(mpp)}"


def scale_text(mpp: Mpp | None) -> str:
    """The scale in words."""
    if mpp is None:
        return "µm per px not known"
    both = both_axes(mpp)
    x, y = f"{both.x:.4g}", f"{both.y:.4g}"
    return f"{x} µm per px" if x == y else f"{x} x {y} µm per px"


def png_shown(
    picture: NDArray[np.uint8], *, name: str, size: Size, mpp: Mpp | None, legend: Sequence[LegendEntry] = ()
) -> bytes:
    """A picture below its name, size and scale, and above a scale bar and a legend, as PNG.

    Args:
        picture: (H, W, 3) uint8 RGB of a whole slide.
        name: Of the slide.
        size: Level-0 size of the slide, px.
        mpp: Level-0 um per pixel, or None.
        legend: Classes and how much of the slide they are.
    """
    bar = scale_bar(size, mpp)
    return png_of(captioned(picture, title=caption_of(name, size, mpp), bar=bar, entries=legend))


def html_shown(
    picture: NDArray[np.uint8],
    *,
    name: str,
    facts: Mapping[str, str],
    legend: Sequence[LegendEntry] = (),
) -> str:
    """A picture with what is known of it as HTML that needs nothing else, and may be read aloud and copied.

    Args:
        picture: (H, W, 3) uint8 RGB of a whole slide.
        name: Of the slide; like all text it is escaped.
        facts: What is known of it.
        legend: Classes and how much of the slide they are.
    """
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(what)}</th><td style="text-align:left">{escape(text)}</td></tr>'
        for what, text in facts.items()
    )
    swatch = "display:inline-block;width:.9em;height:.9em;border:1px solid #6b7280;margin-right:.4em"
    entries = "".join(
        '<span style="display:inline-block;margin-right:1.2em">'
        + (
            ""
            if entry.colour is None
            else f'<span style="{swatch};background:rgb({",".join(map(str, entry.colour))})"></span>'
        )
        + f"{escape(entry.text)}</span>"
        for entry in legend
    )
    return (
        f'<div><strong>{escape(name)}</strong><br><img src="data:image/jpeg;base64,{data}" alt="{escape(name)}" '
        f'style="max-width:100%"><div>{entries}</div><table>{rows}</table></div>'
    )
