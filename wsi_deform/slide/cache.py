"""One cache of decoded tiles per process, limited in bytes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

import numpy as np
from numpy.typing import NDArray

# The tiles of a few fields, as memory must not grow with a slide's: one of 61,440 px reads 265 tiles with it, and
# 259 with 256 MiB.
DEFAULT_CACHE_BYTES = 32 << 20


class TileCache:
    """Least recently used tiles go first; safe in threads.

    Attributes:
        limit_bytes: Decoded bytes that may be held.
    """

    def __init__(self, limit_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        """Make an empty cache."""
        self.limit_bytes = limit_bytes
        self.forget()

    @property
    def held_bytes(self) -> int:
        """Decoded bytes that are held now."""
        return self._held_bytes

    def forget(self) -> None:
        """Drop everything; a forked child too, whose lock a thread that it does not have may hold."""
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._held_bytes = 0

    def get(self, key: Hashable, read: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The tile under a key, read when it is not held.

        Args:
            key: Slide, level, column and row.
            read: Reads the tile; called outside the lock, so two threads may both read the same tile.

        Returns:
            (H, W, 3), read-only.
        """
        tile = self.held(key)
        if tile is None:
            tile = read()
            self.keep(key, tile)
        return tile

    def held(self, key: Hashable) -> NDArray[np.uint8] | None:
        """The tile under a key, (H, W, 3) and read-only, or None where it is not held."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def keep(self, key: Hashable, tile: NDArray[np.uint8]) -> None:
        """Hold a tile (H, W, 3), or labels (H, W), that was read, while there is room; it becomes read-only."""
        tile.setflags(write=False)
        with self._lock:
            if tile.nbytes <= self.limit_bytes and key not in self._tiles:
                self._tiles[key] = tile
                self._held_bytes += tile.nbytes
                self._shrink()

    def set_limit(self, limit_bytes: int) -> None:
        """Change the limit; tiles beyond it are dropped at once."""
        with self._lock:
            self.limit_bytes = limit_bytes
            self._shrink()

    def make_room(self, nbytes: int) -> None:
        """Drop tiles until so many more bytes fit, so that what is read next is not held on top of them."""
        with self._lock:
            self._shrink(max(0, self.limit_bytes - nbytes))

    def _shrink(self, limit_bytes: int | None = None) -> None:
        limit_bytes = self.limit_bytes if limit_bytes is None else limit_bytes
        while self._held_bytes > limit_bytes:
            _, dropped = self._tiles.popitem(last=False)
            self._held_bytes -= dropped.nbytes


class PictureCache(TileCache):
    """Whole pictures, least recently used first to go; the newest stays, whatever its size."""

    def keep(self, key: Hashable, tile: NDArray[np.uint8]) -> None:
        """Hold a picture that was decoded; it becomes read-only, and older ones go."""
        tile.setflags(write=False)
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = tile
                self._held_bytes += tile.nbytes
                while self._held_bytes > self.limit_bytes and len(self._tiles) > 1:
                    _, dropped = self._tiles.popitem(last=False)
                    self._held_bytes -= dropped.nbytes


TILE_CACHE = TileCache()
PICTURES = PictureCache(512 << 20)
"""Plain images, decoded as a whole, and the coarse levels built of them, of all such slides of this process."""


def set_cache_bytes(limit_bytes: int) -> None:
    """Limit the decoded tiles that this process keeps over all slides; 0 keeps none.

    As many bytes of whole plain images are kept where that is more than ``PICTURES`` holds anyway.
    """
    TILE_CACHE.set_limit(limit_bytes)
    PICTURES.set_limit(max(PICTURES.limit_bytes, limit_bytes))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TILE_CACHE.forget)
    os.register_at_fork(after_in_child=PICTURES.forget)
