"""OME-Zarr slides (NGFF 0.4 to 0.6), in folders and zip files."""

from __future__ import annotations

import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.faults import pass_on_own_fault, version_of
from wsi_deform.geometry import Region, Size, level_downsample, tile_grid, tile_region
from wsi_deform.kernels.ahead import ahead
from wsi_deform.slide.channels import Channel, check_channels
from wsi_deform.slide.choice import Candidate, choose, other_images
from wsi_deform.slide.colour import check_range, composited, eight_bits, range_remark, rgb_from_gray
from wsi_deform.slide.declared import check_block, check_sizes
from wsi_deform.slide.mpp.claims import scale_from_claims
from wsi_deform.slide.path import SlidePath, SlideUrl, slide_path
from wsi_deform.slide.planes import plane_of, plane_remark
from wsi_deform.slide.reader import Address, Level, SlideInfo, bad_tile
from wsi_deform.slide.remote import remote_errors
from wsi_deform.slide.zarr_images import ZarrImage, array_size, zarr_images
from wsi_deform.slide.zarr_limits import check_chunks, chunk_rule, stores_chunks
from wsi_deform.slide.zarr_store import ZarrPlace, zarr_place

# What zarr and its codecs raise on missing groups, broken JSON and chunks that do not decode. Our own lines raise
# some of it too when they are wrong: ``pass_on_own_fault`` tells which. ShapeError is a side of 0 px.
ZARR_ERRORS = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError,
    AssertionError, struct.error, zlib.error, zipfile.BadZipFile, ShapeError, ExceptionGroup,
)  # fmt: skip
# Tiles of a far slide that are read at the same time.
FAR_THREADS = 16
MIN_TILE_PX = 256
# Tiles of a slide of more than 8 bits that are looked at, to see whether it uses its range.
LOOKED_AT_TILES = 4
MAX_CHANNELS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """A level: its size, its array, and which dataset of the description it is."""

    size: Size
    array: Any
    dataset: int


class ZarrReader:
    """A multiscales image in a Zarr group; implements ``Reader``.

    Convention:
        Axes are named (c, y, x), (t, c, z, y, x), (y, x, c), ...; planes are chosen by ``plane_of``.
        A tile is a chunk, or several where chunks are smaller than 256 px. A missing chunk
        has the array's fill value, as the Zarr specification says.
    """

    def __init__(self, path: str | Path | SlideUrl, asked: str = "") -> None:
        """Open an OME-Zarr.

        Args:
            path: A path or URL: the group with the ``multiscales`` attribute, one of several images (as of
                bioformats2raw or SpatialData), or a zip file of either.
            asked: The name of one of its images; empty takes the slide, see ``choose``.

        Raises:
            SlideError: Not OME-Zarr, no such image, or its pixels are not 8-bit gray, or RGB of 8 or 16 bits.
        """
        self.path: SlidePath = slide_path(path)
        # Nothing is read here: what goes wrong is not the slide's fault.
        place = zarr_place(self.path)
        try:
            self._open(place, asked)
        except _errors() as error:
            pass_on_own_fault(error, "zarr")
            raise SlideError(
                f"{self.path}: not a readable OME-Zarr ({_said(error)}; zarr "
                f"{version_of('zarr')}). Needed a group with NGFF 0.4 to 0.6 multiscales; copy the folder again or "
                "convert the slide to a tiled pyramidal TIFF."
            ) from error

    def _open(self, place: ZarrPlace, asked: str) -> None:
        images = zarr_images(place, self.path)
        first = [image.first_array(self.path) for image in images]
        candidates = [
            Candidate(
                name=image.name, key=image.key, size=array_size(array, image.described.letters, self.path)
            )
            for image, array in zip(images, first, strict=True)
        ]
        choice = choose(candidates, asked, self.path)
        image = images[choice.number]
        self._axes = image.described.letters
        found, failed = self._levels_of(image, first[choice.number])
        sizes, arrays = [one.size for one in found], [one.array for one in found]
        stored_bits, said_bits = 8 * arrays[0].dtype.itemsize, image.significant_bits
        self._bits = said_bits if said_bits and 8 <= said_bits < stored_bits else stored_bits
        try:
            remarks = [*choice.remarks, *failed, *self._check_channels(arrays[0], image.channels)]
            self._check_pixels(arrays[0])
        except SlideError as error:
            raise SlideError(f"{error}{other_images(choice.images)}") from error
        rules = [chunk_rule(array, self.path) for array in arrays]
        place.store.rules |= {array.path: rule for array, rule in zip(arrays, rules, strict=True)}
        check_sizes(sizes, self.path)
        if isinstance(self.path, Path) and self.path.is_dir():
            for array, rule in zip(arrays, rules, strict=True):
                check_chunks(array, rule, self.path)
        self._arrays = arrays
        planes = self._checked_planes(arrays[0])
        # Coarse levels may have fewer focal planes.
        self._fixed = [self._planes_of(array) for array in arrays]
        levels = tuple(
            Level(size=size, downsample=level_downsample(sizes[0], size), tile=self._tile(array))
            for size, array in zip(sizes, arrays, strict=True)
        )
        scale = scale_from_claims(list(image.described.claims(found[0].dataset)))
        self.info = SlideInfo(
            levels=levels,
            mpp=scale.mpp,
            mpp_xy=scale.mpp_xy,
            mpp_source=scale.source,
            mpp_remarks=scale.remarks,
            vendor="ome-zarr",
            bounds=Region.whole(sizes[0]),
            properties={"ngff.multiscales": json.dumps(image.stored, default=str)},
            images=choice.images,
            remarks=(*remarks, *planes, *scale.remarks),
        )
        if self._bits > 8:
            self._check_range(len(levels) - 1)

    def _levels_of(self, image: ZarrImage, first: Any) -> tuple[list[_Found], list[str]]:
        """The levels, finest first, and what cannot be read of the coarse ones."""
        found = [_Found(size=array_size(first, self._axes, self.path), array=first, dataset=0)]
        failed = []
        # Of a zip file or a URL nobody knows without asking for each.
        folder = self.path if isinstance(self.path, Path) else Path()
        is_folder = isinstance(self.path, Path) and self.path.is_dir()
        for number, dataset in enumerate(image.described.datasets[1:], start=1):
            try:
                array = self._coarse_array(image, dataset.path, first)
                if is_folder and not stores_chunks(array, folder) and stores_chunks(first, folder):
                    raise SlideError("none of its chunks is stored")
                found.append(
                    _Found(size=array_size(array, self._axes, self.path), array=array, dataset=number)
                )
            except SlideError as error:
                failed.append(
                    f"the level in {dataset.path} cannot be read ({error}); finer ones are read in its place"
                )
        # The finest first, in whatever order they are listed; equals stay in theirs.
        found.sort(key=lambda one: -one.size.area)
        kept = found[:1]
        for one in found[1:]:
            last = kept[-1].size
            if one.size != last and one.size.width <= last.width and one.size.height <= last.height:
                kept.append(one)
        return kept, failed

    def _coarse_array(self, image: ZarrImage, path: str, finest: Any) -> Any:
        """The array of a level with the axes and the pixel type of the finest."""
        try:
            array = image.group[path]
        except _errors() as error:
            pass_on_own_fault(error, "zarr")
            raise SlideError(_said(error)) from error
        if not isinstance(array, zarr.Array) or array.dtype != finest.dtype:
            raise SlideError("it holds no such pixels as level 0")
        pairs = zip(self._axes, array.shape, finest.shape, strict=False)
        alike = all(axis in "yxz" or own == other for axis, own, other in pairs)
        if len(array.shape) != len(finest.shape) or not alike:
            raise SlideError(f"its shape is {array.shape}, that of level 0 {finest.shape}")
        return array

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile as RGB, (H, W, 3) uint8; see ``Reader``."""
        if not 0 <= level < len(self.info.levels):
            raise SlideError(
                f"{self.path}: level {level} wanted, levels 0 to {len(self.info.levels) - 1} exist."
            )
        if not self._arrays:
            raise SlideError(f"{self.path}: reading from a closed slide. Open the slide again.")
        found = self.info.levels[level]
        region = tile_region(column, row, found.tile, found.size)
        where = f"{self.path}: tile (column {column}, row {row}) of level {level}"
        if column < 0 or row < 0 or region.is_empty:
            raise SlideError(f"{where} wanted; the level has {found.size} px in tiles of {found.tile}.")
        try:
            stored = self._stored(level, region)
        except _errors() as error:
            pass_on_own_fault(error, "zarr")
            said = f"cannot be read ({_said(error)}; zarr {version_of('zarr')})"
            unread = remote_errors() if isinstance(self.path, SlideUrl) else (OSError,)
            if isinstance(_cause(error), unread) and not isinstance(_cause(error), gzip.BadGzipFile):
                raise SlideError(f"{where} {said}. Check the disk or the network that it lies on.") from error
            raise bad_tile(self.path, level, region, self.info.levels, said) from error
        return self._rgb(stored)

    @property
    def reads_ahead(self) -> bool:
        """Whether the slide is far, so that tiles are better read together."""
        return isinstance(self.path, SlideUrl)

    def read_tiles(self, tiles: Sequence[Address]) -> Iterator[NDArray[np.uint8]]:
        """Read several tiles, each (H, W, 3) uint8, many at the same time; see ``TilesReader``."""
        return ahead(
            lambda tile: self.read_tile(*tile), tiles, threads=FAR_THREADS, max_waiting=2 * FAR_THREADS
        )

    def close(self) -> None:
        """Forget the arrays; reading afterwards is an error."""
        self._arrays = []

    def _stored(self, level: int, region: Region) -> NDArray[Any]:
        """The stored pixels of a part of a level, (h, w) or (h, w, c)."""
        part: dict[str, slice | int] = {
            **self._fixed[level],
            "x": slice(region.x, region.right),
            "y": slice(region.y, region.bottom),
        }
        stored = np.asarray(self._arrays[level][tuple(part.get(axis, slice(None)) for axis in self._axes)])
        order = [axis for axis in self._axes if not isinstance(part.get(axis, slice(None)), int)]
        return np.moveaxis(stored, [order.index(axis) for axis in "yxc" if axis in order], range(len(order)))

    def _rgb(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        pixels = eight_bits(pixels, self._bits) if self._bits != 8 else pixels
        if pixels.ndim == 2 or pixels.shape[2] == 1:
            return rgb_from_gray(pixels)
        if pixels.shape[2] == 4:
            return composited(pixels[..., :3], pixels[..., 3], self.info.background)
        return np.ascontiguousarray(pixels)

    def _tile(self, array: Any) -> Size:
        sides = []
        for axis in "xy":
            chunk = array.chunks[self._axes.index(axis)]
            sides.append(chunk * max(1, -(-MIN_TILE_PX // chunk)))
        tile = Size(*sides)
        # Of flat chunks several make a tile.
        check_block(
            f"chunks {array.chunks} in {array.name}, together tiles",
            tile,
            tile.area * MAX_CHANNELS,
            self.path,
        )
        return tile

    def _check_pixels(self, array: Any) -> None:
        count = self._channel_count(array)
        deepest = 2 if count >= 3 else 1
        if array.dtype.kind != "u" or array.dtype.itemsize > deepest:
            raise SlideError(
                f"{self.path}: axes {self._axes}, shape {array.shape}, {array.dtype}. Needed uint8, or uint16 of RGB. "
                "Convert the slide to 8-bit RGB."
            )

    def _check_channels(self, array: Any, channels: Sequence[Channel]) -> list[str]:
        """Refuse what is no RGB and no gray; remarks on what is read."""
        count = self._channel_count(array)
        # One channel of three samples, as OME-XML has RGB, says nothing of the three that are stored.
        said = channels if len(channels) == count or len(channels) > 1 else ()
        remarks = list(check_channels(self.path, said, count))
        # Nothing says that a fourth channel is transparency but its name, or that it is stored as pictures are.
        is_named = len(channels) == 4 and channels[3].own_name.lower() in ("a", "alpha")
        if count == 4 and not is_named and not self._axes.endswith("c"):
            raise SlideError(
                f"{self.path}: 4 channels, and nothing says that they are red, green, blue and transparency. Needed "
                "RGB, or gray. Write the slide as RGB."
            )
        stored_bits = 8 * array.dtype.itemsize
        return remarks + ([range_remark(self._bits, stored_bits)] if stored_bits > 8 else [])

    def _check_range(self, level: int) -> None:
        """Look at some tiles of a deep slide, spread evenly: whether it uses its range."""
        found = self.info.levels[level]
        grid = tile_grid(found.size, found.tile)
        places = sorted(set(np.linspace(0, grid.area - 1, LOOKED_AT_TILES).astype(int).tolist()))
        regions = [tile_region(at % grid.width, at // grid.width, found.tile, found.size) for at in places]
        brightest = []
        for region in regions:
            with suppress(*_errors()):  # a damaged chunk is told of when it is read
                brightest.append(int(self._stored(level, region).max()))
        if brightest:
            check_range(max(brightest), self._bits, self.path, is_zarr=True)

    def _channel_count(self, array: Any) -> int:
        return int(array.shape[self._axes.index("c")]) if "c" in self._axes else 1

    def _checked_planes(self, array: Any) -> list[str]:
        """Refuse stacks that mean something unknown; remarks on the plane that is read of the others."""
        remarks = []
        for axis, length in zip(self._axes, array.shape, strict=True):
            if axis in "yxc":
                continue
            if plane_of(axis, length) is None:
                raise SlideError(
                    f"{self.path}: {length} planes along axis {axis} of {self._axes}. Needed channels (c), focal "
                    "planes (z) or time points (t). Write the plane that you want into an image of its own."
                )
            if length > 1:
                remarks.append(plane_remark(axis, length))
        return remarks

    def _planes_of(self, array: Any) -> dict[str, int]:
        """The plane that is read of each axis but x, y and channels."""
        return {
            axis: plane_of(axis, length) or 0
            for axis, length in zip(self._axes, array.shape, strict=True)
            if axis not in "yxc"
        }


def _errors() -> tuple[type[Exception], ...]:
    return ZARR_ERRORS + remote_errors()


def _said(error: Exception) -> str:
    """What went wrong."""
    error = _cause(error)
    return f"{type(error).__name__}: {error}"


def _cause(error: Exception) -> Exception:
    """What was raised; zarr 3.4 reads parts of a shard together and wraps what one of them raised in a group."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
