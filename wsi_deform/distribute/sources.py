"""Which slides a path stands for, and a name of its own for each."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_deform.errors import MaskError, SlideError
from wsi_deform.geometry import Mpp, Region
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import ManifestRow, Split
from wsi_deform.paths import (
    LONGEST_ID_BYTES,
    SLIDE_SUFFIXES,
    SPECIAL_FILES,
    clean_id,
    id_key,
    id_problem,
    path_problem,
    printable,
    split_image,
    trouble_at,
    without_slide_suffix,
)
from wsi_deform.plugins import failed_plugins
from wsi_deform.slide.added import added_suffixes
from wsi_deform.slide.find import slide_id_of
from wsi_deform.slide.path import SlidePath, SlideUrl
from wsi_deform.slide.search import LeftOut, search_slides

MANIFEST_SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSource:
    """A slide that is to be segmented.

    Attributes:
        path: The file, folder or URL.
        slide_id: Its name in all outputs; no other slide of the same call has it.
        mpp: Level-0 um per pixel that wins over the file's own, or None.
        tissue_path: Raster file whose pixels above 0 are tissue, or None.
        region: The part of it that is segmented, level-0 px, or None for all of it.
        labels: File of its labels, for an oracle; or None.
        labels_are_outlines: Whether that holds outlines instead of pixels.
        label_channel: The channel that holds them, or None.
        problem: Why it cannot be segmented; empty when nothing is known against it. With a problem, ``path`` is
            for people: it may be no slide at all, and is not to be opened.
    """

    path: SlidePath
    slide_id: str
    mpp: Mpp | None = None
    tissue_path: Path | None = None
    region: Region | None = None
    labels: Path | None = None
    labels_are_outlines: bool = False
    label_channel: int | None = None
    problem: str = ""

    def absolute(self) -> SlideSource:
        """The same slide, found from any working folder."""
        path = self.path.absolute() if isinstance(self.path, Path) else self.path
        tissue = None if self.tissue_path is None else self.tissue_path.absolute()
        labels = None if self.labels is None else self.labels.absolute()
        if self.problem and isinstance(path, Path):
            path = Path(printable(path))
        return replace(self, path=path, tissue_path=tissue, labels=labels)


def slide_sources(
    slides: SlidePath, *, out: Path, mpp: float | None = None, split: Split | None = None
) -> tuple[SlideSource, ...]:
    """All slides that a path stands for; none is opened.

    Args:
        slides: A folder (searched with its subfolders), a slide, one of the images in a file (``FILE::NAME``), the URL
            of either, or a manifest CSV.
        out: The output folder; what lies in it is no input.
        mpp: Level-0 um per pixel of all slides; wins over the manifest and the files.
        split: Of a manifest, only the rows of this split.

    Returns:
        At least one slide, in the order of the manifest or of the paths. What is or may hold a slide and cannot
        be used is one with a ``problem``, so that it is counted and named: a folder that cannot be listed, a link
        that leads nowhere, a pipe, a path that cannot be written down, a name too long for the outputs.

    Raises:
        SlideError: The path does not exist, or stands for no slide.
        ManifestError: The manifest cannot be used.
        MaskError: The path of ``out`` cannot be written down.

    Convention:
        A slide of a folder is named after its file without its suffix. Where two would share a name (letter
        case and the way accents are written aside), all of them keep their suffix, and if that is not enough,
        the folders above them too, joined by "__". What has a problem takes no name from others.
    """
    if problem := path_problem(out.absolute()):
        raise MaskError(f"output folder {printable(out)}: {problem}")
    if isinstance(slides, SlideUrl):
        return (_alone(slides, mpp),)
    if slides.suffix.lower() in MANIFEST_SUFFIXES and not trouble_at(slides) and slides.is_file():
        return _rows(slides, mpp, split)
    shown = printable(slides)
    if split is not None:
        raise SlideError(
            f"slides {shown}: --split {split} needs a manifest with a column split. Leave it out."
        )
    file, image = split_image(slides)
    if problem := trouble_at(file):
        raise SlideError(
            f"slides {shown}: {problem}. Needed a folder, a slide or a manifest CSV. Check the path."
        )
    if problem := path_problem(slides.absolute()):
        raise SlideError(f"slides {shown}: {problem}")
    if slides.is_file() or image:
        return (_alone(slides, mpp),)
    return _in_folder(slides, out, mpp)


def distinct_names(paths: Sequence[Path], folder: Path) -> list[str]:
    """A name for each path, none twice on any disk.

    Args:
        paths: Slides.
        folder: Where they were found.

    Returns:
        One name per path; the same paths in any order get the same names.
    """
    steps = [0] * len(paths)
    while True:
        names = [_name(path, folder, step) for path, step in zip(paths, steps, strict=True)]
        keys = [id_key(name) for name in names]
        counts = Counter(keys)
        shared = [counts[key] > 1 for key in keys]
        if not any(shared):
            return names
        # The last step holds a hash of the path, so two never share it.
        steps = [min(step + again, 3) for step, again in zip(steps, shared, strict=True)]


def _name(path: Path, folder: Path, step: int) -> str:
    """A name that says more with each step: stem, file name, path, path and hash."""
    if step < 2:
        return clean_id(path.name) if step else slide_id_of(path)
    within = path.relative_to(folder) if path.is_relative_to(folder) else path
    name = clean_id("__".join(within.parts))
    if step == 2 and len(os.fsencode(name)) <= LONGEST_ID_BYTES:
        return name
    # The folders make it too long: the file's own name and the hash say which it is.
    last = name if len(os.fsencode(name)) + 13 <= LONGEST_ID_BYTES else clean_id(path.name)
    return f"{last}-{_hash_of(within)}"


def _hash_of(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.as_posix())).hexdigest()[:12]


def _alone(slide: SlidePath, mpp: float | None) -> SlideSource:
    """The only slide of a call."""
    slide_id = slide_id_of(slide)
    if needed := id_problem(slide_id):
        raise SlideError(f"slides {printable(slide)}: {_no_id(slide_id, needed)}")
    return SlideSource(path=slide, slide_id=slide_id, mpp=mpp)


def _no_id(slide_id: str, needed: str) -> str:
    return (
        f"its name {slide_id[:40]}... cannot name outputs. Needed {needed}. Rename it, or list it in a manifest CSV "
        "with a slide_id of its own."
    )


def _in_folder(folder: Path, out: Path, mpp: float | None) -> tuple[SlideSource, ...]:
    """The slides of a folder, and what was left out of it, by path."""
    if folder.resolve().is_relative_to(out.resolve()):
        raise SlideError(
            f"slides {folder}: lies in the output folder {out}, in which nothing is a slide. Choose another --out."
        )
    search = search_slides(folder, without=out)
    if not search.slides and not search.left_out:
        raise SlideError(
            f"slides {folder}: no slide among its {search.files} files. Looked in it and its subfolders for "
            f"{', '.join(sorted(SLIDE_SUFFIXES | added_suffixes()))}, OME-Zarr folders and DICOM folders. Check the "
            f"path, or list the slides in a manifest CSV with a column slide.{failed_plugins()}"
        )
    good, left_out = [], list(search.left_out)
    names = distinct_names(search.slides, folder)
    for path, name in zip(search.slides, names, strict=True):
        if needed := id_problem(name):
            left_out.append(LeftOut(path=path, reason=f"{path}: {_no_id(name, needed)}"))
        else:
            good.append(SlideSource(path=path, slide_id=name, mpp=mpp))
    taken = {id_key(source.slide_id) for source in good}
    bad = [_with_problem(one, folder, taken) for one in sorted(left_out, key=lambda one: one.path)]
    return tuple(sorted([*good, *bad], key=lambda source: source.path))


def _with_problem(left_out: LeftOut, folder: Path, taken: set[str]) -> SlideSource:
    """A source that stands for what cannot be used; its id goes to ``taken``."""
    path = left_out.path
    within = path.relative_to(folder) if path.is_relative_to(folder) else path
    # Its suffix goes as that of a slide does; a long name is cut where no character is cut.
    name = clean_id(printable(without_slide_suffix("__".join(within.parts))))
    if id_problem(name):
        name = os.fsencode(name)[:100].decode(errors="ignore") + "..."
    if id_key(name) in taken:
        name = f"{name}-{_hash_of(within)}"
    taken.add(id_key(name))
    return SlideSource(path=Path(printable(path)), slide_id=name, problem=left_out.reason)


def _rows(path: Path, mpp: float | None, split: Split | None) -> tuple[SlideSource, ...]:
    # Files are not checked here: a slide that is missing fails alone, and the others are done.
    manifest = read_manifest(path, check_files=False)
    rows = manifest.rows if split is None else manifest.of_split(split)
    if not rows:
        raise SlideError(
            f"manifest {path}: no row of split {split} among {len(manifest.rows)}. Choose another --split."
        )
    sources = []
    for row in rows:
        problem = _row_problem(row)
        source = SlideSource(
            path=Path(printable(row.slide)) if problem else row.slide,
            slide_id=row.slide_id,
            mpp=row.mpp if mpp is None else mpp,
            tissue_path=row.tissue_mask,
            region=row.region,
            labels=row.annotation if row.mask is None else row.mask,
            labels_are_outlines=row.mask is None and row.annotation is not None,
            label_channel=row.mask_channel,
            problem=problem,
        )
        sources.append(source)
    return tuple(sources)


def _row_problem(row: ManifestRow) -> str:
    """What is known against a row without opening its slide, which may lie where only workers see it."""
    for path in (row.slide, row.tissue_mask):
        if path is None:
            continue
        if problem := path_problem(path.absolute()):
            return f"{printable(path)}: {problem}"
        if (trouble := trouble_at(split_image(path)[0])) in SPECIAL_FILES:
            return f"{path}: {trouble}. Needed a file or folder. Correct the path in the manifest."
    return ""
