"""One DICOM file of a slide, as its header describes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wsi_deform.geometry import Size
from wsi_deform.slide.dicom.kind import Kind
from wsi_deform.slide.dicom.meta import FileMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One file of a series, as its header says.

    Attributes:
        path: The file.
        meta: Its head.
        kind: What the image shows: the slide, its label, ...
        image_type: The words by which the kind was found.
        series: UID of its series.
        uid: UID of its image; parts of a concatenation share it.
        size: Of the whole image, px.
        tile: Of a frame, px.
        frames: Number of frames in this file.
        first_frame: Number of its first frame in the image.
        parts: Number of files that the image is divided into.
        is_sparse: Whether each frame says where it lies; else they fill the image in order.
        samples: Channels.
        photometric: What the channels are, e.g. "RGB" or "YBR_FULL_422".
        is_planar: Whether uncompressed frames hold one channel after the other.
        bits: Allocated and stored per sample.
        is_signed: Whether samples are signed.
        planes: Number of focal planes.
        optical_paths: Identifiers of the optical paths, at least one.
        path_names: What people call them.
        mpp: um per pixel along x and y by PixelSpacing, or None.
        volume_mpp: The same by the size of what is imaged, or None.
        power: Of the objective, or None.
        depth: Where its focal plane lies, in the unit of the file.
        about: Metadata as text, for people.
        rest_offset: Where what follows the header begins, in the dataset's own bytes.
    """

    path: Path
    meta: FileMeta
    kind: Kind
    image_type: str
    series: str
    uid: str
    size: Size
    tile: Size
    frames: int
    first_frame: int
    parts: int
    is_sparse: bool
    samples: int
    photometric: str
    is_planar: bool
    bits: tuple[int, int]
    is_signed: bool
    planes: int
    optical_paths: tuple[str, ...]
    path_names: tuple[str, ...]
    mpp: tuple[float, float] | None
    volume_mpp: tuple[float, float] | None
    power: float | None
    depth: float
    about: tuple[tuple[str, str], ...]
    rest_offset: int


class FramePlace(NamedTuple):
    """Where a frame lies in the image.

    Attributes:
        x: Its left edge, px of the image from 0.
        y: Its top edge.
        depth: Its focal plane, in the unit of the file.
        path: Identifier of its optical path; empty where the file does not say.
    """

    x: int
    y: int
    depth: float
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What follows the header of an instance.

    Attributes:
        places: Where each frame lies, where that was asked for; else empty.
        spacings: um per pixel along x and y by the PixelSpacing of each frame, each once, where the header has none.
        offsets: The extended offset table, or empty.
        pixels_offset: Where the value of the pixel data begins.
        pixels_bytes: Its length, or None where it ends with a delimiter.
    """

    places: tuple[FramePlace, ...]
    spacings: tuple[tuple[float, float], ...]
    offsets: bytes
    pixels_offset: int
    pixels_bytes: int | None
