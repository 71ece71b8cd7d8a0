"""Whose slides these are: by a pattern, from a list, from barcodes, or every slide for itself."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_deform.errors import ManifestError
from wsi_deform.manifest.problems import Problem, problem_text
from wsi_deform.manifest.rows import slide_id_from_path
from wsi_deform.manifest.table import canonical, read_cells

# A TCGA barcode starts with project, site and participant: the participant is the patient.
TCGA_PATIENT = re.compile(r"TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}")
WAYS = (
    "--patient REGEX (its first group in a slide's id is the patient), --patients CSV (columns slide or slide_id, and "
    "patient), or --each-slide-a-patient (no two slides are of one patient)"
)
LIST = "list of patients"


def patients_of(
    slides: Mapping[str, Path],
    *,
    pattern: str | None = None,
    listed: Path | str | None = None,
    each_slide: bool = False,
) -> dict[str, str]:
    """Find the patient of every slide, in one of the ways that are asked for.

    Args:
        slides: Slide id -> its file.
        pattern: Regular expression searched in the slide id; its first group, or all of it, is the patient.
        listed: A CSV with a column slide (a file name or path) or slide_id, and a column patient. Lines of other
            slides are passed over.
        each_slide: Every slide is a patient of its own.

    Returns:
        Slide id -> patient, for every slide. Where nothing is asked for and every id has a TCGA barcode, the
        participants of these.

    Raises:
        ManifestError: More than one way is asked for; none, and ids without a barcode; or a slide gets no patient or
            several: all such problems at once.
    """
    if sum((pattern is not None, listed is not None, each_slide)) > 1:
        raise ManifestError(
            f"patients: asked for in several ways. Needed one of {WAYS}. Leave the others out."
        )
    if pattern is not None:
        return _by_pattern(slides, pattern)
    if listed is not None:
        return _by_list(slides, Path(listed))
    if each_slide:
        return {slide_id: slide_id for slide_id in slides}
    barcodes = {slide_id: TCGA_PATIENT.search(slide_id) for slide_id in slides}
    without = [slide_id for slide_id, found in barcodes.items() if found is None]
    if without:
        shown = ", ".join(without[:3]) + (", ..." if len(without) > 3 else "")
        raise ManifestError(
            f"patients: nothing says whose the {len(slides)} slides are ({len(without)} without a TCGA barcode: "
            f"{shown}). Needed to keep all slides of a patient in one split: otherwise measures on val and test are "
            f"better than on new patients. Pass {WAYS}."
        )
    return {slide_id: found.group(0) for slide_id, found in barcodes.items() if found is not None}


def _by_pattern(slides: Mapping[str, Path], pattern: str) -> dict[str, str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ManifestError(
            f"patient pattern {pattern!r}: {error}. Needed a regular expression, e.g. '^([^_]+)_'. Correct it."
        ) from error
    found: dict[str, str] = {}
    problems = []
    for slide_id, path in slides.items():
        match = compiled.search(slide_id)
        patient = None if match is None else match.group(1) if compiled.groups else match.group(0)
        if patient:
            found[slide_id] = patient
            continue
        what = "an empty match" if match is not None else "no match"
        problems.append(
            Problem(
                where=str(path),
                found=f"{what} of {pattern!r}",
                needed="a patient",
                remedy="Correct the pattern; its first group is the patient",
            )
        )
    if problems:
        raise ManifestError(problem_text("patients", problems))
    return found


def _by_list(slides: Mapping[str, Path], path: Path) -> dict[str, str]:
    """The patient of each slide by a CSV; all problems at once."""
    names, lines = read_cells(path, LIST)
    slide_at, patient_at, by_id = _columns(path, names)
    problems: list[Problem] = []
    patients: dict[str, tuple[str, int]] = {}
    named: dict[str, int] = {}
    for line, cells in lines:
        slide, patient = (cells[at].strip() if at < len(cells) else "" for at in (slide_at, patient_at))
        # Lists are also written on Windows.
        slide_id = slide if by_id else slide_id_from_path(slide.replace("\\", "/"))
        named.setdefault(slide_id, line)
        where = f"{path.name} line {line}"
        if not slide or (slide_id in slides and not patient):
            empty, other = ("slide", "patient") if not slide else ("patient", "slide")
            remedy = f"Fill in {names[patient_at] if slide else names[slide_at]} or remove the line"
            problems.append(
                Problem(where=where, found=f"no {empty}", needed=f"one beside its {other}", remedy=remedy)
            )
            continue
        earlier, first = patients.setdefault(slide_id, (patient, line))
        if earlier != patient and slide_id in slides:
            problems.append(
                Problem(
                    where=where,
                    found=f"slide {slide_id} is of patient {patient!r}, and of {earlier!r} in line {first}",
                    needed="one patient for a slide",
                    remedy="Correct or remove one of the lines",
                )
            )
    problems += _missing(path, names[slide_at], slides, named)
    if problems:
        raise ManifestError(problem_text(f"{LIST} {path}", problems))
    return {slide_id: patients[slide_id][0] for slide_id in slides}


def _columns(path: Path, names: Sequence[str]) -> tuple[int, int, bool]:
    """Places of the column of slides and of that of patients, and whether the first holds ids rather than files."""
    keys = [canonical(name) for name in names]
    missing = []
    if not {"slide", "slide_id"} & set(keys):
        missing.append("slide or slide_id")
    if "patient" not in keys:
        missing.append("patient")
    if missing:
        raise ManifestError(
            f"{LIST} {path}: no column {' and no column '.join(missing)}; found {', '.join(map(repr, names))}. Needed "
            "a column slide (file names) or slide_id, and a column patient. Rename the columns."
        )
    for key in ("slide_id", "slide", "patient"):
        if keys.count(key) > 1:
            same = " and ".join(repr(name) for name, found in zip(names, keys, strict=True) if found == key)
            raise ManifestError(
                f"{LIST} {path}: columns {same} both mean {key}. Needed one. Remove or rename one."
            )
    by_id = "slide_id" in keys
    return keys.index("slide_id" if by_id else "slide"), keys.index("patient"), by_id


def _missing(path: Path, column: str, slides: Mapping[str, Path], named: Mapping[str, int]) -> list[Problem]:
    """Slides that a list does not name."""
    problems = []
    for slide_id, slide in slides.items():
        if slide_id in named:
            continue
        near = difflib.get_close_matches(slide_id, named, 1)
        hint = f"; did you mean {near[0]!r} (line {named[near[0]]})?" if near else ""
        problems.append(
            Problem(
                where=str(slide),
                found=f"no line with {slide_id!r} in column {column} of {path.name}{hint}",
                needed="a patient for every slide",
                remedy="Add a line",
            )
        )
    return problems
