"""RGB slides in tiled TIFF, SVS and OME-TIFF, read tile by tile without OpenSlide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, tile_grid, tile_region
from wsi_deform.paths import IMAGE_MARK
from wsi_deform.slide.channels import check_channels
from wsi_deform.slide.choice import other_images
from wsi_deform.slide.colour import (
    check_range,
    composited,
    eight_bits,
    filled,
    packed_to_8_bit,
    range_remark,
    rgb_from_gray,
    rgb_from_palette,
    to_8_bit,
)
from wsi_deform.slide.mpp.claims import Claim, Scale, scale_from_claims
from wsi_deform.slide.mpp.texts import (
    aperio_entries,
    claims_of_description,
    claims_of_imagej,
    claims_of_ome_xml,
    claims_of_tags,
)
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.reader import Address, BadTileError, Level, SlideInfo
from wsi_deform.slide.source import ByteSource
from wsi_deform.slide.tiff.index import TiffIndex
from wsi_deform.slide.tiff.page import BLACK_IS_ZERO, PALETTE, RGB, WHITE_IS_ZERO, YCBCR
from wsi_deform.slide.tiff.tiles import TiffTiles

# Tiles of a slide of more than 8 bits that are looked at, to see whether it uses its range.
LOOKED_AT_TILES = 4


class TiffReader:
    """A slide in a TIFF file; implements ``Reader``.

    Attributes:
        info: Levels, resolution and metadata.
        tiles: The file in its stored pixel type.
    """

    def __init__(self, path: str | Path | ByteSource, asked: str = "") -> None:
        """Open a slide.

        Args:
            path: A TIFF, SVS or OME-TIFF: a path, or an open source of bytes.
            asked: The name of one of its images; empty takes the slide.

        Raises:
            SlideError: Not a TIFF, truncated, no such image, or its pixels are not gray, palette or RGB.
            NotThisReaderError: Its compression is one that another reader may know.
        """
        self.tiles = TiffTiles(path, asked)
        index = self.tiles.index
        try:
            remarks = _check_pixels(index, self.tiles.path)
        except SlideError as error:
            raise SlideError(f"{error}{other_images(index.images)}") from error
        if not self.tiles.levels[0].holds_tiles:
            raise SlideError(
                f"{self.tiles.path}: none of the tiles of its level 0 is stored. Needed pixels. The file was not "
                "written to its end: copy or export it again."
            )
        self._colours = 3 if index.photometric in (RGB, YCBCR) or index.channels == 3 else 1
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
            images=index.images,
            remarks=(*index.remarks, *remarks, *scale.remarks),
        )
        if index.bits > 8 and (brightest := self._brightest()):
            check_range(max(brightest), index.bits, self.tiles.path)

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

    def _brightest(self) -> list[int]:
        """The largest sample of each of some tiles of the coarsest level, spread evenly, as far as they decode."""
        number = len(self.info.levels) - 1
        grid = tile_grid(self.info.levels[number].size, self.info.levels[number].tile)
        places = sorted(set(np.linspace(0, grid.area - 1, LOOKED_AT_TILES).astype(int).tolist()))
        tiles = [(number, place % grid.width, place // grid.width) for place in places]
        found = []
        for tile in tiles:
            with suppress(BadTileError):  # told of when it is read
                found.append(int(self.tiles.read_tile(*tile)[..., : self._colours].max()))
        return found

    def _rgb(self, tile: NDArray[Any]) -> NDArray[np.uint8]:
        index = self.tiles.index
        colours = self._colours
        if index.photometric == PALETTE and index.colormap is not None:
            return rgb_from_palette(tile, index.colormap)
        shown = tile if index.bits == 8 else eight_bits(tile, index.bits)
        pixels = shown[..., :colours]
        if colours == 1:
            pixels = rgb_from_gray(255 - pixels if index.photometric == WHITE_IS_ZERO else pixels)
        extra = index.extra_samples[:1]
        if shown.shape[2] > colours and extra in ((1,), (2,)):
            return composited(pixels, shown[..., colours], self.info.background, premultiplied=extra == (1,))
        return np.ascontiguousarray(pixels)


def _check_pixels(index: TiffIndex, path: SlidePath) -> tuple[str, ...]:
    """Refuse what is no picture of stained tissue; remarks on what is one."""
    is_gray = index.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    has_alpha = index.channels == 2 and index.extra_samples in ((1,), (2,))
    # What is said of channels counts where each is stored by itself: RGB in one page is one channel of three samples.
    said = index.channel_list if len(index.channel_list) in (index.channels, 1 + has_alpha) or is_gray else ()
    remarks: tuple[str, ...] = ()
    # But fluorescence is no picture of stained tissue, however it is stored.
    if is_gray or len(said) > 1 or any(channel.is_fluorescence for channel in index.channel_list):
        said = said or index.channel_list
        remarks = check_channels(path, said, 1 if has_alpha else index.channels)
    if is_gray and index.pages_alike > 1:
        raise SlideError(
            f"{path}: {index.pages_alike} gray pages of one size. Needed to know whether they are red, green and blue, "
            f"focal planes or images. Name one of them (FILE{IMAGE_MARK}0, FILE{IMAGE_MARK}1, ...), or write the slide "
            "as RGB."
        )
    if is_gray:
        is_rgb = index.channels == 3 and index.are_channels_rgb and index.photometric == BLACK_IS_ZERO
        fits = index.channels == 1 or has_alpha or is_rgb
    elif index.photometric in (RGB, YCBCR):
        fits = index.channels in (3, 4)
    else:
        fits = index.photometric == PALETTE and index.channels == 1 and index.colormap is not None
    if not fits:
        raise SlideError(
            f"{path}: {index.channels} channels with photometric interpretation {index.photometric}. Needed RGB (2), "
            "YCbCr (6), gray (0, 1) or palette (3). Write the slide as RGB."
        )
    return (*remarks, *_check_depth(index, path))


def _check_depth(index: TiffIndex, path: SlidePath) -> tuple[str, ...]:
    """Refuse samples that are no whole numbers of up to 16 bits, and gray of more than 8; remarks on deep RGB."""
    is_rgb = index.channels >= 3
    if index.photometric == PALETTE and index.dtype != np.uint8:
        raise SlideError(
            f"{path}: a palette of {index.bits} bits. Needed 8 bits or fewer. Write the slide as 8-bit RGB."
        )
    if index.dtype.kind != "u" or index.dtype.itemsize > (2 if is_rgb else 1):
        white = {"f": 1, "i": (1 << index.bits >> 1) - 1}.get(index.dtype.kind, (1 << index.bits) - 1)
        found = f"{index.dtype}{'' if is_rgb else ' and gray'}"
        remedy = packed_to_8_bit(index.bits) if index.bits % 8 and not index.says_bits else to_8_bit(white)
        raise SlideError(f"{path}: pixels are {found}. Needed 8 bits per channel, or 16 of RGB. {remedy}")
    if index.photometric == PALETTE or index.bits == 8:
        return ()
    if is_rgb and index.bits < 8:
        raise SlideError(
            f"{path}: RGB of {index.bits} bits per channel. Needed 8 or 16. Write the slide as 8-bit RGB."
        )
    return (range_remark(index.bits, 8 * index.dtype.itemsize),) if index.bits > 8 else ()


def _scale(index: TiffIndex) -> Scale:
    """The scale of a slide from all that its TIFF says."""
    claims: list[Claim] = []
    if index.flavour == "ome":
        if index.image_number is not None:
            claims += claims_of_ome_xml(index.description, number=index.image_number)
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
