"""Decoded strips of TIFFs whose strips are too large for tiles: kept, one decoded at a time, limited in bytes."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.limits import STRIP
from wsi_deform.slide.cache import TileCache
from wsi_deform.slide.path import SlidePath

# Strips that decode to more than ``limits.STRIP`` are refused, and no more than this is kept, where no memory limit
# says less.
KEPT_BYTES = int(STRIP.default * STRIP.scale)

STRIP_CACHE = TileCache(KEPT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strips:
    """What the strips of an open file may take.

    Attributes:
        decoded_bytes: Size of all of them, decoded.
        stored_bytes: Size of the largest as it is stored, which is held while it is decoded.
    """

    decoded_bytes: int
    stored_bytes: int


_open: dict[int, Strips] = {}
_decoding = threading.Lock()


def announce_strips(file: object, number: int, strips: Strips) -> None:
    """Count the strips of a file while it lives.

    Args:
        file: The open file.
        number: Its number in keys of the cache.
        strips: What they may take.
    """
    if strips.decoded_bytes:
        if STRIP_CACHE.limit_bytes == KEPT_BYTES < STRIP.value:
            STRIP_CACHE.set_limit(STRIP.value)
        _open[number] = strips
        weakref.finalize(file, forget_strips, number)


def forget_strips(number: int) -> None:
    """Stop counting the strips of a file."""
    _open.pop(number, None)


def strips_to_come_bytes() -> int:
    """Memory that strips of the open files may take beyond what is kept of them already."""
    files = list(_open.values())
    if not files:
        return 0
    most = min(STRIP_CACHE.limit_bytes, sum(strips.decoded_bytes for strips in files))
    return max(0, most - STRIP_CACHE.held_bytes) + max(strips.stored_bytes for strips in files)


def strip_rows(
    key: tuple[int, int, int, int], nbytes: int, read: Callable[[], NDArray[Any]], path: SlidePath
) -> NDArray[Any]:
    """The pixels of a strip, decoded where they are not kept.

    Args:
        key: Number of the file, level, plane and strip.
        nbytes: Its size, decoded.
        read: Decodes it; one thread at a time, after older strips have made room for it.
        path: The file, for messages.

    Returns:
        (rows, width, channels), read-only.

    Raises:
        SlideError: It alone is larger than what the memory limit leaves to strips.
    """
    rows = STRIP_CACHE.held(key)
    if rows is not None:
        return rows
    with _decoding:
        if nbytes > STRIP_CACHE.limit_bytes:
            raise SlideError(
                f"{path}: a strip decodes to {nbytes / 2**20:.0f} MiB and only as a whole; the memory limit leaves "
                f"{STRIP_CACHE.limit_bytes / 2**20:.0f} MiB to strips. Raise --memory-gib, or convert the slide to a "
                "tiled pyramidal TIFF, for example with: vips tiffsave IMAGE SLIDE.tif --tile --pyramid "
                "--compression jpeg"
            )
        rows = STRIP_CACHE.held(key)  # another thread may have decoded it meanwhile
        if rows is None:
            STRIP_CACHE.make_room(nbytes)
            rows = read()
            STRIP_CACHE.keep(key, rows)
    return rows


def _after_fork() -> None:
    """A thread that the child does not have may hold the lock."""
    global _decoding
    _decoding = threading.Lock()
    STRIP_CACHE.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
