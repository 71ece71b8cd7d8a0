"""The file of a sidecar pyramid: zstd tiles of several levels, written in one go, read at their places.

Layout: magic, tiles as they came, table of tiles (offset, bytes, CRC-32 per tile, level by level, row by row),
JSON with the key and the levels, lengths and CRC-32 of both, magic again. A file that was cut off has no end; a
file with flipped bits has wrong sums.

Levels grow side by side, tiles are read at random, and bits that flipped on a disk must not become tissue. Zarr 3
shards take 2.2 times the CPU seconds to write and 6 to read; TIFF is as fast but has no sums, and tifffile writes one
level after the other (525 MB of stained tissue, 2026).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_deform.geometry import tile_grid, tile_region
from wsi_deform.slide.reader import Level
from wsi_deform.slide.source import LocalFile

MAGIC = b"WSIDSC01"
# Bytes of the table and of the JSON, CRC-32 of both, magic.
END = struct.Struct("<QQI8s")
ENTRY = np.dtype([("offset", "<u8"), ("count", "<u4"), ("crc", "<u4")])
# Faster to decode than JPEG, and two fifths of the pixels' bytes on stained tissue; higher levels gain little.
ZSTD_LEVEL = 1
WRITE_THREADS = 2
TILES_WAITING = 16


class DamagedSidecarError(Exception):
    """A sidecar that is cut off, altered, or of another slide: it is built again."""


class SidecarWriter:
    """Writes tiles in any order, then the table; ``put`` compresses in threads."""

    def __init__(self, file: BinaryIO, key: str, levels: Sequence[Level]) -> None:
        """Start a file.

        Args:
            file: Open for writing, empty.
            key: Name of the slide's version, stored and compared when it is read.
            levels: The levels.
        """
        self._file, self._key, self._levels = file, key, tuple(levels)
        self._grids = [tile_grid(level.size, level.tile) for level in levels]
        self._first = np.cumsum([0] + [grid.area for grid in self._grids])
        self._table = np.zeros(self._first[-1], ENTRY)
        self._pool = ThreadPoolExecutor(WRITE_THREADS, thread_name_prefix="sidecar")
        self._waiting: list[tuple[int, Future[tuple[bytes, int]]]] = []
        self._offset = len(MAGIC)
        file.write(MAGIC)

    def put(self, level: int, column: int, row: int, pixels: NDArray[np.uint8]) -> None:
        """Add a tile, (H, W, 3) uint8; its pixels may be reused as soon as this returns."""
        number = int(self._first[level]) + row * self._grids[level].width + column
        self._waiting.append((number, self._pool.submit(_compressed, pixels.tobytes())))
        if len(self._waiting) >= TILES_WAITING:
            self._write_waiting()

    def finish(self) -> None:
        """Write what is waiting, the table and the end."""
        self._write_waiting()
        table = self._table.tobytes()
        about = json.dumps({"key": self._key, "levels": _described(self._levels)}).encode()
        self._file.write(table + about)
        self._file.write(END.pack(len(table), len(about), zlib.crc32(about, zlib.crc32(table)), MAGIC))
        self._file.flush()

    def stop(self) -> None:
        """Stop the threads, whether finished or not."""
        self._pool.shutdown(cancel_futures=True)

    def _write_waiting(self) -> None:
        for number, future in self._waiting:
            stored, crc = future.result()
            self._file.write(stored)
            self._table[number] = (self._offset, len(stored), crc)
            self._offset += len(stored)
        self._waiting.clear()


class SidecarFile:
    """An open sidecar. Safe in threads and after fork.

    Attributes:
        source: Its bytes; stay readable when the file is removed.
        levels: Its levels.
    """

    def __init__(self, source: LocalFile, key: str, levels: Sequence[Level]) -> None:
        """Read the table.

        Args:
            source: The file.
            key: The key that it must have.
            levels: The levels that it must have.

        Raises:
            DamagedSidecarError: It is not a whole sidecar of this slide.
            SlideError: It cannot be read.
        """
        self.source = source
        self.levels = tuple(levels)
        size = source.size_bytes
        end = source.read(max(0, size - END.size), END.size)
        if len(end) < END.size or source.read(0, len(MAGIC)) != MAGIC:
            raise DamagedSidecarError("cut off")
        table_bytes, about_bytes, crc, magic = END.unpack(end)
        if magic != MAGIC or table_bytes + about_bytes + END.size + len(MAGIC) > size:
            raise DamagedSidecarError("no end")
        both = source.read(size - END.size - about_bytes - table_bytes, table_bytes + about_bytes)
        if zlib.crc32(both) != crc:
            raise DamagedSidecarError("table altered")
        about = json.loads(both[table_bytes:])
        if about != {"key": key, "levels": _described(levels)}:
            raise DamagedSidecarError("of another slide")
        self._table = np.frombuffer(both[:table_bytes], ENTRY)
        self._grids = [tile_grid(level.size, level.tile) for level in levels]
        self._first = np.cumsum([0] + [grid.area for grid in self._grids])

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile.

        Returns:
            (h, w, 3), clipped at the slide's edge.

        Raises:
            DamagedSidecarError: Its bytes are not those that were written.
        """
        entry = self._table[int(self._first[level]) + row * self._grids[level].width + column]
        stored = self.source.read(int(entry["offset"]), int(entry["count"]))
        if zlib.crc32(stored) != int(entry["crc"]) or not stored:
            raise DamagedSidecarError(f"tile (column {column}, row {row}) of level {level} altered")
        place = tile_region(column, row, self.levels[level].tile, self.levels[level].size)
        pixels = np.frombuffer(imagecodecs.zstd_decode(stored), np.uint8)
        return pixels.reshape(place.height, place.width, 3)


def _compressed(pixels: bytes) -> tuple[bytes, int]:
    stored = bytes(imagecodecs.zstd_encode(pixels, ZSTD_LEVEL))
    return stored, zlib.crc32(stored)


def _described(levels: Sequence[Level]) -> list[list[int]]:
    return [[level.size.width, level.size.height, level.tile.width, level.tile.height] for level in levels]
