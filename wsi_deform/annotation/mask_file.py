"""Raster mask files: raw values of one channel, tile by tile, from TIFF or PNG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.annotation.class_data import COLOUR_VALUE
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.geometry import Region, Size, tile_region
from wsi_deform.paths import SPECIAL_FILES, trouble_at
from wsi_deform.slide.codec_header import is_lossy
from wsi_deform.slide.colour import black_is_zero
from wsi_deform.slide.picture import opened_picture
from wsi_deform.slide.tiff.page import WHITE_IS_ZERO
from wsi_deform.slide.tiff.tiles import TiffTiles

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".svs")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif")
# So many different tiles of so few stored bytes are remembered with what they hold.
KNOWN_TILES, KNOWN_BYTES = 1024, 1 << 10
OUTLINE_SUFFIXES = (".geojson", ".json", ".xml")


class MaskFile:
    """An open mask file; one serves all threads of a process.

    Attributes:
        path: The file.
        size: Width and height of the mask, px.
        tile: Size of its tiles, px; a PNG is one tile.
        decoded_bytes: Size of all its raw values of all channels, decoded.
        by_colour: Whether its raw values stand for colours, see ``class_data.value_of_colour``.
    """

    def __init__(self, path: Path, channel: int | None = None, *, colours: bool = False) -> None:
        """Open a mask.

        Args:
            path: TIFF (tiled or stripped, pyramidal or not; level 0 is used) or PNG, of whole numbers.
            channel: Which channel holds the labels, from 0; needed where there are several.
            colours: Whether red, green and blue (and alpha, which says nothing) are a colour each of which is one raw
                value, where there are several channels and none is named.

        Raises:
            AnnotationError: The file cannot be read, has no such channel, or has several and none is named.
        """
        self._colours_count = colours and channel is None
        self.by_colour = False
        self.path = path
        self._tiles: TiffTiles | None = None
        if (trouble := trouble_at(path)) in SPECIAL_FILES:
            raise AnnotationError(f"mask {path}: {trouble}. Needed a TIFF or PNG. Correct the path.")
        suffix = path.suffix.lower()
        if suffix in OUTLINE_SUFFIXES or suffix in LOSSY_SUFFIXES:
            why = (
                "outlines, not pixels"
                if suffix in OUTLINE_SUFFIXES
                else "lossy, so its values are not the labels"
            )
            raise AnnotationError(
                f"mask {path}: a {suffix} file is {why}. Needed a TIFF or PNG of class values. Export the "
                "labels as TIFF or PNG."
            )
        if path.is_dir():
            what = "labels in OME-Zarr are" if suffix == ".zarr" else "it is a folder, and folders are"
            raise AnnotationError(
                f"mask {path}: {what} not read as a mask. Needed a TIFF or PNG of class values. `wsi-deform segment` "
                "writes the same labels as NAME.ome.tif beside NAME.ome.zarr: give that."
            )
        if suffix in TIFF_SUFFIXES:
            self._open_tiff(channel)
        else:
            self._open_picture(channel)

    def read_tile(self, column: int, row: int) -> NDArray[Any]:
        """Read the raw values of one tile: (h, w) of whole numbers, clipped at the mask's edge.

        Raises:
            AnnotationError: The tile cannot be decoded.
        """
        if self._tiles is None:
            return self._decoded_picture()
        try:
            pixels = self._tiles.read_tile(0, column, row)
            if self._tiles.index.photometric == WHITE_IS_ZERO and pixels.dtype.kind == "u":
                # The values that libvips, Pillow and viewers show, and whoever wrote the mask with them meant.
                pixels = black_is_zero(pixels, self._tiles.index.bits)
            return _values_of_colours(pixels) if self.by_colour else pixels[..., self._channel]
        except SlideError as error:
            raise AnnotationError(f"mask {error}") from error

    def stored_tile(self, column: int, row: int) -> tuple[bytes, ...]:
        """The stored bytes of one tile, where there are some of its own; see ``TiffTiles.stored_tile``.

        Raises:
            AnnotationError: They cannot be read.
        """
        try:
            return () if self._tiles is None else self._tiles.stored_tile(0, column, row)
        except SlideError as error:
            raise AnnotationError(f"mask {error}") from error

    def _open_tiff(self, channel: int | None) -> None:
        try:
            tiles = TiffTiles(self.path)
        except (SlideError, OSError) as error:
            raise AnnotationError(f"mask {self.path}: cannot be opened as TIFF ({error}).") from error
        self._check_dtype(tiles.dtype)
        self._check_one(tiles.index.pages_alike, tiles.index.stack_planes)
        self._check_lossless(tiles.first_stored)
        self.by_colour = self._colours_count and tiles.channels in (3, 4) and tiles.dtype == np.uint8
        self._channel = self._chosen_channel(channel, tiles.channels)
        self.size, self.tile = tiles.levels[0].size, tiles.levels[0].tile
        self.decoded_bytes = self.size.area * tiles.channels * tiles.dtype.itemsize
        self._tiles = tiles

    def _open_picture(self, channel: int | None) -> None:
        with self._picture() as picture:
            self.size = self.tile = Size(*picture.size)
            bands = picture.getbands()
            if bands in (("L", "A"), ("P", "A")) and channel is None:
                channel = 0  # transparency holds no labels
            self._check_one(getattr(picture, "n_frames", 1))
            if picture.format == "JPEG2000":
                self._check_lossless(self.path.read_bytes())
            wide = picture.mode.startswith("I")
            if picture.mode in ("F", "CMYK", "YCbCr", "LAB", "HSV"):
                raise AnnotationError(
                    f"mask {self.path}: pixel type {picture.mode}. Needed whole numbers. Save it as 8-bit or "
                    "16-bit PNG or TIFF."
                )
        self.by_colour = self._colours_count and bands in (("R", "G", "B"), ("R", "G", "B", "A"))
        self._channel = self._chosen_channel(channel, len(bands))
        self.decoded_bytes = self.size.area * len(bands) * (2 if wide else 1)

    @contextmanager
    def _picture(self) -> Iterator[Image.Image]:
        try:
            with opened_picture(self.path) as picture:
                yield picture
        except SlideError as error:
            raise AnnotationError(
                f"mask {error} Needed a TIFF or PNG of class values; a large one as tiled TIFF."
            ) from error

    def _decoded_picture(self) -> NDArray[Any]:
        with self._picture() as picture:
            # A palette picture keeps its indices: they are the labels, the colours are only for people.
            pixels = np.asarray(picture)
        pixels = pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels
        if self.by_colour:
            return _values_of_colours(pixels)
        return np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels[..., self._channel])

    def _check_one(self, pictures: int, planes: int = 1) -> None:
        """Refuse several pictures of one size, or planes: nobody knows which holds the labels."""
        if max(pictures, planes) > 1:
            what = f"{pictures} pictures of one size" if pictures > 1 else f"{planes} planes"
            raise AnnotationError(
                f"mask {self.path}: {what}. Needed one with a value per class. Save the one with the labels, or all "
                "joined into one, as a TIFF or PNG."
            )

    def _check_lossless(self, stored: bytes) -> None:
        """Refuse pixels that a lossy compression has changed."""
        if is_lossy(stored):
            raise AnnotationError(
                f"mask {self.path}: its compression is lossy, so its values are not the labels. Needed deflate, LZW or "
                "none. Export the labels anew, as TIFF or PNG."
            )

    def _check_dtype(self, dtype: np.dtype[Any]) -> None:
        if dtype.kind not in "ui":
            raise AnnotationError(
                f"mask {self.path}: pixel type {dtype}. Needed whole numbers (uint8 or uint16). Save it with "
                "one of these types."
            )

    def _chosen_channel(self, channel: int | None, channels: int) -> int:
        if self.by_colour:
            return 0
        if channel is None and channels > 1:
            raise AnnotationError(
                f"mask {self.path}: {channels} channels. Needed one, or the name of the one with the labels. "
                "Set mask_channel in the manifest (red for PANDA-like masks), or, where colours are the labels, say in "
                "the class table which (label_rgb)."
            )
        if channel is not None and not 0 <= channel < channels:
            raise AnnotationError(
                f"mask {self.path}: mask_channel {channel}, but it has {channels} "
                f"channel{'s' if channels > 1 else ''}. "
                f"Needed 0 to {channels - 1}. Correct mask_channel in the manifest or leave it empty."
            )
        return channel or 0


def _values_of_colours(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(h, w) raw values of colours, (h, w, 3 or 4)."""
    values = np.full(pixels.shape[:2], COLOUR_VALUE, np.uint32)
    for place, shift in enumerate((16, 8, 0)):
        values |= pixels[..., place].astype(np.uint32) << np.uint32(shift)
    return values


def raw_value_counts(
    path: Path | str, channel: int | None = None, *, colours: bool = False, part: Region | None = None
) -> dict[int, int]:
    """Count the raw values of a mask file, a tile at a time.

    Args:
        path: TIFF or PNG.
        channel: Which channel holds the labels, where there are several.
        colours: See ``MaskFile``.
        part: The mask pixels that count, inside the mask; None is all.

    Returns:
        Raw value -> number of pixels, in rising order of values.

    Raises:
        AnnotationError: The mask cannot be read.
    """
    file = MaskFile(Path(path), channel, colours=colours)
    counts: dict[int, int] = {}
    part = Region.whole(file.size) if part is None else part
    # Most of a mask's tiles hold one value, and are stored as the same few bytes.
    known: dict[tuple[bytes | int, ...], list[tuple[int, int]]] = {}
    for column, row in part.tiles(file.tile):
        place = tile_region(column, row, file.tile, file.size)
        inside = place.intersection(part)
        stored = file.stored_tile(column, row) if inside == place else ()
        key: tuple[bytes | int, ...] = ()
        if 0 < sum(map(len, stored)) <= KNOWN_BYTES:
            key = (*stored, place.width, place.height)
        counted = known.get(key)
        if counted is None:
            pixels = file.read_tile(column, row)
            top, left = inside.y - place.y, inside.x - place.x
            counted = _counted(pixels[top : top + inside.height, left : left + inside.width])
            if key and len(known) < KNOWN_TILES:
                known[key] = counted
        for value, number in counted:
            counts[value] = counts.get(value, 0) + number
    return dict(sorted(counts.items()))


def _counted(raw: NDArray[Any]) -> list[tuple[int, int]]:
    """Values of a tile and how often each occurs."""
    # Most tiles of a mask hold one value, and a look at the extremes is much cheaper than a count.
    least, most = int(raw.min()), int(raw.max())
    if least == most:
        return [(least, raw.size)]
    if raw.dtype in (np.uint8, np.uint16):
        numbers = np.bincount(raw.ravel())
        values = np.flatnonzero(numbers)
        return list(zip(values.tolist(), numbers[values].tolist(), strict=True))
    # Labels are the same for many pixels in a row: few runs are sorted, not all pixels.
    flat = raw.ravel()
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    found, which = np.unique(flat[starts], return_inverse=True)
    times = np.zeros(len(found), np.int64)
    np.add.at(times, which, np.diff(starts, append=flat.size))
    return list(zip(found.tolist(), times.tolist(), strict=True))
