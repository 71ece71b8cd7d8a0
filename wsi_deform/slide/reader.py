"""What every reader of a slide file offers: levels, resolution and tiles of pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Point, Region, Size

WHITE = (255, 255, 255)

# Level, column and row of a tile.
Address: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of a slide's pyramid; level 0 is the finest.

    Attributes:
        size: Width and height in pixels of this level.
        downsample: Level-0 pixels per pixel of this level, per axis.
        tile: Size of a tile, in pixels of this level; edge tiles are clipped when read.
    """

    size: Size
    downsample: Point
    tile: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """One of the images in a file or folder: a slide, another one, its macro, its label.

    Attributes:
        name: By which ``FILE::NAME`` picks it; unique in its file.
        size: Of its finest level, px.
        is_chosen: Whether it is the one that is read.
    """

    name: str
    size: Size
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideInfo:
    """Everything about a slide that is known without reading pixels.

    Attributes:
        levels: Finest first, sizes strictly decreasing.
        mpp: Level-0 um per pixel, the side of the square with the area of a pixel; None where the file does not say.
        mpp_xy: Level-0 um per pixel along x and y; where it is not given, ``mpp`` along both.
        mpp_source: Where in the file they come from, for people; empty where nobody said.
        mpp_remarks: Those of ``remarks`` that are about them, and moot where another mpp is given.
        vendor: Who wrote the file, as far as the reader can tell, e.g. "aperio" or "generic-tiff".
        background: RGB colour behind transparent pixels.
        bounds: Level-0 region that viewers show (whole slide except MRXS and friends).
        properties: Metadata of the file as text, for people.
        images: All images that the file or folder holds, in its order; empty where it holds one.
        remarks: What whoever uses the slide should know of how it was read, a sentence each, without its path.
    """

    levels: tuple[Level, ...]
    mpp: float | None
    mpp_xy: Point | None = None
    mpp_source: str = ""
    mpp_remarks: tuple[str, ...] = ()
    vendor: str
    bounds: Region
    background: tuple[int, int, int] = WHITE
    properties: Mapping[str, str] = field(default_factory=dict)
    images: tuple[StoredImage, ...] = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take one mpp for both axes."""
        if self.mpp_xy is None and self.mpp is not None:
            object.__setattr__(self, "mpp_xy", Point(self.mpp, self.mpp))

    @property
    def size(self) -> Size:
        """Size of level 0, px."""
        return self.levels[0].size


class Placed(Protocol):
    """What a level of any file has: where its pixels lie."""

    @property
    def size(self) -> Size:
        """Width and height in pixels of this level."""
        ...

    @property
    def downsample(self) -> Point:
        """Level-0 pixels per pixel of this level, per axis."""
        ...


class BadTileError(SlideError):
    """The bytes of a tile are there and are no pixels: of that tile alone, while others may be sound."""


def bad_tile(path: object, level: int, region: Region, levels: Sequence[Placed], why: str) -> BadTileError:
    """The error for a tile that cannot be decoded.

    Args:
        path: The slide.
        level: Its level.
        region: Where it lies there, px of the level.
        levels: Of the slide.
        why: What is wrong, as it goes on after the tile's name.
    """
    shown = level_0_region(region, levels[level], levels[0])
    return BadTileError(
        f"{path}: tile at ({region.x}, {region.y}) of level {level}, which shows level-0 px {shown.x} to {shown.right} "
        f"across and {shown.y} to {shown.bottom} down, {why}. The file is damaged: copy or download it again."
    )


def level_0_region(region: Region, level: Placed, level_0: Placed) -> Region:
    """The level-0 px that a region of a level shows, whole ones, clipped to the slide."""
    x, y = math.floor(region.x * level.downsample.x), math.floor(region.y * level.downsample.y)
    right = math.ceil(region.right * level.downsample.x)
    bottom = math.ceil(region.bottom * level.downsample.y)
    return Region(x, y, right - x, bottom - y).intersection(Region.whole(level_0.size))


class Reader(Protocol):
    """An open slide file. One reader serves all threads of one process; it is never pickled.

    Convention:
        Tile (column, row) of a level covers pixels ``[column * tile.width, ...)`` of that level.
    """

    info: SlideInfo

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile.

        Args:
            level: Index into ``info.levels``.
            column: Tile column, from 0 at the left edge.
            row: Tile row, from 0 at the top edge.

        Returns:
            (H, W, 3) uint8 RGB, composited on ``info.background``; clipped at the slide's edge.

        Raises:
            SlideError: The tile cannot be read; ``BadTileError`` where it can, and cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        ...


@runtime_checkable
class TilesReader(Protocol):
    """A reader that may read several tiles better than one after the other, as over a network."""

    @property
    def reads_ahead(self) -> bool:
        """Whether it does so for this slide."""
        ...

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        """Read several tiles.

        Args:
            tiles: (level, column, row) of each; may repeat.

        Yields:
            (H, W, 3) uint8 RGB of each, what ``read_tile`` returns, in order.

        Raises:
            SlideError: A tile cannot be read or decoded.
        """
        ...


def is_picture(reader: Reader) -> bool:
    """Whether a reader decodes a plain image as a whole and may let it go, ``is_picture`` of it."""
    return bool(getattr(reader, "is_picture", False))


def tiles_of(reader: Reader, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
    """Read several tiles from any reader, each (H, W, 3) uint8 RGB, in the best way that it has."""
    if isinstance(reader, TilesReader) and reader.reads_ahead:
        return reader.read_tiles(tiles)
    return (reader.read_tile(*tile) for tile in tiles)
