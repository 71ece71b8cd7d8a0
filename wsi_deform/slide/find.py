"""Which files and folders are slides, by their names; and all slides of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

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
    """The name of a slide: its file name without ``.svs``, ``.ome.tif`` and the like; other dots are kept."""
    name = path.name
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


def find_slides(folder: str | Path) -> list[Path]:
    """All slides in a folder and its subfolders.

    Args:
        folder: Where to look; a slide itself (file, OME-Zarr, DICOM folder) gives itself.

    Returns:
        Sorted paths. A folder that holds nothing but one DICOM series counts once, as that folder; where
        several series share a folder, each counts once, as its largest file. Hidden files and the companion
        folders and files of MRXS and VMS slides are left out.
    """
    folder = Path(folder)
    if is_slide(folder):
        return [folder]
    return sorted(_slides_in(folder))


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
        path for path in folder.iterdir() if path.suffix.lower() == ".dcm" and not path.name.startswith(".")
    ]
    return sorted(found, key=lambda path: (-path.stat().st_size, path.name))


def is_dicom_series_folder(folder: Path) -> bool:
    """Whether a folder holds the files of one DICOM series and no other slide."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    dicom = [path for path in entries if path.suffix.lower() == ".dcm"]
    if len(dicom) < 2 or any(
        path.is_dir() or path.suffix.lower() in SLIDE_SUFFIXES - {".dcm"} for path in entries
    ):
        return False
    return len({series_uid(path) for path in dicom}) == 1


def series_uid(path: Path) -> str:
    """The Series Instance UID of a DICOM file; a file without one is its own series."""
    with path.open("rb") as file:
        match = SERIES_UID.search(file.read(DICOM_HEADER_BYTES))
    return match.group(1).decode("ascii") if match else path.name


def _slides_in(folder: Path) -> Iterator[Path]:
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    names = {path.name.lower() for path in entries}
    jpegs_are_parts = any(path.suffix.lower() in (".vms", ".vmu") for path in entries)
    series: dict[str, Path] = {}
    for path in entries:
        if path.is_dir():
            if f"{path.name.lower()}.mrxs" in names:
                continue
            if is_slide(path):
                yield path
            else:
                yield from _slides_in(path)
        elif is_slide(path):
            suffix = path.suffix.lower()
            if suffix == ".dcm":
                uid = series_uid(path)
                if uid not in series or path.stat().st_size > series[uid].stat().st_size:
                    series[uid] = path
            elif not (jpegs_are_parts and suffix in (".jpg", ".jpeg")):
                yield path
    yield from series.values()
