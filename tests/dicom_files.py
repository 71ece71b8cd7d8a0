"""Drawn DICOM slides: small, whole, in any transfer syntax."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import UID, generate_uid

WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
RAW = "1.2.840.10008.1.2.1"
JPEG = "1.2.840.10008.1.2.4.50"
Encode = Callable[[np.ndarray], bytes]


def jpeg(tile: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(tile).save(out, "JPEG", quality=90)
    return out.getvalue()


def rle(tile: np.ndarray) -> bytes:
    """PackBits of each channel, literally and by runs, with the header of DICOM."""
    segments = []
    for channel in np.atleast_3d(tile).transpose(2, 0, 1):
        coded = imagecodecs.packbits_encode(np.ascontiguousarray(channel))
        segments.append(coded + b"\0" * (len(coded) % 2))
    offsets = 64 + np.cumsum([0, *map(len, segments)])[:-1]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def deflate(tile: np.ndarray) -> bytes:
    coded = zlib.compress(tile.tobytes())[2:-4]
    return coded + b"\0" * (len(coded) % 2)


def tiles_of(pixels: np.ndarray, side: int) -> dict[tuple[int, int], np.ndarray]:
    """(column, row) -> tile, white beyond the edge."""
    rows, columns = -(-pixels.shape[0] // side), -(-pixels.shape[1] // side)
    grown = np.full((rows * side, columns * side, *pixels.shape[2:]), 255, np.uint8)
    grown[: pixels.shape[0], : pixels.shape[1]] = pixels
    return {
        (column, row): np.ascontiguousarray(
            grown[row * side : (row + 1) * side, column * side : (column + 1) * side]
        )
        for row in range(rows)
        for column in range(columns)
    }


def write_dicom(
    path: Path,
    pixels: np.ndarray | Sequence[np.ndarray],
    *,
    syntax: str = JPEG,
    encode: Encode | None = jpeg,
    photometric: str = "YBR_FULL_422",
    kind: str = "VOLUME",
    series: str = "1.2.3",
    mpp: tuple[float, float] = (0.5, 0.5),
    side: int = 128,
    planar: bool = False,
    places: Sequence[tuple[int, int]] | None = None,
    frames: slice | None = None,
    source: str | None = None,
    parts: int = 1,
    table: str = "basic",
    change: Callable[[Dataset], None] = lambda dataset: None,
) -> Path:
    """Write one instance.

    Args:
        path: Where.
        pixels: (H, W, 3) or (H, W); several for focal planes.
        encode: Codes a tile, or None for uncompressed.
        mpp: um per px along x and y.
        places: Tiles that are stored, in this order, each saying where it lies; None stores all of them in order.
        frames: Only these frames, as a part of the image ``source`` of so many ``parts``.
        table: "basic", "extended" or "none": of offsets.
        change: Changes the dataset before it is written.
    """
    planes = list(pixels) if isinstance(pixels, list) else [pixels]
    tiled = [tiles_of(plane, side) for plane in planes]
    stored = [(place, one[place]) for one in tiled for place in (places or one)]
    dataset = _described(planes[0], kind=kind, series=series, mpp=mpp, side=side, photometric=photometric)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset.TotalPixelMatrixFocalPlanes = len(planes)
    dataset.PlanarConfiguration = int(planar)
    if places is not None:
        dataset.DimensionOrganizationType = "TILED_SPARSE"
        dataset.PerFrameFunctionalGroupsSequence = [_group(place, side) for place, _ in stored]
    if frames is not None:
        dataset.SOPInstanceUIDOfConcatenationSource = source
        dataset.InConcatenationTotalNumber = parts
        dataset.ConcatenationFrameOffsetNumber = frames.start
        stored = stored[frames]
    dataset.NumberOfFrames = len(stored)
    tiles = [np.moveaxis(tile, -1, 0) if planar else tile for _, tile in stored]
    _put_pixels(dataset, tiles, encode, table)
    change(dataset)
    known = dataset.file_meta.TransferSyntaxUID
    if not known.is_transfer_syntax:  # pydicom does not know it yet
        dataset.file_meta.TransferSyntaxUID = UID(JPEG)
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    if not known.is_transfer_syntax:
        rename_syntax(path, known)
    return path


def rename_syntax(path: Path, syntax: str) -> None:
    """Put another transfer syntax into the head of a file."""
    data = path.read_bytes()
    start = data.index(b"\x02\x00\x10\x00UI")
    (length,) = struct.unpack_from("<H", data, start + 6)
    uid = syntax.encode() + b"\0" * (len(syntax) % 2)
    (group,) = struct.unpack_from("<I", data, 140)
    path.write_bytes(
        data[:140]
        + struct.pack("<I", group + len(uid) - length)
        + data[144 : start + 6]
        + struct.pack("<H", len(uid))
        + uid
        + data[start + 8 + length :]
    )


def write_other(path: Path, sop_class: str, nbytes: int = 5000) -> Path:
    """A DICOM object that is no slide: annotations, a report."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(RAW)
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID(sop_class), generate_uid()
    dataset.SeriesInstanceUID = "1.2.4"
    dataset.DoublePointCoordinatesData = b"\0" * nbytes
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def _described(
    pixels: np.ndarray, *, kind: str, series: str, mpp: tuple[float, float], side: int, photometric: str
) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID(WHOLE_SLIDE), generate_uid()
    dataset.ImageType = ["DERIVED", "PRIMARY", kind, "RESAMPLED" if kind == "VOLUME" else "NONE"]
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StudyInstanceUID = "SM", series, "1.2"
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows = dataset.Columns = side
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.TotalPixelMatrixColumns, dataset.TotalPixelMatrixRows = pixels.shape[1], pixels.shape[0]
    dataset.DimensionOrganizationType = "TILED_FULL"
    path = Dataset()
    path.OpticalPathIdentifier = "0"
    dataset.NumberOfOpticalPaths, dataset.OpticalPathSequence = 1, [path]
    group, measures = Dataset(), Dataset()
    measures.PixelSpacing = [mpp[1] / 1000, mpp[0] / 1000]
    group.PixelMeasuresSequence = [measures]
    dataset.SharedFunctionalGroupsSequence = [group]
    return dataset


def _group(place: tuple[int, int], side: int) -> Dataset:
    group, position, content = Dataset(), Dataset(), Dataset()
    content.DimensionIndexValues = [place[0] + 1, place[1] + 1]
    position.ColumnPositionInTotalImagePixelMatrix = place[0] * side + 1
    position.RowPositionInTotalImagePixelMatrix = place[1] * side + 1
    group.FrameContentSequence, group.PlanePositionSlideSequence = [content], [position]
    return group


def _put_pixels(dataset: Dataset, tiles: Sequence[np.ndarray], encode: Encode | None, table: str) -> None:
    if encode is None:
        raw = b"".join(tile.tobytes() for tile in tiles)
        dataset.PixelData = raw + b"\0" * (len(raw) % 2)
    else:
        coded: list[Any] = [encode(tile) for tile in tiles]
        if table == "extended":
            dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = (
                encapsulate_extended(coded)
            )
        else:
            dataset.PixelData = encapsulate(coded, has_bot=table == "basic")
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = encode is not None
