"""Which files and folders are slides, by their names, and what a slide is called."""

from __future__ import annotations

import re
from pathlib import Path

from wsi_deform.paths import clean_id
from wsi_deform.slide.path import SlidePath, SlideUrl

SLIDE_SUFFIXES = frozenset(
    [
        ".svs",
        ".tif",
        ".tiff",
        ".btf",
        ".tf8",
        ".ndpi",
        ".vms",
        ".vmu",
        ".scn",
        ".mrxs",
        ".bif",
        ".svslide",
        ".dcm",
        ".png",
        ".jpg",
        ".jpeg",
        ".bmp",
    ]
)
# Longest first, so that "a.ome.tif" loses both.
DOUBLE_SUFFIXES = (".ome.tiff", ".ome.tif", ".ome.btf", ".ome.tf8", ".ome.zarr")
ZARR_SUFFIX = ".zarr"

# Series Instance UID (0020,000E): explicit VR ("UI", 2-byte length) or implicit VR (4-byte length).
SERIES_UID = re.compile(rb"\x20\x00\x0e\x00(?:UI..|.\x00\x00\x00)([0-9.]{1,64})", re.DOTALL)
DICOM_HEADER_BYTES = 1 << 16


def slide_id_of(path: SlidePath) -> str:
    """The name of a slide: its file name without ``.svs``, ``.ome.tif`` and the like; other dots are kept.

    Convention:
        Characters that no file should have in its name, e.g. ``:`` and line feeds, become ``_``.
    """
    return clean_id(without_suffix(path.name))


def without_suffix(name: str) -> str:
    """The name of a file without the suffix of a slide."""
    lower = name.lower()
    for suffix in DOUBLE_SUFFIXES:
        if lower.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    suffix = Path(lower).suffix
    known = suffix in SLIDE_SUFFIXES or suffix == ZARR_SUFFIX
    return name[: -len(suffix)] if known and len(name) > len(suffix) else name


def is_slide(path: str | Path) -> bool:
    """Whether a path looks like a slide.

    Args:
        path: A file or folder.

    Returns:
        True for files with a slide's suffix, OME-Zarr folders and folders that hold one DICOM series.
        Nothing is opened but DICOM headers: the file may still be unreadable.
    """
    path = Path(path)
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_zarr_folder(path) or is_dicom_series_folder(path)
    return path.is_file() and path.suffix.lower() in SLIDE_SUFFIXES


def is_zarr_folder(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return path.is_dir() and (
        path.suffix.lower() == ZARR_SUFFIX
        or any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))
    )


def is_zarr_url(url: SlideUrl) -> bool:
    """Whether a URL names a Zarr folder or something in it; servers have no folders that could be looked at."""
    return any(part.lower().endswith(ZARR_SUFFIX) for part in url.parts)


def dicom_files(folder: Path) -> list[Path]:
    """The ``.dcm`` files of a folder, largest first: the largest has the finest level."""
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() == ".dcm" and not path.name.startswith(".") and path.is_file()
    ]
    return sorted(found, key=lambda path: (-path.stat().st_size, path.name))


def is_dicom_series_folder(folder: Path) -> bool:
    """Whether a folder holds the files of one DICOM series and no other slide.

    Convention:
        A link that leads nowhere may be the file with the finest level: the folder is not whole then.
    """
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    dicom = [path for path in entries if path.suffix.lower() == ".dcm"]
    if len(dicom) < 2 or any(
        path.is_dir() or path.suffix.lower() in SLIDE_SUFFIXES - {".dcm"} for path in entries
    ):
        return False
    # Files only: to open a pipe is to wait for ever.
    return all(path.is_file() for path in dicom) and len({series_uid(path) for path in dicom}) == 1


def series_uid(path: Path) -> str:
    """The Series Instance UID of a DICOM file; one without it, or that cannot be read, is its own series."""
    try:
        with path.open("rb") as file:
            match = SERIES_UID.search(file.read(DICOM_HEADER_BYTES))
    except OSError:
        return path.name
    return match.group(1).decode("ascii") if match else path.name
