"""Zeiss CZI slides that OpenSlide does not read, through Zeiss' own library. The only importer of pylibCZIrw."""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.faults import pass_on_own_fault
from wsi_deform.geometry import Point, Region, Size, tile_region
from wsi_deform.slide.colour import rgb_from_gray
from wsi_deform.slide.declared import check_sizes
from wsi_deform.slide.mpp.claims import Scale, Source, claim_of, scale_from_claims
from wsi_deform.slide.reader import Level, SlideInfo, bad_tile
from wsi_deform.slide.resolution import positive_or_none

TILE = Size(512, 512)
# Parts of the file that are larger than a tile are decoded for each tile that needs them, unless they are kept.
CACHE_BYTES = 256 << 20
COLOURS, GRAY = "Bgr24", "Gray8"
WHITE = (1.0, 1.0, 1.0)
INSTALL = 'Install what reads it: pip install "wsi-deform[czi]"'
# The library raises RuntimeError, and on scrambled bytes what its parts raise.
READ_ERRORS = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, OSError, MemoryError)


class CziReader:
    """A CZI slide; implements ``Reader``. Threads read one after the other.

    Convention:
        All scenes are read, where they lie on the slide, white between them. Of focal planes the middle one is read,
        of time points the first. Only the finest level is taken from the file.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a slide.

        Args:
            path: A CZI file.

        Raises:
            SlideError: pylibCZIrw is not installed, the file is damaged, or its pixels are not 8-bit RGB or gray.
        """
        self.path = Path(path)
        czi = _library(self.path)
        try:
            cache = czi.CacheOptions(max_memory_usage=CACHE_BYTES)
            self._czi = czi.CziReader(str(path), cache_options=cache)
            frame = self._czi.total_bounding_rectangle_no_pyramid
            box, types, xml = self._czi.total_bounding_box, self._czi.pixel_types, self._czi.raw_metadata
        except READ_ERRORS as error:
            pass_on_own_fault(error, "pylibCZIrw")
            raise SlideError(
                f"{path}: a CZI that cannot be read ({type(error).__name__}: {error}). Copy it again."
            ) from error
        _check_pixels(self.path, dict(types), xml)
        if frame.w < 1 or frame.h < 1:
            raise SlideError(f"{path}: a CZI of {frame.w} x {frame.h} px. Needed an image. Copy it again.")
        self._origin = frame.x, frame.y
        self._plane, remarks = _plane(box)
        self._lock = threading.Lock()
        self._is_open = True
        size, scale = Size(frame.w, frame.h), _scale(xml)
        check_sizes([size], self.path)
        self.info = SlideInfo(
            levels=(Level(size=size, downsample=Point(1.0, 1.0), tile=TILE),),
            mpp=scale.mpp,
            mpp_xy=scale.mpp_xy,
            mpp_source=scale.source,
            mpp_remarks=scale.remarks,
            vendor="zeiss",
            bounds=Region.whole(size),
            remarks=(*remarks, *scale.remarks),
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile as RGB, (H, W, 3) uint8; see ``Reader``."""
        region = tile_region(column, row, TILE, self.info.size)
        where = f"{self.path}: tile (column {column}, row {row}) of level {level}"
        if level != 0 or column < 0 or row < 0 or region.is_empty:
            raise SlideError(
                f"{where} wanted; the slide has level 0 of {self.info.size} px in tiles of {TILE}."
            )
        x, y = self._origin[0] + region.x, self._origin[1] + region.y
        try:
            with self._lock:
                if not self._is_open:
                    raise SlideError(f"{self.path}: reading from a closed slide. Open the slide again.")
                pixels = self._czi.read(
                    roi=(x, y, region.width, region.height), plane=self._plane, background_pixel=WHITE
                )
        except READ_ERRORS as error:
            pass_on_own_fault(error, "pylibCZIrw")
            if isinstance(error, OSError):
                raise SlideError(
                    f"{where} cannot be read ({error}). Check the disk that it lies on."
                ) from error
            raise bad_tile(self.path, level, region, self.info.levels, f"cannot be read ({error})") from error
        if pixels.shape[2] == 1:
            return rgb_from_gray(pixels)
        # Blue comes first in the file.
        return np.ascontiguousarray(pixels[..., ::-1])

    def close(self) -> None:
        """Release the file; reading afterwards is an error."""
        with self._lock:
            if self._is_open:
                self._is_open = False
                self._czi.close()


def _library(path: Path) -> Any:
    try:
        from pylibCZIrw import czi
    except ImportError as error:
        raise SlideError(
            f"{path}: a Zeiss CZI that OpenSlide does not read. {INSTALL}, or export the slide from ZEN as a tiled "
            "pyramidal OME-TIFF."
        ) from error
    return czi


def _check_pixels(path: Path, types: dict[int, str], xml: str) -> None:
    if len(types) > 1:
        names = _channel_names(xml) or [str(number) for number in types]
        raise SlideError(
            f"{path}: {len(types)} channels of gray ({', '.join(names)}), as of fluorescence. Needed RGB: export the "
            "slide as a picture in RGB."
        )
    kind = next(iter(types.values()), "no")
    if kind not in (COLOURS, GRAY):
        raise SlideError(
            f"{path}: {kind} pixels. Needed 8 bits per channel, RGB or gray; export the slide with 8 bits."
        )


def _plane(box: dict[str, tuple[int, int]]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Which plane of those that a file holds is read, and what is said of it."""
    plane, remarks = {"C": 0}, []
    for axis, name, which in (("Z", "focal planes", "the middle one"), ("T", "time points", "the first one")):
        start, end = box.get(axis, (0, 1))
        at = (end - start) // 2 if axis == "Z" else 0
        plane[axis] = start + at
        if end - start > 1:
            remarks.append(f"{end - start} {name}: number {at + 1}, {which}, is read.")
    return plane, tuple(remarks)


def _parsed(xml: str) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError):
        return None


def _scale(xml: str) -> Scale:
    """Metres per pixel, of the Scaling section."""
    root = _parsed(xml)
    metres = [
        None
        if root is None
        else positive_or_none(root.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value", ""))
        for axis in "XY"
    ]
    x_um, y_um = (None if one is None else one * 1e6 for one in metres)
    return scale_from_claims(list(claim_of(Source.CZI, x_um, y_um, has_unit=True)))


def _channel_names(xml: str) -> list[str]:
    root = _parsed(xml)
    channels = [] if root is None else root.findall(".//Information/Image/Dimensions/Channels/Channel")
    return [channel.get("Name") or channel.get("Id") or "" for channel in channels]
