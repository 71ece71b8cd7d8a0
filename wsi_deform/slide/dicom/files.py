"""The DICOM files of a folder: told by their first bytes, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wsi_deform.errors import SlideError
from wsi_deform.slide.dicom.kind import Kind, kind_of
from wsi_deform.slide.dicom.meta import (
    IMAGE_TYPE,
    SERIES_UID,
    WHOLE_SLIDE,
    FileMeta,
    is_dicom,
    parsed_meta,
    read_meta,
    walked,
)

# Enough for the headers of nearly all files up to the UID of their series.
HEAD_BYTES = 1 << 13


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomImage:
    """A DICOM file that shows a slide, its label or an overview.

    Attributes:
        path: The file.
        series: UID of its series.
        kind: What it shows.
    """

    path: Path
    series: str
    kind: Kind

    @property
    def may_be_slide(self) -> bool:
        """Whether it shows the slide, as far as is known."""
        return self.kind in (Kind.VOLUME, Kind.UNKNOWN)


def dicom_meta(path: Path) -> FileMeta | None:
    """The head of a file, or None where it is not DICOM or cannot be read."""
    try:
        return read_meta(path) if path.is_file() else None
    except OSError:
        return None


def dicom_image(path: Path, head: bytes) -> DicomImage | None:
    """What a DICOM file shows.

    Args:
        path: The file.
        head: Its first bytes, ``HEAD_BYTES`` where it has so many.

    Returns:
        The image; one whose header is damaged is a series of its own. None for annotations, reports and all else that
        shows no slide; a file that is cut off may have been one.
    """
    meta = parsed_meta(head)
    if not WHOLE_SLIDE.startswith(meta.sop_class):
        return None
    said = walked(head, meta)
    if said is not None:
        series = said.get(SERIES_UID, b"").strip(b"\0 ").decode("ascii", "replace")
        words = said.get(IMAGE_TYPE, b"").decode("ascii", "replace").split("\\")
        return DicomImage(path=path, series=series or path.name, kind=kind_of(words))
    # pydicom takes 0.2 s to import, which other slides need not wait for.
    from wsi_deform.slide.dicom.header import read_series

    try:
        found, kind = read_series(path, meta)
    except (SlideError, OSError):
        found, kind = path.name, Kind.UNKNOWN
    return DicomImage(path=path, series=found, kind=kind)


def dicom_images(path: Path) -> list[DicomImage]:
    """The files of the series that a path stands for.

    Args:
        path: A DICOM file, or a folder that holds one slide.

    Returns:
        All whole slide images of its series in the same folder, by name; annotations and reports are none.

    Raises:
        SlideError: The file is no whole slide image; the folder holds none, or several slides.
    """
    folder = path if path.is_dir() else path.parent
    found = list(images_in(folder.iterdir()))
    if path.is_dir():
        series = {one.series for one in found if one.may_be_slide}
        if len(series) > 1:
            names = sorted(_largest(one for one in found if one.series == each).name for each in series)
            raise SlideError(
                f"{path}: a folder of {len(series)} DICOM slides. Needed one. Name one of their files: "
                f"{', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
            )
        if not series:
            raise SlideError(
                f"{path}: a folder. Needed a slide file, an OME-Zarr folder or a folder with the files of a DICOM "
                "slide."
            )
        return sorted((one for one in found if one.series in series), key=lambda one: one.path)
    own = next(iter(images_in([path])), None)
    if own is None:
        # Its reading says what is wrong.
        return [DicomImage(path=path, series="", kind=Kind.UNKNOWN)]
    others = [one for one in found if one.series == own.series and one.path != path]
    return sorted([own, *others], key=lambda one: one.path)


def images_in(paths: Iterable[Path]) -> Iterable[DicomImage]:
    """The DICOM images of slides among some paths; hidden files are none."""
    for path in paths:
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError:
            continue
        found = dicom_image(path, head) if is_dicom(head) else None
        if found is not None:
            yield found


def _largest(images: Iterable[DicomImage]) -> Path:
    return max(
        (one.path for one in images if one.may_be_slide), key=lambda path: (path.stat().st_size, path.name)
    )
