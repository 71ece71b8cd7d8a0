"""How a field is drawn for people: six panels, titles and a legend, on a white ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.drawing.levels import level_colours
from wsi_deform.drawing.names import one_line
from wsi_deform.files import write_aside
from wsi_deform.geometry import Size
from wsi_deform.mask.overlay import overlay

WIDTH_PX = 1500
MARGIN_PX, GAP_PX, TITLE_PX, HEADING_PX, LEGEND_PX = 18, 16, 26, 34, 26
TALLEST_PX = 620
MIN_FOR_SCALE_PX = 340
INK, FAINT, LINE = (27, 31, 36), (107, 114, 128), (203, 208, 214)
POINT = (0, 52, 79)  # against pink tissue and against glass
RIGHT, WRONG = (222, 228, 232), (213, 60, 40)
SMOOTH = 4  # points are drawn so much larger, then made smaller: their edges are smooth
POINT_RADIUS_PX = 1.15
POINT_SPACING_PX = 5.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stages:
    """What the method makes of one field.

    Attributes:
        title: Says which field it is.
        aspect: Width / height of its region.
        view: (H, W, 3) uint8 RGB, the low-res view.
        points: (h, w, 2) sampling grid, (x, y), unit frame of the region.
        density: (H, W) deformation map, positive; its scale does not matter. None of blocks.
        image: (h, w, 3) uint8 RGB, the sampled image; of blocks what was read, the finest on top.
        labels: (h, w) uint8 classes at the sampling points, 255 unlabelled.
        predicted: (h, w) uint8 classes that the model says.
        read: (h, w) uint8, of blocks: the finest level that was read at each label, 0 for the coarsest.
        levels: Names of these levels, such as "10 um per px".
    """

    title: str
    aspect: float
    view: NDArray[np.uint8]
    points: NDArray[np.float64]
    density: NDArray[np.float64] | None
    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    read: NDArray[np.uint8] | None = None
    levels: tuple[str, ...] = ()


def field_picture(stages: Stages, classes: ClassTable) -> NDArray[np.uint8]:
    """Draw a field.

    Args:
        stages: What is drawn.
        classes: Names and colours.

    Returns:
        (H, ``WIDTH_PX``, 3) uint8 RGB: the low-res view with the sampling points, the deformation map, the sampled
        image, its labels, its predicted classes, and where they differ. Of blocks: the first look, at which level each
        part was read, and what was read, in place of the first three.

    Convention:
        The first two panels are in the slide's frame, the others in the sampled image's; of blocks all are in the
        slide's.
    """
    columns = _columns(stages.aspect)
    size = _panel_size(stages.aspect, columns)
    panels = _panels(stages, classes, size)
    rows = -(-len(panels) // columns)
    shown = sorted(set(np.unique(stages.labels)) | set(np.unique(stages.predicted)))
    entries = [
        ("unlabelled", (255, 255, 255))
        if index == UNLABELLED
        else (classes.names[index], classes.colours[index])
        for index in shown
    ]
    colours = level_colours(len(stages.levels)) if stages.levels else []
    levels = [(f"read at {name}", colour) for name, colour in zip(stages.levels, colours, strict=True)]
    lines = _legend_lines([*entries, ("right", RIGHT), ("wrong", WRONG), *levels], WIDTH_PX)
    height = HEADING_PX + rows * (TITLE_PX + size.height + GAP_PX) + len(lines) * LEGEND_PX + MARGIN_PX
    page = Image.new("RGB", (WIDTH_PX, height), "white")
    draw = ImageDraw.Draw(page)
    title = " ".join(stages.title.split())  # Pillow refuses line breaks of any kind
    draw.text((MARGIN_PX, HEADING_PX / 2 + 4), title, INK, font=_font(16, bold=True), anchor="lm")
    for number, (title, panel) in enumerate(panels):
        # What is compared lies on one line: the networks' side, and the labels' side.
        row, column = divmod(number, columns) if columns != 2 else (number % 3, number // 3)
        left = MARGIN_PX + column * ((WIDTH_PX - 2 * MARGIN_PX + GAP_PX) // columns)
        top = HEADING_PX + row * (TITLE_PX + size.height + GAP_PX) + TITLE_PX
        draw.text((left, top - 5), title, FAINT, font=_font(14), anchor="ls")
        page.paste(panel, (left, top))
        draw.rectangle((left - 1, top - 1, left + size.width, top + size.height), outline=LINE)
        if number == 1 and size.width >= MIN_FOR_SCALE_PX and stages.density is not None:
            _draw_scale(draw, page, left + size.width, top - 9, _most(stages.density))
    _draw_legend(draw, height - MARGIN_PX - len(lines) * LEGEND_PX, lines)
    return np.asarray(page)


def with_legend(
    picture: NDArray[np.uint8], entries: Sequence[tuple[str, tuple[int, int, int]]]
) -> NDArray[np.uint8]:
    """A picture above a legend.

    Args:
        picture: (H, W, 3) uint8 RGB.
        entries: Names and RGB of 0 to 255.

    Returns:
        (H', W', 3) uint8 RGB: the picture at the left top; wider than it only where a name is.
    """
    widest = max((_entry_width(name) for name, _ in entries), default=0) + MARGIN_PX
    height, width = picture.shape[0], max(picture.shape[1], widest)
    lines = _legend_lines(entries, width)
    page = Image.new("RGB", (width, height + len(lines) * LEGEND_PX), "white")
    page.paste(Image.fromarray(picture), (0, 0))
    _draw_legend(ImageDraw.Draw(page), height, lines)
    return np.asarray(page)


def stacked(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures of one width, (H_i, W, 3) uint8 each, one below the other: (sum of H_i, W, 3)."""
    return np.concatenate(list(pictures))


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB as PNG; the file is whole or absent."""
    with write_aside(path) as aside:
        Image.fromarray(picture).save(aside, format="PNG")


def _columns(aspect: float) -> int:
    """So many panels side by side that each is large."""
    return 1 if aspect >= 6 else 2 if aspect >= 1.9 else 3 if aspect >= 0.5 else 6


def _panel_size(aspect: float, columns: int) -> Size:
    width = (WIDTH_PX - 2 * MARGIN_PX - (columns - 1) * GAP_PX) // columns
    height = round(width / aspect)
    if height > TALLEST_PX:
        height, width = TALLEST_PX, max(1, round(TALLEST_PX * aspect))
    return Size(width, max(8, height))


def _panels(stages: Stages, classes: ClassTable, size: Size) -> list[tuple[str, Image.Image]]:
    """Titles and panels, in reading order."""
    palette = np.full((256, 3), 255, np.uint8)
    palette[: classes.count] = classes.colours
    labelled = stages.labels != UNLABELLED
    wrong = labelled & (stages.labels != stages.predicted)
    verdict = np.full((*labelled.shape, 3), 255, np.uint8)
    verdict[labelled], verdict[wrong] = RIGHT, WRONG
    share = f"{wrong.sum() / labelled.sum():.0%} of labelled" if labelled.any() else "no labels"
    return [
        *(_of_warp(stages, size) if stages.read is None else _of_blocks(stages, stages.read, size)),
        (
            f"labels: {labelled.mean():.0%} {'of samples' if stages.read is None else 'labelled'}",
            _resized(palette[stages.labels], size),
        ),
        ("prediction", _resized(palette[stages.predicted], size)),
        (f"wrong: {share}", _resized(verdict, size)),
    ]


def _of_warp(stages: Stages, size: Size) -> list[tuple[str, Image.Image]]:
    """Where it was looked, and what was seen, of a warp."""
    step = max(1, round(POINT_SPACING_PX * stages.points.shape[1] / size.width))
    which = "all samples" if step == 1 else f"1 of {step**2} samples"
    panels = [(f"low-res view, {which}", _with_points(stages, size, step))]
    if stages.density is not None:
        most = _most(stages.density)
        narrow = "" if size.width >= MIN_FOR_SCALE_PX else f", 0 to {most:.1f} x"
        heat = mpl.colormaps["magma"](np.clip(_relative(stages.density) / most, 0, 1))
        panels.append(
            (f"deformation map{narrow}", _resized(np.rint(heat[..., :3] * 255).astype(np.uint8), size))
        )
    return [*panels, ("sampled image", _resized(stages.image, size))]


def _of_blocks(stages: Stages, read: NDArray[np.uint8], size: Size) -> list[tuple[str, Image.Image]]:
    """The same of blocks."""
    first = _resized(stages.view, size)
    levels = np.asarray(Image.fromarray(read).resize((size.width, size.height), Image.Resampling.NEAREST))
    colours = level_colours(len(stages.levels))
    tinted = overlay(np.asarray(first), levels, colours, background=0)
    share = f"{(read == len(stages.levels) - 1).mean():.0%} of it at {stages.levels[-1]}"
    return [
        (f"first look, {stages.levels[0]}", first),
        (f"levels read: {share}", Image.fromarray(tinted)),
        ("what was read", _resized(stages.image, size)),
    ]


def _with_points(stages: Stages, size: Size, step: int) -> Image.Image:
    """The low-res view, lightened, and every ``step``-th sample of each row and column."""
    light = 255 - (255 - stages.view.astype(np.float32)) * 0.6
    page = Image.fromarray(light.astype(np.uint8)).resize((size.width, size.height), Image.Resampling.BICUBIC)
    large = (size.width * SMOOTH, size.height * SMOOTH)
    ink = Image.new("L", large, 0)
    draw = ImageDraw.Draw(ink)
    radius = POINT_RADIUS_PX * SMOOTH
    for x, y in (stages.points[step // 2 :: step, step // 2 :: step].reshape(-1, 2) * large).tolist():
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    page.paste(POINT, mask=ink.reduce(SMOOTH))
    return page


def _resized(picture: NDArray[np.uint8], size: Size) -> Image.Image:
    """Enlarged so that every sample shows as one cell; what is too large is averaged."""
    larger = picture.shape[1] <= size.width
    kind = Image.Resampling.NEAREST if larger else Image.Resampling.BOX
    return Image.fromarray(picture).resize((size.width, size.height), kind)


def _relative(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """The density in multiples of the uniform one."""
    relative: NDArray[np.float64] = density / density.mean()
    return relative


def _most(density: NDArray[np.float64]) -> float:
    """Where the colour scale ends; a uniform map lies in its middle."""
    return max(2.0, float(np.percentile(_relative(density), 99.5)))


def _draw_scale(draw: ImageDraw.ImageDraw, page: Image.Image, right: int, middle: int, most: float) -> None:
    """The colour scale of the deformation map, flush right at a height."""
    text = f"{most:.1f} x uniform"
    font = _font(13)
    left = right - round(draw.textlength(text, font=font))
    draw.text((left, middle), text, FAINT, font=font, anchor="lm")
    ramp = mpl.colormaps["magma"](np.linspace(0, 1, 110))[None, :, :3].repeat(10, axis=0)
    page.paste(Image.fromarray(np.rint(ramp * 255).astype(np.uint8)), (left - 118, middle - 5))
    draw.text((left - 124, middle), "0", FAINT, font=font, anchor="rm")


def _legend_lines(
    entries: Sequence[tuple[str, tuple[int, int, int]]], width_px: int
) -> list[list[tuple[int, str, tuple[int, int, int]]]]:
    """Left edge, name and colour of each entry, broken into lines."""
    lines: list[list[tuple[int, str, tuple[int, int, int]]]] = [[]]
    left = MARGIN_PX
    for name, colour in entries:
        width = _entry_width(name)
        if left + width > width_px and lines[-1]:
            lines.append([])
            left = MARGIN_PX
        lines[-1].append((left, name, colour))
        left += width
    return lines


def _entry_width(name: str) -> int:
    """Width of a legend's entry with the gap after it, px."""
    return int(round(_font(14).getlength(one_line(name)))) + 46


def _draw_legend(
    draw: ImageDraw.ImageDraw, top: int, lines: Sequence[Sequence[tuple[int, str, tuple[int, int, int]]]]
) -> None:
    """Lines of ``_legend_lines`` from a height on."""
    for line in lines:
        for left, name, colour in line:
            draw.rectangle((left, top + 7, left + 15, top + 20), fill=colour, outline=LINE)
            draw.text((left + 22, top + 14), one_line(name), INK, font=_font(14), anchor="lm")
        top += LEGEND_PX


@cache
def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings along: it knows most alphabets, and is the same everywhere."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(mpl.get_data_path()) / "fonts" / "ttf" / name, size_px)
