"""Masks on disk: a stream of tiles becomes a pyramidal OME-TIFF that every common reader opens.

Single channel uint8, Deflate tiles, 2x pyramid, physical size in um; `pyramid.py` writes it.

Convention:
    Pixel values are labels. They are never blended: a pixel of a coarse level is a label too. (OpenSlide
    blends levels above 0 by itself where the size of the slide does not divide; its level 0 is exact. libvips
    refuses a tile more than four times as large as the image: 128 x 128 px or less with tiles of 512.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Mpp, Region, Size
from wsi_deform.mask.directories import CLASSIC_LIMIT_BYTES
from wsi_deform.mask.ome import Channel, image_xml
from wsi_deform.mask.pyramid import write_pyramid
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples


def write_nearest_mask(
    path: str | Path,
    *,
    points_px: NDArray[np.float64],
    labels: NDArray[np.uint8],
    size: Size,
    mpp: Mpp | None,
    fields: Sequence[tuple[Region, slice]] | None = None,
    outside_label: int = 0,
    tile_px: int = 512,
    threads: int = 1,
    annotations: Mapping[str, str] | None = None,
) -> None:
    """Write the mask in which every pixel has the label of its nearest sample, with all levels.

    Args:
        path: The mask file, by custom ``<slide_id>.ome.tif``. Replaced if it exists.
        points_px: (N, 2) float64, (x, y), slide edge frame (level-0 px from the slide's top-left edge).
        labels: (N,) uint8.
        size: The slide's level-0 size, px.
        mpp: Level-0 um per pixel, or None when unknown.
        fields: Kept region (level-0 px) and rows of ``points_px`` of each field; kept regions are disjoint.
            Default: one field that keeps the whole slide.
        outside_label: Label of pixels that no field keeps.
        tile_px: Side of a tile, a multiple of 16.
        threads: Number of threads that render and encode; the file does not depend on it.
        annotations: Names and values to store in the file's OME-XML.

    Raises:
        ShapeError: Points, labels, fields or size cannot be used.
        MaskError: The file cannot be written; nothing is left behind.

    Convention:
        See `ReverseSampler`: distance from pixel centres, ties to the lower index.
    """
    parts = [(Region.whole(size), slice(None))] if fields is None else fields
    sampler = ReverseSampler(
        [FieldSamples(kept=kept, points_px=points_px[rows], labels=labels[rows]) for kept, rows in parts],
        size=size,
        outside_label=outside_label,
        tile_px=tile_px,
    )
    write_mask(
        path,
        sampler.tiles(threads=threads),
        size=size,
        mpp=mpp,
        tile_px=tile_px,
        threads=threads,
        annotations=annotations,
    )


def write_mask(
    path: str | Path,
    tiles: Iterable[MaskTile],
    *,
    size: Size,
    mpp: Mpp | None,
    level_count: int | None = None,
    tile_px: int = 512,
    threads: int = 1,
    annotations: Mapping[str, str] | None = None,
    classic_limit_bytes: int = CLASSIC_LIMIT_BYTES,
) -> None:
    """Write a stream of tiles as a pyramidal OME-TIFF, aside first, moved into place when complete.

    Args:
        path: The mask file, by custom ``<slide_id>.ome.tif``. Replaced if it exists; its folder must exist.
        tiles: Every tile of every level once, in any order; read lazily.
        size: Size of level 0, px.
        mpp: Level-0 um per pixel, or None when unknown.
        level_count: Number of levels, from the finest; default until one tile holds the level.
        tile_px: Side of a tile, a multiple of 16.
        threads: Number of threads that encode; the file does not depend on it.
        annotations: Names and values to store in the file's OME-XML.
        classic_limit_bytes: A file that would be larger becomes BigTIFF.

    Raises:
        ShapeError: A setting is out of range.
        MaskError: A tile is missing, given twice, of the wrong shape or outside the mask, or the file cannot
            be written; nothing is left behind, and an older file of this name stays as it was.
    """
    path = Path(path)
    write_pyramid(
        path,
        tiles,
        sizes=mask_levels(path.name, size, tile_px, level_count),
        mpp=mpp,
        description=image_xml(
            path.name.split(".")[0],
            size,
            mpp,
            annotations or {},
            # White: viewers that give a lone channel a colour of their own would show labels darker still.
            channels=[Channel(name="class", colour=(255, 255, 255))],
        ),
        tile_px=tile_px,
        threads=threads,
        classic_limit_bytes=classic_limit_bytes,
    )


def mask_levels(name: str, size: Size, tile_px: int, level_count: int | None) -> tuple[Size, ...]:
    """Sizes of the levels to write, finest first.

    Raises:
        ShapeError: There are not so many, or a tile of this side cannot be written.
    """
    if tile_px < 16 or tile_px % 16:
        raise ShapeError(f"mask {name}: tile_px {tile_px}. TIFF needs a multiple of 16.")
    sizes = pyramid_sizes(size, tile_px)
    if level_count is not None and not 1 <= level_count <= len(sizes):
        raise ShapeError(f"mask {name}: level_count {level_count}. Needed 1 to {len(sizes)} for {size} px.")
    return sizes[:level_count]
