"""Slides with a tile that is damaged, as bad disks and broken copies leave them."""

from __future__ import annotations

import os
from pathlib import Path

import tifffile

ZEROS = 3000


def zero_tile(path: Path, *, page: int = 0, tile: int = 0, zeros: int = ZEROS) -> Path:
    """Put zeros into the middle of a stored tile, where a JPEG keeps its codes; returns the path."""
    with tifffile.TiffFile(path) as tif:
        offset, count = tif.pages[page].dataoffsets[tile], tif.pages[page].databytecounts[tile]
    assert count > zeros + 700, f"a tile of {count} bytes is too small for {zeros} zeros"
    with path.open("r+b") as file:
        file.seek(offset + (count - zeros) // 2)
        file.write(bytes(zeros))
        file.flush()
        os.fsync(file.fileno())
    return path
