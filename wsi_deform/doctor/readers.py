"""Every codec and every reader of slides, tried on a tiny drawn picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from wsi_deform.doctor.finding import Finding, Status, tried
from wsi_deform.doctor.picture import (
    LOSSY,
    SIDE_PX,
    check_alike,
    picture,
    write_dicom,
    write_tiff,
    write_zarr,
)

REINSTALL = "pip install --force-reinstall"
# tifffile's name -> how to write it, what may differ, and what it is where it fails: scanners write the first ones.
TIFF_CODECS: Mapping[str, tuple[dict[str, Any], int, Status]] = {
    "none": ({}, 0, "fault"),
    "jpeg": ({"compression": "jpeg", "compressionargs": {"level": 95}}, LOSSY, "fault"),
    "jpeg2000": ({"compression": "jpeg2000", "compressionargs": {"reversible": True}}, LOSSY, "fault"),
    "deflate": ({"compression": "deflate"}, 0, "fault"),
    "lzw": ({"compression": "lzw"}, 0, "fault"),
    "webp": ({"compression": "webp"}, LOSSY, "remark"),
    "zstd": ({"compression": "zstd"}, 0, "remark"),
    "packbits": ({"compression": "packbits"}, 0, "remark"),
    "lzma": ({"compression": "lzma"}, 0, "remark"),
    "jpegxl": ({"compression": "jpegxl"}, LOSSY, "remark"),
}


def codec_findings(folder: Path) -> Iterator[Finding]:
    """Write and read a TIFF in each compression, and decode the others that DICOM may have.

    Args:
        folder: An empty folder for files.
    """
    remedy = f"{REINSTALL} imagecodecs"
    for name, (how, tolerance, otherwise) in TIFF_CODECS.items():

        def check(name: str = name, how: dict[str, Any] = how, tolerance: int = tolerance) -> str:
            from wsi_deform.slide.tiff.reader import TiffReader

            return _read(TiffReader, write_tiff(folder / f"{name}.tif", **how), tolerance)

        yield tried("codecs", f"tiff {name}", check, remedy=remedy, otherwise=otherwise)
    for name, decodes in {"rle": _rle, "jpeg-ls": _jpeg_ls, "lossless jpeg": _lossless_jpeg}.items():
        yield tried("codecs", f"dicom {name}", decodes, remedy=remedy, otherwise="remark")
    yield tried("codecs", "mask", _mask_tile, remedy=f"{REINSTALL} isal")


def reader_findings(folder: Path) -> Iterator[Finding]:
    """Open a file of each kind with the reader that serves it, and compare the pixels.

    Args:
        folder: An empty folder for files.
    """
    checks: dict[str, tuple[Callable[[Path], str], str]] = {
        "openslide": (_openslide, f"{REINSTALL} openslide-bin openslide-python"),
        "dicom": (_dicom, f"{REINSTALL} pydicom"),
        "ome-zarr": (_zarr, f"{REINSTALL} zarr numcodecs"),
        "picture": (_picture, f"{REINSTALL} pillow"),
        "address": (_address, f"{REINSTALL} fsspec"),
    }
    for name, (check, remedy) in checks.items():
        place = folder / name
        place.mkdir()
        yield tried("readers", name, lambda check=check, place=place: check(place), remedy=remedy)  # type: ignore[misc]


def _read(open_reader: Callable[[Path], Any], path: Path, tolerance: int) -> str:
    """Open a file of the picture and read its only tile."""
    reader = open_reader(path)
    try:
        check_alike(reader.read_tile(0, 0, 0), picture(), tolerance=tolerance)
    finally:
        reader.close()
    return "read as it was drawn"


def _openslide(folder: Path) -> str:
    from wsi_deform.slide.openslide_reader import OpenSlideReader, library_version

    path = write_tiff(folder / "a.tif", compression="jpeg", compressionargs={"level": 95})
    return f"{_read(OpenSlideReader, path, LOSSY)}; library {library_version()}"


def _dicom(folder: Path) -> str:
    from wsi_deform.slide.dicom.open import open_dicom

    return _read(open_dicom, write_dicom(folder / "a.dcm"), 0)


def _zarr(folder: Path) -> str:
    from wsi_deform.slide.zarr_reader import ZarrReader

    return _read(ZarrReader, write_zarr(folder / "a.zarr"), 0)


def _picture(folder: Path) -> str:
    from PIL import Image

    from wsi_deform.slide.image_reader import ImageReader

    Image.fromarray(picture()).save(folder / "a.png")
    return _read(ImageReader, folder / "a.png", 0)


def _address(folder: Path) -> str:
    """A TIFF that fsspec serves from memory."""
    import fsspec

    from wsi_deform.slide.path import SlideUrl
    from wsi_deform.slide.remote import RemoteFile
    from wsi_deform.slide.tiff.reader import TiffReader

    path = write_tiff(folder / "a.tif")
    url = f"memory://wsi-deform-doctor/{folder.parent.name}.tif"
    with fsspec.open(url, "wb") as file:
        file.write(path.read_bytes())
    try:
        return _read(lambda _: TiffReader(RemoteFile(SlideUrl(url))), path, 0)
    finally:
        fsspec.filesystem("memory").rm(url)


def _rle() -> str:
    import imagecodecs
    import numpy as np

    segments = [imagecodecs.packbits_encode(np.ascontiguousarray(picture()[..., each])) for each in range(3)]
    segments = [each + b"\0" * (len(each) % 2) for each in segments]
    offsets = 64 + np.cumsum([0, *map(len, segments)])[:-1]
    stored = struct.pack("<16I", 3, *offsets, *[0] * 12) + b"".join(segments)
    flat = np.frombuffer(imagecodecs.dicomrle_decode(stored, "u1", out=picture().size), np.uint8)
    check_alike(np.moveaxis(flat.reshape(3, SIDE_PX, SIDE_PX), 0, -1), picture())
    return "decoded as it was drawn"


def _jpeg_ls() -> str:
    import imagecodecs

    check_alike(imagecodecs.jpegls_decode(imagecodecs.jpegls_encode(picture())), picture())
    return "decoded as it was drawn"


def _lossless_jpeg() -> str:
    import imagecodecs
    import numpy as np

    gray = np.ascontiguousarray(picture()[..., 0])
    check_alike(imagecodecs.jpegsof3_decode(imagecodecs.ljpeg_encode(gray)), gray)
    return "decoded as it was drawn"


def _mask_tile() -> str:
    """What masks are deflated by, and that it is what all others read."""
    from isal import isal_zlib

    drawn = picture().tobytes()
    if zlib.decompress(isal_zlib.compress(drawn, 1)) != drawn:
        raise ValueError("what isal deflates is not what zlib reads")
    return "deflated by isal, read by zlib"
