"""From stored pixels to RGB: grayscale, palettes and transparency, one rule for every reader."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.errors import SlideError
from wsi_deform.slide.path import SlidePath

# Orientation, in TIFF as in EXIF.
UNTURNED = 1
ORIENTATION_REMARK = (
    "its Orientation is {}; it is read as stored, not turned, and a mask of it has to be so too"
)


def rgb_from_gray(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat one channel three times.

    Args:
        gray: (H, W, 1) or (H, W).

    Returns:
        (H, W, 3).
    """
    plane = gray[..., 0] if gray.ndim == 3 else gray
    return np.repeat(plane[..., None], 3, axis=2)


def black_is_zero(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Stored values of a picture whose 0 is white as viewers and libraries give them, in the same type.

    Args:
        pixels: Unsigned whole numbers.
        bits: Bits of a sample.
    """
    return np.asarray(pixels.dtype.type((1 << bits) - 1) - pixels)


def rgb_from_palette(index: NDArray[np.uint8], colormap: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Look palette indices up.

    Args:
        index: (H, W, 1).
        colormap: (3, colours), 16 bits per entry as TIFF stores them; 8 where none is above 255.

    Returns:
        (H, W, 3).
    """
    # Many writers put 8-bit colours there, as libtiff, libvips and Pillow know.
    table = (colormap >> 8 if colormap.max(initial=0) > 255 else colormap).astype(np.uint8).T
    return np.ascontiguousarray(table[index[..., 0]])


def rgb_from_ycbcr(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Undo the YCbCr of JPEG (full range, BT.601); (H, W, 3) of both."""
    height, width = pixels.shape[:2]
    return np.asarray(Image.frombytes("YCbCr", (width, height), pixels.tobytes()).convert("RGB"))


def eight_bits(pixels: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Bring samples of any depth to 0 to 255, as libvips and Pillow do.

    Args:
        pixels: Whole numbers of any shape.
        bits: How many bits of them are used; what lies above is the largest number.

    Returns:
        The same shape. The upper 8 bits of deeper samples; of shallower ones white is 255.
    """
    if bits > 8:
        shown: NDArray[Any] = np.minimum(pixels >> (bits - 8), 255)
    else:
        most = (1 << bits) - 1
        shown = ((np.arange(256) * 255 + most // 2) // most).clip(0, 255)[pixels]
    return shown.astype(np.uint8)


def check_range(brightest: int, bits: int, path: SlidePath, *, is_zarr: bool = False) -> None:
    """Refuse a deep slide that does not use its range: stained tissue lies on white glass.

    Args:
        brightest: The largest sample that was looked at.
        bits: Bits of a sample.
        path: The file, for messages.
        is_zarr: Whether it is a Zarr, which libvips does not read.

    Raises:
        SlideError: Not even a quarter of the range is used, so that the file must have another one.
    """
    if brightest < 1 << (bits - 2):
        raise SlideError(
            f"{path}: samples of {bits} bits of which none that was looked at is above {brightest}, and the file does "
            f"not say which number is white. Needed a slide that uses its range. {to_8_bit(brightest, is_zarr=is_zarr)}"
        )


def to_8_bit(white: int, *, is_zarr: bool = False) -> str:
    """The command that brings a picture to 8 bits, so that a number becomes white; in words for a Zarr."""
    if is_zarr:
        return f"Write it anew with 8 bits, here so that {white} becomes white: pixels * {255 / max(1, white):.6g}"
    return (
        f"Convert it, here so that {white} becomes white: vips linear IMAGE "
        f"'SLIDE.tif[tile,pyramid,compression=deflate]' {255 / max(1, white):.6g} 0 --uchar"
    )


def packed_to_8_bit(bits: int) -> str:
    """The command that brings samples of an odd number of bits to 8, which libvips does not read."""
    return (
        "Convert it: python -c \"import tifffile; tifffile.imwrite('SLIDE.tif', (tifffile.imread('IMAGE') >> "
        f"{bits - 8}).astype('uint8'), tile=(512, 512), compression='deflate')\""
    )


def range_remark(bits: int, stored_bits: int) -> str:
    """What is said of a deep slide: which range was taken for black to white."""
    said = "its full range" if bits == stored_bits else f"the range of {bits} bits that the file says"
    return f"{stored_bits} bits per channel, of which the upper 8 of {said} are read"


def composited(
    rgb: NDArray[np.uint8],
    alpha: NDArray[np.uint8],
    background: tuple[int, int, int],
    *,
    premultiplied: bool = False,
) -> NDArray[np.uint8]:
    """Lay partly transparent pixels over the background colour.

    Args:
        rgb: (H, W, 3).
        alpha: (H, W), 255 is opaque.
        background: RGB.
        premultiplied: Whether ``rgb`` has been multiplied by alpha already (TIFF's associated alpha).

    Returns:
        (H, W, 3).
    """
    if alpha.min(initial=255) == 255:
        return np.ascontiguousarray(rgb)
    if not alpha.any():
        return filled(alpha.shape[0], alpha.shape[1], background)
    weight = alpha[..., None].astype(np.uint32)
    under = np.asarray(background, np.uint32) * (255 - weight)
    over = rgb.astype(np.uint32) * (255 if premultiplied else weight)
    mixed: NDArray[Any] = np.minimum((over + under + 127) // 255, 255)
    return mixed.astype(np.uint8)


def filled(height: int, width: int, colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """(height, width, 3) of one colour."""
    out = np.empty((height, width, 3), np.uint8)
    out[...] = colour
    return out
