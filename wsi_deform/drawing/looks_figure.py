"""Where several methods looked at a slide, and beside it what they made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawing.figures import (
    LEGEND_COLUMNS,
    LEGEND_IN,
    check_picture,
    class_palette,
    class_patches,
    draw_bar,
    draw_legend,
    draw_points,
    lightened,
    panel_axes,
    patch,
    png_bytes,
    show_picture,
)
from wsi_deform.drawing.levels import level_colours
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size
from wsi_deform.mask.overlay import overlay
from wsi_deform.mask.scale_bar import ScaleBar

WIDE = 2.0
"""Width / height of pictures of which one pair fills a row; of narrower ones several pairs share it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """How a method saw and labelled a slide.

    Attributes:
        labels: (H', W') uint8, its mask of the whole slide, 255 unlabelled.
        how: How much it read, such as "1,024 samples"; written beside its name.
        what: Of the mask, such as "mIoU 0.618"; written beside its name.
        points_px: (N, 2) float64 (x, y) of its samples, slide edge frame, level-0 px.
        levels: (H, W) uint8 in the size of the picture, at which level each place was read, 0 for the coarsest; in
            place of points, which are left out then.
        scales: What a pixel of each level is, the coarsest first, such as "16 um per px".
    """

    labels: NDArray[np.uint8]
    how: str
    what: str
    points_px: NDArray[np.float64]
    levels: NDArray[np.uint8] | None = None
    scales: Sequence[str] = ()


def looks_figure(
    picture: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    looks: Mapping[str, Look],
    classes: ClassTable,
    *,
    size: Size,
    title: str = "slide",
    bar: ScaleBar | None = None,
) -> bytes:
    """Draw the slide beside the truth, and below it, of each method, where it looked beside its mask.

    Args:
        picture: (H, W, 3) uint8 RGB, a thumbnail of the whole slide.
        truth: (H', W') uint8 class indices of the whole slide, 255 unlabelled.
        looks: Method -> what it saw.
        classes: Names and colours; the legend has those that occur in the truth or a mask.
        size: Level-0 size of the slide, px.
        title: Of the picture.
        bar: Drawn below the panels; None draws none.

    Returns:
        PNG bytes. Pictures that are no wider than twice their height have several pairs in a row.

    Raises:
        ShapeError: An array has another shape.
    """
    check_picture(picture)
    for name, labels in {"truth": truth, **{name: each.labels for name, each in looks.items()}}.items():
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ShapeError(f"label map {name}: {labels.dtype} {labels.shape}. Needed (H, W) uint8.")
    aspect = picture.shape[1] / picture.shape[0]
    pairs = max(1, min(1 + len(looks), int(WIDE / aspect)))
    titles = [title, "truth"]
    for name, each in looks.items():
        titles += [f"{name}: {each.how}", f"{name}: {each.what}"]
    scales = max((each.scales for each in looks.values()), key=len, default=())
    handles = class_patches(classes, [truth, *(each.labels for each in looks.values())])
    legend_rows = max(1, -(-len(handles) // LEGEND_COLUMNS))
    figure, panels = panel_axes(
        aspect, titles, rows_below=legend_rows + (bar is not None or bool(scales)), columns=2 * pairs
    )
    palette = class_palette(classes)
    show_picture(panels[0], picture, size)
    show_picture(panels[1], palette[truth], size)
    for each, left, right in zip(looks.values(), panels[2::2], panels[3::2], strict=True):
        if each.levels is None:
            show_picture(left, lightened(picture), size)
            draw_points(figure, left, each.points_px)
        else:
            tinted = overlay(picture, each.levels, level_colours(len(each.scales)), background=0)
            show_picture(left, tinted, size)
        show_picture(right, palette[each.labels], size)
    draw_legend(figure, handles)
    if scales:
        entries = [patch(f"read at {text}", colour) for text, colour in
                   zip(scales, level_colours(len(scales)), strict=True)]  # fmt: skip
        draw_legend(figure, entries, at_right_in=(legend_rows + 0.5) * LEGEND_IN)
    if bar is not None:
        draw_bar(figure, panels[0], bar, rows_below=legend_rows)
    return png_bytes(figure)
