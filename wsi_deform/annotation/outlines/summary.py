"""What files of outlines hold, name by name, and a class table to start from."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations

import numpy as np

from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.annotation.label_table import aligned
from wsi_deform.annotation.outlines.meanings import name_of
from wsi_deform.annotation.outlines.outline import Colour, Outline, OutlineSet, Ring
from wsi_deform.annotation.suggested_classes import class_table_text
from wsi_deform.geometry import Mpp, mean_mpp

# What programs and people call areas that were annotated in whole, and what QuPath leaves out.
REGION_NAMES = frozenset({"roi", "rois", "region", "region*", "annotated region", "annotated area"})
IGNORED_NAMES = frozenset({"ignore", "ignore*"})
# Tumor and Tumour have .91, Benign and Malignant .53, stroma and stomach .77.
ALIKE = 0.85


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedOutlines:
    """The outlines of one class name.

    Attributes:
        name: As files write it; ``UNCLASSIFIED`` where they write none.
        count: Number of outlines.
        area_px: Sum of their areas, level-0 px, whatever lies over them.
        colour: RGB that most of them are drawn with, or None.
        files: Number of files that have some.
    """

    name: str
    count: int
    area_px: float
    colour: Colour | None
    files: int


def named_outlines(found: Sequence[OutlineSet]) -> list[NamedOutlines]:
    """The outlines of some files by their names, the largest area first; those that erase are left out."""
    by_name: dict[str, list[tuple[int, Outline]]] = {}
    for number, each in enumerate(found):
        for outline in each.outlines:
            if not outline.erases:
                by_name.setdefault(name_of(outline), []).append((number, outline))
    named = []
    for name, held in by_name.items():
        colours = Counter(outline.colour for _, outline in held if outline.colour is not None)
        named.append(
            NamedOutlines(
                name=name,
                count=len(held),
                area_px=sum(area_px(outline) for _, outline in held),
                colour=colours.most_common(1)[0][0] if colours else None,
                files=len({number for number, _ in held}),
            )
        )
    return sorted(named, key=lambda each: (-each.area_px, each.name))


def named_lines(named: Sequence[NamedOutlines], *, mpp: Mpp | None = None) -> list[str]:
    """Say of each name how many outlines it has and how large they are, as a table for people.

    Args:
        named: From ``named_outlines``.
        mpp: Um per level-0 pixel; None says no mm2.
    """
    header = ["name", "outlines", "area, px"]
    header += [] if mpp is None else ["area, mm2"]
    rows = [header]
    for each in named:
        cells = [each.name, f"{each.count:,}", f"{each.area_px:,.0f}"]
        if mpp is not None:
            cells.append(f"{each.area_px * mean_mpp(mpp) ** 2 / 1e6:,.4g}")
        rows.append(cells)
    return aligned(rows)


def area_px(outline: Outline) -> float:
    """Area of an outline by the even-odd rule, level-0 px; nothing is rasterised."""
    if len(outline.rings) == 1:
        return _ring_area(outline.rings[0])
    import shapely

    shapes = [shapely.make_valid(shapely.Polygon(ring)) for ring in outline.rings]
    return float(reduce(shapely.symmetric_difference, shapes).area)


def proposed_table(named: Sequence[NamedOutlines]) -> ClassTable:
    """A class table in which every name is a class, behind a background.

    Args:
        named: From ``named_outlines``.

    Returns:
        Classes in the order of their areas, the largest first: where later classes lie over earlier ones, small areas
        lie over large ones. Names that programs use for annotated regions and for what is left out become ``regions``
        and ``ignored``. Colours are those of the files where no two are the same.
    """
    regions = [each.name for each in named if each.name.lower() in REGION_NAMES]
    ignored = [each.name for each in named if each.name.lower() in IGNORED_NAMES]
    classes = [each for each in named if each.name not in (*regions, *ignored)]
    colours = [each.colour for each in classes]
    use_colours = None not in colours and len(set(colours)) == len(colours)
    entries: list[dict[str, object]] = []
    for each in classes:
        entry: dict[str, object] = {"name": each.name}
        if use_colours and each.colour is not None:
            entry["color"] = list(each.colour)
        entries.append(entry)
    if all(each.name.lower() != "background" for each in classes):
        entries.insert(0, {"name": "background"})
    data = {"classes": entries, "regions": regions, "ignored": ignored}
    return class_table_from_data(data, "names of the outlines")


def alike_names(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that may be one class, spelled in two ways.

    Args:
        names: The names of some files; of a pair the earlier comes first.

    Returns:
        Pairs that differ in case, spaces and at most a letter or two of ten; names that differ in a number are two.
    """
    plain = ["".join(each.lower().split()) for each in names]
    digits = ["".join(filter(str.isdigit, each)) for each in plain]
    return [
        (names[first], names[second])
        for first, second in combinations(range(len(names)), 2)
        if digits[first] == digits[second]
        and difflib.SequenceMatcher(None, plain[first], plain[second], autojunk=False).ratio() >= ALIKE
    ]


def proposed_text(table: ClassTable) -> str:
    """A proposed table as the YAML of ``classes.yaml``, with what it says about pixels outside every outline."""
    outside = "unlabelled" if table.regions else "background"
    return "\n".join(
        [
            f"# Every name is a class. Outside every outline is {outside}: outside_outlines (unlabelled, background or",
            "# a class) changes that. To merge names, give a class source_names: [name, name]; to leave one out, list",
            "# it in ignored; names of areas that were annotated in whole belong in regions.",
            class_table_text(table),
            "",
        ]
    )


def _ring_area(ring: Ring) -> float:
    x, y = ring.T
    return float(abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2)
