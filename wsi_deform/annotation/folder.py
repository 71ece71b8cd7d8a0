"""A manifest from a folder: slides paired with their labels, patients dealt to splits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wsi_deform.annotation.label_list import labels_by_list
from wsi_deform.annotation.label_search import (
    FoundLabels,
    LabelPattern,
    is_label_name,
    is_outline,
    labels_by_name,
    labels_by_pattern,
    mask_folders_of,
)
from wsi_deform.annotation.patients import patients_of
from wsi_deform.annotation.splits import split_patients
from wsi_deform.errors import ManifestError
from wsi_deform.geometry import Mpp
from wsi_deform.manifest.problems import EXAMPLES, Problem, problem_text
from wsi_deform.manifest.rows import Manifest, ManifestRow, Split, slide_id_from_path
from wsi_deform.paths import id_key, id_problem, path_problem, printable
from wsi_deform.slide.search import search_slides

DEFAULT_SHARES: Mapping[Split, float] = {"train": 0.7, "val": 0.15, "test": 0.15}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSource:
    """Where the labels of a folder of slides are, and how they are paired with them.

    Attributes:
        folder: Folder of the labels; None takes folders called masks, labels or annotations inside the folder of the
            slides or beside it.
        pattern: How files of labels are named, see ``LabelPattern``; None: as usual, ``<slide_id>_mask.*`` beside a
            slide and in folders of labels, and there ``<slide_id>.*`` too.
        pairs: A CSV that says whose labels are which, see ``labels_by_list``; relative paths in it start at
            ``folder``, or else at its own folder.
    """

    folder: Path | str | None = None
    pattern: str | None = None
    pairs: Path | str | None = None

    def places(self, slides: Path) -> list[Path]:
        """Folders of labels beside a folder of slides.

        Raises:
            ManifestError: The one that is named is no folder, or labels are asked for in two ways.
        """
        if self.pattern is not None and self.pairs is not None:
            raise ManifestError(
                "labels: asked for by a pattern and by a list of pairs. Needed one of --labels-pattern and --pairs. "
                "Leave the other out."
            )
        if self.folder is None:
            return mask_folders_of(slides)
        if not Path(self.folder).is_dir():
            raise ManifestError(
                f"masks {self.folder}: not a folder. Needed the folder that holds the masks. Check the path."
            )
        return [Path(self.folder)]

    def labels(self, folder: Path, slides: Sequence[Path]) -> FoundLabels:
        """The labels of the slides of a folder.

        Raises:
            ManifestError: The pattern fits nothing, or something is wrong with the list.
        """
        places = self.places(folder)
        if self.pairs is not None:
            base = None if self.folder is None else places[0]
            return labels_by_list(
                {slide_id_from_path(path): path for path in slides}, Path(self.pairs), folder=base
            )
        if self.pattern is not None:
            return labels_by_pattern(folder, places, slides, LabelPattern(self.pattern))
        return labels_by_name(folder, places, slides)


def manifest_from_folder(
    folder: Path | str,
    *,
    labels: LabelSource = LabelSource(),
    patient_pattern: str | None = None,
    patients: Path | str | None = None,
    each_slide_a_patient: bool = False,
    mpp: Mpp | None = None,
    shares: Mapping[Split, float] = DEFAULT_SHARES,
    seed: int = 0,
    class_pixels: Callable[[Sequence[ManifestRow]], Mapping[str, Mapping[int, int]]] | None = None,
    on_remark: Callable[[str], None] | None = None,
) -> Manifest:
    """Make a manifest of all slides in a folder.

    Args:
        folder: Searched with its subfolders.
        labels: Where the labels are.
        patient_pattern: Regular expression searched in the slide id; its first group, or all of it, is the
            patient. Default for ids that all have one: the participant of the TCGA barcode.
        patients: A CSV with columns slide or slide_id, and patient; see ``patients_of``.
        each_slide_a_patient: Whether no two slides are of one patient.
        mpp: Level-0 um per pixel of all slides, or None for what the files say.
        shares: Share of the labelled slides (of all slides when none is labelled) per split.
        seed: Decides which patients go where; the same seed, ids and labels give the same splits.
        class_pixels: Counts the labelled pixels of each class in the masks of the rows (slide id -> class -> px), by
            which splits are stratified; None deals patients by their slides alone.
        on_remark: Called with what is no problem and yet worth knowing: slides without labels, labels without a slide.

    Returns:
        Rows in the order of their ids, slides of one patient always in one split. Slides and masks that cannot
        be used because of their names or places are left out, each with a warning in the log.

    Raises:
        ManifestError: There are no slides; ids repeat or a slide has two masks; nothing says whose the slides are, or
            a pattern or a list does not fit; all at once.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError(f"folder {folder}: not a folder. Needed a folder of slides. Check the path.")
    slides = _usable_slides(folder, labels)
    if not slides:
        raise ManifestError(
            f"folder {folder}: no slides found. Needed at least one slide file (SVS, TIFF, NDPI, MRXS, ...). "
            "Check the path."
        )
    found = labels.labels(folder, slides)
    rows, problems = _rows(slides, found, mpp)
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
    if on_remark is not None:
        for remark in (_without_labels(rows), found.remark()):
            if remark is not None:
                on_remark(remark)
    splits = split_patients(rows, shares, seed, None if class_pixels is None else class_pixels(rows))
    some = any(row.mask or row.annotation for row in rows)
    rows = [
        row.model_copy(update={"split": splits.get(str(row.patient))})
        # A slide without labels is nothing to learn from, though others of its patient may be.
        if row.mask or row.annotation or not some
        else row
        for row in rows
    ]
    return Manifest(rows=tuple(rows), folder=folder)


def _rows(
    slides: Sequence[Path], found: FoundLabels, mpp: Mpp | None
) -> tuple[list[ManifestRow], list[Problem]]:
    """A row per slide, with its labels, in the order of ids; and what is wrong with them."""
    rows, problems = [], []
    of_slides = {path.absolute() for slide_id in found.ids for path in found.of_slide.get(slide_id, [])}
    first: dict[str, Path] = {}
    for path in sorted(slides, key=lambda slide: (slide_id_from_path(slide), str(slide))):
        if path.absolute() in of_slides:
            continue  # a list says that it is the labels of another one
        slide_id = slide_id_from_path(path)
        earlier = first.setdefault(id_key(slide_id), path)
        if earlier != path:
            remedy = "Rename one, or write the manifest by hand with a slide_id for each"
            problems.append(
                Problem(
                    where=str(path), found=f"same name as {earlier}", needed="unique names", remedy=remedy
                )
            )
        labels = found.of_slide.get(slide_id, [])
        if len(labels) > 1:
            both = " and ".join(str(label) for label in labels)
            problems.append(
                Problem(
                    where=str(path),
                    found=f"masks {both}",
                    needed="one mask per slide",
                    remedy="Move one away, or say which by --labels-pattern or --pairs",
                )
            )
        outlines = bool(labels) and is_outline(labels[0])
        mask, annotation = (None, labels[0]) if outlines else (labels[0] if labels else None, None)
        rows.append(ManifestRow(slide=path, slide_id=slide_id, mask=mask, annotation=annotation, mpp=mpp))
    return rows, problems


def _without_labels(rows: Sequence[ManifestRow]) -> str | None:
    """What is to be said of slides without labels; None where all have some."""
    without = [row.slide_id for row in rows if row.mask is None and row.annotation is None]
    if not without:
        return None
    if len(without) == len(rows):
        return "no slide has labels: all patients were dealt to splits"
    shown = ", ".join(without[:EXAMPLES]) + (", ..." if len(without) > EXAMPLES else "")
    return f"{len(without)} of {len(rows)} slides without labels, in no split: {shown}"


def _usable_slides(folder: Path, labels: LabelSource) -> list[Path]:
    """The slides of a folder that a manifest can name; others are warned about. Masks are no slides."""
    if problem := path_problem(folder.absolute()):
        raise ManifestError(f"folder {printable(folder)}: {problem}")

    mask_folders = labels.places(folder)
    pattern = None if labels.pattern is None else LabelPattern(labels.pattern)

    def is_mask(path: Path) -> bool:
        inside = any(path.is_relative_to(other) and other != folder for other in mask_folders)
        return inside or is_label_name(path)

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
    if pattern is None:
        return slides
    ids = {slide_id_from_path(path) for path in slides}
    return [path for path in slides if pattern.id_of(path, ids) not in ids - {slide_id_from_path(path)}]
