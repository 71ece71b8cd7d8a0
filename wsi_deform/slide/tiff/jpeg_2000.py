"""Tiles in JPEG 2000 whose tags say YCbCr: whether the codestream has undone that already, only it can say."""

from __future__ import annotations

import struct
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from wsi_deform.slide.colour import rgb_from_ycbcr

# Compressions, without the one that is YCbCr with subsampled chroma, whatever its tags say, and OpenSlide's.
JPEG_2000 = (33004, 33005, 34712)
APERIO_JPEG_2000_YCBCR = 33003

_START = b"\xff\x4f\xff\x51"  # of the codestream, bare or in a JP2 file
_CODING_STYLE, _FIRST_TILE = 0xFF52, 0xFF90


def rgb_from_jpeg_2000(stored: bytes, _segment: int) -> NDArray[Any]:
    """Decode a tile.

    Args:
        stored: Its codestream, bare or in a JP2 file.

    Returns:
        (h, w, channels) RGB. YCbCr is what is stored where the codestream has no component transform of its own;
        with one the decoder gives RGB, whatever the tags of the TIFF say.

    Raises:
        ValueError: No codestream.
        RuntimeError: It cannot be decoded.
    """
    pixels: NDArray[Any] = np.atleast_3d(imagecodecs.jpeg2k_decode(stored))
    if pixels.shape[2] < 3 or pixels.dtype != np.uint8 or has_component_transform(stored):
        return pixels
    return np.concatenate((rgb_from_ycbcr(pixels[..., :3]), pixels[..., 3:]), axis=2)


def has_component_transform(stored: bytes) -> bool:
    """Whether the main header of a codestream says that its components are transformed RGB.

    Raises:
        ValueError: No codestream, or one that is cut off.
    """
    at = stored.find(_START) + 2
    if at < 2:
        raise ValueError("no JPEG 2000 codestream")
    try:
        while True:
            marker, length = struct.unpack_from(">HH", stored, at)
            if marker == _CODING_STYLE:
                # Scod, progression order, layers (2 bytes), component transform.
                return stored[at + 8] != 0
            if marker == _FIRST_TILE:
                return False
            at += 2 + length
    except (struct.error, IndexError) as error:
        raise ValueError("a JPEG 2000 codestream that is cut off") from error
