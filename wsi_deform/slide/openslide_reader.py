"""Every format that OpenSlide knows: NDPI, MRXS, DICOM, SCN, ... The only importer of OpenSlide."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.errors import NotThisReaderError, SlideError
from wsi_deform.geometry import Point, Region, Size, level_downsample, tile_grid, tile_region
from wsi_deform.slide.choice import Candidate, choose, refuse_others
from wsi_deform.slide.colour import composited
from wsi_deform.slide.declared import check_sizes
from wsi_deform.slide.mpp.claims import Claim, Scale, Source, claim_of, claim_of_power, scale_from_claims
from wsi_deform.slide.mpp.texts import claims_of_description
from wsi_deform.slide.reader import WHITE, Level, SlideInfo, StoredImage, bad_tile
from wsi_deform.slide.resolution import positive_or_none
from wsi_deform.slide.tiff.ndpi import ndpi_remarks

TILE = Size(512, 512)
# A level that OpenSlide would resample is decoded once as a whole and kept, where it is no larger than this.
WHOLE_LEVEL_BYTES = 64 << 20
OPENSLIDE_ERRORS = (openslide.OpenSlideError, OSError, ValueError)


def library_version() -> str:
    """Version of the library OpenSlide itself, not of its Python package."""
    return str(openslide.__library_version__)


def detect_vendor(path: str | Path) -> str | None:
    """OpenSlide's name of the format, e.g. "hamamatsu", or None where it does not know the file."""
    try:
        return openslide.OpenSlide.detect_format(str(path))  # type: ignore[no-any-return]
    except (openslide.OpenSlideError, OSError):
        return None


class OpenSlideReader:
    """A slide read by OpenSlide; implements ``Reader``. One handle serves all threads.

    Convention:
        OpenSlide takes positions in level-0 pixels and divides them by its own downsample, ``W_0 / W_l``.
        Where that is not a whole number (2.0005) it interpolates between stored pixels everywhere but at the
        origin. Such a level is read once, from the origin, and kept in memory when it has at most 64 MiB; a
        larger one is read tile by tile and is up to half a pixel blurred.
    """

    def __init__(self, path: str | Path, asked: str = "") -> None:
        """Open a slide.

        Args:
            path: Any file that OpenSlide opens; for DICOM any instance of the series.
            asked: The name of one of its images; only the slide itself, "slide", can be read.

        Raises:
            SlideError: There is no such image, or it is not the slide.
            NotThisReaderError: OpenSlide does not know or cannot open the file.
        """
        self.path = Path(path)
        self._slide = self._opened()
        # Each of these asks OpenSlide anew, once per level or name.
        properties = {str(key): str(value) for key, value in self._slide.properties.items()}
        sizes = [Size(width, height) for width, height in self._slide.level_dimensions]
        self._downsamples = self._slide.level_downsamples
        images = self._images(properties, sizes[0], asked)
        check_sizes(sizes, self.path)
        # A format may list the same size twice (focal planes, rounding): later levels must be smaller.
        self._stored = [0]
        for number, size in enumerate(sizes[1:], start=1):
            last = sizes[self._stored[-1]]
            if size.width <= last.width and size.height <= last.height and size != last:
                self._stored.append(number)
        sizes = [sizes[number] for number in self._stored]
        self._exact = [_is_whole(self._downsamples[number]) for number in self._stored]
        self._whole: dict[int, NDArray[np.uint8]] = {}
        # Reentrant: a level is read whole under it, and a file opened again.
        self._lock = threading.RLock()
        self._closed = False
        scale = _scale(properties)
        vendor = properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown")
        light = ndpi_remarks(self.path) if vendor == "hamamatsu" else ()
        self.info = SlideInfo(
            levels=tuple(
                Level(size=size, downsample=self._downsample(number, sizes), tile=TILE)
                for number, size in enumerate(sizes)
            ),
            mpp=scale.mpp,
            mpp_xy=scale.mpp_xy,
            mpp_source=scale.source,
            mpp_remarks=scale.remarks,
            vendor=vendor,
            background=_background(properties),
            bounds=_bounds(properties, sizes[0]),
            properties=properties,
            images=images,
            remarks=(*light, *scale.remarks),
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile as RGB, (H, W, 3) uint8; see ``Reader``."""
        if not 0 <= level < len(self.info.levels):
            raise SlideError(
                f"{self.path}: level {level} wanted, levels 0 to {len(self.info.levels) - 1} exist."
            )
        if self._closed:
            raise SlideError(f"{self.path}: reading from a closed slide. Open the slide again.")
        found = self.info.levels[level]
        grid = tile_grid(found.size, found.tile)
        if not (0 <= column < grid.width and 0 <= row < grid.height):
            raise SlideError(
                f"{self.path}: tile (column {column}, row {row}) of level {level} wanted; the level has "
                f"{grid.width} columns "
                f"and {grid.height} rows."
            )
        region = tile_region(column, row, found.tile, found.size)
        if self._is_kept_whole(level):
            whole = self._whole_level(level)
            return np.ascontiguousarray(whole[region.y : region.bottom, region.x : region.right])
        return self._read(level, region)

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        self._closed = True
        self._whole.clear()
        self._slide.close()

    def _downsample(self, level: int, sizes: list[Size]) -> Point:
        # A level that OpenSlide interpolates lies where its own ratio says, not at the nominal whole number.
        if self._exact[level] or self._fits_in_memory(sizes[level]):
            return level_downsample(sizes[0], sizes[level])
        ratio = float(self._downsamples[self._stored[level]])
        return Point(ratio, ratio)

    def _is_kept_whole(self, level: int) -> bool:
        return not self._exact[level] and self._fits_in_memory(self.info.levels[level].size)

    @staticmethod
    def _fits_in_memory(size: Size) -> bool:
        return size.area * 3 <= WHOLE_LEVEL_BYTES

    def _whole_level(self, level: int) -> NDArray[np.uint8]:
        with self._lock:
            if level not in self._whole:
                self._whole[level] = self._read(level, Region.whole(self.info.levels[level].size))
            return self._whole[level]

    def _opened(self) -> openslide.OpenSlide:
        try:
            return openslide.OpenSlide(str(self.path))
        except (openslide.OpenSlideError, OSError) as error:
            raise NotThisReaderError(
                f"{self.path}: OpenSlide cannot open it ({error or type(error).__name__})."
            ) from error

    def _images(self, said: Mapping[str, str], size: Size, asked: str) -> tuple[StoredImage, ...]:
        """The slide and the pictures beside it, without decoding these."""
        beside = [
            Candidate(
                name=name,
                size=Size(
                    *(int(said[f"openslide.associated.{name}.{side}"]) for side in ("width", "height"))
                ),
                is_beside=True,
            )
            for name in self._slide.associated_images
            if f"openslide.associated.{name}.height" in said
        ]
        slide = Candidate(name="slide", size=size)
        images = choose([slide, *beside], "", self.path).images
        refuse_others(images, asked, self.path)
        return images

    def _read(self, level: int, region: Region) -> NDArray[np.uint8]:
        downsample = self.info.levels[level].downsample
        position = round(region.x * downsample.x), round(region.y * downsample.y)
        where = position, self._stored[level], (region.width, region.height)
        try:
            image = self._slide.read_region(*where)
        except OPENSLIDE_ERRORS as error:
            image = self._read_again(where, level, region, error)
        pixels = np.asarray(image)
        return composited(pixels[..., :3], pixels[..., 3], self.info.background)

    def _read_again(self, where: Any, level: int, region: Region, error: Exception) -> Image.Image:
        """Read with a handle that has seen no error: one that has fails for every tile, whoever of its threads asks.

        Raises:
            BadTileError: It is this tile that cannot be read.
        """
        with self._lock:
            try:
                fresh = openslide.OpenSlide(str(self.path))
                image: Image.Image = fresh.read_region(*where)
            except OPENSLIDE_ERRORS as again:
                with suppress(*OPENSLIDE_ERRORS):
                    self._slide = openslide.OpenSlide(str(self.path))
                why = f"cannot be read ({again or error}). It may be incomplete: copy all of its companion files"
                raise bad_tile(self.path, level, region, self.info.levels, why) from again
            self._slide = fresh
            return image


def _is_whole(downsample: float) -> bool:
    return abs(downsample - round(downsample)) < 1e-9


def _scale(properties: dict[str, str]) -> Scale:
    """The scale of a slide from OpenSlide's properties."""
    vendor = properties.get(openslide.PROPERTY_NAME_VENDOR)
    # OpenSlide takes a plain TIFF's resolution tags at their word.
    source = {"generic-tiff": Source.TAGS, "dicom": Source.DICOM}.get(vendor or "", Source.OPENSLIDE)
    x, y = (
        positive_or_none(properties.get(name, ""))
        for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
    )
    claims: list[Claim] = [*claim_of(source, x, y, has_unit=source is not Source.TAGS)]
    if vendor in ("generic-tiff", "aperio"):
        claims += claims_of_description(properties.get(openslide.PROPERTY_NAME_COMMENT, ""))
    else:
        power = properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER, "")
        claims += claim_of_power(positive_or_none(power))
    return scale_from_claims(claims)


def _background(properties: dict[str, str]) -> tuple[int, int, int]:
    text = properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "")
    try:
        value = bytes.fromhex(text)
    except ValueError:
        return WHITE
    return (value[0], value[1], value[2]) if len(value) == 3 else WHITE


def _bounds(properties: dict[str, str], size: Size) -> Region:
    names = (
        openslide.PROPERTY_NAME_BOUNDS_X,
        openslide.PROPERTY_NAME_BOUNDS_Y,
        openslide.PROPERTY_NAME_BOUNDS_WIDTH,
        openslide.PROPERTY_NAME_BOUNDS_HEIGHT,
    )
    try:
        x, y, width, height = (int(properties[name]) for name in names)
    except (KeyError, ValueError):
        return Region.whole(size)
    bounds = Region(x, y, width, height).intersection(Region.whole(size))
    return Region.whole(size) if bounds.is_empty else bounds
