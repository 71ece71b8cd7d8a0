"""Pictures that Pillow decodes as a whole: their headers are read, and believed within limits, before their pixels."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from wsi_deform.errors import NotThisReaderError, SlideError
from wsi_deform.faults import pass_on_own_fault
from wsi_deform.geometry import Size
from wsi_deform.limits import PICTURE, in_unit
from wsi_deform.slide.declared import (
    ADOBE_DEFLATE,
    MOST_FROM_A_BYTE,
    MOST_FROM_A_JPEG_BYTE,
    REMEDY,
    TooLargeError,
)

AGAIN = " Check the file, copy or export it again."

# What Pillow raises on damaged files; ``pass_on_own_fault`` tells it from mistakes of ours.
PICTURE_ERRORS = (
    OSError, SyntaxError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError,
    MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
MOST_FROM_A_BYTE_OF = {
    "PNG": MOST_FROM_A_BYTE[ADOBE_DEFLATE],
    "JPEG": MOST_FROM_A_JPEG_BYTE,
    "MPO": MOST_FROM_A_JPEG_BYTE,
}
# One channel may be stored in one bit, and decodes to a byte.
BITS_PER_BYTE = 8
_BYTES_OF = {"I": 4, "F": 4}


@contextmanager
def opened_picture(path: Path, *, bands: int = 1) -> Iterator[Image.Image]:
    """Open a picture whose header was checked.

    Args:
        path: PNG, JPEG, BMP or any other image that Pillow knows, but drawings that another program would have to run.
        bands: Channels that it will have, where it has fewer as it is stored.

    Yields:
        The picture; nothing of it is decoded yet.

    Raises:
        NotThisReaderError: It is no picture.
        SlideError: It is damaged (also where the block decodes it), or decodes to more than
            ``limits.PICTURE`` or than its bytes can hold.
    """
    # Pillow takes 89 megapixels for an attack; the check below is ours and says what to do.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, PICTURE.value)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
        with picture:
            _check(picture, path, bands)
            yield picture
    except UnidentifiedImageError as error:
        raise NotThisReaderError(
            f"{path}: not a readable picture (no format that Pillow knows).{AGAIN}"
        ) from error
    except PICTURE_ERRORS as error:
        pass_on_own_fault(error, "PIL")
        raise SlideError(
            f"{path}: not a readable picture ({error or type(error).__name__}). Check the file, copy or export it "
            "again."
        ) from error


def _check(picture: Image.Image, path: Path, least: int) -> None:
    size, bands = Size(*picture.size), len(picture.getbands())
    nbytes = (
        size.area * max(bands, least) * _BYTES_OF.get(picture.mode, 2 if picture.mode.startswith("I;") else 1)
    )
    if picture.format == "EPS":
        raise SlideError(
            f"{path}: a drawing (EPS), not pixels. Needed a picture, such as PNG; export it as one."
        )
    if nbytes > PICTURE.value:
        raise TooLargeError(
            f"{path}: declares {size} px, which decode to {in_unit(nbytes, PICTURE)}. {PICTURE.needed(nbytes)} {REMEDY}"
        )
    stored, most = path.stat().st_size, MOST_FROM_A_BYTE_OF.get(picture.format or "")
    if most is not None and nbytes > most * stored * (BITS_PER_BYTE * least if bands == 1 else 1):
        raise TooLargeError(
            f"{path}: declares {size} px, {nbytes:,} bytes of pixels, in a file of {stored:,} bytes. {picture.format} "
            f"holds at most {most:,} in a byte. The file is damaged: copy or download it again."
        )
