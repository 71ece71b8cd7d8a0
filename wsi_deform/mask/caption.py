"""What is written above and below a picture of a slide's classes: its name, a scale bar, the classes and how much.

Nothing is drawn over the picture. The letters are DejaVu Sans, which comes with matplotlib: the font in Pillow has no
"µ", no "²" and no letters but those of English.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.geometry import Mpp, Size, both_axes
from wsi_deform.mask.overlay import BAND_ROWS
from wsi_deform.mask.scale_bar import ScaleBar

SMALLEST_FONT_PX, LARGEST_FONT_PX = 13, 28
# Longer side of a picture / height of its letters.
SIDES_PER_FONT = 72
# JPEG stores squares of so many pixels: a strip of whole squares leaves no trace of its letters in the picture.
JPEG_SQUARE_PX = 16
LEAST_WIDTH_IN_FONTS = 20
# More classes than this are counted and not named; the largest come first.
MOST_CLASSES = 24
UM2_PER_MM2 = 1e6
INK, PAPER, FRAME = (27, 31, 36), (255, 255, 255), (107, 114, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegendEntry:
    """A line of a legend.

    Attributes:
        text: What is written.
        colour: RGB of its swatch, 0 to 255, or None for text alone.
    """

    text: str
    colour: tuple[int, int, int] | None = None


def legend_of(
    labels: NDArray[np.uint8], classes: ClassTable, *, size: Size, mpp: Mpp | None
) -> list[LegendEntry]:
    """The classes that occur in a picture of labels, and how much of the slide they are.

    Args:
        labels: (H, W) uint8, the labels of a whole slide in the size of a picture.
        classes: Names and colours; the background, which pictures leave clear, has no entry.
        size: Level-0 size of the slide, px.
        mpp: Level-0 um per pixel, or None.

    Returns:
        In the order of the table; an area in mm² where the mpp is known, else the share of the slide, both to two
        digits as the picture shows them. Of more than ``MOST_CLASSES`` classes the largest, and how many there are
        besides.
    """
    counts = np.zeros(UNLABELLED + 1, np.int64)
    for top in range(0, len(labels), BAND_ROWS):  # bincount makes eight bytes of each label
        counts += np.bincount(labels[top : top + BAND_ROWS].ravel(), minlength=UNLABELLED + 1)
    counts = counts[: classes.count]
    counts[
        [index for index in (classes.background, UNLABELLED) if index is not None and index < classes.count]
    ] = 0
    found = np.flatnonzero(counts)
    named = np.sort(found[np.argsort(-counts[found], kind="stable")][:MOST_CLASSES])
    entries = []
    for index in named.tolist():
        share = counts[index] / labels.size
        amount = f"{_two_digits(100 * share)} %"
        if mpp is not None:
            both = both_axes(mpp)
            amount = _area(share * size.area * both.x * both.y)
        entries.append(LegendEntry(text=f"{classes.names[index]}: {amount}", colour=classes.colours[index]))
    if len(found) > len(named):
        entries.append(LegendEntry(text=f"and {len(found) - len(named)} more classes"))
    return entries or [
        LegendEntry(text="no class but the background" if classes.background is not None else "no class")
    ]


def captioned(
    picture: NDArray[np.uint8], *, title: str, bar: ScaleBar, entries: Sequence[LegendEntry]
) -> NDArray[np.uint8]:
    """A picture with a title above it, and a scale bar and a legend below it.

    Args:
        picture: (H, W, 3) uint8 RGB of a whole slide.
        title: Written above; what does not fit is left out.
        bar: The scale bar.
        entries: The legend, in as many rows as it needs.

    Returns:
        (H', W', 3) uint8 RGB, the picture at its left, ``title_rows`` below its top; wider than the picture only
        where that is too narrow for words.
    """
    height, width = picture.shape[:2]
    font = _font(max(height, width))
    whole_width = int(max(width, LEAST_WIDTH_IN_FONTS * font.size))
    items = _placed(font, [None, *entries], whole_width, max(1, round(bar.share * width)), bar.text)
    above = title_strip(title, Size(width, height), whole_width)
    below = Image.new("RGB", (whole_width, _row_px(font) * (items[-1].row + 1) + _margin(font)), PAPER)
    draw = ImageDraw.Draw(below)
    for item in items:
        _draw(draw, item, font)
    beside = np.full((height, whole_width - width, 3), PAPER, np.uint8)
    row = picture if whole_width == width else np.concatenate([picture, beside], axis=1)
    return np.concatenate([np.asarray(above), row, np.asarray(below)])


def title_rows(long_px: int) -> int:
    """Rows above a picture with this longer side, px; whole squares of JPEG."""
    return -(-_row_px(_font(long_px)) // JPEG_SQUARE_PX) * JPEG_SQUARE_PX


def title_strip(title: str, size: Size, width: int) -> Image.Image:
    """The strip above a picture.

    Args:
        title: Written into it; what does not fit is left out.
        size: Of the picture, px.
        width: Of the strip, px.
    """
    font = _font(size.long)
    strip = Image.new("RGB", (width, title_rows(size.long)), PAPER)
    margin = _margin(font)
    text = _fitting(title, font, width - 2 * margin)
    ImageDraw.Draw(strip).text((margin, strip.height // 2), text, font=font, fill=INK, anchor="lm")
    return strip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """A mark and the words behind it, at their place below a picture."""

    row: int
    x: int
    mark_px: int
    colour: tuple[int, int, int] | None
    text: str


def _draw(draw: ImageDraw.ImageDraw, item: _Item, font: ImageFont.FreeTypeFont) -> None:
    """Draw a mark and its words."""
    half = _margin(font)
    middle = half + item.row * _row_px(font) + _row_px(font) // 2
    right = item.x + item.mark_px - 1
    if item.colour is not None:
        draw.rectangle((item.x, middle - half, right, middle + half), fill=item.colour, outline=FRAME)
    elif item.mark_px:
        thin = max(1, int(font.size) // 10)
        draw.rectangle((item.x, middle - thin, right, middle + thin), fill=INK)
    gap = half if item.mark_px else 0
    draw.text((item.x + item.mark_px + gap, middle), item.text, font=font, fill=INK, anchor="lm")


def _placed(
    font: ImageFont.FreeTypeFont,
    entries: Sequence[LegendEntry | None],
    width: int,
    bar_px: int,
    bar_text: str,
) -> list[_Item]:
    """Entries side by side, in a new row where they do not fit; None is the scale bar."""
    items: list[_Item] = []
    margin, swatch = _margin(font), int(font.size)
    x, row = margin, 0
    for entry in entries:
        mark = bar_px if entry is None else swatch if entry.colour is not None else 0
        gap = margin if mark else 0
        room = max(0, width - 2 * margin - mark - gap)
        text = _fitting(bar_text if entry is None else entry.text, font, room)
        length = mark + gap + math.ceil(font.getlength(text))
        if items and x + length > width - margin:
            x, row = margin, row + 1
        items.append(
            _Item(row=row, x=x, mark_px=mark, colour=None if entry is None else entry.colour, text=text)
        )
        x += length + 2 * swatch
    return items


def _font(long_px: int) -> ImageFont.FreeTypeFont:
    """The letters of a picture with this longer side."""
    px = min(max(long_px // SIDES_PER_FONT, SMALLEST_FONT_PX), LARGEST_FONT_PX)
    found = importlib.util.find_spec("matplotlib")
    folder = Path(str(found.origin if found else "")).parent / "mpl-data" / "fonts" / "ttf"
    try:
        return ImageFont.truetype(str(folder / "DejaVuSans.ttf"), px, layout_engine=ImageFont.Layout.BASIC)
    except OSError:  # systems that keep matplotlib's fonts elsewhere
        return cast("ImageFont.FreeTypeFont", ImageFont.load_default(px))


def _margin(font: ImageFont.FreeTypeFont) -> int:
    return int(font.size) // 2


def _row_px(font: ImageFont.FreeTypeFont) -> int:
    return int(font.size * 1.6)


def _fitting(text: str, font: ImageFont.FreeTypeFont, most_px: float) -> str:
    """Text in one line, cut at its end where it is too long."""
    text = " ".join(text.encode(errors="replace").decode().split())
    if font.getlength(text) <= most_px:
        return text
    # No letter is narrower than a tenth of its height: of very long text nothing is measured that cannot fit.
    text = text[: int(10 * most_px / font.size)]
    while text and font.getlength(text + "…") > most_px:
        text = text[:-1]
    return text + "…"


def _area(um2: float) -> str:
    """An area to two digits, mm², or µm² where it is less than a thousandth of a mm²."""
    mm2 = um2 / UM2_PER_MM2
    return f"{_two_digits(mm2)} mm²" if mm2 >= 0.001 else f"{_two_digits(um2)} µm²"


def _two_digits(value: float) -> str:
    """A positive number to two digits, never with an exponent."""
    place = 1 - math.floor(math.log10(value))
    return f"{round(value, place):,.{max(0, place)}f}"
