"""RGB slides in tiled TIFF, SVS and OME-TIFF, read tile by tile without OpenSlide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, tile_region
from wsi_deform.slide.colour import composited, filled, rgb_from_gray, rgb_from_palette
from wsi_deform.slide.mpp.claims import Claim, Scale, scale_from_claims
from wsi_deform.slide.mpp.texts import (
    aperio_entries,
    claims_of_description,
    claims_of_imagej,
    claims_of_ome_xml,
    claims_of_tags,
)
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.reader import Address, Level, SlideInfo
from wsi_deform.slide.source import ByteSource
from wsi_deform.slide.tiff.index import TiffIndex
from wsi_deform.slide.tiff.tiles import TiffTiles

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
JPEG = 7
# Decoders of these turn YCbCr into RGB themselves; any other compression leaves it as stored.
YCBCR_DECODED = {JPEG, 50001, 50002}
APERIO_JPEG2000_YCBCR = 33003


class TiffReader:
    """A slide in a TIFF file; implements ``Reader``.

    Attributes:
        info: Levels, resolution and metadata.
        tiles: The file in its stored pixel type.
    """

    def __init__(self, path: str | Path | ByteSource) -> None:
        """Open a slide.

        Args:
            path: A TIFF, SVS or OME-TIFF: a path, or an open source of bytes.

        Raises:
            SlideError: Not a TIFF, truncated, or its pixels are not 8-bit gray, palette or RGB.
        """
        self.tiles = TiffTiles(path)
        index = self.tiles.index
        _check_pixels(index, self.tiles.path)
        levels = tuple(Level(size=one.size, downsample=one.downsample, tile=one.tile) for one in index.levels)
        scale = _scale(index)
        self.info = SlideInfo(
            levels=levels,
            mpp=scale.mpp,
            mpp_xy=scale.mpp_xy,
            mpp_source=scale.source,
            mpp_remarks=scale.remarks,
            vendor=index.flavour,
            bounds=Region.whole(levels[0].size),
            properties=_properties(index),
            remarks=scale.remarks,
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile as RGB, (H, W, 3) uint8; see ``Reader``. A tile that the writer left out is background."""
        if not self.tiles.has_tile(level, column, row):
            return self._empty(level, column, row)
        return self._rgb(self.tiles.read_tile(level, column, row))

    @property
    def reads_ahead(self) -> bool:
        """Whether the file is far, so that tiles are better read together."""
        return self.tiles.source.is_far

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        """Read several tiles as RGB, each (H, W, 3) uint8, fetched ahead where the file is far; see ``TilesReader``."""
        for tile, pixels in zip(tiles, self.tiles.read_tiles(tiles), strict=True):
            yield self._rgb(pixels) if self.tiles.has_tile(*tile) else self._empty(*tile)

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        self.tiles.close()

    def _empty(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        found = self.tiles.levels[level]
        region = tile_region(column, row, found.tile, found.size)
        return filled(region.height, region.width, self.info.background)

    def _rgb(self, tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
        index = self.tiles.index
        colours = 3 if index.photometric in (RGB, YCBCR) or index.channels == 3 else 1
        pixels = tile[..., :colours]
        if colours == 1:
            if index.photometric == PALETTE and index.colormap is not None:
                pixels = rgb_from_palette(pixels, index.colormap)
            else:
                pixels = rgb_from_gray(255 - pixels if index.photometric == WHITE_IS_ZERO else pixels)
        extra = index.extra_samples[:1]
        if tile.shape[2] > colours and extra in ((1,), (2,)):
            return composited(pixels, tile[..., colours], self.info.background, premultiplied=extra == (1,))
        return np.ascontiguousarray(pixels)


def _check_pixels(index: TiffIndex, path: SlidePath) -> None:
    if index.dtype != np.uint8:
        raise SlideError(
            f"{path}: pixels are {index.dtype}. Needed 8 bits per channel; convert the slide to 8 bits "
            "with the "
            "contrast that you want to see."
        )
    if index.photometric in (RGB, YCBCR):
        fits = index.channels in (3, 4)
    elif index.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        fits = index.channels in (1, 3) or (index.channels == 2 and len(index.extra_samples) == 1)
    else:
        fits = index.photometric == PALETTE and index.channels == 1 and index.colormap is not None
    if not fits:
        raise SlideError(
            f"{path}: {index.channels} channels with photometric interpretation {index.photometric}. "
            "Needed RGB (2), "
            "YCbCr (6), gray (0, 1) or palette (3); convert the slide to RGB."
        )
    ycbcr_stored = index.photometric == YCBCR and index.compression not in YCBCR_DECODED
    if ycbcr_stored or index.compression == APERIO_JPEG2000_YCBCR:
        raise SlideError(
            f"{path}: YCbCr pixels in compression {index.compression} cannot be read directly. Needed JPEG "
            "or WebP; "
            "convert the slide to an RGB or JPEG TIFF."
        )


def _scale(index: TiffIndex) -> Scale:
    """The scale of a slide from all that its TIFF says."""
    claims: list[Claim] = []
    if index.flavour == "ome":
        claims += claims_of_ome_xml(index.description, index.levels[0].size)
    else:
        claims += claims_of_description(index.description)
    if index.resolution is not None:
        x, y, _ = index.resolution
        claims += claims_of_imagej(index.description, x, y)
        claims += claims_of_tags(*index.resolution)
    return scale_from_claims(claims)


def _properties(index: TiffIndex) -> dict[str, str]:
    properties = {"tiff.ImageDescription": index.description} if index.description else {}
    if index.resolution is not None:
        x, y, unit = index.resolution
        properties |= {
            "tiff.XResolution": f"{x:g}",
            "tiff.YResolution": f"{y:g}",
            "tiff.ResolutionUnit": str(unit),
        }
    if index.flavour == "aperio":
        properties |= {f"aperio.{key}": value for key, value in aperio_entries(index.description).items()}
    return properties
