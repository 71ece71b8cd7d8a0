"""What one DICOM file says of its image, and where its frames lie in it. The only importer of pydicom."""

from __future__ import annotations

import io
import logging
import math
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsi_deform.errors import SlideError
from wsi_deform.faults import pass_on_own_fault
from wsi_deform.geometry import Size, tile_grid
from wsi_deform.slide.dicom.instance import Instance, Rest
from wsi_deform.slide.dicom.kind import Kind, kind_of
from wsi_deform.slide.dicom.meta import (
    BIG_ENDIAN,
    DEFLATED,
    IMPLICIT,
    SERIES_UID,
    UNKNOWN_LENGTH,
    FileMeta,
    read_meta,
)
from wsi_deform.slide.dicom.places import frame_places, frame_spacings
from wsi_deform.slide.dicom.values import items, number, spacing_um, whole
from wsi_deform.slide.source import LocalFile, SourceFile

PER_FRAME = 0x52009230
OFFSET_TABLE = 0x7FE00001
PIXELS = 0x7FE00010
# The header of a slide is some KiB, with a colour profile some MiB.
HEADER_BYTES = 64 << 20
MOST_PATHS = 1000

# What pydicom raises on scrambled bytes; ``pass_on_own_fault`` tells it from mistakes of ours.
PARSE_ERRORS = (
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, NotImplementedError, RecursionError,
    EOFError, OSError, MemoryError, struct.error, zlib.error,
)  # fmt: skip

KEYWORDS = (
    "ImageType", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Manufacturer",
    "ManufacturerModelName", "ConcatenationUID", "SOPInstanceUIDOfConcatenationSource",
    "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber", "DimensionOrganizationType",
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "SpecimenLabelInImage", "TotalPixelMatrixColumns",
    "TotalPixelMatrixRows", "TotalPixelMatrixFocalPlanes", "TotalPixelMatrixOriginSequence", "NumberOfOpticalPaths",
    "OpticalPathSequence", "SharedFunctionalGroupsSequence", "PixelSpacing", "ImagedVolumeWidth", "ImagedVolumeHeight",
)  # fmt: skip

_quiet = threading.RLock()


def read_series(path: Path, meta: FileMeta) -> tuple[str, Kind]:
    """The series of a file and what its image shows, from its first few hundred bytes.

    Raises:
        SlideError: Its header is damaged.
    """
    with path.open("rb") as file, _parsing(path):
        dataset, _, _ = _parsed(path, file, meta, SERIES_UID + 1, ("ImageType", "SeriesInstanceUID"))
        return str(dataset.get("SeriesInstanceUID") or path.name), kind_of(_words(dataset))


def read_instance(path: Path) -> Instance:
    """Read the header of a file.

    Raises:
        SlideError: It is no whole slide image, or its header is damaged or says what cannot be.
    """
    source = LocalFile(path)
    meta = read_meta(path)
    if meta is None or not meta.is_whole_slide:
        found = (
            "not a DICOM file" if meta is None else f"a DICOM object of class {meta.sop_class or 'unknown'}"
        )
        raise SlideError(
            f"{path}: {found}. Needed a VL Whole Slide Microscopy Image. Name a file of the slide itself."
        )
    with _parsing(path):
        dataset, stopped_at, next_tag = _parsed(
            path, io.BufferedReader(SourceFile(source)), meta, PER_FRAME, KEYWORDS
        )
        return _instance(path, meta, dataset, stopped_at, has_groups=next_tag == PER_FRAME)


def read_rest(instance: Instance, file: Any, *, with_places: bool) -> Rest:
    """Find the pixels of an instance, and where its frames lie.

    Args:
        instance: Its header.
        file: The bytes that ``rest_offset`` counts in.
        with_places: Whether the places of frames are wanted.

    Raises:
        SlideError: They are damaged, or there are none.
    """
    met: list[tuple[int, int]] = []

    def stop(tag: int, length: int) -> bool:
        if tag == PIXELS:
            met.append((file.tell(), length))
        return tag >= PIXELS - 2  # floating point pixels too

    with_spacings = instance.mpp is None
    tags = [OFFSET_TABLE, *([PER_FRAME] if with_places or with_spacings else [])]
    file.seek(instance.rest_offset)
    with _parsing(instance.path):
        dataset = _read(instance.path, file, instance.meta, stop, tags)
        offsets = dataset[OFFSET_TABLE].value if OFFSET_TABLE in dataset else b""
        spacings = frame_spacings(dataset) if with_spacings else ()
        places = frame_places(dataset, instance) if with_places else ()
    if not met:
        raise damaged(instance.path, "no pixel data of whole numbers")
    # pydicom asks twice about the first element, the first time without its length.
    offset, length = met[-1]
    return Rest(
        places=places,
        spacings=spacings,
        offsets=offsets if isinstance(offsets, bytes) else b"",
        pixels_offset=offset,
        pixels_bytes=None if length == UNKNOWN_LENGTH else length,
    )


def damaged(path: Path, found: str) -> SlideError:
    """A file that does not hold what it says it holds."""
    return SlideError(
        f"{path}: a damaged DICOM file ({found}). Copy it again, or export it again from where it came from."
    )


def _parse_errors() -> tuple[type[Exception], ...]:
    import pydicom.errors

    return (*PARSE_ERRORS, pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError)


def _parsed(
    path: Path, file: Any, meta: FileMeta, end: int, keywords: tuple[str, ...]
) -> tuple[Any, int, int]:
    """Elements of a dataset before a tag, where reading stopped, and the tag that lies there."""
    import pydicom.datadict

    met = [0]

    def stop(tag: int, _: int) -> bool:
        met[0] = tag
        return tag >= end

    tags = [pydicom.datadict.tag_for_keyword(name) for name in keywords]
    opened = file
    opened.seek(meta.dataset_offset)
    if meta.syntax == DEFLATED:
        opened = io.BytesIO(zlib.decompressobj(-15).decompress(opened.read(HEADER_BYTES), HEADER_BYTES))
    dataset = _read(path, opened, meta, stop, tags)
    return dataset, opened.tell(), met[0]


def _read(path: Path, file: Any, meta: FileMeta, stop: Callable[[int, int], bool], tags: list[Any]) -> Any:
    """Wanted elements of a dataset, from here to where ``stop``, given tag and length of each, says so."""
    from pydicom.filereader import read_dataset

    wanted = set(tags)

    def stop_when(tag: int, _: object, length: int) -> bool:
        if stop(tag, length):
            return True
        if tag in wanted and HEADER_BYTES < length < UNKNOWN_LENGTH and tag != PER_FRAME:
            raise damaged(path, f"an element of {length} bytes in its header")
        return False

    little = meta.syntax != BIG_ENDIAN
    return read_dataset(file, meta.syntax == IMPLICIT, little, stop_when=stop_when, specific_tags=tags)


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """Whatever pydicom stumbles over is the file's damage; what it would warn of does not matter here."""
    try:
        with _quiet, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logger = logging.getLogger("pydicom")
            was_disabled, logger.disabled = logger.disabled, True
            try:
                yield
            finally:
                logger.disabled = was_disabled
    except _parse_errors() as error:
        pass_on_own_fault(error, "pydicom")
        raise damaged(path, f"{type(error).__name__}: {error}") from error


def _instance(path: Path, meta: FileMeta, dataset: Any, stopped_at: int, *, has_groups: bool) -> Instance:
    tile = _size(path, dataset, "Columns", "Rows")
    frames = whole(dataset, "NumberOfFrames", 1)
    size = tile
    if "TotalPixelMatrixColumns" in dataset or frames != 1:
        size = _size(path, dataset, "TotalPixelMatrixColumns", "TotalPixelMatrixRows")
    source = dataset.get("SOPInstanceUIDOfConcatenationSource")
    if frames < 1:
        raise damaged(path, f"{frames} frames")
    optical_paths = _optical_paths(dataset)
    return Instance(
        path=path,
        meta=meta,
        kind=kind_of(_words(dataset), has_label=dataset.get("SpecimenLabelInImage") == "YES"),
        image_type="\\".join(_words(dataset)),
        series=str(dataset.get("SeriesInstanceUID") or path.name),
        uid=str(source or dataset.get("SOPInstanceUID") or path.name),
        size=size,
        tile=tile,
        frames=frames,
        first_frame=whole(dataset, "ConcatenationFrameOffsetNumber", 0),
        parts=whole(dataset, "InConcatenationTotalNumber", 1) if source else 1,
        is_sparse=_whether_sparse(dataset, size, tile, frames, has_groups),
        samples=whole(dataset, "SamplesPerPixel", 1),
        photometric=str(dataset.get("PhotometricInterpretation") or "").strip().upper(),
        is_planar=whole(dataset, "PlanarConfiguration", 0) == 1,
        bits=(whole(dataset, "BitsAllocated", 8), whole(dataset, "BitsStored", 8)),
        is_signed=whole(dataset, "PixelRepresentation", 0) == 1,
        planes=max(whole(dataset, "TotalPixelMatrixFocalPlanes", 1), 1),
        optical_paths=tuple(name for name, _ in optical_paths),
        path_names=tuple(said for _, said in optical_paths),
        mpp=_mpp(dataset),
        volume_mpp=_volume_mpp(dataset),
        power=next(
            (number(one, "ObjectiveLensPower") for one in items(dataset, "OpticalPathSequence")), None
        ),
        depth=_depth(dataset),
        about=_about(dataset),
        rest_offset=stopped_at,
    )


def _words(dataset: Any) -> list[str]:
    value = dataset.get("ImageType")
    return [] if value is None else [value] if isinstance(value, str) else [str(word) for word in value]


def _size(path: Path, dataset: Any, columns: str, rows: str) -> Size:
    width, height = whole(dataset, columns, 0), whole(dataset, rows, 0)
    if width < 1 or height < 1:
        raise damaged(path, f"{columns} {width}, {rows} {height}")
    return Size(width, height)


def _whether_sparse(dataset: Any, size: Size, tile: Size, frames: int, has_groups: bool) -> bool:
    """A file that does not say how its frames lie and has as many as fill the image has them in order."""
    said = str(dataset.get("DimensionOrganizationType") or "").upper()
    if said.startswith("TILED"):
        return said != "TILED_FULL"
    return has_groups and frames % tile_grid(size, tile).area != 0


def _optical_paths(dataset: Any) -> list[tuple[str, str]]:
    """Identifier and name of each optical path; one where the file says nothing of them."""
    found: list[tuple[str, str]] = []
    for one in items(dataset, "OpticalPathSequence"):
        name = str(one.get("OpticalPathIdentifier") or len(found) + 1)
        found.append((name, str(one.get("OpticalPathDescription") or name)))
    count = max(whole(dataset, "NumberOfOpticalPaths", len(found)), 1)
    if count > MOST_PATHS:
        raise ValueError(f"{count} optical paths")
    return found if len(found) >= count else [(str(number), str(number)) for number in range(1, count + 1)]


def _mpp(dataset: Any) -> tuple[float, float] | None:
    """PixelSpacing of all frames, else of the image, as um along x and y."""
    groups = items(dataset, "SharedFunctionalGroupsSequence")
    places = (measures for group in groups for measures in items(group, "PixelMeasuresSequence"))
    said = (spacing_um(place.get("PixelSpacing")) for place in (*places, dataset))
    return next((mpp for mpp in said if mpp is not None), None)


def _volume_mpp(dataset: Any) -> tuple[float, float] | None:
    """Um per pixel along x and y from what the image shows, mm, and its pixels."""
    x_um, y_um = (
        _um_per_pixel(number(dataset, f"ImagedVolume{side}"), whole(dataset, f"TotalPixelMatrix{pixels}", 0))
        for side, pixels in (("Width", "Columns"), ("Height", "Rows"))
    )
    return None if x_um is None or y_um is None else (x_um, y_um)


def _um_per_pixel(side_mm: float | None, pixels: int) -> float | None:
    um = None if side_mm is None or pixels < 1 else side_mm * 1000 / pixels
    return um if um is not None and math.isfinite(um) and um > 0 else None


def _depth(dataset: Any) -> float:
    """Where the focal plane of all frames lies, 0 where the file does not say."""
    places = list(items(dataset, "TotalPixelMatrixOriginSequence"))
    for group in items(dataset, "SharedFunctionalGroupsSequence"):
        places += items(group, "PlanePositionSlideSequence")
    depths = (number(place, "ZOffsetInSlideCoordinateSystem") for place in places)
    return next((depth for depth in depths if depth is not None), 0.0)


def _about(dataset: Any) -> tuple[tuple[str, str], ...]:
    """Metadata for people; nothing that names a patient."""
    keywords = ("ImageType", "Manufacturer", "ManufacturerModelName", "SeriesDescription", "SeriesInstanceUID",
                "SOPInstanceUID", "PhotometricInterpretation", "DimensionOrganizationType")  # fmt: skip
    found = []
    for keyword in keywords:
        value = dataset.get(keyword)
        if value is not None and value != "":
            text = value if isinstance(value, str) else "\\".join(map(str, value))
            found.append((f"dicom.{keyword}", text))
    return tuple(found)
