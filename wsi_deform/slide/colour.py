"""From stored pixels to RGB: grayscale, palettes and transparency, one rule for every reader."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def rgb_from_gray(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat one channel three times.

    Args:
        gray: (H, W, 1) or (H, W).

    Returns:
        (H, W, 3).
    """
    plane = gray[..., 0] if gray.ndim == 3 else gray
    return np.repeat(plane[..., None], 3, axis=2)


def rgb_from_palette(index: NDArray[np.uint8], colormap: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Look palette indices up.

    Args:
        index: (H, W, 1).
        colormap: (3, colours), 16 bits per entry as TIFF stores them.

    Returns:
        (H, W, 3).
    """
    table = (colormap >> 8).astype(np.uint8).T
    return np.ascontiguousarray(table[index[..., 0]])


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
