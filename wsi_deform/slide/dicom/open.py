"""Which reader serves a DICOM slide: OpenSlide where it reads the same, else our own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from wsi_deform.errors import SlideError
from wsi_deform.paths import SPECIAL_FILES, trouble_at
from wsi_deform.slide.dicom.reader import DicomReader
from wsi_deform.slide.dicom.series import Series, read_series
from wsi_deform.slide.openslide_reader import OpenSlideReader
from wsi_deform.slide.reader import Reader


def open_dicom(path: Path) -> Reader:
    """Open a DICOM slide.

    Args:
        path: One of its files, or the folder that holds them.

    Returns:
        OpenSlide's reader where it finds the levels that the headers describe, else our own. OpenSlide passes over
        levels whose ImageType it does not know, and refuses many codecs.

    Raises:
        SlideError: It cannot be read, by what the headers say.
    """
    series = read_series(path)
    own = DicomReader(series)
    other = _openslide(series)
    if other is None:
        return own
    if [level.size for level in other.info.levels] != [level.size for level in own.info.levels]:
        other.close()
        return own
    # OpenSlide knows fewer places where the scale may be said.
    known = ("mpp", "mpp_xy", "mpp_source", "mpp_remarks", "images", "remarks")
    other.info = dataclasses.replace(other.info, **{name: getattr(own.info, name) for name in known})
    own.close()
    return other


def _openslide(series: Series) -> OpenSlideReader | None:
    path = series.levels[0].instances[0].path
    if not series.is_plain or _has_special_neighbour(path):
        return None
    try:
        return OpenSlideReader(path)
    except SlideError:
        return None


def _has_special_neighbour(path: Path) -> bool:
    """OpenSlide opens every file beside a DICOM file, and would wait for a pipe for ever."""
    return any(trouble_at(neighbour) in SPECIAL_FILES for neighbour in path.absolute().parent.iterdir())
