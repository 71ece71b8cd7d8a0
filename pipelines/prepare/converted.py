"""Labels that had to be converted: written once, and known again by what they were made of."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.files import write_aside
from wsi_deform.geometry import Size
from wsi_deform.slide.picture import opened_picture

TILE_PX = 512
BIG_PX = 1 << 31  # more pixels may not fit a classic TIFF, however well they compress
_FORMAT = "labels 1"

logger = logging.getLogger(__name__)


def made_of(*parts: Path | str | int) -> str:
    """A name for what labels are made of: the bytes of files, and texts and numbers that matter.

    Raises:
        AnnotationError: A file cannot be read.
    """
    digest = hashlib.sha256(_FORMAT.encode())
    for part in parts:
        if isinstance(part, Path):
            try:
                with part.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            except OSError as error:
                raise AnnotationError(
                    f"labels {part}: cannot be read ({error.strerror or error}). Needed to convert them. "
                    "Download the file again."
                ) from error
        else:
            digest.update(f"\0{part}".encode())
    return digest.hexdigest()


def write_labels_once(
    path: Path, size: Size, origin: str, bands: Callable[[], Iterator[NDArray[np.uint8]]]
) -> bool:
    """Write labels as a tiled TIFF, unless the file is there and of the same origin.

    Args:
        path: The file, whole or absent; its folder is made.
        size: Of the labels, px.
        origin: What they are made of, see ``made_of``; stored in the file.
        bands: Called where they have to be made: yields (h, width) uint8 from the top on, ``TILE_PX`` rows each and the
            rest in the last one, so that one band is in memory.

    Returns:
        Whether the file was written.
    """
    if _origin_of(path) == origin:
        return False
    with write_aside(path) as aside:
        tifffile.imwrite(
            aside,
            _tiles(bands(), size),
            shape=size.shape,
            dtype=np.uint8,
            tile=(TILE_PX, TILE_PX),
            photometric="minisblack",
            compression="deflate",
            description=f"{_FORMAT} {origin}",
            bigtiff=size.area > BIG_PX,
            metadata=None,
            software=False,
        )
    logger.info("labels %s: written", path)
    return True


def bands_of(labels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The bands of labels that are in memory, (H, W) uint8."""
    for top in range(0, labels.shape[0], TILE_PX):
        yield labels[top : top + TILE_PX]


def read_picture(path: Path) -> NDArray[Any]:
    """The pixels of a small label picture as it stores them, palette indices too.

    Raises:
        AnnotationError: It cannot be read.
    """
    try:
        with opened_picture(path) as picture:
            return np.asarray(picture)
    except SlideError as error:
        raise AnnotationError(f"labels {error}") from error


def _tiles(bands: Iterator[NDArray[np.uint8]], size: Size) -> Iterator[NDArray[np.uint8]]:
    for band in bands:
        padded = np.zeros((TILE_PX, -(-size.width // TILE_PX) * TILE_PX), np.uint8)
        padded[: band.shape[0], : size.width] = band
        for left in range(0, padded.shape[1], TILE_PX):
            yield np.ascontiguousarray(padded[:, left : left + TILE_PX])


def _origin_of(path: Path) -> str | None:
    """What a label file says that it was made of; None where there is none or it cannot be read."""
    if not path.is_file():
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            found = tiff.pages.first.description
    except (OSError, ValueError, tifffile.TiffFileError):
        return None
    return found.removeprefix(f"{_FORMAT} ") if found.startswith(f"{_FORMAT} ") else None
