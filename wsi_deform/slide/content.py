"""Whether two files hold the same, told without reading gigapixel files whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wsi_deform.errors import SlideError
from wsi_deform.slide.identity import TilesOf, companions_of, content_of, pixels_of
from wsi_deform.slide.path import SlidePath, file_of
from wsi_deform.slide.reader import Level

COMPARED_PLACES, COMPARED_BYTES = 1 << 10, 1 << 14


def slide_content(path: SlidePath, stored: Sequence[Level], tiles: TilesOf) -> str:
    """A name that slides with the same pixels share, wherever they lie.

    Args:
        path: A file, folder or URL.
        stored: The levels that it stores.
        tiles: Reads tiles of them.

    Returns:
        Of a file alone, ``file_content``; of a folder, of several files and of a URL, a hash of the sizes of the levels
        and of some tiles of the coarsest one. Of one of several images in a file, also its name.

    Raises:
        SlideError: It cannot be read.
    """
    file, image = file_of(path)
    if isinstance(file, Path) and file.is_file() and not companions_of(file):
        return f"{file_content(file)}{image}"
    said = json.dumps([*pixels_of(stored, tiles), image])
    return f"pixels {hashlib.sha256(said.encode()).hexdigest()[:40]}"


def file_content(path: Path) -> str:
    """Size of a file and a hash of some of its bytes: 64 KiB at both ends, its index if a TIFF's, 16 places between.

    Raises:
        SlideError: It cannot be read.
    """
    try:
        size = path.stat().st_size
        return f"{size} bytes {content_of(path, size)}"
    except OSError as error:
        raise SlideError(
            f"{path}: cannot be read ({error.strerror}). Check the path and its rights."
        ) from error


def hold_the_same(one: Path, other: Path) -> bool:
    """Whether two files of the same ``file_content`` hold the same bytes.

    Args:
        one: A file.
        other: Another one.

    Returns:
        True where all bytes are equal, up to 16 MiB; of larger files those at 1,024 places of 16 KiB.

    Raises:
        SlideError: One cannot be read.
    """
    try:
        with one.open("rb") as first, other.open("rb") as second:
            size = one.stat().st_size
            if size != other.stat().st_size:
                return False
            last = max(0, size - COMPARED_BYTES)
            places = min(COMPARED_PLACES, -(-size // COMPARED_BYTES))
            for offset in np.linspace(0, last, places).astype(np.int64).tolist():
                first.seek(offset)
                second.seek(offset)
                if first.read(COMPARED_BYTES) != second.read(COMPARED_BYTES):
                    return False
    except OSError as error:
        raise SlideError(
            f"{one} and {other}: cannot be compared ({error.strerror}). Check their rights."
        ) from error
    return True
