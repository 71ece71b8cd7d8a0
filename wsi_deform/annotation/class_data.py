"""What a class table's YAML or JSON may say: one form for all of those it may be written in, checked at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from wsi_deform.errors import AnnotationError

MAX_CLASSES = 255  # indices 0 to 254; 255 says unlabelled
LARGEST_VALUE = 65535  # masks are uint8 or uint16
COLOUR_VALUE = 1 << 24  # colours of colour-coded masks are raw values from here on: this and red, green, blue
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


def _several(found: object) -> object:
    return found if isinstance(found, Sequence) and not isinstance(found, str) else [found]


def _text(found: object) -> object:
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return str(found) if is_number else found


def _red_green_blue(found: object) -> object:
    digits = found.removeprefix("#") if isinstance(found, str) else ""
    return colour_from_hex(digits) if len(digits) == 6 and _HEX_DIGITS.issuperset(digits) else found


def _colours(found: object) -> object:
    """One colour, or several, as a list of colours."""
    is_one = isinstance(found, str) or (
        isinstance(found, Sequence) and any(isinstance(part, int) for part in found)
    )
    return [found] if is_one else found


def value_of_colour(colour: tuple[int, int, int]) -> int:
    """The raw value that stands for a colour of a colour-coded mask."""
    red, green, blue = colour
    return COLOUR_VALUE | red << 16 | green << 8 | blue


def value_text(value: int) -> str:
    """A raw value for people: a number, or the colour that it stands for, #rrggbb."""
    return str(value) if value < COLOUR_VALUE else f"#{value - COLOUR_VALUE:06x}"


def colour_from_hex(digits: str) -> tuple[int, int, int]:
    """RGB from six hexadecimal digits."""
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), BeforeValidator(_text)]
Byte = Annotated[int, Field(strict=True, ge=0, le=255)]
Colour = Annotated[tuple[Byte, Byte, Byte], BeforeValidator(_red_green_blue)]
Colours = Annotated[tuple[Colour, ...], BeforeValidator(_colours)]
Value = Annotated[int, Field(strict=True, ge=0, le=LARGEST_VALUE)]
Values = Annotated[tuple[Value, ...], BeforeValidator(_several)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassData(_Part):
    """One class.

    Attributes:
        name: Without spaces around it.
        colour: RGB, 0 to 255, or None.
        values: Raw mask values; ``TableData.values`` knows those of a class that says none.
        label_rgb: Colours that mean the class in colour-coded masks.
    """

    name: Name
    colour: Colour | None = Field(None, validation_alias=AliasChoices("color", "colour"))
    values: Values = Field((), validation_alias=AliasChoices("values", "value"))
    label_rgb: Colours = ()


class TableData(_Part):
    """A class table as it is written.

    Attributes:
        classes: In the order of their indices.
        background: A name, an index or None, as it is written; see ``background_index``.
        unlabelled: Raw values that mean "nobody said".
        unlabelled_rgb: Colours of colour-coded masks that mean so.
    """

    classes: tuple[ClassData, ...]
    background: Any = None
    unlabelled: Values = ()
    unlabelled_rgb: Colours = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each class."""
        return tuple(each.name for each in self.classes)

    @property
    def values(self) -> tuple[tuple[int, ...], ...]:
        """Raw values of each class; where none are written, its index."""
        return tuple(
            each.values if "values" in each.model_fields_set else (index,)
            for index, each in enumerate(self.classes)
        )

    @property
    def names_unlabelled(self) -> bool:
        """Whether the table says which values are unlabelled."""
        return "unlabelled" in self.model_fields_set

    @property
    def background_index(self) -> int | None:
        """Index of the background class: the one that is named, else the one called background.

        Raises:
            ValueError: What is named is no class.
        """
        if "background" not in self.model_fields_set:
            return next((i for i, name in enumerate(self.names) if name.lower() == "background"), None)
        named = self.background
        if named is None:
            return None
        if str(named) in self.names:
            return self.names.index(str(named))
        if isinstance(named, int) and not isinstance(named, bool) and 0 <= named < len(self.names):
            return named
        raise ValueError(
            f"background {named!r} is no class. Needed one of {', '.join(self.names)}, or null."
            f"{nearest(str(named), self.names)}"
        )


_FIELDS = {
    "name": "name",
    "color": "colour",
    "colour": "colour",
    "value": "values",
    "values": "values",
    "label_rgb": "label_rgb",
}
_NEEDED = {
    "name": "a text. Write e.g. name: tumour (quote yes, no, on, off).",
    "colour": '[red, green, blue] from 0 to 255, or "#rrggbb".',
    "values": f"whole numbers from 0 to {LARGEST_VALUE}. Write the values that the masks hold.",
    "label_rgb": 'a colour of the masks, [red, green, blue] from 0 to 255 or "#rrggbb", or a list of them.',
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


def nearest(found: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word, or nothing when none is near."""
    near = difflib.get_close_matches(found, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


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
    ]
    unlabelled = [_hex(colour) for colour in table.unlabelled_rgb]
    both = [("value", str(value)) for value in sorted(set(taken) & set(table.unlabelled))]
    both += [("label_rgb", colour) for colour in sorted(set(colours) & set(unlabelled))]
    problems += [
        f"{what} {found} is both unlabelled and a class. Needed one meaning per value. Take it out of one of them."
        for what, found in both
    ]
    try:
        _ = table.background_index
    except ValueError as error:
        problems.append(str(error))
    return problems


def _hex(colour: tuple[int, int, int]) -> str:
    return value_text(value_of_colour(colour))


def _repeats(items: Sequence[object], what: str, remedy: str) -> list[str]:
    twice = dict.fromkeys(item for place, item in enumerate(items) if item in items[:place])
    return [f"{what} {item!r} stands twice. Needed once. {remedy}" for item in twice]


def _problem(kind: str, place: Sequence[int | str], raw: Mapping[str, Any]) -> str:
    """What pydantic found, in the words of a class table: where, what, what was needed."""
    if place[0] != "classes":
        if kind in ("extra_forbidden", "invalid_key"):
            return _unknown_key(str(place[0]), ("classes", "background", "unlabelled", "unlabelled_rgb"))
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
    if field == "values":
        found = _element(found, place[3:])
    return f"{where} ({entry.get('name')}): {given[0]} {found!r}. Needed {_NEEDED[field]}"


def _element(found: Any, place: Sequence[int | str]) -> object:
    """The value of a list that is meant, or the only one."""
    several: Any = _several(found)
    return several[int(place[0])] if place else found


def _unknown_key(key: str, known: Sequence[str]) -> str:
    return f"unknown key {key!r}. Known: {', '.join(known)}.{nearest(key, known) or ' Remove it.'}"
