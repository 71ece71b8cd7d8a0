"""The index of a tiled or stripped TIFF pyramid, parsed once: which pages are its levels."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_deform.errors import NotThisReaderError, ShapeError, SlideError
from wsi_deform.faults import pass_on_own_fault, version_of
from wsi_deform.geometry import Size, tile_grid
from wsi_deform.slide.channels import Channel
from wsi_deform.slide.choice import Candidate, choose
from wsi_deform.slide.colour import ORIENTATION_REMARK, UNTURNED
from wsi_deform.slide.declared import TooLargeError
from wsi_deform.slide.path import SlidePath
from wsi_deform.slide.reader import StoredImage
from wsi_deform.slide.source import ByteSource, LocalFile, SourceFile
from wsi_deform.slide.tiff.images import TiffImage, images_in
from wsi_deform.slide.tiff.level import TiffLevel, level_from_pages
from wsi_deform.slide.tiff.page import (
    MAX_SAMPLE_VALUE,
    ORIENTATION,
    RESOLUTION_UNIT,
    SOFTWARE,
    X_RESOLUTION,
    Y_RESOLUTION,
    checked_page,
    colour_kind,
    damaged_tag,
    fraction_of,
    page_size,
)
from wsi_deform.slide.tiff.planes import check_planes
from wsi_deform.slide.tiff.stack import axes_of, stack_pages

# What tifffile raises on files that are cut off, scrambled or not TIFF at all (TiffFileError is a ValueError in
# newer ones alone). Our own lines raise some of it too when they are wrong: ``pass_on_own_fault`` tells which.
# ShapeError is a side of 0 px.
INDEX_ERRORS = (
    ValueError, OSError, RuntimeError, struct.error, LookupError, TypeError, AttributeError, ArithmeticError,
    ImportError, MemoryError, ShapeError, tifffile.TiffFileError,
)  # fmt: skip

INCH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TiffIndex:
    """All that is known about a TIFF pyramid without reading pixels.

    Attributes:
        levels: Finest first, sizes strictly decreasing.
        dtype: Of stored pixels, in native byte order; 1-bit images count as uint8.
        channels: Channels per pixel over all planes.
        bits: Bits per sample that are used; 1 for bilevel images, 12 of 16 where the file says so.
        says_bits: Whether the file says that these are fewer than are stored.
        photometric: TIFF photometric interpretation (0 white is zero, 1 black is zero, 2 RGB, 3 palette, 6
            YCbCr).
        compression: TIFF compression number.
        extra_samples: TIFF ExtraSamples (1 associated alpha, 2 unassociated alpha), may be empty.
        colormap: (3, 2**bits) uint16 for palette images, else None.
        description: The ImageDescription of the image's first page, of OME-TIFF the OME-XML.
        resolution: Pixels per unit (x, y) and the unit's number (1 none, 2 inch, the default, 3 cm), or None.
        flavour: "aperio", "ome" or "generic-tiff".
        special: Name of a format in TIFF's clothing that the tags do not say enough about ("hamamatsu", ...),
            or None.
        channel_list: What the file says of channels that are stored by themselves; none where it says nothing.
        are_channels_rgb: Whether three planes are red, green and blue where nothing is said of them.
        pages_alike: Pages of this size and kind of which the file does not say what tells them apart; 1 where the
            image was picked by name.
        stack_planes: Planes of which one is read: focal planes times time points.
        image_number: The image's number among those of OME-XML; None where none of them is it.
        images: All images of the file, none where it holds one.
        remarks: What people should know of what is read.
    """

    levels: tuple[TiffLevel, ...]
    dtype: np.dtype[Any]
    bits: int
    says_bits: bool
    channels: int
    photometric: int
    compression: int
    extra_samples: tuple[int, ...]
    colormap: NDArray[np.uint16] | None
    description: str
    resolution: tuple[float, float, int] | None
    flavour: str
    special: str | None
    channel_list: tuple[Channel, ...] = ()
    are_channels_rgb: bool = True
    pages_alike: int = 1
    stack_planes: int = 1
    image_number: int | None = 0
    images: tuple[StoredImage, ...] = ()
    remarks: tuple[str, ...] = ()


def read_index(source: ByteSource, asked: str = "") -> TiffIndex:
    """Parse the index of a TIFF pyramid once.

    Args:
        source: A TIFF, BigTIFF, SVS or OME-TIFF file; stays open.
        asked: The name of one of its images; empty takes the slide, see ``choose``.

    Returns:
        The index of that image and its levels.

    Raises:
        SlideError: Not a TIFF, cut off, or stored in a way that cannot be read directly.
        NotThisReaderError: Stored in a compression that another reader may know.
    """
    try:
        if isinstance(source, LocalFile):
            # An open file: of a path tifffile looks up every folder.
            with source.opened() as opened, tifffile.TiffFile(opened) as tif:
                return _index_from_tif(tif, source, asked)
        with SourceFile(source) as file, tifffile.TiffFile(file, name=source.path.name) as tif:
            return _index_from_tif(tif, source, asked)
    except INDEX_ERRORS as error:
        pass_on_own_fault(error, "tifffile")
        raise SlideError(
            f"{source.path}: the TIFF index cannot be read ({type(error).__name__}: {error}; tifffile "
            f"{version_of('tifffile')}). Needed a complete TIFF; "
            f"copy or download the file again and compare its {source.size_bytes} bytes with the original."
        ) from error


def _index_from_tif(tif: tifffile.TiffFile, source: ByteSource, asked: str) -> TiffIndex:
    path = source.path
    check_planes(tif, path)
    if not len(tif.pages):
        raise SlideError(
            f"{path}: a TIFF without an image. Needed one or more; copy or download the file again and compare its "
            f"{source.size_bytes} bytes with the original."
        )
    every = images_in(tif, path)
    choice = choose(
        [Candidate(name=one.name, size=one.size, is_beside=one.is_beside) for one in every], asked, path
    )
    image = every[choice.number]
    try:
        levels, first, remarks = _levels_of(image, path)
    except NotThisReaderError as error:
        # Another reader would serve another image of the file, or lose what OME-XML says.
        if tif.is_ome or choice.number > 0:
            raise SlideError(str(error)) from error
        raise
    _check_bytes(levels, source)
    dtype, bits = _native_dtype(first.dtype), _bits(first, path)
    said_bits = image.significant_bits or _max_sample_bits(first)
    says_bits = said_bits is not None and 8 <= said_bits < bits
    flavour = "aperio" if tif.is_svs else "ome" if tif.is_ome else "generic-tiff"
    alike = [one for one in every if one.pages and not one.is_beside and one.size == image.size]
    orientation = first.tags.valueof(ORIENTATION)
    turned = () if orientation in (None, UNTURNED) else (ORIENTATION_REMARK.format(orientation),)
    return TiffIndex(
        levels=tuple(levels),
        dtype=dtype,
        bits=said_bits if says_bits and said_bits else bits,
        says_bits=says_bits,
        channels=sum(plane.channels for plane in levels[0].planes),
        photometric=int(first.photometric),
        compression=int(first.compression),
        extra_samples=tuple(int(extra) for extra in first.extrasamples),
        colormap=None if first.colormap is None else np.asarray(first.colormap, np.uint16),
        description=_described_page(tif, image, first).description,
        resolution=_resolution(first, path),
        flavour=flavour,
        special=_special_format(tif),
        channel_list=image.channels,
        are_channels_rgb=image.are_channels_rgb,
        pages_alike=1 if asked or image.is_told_of or not image.pages else len(alike),
        stack_planes=_stack_planes(image),
        image_number=image.number,
        images=choice.images,
        remarks=(*choice.remarks, *image.remarks, *remarks, *turned),
    )


def _described_page(tif: tifffile.TiffFile, image: TiffImage, first: Any) -> Any:
    """The page whose description is the image's: of a stack the first plane, which need not be the one that is read."""
    if tif.is_ome:
        return tif.pages.first
    return image.stacks[0].keyframe if image.stacks else first


def _stack_planes(image: TiffImage) -> int:
    return math.prod(
        length for series in image.stacks[:1] for axis, length in axes_of(series) if axis in "ZT"
    )


def _levels_of(image: TiffImage, path: SlidePath) -> tuple[list[TiffLevel], Any, tuple[str, ...]]:
    """The levels of an image, its first page, and remarks; a coarse level that cannot be read is left out."""
    stored = [stack_pages(series, path) for series in image.stacks[:1]]
    remarks = stored[0][1] if stored else ()
    failed: list[str] = []
    for series in image.stacks[1:]:
        try:
            stored.append(stack_pages(series, path))
        except SlideError as error:
            failed.append(_unread(page_size(checked_page(series.keyframe, path)), error, path))
    found = [(pages, checked_page(pages[0], path)) for pages, _ in stored]
    found += [([page], page) for page in image.pages]
    # The finest first, in whatever order they lie; equals stay in theirs.
    found.sort(key=lambda one: -page_size(one[1]).area)
    (pages, first), *coarse = found
    levels = [level_from_pages(pages, page_size(first), path)]
    for pages, page in coarse:
        size, last = page_size(page), levels[-1].size
        if size.width > last.width or size.height > last.height or size == last:
            continue
        try:
            if colour_kind(page) != colour_kind(first) or len(pages) != len(found[0][0]):
                raise SlideError(f"{path}: its pixels are of another kind than those of level 0.")
            level = level_from_pages(pages, levels[0].size, path)
            if not level.holds_tiles and levels[0].holds_tiles:
                raise SlideError(f"{path}: none of its tiles is stored.")
            levels.append(level)
        except TooLargeError:
            raise
        except SlideError as error:
            failed.append(_unread(size, error, path))
    return levels, first, (*remarks, *failed)


def _unread(size: Size, error: SlideError, path: SlidePath) -> str:
    """A remark on a coarse level that is not read."""
    reason = str(error).removeprefix(f"{path}: ").partition(". ")[0].rstrip(".")
    return f"the level of {size} px cannot be read ({reason}); finer ones are read in its place"


def _check_bytes(levels: Sequence[TiffLevel], source: ByteSource) -> None:
    """Refuse a cut-off file before the first pixel is read."""
    found, path = source.size_bytes, source.path
    for number, level in enumerate(levels):
        for plane in level.planes:
            most = max(int(plane.offsets.max(initial=0)), int(plane.counts.max(initial=0)))
            if most <= found and int((plane.offsets + plane.counts).max(initial=0)) <= found:
                continue  # as nearly always
            # Apart: the sum of two wild numbers may be a negative one.
            ends = np.where(plane.counts > 0, plane.offsets + plane.counts, 0)
            beyond = (ends > found) | (plane.counts > found) | ((plane.counts > 0) & (plane.offsets > found))
            if beyond.any():
                worst = int(np.flatnonzero(beyond)[0])
                columns = tile_grid(level.size, level.tile).width
                raise SlideError(
                    f"{path}: truncated. Tile (column {worst % columns}, row {worst // columns}) of level "
                    f"{number} ends at byte "
                    f"{int(plane.offsets[worst]) + int(plane.counts[worst])}, the file has {found} bytes. Copy or "
                    "download it again."
                )


def _bits(page: Any, path: SlidePath) -> int:
    """Bits per sample, the same for all samples."""
    bits = page.bitspersample
    if not isinstance(bits, Integral):
        raise SlideError(
            f"{path}: samples of {bits} bits. Needed as many bits for each; write the slide as 8-bit RGB."
        )
    return int(bits)


def _max_sample_bits(page: Any) -> int | None:
    """The bits that MaxSampleValue says; None where it is absent, or a statistic and no range."""
    said = page.tags.valueof(MAX_SAMPLE_VALUE)
    values = said if isinstance(said, tuple) else (said,)
    if not all(isinstance(one, int) and one > 0 and one & (one + 1) == 0 for one in values):
        return None
    return max(int(one).bit_length() for one in values)


def _native_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")


def _resolution(page: Any, path: SlidePath) -> tuple[float, float, int] | None:
    tags = {"XResolution": X_RESOLUTION, "YResolution": Y_RESOLUTION}
    stored = {name: value for name, code in tags.items() if (value := page.tags.valueof(code)) is not None}
    if not stored:
        return None
    unit = page.tags.valueof(RESOLUTION_UNIT, default=INCH)  # TIFF 6.0, section 8
    if not isinstance(unit, int):
        raise damaged_tag(path, "ResolutionUnit", unit, "one whole number")
    per_unit = []
    for name, value in stored.items():
        number = fraction_of(value)
        if number is None:
            raise damaged_tag(path, name, value, "one number")
        per_unit.append(number)
    # One axis counts for both where the other is not said.
    return per_unit[0], per_unit[-1], int(unit)


def _special_format(tif: tifffile.TiffFile) -> str | None:
    for vendor, found in (
        ("hamamatsu", tif.is_ndpi),
        ("leica", tif.is_scn),
        ("philips", tif.is_philips),
        ("ventana", tif.is_bif),
        ("trestle", str(tif.pages.first.tags.valueof(SOFTWARE)).startswith("MedScan")),
    ):
        if found:
            return vendor
    return None
