"""What a class table's YAML or JSON may say: one form for all of those it may be written in."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

LARGEST_VALUE = 65535  # masks are uint8 or uint16
COLOUR_VALUE = 1 << 24  # colours of colour-coded masks are raw values from here on: this and red, green, blue
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


def as_several(found: object) -> object:
    """A value that may stand alone, as a list."""
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
    """A raw value for people: a number, the colour that it stands for, #rrggbb, or "no value" for a stand-in."""
    if value < 0:
        return "no value"
    return str(value) if value < COLOUR_VALUE else f"#{value - COLOUR_VALUE:06x}"


def colour_from_hex(digits: str) -> tuple[int, int, int]:
    """RGB from six hexadecimal digits."""
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def nearest(found: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word, or nothing when none is near."""
    near = difflib.get_close_matches(found, list(known), 1)
    return f" Did you mean {near[0]!r}?" if near else ""


OutlineOrder = Literal["drawing", "classes"]
UNLABELLED_NAME, BACKGROUND_NAME = "unlabelled", "background"
"""What may be outside every outline beside a class."""

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), BeforeValidator(_text)]
Names = Annotated[tuple[Name, ...], BeforeValidator(as_several)]
Byte = Annotated[int, Field(strict=True, ge=0, le=255)]
Colour = Annotated[tuple[Byte, Byte, Byte], BeforeValidator(_red_green_blue)]
Colours = Annotated[tuple[Colour, ...], BeforeValidator(_colours)]
Value = Annotated[int, Field(strict=True, ge=0, le=LARGEST_VALUE)]
Values = Annotated[tuple[Value, ...], BeforeValidator(as_several)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClassData(_Part):
    """One class.

    Attributes:
        name: Without spaces around it.
        colour: RGB, 0 to 255, or None.
        values: Raw mask values; ``TableData.values`` knows those of a class that says none.
        label_rgb: Colours that mean the class in colour-coded masks.
        source_names: What annotation files call the class beside its own name.
    """

    name: Name
    colour: Colour | None = Field(None, validation_alias=AliasChoices("color", "colour"))
    values: Values = Field((), validation_alias=AliasChoices("values", "value"))
    label_rgb: Colours = ()
    source_names: Names = ()


class TableData(_Part):
    """A class table as it is written.

    Attributes:
        classes: In the order of their indices.
        background: A name, an index or None, as it is written; see ``background_index``.
        unlabelled: Raw values that mean "nobody said".
        unlabelled_rgb: Colours of colour-coded masks that mean so.
        unlabelled_names: Names in annotation files that mean so.
        regions: Names in annotation files of areas that were annotated in whole, and are no class themselves.
        ignored: Names in annotation files that are left out on purpose.
        groups: Name of a group -> names of the classes that belong to it.
        outline_order: Which of several outlines over a pixel gives it its class.
        outside_outlines: What pixels outside every outline are, or None.
    """

    classes: tuple[ClassData, ...]
    background: Any = None
    unlabelled: Values = ()
    unlabelled_rgb: Colours = ()
    unlabelled_names: Names = ()
    regions: Names = ()
    ignored: Names = ()
    groups: dict[Name, Names] = Field(default_factory=dict)
    outline_order: OutlineOrder = "drawing"
    outside_outlines: Name | None = None

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
    def names_in_files(self) -> tuple[str, ...]:
        """Every name in annotation files that is written out, in the order of the table."""
        of_classes = [name for each in self.classes for name in dict.fromkeys(each.source_names)]
        others = (self.unlabelled_names, self.regions, self.ignored)
        return (*of_classes, *(name for each in others for name in dict.fromkeys(each)))

    @property
    def names_outside(self) -> tuple[str, ...]:
        """What ``outside_outlines`` may say."""
        ground = (UNLABELLED_NAME,) if self.background_index is None else (UNLABELLED_NAME, BACKGROUND_NAME)
        return tuple(dict.fromkeys((*ground, *self.names)))

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
