"""A reader around a reader that counts what is read, so that tests and benchmarks can assert it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.slide.reader import Address, Reader, TilesReader, tiles_of


class CountingReader:
    """Counts tiles and decoded bytes per level; implements ``Reader``.

    Safe in threads; a pickled copy starts at zero.

    Attributes:
        reader: The reader whose tiles are served.
        info: Its info.
        tiles: Tiles read per level.
        decoded_bytes: Decoded bytes per level.
    """

    def __init__(self, reader: Reader) -> None:
        """Wrap a reader."""
        self.reader = reader
        self.info = reader.info
        self._lock = threading.Lock()
        self.reset()

    @property
    def total_tiles(self) -> int:
        """Tiles read over all levels."""
        return sum(self.tiles.values())

    @property
    def total_bytes(self) -> int:
        """Decoded bytes over all levels."""
        return sum(self.decoded_bytes.values())

    def reset(self) -> None:
        """Start counting from zero."""
        with self._lock:
            self.tiles: Counter[int] = Counter()
            self.decoded_bytes: Counter[int] = Counter()

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read and count one tile, (H, W, 3) uint8; see ``Reader``."""
        tile = self.reader.read_tile(level, column, row)
        self._count(level, tile)
        return tile

    @property
    def reads_ahead(self) -> bool:
        """Whether the wrapped reader does."""
        return isinstance(self.reader, TilesReader) and self.reader.reads_ahead

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        """Read and count several tiles, each (H, W, 3) uint8; see ``TilesReader``."""
        for (level, _, _), tile in zip(tiles, tiles_of(self.reader, tiles), strict=True):
            self._count(level, tile)
            yield tile

    def close(self) -> None:
        """Close the wrapped reader."""
        self.reader.close()

    def _count(self, level: int, tile: NDArray[np.uint8]) -> None:
        with self._lock:
            self.tiles[level] += 1
            self.decoded_bytes[level] += tile.nbytes

    def __getstate__(self) -> dict[str, Any]:
        return {"reader": self.reader}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["reader"])  # type: ignore[misc]
