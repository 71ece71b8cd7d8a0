"""Indexed outlines that this process keeps, so that a file is parsed once for all who open it."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable

from wsi_deform.annotation.outlines.raster import OutlineRaster

HELD_BYTES = 512 << 20


class OutlineCache:
    """Least recently used ones go first; the newest stays, whatever its size. Safe in threads.

    Attributes:
        limit_bytes: Bytes that may be held.
    """

    def __init__(self, limit_bytes: int = HELD_BYTES) -> None:
        """Make an empty cache."""
        self.limit_bytes = limit_bytes
        self.forget()

    @property
    def held_bytes(self) -> int:
        """Bytes that are held now."""
        return self._held_bytes

    def forget(self) -> None:
        """Drop everything; a forked child too, whose lock a thread that it does not have may hold."""
        self._lock = threading.Lock()
        self._building: dict[Hashable, threading.Lock] = {}
        self._held: OrderedDict[Hashable, OutlineRaster] = OrderedDict()
        self._held_bytes = 0

    def get(self, key: Hashable, build: Callable[[], OutlineRaster]) -> OutlineRaster:
        """The outlines under a key, built when they are not held; threads that want the same wait for one of them."""
        with self._lock:
            building = self._building.setdefault(key, threading.Lock())
        with building:
            with self._lock:
                if key in self._held:
                    self._held.move_to_end(key)
                    return self._held[key]
            built = build()
            with self._lock:
                self._held[key] = built
                self._held_bytes += built.nbytes
                self._shrink()
            return built

    def set_limit(self, limit_bytes: int) -> None:
        """Change the limit; what is beyond it goes at once, but for the newest."""
        with self._lock:
            self.limit_bytes = limit_bytes
            self._shrink()

    def _shrink(self) -> None:
        while self._held_bytes > self.limit_bytes and len(self._held) > 1:
            _, dropped = self._held.popitem(last=False)
            self._held_bytes -= dropped.nbytes


OUTLINE_CACHE = OutlineCache()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=OUTLINE_CACHE.forget)
