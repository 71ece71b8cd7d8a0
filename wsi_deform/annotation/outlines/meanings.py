"""What outlines mean by a class table, and what is where no outline is."""

from __future__ import annotations

from collections import Counter

from wsi_deform.annotation.class_data import BACKGROUND_NAME, UNLABELLED_NAME, nearest
from wsi_deform.annotation.classes import IGNORED, UNLABELLED, ClassTable
from wsi_deform.annotation.outlines.outline import Outline, OutlineSet
from wsi_deform.annotation.outlines.raster import Ground
from wsi_deform.errors import AnnotationError

UNCLASSIFIED = "unclassified"
"""The name of outlines to which their file gives no class, as QuPath calls them."""


def name_of(outline: Outline) -> str:
    """What a file calls the class of an outline, or ``UNCLASSIFIED``."""
    return UNCLASSIFIED if outline.source_class is None else outline.source_class


def with_meanings(found: OutlineSet, table: ClassTable) -> tuple[list[Outline], list[int]]:
    """The outlines that count and what each means.

    Args:
        found: All of a file.
        table: The class table.

    Returns:
        Outlines that the table does not ignore, in the order they were drawn, and of each its class index,
        ``UNLABELLED`` or ``REGION``.

    Raises:
        AnnotationError: Names of the file mean nothing; the message lists all of them.

    Convention:
        Outlines that erase need no name: they take away whatever is below them.
    """
    names = Counter(name_of(outline) for outline in found.outlines if not outline.erases)
    indices = table.indices_of_sources(names, source=f"annotation {found.path}")
    kept, meanings = [], []
    for outline in found.outlines:
        meaning = UNLABELLED if outline.erases else indices[name_of(outline)]
        if meaning != IGNORED:
            kept.append(outline)
            meanings.append(meaning)
    return kept, meanings


def ground_of(table: ClassTable, outside: str | int | None = None) -> Ground:
    """What pixels are where no outline of a class is.

    Args:
        table: The class table.
        outside: Outside every outline: "unlabelled", "background" (the table's background class), or the name or index
            of a class. None is what the class table says (``outside_outlines``); where it says nothing, "unlabelled"
            where it has annotated regions (``regions``) or no background, else "background".

    Raises:
        AnnotationError: There is no such class.

    Convention:
        Inside an annotated region and outside all other outlines is background; without a background class, unlabelled.
    """
    background = UNLABELLED if table.background is None else table.background
    outside = table.outside_outlines if outside is None else outside
    if outside is None:
        return Ground(outside=UNLABELLED if table.regions else background, in_region=background)
    return Ground(outside=_label_of(outside, table), in_region=background)


def _label_of(outside: str | int, table: ClassTable) -> int:
    if isinstance(outside, int):
        if not 0 <= outside < table.count:
            raise AnnotationError(
                f"outside={outside}: no class. Needed an index from 0 to {table.count - 1}, or a name."
            )
        return outside
    if outside in table.names:
        return table.names.index(outside)
    if outside == UNLABELLED_NAME:
        return UNLABELLED
    if outside == BACKGROUND_NAME and table.background is not None:
        return table.background
    names = (UNLABELLED_NAME, *([] if table.background is None else [BACKGROUND_NAME]), *table.names)
    remedy = nearest(outside, names) or " Write one of them."
    raise AnnotationError(
        f"outside {outside!r}: no class of the class table. Needed one of {', '.join(dict.fromkeys(names))}.{remedy}"
    )
