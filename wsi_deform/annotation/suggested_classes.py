"""A class table that gives every value of some masks a meaning, as text to paste into classes.yaml."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from wsi_deform.annotation.class_colours import default_colour
from wsi_deform.annotation.class_data import COLOUR_VALUE, value_text
from wsi_deform.annotation.classes import UNLABELLED, ClassTable, class_table_from_data

# Labels have a few values; a picture, or labels that were blended when they were resized, have many.
MAX_VALUES = 16
LINE_WIDTH = 10_000  # an entry stays on one line


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestedClasses:
    """A class table to paste.

    Attributes:
        text: YAML that ``read_class_table`` reads.
        table: What it says.
    """

    text: str
    table: ClassTable


def suggested_classes(values: Collection[int], table: ClassTable) -> SuggestedClasses | None:
    """Make a class table for masks whose values the given table leaves without a class.

    Args:
        values: Raw values that occur in the masks; no table is made for colours.
        table: The table as it is.

    Returns:
        A table of two classes or more, each with a value that occurs; None where there is nothing to suggest: all
        values have their meaning, or they are too many to be labels.

    Convention:
        Values without a meaning, and where classes lack pixels also the values that mean unlabelled, go in rising
        order to the classes without pixels; those left over become new classes. It is a start: what a value means
        is for people to say.
    """
    occurring = set(values)
    if any(value >= COLOUR_VALUE for value in occurring):
        return None  # which colours mean what is nothing to guess
    held = {
        index: [value for value in own if value in occurring]
        for index, own in enumerate(table.values)
        if occurring & set(own)
    }
    without = [index for index in range(table.count) if index not in held]
    free = occurring - table.mapping.keys()
    if without or len(held) < 2:
        free |= occurring & set(table.unlabelled_values)
    if not free or len(free) > MAX_VALUES:
        return None
    if table.count == 1 and held == {0: [0]} and table.background is None:
        # "[gland]" in masks of 0 and 255: 0 is what lies around the glands.
        held, without, free = {}, [0], free | {0}
    if 0 in free and table.background is None:
        entries = [{"name": _new_name("background", table), "value": 0}]
        free = free - {0}
    else:
        entries = []
    given = dict(zip(without, sorted(free), strict=False))
    held |= {index: [value] for index, value in given.items()}
    entries += [_entry(table, index, held[index]) for index in sorted(held)]
    left = sorted(free - set(given.values()))
    entries += [{"name": _new_name(f"class {value}", table), "value": value} for value in left]
    if len(entries) < 2:
        return None
    text = _yaml(entries, table, dropped=[table.names[index] for index in without if index not in given])
    return SuggestedClasses(text=text, table=class_table_from_data(yaml.safe_load(text), "suggested classes"))


def changed_text(values: Iterable[int], table: ClassTable, suggested: ClassTable) -> str:
    """What values mean by a suggested table that they did not mean before, in words."""
    before, after = table.mapping, suggested.mapping
    changed = []
    for value in values:
        name = suggested.names[after[value]] if after[value] != UNLABELLED else "unlabelled"
        known = before.get(value, UNLABELLED)
        if known == UNLABELLED or table.names[known] != name:
            changed.append(f"{value_text(value)} is {name!r}")
    return " and ".join(changed)


def class_table_text(table: ClassTable) -> str:
    """A class table as YAML, without what is so by default."""
    entries = [_entry(table, index, list(values)) for index, values in enumerate(table.values)]
    return _yaml(entries, table, dropped=[])


def _new_name(name: str, table: ClassTable) -> str:
    while name in table.names:
        name += " (new)"
    return name


def _entry(table: ClassTable, index: int, values: list[int]) -> dict[str, Any]:
    """A class of the table with other values; its colour only where it is not the default."""
    entry: dict[str, Any] = {"name": table.names[index]}
    if table.colours[index] != default_colour(index, table.background):
        entry["color"] = list(table.colours[index])
    if table.has_label_colours and table.label_rgb[index]:
        entry["label_rgb"] = [list(colour) for colour in table.label_rgb[index]]
    if table.source_names and table.source_names[index]:
        entry["source_names"] = list(table.source_names[index])
    return entry | ({"value": values[0]} if len(values) == 1 else {"values": values})


def _yaml(entries: list[dict[str, Any]], table: ClassTable, *, dropped: list[str]) -> str:
    """The table as text, without the options that would say what is so without them."""
    plain = class_table_from_data(entries, "suggested classes")
    background = None if table.background is None else table.names[table.background]
    taken = {value for values in plain.values for value in values}
    unlabelled = [value for value in table.unlabelled_values if value not in taken]
    options: dict[str, Any] = {}
    if background in plain.names and plain.names.index(background) != plain.background:
        options["background"] = background
    if unlabelled and tuple(unlabelled) != plain.unlabelled_values:
        options["unlabelled"] = unlabelled
    for key in ("unlabelled_names", "regions", "ignored"):
        if named := list(getattr(table, key)):
            options[key] = named
    if table.outline_order != "drawing":
        options["outline_order"] = table.outline_order
    if table.outside_outlines in ("unlabelled", "background", *plain.names):
        options["outside_outlines"] = table.outside_outlines
    if groups := _groups(table, plain.names):
        options["groups"] = groups
    lines = ["classes:", *(f"- {_dumped(entry, flow=True)}" for entry in entries)]
    lines += [_dumped(options, flow=None)] if options else []
    lines += [f"# no mask holds a value for: {', '.join(dropped)}"] if dropped else []
    return "\n".join(lines)


def _groups(table: ClassTable, names: Collection[str]) -> dict[str, list[str]]:
    """The groups of a table, as far as their classes are among some names."""
    left = {
        group: [name for name in (table.names[index] for index in members) if name in names]
        for group, members in table.groups
        if group not in names
    }
    return {group: members for group, members in left.items() if members}


def _dumped(data: Mapping[str, Any], *, flow: bool | None) -> str:
    """YAML on one line, or, where ``flow`` is None, of one line per key."""
    text: str = yaml.safe_dump(
        dict(data), default_flow_style=flow, sort_keys=False, allow_unicode=True, width=LINE_WIDTH
    )
    return text.strip()
