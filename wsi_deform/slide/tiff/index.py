"""The index of a tiled or stripped TIFF pyramid, parsed once: which pages are its levels."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.faults import pass_on_own_fault, version_of
from wsi_deform.geometry import Size, tile_grid
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.source import ByteSource, LocalFile, SourceFile
from wsi_deform.slide.tiff.level import TiffLevel, level_from_pages
from wsi_deform.slide.tiff.page import checked_page, damaged_tag, pair_of_numbers
from wsi_deform.slide.tiff.planes import check_planes

log = logging.getLogger(__name__)

# What tifffile raises on files that are cut off, scrambled or not TIFF at all (TiffFileError is a ValueError in
# newer ones alone). Our own lines raise some of it too when they are wrong: ``pass_on_own_fault`` tells which.
# ShapeError is a side of 0 px.
INDEX_ERRORS = (
    ValueError, OSError, RuntimeError, struct.error, LookupError, TypeError, AttributeError, ArithmeticError,
    ImportError, MemoryError, ShapeError, tifffile.TiffFileError,
)  # fmt: skip

INCH = 2


class DamagedSlideError(SlideError):
    """Bytes are missing: no other reader is asked, which would open the file and fail later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffIndex:
    """All that is known about a TIFF pyramid without reading pixels.

    Attributes:
        levels: Finest first, sizes strictly decreasing.
        dtype: Of stored pixels, in native byte order; 1-bit images count as uint8.
        channels: Channels per pixel over all planes.
        photometric: TIFF photometric interpretation (0 white is zero, 1 black is zero, 2 RGB, 3 palette, 6
            YCbCr).
        compression: TIFF compression number.
        extra_samples: TIFF ExtraSamples (1 associated alpha, 2 unassociated alpha), may be empty.
        colormap: (3, 2**bits) uint16 for palette images, else None.
        description: The first page's ImageDescription.
        resolution: Pixels per unit (x, y) and the unit's number (1 none, 2 inch, the default, 3 cm), or None.
        flavour: "aperio", "ome" or "generic-tiff".
        special: Name of a format in TIFF's clothing that the tags do not say enough about ("hamamatsu", ...),
            or None.
    """

    levels: tuple[TiffLevel, ...]
    dtype: np.dtype[Any]
    channels: int
    photometric: int
    compression: int
    extra_samples: tuple[int, ...]
    colormap: NDArray[np.uint16] | None
    description: str
    resolution: tuple[float, float, int] | None
    flavour: str
    special: str | None


def read_index(source: ByteSource) -> TiffIndex:
    """Parse the index of a TIFF pyramid once.

    Args:
        source: A TIFF, BigTIFF, SVS or OME-TIFF file; stays open.

    Returns:
        The index of the first image and its reduced levels; label, macro and thumbnail images are left out.

    Raises:
        SlideError: Not a TIFF, cut off, or stored in a way that cannot be read directly.
    """
    try:
        if isinstance(source, LocalFile):
            with tifffile.TiffFile(source.path) as tif:
                return _index_from_tif(tif, source)
        with SourceFile(source) as file, tifffile.TiffFile(file, name=source.path.name) as tif:
            return _index_from_tif(tif, source)
    except INDEX_ERRORS as error:
        pass_on_own_fault(error, "tifffile")
        raise SlideError(
            f"{source.path}: the TIFF index cannot be read ({type(error).__name__}: {error}; tifffile "
            f"{version_of('tifffile')}). Needed a complete TIFF; "
            f"copy or download the file again and compare its {source.size_bytes} bytes with the original."
        ) from error


def _index_from_tif(tif: tifffile.TiffFile, source: ByteSource) -> TiffIndex:
    path = source.path
    check_planes(tif, path)
    if not len(tif.series):
        raise SlideError(
            f"{path}: a TIFF without an image. Needed one or more; copy or download the file again and compare its "
            f"{source.size_bytes} bytes with the original."
        )
    series = tif.series[0]
    pages_of_levels = [_pages_of(level, path) for level in series.levels]
    if len(pages_of_levels) == 1 and len(pages_of_levels[0]) == 1:
        pages_of_levels += _chained_levels(tif, pages_of_levels[0][0], path)
    first = checked_page(pages_of_levels[0][0], path)
    level_0 = Size(first.imagewidth, first.imagelength)
    levels: list[TiffLevel] = []
    for pages in pages_of_levels:
        page = checked_page(pages[0], path)
        size = Size(page.imagewidth, page.imagelength)
        if levels and (
            size.width > levels[-1].size.width
            or size.height > levels[-1].size.height
            or size == levels[-1].size
        ):
            continue
        if levels and (page.dtype != first.dtype or page.samplesperpixel != first.samplesperpixel):
            continue
        levels.append(level_from_pages(pages, level_0, path))
    _check_bytes(levels, source)
    colormap = first.colormap
    return TiffIndex(
        levels=tuple(levels),
        dtype=_native_dtype(first.dtype),
        channels=sum(plane.channels for plane in levels[0].planes),
        photometric=int(first.photometric),
        compression=int(first.compression),
        extra_samples=tuple(int(extra) for extra in first.extrasamples),
        colormap=None if colormap is None else np.asarray(colormap, np.uint16),
        description=tif.pages.first.description,
        resolution=_resolution(first, path),
        flavour="aperio" if tif.is_svs else "ome" if tif.is_ome else "generic-tiff",
        special=_special_format(tif),
    )


def _pages_of(series: tifffile.TiffPageSeries, path: SlidePath) -> list[Any]:
    """The page (all channels) or pages (one channel each) that make up one level."""
    # Axes of length 1 are listed or not, as the version of tifffile likes; nothing below asks for them.
    axes, shape = series.axes, series.shape
    leading = [(axis, length) for axis, length in zip(axes, shape, strict=True) if axis not in "YXS"]
    page = checked_page(series.keyframe, path)
    separate = page.planarconfig == 2 and page.samplesperpixel > 1
    paged = [(axis, length) for axis, length in leading if length > 1]
    if not paged or separate:
        chosen = [0]
    else:
        for axis, length in paged:
            if axis != "C":
                log.warning("%s: axis %s has %d planes; only the first is read.", path.name, axis, length)
        lengths = [length for _, length in leading]
        channels = dict(leading).get("C", 1)
        index = [0] * len(leading)
        chosen = []
        for channel in range(channels):
            if channels > 1:
                index[[axis for axis, _ in leading].index("C")] = channel
            chosen.append(int(np.ravel_multi_index(index, lengths)))
    pages = [series.pages[number] if number < len(series.pages) else None for number in chosen]
    for number, found in zip(chosen, pages, strict=True):
        if found is None or found.parent.filehandle.path != series.keyframe.parent.filehandle.path:
            raise SlideError(
                f"{path}: plane {number} of axes {axes} {shape} is not in this file. Needed all planes in "
                "one file; "
                "convert the slide to a single pyramidal OME-TIFF."
            )
    return pages


def _chained_levels(tif: tifffile.TiffFile, base: Any, path: SlidePath) -> list[list[Any]]:
    """Reduced pages that tifffile did not take for levels: SubIFDs, or later pages of the same aspect."""
    first = checked_page(base, path)
    candidates: list[Any] = list(first.pages) if first.subifds else []
    candidates += [page.aspage() for page in tif.pages[1:]] if len(tif.pages) > 1 else []
    levels: list[list[Any]] = []
    before = first
    for candidate in candidates:
        page = checked_page(candidate, path)
        if (
            page.dtype != first.dtype
            or page.samplesperpixel != first.samplesperpixel
            or page.photometric != first.photometric
        ):
            continue
        reduced = bool(int(page.subfiletype) & 1)
        if first.is_tiled != page.is_tiled or not (page.is_tiled or reduced):
            continue  # thumbnails, labels and macro images are stripped
        if not (0 < page.imagewidth < before.imagewidth and 0 < page.imagelength < before.imagelength):
            continue
        ratio = first.imagewidth / page.imagewidth
        if abs(page.imagelength - first.imagelength / ratio) >= 1 + first.imagelength / first.imagewidth:
            continue
        levels.append([page])
        before = page
    return levels


def _check_bytes(levels: Sequence[TiffLevel], source: ByteSource) -> None:
    """Refuse a cut-off file before the first pixel is read."""
    found, path = source.size_bytes, source.path
    for number, level in enumerate(levels):
        for plane in level.planes:
            # Apart: the sum of two wild numbers may be a negative one.
            ends = np.where(plane.counts > 0, plane.offsets + plane.counts, 0)
            beyond = (ends > found) | (plane.counts > found) | ((plane.counts > 0) & (plane.offsets > found))
            if beyond.any():
                worst = int(np.flatnonzero(beyond)[0])
                columns = tile_grid(level.size, level.tile).width
                raise DamagedSlideError(
                    f"{path}: truncated. Tile (column {worst % columns}, row {worst // columns}) of level "
                    f"{number} ends at byte "
                    f"{int(plane.offsets[worst]) + int(plane.counts[worst])}, the file has {found} bytes. Copy or "
                    "download it again."
                )


def _native_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")


def _resolution(page: Any, path: SlidePath) -> tuple[float, float, int] | None:
    stored = {name: page.tags.valueof(name) for name in ("XResolution", "YResolution")}
    if None in stored.values():
        return None
    unit = page.tags.valueof("ResolutionUnit", default=INCH)  # TIFF 6.0, section 8
    if not isinstance(unit, int):
        raise damaged_tag(path, "ResolutionUnit", unit, "one whole number")
    per_unit = []
    for name, value in stored.items():
        pair = pair_of_numbers(value)
        if pair is None:
            raise damaged_tag(path, name, value, "one fraction")
        per_unit.append(pair[0] / pair[1] if pair[1] else 0.0)
    return per_unit[0], per_unit[1], int(unit)


def _special_format(tif: tifffile.TiffFile) -> str | None:
    for vendor, found in (
        ("hamamatsu", tif.is_ndpi),
        ("leica", tif.is_scn),
        ("philips", tif.is_philips),
        ("ventana", tif.is_bif),
        ("trestle", str(tif.pages.first.tags.valueof("Software")).startswith("MedScan")),
    ):
        if found:
            return vendor
    return None
