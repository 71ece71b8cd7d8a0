"""Which files and folders are slides, by their names and first bytes, and what a slide is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsi_deform.paths import (
    SLIDE_SUFFIXES,
    ZARR_SUFFIX,
    ZIPPED_ZARR_SUFFIXES,
    id_of_file,
)
from wsi_deform.slide.added import is_added
from wsi_deform.slide.dicom.files import HEAD_BYTES, DicomImage, dicom_image
from wsi_deform.slide.dicom.meta import PREFIX_AT, is_dicom
from wsi_deform.slide.path import SlidePath, SlideUrl, file_of

DICOM_SUFFIX = ".dcm"

# Files of these kinds lie beside slides by the thousands: they are not looked into. The last row is photographs whose
# first picture is a preview.
NO_SLIDES = frozenset((
    ".txt", ".csv", ".tsv", ".json", ".geojson", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".html", ".htm", ".log",
    ".ini", ".cfg", ".toml", ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".ppt", ".pptx",
    ".py", ".ipynb", ".sh", ".js", ".css", ".svg", ".gif", ".webp", ".gz", ".bz2", ".xz", ".zst", ".tar", ".7z",
    ".rar", ".mp4", ".avi", ".mov", ".npy", ".npz", ".pt", ".pth", ".pkl", ".h5", ".hdf5", ".parquet", ".db",
    ".sqlite", ".qpdata", ".qpproj", ".asap", ".ndpa", ".annotations", ".dat",
    ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf",
))  # fmt: skip
TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
CZI_MAGIC = b"ZISRAWFILE"


def slide_id_of(path: SlidePath) -> str:
    """The name of a slide: its file name without ``.svs``, ``.ome.tif`` and the like; other dots are kept.

    Convention:
        Characters that no file should have in its name, e.g. ``:`` and line feeds, become ``_``. The name of an image
        (``FILE::NAME``) follows behind two of them.
    """
    file, image = file_of(path)
    return id_of_file(file.name, image)


def is_slide(path: str | Path) -> bool:
    """Whether a path looks like a slide.

    Args:
        path: A file or folder.

    Returns:
        True for files with a slide's suffix or, under another suffix, the first bytes of a TIFF, DICOM or CZI, or those
        that an added reader wants to see (``slide/added.py``);
        OME-Zarr folders, and folders that hold one DICOM slide. False for DICOM files of annotations, reports,
        labels and overviews. The file may still be unreadable.
    """
    path = Path(path)
    if path.name.startswith("."):
        return False
    if path.is_dir():
        return is_zarr_folder(path) or is_dicom_series_folder(path)
    found = path.is_file() and looked_at(path)
    return found.may_be_slide if isinstance(found, DicomImage) else found


def looked_at(path: Path) -> DicomImage | bool:
    """What a file is, by its name and, where that does not say it, by its first bytes.

    Args:
        path: A file; not a pipe.

    Returns:
        A DICOM image of a slide; else whether it looks like another slide. A DICOM file that shows no slide, of
        annotations or a report, does not. A file called ``.dcm`` that is not one, or cannot be read, does: what it
        is called is what somebody takes it for.
    """
    suffix = path.suffix.lower()
    if suffix in SLIDE_SUFFIXES - {DICOM_SUFFIX} or path.name.lower().endswith(ZIPPED_ZARR_SUFFIXES):
        return True
    if suffix in NO_SLIDES:
        return is_added(path)
    try:
        with path.open("rb") as file:
            head = file.read(PREFIX_AT + 4)
            if is_dicom(head):
                return dicom_image(path, head + file.read(HEAD_BYTES)) or False
    except OSError:
        return suffix == DICOM_SUFFIX
    return suffix == DICOM_SUFFIX or head.startswith((*TIFF_MAGIC, CZI_MAGIC)) or is_added(path, head)


def is_zarr_folder(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return path.is_dir() and (
        path.suffix.lower() == ZARR_SUFFIX
        or any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zattrs"))
    )


def is_zarr_url(url: SlideUrl) -> bool:
    """Whether a URL names a Zarr folder or something in it; servers have no folders that could be looked at."""
    return any(part.lower().endswith(ZARR_SUFFIX) for part in url.parts)


def is_dicom_series_folder(folder: Path) -> bool:
    """Whether a folder holds the files of one DICOM slide, two or more, and no other slide.

    Convention:
        A link that leads nowhere may be the file with the finest level: the folder is not whole then.
    """
    images: list[DicomImage] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            return False
        if not path.is_file():
            # Not opened: to open a pipe is to wait for ever.
            if path.suffix.lower() == DICOM_SUFFIX:
                return False
            continue
        found = looked_at(path)
        if isinstance(found, DicomImage):
            images.append(found)
            if len({one.series for one in images[-2:] if one.may_be_slide}) > 1:
                return False
        elif found:
            return False
    return is_one_slide(images)


def is_one_slide(images: Sequence[DicomImage]) -> bool:
    """Whether DICOM images, two or more, show one slide."""
    return len(images) > 1 and len({one.series for one in images if one.may_be_slide}) == 1
