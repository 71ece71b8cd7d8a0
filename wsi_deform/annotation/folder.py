"""A manifest from a folder: slides paired with masks by name, patients dealt to splits."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from wsi_deform.annotation.mask_file import LOSSY_SUFFIXES, OUTLINE_SUFFIXES
from wsi_deform.annotation.patients import patients_of
from wsi_deform.annotation.splits import split_patients
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.problems import Problem, problem_text
from wsi_deform.manifest.rows import Manifest, ManifestRow, Split, slide_id_from_path
from wsi_deform.paths import clean_id, id_key, id_problem, path_problem, printable
from wsi_deform.slide.search import search_slides

MASK_ENDINGS = ("_mask", "-mask", ".mask", "_labels", "-labels", "_label", "_anno")
MASK_FOLDERS = ("masks", "labels", "annotations")
MASK_SUFFIXES = (".tif", ".tiff", ".btf", ".png", *OUTLINE_SUFFIXES)
DEFAULT_SHARES: Mapping[Split, float] = {"train": 0.7, "val": 0.15, "test": 0.15}

logger = logging.getLogger(__name__)


def manifest_from_folder(
    folder: Path | str,
    *,
    masks: Path | str | None = None,
    patient_pattern: str | None = None,
    patients: Path | str | None = None,
    each_slide_a_patient: bool = False,
    shares: Mapping[Split, float] = DEFAULT_SHARES,
    seed: int = 0,
    class_pixels: Callable[[Sequence[ManifestRow]], Mapping[str, Mapping[int, int]]] | None = None,
) -> Manifest:
    """Make a manifest of all slides in a folder.

    Args:
        folder: Searched with its subfolders.
        masks: Folder of the masks; default: folders called masks, labels or annotations inside ``folder`` or
            beside it. ``<id>_mask.*`` beside a slide always counts.
        patient_pattern: Regular expression searched in the slide id; its first group, or all of it, is the
            patient. Default for ids that all have one: the participant of the TCGA barcode.
        patients: A CSV with columns slide or slide_id, and patient; see ``patients_of``.
        each_slide_a_patient: Whether no two slides are of one patient.
        shares: Share of the labelled slides (of all slides when none is labelled) per split.
        seed: Decides which patients go where; the same seed, ids and labels give the same splits.
        class_pixels: Counts the labelled pixels of each class in the masks of the rows (slide id -> class -> px), by
            which splits are stratified; None deals patients by their slides alone.

    Returns:
        Rows in the order of their ids, slides of one patient always in one split. Slides and masks that cannot
        be used because of their names or places are left out, each with a warning in the log.

    Raises:
        ManifestError: There are no slides; ids repeat or a slide has two masks; nothing says whose the slides are, or
            the pattern or the list does not fit; all at once.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError(f"folder {folder}: not a folder. Needed a folder of slides. Check the path.")
    mask_folders = [Path(masks)] if masks is not None else _mask_folders(folder)
    if masks is not None and not Path(masks).is_dir():
        raise ManifestError(
            f"masks {masks}: not a folder. Needed the folder that holds the masks. Check the path."
        )
    slides = _usable_slides(folder, mask_folders)
    if not slides:
        raise ManifestError(
            f"folder {folder}: no slides found. Needed at least one slide file (SVS, TIFF, NDPI, MRXS, ...). "
            "Check the path."
        )
    problems: list[Problem] = []
    found_masks = _masks_by_id(folder, mask_folders, set(slides))
    rows = []
    first: dict[str, Path] = {}
    for path in sorted(slides, key=lambda slide: (slide_id_from_path(slide), str(slide))):
        slide_id = slide_id_from_path(path)
        earlier = first.setdefault(id_key(slide_id), path)
        if earlier != path:
            remedy = "Rename one, or write the manifest by hand with a slide_id for each"
            problems.append(
                Problem(
                    where=str(path), found=f"same name as {earlier}", needed="unique names", remedy=remedy
                )
            )
        labels = found_masks.get(slide_id, [])
        if len(labels) > 1:
            both = " and ".join(str(label) for label in labels)
            problems.append(
                Problem(
                    where=str(path),
                    found=f"masks {both}",
                    needed="one mask per slide",
                    remedy="Move one away",
                )
            )
        outlines = bool(labels) and labels[0].suffix.lower() in OUTLINE_SUFFIXES
        mask, annotation = (None, labels[0]) if outlines else (labels[0] if labels else None, None)
        rows.append(ManifestRow(slide=path, slide_id=slide_id, mask=mask, annotation=annotation))
    messages = [problem_text(f"folder {folder}", problems)] if problems else []
    whose: dict[str, str] = {}
    try:
        whose = patients_of(
            {row.slide_id: row.slide for row in rows},
            pattern=patient_pattern,
            listed=patients,
            each_slide=each_slide_a_patient,
        )
    except ManifestError as error:
        messages.append(str(error))
    if messages:
        raise ManifestError("\n".join(messages))
    rows = [row.model_copy(update={"patient": whose[row.slide_id]}) for row in rows]
    splits = split_patients(rows, shares, seed, None if class_pixels is None else class_pixels(rows))
    rows = [row.model_copy(update={"split": splits.get(str(row.patient))}) for row in rows]
    return Manifest(rows=tuple(rows), folder=folder)


def _usable_slides(folder: Path, mask_folders: Sequence[Path]) -> list[Path]:
    """The slides of a folder that a manifest can name; others are warned about. Masks are no slides."""
    if problem := path_problem(folder.absolute()):
        raise ManifestError(f"folder {printable(folder)}: {problem}")

    def is_mask(path: Path) -> bool:
        inside = any(path.is_relative_to(other) and other != folder for other in mask_folders)
        return inside or _is_mask_name(path)

    search = search_slides(folder)
    for one in search.left_out:
        if not is_mask(one.path):
            logger.warning("left out: %s", one.reason)
    slides = []
    for path in search.slides:
        if is_mask(path):
            continue
        if needed := id_problem(slide_id_from_path(path)):
            logger.warning("left out: %s: its name cannot be an id. Needed %s. Rename it.", path, needed)
        else:
            slides.append(path)
    return slides


def _files_below(folder: Path, *, warn: bool) -> Iterator[Path]:
    """All files of a folder and its subfolders; links to folders are not followed."""

    def unreadable(error: OSError) -> None:
        if warn:
            logger.warning("left out: %s: cannot be listed (%s).", printable(error.filename), error.strerror)

    for place, _, names in os.walk(folder, onerror=unreadable):
        yield from (Path(place, name) for name in names)


def _mask_folders(folder: Path) -> list[Path]:
    """Folders with a usual name inside the folder or beside it."""
    places = [place / name for place in (folder, folder.absolute().parent) for name in MASK_FOLDERS]
    return [place for place in places if place.is_dir() and place.absolute() != folder.absolute()]


def _is_mask_name(path: Path) -> bool:
    return slide_id_from_path(path).lower().endswith(MASK_ENDINGS)


def _masks_by_id(folder: Path, mask_folders: Sequence[Path], slides: set[Path]) -> dict[str, list[Path]]:
    """Slide id -> its masks: beside the slides by ending, in a folder of masks by name."""
    found: dict[str, list[Path]] = {}
    beside = [path for path in _files_below(folder, warn=False) if _is_mask_name(path)]
    inside = [path for place in mask_folders for path in _files_below(place, warn=True)]
    for path in sorted({*beside, *inside} - slides):
        suffix = path.suffix.lower()
        if (
            not os.path.isfile(path)  # noqa: PTH113  Path.is_file raises where a folder may not be entered
            or suffix not in MASK_SUFFIXES
            or suffix in LOSSY_SUFFIXES
            or path.name.startswith(".")
        ):
            continue
        if problem := path_problem(path):
            logger.warning("left out: mask %s: %s", printable(path), problem)
            continue
        outline = suffix in OUTLINE_SUFFIXES
        name = clean_id(path.name[: -len(path.suffix)]) if outline else slide_id_from_path(path)
        ending = next((ending for ending in MASK_ENDINGS if name.lower().endswith(ending)), "")
        found.setdefault(name.removesuffix(name[len(name) - len(ending) :]) if ending else name, []).append(
            path
        )
    return found
