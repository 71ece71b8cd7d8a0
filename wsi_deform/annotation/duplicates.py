"""Slides and labels that lie in a manifest twice, under whatever names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsi_deform.annotation.label_check import place_of
from wsi_deform.annotation.row_check import RowFindings
from wsi_deform.errors import SlideError
from wsi_deform.manifest.problems import EXAMPLES, Problem
from wsi_deform.paths import split_image
from wsi_deform.slide.content import hold_the_same

SLIDES = (
    "every slide in one split, or measures on unseen slides mean nothing",
    "Remove one of the rows, or give both one split",
)
LABELS = ("labels of its own for each slide", "Check which of the slides they are of")


@dataclass(slots=True, kw_only=True)
class Duplicates:
    """What lies in a manifest twice.

    Attributes:
        problems: Those in two splits.
        remarks: All others.
    """

    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def duplicates_of(found: Sequence[RowFindings]) -> Duplicates:
    """Find slides, and labels of different slides, with the same content.

    Args:
        found: Of all rows, in their order.

    Convention:
        Contents are the same as ``slide_content`` and ``hold_the_same`` tell. Labels of one value, such as those of
        slides without anything to find, may well be the same and are passed over; so are those of the same slides, and
        outlines of several slides in one file.
    """
    said = Duplicates()
    slides = _pairs(
        found, lambda each: "" if each.slide is None else each.slide.content, lambda each: each.row.slide
    )
    same = {(one.row.line, other.row.line) for one, other in slides}
    files = [each.labels for each in found]
    shared = {path for path, count in Counter(files).items() if count > 1}
    labels = [
        pair
        for pair in _pairs(found, lambda each: _labels_content(each, shared), lambda each: each.labels)
        if (pair[0].row.line, pair[1].row.line) not in same
    ]
    for pairs, what, (needed, remedy), remark in (
        (slides, "the same slide", SLIDES, "are the same slide and count twice"),
        (labels, "the same labels", LABELS, "have the same labels: check which of the slides they are of"),
    ):
        alike = []
        for one, other in pairs:
            if one.row.split and other.row.split and one.row.split != other.row.split:
                place = f"{what} as {place_of(one.row)}: one is in {one.row.split}, the other in {other.row.split}"
                said.problems.append(
                    Problem(where=place_of(other.row), found=place, needed=needed, remedy=remedy, kind=what)
                )
            else:
                alike.append(f"{one.row.slide_id} and {other.row.slide_id}")
        if alike:
            more = f" and {len(alike) - EXAMPLES} more pairs" if len(alike) > EXAMPLES else ""
            said.remarks.append(f"{'; '.join(alike[:EXAMPLES])}{more} {remark}")
    return said


def _labels_content(found: RowFindings, shared: Collection[Path | None]) -> str:
    """A name that labels with the same pixels share, "" where they may well be the same."""
    if not found.content or found.values is None or len(found.values) < 2:
        return ""
    # One file may hold the outlines of many slides.
    whose = f" {found.row.slide_id}" if found.are_outlines and found.labels in shared else ""
    return f"{found.content} {sorted(found.values.items())}{whose}"


def _pairs(
    found: Sequence[RowFindings],
    content: Callable[[RowFindings], str],
    path: Callable[[RowFindings], Path | None],
) -> list[tuple[RowFindings, RowFindings]]:
    """Every row whose file holds what that of an earlier row holds, behind the first of these."""
    alike: dict[str, list[RowFindings]] = {}
    pairs = []
    for each in found:
        if not (key := content(each)):
            continue
        # Rows that have the same key and yet differ stay side by side.
        firsts = alike.setdefault(key, [])
        first = next((one for one in firsts if _same(path(one), path(each))), None)
        if first is None:
            firsts.append(each)
        else:
            pairs.append((first, each))
    return pairs


def _same(one: Path | None, other: Path | None) -> bool:
    if one is None or other is None:
        return False
    files = [split_image(path)[0] for path in (one, other)]
    if not all(file.is_file() for file in files):
        return True  # of folders the key says all that is looked at
    try:
        return hold_the_same(*files)
    except SlideError:
        return False  # it was readable a moment ago: whoever reads it next will be told
