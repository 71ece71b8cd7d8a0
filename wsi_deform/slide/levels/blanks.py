"""Tiles that cannot be decoded, left out where the user says so: white instead of their pixels, and remembered."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import tile_region
from wsi_deform.slide.colour import filled
from wsi_deform.slide.levels.mending import mean_tile
from wsi_deform.slide.reader import Address, BadTileError, Reader, TilesReader, tiles_of

log = logging.getLogger(__name__)

NONE: frozenset[Address] = frozenset()


class BlankingReader:
    """A reader that never raises ``BadTileError``; implements ``Reader``.

    A tile of a coarse level is made anew from the finer level below it; one of level 0 is of the background's colour.

    Attributes:
        reader: The reader whose tiles are served.
        info: Its info.
    """

    def __init__(self, reader: Reader, name: str) -> None:
        """Wrap a reader of the slide of that name."""
        self.reader, self.info, self._name = reader, reader.info, name
        # Each tile that could not be decoded -> itself, or tiles that could not be when it was made anew of them.
        self._lacking: dict[Address, frozenset[Address]] = {}

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile, (H, W, 3) uint8, or what takes its place; see ``Reader``."""
        if (level, column, row) not in self._lacking:
            try:
                return self.reader.read_tile(level, column, row)
            except BadTileError as error:
                self._note((level, column, row), error)
        return self._instead(level, column, row)

    @property
    def reads_ahead(self) -> bool:
        """Whether the wrapped reader does."""
        return isinstance(self.reader, TilesReader) and self.reader.reads_ahead

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        """Read several tiles, each (H, W, 3) uint8, or what takes their place; see ``TilesReader``."""
        left = list(tiles)
        while left:
            try:
                for pixels in tiles_of(self.reader, left):
                    yield pixels
                    del left[0]
            except BadTileError as error:
                self._note(left[0], error)
                yield self._instead(*left.pop(0))

    def close(self) -> None:
        """Close the wrapped reader."""
        self.reader.close()

    @property
    def unreadable(self) -> frozenset[Address]:
        """All tiles that could not be decoded so far."""
        return frozenset(self._lacking)

    def met(self, tiles: Iterable[Address]) -> frozenset[Address]:
        """Those of some tiles that could not be decoded, and finer ones that could not be used for them."""
        return NONE.union(*({tile} | self._lacking[tile] for tile in tiles if tile in self._lacking))

    def is_blank(self, tile: Address) -> bool:
        """Whether white is served for a tile that could not be decoded; else it was made anew."""
        return tile in self._lacking[tile]

    def _note(self, tile: Address, error: BadTileError) -> None:
        log.warning("%s (left out)", error)
        self._lacking[tile] = frozenset([tile])

    def _instead(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        found = self.info.levels[level]
        place = tile_region(column, row, found.tile, found.size)
        if level == 0:
            return filled(place.height, place.width, self.info.background)
        below = _Below(self)
        pixels = mean_tile(below, level, place)
        self._lacking[level, column, row] = self.met(below.read)
        return pixels


class _Below:
    """The reader of a finer level, with a note of the tiles that were asked for."""

    def __init__(self, reader: BlankingReader) -> None:
        self.reader, self.info = reader, reader.info
        self.read: list[Address] = []

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        self.read.append((level, column, row))
        return self.reader.read_tile(level, column, row)

    def close(self) -> None:
        """Nothing of its own to release."""
