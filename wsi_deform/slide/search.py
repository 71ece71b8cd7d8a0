"""All slides of a folder and its subfolders, each once, and what had to be left out."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_deform.errors import SlideError
from wsi_deform.paths import (
    SLIDE_SUFFIXES,
    SPECIAL_FILES,
    ZARR_SUFFIX,
    path_problem,
    printable,
    trouble_at,
)
from wsi_deform.slide.dicom.files import DicomImage
from wsi_deform.slide.find import (
    DICOM_SUFFIX,
    is_one_slide,
    is_slide,
    is_zarr_folder,
    looked_at,
)

FILE_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}")
MRXS_SUFFIX = ".mrxs"
JPEG_SUFFIXES = (".jpg", ".jpeg")
# Slides whose pixels lie in JPEG files beside them.
JPEG_INDEX_SUFFIXES = (".vms", ".vmu")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Something that is, or may hold, a slide and cannot be used.

    Attributes:
        path: Where it lies; its name may be unprintable.
        reason: What was found, what was needed and what to do, with the path in printable form.
    """

    path: Path
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSearch:
    """What a folder holds.

    Attributes:
        slides: Sorted paths of its slides, each once.
        left_out: What is no usable slide but must not be passed over in silence, sorted by path.
        files: Number of all files that were seen.
    """

    slides: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]
    files: int


def find_slides(folder: str | Path) -> list[Path]:
    """All slides in a folder and its subfolders.

    Args:
        folder: Where to look; a slide itself (file, OME-Zarr, DICOM folder) gives itself.

    Returns:
        Sorted paths; ``search_slides`` says how they are found, and what was left out.

    Raises:
        SlideError: The folder does not exist or cannot be listed.
    """
    return list(search_slides(folder).slides)


def search_slides(folder: str | Path, *, without: Path | None = None) -> SlideSearch:
    """Search a folder and its subfolders for slides, by names and first bytes; no pixel is read.

    Args:
        folder: Where to look; a slide itself (file, OME-Zarr, DICOM folder) gives itself.
        without: A folder in which nothing is a slide, e.g. that of the outputs.

    Returns:
        The slides, and everything that had to be left out: folders that cannot be listed, links that lead
        nowhere or back to a folder above them, pipes, sockets and devices with the suffix of a slide, and slides
        whose path cannot be written down.

    Raises:
        SlideError: The folder does not exist or cannot be listed.

    Convention:
        A folder whose only slide is one of several DICOM files counts once, as that folder; where several DICOM
        slides share a folder, each counts once, as its largest file. Annotations, reports, labels and overviews in
        DICOM, hidden files, and the companion folders and files of MRXS and VMS slides are no slides. Links are
        followed; a slide that several paths lead to counts once, under a path that can be written down if there is
        one, without links if there is one.
    """
    folder = Path(folder)
    if trouble := trouble_at(folder):
        raise SlideError(f"{printable(folder)}: {trouble}. Needed a folder of slides. Check the path.")
    try:
        if is_slide(folder):
            return SlideSearch(slides=(folder,), left_out=(), files=1)
        os.scandir(folder).close()
    except OSError as error:
        raise SlideError(
            f"{printable(folder)}: cannot be listed ({error.strerror}). Needed a folder that you may read. Check "
            "the path and its rights."
        ) from error
    return _Search(without).search(folder)


@dataclass(frozen=True, slots=True, order=True)
class _Way:
    """A path to a slide, and what speaks against it; of several the least is taken."""

    reason: str
    linked: bool
    path: Path


@dataclass(frozen=True, slots=True)
class _Place:
    """A folder to look into: its path as it was found, its real path, and whether a link led there."""

    path: Path
    real: Path
    linked: bool


class _Search:
    """One search; links wait until all real folders are done, so that no link takes a slide from its folder."""

    def __init__(self, without: Path | None) -> None:
        self.without = None if without is None else Path(os.path.realpath(without))
        self.ways: dict[Path, _Way] = {}
        self.left_out: list[LeftOut] = []
        self.files = 0
        # Real folder -> whether a path that can be written down has led there.
        self.seen: dict[Path, bool] = {}
        self.links: list[_Place] = []

    def search(self, folder: Path) -> SlideSearch:
        """Look everywhere."""
        self.links = [_Place(folder, Path(os.path.realpath(folder)), False)]
        while self.links:
            # Sorted, so that the disk's order does not decide which of two links leads to a slide.
            links, self.links = sorted(self.links, key=lambda place: place.path), []
            for link in links:
                below = [link]
                while below:
                    below += self._subfolders(below.pop(), is_root=not self.seen)
        ways = self.ways.values()
        left_out = self.left_out + [LeftOut(path=way.path, reason=way.reason) for way in ways if way.reason]
        return SlideSearch(
            slides=tuple(sorted(way.path for way in ways if not way.reason)),
            left_out=tuple(sorted(left_out, key=lambda one: one.path)),
            files=self.files,
        )

    def _subfolders(self, place: _Place, *, is_root: bool) -> list[_Place]:
        """Take what lies in a folder, and give the folders in it; a folder that is a slide has none."""
        writable = not path_problem(place.path)
        if place.real in self.seen and (self.seen[place.real] or not writable):
            return []
        try:
            if not is_root and is_zarr_folder(place.path):
                self._take(place.path, place.real, linked=place.linked)
                return []
            self.seen[place.real] = writable
            with os.scandir(place.path) as listed:
                entries = sorted(
                    (each for each in listed if not each.name.startswith(".")), key=lambda each: each.name
                )
        except OSError as error:
            remedy = "Needed a folder that you may read. Change its rights, or move it away"
            self._leave_out(place.path, f"cannot be listed ({error.strerror}). {remedy}")
            return []
        return self._sorted_out(place, entries, is_root=is_root)

    def _sorted_out(
        self, place: _Place, entries: Sequence[os.DirEntry[str]], *, is_root: bool
    ) -> list[_Place]:
        """Take the slides among the entries of a folder; give the real folders among them."""
        names = {entry.name.lower() for entry in entries}
        no_slides = JPEG_SUFFIXES if any(name.endswith(JPEG_INDEX_SUFFIXES) for name in names) else ()
        images: list[DicomImage] = []
        folders: list[_Place] = []
        # Whether nothing but the files of one DICOM slide lies here, so that it is called after the folder.
        is_alone = not is_root
        for entry in entries:
            path, suffix, is_link = (
                place.path / entry.name,
                Path(entry.name).suffix.lower(),
                entry.is_symlink(),
            )
            real = Path(os.path.realpath(path)) if is_link else place.real / entry.name
            if self.without is not None and real.is_relative_to(self.without):
                continue
            plain = not is_link and (entry.is_dir() or entry.is_file())
            if not plain and (trouble := trouble_at(path)):
                is_alone &= suffix != DICOM_SUFFIX
                if _may_be_slide(suffix, trouble):
                    self._leave_out(path, f"{trouble}. Needed a slide. Mend or remove it")
            elif entry.is_dir():
                is_alone = False
                if f"{entry.name.lower()}{MRXS_SUFFIX}" in names:
                    continue
                if not is_link:
                    folders.append(_Place(path, real, place.linked))
                elif place.real.is_relative_to(real):
                    remedy = "Slides are found there without it. Remove the link"
                    self._leave_out(path, f"is a link back to {printable(real)}, in which it lies. {remedy}")
                else:
                    self.links.append(_Place(path, real, True))
            else:
                self.files += 1
                found = suffix not in no_slides and looked_at(path)
                if isinstance(found, DicomImage):
                    images.append(found)
                elif found:
                    is_alone = False
                    self._take(path, real, linked=is_link or place.linked)
        if is_alone and is_one_slide(images):
            self._take(place.path, place.real, linked=place.linked)
        else:
            self._take_series(images, linked=place.linked)
        return folders

    def _take_series(self, images: Sequence[DicomImage], *, linked: bool) -> None:
        """Take each DICOM slide as its largest file; labels and overviews are none."""
        series: dict[str, list[Path]] = {}
        for one in images:
            if one.may_be_slide:
                series.setdefault(one.series, []).append(one.path)
        for files in series.values():
            path = max(files, key=_bytes_of)
            self._take(path, Path(os.path.realpath(path)), linked=path.is_symlink() or linked)

    def _take(self, path: Path, real: Path, *, linked: bool) -> None:
        """Note a way to a slide, if none that is better is known."""
        problem = path_problem(path)
        reason = f"{printable(path)}: {problem}" if problem else ""
        way = _Way(reason, linked, path)
        self.ways[real] = min(way, self.ways.get(real, way))

    def _leave_out(self, path: Path, reason: str) -> None:
        self.left_out.append(LeftOut(path=path, reason=f"{printable(path)}: {reason}."))


def _may_be_slide(suffix: str, trouble: str) -> bool:
    """Whether something that cannot be looked at could be a slide or a folder of slides."""
    if suffix in SLIDE_SUFFIXES or suffix == ZARR_SUFFIX:
        return True
    # A link that leads nowhere may have led to a folder; one called "notes.txt" did not.
    is_special = trouble in SPECIAL_FILES
    return not is_special and FILE_SUFFIX.fullmatch(suffix) is None


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
