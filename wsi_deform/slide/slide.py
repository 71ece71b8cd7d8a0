"""An open slide: what the rest of the program reads pixels from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Mpp, Point, Region, Size, both_axes, mean_mpp, squared, tile_region
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.colour import filled
from wsi_deform.slide.find import slide_id_of
from wsi_deform.slide.identity import slide_key_of
from wsi_deform.slide.levels.virtual import VirtualReader
from wsi_deform.slide.mpp.claims import Source, given_remarks, pixel_shape
from wsi_deform.slide.path import SlidePath, SlideUrl, slide_path
from wsi_deform.slide.reader import Address, Level, Reader, SlideInfo, level_0_region
from wsi_deform.slide.registry import READERS, new_token
from wsi_deform.slide.resolution import positive_or_none

OnBadTile = Literal["fail", "blank"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blank:
    """A tile that could not be decoded and was left out.

    Attributes:
        tile: Its level, column and row.
        region: The level-0 px that it shows.
    """

    tile: Address
    region: Region


class Slide:
    """A slide that pickles as its path; open one with ``open_slide``.

    File handles live in one registry per process: copies of a slide share them, forked children open their
    own. All methods may be called from any thread.

    Attributes:
        path: The file or folder, or the URL; for a slide made from a reader, its name.
        slide_id: The name of the slide in manifests and outputs.
        tissue_path: A raster file whose pixels above 0 are tissue, or None where tissue is to be found.
        is_cropped: Whether only a part of it is segmented, learned from and measured: ``region``.
    """

    def __init__(
        self,
        path: str | Path | SlideUrl,
        *,
        slide_id: str | None = None,
        mpp: Mpp | None = None,
        tissue_path: Path | None = None,
        region: Region | None = None,
        on_bad_tile: OnBadTile = "fail",
    ) -> None:
        """Name a slide; the file is opened on first use.

        Args:
            path: A slide file, folder or URL.
            slide_id: Its name; None takes the file name without suffixes.
            mpp: um per level-0 pixel that wins over the file's own: one number for both axes, or one for each.
            tissue_path: A raster file whose pixels above 0 are tissue.
            region: The part of it that is segmented, learned from and measured, level-0 px; None is all of it. Its
                frame and its size stay those of the file.
            on_bad_tile: "fail" raises where a tile cannot be decoded; "blank" serves white in its place, and says
                in ``blanks`` where. A copy that went to another process raises: nobody would hear of its blanks.

        Raises:
            SlideError: The mpp is not a positive number.
        """
        self.path: SlidePath = slide_path(path)
        self.slide_id = slide_id_of(self.path) if slide_id is None else slide_id
        self._mpp_given = None if mpp is None else self._checked(mpp)
        self.tissue_path = tissue_path
        self._region = region
        self._on_bad_tile = on_bad_tile
        self._unreadable: set[Address] = set()
        self._own_reader: Reader | None = None
        self._own_key: str | None = None
        self._open: tuple[int, int, VirtualReader] | None = None

    @classmethod
    def from_reader(
        cls,
        reader: Reader,
        *,
        slide_id: str,
        mpp: Mpp | None = None,
        virtual_levels: bool = True,
        key: str | None = None,
        region: Region | None = None,
        on_bad_tile: OnBadTile = "fail",
    ) -> Self:
        """Make a slide from a reader object; it pickles only if the reader does.

        Args:
            reader: Any ``Reader``.
            slide_id: Name of the slide.
            mpp: um per level-0 pixel that wins over the reader's own: one number for both axes, or one for each.
            virtual_levels: Whether missing coarse levels are built, as for files.
            key: Names these very pixels: a sidecar with the coarse levels of a large slide is kept under it for
                other slides and processes with the same key; None builds it for this slide alone.
            region: The part of it that is segmented, level-0 px; None is all of it.
            on_bad_tile: As for a file.

        Returns:
            The slide.
        """
        slide = cls(Path(slide_id), slide_id=slide_id, mpp=mpp, region=region, on_bad_tile=on_bad_tile)
        slide._own(reader, virtual_levels=virtual_levels, key=key)
        return slide

    @property
    def info(self) -> SlideInfo:
        """Everything known without reading pixels; ``info.mpp`` is the file's own."""
        return self._reader()[1].info

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels, finest first, virtual ones included."""
        return self.info.levels

    @property
    def stored_levels(self) -> int:
        """Number of levels in the file; those from here on are built."""
        return self._reader()[1].stored_levels

    @property
    def will_build_levels(self) -> bool:
        """Whether coarse levels that the file lacks are built when they are first read, from all of its pixels."""
        return self._reader()[1].will_build

    @property
    def has_file(self) -> bool:
        """Whether ``path`` is where its pixels lie; a slide made from a reader has a name only."""
        return self._own_reader is None

    @property
    def size(self) -> Size:
        """Size of level 0, px."""
        return self.info.size

    @property
    def is_cropped(self) -> bool:
        """Whether only a part of it is segmented."""
        return self._region is not None

    @property
    def region(self) -> Region:
        """The part that is segmented, learned from and measured, level-0 px; all of it unless one was given.

        Raises:
            SlideError: It is not a part of the slide.
        """
        whole = Region.whole(self.size)
        if self._region is None:
            return whole
        if self._region.is_empty or self._region.intersection(whole) != self._region:
            found = self._region
            raise SlideError(
                f"slide {self.path}: region {found.x} {found.y} {found.width} {found.height} is not inside its "
                f"{self.size} px. Needed x y width height of a part of it, level-0 px. Correct the region column in "
                "its manifest row."
            )
        return self._region

    @property
    def bounds(self) -> Region:
        """Level-0 region that viewers show."""
        return self.info.bounds

    @property
    def mpp_xy(self) -> Point | None:
        """Level-0 um per pixel along x and y: what was given, else the file's own, else None."""
        return self.info.mpp_xy if self._mpp_given is None else self._mpp_given

    @property
    def mpp_source(self) -> str:
        """Where the mpp comes from, for people; empty without one."""
        return self.info.mpp_source if self._mpp_given is None else Source.GIVEN.value

    @property
    def pixel(self) -> Point:
        """Sides of a pixel in sides of the square of its area; (1, 1) within 1 %, and where nobody knows."""
        return pixel_shape(self.mpp_xy)

    def squared(self, size: Size) -> Size:
        """The size that a part of it, level-0 px, has in square pixels of the same area."""
        return squared(size, self.pixel)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What whoever uses the slide should know of how it is read, a sentence each."""
        info = self.info
        if self._mpp_given is None:
            return info.remarks
        kept = tuple(remark for remark in info.remarks if remark not in info.mpp_remarks)
        return kept + given_remarks(self._mpp_given, info.mpp_xy)

    @property
    def mpp_or_none(self) -> float | None:
        """Level-0 um per pixel, or None: the side of the square with the area of a pixel, so that areas are right."""
        found = self.mpp_xy
        return None if found is None else mean_mpp(found)

    @property
    def mpp(self) -> float:
        """Level-0 um per pixel, as ``mpp_or_none``.

        Raises:
            SlideError: Neither an override nor the file has it.
        """
        mpp = self.mpp_or_none
        if mpp is None:
            raise SlideError(
                f"slide {self.path}: no believable microns-per-pixel in the file. Needed to place it at a "
                "physical scale. "
                "Set the mpp column in its manifest row."
            )
        return mpp

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile through the process-wide tile cache.

        Args:
            level: Index into ``levels``.
            column: Tile column.
            row: Tile row.

        Returns:
            (H, W, 3) RGB, read-only, clipped at the slide's edge.

        Raises:
            SlideError: The tile cannot be read.
        """
        token, reader = self._reader()
        if level >= reader.stored_levels and reader.stays_in_memory:
            pixels = reader.read_tile(level, column, row)
        else:
            pixels = TILE_CACHE.get((token, level, column, row), lambda: reader.read_tile(level, column, row))
        self._note_blanks([(level, column, row)])
        return pixels

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        """Read several tiles through the tile cache; from far, many are fetched while others are decoded.

        Args:
            tiles: (level, column, row) of each.

        Yields:
            (H, W, 3) RGB of each, what ``read_tile`` returns, in order.

        Raises:
            SlideError: A tile cannot be read.
        """
        token, reader = self._reader()
        if not reader.reads_ahead:
            for tile in tiles:
                yield self.read_tile(*tile)
            return
        held = [TILE_CACHE.held((token, *tile)) for tile in tiles]
        read = reader.read_tiles([tile for tile, one in zip(tiles, held, strict=True) if one is None])
        for number, tile in enumerate(tiles):
            found, held[number] = held[number], None
            if found is None:
                found = next(read)
                TILE_CACHE.keep((token, *tile), found)
            self._note_blanks([tile])
            yield found

    def read_region(self, level: int, region: Region) -> NDArray[np.uint8]:
        """Read a rectangle of one level.

        Args:
            level: Index into ``levels``.
            region: In pixels of that level; may reach beyond it.

        Returns:
            (region.height, region.width, 3) RGB; background colour outside the level.

        Raises:
            SlideError: A tile cannot be read.
        """
        found = self.info.levels[level]
        inside = region.intersection(Region.whole(found.size))
        if inside == region:
            out = np.empty((region.height, region.width, 3), np.uint8)
        else:
            out = filled(region.height, region.width, self.info.background)
        addresses = [(level, column, row) for column, row in inside.tiles(found.tile)]
        for (_, column, row), tile in zip(addresses, self.read_tiles(addresses), strict=True):
            place = tile_region(column, row, found.tile, found.size)
            part = place.intersection(inside)
            out[part.y - region.y : part.bottom - region.y, part.x - region.x : part.right - region.x] = tile[
                part.y - place.y : part.bottom - place.y, part.x - place.x : part.right - place.x
            ]
        return out

    @property
    def blanks(self) -> tuple[Blank, ...]:
        """Tiles that could not be decoded and were left out of what this object has read so far, in order."""
        levels = self.info.levels
        found = []
        for tile in self._unreadable_tiles(blank=True):
            level = levels[tile[0]]
            region = level_0_region(tile_region(tile[1], tile[2], level.tile, level.size), level, levels[0])
            found.append(Blank(tile=tile, region=region))
        return tuple(found)

    @property
    def blank_regions(self) -> tuple[Region, ...]:
        """What the tiles of ``blanks`` show, level-0 px."""
        return tuple(each.region for each in self.blanks) if self._unreadable else ()

    @property
    def remade_tiles(self) -> int:
        """Number of tiles of coarse levels that could not be decoded and were made anew of finer ones."""
        return len(self._unreadable_tiles(blank=False))

    def _unreadable_tiles(self, *, blank: bool) -> list[Address]:
        reader = self._reader()[1]
        # A copy: other threads may add to it.
        return [tile for tile in sorted(self._unreadable.copy()) if reader.is_blank(tile) == blank]

    def _note_blanks(self, tiles: Sequence[Address]) -> None:
        if self._on_bad_tile == "blank":
            self._unreadable.update(self._reader()[1].unreadable(tiles))

    @property
    def decoded_bytes(self) -> int:
        """Bytes of tiles (three a pixel) that were decoded from the file since it was opened in this process.

        Convention:
            Tiles that the cache or a sidecar of coarse levels holds are not decoded; building the sidecar decodes all
            of the coarsest stored level. Copies of a slide share the count.
        """
        return self._reader()[1].decoded_bytes

    def level_for_downsample(self, downsample: float) -> int:
        """The coarsest level that is still fine enough.

        Args:
            downsample: Level-0 pixels per pixel that is wanted.

        Returns:
            The level with the largest downsample (on its coarser axis) of at most 1.01 times ``downsample``;
            level 0 where all are larger.
        """
        best = 0
        for number, level in enumerate(self.info.levels):
            if max(level.downsample.x, level.downsample.y) <= downsample * 1.01:
                best = number
        return best

    def _checked(self, mpp: Mpp) -> Point:
        """An mpp that was given, for both axes."""
        both = both_axes(mpp)
        for one in (both.x, both.y):
            if positive_or_none(str(one)) is None:
                raise SlideError(
                    f"slide {self.path}: mpp {one}. Needed a positive number of um per pixel; mend the mpp "
                    "column in its manifest row."
                )
        return Point(float(both.x), float(both.y))

    def _reader(self) -> tuple[int, VirtualReader]:
        opened = self._open
        if opened is None or (opened[0] != os.getpid() and self._own_reader is None):
            token, reader = READERS.reader(self.path, blank=self._on_bad_tile == "blank")
            opened = self._open = os.getpid(), token, reader
        return opened[1], opened[2]

    def _own(self, reader: Reader, *, virtual_levels: bool, key: str | None) -> None:
        self._own_reader, self._own_key = reader, key
        named = None if key is None else lambda: slide_key_of(key)
        virtual = VirtualReader(
            reader, append=virtual_levels, key=named, name=self.slide_id, blank=self._on_bad_tile == "blank"
        )
        self._open = os.getpid(), new_token(), virtual

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {
            "path": self.path,
            "slide_id": self.slide_id,
            "mpp": self._mpp_given,
            "tissue_path": self.tissue_path,
            "region": self._region,
        }
        if self._own_reader is not None:
            reader = self._reader()[1]
            state |= {"reader": self._own_reader, "virtual_levels": reader.append, "key": self._own_key}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]
            state["path"],
            slide_id=state["slide_id"],
            mpp=state["mpp"],
            tissue_path=state["tissue_path"],
            region=state["region"],
        )
        if "reader" in state:
            self._own(state["reader"], virtual_levels=state["virtual_levels"], key=state["key"])

    def __repr__(self) -> str:
        """Name, and what is known without opening the file: size, um per px, downsamples of the levels."""
        said = [repr(self.path.name)]
        if self.slide_id != slide_id_of(self.path):
            said.append(f"slide_id={self.slide_id!r}")
        if self._open is not None:
            mpp = self.mpp_or_none
            said += [f"{self.size} px", "no mpp" if mpp is None else f"{mpp:.4g} um/px"]
            coarsest, count = self.levels[-1].downsample, len(self.levels)
            levels = f"{count} levels to 1/{max(coarsest.x, coarsest.y):.4g}"
            said.append(levels if count > 1 else "1 level")
        return f"{type(self).__name__}({', '.join(said)})"
