"""A class table's YAML or JSON brought into one form, and all that is wrong with it told at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from wsi_deform.annotation.class_data import (
    LARGEST_VALUE,
    TableData,
    as_several,
    nearest,
    value_of_colour,
    value_text,
)
from wsi_deform.errors import AnnotationError

MAX_CLASSES = 255  # indices 0 to 254; 255 says unlabelled

_FIELDS = {
    "name": "name",
    "color": "colour",
    "colour": "colour",
    "value": "values",
    "values": "values",
    "label_rgb": "label_rgb",
    "source_names": "source_names",
}
_TABLE_KEYS = (
    "classes", "background", "unlabelled", "unlabelled_rgb", "unlabelled_names", "regions", "ignored", "groups",
    "outline_order", "outside_outlines",
)  # fmt: skip
_NAME_KEYS = ("unlabelled_names", "regions", "ignored")
_NEEDED = {
    "name": "a text. Write e.g. name: tumour (quote yes, no, on, off).",
    "colour": '[red, green, blue] from 0 to 255, or "#rrggbb".',
    "values": f"whole numbers from 0 to {LARGEST_VALUE}. Write the values that the masks hold.",
    "label_rgb": 'a colour of the masks, [red, green, blue] from 0 to 255 or "#rrggbb", or a list of them.',
    "source_names": "a name, or a list of names, as annotation files write them (quote yes, no, on, off).",
    "groups": "name: [class, class] pairs.",
    "outline_order": "drawing (later outlines over earlier ones) or classes (later classes over earlier ones).",
    "outside_outlines": "unlabelled, background, or the name of a class.",
}


def parsed_table(data: object, source: str) -> TableData:
    """Bring a class table into one form.

    Args:
        data: Any of the forms that ``classes.read_class_table`` describes, as YAML or JSON gives them.
        source: What errors call it.

    Raises:
        AnnotationError: The data is not a class table; the message says all that is wrong, where, and what is needed.
    """
    raw = dict(data) if isinstance(data, Mapping) and "classes" in data else {"classes": data}
    raw["classes"] = _entries(raw["classes"], source)
    try:
        table = TableData.model_validate(raw)
        problems = _contradictions(table)
    except ValidationError as error:
        problems = list(dict.fromkeys(_problem(each["type"], each["loc"], raw) for each in error.errors()))
    if len(problems) == 1:
        raise AnnotationError(f"{source}: {problems[0]}")
    if problems:
        raise AnnotationError(f"{source}:\n" + "\n".join(f"  - {each}" for each in problems))
    return table


def _entries(classes: object, source: str) -> list[Mapping[Any, object]]:
    """Each class as a mapping."""
    if isinstance(classes, Mapping):
        classes = [{"name": name, "values": value} for name, value in classes.items()]
    if not isinstance(classes, Sequence) or isinstance(classes, str):
        raise AnnotationError(
            f"{source}: found {type(classes).__name__} {str(classes)[:60]!r}. "
            "Needed a list of names, a list of {name, color, value}, or name: value pairs."
        )
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise AnnotationError(
            f"{source}: {len(classes)} classes. Needed 1 to {MAX_CLASSES}. Add or merge classes (255 means "
            "unlabelled)."
        )
    return [each if isinstance(each, Mapping) else {"name": each} for each in classes]


def _contradictions(table: TableData) -> list[str]:
    """What is wrong with a table whose parts are right."""
    taken = [value for values in table.values for value in values]
    colours = [_hex(colour) for each in table.classes for colour in each.label_rgb]
    problems = [
        *_repeats(table.names, "class name", "Give every class a name of its own."),
        *_repeats(taken, "mask value", "Let every value mean one class."),
        *_repeats(colours, "label_rgb", "Let every colour mean one class."),
        *_repeats(table.names_in_files, "name in annotation files", "Let every name mean one thing."),
        *_wrong_groups(table),
    ]
    unlabelled = [_hex(colour) for colour in table.unlabelled_rgb]
    both = [("value", str(value)) for value in sorted(set(taken) & set(table.unlabelled))]
    both += [("label_rgb", colour) for colour in sorted(set(colours) & set(unlabelled))]
    problems += [
        f"{what} {found} is both unlabelled and a class. Needed one meaning per value. Take it out of one of them."
        for what, found in both
    ]
    try:
        problems += _wrong_outside(table)
    except ValueError as error:
        problems.append(str(error))
    return problems


def _wrong_outside(table: TableData) -> Iterator[str]:
    found, known = table.outside_outlines, table.names_outside
    if found is not None and found not in known:
        near = nearest(found, known) or " Write one of them."
        yield f"outside_outlines {found!r} is no class. Needed one of {', '.join(known)}.{near}"


def _wrong_groups(table: TableData) -> Iterator[str]:
    for group, members in table.groups.items():
        if group in table.names:
            yield f"group {group!r} is also a class. Needed another name. Rename the group."
        if not members:
            yield f"group {group!r} has no class. Needed one or more. Name them or remove the group."
        for name in dict.fromkeys(members):
            if name not in table.names:
                needed = f"one of {', '.join(table.names)}"
                yield f"group {group!r}: {name!r} is no class. Needed {needed}.{nearest(name, table.names)}"


def _hex(colour: tuple[int, int, int]) -> str:
    return value_text(value_of_colour(colour))


def _repeats(items: Sequence[object], what: str, remedy: str) -> list[str]:
    twice = dict.fromkeys(item for place, item in enumerate(items) if item in items[:place])
    return [f"{what} {item!r} stands twice. Needed once. {remedy}" for item in twice]


def _problem(kind: str, place: Sequence[int | str], raw: Mapping[str, Any]) -> str:
    """What pydantic found, in the words of a class table: where, what, what was needed."""
    if place[0] != "classes":
        if kind in ("extra_forbidden", "invalid_key") and place[0] not in _TABLE_KEYS:
            return _unknown_key(str(place[0]), _TABLE_KEYS)
        if place[0] in ("groups", "outline_order", "outside_outlines"):
            return f"{place[0]}: {raw[str(place[0])]!r}. Needed {_NEEDED[str(place[0])]}"
        if place[0] in _NAME_KEYS:
            return (
                f"{place[0]}: {_element(raw[str(place[0])], place[1:])!r}. Needed {_NEEDED['source_names']}"
            )
        if place[0] == "unlabelled_rgb":
            return f"unlabelled_rgb: {raw['unlabelled_rgb']!r}. Needed {_NEEDED['label_rgb']}"
        return f"{place[0]}: {_element(raw[str(place[0])], place[1:])!r}. Needed {_NEEDED['values']}"
    index, key = int(place[1]), str(place[2])
    entry, where = raw["classes"][index], f"class {index}"
    if key not in _FIELDS:
        return f"{where}: {_unknown_key(key, tuple(_FIELDS))}"
    field = _FIELDS[key]
    given = [each for each, of in _FIELDS.items() if of == field and each in entry]
    if len(given) == 2:
        return f"{where}: both {given[0]} and {given[1]}. Needed one of them. Remove one."
    found = entry.get(given[0]) if given else None
    if field == "name":
        return f"{where}: name {found!r}. Needed {_NEEDED[field]}"
    if field in ("values", "source_names"):
        found = _element(found, place[3:])
    return f"{where} ({entry.get('name')}): {given[0]} {found!r}. Needed {_NEEDED[field]}"


def _element(found: Any, place: Sequence[int | str]) -> object:
    """The value of a list that is meant, or the only one."""
    several: Any = as_several(found)
    return several[int(place[0])] if place else found


def _unknown_key(key: str, known: Sequence[str]) -> str:
    return f"unknown key {key!r}. Known: {', '.join(known)}.{nearest(key, known) or ' Remove it.'}"
