"""Classes drawn over a thumbnail, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wsi_deform.deform.reverse import ReverseSampler
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.tiff_tiles import TiffTiles

FILL_ALPHA = 0.35
LINE_ALPHA = 0.9


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
    labels = sampler.region(Region.whole(held), level)
    rows = _pixels_at_centres(size.height, sampler.size.height, 2**level, held.height)
    columns = _pixels_at_centres(size.width, sampler.size.width, 2**level, held.width)
    return labels[rows[:, None], columns]


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
    labels = tiles.read_region(fits[-1], Region.whole(held.size))[..., 0]
    step = 2 ** fits[-1]
    rows = _pixels_at_centres(size.height, tiles.size.height, step, held.size.height)
    columns = _pixels_at_centres(size.width, tiles.size.width, step, held.size.width)
    picture: NDArray[np.uint8] = labels[rows[:, None], columns]
    return picture


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
    palette = np.zeros((256, 3), np.float32)
    palette[: len(colours)] = colours
    tinted = np.zeros(256, np.float32)
    tinted[: len(colours)] = 1.0
    if background is not None:
        tinted[background] = 0.0
    # Where the least and the largest label nearby differ, an outline passes.
    outline = ndimage.minimum_filter(labels, 3, mode="nearest") != ndimage.maximum_filter(
        labels, 3, mode="nearest"
    )
    outline = ndimage.binary_dilation(outline, iterations=1) if min(labels.shape) > 256 else outline
    alpha = (tinted[labels] * np.where(outline, LINE_ALPHA, FILL_ALPHA))[..., None]
    blended = picture + alpha * (palette[labels] - picture)
    return np.rint(blended).astype(np.uint8)


def _pixels_at_centres(cells: int, length_px: int, level_px: int, count: int) -> NDArray[np.intp]:
    """Level pixel at the centre of each of ``cells`` equal parts of ``length_px`` level-0 px."""
    centres_px = (np.arange(cells) + 0.5) * (length_px / cells)
    return np.minimum((centres_px / level_px).astype(np.intp), count - 1)
