"""Whose labels files are, from a list: a CSV of slides and their masks or outlines."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsi_deform.annotation.label_search import FoundLabels
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.problems import Problem, problem_text
from wsi_deform.manifest.rows import slide_id_from_path
from wsi_deform.manifest.table import canonical, read_cells
from wsi_deform.paths import trouble_at

LIST = "list of pairs"
LABELS = ("mask", "annotation")


def labels_by_list(slides: Mapping[str, Path], path: Path, *, folder: Path | None = None) -> FoundLabels:
    """Read which labels belong to which slide.

    Args:
        slides: Slide id -> its file.
        path: A CSV with a column slide (a file name or path) or slide_id, and mask or annotation, or both. A slide
            that has an empty cell or no line has no labels. Lines of other slides are passed over.
        folder: Where relative paths of labels start; default: the folder of the CSV.

    Raises:
        ManifestError: It cannot be read, lacks a column, names labels that are not there, gives a slide several, or
            gives no slide any; all such problems at once.
    """
    names, lines = read_cells(path, LIST)
    slide_at, labels_at, by_id = _columns(path, names)
    base = path.parent if folder is None else folder
    problems: list[Problem] = []
    found = FoundLabels(
        ids=set(slides), remedy=f"no slide is called what {path.name} says; correct its names"
    )
    first: dict[str, tuple[str, int]] = {}
    for line, cells in lines:

        def refuse(said: str, needed: str, remedy: str, line: int = line) -> None:
            where = f"{path.name} line {line}"
            problems.append(Problem(where=where, found=said, needed=needed, remedy=remedy))

        slide = cells[slide_at] if slide_at < len(cells) else ""
        given = [cells[at] for at in labels_at if at < len(cells) and cells[at]]
        # Lists are also written on Windows.
        slide_id = slide if by_id else slide_id_from_path(slide.replace("\\", "/"))
        if not slide:
            refuse("no slide", "one beside its labels", "Fill it in or remove the line")
        elif slide_id not in slides:
            found.of_slide.setdefault(slide_id, []).extend(base / each for each in given)
        elif len(given) > 1:
            refuse(
                f"slide {slide_id} has mask {given[0]!r} and annotation {given[1]!r}",
                "one of them",
                "Empty one",
            )
        elif given:
            earlier, at = first.setdefault(slide_id, (given[0], line))
            labels = base / Path(given[0].replace("\\", "/")).expanduser()
            if earlier != given[0]:
                refuse(
                    f"slide {slide_id} has {given[0]!r}, and {earlier!r} in line {at}",
                    "one file",
                    "Remove a line",
                )
            elif trouble := trouble_at(labels):
                start = f"relative paths start at {base.resolve()}"
                refuse(f"{given[0]!r} {trouble}", "an existing file", f"Correct the path ({start})")
            else:
                found.of_slide[slide_id] = [labels]
    if not problems and not found.of_slide.keys() & slides.keys():
        near = difflib.get_close_matches(next(iter(found.of_slide), ""), slides, 1)
        hint = f"; did you mean {near[0]!r} by {next(iter(found.of_slide))!r}?" if near else ""
        problems.append(
            Problem(
                where=path.name,
                found=f"no slide of the folder has labels in it{hint}",
                needed="names of slides as their files have them",
                remedy="Correct them",
            )
        )
    if problems:
        raise ManifestError(problem_text(f"{LIST} {path}", problems))
    return found


def _columns(path: Path, names: Sequence[str]) -> tuple[int, list[int], bool]:
    """Places of the column of slides and of those of labels, and whether the first holds ids rather than files."""
    keys = [canonical(name) for name in names]
    by_id = "slide_id" in keys
    labels_at = [place for place, key in enumerate(keys) if key in LABELS]
    missing = [] if by_id or "slide" in keys else ["slide or slide_id"]
    missing += [] if labels_at else ["mask or annotation"]
    if missing:
        raise ManifestError(
            f"{LIST} {path}: no column {' and no column '.join(missing)}; found {', '.join(map(repr, names))}. Needed "
            "a column slide (file names) or slide_id, and a column mask or annotation. Rename the columns."
        )
    return keys.index("slide_id" if by_id else "slide"), labels_at, by_id
