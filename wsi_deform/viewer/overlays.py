"""Masks and maps as tiles of colours: nearest pixel, PNG with a palette, clear where nothing is to be shown."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import Colour
from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.footprint import STEPS_PER_UM
from wsi_deform.slide.tiff.tiles import TiffTiles
from wsi_deform.viewer.frame import Frame

# um per sample at both ends of the colours of footprint maps, which follow its logarithm.
FINEST_UM, COARSEST_UM = 0.5, 512.0
# From looked at closely to hardly looked at: one hue scale of rising lightness, which colour-blind readers see alike.
FOOTPRINT_STOPS: tuple[Colour, ...] = (
    (0, 34, 78),
    (67, 78, 108),
    (125, 124, 120),
    (188, 175, 111),
    (254, 232, 56),
)


class LabelPyramid:
    """A mask or a map of a slide, by pixels of the slide.

    Attributes:
        path: The file.
        slide_size: The slide, level-0 px; of a mask its own size.
        channels: Number of channels.
    """

    def __init__(self, path: Path, *, slide_size: Size | None = None, dtype: str = "uint8") -> None:
        """Open one; no pixels are read.

        Args:
            path: What ``write_pyramid`` wrote.
            slide_size: Of the slide of a map, whose pixels stand for 2^n level-0 px; None for a mask.
            dtype: What its pixels must be.

        Raises:
            SlideError: It cannot be read.
            MaskError: It is no mask, or no map of such a slide.
        """
        self._tiles = TiffTiles(path)
        self.path, self.channels = path, self._tiles.channels
        self.slide_size = self._tiles.size if slide_size is None else slide_size
        if self._tiles.dtype != np.dtype(dtype) or (slide_size is None and self.channels != 1):
            raise MaskError(
                f"{path}: pixels of {self._tiles.dtype}, {self.channels} channels. Needed {dtype}, as wsi-deform "
                "writes them. Segment the slide again."
            )
        self._step = _downsample(self.slide_size, self._tiles.size, path)

    def tile(self, frame: Frame, step: int, column: int, row: int) -> NDArray[Any]:
        """The pixels of a tile.

        Returns:
            (H, W, channels), each the pixel at the centre of the tile's, of the coarsest level that is not coarser.

        Raises:
            ShapeError: There is no such tile.
            SlideError: The file cannot be read there.
        """
        scale = min(frame.scale(step).x, frame.scale(step).y)
        steps = [self._step * level.downsample.x for level in self._tiles.levels]
        number = max((index for index, each in enumerate(steps) if each <= scale * 1.01), default=0)
        x, y = frame.centres(step, frame.tile(step, column, row))
        size = self._tiles.levels[number].size
        columns = np.minimum((x / steps[number]).astype(np.intp), size.width - 1)
        rows = np.minimum((y / steps[number]).astype(np.intp), size.height - 1)
        left, top = int(columns[0]), int(rows[0])
        held = Region(left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top)
        pixels = self._tiles.read_region(number, held)
        if held.size.shape == (len(rows), len(columns)):
            return pixels
        picked: NDArray[Any] = pixels[(rows - top)[:, None], columns - left]
        return picked


def class_png(labels: NDArray[np.uint8], colours: Sequence[Colour], shown: int) -> bytes:
    """Labels in the colours of their classes.

    Args:
        labels: (H, W).
        colours: RGB of each class.
        shown: Bit c says whether class c is shown; what is not, and 255 (unlabelled), is clear.

    Returns:
        A PNG file.
    """
    alpha = bytes(255 if number < len(colours) and shown >> number & 1 else 0 for number in range(256))
    return _png(labels, [*colours], alpha)


def probability_png(probabilities: NDArray[np.uint8], colour: Colour) -> bytes:
    """Probabilities of a class, (H, W) of 0 to 255, as its colour: the surer, the less clear; a PNG file."""
    return _png(probabilities, [colour] * 256, bytes(range(256)))


def footprint_png(tenths: NDArray[np.uint16]) -> bytes:
    """A footprint map, (H, W) tenths of um, from ``FINEST_UM`` to ``COARSEST_UM``; clear where nobody looked."""
    return _png(_FOOTPRINT_INDEX[tenths], _footprint_colours(), bytes([0]) + bytes([255]) * 255)


def _downsample(slide_size: Size, size: Size, path: Path) -> int:
    """Level-0 px per px of the finest level, a power of two."""
    for bits in range(32):
        if (-(-slide_size.width >> bits), -(-slide_size.height >> bits)) == (size.width, size.height):
            return 1 << bits
    raise MaskError(
        f"{path}: {size} px. Needed those of a slide of {slide_size} px, halved some times. Segment the slide again."
    )


def _png(values: NDArray[np.uint8], colours: Sequence[Colour], alpha: bytes) -> bytes:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(values))
    palette = bytes(part for colour in colours[:256] for part in colour)
    picture.putpalette(palette + bytes(768 - len(palette)))
    file = BytesIO()
    picture.save(file, format="PNG", transparency=alpha, compress_level=1)
    return file.getvalue()


def _footprint_index() -> NDArray[np.uint8]:
    um = np.maximum(np.arange(1 << 16), 1) / STEPS_PER_UM
    place = np.log2(um / FINEST_UM) / np.log2(COARSEST_UM / FINEST_UM)
    index: NDArray[np.uint8] = 1 + np.rint(254 * np.clip(place, 0, 1)).astype(np.uint8)
    index[0] = 0
    return index


def _footprint_colours() -> list[Colour]:
    """Of index 1 to 255, between the stops; index 0 is not seen."""
    stops = np.asarray(FOOTPRINT_STOPS, float)
    at = np.linspace(0, 1, 255)
    parts = [np.interp(at, np.linspace(0, 1, len(stops)), stops[:, part]) for part in range(3)]
    mixed = np.rint(np.stack(parts, axis=1)).astype(int)
    return [(0, 0, 0), *((int(red), int(green), int(blue)) for red, green, blue in mixed)]


_FOOTPRINT_INDEX = _footprint_index()
