"""OME-Zarr slides (NGFF 0.4 and 0.5)."""

from __future__ import annotations

import json
import logging
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.faults import pass_on_own_fault, version_of
from wsi_deform.geometry import Region, Size, level_downsample, tile_region
from wsi_deform.kernels.ahead import ahead
from wsi_deform.slide.colour import composited, rgb_from_gray
from wsi_deform.slide.declared import check_block, check_sizes
from wsi_deform.slide.mpp.claims import scale_from_claims
from wsi_deform.slide.ngff import images_of, multiscale_from_data
from wsi_deform.slide.path import SlidePath, SlideUrl, slide_path
from wsi_deform.slide.reader import Address, Level, SlideInfo, bad_tile
from wsi_deform.slide.remote import file_system, remote_errors, storage_options
from wsi_deform.slide.zarr_limits import GuardedStore, check_chunks, chunk_rule

log = logging.getLogger(__name__)

# What zarr and its codecs raise on missing groups, broken JSON and chunks that do not decode. Our own lines raise
# some of it too when they are wrong: ``pass_on_own_fault`` tells which. ShapeError is a side of 0 px.
ZARR_ERRORS = (
    OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError,
    AssertionError, struct.error, zlib.error, ShapeError, ExceptionGroup,
)  # fmt: skip
# Tiles of a far slide that are read at the same time.
FAR_THREADS = 16
MIN_TILE_PX = 256
MAX_CHANNELS = 4


class ZarrReader:
    """A multiscales image in a Zarr group; implements ``Reader``.

    Convention:
        Axes are named (c, y, x), (t, c, z, y, x), (y, x, c), ...; the first time point and the middle z
        plane are read. A tile is a chunk, or several where chunks are smaller than 256 px. A missing chunk
        has the array's fill value, as the Zarr specification says.
    """

    def __init__(self, path: str | Path | SlideUrl) -> None:
        """Open an OME-Zarr folder.

        Args:
            path: A path or URL: the group with the ``multiscales`` attribute, or a bioformats2raw folder,
                of which image 0 is taken.

        Raises:
            SlideError: Not OME-Zarr, or its pixels are not 8-bit gray or RGB.
        """
        self.path: SlidePath = slide_path(path)
        # Nothing is read here: what goes wrong is not the slide's fault.
        store = GuardedStore(_store(self.path))
        try:
            self._open(store)
        except _errors() as error:
            pass_on_own_fault(error, "zarr")
            raise SlideError(
                f"{self.path}: not a readable OME-Zarr ({_said(error)}; zarr "
                f"{version_of('zarr')}). Needed a group with NGFF 0.4 or 0.5 multiscales; copy the folder again or "
                "convert the slide to a tiled pyramidal TIFF."
            ) from error

    def _open(self, store: GuardedStore) -> None:
        group = zarr.open_group(store, mode="r")
        images = images_of(group.attrs.asdict())
        if not images and "0" in group:
            group = zarr.open_group(store, path="0", mode="r")
            images = images_of(group.attrs.asdict())
        if not images:
            raise SlideError(
                f"{self.path}: a Zarr folder without the multiscales attribute of NGFF 0.4 or 0.5. Write "
                "it as OME-Zarr."
            )
        image = multiscale_from_data(images[0])
        self._axes = image.letters
        arrays = [group[one.path] for one in image.datasets]
        self._check_pixels(arrays)
        store.rules |= {array.path: chunk_rule(array, self.path) for array in arrays}
        sizes = [self._size(array) for array in arrays]
        check_sizes(sizes, self.path)
        if isinstance(self.path, Path):
            for array in arrays:
                check_chunks(array, self.path)
        keep = [0]
        for number, size in enumerate(sizes):
            last = sizes[keep[-1]]
            if size != last and size.width <= last.width and size.height <= last.height:
                keep.append(number)
        self._arrays = [arrays[number] for number in keep]
        self._fixed = self._fixed_indices(self._arrays[0])
        levels = tuple(
            Level(
                size=sizes[number],
                downsample=level_downsample(sizes[0], sizes[number]),
                tile=self._tile(arrays[number]),
            )
            for number in keep
        )
        scale = scale_from_claims(list(image.claims()))
        self.info = SlideInfo(
            levels=levels,
            mpp=scale.mpp,
            mpp_xy=scale.mpp_xy,
            mpp_source=scale.source,
            mpp_remarks=scale.remarks,
            vendor="ome-zarr",
            bounds=Region.whole(sizes[0]),
            properties={"ngff.multiscales": json.dumps(images[0], default=str)},
            remarks=scale.remarks,
        )

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
        part: dict[str, slice | int] = {
            **self._fixed,
            "x": slice(region.x, region.right),
            "y": slice(region.y, region.bottom),
        }
        try:
            stored = np.asarray(
                self._arrays[level][tuple(part.get(axis, slice(None)) for axis in self._axes)]
            )
        except _errors() as error:
            pass_on_own_fault(error, "zarr")
            said = f"cannot be read ({_said(error)}; zarr {version_of('zarr')})"
            if isinstance(_cause(error), (OSError, *remote_errors())):
                raise SlideError(f"{where} {said}. Check the disk or the network that it lies on.") from error
            raise bad_tile(self.path, level, region, self.info.levels, said) from error
        order = [axis for axis in self._axes if not isinstance(part.get(axis, slice(None)), int)]
        pixels = np.moveaxis(
            stored, [order.index(axis) for axis in "yxc" if axis in order], range(len(order))
        )
        return self._rgb(pixels)

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

    def _rgb(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if pixels.ndim == 2 or pixels.shape[2] == 1:
            return rgb_from_gray(pixels)
        if pixels.shape[2] == 4:
            return composited(pixels[..., :3], pixels[..., 3], self.info.background)
        return np.ascontiguousarray(pixels)

    def _size(self, array: Any) -> Size:
        return Size(array.shape[self._axes.index("x")], array.shape[self._axes.index("y")])

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

    def _check_pixels(self, arrays: Sequence[Any]) -> None:
        for array in arrays:
            if not isinstance(array, zarr.Array):
                raise SlideError(
                    f"{self.path}: {array.name} is a group. Needed an array for every level; copy the folder again."
                )
            fits = len(array.shape) == len(self._axes) and array.dtype == np.uint8
            if not fits or ("c" in self._axes and array.shape[self._axes.index("c")] not in (1, 3, 4)):
                raise SlideError(
                    f"{self.path}: axes {self._axes}, shape {array.shape}, {array.dtype}. Needed uint8 "
                    "with 1 (gray), 3 (RGB) "
                    "or 4 (RGBA) channels; convert the slide to 8-bit RGB."
                )

    def _fixed_indices(self, array: Any) -> dict[str, slice | int]:
        fixed: dict[str, slice | int] = {}
        for number, axis in enumerate(self._axes):
            if axis in "yxc":
                continue
            fixed[axis] = array.shape[number] // 2 if axis == "z" else 0
            if array.shape[number] > 1:
                log.warning(
                    "%s: axis %s has %d planes; only plane %s is read.",
                    self.path.name,
                    axis,
                    array.shape[number],
                    fixed[axis],
                )
        return fixed


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


def _store(path: SlidePath) -> Any:
    """Where zarr reads: a folder, or a URL's file system, which zarr is not left to build by itself."""
    if not isinstance(path, SlideUrl):
        return zarr.storage.LocalStore(path, read_only=True)
    file_system(path)  # says what is wrong with the protocol
    # Not ``open_group(url, storage_options=...)``: zarr 3.4 refuses options where it makes no use of them.
    return zarr.storage.FsspecStore.from_url(
        path.url.rstrip("/"), storage_options=storage_options(path), read_only=True
    )
