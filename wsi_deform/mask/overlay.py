"""Classes drawn over a thumbnail, for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.kernels.compiled import compiled
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.slide.tiff.tiles import TiffTiles

FILL_ALPHA = 0.35
LINE_ALPHA = 0.9
# Pictures whose short side is longer have outlines of two pixels instead of one.
THIN_BELOW_PX = 256
# Rows of a picture that are worked on at a time.
BAND_ROWS = 128


def label_picture(sampler: ReverseSampler, size: Size) -> NDArray[np.uint8]:
    """The labels of a whole slide in the size of a picture.

    Args:
        sampler: The reverse sampler of the slide.
        size: Size of the picture, px; at most the slide's.

    Returns:
        (size.height, size.width) uint8: the label at the centre of each picture pixel, to half a pixel of the
        coarsest level that is not coarser than the picture.
    """
    downsample = min(sampler.size.width / size.width, sampler.size.height / size.height)
    level = 0
    while 2 ** (level + 1) <= downsample and level + 1 < len(sampler.level_sizes):
        level += 1
    held = sampler.level_sizes[level]
    return _picked(
        size,
        _pixels_at_centres(size.height, sampler.size.height, 2**level, held.height),
        _pixels_at_centres(size.width, sampler.size.width, 2**level, held.width),
        lambda top, height: sampler.region(Region(0, top, held.width, height), level),
    )


def label_picture_of_mask(path: Path, size: Size) -> NDArray[np.uint8]:
    """The labels of a mask file in the size of a picture.

    Args:
        path: A mask that ``write_mask`` wrote.
        size: Size of the picture, px; at most the mask's.

    Returns:
        (size.height, size.width) uint8, as ``label_picture``; only a coarse level is read.
    """
    tiles = TiffTiles(path)
    downsample = min(tiles.size.width / size.width, tiles.size.height / size.height)
    fits = [index for index, level in enumerate(tiles.levels) if level.downsample.x <= max(1.0, downsample)]
    held = tiles.levels[fits[-1]]
    step = 2 ** fits[-1]
    return _picked(
        size,
        _pixels_at_centres(size.height, tiles.size.height, step, held.size.height),
        _pixels_at_centres(size.width, tiles.size.width, step, held.size.width),
        lambda top, height: tiles.read_region(fits[-1], Region(0, top, held.size.width, height))[..., 0],
    )


def overlay(
    picture: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    colours: Sequence[tuple[int, int, int]],
    *,
    background: int | None = None,
) -> NDArray[np.uint8]:
    """Tint a picture with the colours of its classes and draw their outlines.

    Args:
        picture: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8 class indices; indices without a colour (255, unlabelled) are left clear.
        colours: RGB of each class, 0 to 255.
        background: Class that is left clear, or None.

    Returns:
        (H, W, 3) uint8 RGB. The outline of a class is drawn inside it, two pixels wide.

    Raises:
        ShapeError: Picture and labels are not of one size.
    """
    if picture.shape != (*labels.shape, 3):
        raise ShapeError(
            f"picture {picture.shape}, labels {labels.shape}: needed (H, W, 3) and (H, W) of one size."
        )
    drawn = np.empty_like(picture)
    thick = min(labels.shape) > THIN_BELOW_PX
    _draw(
        np.ascontiguousarray(picture),
        np.ascontiguousarray(labels),
        _tints(colours, background),
        _outline(np.ascontiguousarray(labels)),
        thick,
        drawn,
    )
    return drawn


def _tints(colours: Sequence[tuple[int, int, int]], background: int | None) -> NDArray[np.uint8]:
    """What is drawn for each label, inside and on its outline, in each channel, over each value of the picture.

    Returns:
        (256, 2, 3, 256) uint8.
    """
    values = np.arange(256, dtype=np.float32)
    tints = np.empty((256, 2, 3, 256), np.uint8)
    tints[:] = np.arange(256, dtype=np.uint8)
    for label, colour in enumerate(colours):
        if label == background:
            continue
        for line, alpha in enumerate((np.float32(FILL_ALPHA), np.float32(LINE_ALPHA))):
            for channel, value in enumerate(colour):
                tints[label, line, channel] = np.rint((np.float32(value) - values) * alpha + values)
    return tints


@compiled
def _outline(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with another label among their eight neighbours."""
    height, width = labels.shape
    outline = np.zeros((height, width), np.bool_)
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            # Each pair of neighbours once.
            if x + 1 < width and labels[y, x + 1] != label:
                outline[y, x] = outline[y, x + 1] = True
            if y + 1 == height:
                continue
            for other in range(max(0, x - 1), min(width, x + 2)):
                if labels[y + 1, other] != label:
                    outline[y, x] = outline[y + 1, other] = True
    return outline


@compiled
def _draw(
    picture: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    tints: NDArray[np.uint8],
    outline: NDArray[np.bool_],
    thick: bool,
    drawn: NDArray[np.uint8],
) -> None:
    """Look up each pixel; a thick outline has the four neighbours of its pixels too."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            line = outline[y, x]
            if thick and not line:
                line = (
                    (x > 0 and outline[y, x - 1])
                    or (x + 1 < width and outline[y, x + 1])
                    or (y > 0 and outline[y - 1, x])
                    or (y + 1 < height and outline[y + 1, x])
                )
            for channel in range(3):
                drawn[y, x, channel] = tints[labels[y, x], int(line), channel, picture[y, x, channel]]


def _picked(
    size: Size,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    read: Callable[[int, int], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Some rows and columns of a level, of which ``read(top, height)`` gives whole rows, a band at a time."""
    picture = np.empty(size.shape, np.uint8)
    for band in range(0, len(rows), BAND_ROWS):
        wanted = rows[band : band + BAND_ROWS]
        top = int(wanted[0])
        labels = read(top, int(wanted[-1]) + 1 - top)
        picture[band : band + BAND_ROWS] = labels[(wanted - top)[:, None], columns]
    return picture


def _pixels_at_centres(cells: int, length_px: int, level_px: int, count: int) -> NDArray[np.intp]:
    """Level pixel at the centre of each of ``cells`` equal parts of ``length_px`` level-0 px."""
    centres_px = (np.arange(cells) + 0.5) * (length_px / cells)
    return np.minimum((centres_px / level_px).astype(np.intp), count - 1)
