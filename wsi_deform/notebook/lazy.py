"""Slides and masks as dask arrays: a chunk is a tile, read or rendered where and when it is wanted."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size, tile_region
from wsi_deform.slide.slide import Slide

if TYPE_CHECKING:
    from wsi_deform.reverse.sampler import ReverseSampler


def dask_of_slide(slide: Slide, level: int) -> Any:
    """A level of a slide as a dask array whose chunks are the level's tiles.

    Args:
        slide: An open slide. Tasks carry its absolute path or URL and open it where they run.
        level: Index into ``slide.levels``.

    Returns:
        Dask array (H, W, 3) of uint8 RGB.

    Raises:
        ShapeError: There is no such level.
    """
    found = slide.levels[checked_level(slide, level)]
    chunks = (*_chunks(found.size, found.tile), (3,))
    return _lazy(_slide_tile, chunks, slide=_by_absolute_path(slide), level=level)


def dask_of_labels(sampler: ReverseSampler, level: int) -> Any:
    """A level of a mask as a dask array whose chunks are mask tiles, rendered when they are wanted.

    Args:
        sampler: The reverse sampler; the graph holds it once, and workers get a copy.
        level: Index into ``sampler.level_sizes``.

    Returns:
        Dask array (H, W) of uint8 classes.

    Raises:
        ShapeError: There is no such level.
    """
    from dask import delayed

    count = len(sampler.level_sizes)
    if not 0 <= level < count:
        raise ShapeError(f"level {level}: needed 0 to {count - 1} for a mask of {sampler.size} px.")
    tile = Size(sampler.tile_px, sampler.tile_px)
    held = delayed(sampler, name=f"reverse-sampler-{uuid.uuid4().hex}", traverse=False)
    return _lazy(_mask_tile, _chunks(sampler.level_sizes[level], tile), sampler=held, level=level)


def checked_level(slide: Slide, level: int) -> int:
    """The level, where the slide has it.

    Raises:
        ShapeError: There is no such level; negative numbers do not count from the end.
    """
    if not 0 <= level < len(slide.levels):
        raise ShapeError(f"slide {slide.path}: level {level}. Needed 0 to {len(slide.levels) - 1}.")
    return level


def _lazy(of_tile: Any, chunks: tuple[tuple[int, ...], ...], **given: Any) -> Any:
    """A dask array of uint8, a tile a chunk."""
    import dask.array

    # A name of its own: a file that was changed must not be answered from what a scheduler still holds of it.
    name = f"{of_tile.__name__.strip('_')}-{uuid.uuid4().hex}"
    meta = np.empty((0,) * len(chunks), np.uint8)
    return dask.array.map_blocks(of_tile, name=name, chunks=chunks, dtype=np.uint8, meta=meta, **given)


def _slide_tile(*, slide: Slide, level: int, block_id: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A tile of a slide, which is the caller's own: tiles of the cache are read-only."""
    return slide.read_tile(level, block_id[1], block_id[0]).copy()


def _mask_tile(*, sampler: ReverseSampler, level: int, block_id: tuple[int, int]) -> NDArray[np.uint8]:
    """A tile of a mask."""
    tile = Size(sampler.tile_px, sampler.tile_px)
    region: Region = tile_region(block_id[1], block_id[0], tile, sampler.level_sizes[level])
    return sampler.region(region, level)


def _chunks(size: Size, tile: Size) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Heights of the rows and widths of the columns of tiles; the last of each is clipped."""
    rows, columns = (
        tuple(min(step, length - start) for start in range(0, length, step))
        for length, step in ((size.height, tile.height), (size.width, tile.width))
    )
    return rows, columns


def _by_absolute_path(slide: Slide) -> Slide:
    """The slide for workers: they may run in another folder."""
    state = slide.__getstate__()
    path = state["path"]
    if isinstance(path, Path) and "reader" not in state:
        state["path"] = path.absolute()
    there = Slide.__new__(Slide)
    there.__setstate__(state)
    return there
