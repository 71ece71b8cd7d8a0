"""Coarse levels that a file does not store: in memory, in a sidecar file, or computed tile by tile."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import tile_region
from wsi_deform.slide.cache import PICTURES
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.declared import check_buildable
from wsi_deform.slide.levels.blanks import NONE, BlankingReader
from wsi_deform.slide.levels.box_means import box_mean_tile, coarse_levels, stream_box_means
from wsi_deform.slide.levels.build_progress import build_progress
from wsi_deform.slide.levels.mending import mended
from wsi_deform.slide.levels.sidecar import Sidecar, first_level_within, kept_from, sidecar_path
from wsi_deform.slide.reader import (
    Address,
    BadTileError,
    Level,
    Reader,
    SlideInfo,
    TilesReader,
    is_picture,
    tiles_of,
)

log = logging.getLogger(__name__)
_TOKENS = itertools.count()

# The coarse levels stay in memory where the coarsest stored level has at most this many decoded bytes; larger
# ones go to a sidecar.
MAX_DECODED_BYTES = 100_000_000


class VirtualReader:
    """A reader with coarse levels appended, and the stored ones made whole; implements ``Reader``.

    Attributes:
        reader: The reader of the stored levels.
        append: Whether missing levels are appended.
        stored_levels: Number of levels that the file stores; those from here on are virtual.
        in_memory: Whether the virtual levels are small enough to be built in memory.
        stays_in_memory: Whether they stay there once they are built, so that their tiles need no other cache. Those of
            a plain image go when a study has more of them than fit a limit.

    Convention:
        A pixel of the k-th virtual level is the mean over the ``2**k x 2**k`` pixels of the coarsest stored
        level below it, rounded to the nearest whole number, ties up; at the right and bottom edge over those
        that exist. Its downsample is the stored level's times ``2**k``.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        append: bool = True,
        key: Callable[[], str] | None = None,
        name: str = "slide",
        blank: bool = False,
    ) -> None:
        """Append the levels that are missing, unless told not to; reads no pixels yet.

        Args:
            reader: The reader of the stored levels.
            append: Whether to append levels.
            key: Names the slide's version when a sidecar is wanted; None makes sidecars that are not shared.
            name: The slide, for messages.
            blank: Whether tiles that cannot be decoded are left out, see ``BlankingReader``.
        """
        self.reader = reader
        # Where tiles are left out, that also makes those of coarse levels anew.
        self._whole = reader if blank else mended(reader)
        self._counted = CountingReader(self._whole)
        self._blanking = BlankingReader(self._counted, name) if blank else None
        self._served: Reader = self._blanking or self._counted
        self.append = append
        self.stored_levels = len(reader.info.levels)
        stored = reader.info
        self._coarse = coarse_levels(stored.levels[-1]) if append else ()
        self.in_memory = stored.levels[-1].size.area * 3 <= MAX_DECODED_BYTES
        if self._coarse:
            check_buildable(stored.levels[-1], name)
        self._stored_info: SlideInfo | None = None
        self._info = stored
        self._key, self._name = key, name
        self._lock = threading.Lock()
        self._built: Sidecar | _Held | None = None
        # Of a study's many plain images only so many levels stay in memory as fit a limit.
        self._is_picture = self.in_memory and is_picture(reader)
        self.stays_in_memory = self.in_memory and not self._is_picture
        self._token = next(_TOKENS)

    @property
    def info(self) -> SlideInfo:
        """The stored levels' info, with the virtual levels appended; remarks may come as tiles are read."""
        stored = self._whole.info
        if stored is not self._stored_info:
            self._info = dataclasses.replace(stored, levels=stored.levels + self._coarse)
            self._stored_info = stored
        return self._info

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile, (H, W, 3) uint8, from the file, the sidecar or memory; see ``Reader``."""
        if level < self.stored_levels:
            return self._served.read_tile(level, column, row)
        if level >= len(self.info.levels):
            raise SlideError(f"level {level} wanted, levels 0 to {len(self.info.levels) - 1} exist.")
        found = self.info.levels[level]
        region = tile_region(column, row, found.tile, found.size)
        if column < 0 or row < 0 or region.is_empty:
            raise SlideError(
                f"tile (column {column}, row {row}) of level {level} wanted; the level has {found.size} px."
            )
        number = level - self.stored_levels
        if self._is_picture:
            return self._picture_levels()[number][region.y : region.bottom, region.x : region.right].copy()
        built = self._levels()
        if number >= built.first:
            return built.read_tile(number, column, row)
        return box_mean_tile(self._served, self.stored_levels - 1, found, 2 << number, column, row)

    @property
    def will_build(self) -> bool:
        """Whether the first read of a virtual level reads all of the coarsest stored one, too large to be held.

        Not where that is done: in this process, or, of files that others can name, in an earlier one.
        """
        if not self._coarse or self.in_memory or self._built is not None:
            return False
        first = kept_from(self._coarse)
        return self._key is None or first is None or not sidecar_path(self._key(), first).exists()

    @property
    def decoded_bytes(self) -> int:
        """Bytes of all tiles of the file that were decoded through this reader."""
        return self._counted.total_bytes

    def unreadable(self, tiles: Iterable[Address]) -> frozenset[Address]:
        """Tiles of the file that could not be decoded for some tiles; none where that raises."""
        if self._blanking is None:
            return NONE
        # A virtual level is built of the coarsest stored one, most often of all of it at once.
        asked = [tile if tile[0] < self.stored_levels else None for tile in tiles]
        if None in asked:
            coarsest = self.stored_levels - 1
            asked += [tile for tile in self._blanking.unreadable if tile[0] == coarsest]
        return self._blanking.met(tile for tile in asked if tile is not None)

    def is_blank(self, tile: Address) -> bool:
        """Whether white is served for one of the ``unreadable`` tiles; else it was made anew of a finer level."""
        return self._blanking is not None and self._blanking.is_blank(tile)

    @property
    def reads_ahead(self) -> bool:
        """Whether the stored levels' reader does."""
        return isinstance(self.reader, TilesReader) and self.reader.reads_ahead

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        """Read several tiles, each (H, W, 3) uint8, in the stored reader's best way; see ``TilesReader``."""
        for is_stored, some in groupby(tiles, key=lambda tile: tile[0] < self.stored_levels):
            if is_stored:
                yield from tiles_of(self._served, list(some))
            else:
                yield from (self.read_tile(*tile) for tile in some)

    def close(self) -> None:
        """Close the stored levels' reader."""
        self.reader.close()

    def _picture_levels(self) -> list[NDArray[np.uint8]]:
        """The virtual levels of a plain image, (H, W, 3) each."""
        sizes = [level.size for level in self._coarse]
        ends = np.cumsum([0, *(3 * size.area for size in sizes)]).tolist()

        def built() -> NDArray[np.uint8]:
            held = np.empty(ends[-1], np.uint8)

            def put(number: int, column: int, row: int, pixels: NDArray[np.uint8]) -> None:
                tile, size = self._coarse[number].tile, sizes[number]
                whole = held[ends[number] : ends[number + 1]].reshape(*size.shape, 3)
                place = tile_region(column, row, tile, size)
                whole[place.y : place.bottom, place.x : place.right] = pixels

            stream_box_means(self.reader, self.stored_levels - 1, self._coarse, put)
            return held

        with self._lock:
            held = PICTURES.get(self._token, built)
        return [
            held[start:end].reshape(*size.shape, 3)
            for size, start, end in zip(sizes, ends[:-1], ends[1:], strict=True)
        ]

    def _levels(self) -> Sidecar | _Held:
        built = self._built
        if built is None:
            with self._lock:
                built = self._built
                if built is None:
                    built = self._built = self._build()
        return built

    def _build(self) -> Sidecar | _Held:
        coarsest = self.stored_levels - 1
        if self.in_memory:
            return _Held(self._served, coarsest, self._coarse, first=0, name=None)
        try:
            key = None if self._key is None else self._key()
            try:
                return Sidecar(self._counted, coarsest, self._coarse, key=key, name=self._name)
            except BadTileError:
                if self._blanking is None:
                    raise
            # With white where pixels are missing it is of no use to anybody else.
            return Sidecar(self._blanking, coarsest, self._coarse, key=None, name=self._name)
        except OSError as error:
            first = first_level_within(self._coarse, MAX_DECODED_BYTES)
            first = len(self._coarse) - 1 if first is None else first
            log.warning(
                "%s: no sidecar can be kept (%s). Its finest %d missing levels are computed for each tile, the "
                "others kept in memory: slower, and not kept for the next run. Set WSI_DEFORM_CACHE to a "
                "folder with room.",
                self._name,
                error,
                first,
            )
            return _Held(self._served, coarsest, self._coarse, first=first, name=self._name)


class _Held:
    """Coarse levels in memory, from the ``first`` on; a ``name`` says whose progress to report."""

    def __init__(
        self, reader: Reader, stored: int, levels: Sequence[Level], *, first: int, name: str | None
    ) -> None:
        self.first = first
        self._tiles: dict[Address, NDArray[np.uint8]] = {}
        with nullcontext() if name is None else build_progress(name) as on_row:
            stream_box_means(reader, stored, levels, self._keep, on_row=on_row)

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        return self._tiles[level, column, row]

    def _keep(self, level: int, column: int, row: int, pixels: NDArray[np.uint8]) -> None:
        if level >= self.first:
            kept = pixels.copy()
            kept.setflags(write=False)
            self._tiles[level, column, row] = kept
