"""A coloured copy of a mask: the colours of the classes in place of the labels, for viewers that show labels black."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.errors import MaskError, SlideError
from wsi_deform.geometry import Mpp
from wsi_deform.mask.bands import constant_tiles, open_mask
from wsi_deform.mask.ome import Channel, image_xml
from wsi_deform.mask.pyramid import write_pyramid
from wsi_deform.reverse.levels import MaskTile
from wsi_deform.slide.tiff.tiles import TiffTiles

WHITE = 255


def write_coloured(
    path: Path, mask: Path, *, classes: ClassTable, mpp: Mpp | None, slide_id: str, threads: int = 1
) -> None:
    """Write the colours of a mask, level by level and tile by tile.

    Args:
        path: The file, by custom ``<slide_id>.tif``. Replaced if it exists; its folder is made.
        mask: The mask file that ``write_mask`` wrote.
        classes: Colours of the classes.
        mpp: Level-0 um per pixel, or None when unknown.
        slide_id: What viewers call the image.
        threads: Number of threads that encode; pixels do not depend on it.

    Raises:
        MaskError: The mask cannot be read, or the file cannot be written; nothing is left behind, and an older file of
            this name stays as it was.

    Convention:
        RGB without loss (Deflate), with the sizes, levels and tiles of the mask: a pixel is the colour of the pixel of
        the mask, at every level. Unlabelled (255), and labels without a class, are white.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    tiles = open_mask(mask)
    try:
        write_pyramid(
            path,
            _label_tiles(tiles),
            sizes=[level.size for level in tiles.levels],
            mpp=mpp,
            description=image_xml(
                slide_id, tiles.size, mpp, {}, channels=[Channel(name="classes")], rgb=True
            ),
            tile_px=tiles.levels[0].tile.width,
            palette=palette_of(classes),
            threads=threads,
        )
    finally:
        tiles.close()


def palette_of(classes: ClassTable) -> NDArray[np.uint8]:
    """(256, 3) uint8, the RGB of each label; white without a class."""
    palette = np.full((256, 3), WHITE, np.uint8)
    palette[: classes.count] = classes.colours
    return palette


def _label_tiles(tiles: TiffTiles) -> Iterator[MaskTile]:
    """All tiles of a mask, those of one label undecoded, as runs of a row."""
    try:
        for level in range(len(tiles.levels)):
            for row, labels in enumerate(constant_tiles(tiles, level)):
                edges = np.flatnonzero(np.diff(labels) != 0) + 1
                for run in np.split(np.arange(len(labels)), edges):
                    first, label = int(run[0]), int(labels[run[0]])
                    if label >= 0:
                        yield MaskTile(level=level, column=first, row=row, label=label, columns=len(run))
                        continue
                    for column in run.tolist():
                        pixels = tiles.read_tile(level, column, row)[..., 0]
                        yield MaskTile(level=level, column=column, row=row, pixels=pixels)
    except SlideError as error:
        raise MaskError(f"mask {error}") from error
