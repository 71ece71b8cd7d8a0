"""Outlines over a thumbnail, with a legend: for people who check an annotation file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from wsi_deform.annotation.classes import REGION, UNLABELLED, ClassTable
from wsi_deform.annotation.outlines.labels import OutlineLabels
from wsi_deform.annotation.outlines.meanings import with_meanings
from wsi_deform.annotation.outlines.outline import Colour, Outline, OutlineSet
from wsi_deform.drawing.panels import with_legend
from wsi_deform.geometry import Size

FILL_ALPHA = 0.3
REGION_COLOUR, UNLABELLED_COLOUR, ERASED_COLOUR = (0, 0, 0), (120, 120, 120), (213, 60, 40)
LINE_PX = 2


def outline_picture(
    thumbnail: NDArray[np.uint8], found: OutlineSet, labels: OutlineLabels
) -> NDArray[np.uint8]:
    """Draw outlines over a thumbnail of their slide.

    Args:
        thumbnail: (H, W, 3) uint8 RGB of the whole slide.
        found: The outlines as their file gives them.
        labels: The same as labels of the slide.

    Returns:
        (H', W', 3) uint8 RGB: the thumbnail tinted by the label at the centre of each of its pixels, background and
        unlabelled left clear; over it every outline in the colour of its class; below it a legend with the number of
        outlines of each class.

    Raises:
        AnnotationError: The class table does not know a name of the file.
    """
    table = labels.classes
    size = Size(thumbnail.shape[1], thumbnail.shape[0])
    page = Image.fromarray(_tinted(thumbnail, _labels_at(labels, size), table))
    draw = ImageDraw.Draw(page)
    scale = np.array([size.width / labels.slide_size.width, size.height / labels.slide_size.height])
    kept, meanings = with_meanings(found, table)
    for outline, meaning in zip(kept, meanings, strict=True):
        colour = ERASED_COLOUR if outline.erases else _colour_of(meaning, table)
        for ring in outline.rings:
            points = [(float(x), float(y)) for x, y in ring * scale]
            draw.line([*points, points[0]], fill=colour, width=LINE_PX)
    return with_legend(np.asarray(page), _entries(kept, meanings, table, len(found.outlines) - len(kept)))


def _labels_at(labels: OutlineLabels, size: Size) -> NDArray[np.uint8]:
    x = (np.arange(size.width) + 0.5) * (labels.slide_size.width / size.width)
    y = (np.arange(size.height) + 0.5) * (labels.slide_size.height / size.height)
    points_px = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return labels.at_points(points_px).reshape(size.shape)


def _tinted(picture: NDArray[np.uint8], labels: NDArray[np.uint8], table: ClassTable) -> NDArray[np.uint8]:
    palette = np.zeros((256, 3), np.float32)
    palette[: table.count] = table.colours
    alpha = np.zeros(256, np.float32)
    alpha[: table.count] = FILL_ALPHA
    if table.background is not None:
        alpha[table.background] = 0
    weight = alpha[labels][..., None]
    return np.rint(picture * (1 - weight) + palette[labels] * weight).astype(np.uint8)


def _colour_of(meaning: int, table: ClassTable) -> Colour:
    if meaning == REGION:
        return REGION_COLOUR
    return UNLABELLED_COLOUR if meaning == UNLABELLED else table.colours[meaning]


def _entries(
    kept: Sequence[Outline], meanings: Sequence[int], table: ClassTable, ignored: int
) -> list[tuple[str, Colour]]:
    counts = Counter(
        None if outline.erases else meaning for outline, meaning in zip(kept, meanings, strict=True)
    )
    entries = [
        (f"{table.names[index]}: {counts[index]:,}", table.colours[index]) for index in range(table.count)
    ]
    entries = [entry for index, entry in enumerate(entries) if counts[index] or index != table.background]
    more = (
        ("annotated region", REGION_COLOUR, counts[REGION]),
        ("unlabelled", UNLABELLED_COLOUR, counts[UNLABELLED]),
        ("taken away", ERASED_COLOUR, counts[None]),
        ("ignored, not drawn", (255, 255, 255), ignored),
    )
    return [*entries, *((f"{name}: {count:,}", colour) for name, colour, count in more if count)]
