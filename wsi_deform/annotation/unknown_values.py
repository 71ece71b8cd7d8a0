"""Values and colours of masks that no class has, as a problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wsi_deform.annotation.class_data import COLOUR_VALUE
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.suggested_classes import MAX_VALUES, changed_text, suggested_classes
from wsi_deform.annotation.value_text import listed, unknown_colours_text, values_text
from wsi_deform.manifest.problems import EXAMPLES, Problem

PASTE = "write this into classes.yaml"
BLENDED = "labels that were blended when they were resized"
NEAREST = "export the labels without blending (nearest neighbour)"


def unknown_values_problem(
    total: Mapping[int, int], table: ClassTable, rows: Sequence[str] = ()
) -> Problem | None:
    """The problem of masks with values that the class table does not know; None where there are none.

    Args:
        total: Raw value -> px, of all masks.
        table: What the values mean.
        rows: The rows whose masks hold such values, "slide A (line 2)"; none where nobody looked.
    """
    known = table.meanings
    unknown = [value for value in total if value not in known]
    if not unknown:
        return None
    colours = [value for value in unknown if value >= COLOUR_VALUE]
    if colours:
        return _of_colours(total, colours, table, rows)
    suggested = suggested_classes(total, table)
    remedy = "Say in the class table what each value means; numbers of objects go to one class (values: [1, 2, ...])"
    if len(unknown) > MAX_VALUES:
        remedy = (
            f"This looks like a picture, like numbered objects, or like {BLENDED}: set mask_channel, give the numbers "
            f"of all objects to one class (values: [1, 2, ...]), or {NEAREST}"
        )
    elif suggested is not None:
        remedy += f". As a start, if {changed_text(total, table, suggested.table)}, {PASTE}"
    found = (
        f"{len(unknown)} value{'s' if len(unknown) > 1 else ''} of the masks without a meaning; they hold "
        f"{values_text(total, table)}"
    )
    if rows:
        are = f"value {unknown[0]} is" if len(unknown) == 1 else f"values {listed(unknown)} are"
        found = f"{are} not in the class table, {_places(rows)}: {found}"
    return Problem(
        where="class table",
        found=found,
        needed="a class, or unlabelled, for every value",
        remedy=remedy,
        paste="" if suggested is None else suggested.text,
    )


def _of_colours(
    total: Mapping[int, int], colours: Sequence[int], table: ClassTable, rows: Sequence[str]
) -> Problem:
    are = "1 colour" if len(colours) == 1 else f"{len(colours)} colours"
    remedy = (
        "Add each to label_rgb of its class or to unlabelled_rgb in the class table; colours along borders come of "
        "masks that were resized or saved with blending: export those without (nearest neighbour)"
    )
    if len(colours) > MAX_VALUES:
        remedy = f"This looks like a picture or like {BLENDED}: check the mask column, or {NEAREST}"
    return Problem(
        where="class table",
        found=f"{are} of the masks that no class has{', ' + _places(rows) if rows else ''}: "
        f"{unknown_colours_text(total, table)}",
        needed="a class, or unlabelled, for every colour",
        remedy=remedy,
    )


def _places(rows: Sequence[str]) -> str:
    """In how many rows, and three of them."""
    shown = ", ".join(rows[:EXAMPLES])
    if len(rows) > EXAMPLES:
        return f"in {len(rows)} rows, such as {shown}"
    return f"in {len(rows)} row{'s' if len(rows) > 1 else ''} ({shown})"
