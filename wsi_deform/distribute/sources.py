"""Which slides a path stands for, and a name of its own for each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_deform.errors import SlideError
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Split
from wsi_deform.slide.find import SLIDE_SUFFIXES, slide_id_of
from wsi_deform.slide.open import find_slides
from wsi_deform.slide.path import SlidePath, SlideUrl

MANIFEST_SUFFIXES = (".csv", ".tsv")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideSource:
    """A slide that is to be segmented.

    Attributes:
        path: The file, folder or URL.
        slide_id: Its name in all outputs; no other slide of the same call has it.
        mpp: Level-0 um per pixel that wins over the file's own, or None.
        tissue_path: Raster file whose pixels above 0 are tissue, or None.
        problem: Why it cannot be segmented; empty when nothing is known against it.
    """

    path: SlidePath
    slide_id: str
    mpp: float | None = None
    tissue_path: Path | None = None
    problem: str = ""

    def absolute(self) -> SlideSource:
        """The same slide, found from any working folder."""
        path = self.path.absolute() if isinstance(self.path, Path) else self.path
        tissue = None if self.tissue_path is None else self.tissue_path.absolute()
        return replace(self, path=path, tissue_path=tissue)


def slide_sources(
    slides: SlidePath, *, out: Path, mpp: float | None = None, split: Split | None = None
) -> tuple[SlideSource, ...]:
    """All slides that a path stands for; none is opened.

    Args:
        slides: A folder (searched with its subfolders), a slide, the URL of a slide, or a manifest CSV.
        out: The output folder; what lies in it is no input.
        mpp: Level-0 um per pixel of all slides; wins over the manifest and the files.
        split: Of a manifest, only the rows of this split.

    Returns:
        At least one slide, in the order of the manifest or of the paths.

    Raises:
        SlideError: The path does not exist, or stands for no slide.
        ManifestError: The manifest cannot be used.

    Convention:
        A slide of a folder is named after its file without its suffix. Where two would share a name (letter
        case aside), all of them keep their suffix, and if that is not enough, the folders above them too,
        joined by "__".
    """
    if isinstance(slides, SlideUrl):
        return (SlideSource(path=slides, slide_id=slide_id_of(slides), mpp=mpp),)
    if slides.suffix.lower() in MANIFEST_SUFFIXES and slides.is_file():
        return _rows(slides, mpp, split)
    if split is not None:
        raise SlideError(
            f"slides {slides}: --split {split} needs a manifest with a column split. Leave it out."
        )
    if not slides.exists():
        raise SlideError(
            f"slides {slides}: does not exist. Needed a folder, a slide or a manifest CSV. Check the path."
        )
    if slides.is_file():
        return (SlideSource(path=slides, slide_id=slide_id_of(slides), mpp=mpp),)
    inside = out.resolve()
    found = [path for path in find_slides(slides) if not path.resolve().is_relative_to(inside)]
    if not found:
        files = sum(1 for path in slides.rglob("*") if path.is_file())
        raise SlideError(
            f"slides {slides}: no slide among its {files} files. Looked in it and its subfolders for "
            f"{', '.join(sorted(SLIDE_SUFFIXES))}, OME-Zarr folders and DICOM folders. Check the path, or "
            "list the slides in a manifest CSV with a column slide."
        )
    names = distinct_names(found, slides)
    return tuple(
        SlideSource(path=path, slide_id=name, mpp=mpp) for path, name in zip(found, names, strict=True)
    )


def distinct_names(paths: Sequence[Path], folder: Path) -> list[str]:
    """A name for each path, none twice even where letter case does not count.

    Args:
        paths: Slides.
        folder: Where they were found.

    Returns:
        One name per path; the same paths in any order get the same names.
    """
    steps = [0] * len(paths)
    while True:
        names = [_name(path, folder, step) for path, step in zip(paths, steps, strict=True)]
        counts = Counter(name.casefold() for name in names)
        shared = [counts[name.casefold()] > 1 for name in names]
        if not any(shared):
            return names
        # The last step holds a hash of the path, so two never share it.
        steps = [min(step + again, 3) for step, again in zip(steps, shared, strict=True)]


def _name(path: Path, folder: Path, step: int) -> str:
    """A name that says more with each step: stem, file name, path, path and hash."""
    if step < 2:
        return path.name if step else slide_id_of(path)
    within = path.relative_to(folder) if path.is_relative_to(folder) else path
    name = "__".join(within.parts)
    return name if step == 2 else f"{name}-{hashlib.sha256(within.as_posix().encode()).hexdigest()[:12]}"


def _rows(path: Path, mpp: float | None, split: Split | None) -> tuple[SlideSource, ...]:
    # Files are not checked here: a slide that is missing fails alone, and the others are done.
    manifest = read_manifest(path, check_files=False)
    rows = manifest.rows if split is None else manifest.of_split(split)
    if not rows:
        raise SlideError(
            f"manifest {path}: no row of split {split} among {len(manifest.rows)}. Choose another --split."
        )
    return tuple(
        SlideSource(
            path=row.slide,
            slide_id=row.slide_id,
            mpp=row.mpp if mpp is None else mpp,
            tissue_path=row.tissue_mask,
        )
        for row in rows
    )
