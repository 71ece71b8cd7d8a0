"""The class table: which classes there are, their colours, and which mask values mean which class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from wsi_deform.annotation.class_colours import default_colour
from wsi_deform.annotation.class_data import LARGEST_VALUE, OutlineOrder, nearest, value_of_colour
from wsi_deform.annotation.class_parsing import parsed_table
from wsi_deform.annotation.source_names import meanings_of_names
from wsi_deform.errors import AnnotationError
from wsi_deform.files import write_json, write_text
from wsi_deform.texts import parse_json, parse_yaml, read_text

UNLABELLED = 255
# What a name in an annotation file may mean beside a class and UNLABELLED; neither is ever a label.
REGION, IGNORED = -1, -2
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTable:
    """The classes of a study, in the order of their indices.

    Attributes:
        names: Name of class 0, 1, ...; unique.
        colours: RGB, 0 to 255, one per class.
        values: Raw mask values that mean the class, one tuple per class.
        background: Index of the class that "without background" leaves out, or None.
        unlabelled_values: Raw mask values that mean "nobody said"; they count nowhere.
        label_rgb: Colours that mean the class in colour-coded masks, one tuple per class; empty where no class has any.
        unlabelled_rgb: Colours of such masks that mean "nobody said".
        source_names: What annotation files call each class beside its own name, one tuple per class; empty where no
            class has such names.
        unlabelled_names: Names in annotation files that mean "nobody said".
        regions: Names in annotation files of areas that were annotated in whole, and are no class themselves.
        ignored: Names in annotation files that are left out on purpose.
        groups: (name, indices of its classes) of each group; measures are told of groups too.
        outline_order: Which of several outlines over a pixel gives it its class: "drawing", the one that was drawn
            last; "classes", that of the last class.
        outside_outlines: What pixels outside every outline are: "unlabelled", "background" or the name of a class; None
            is unlabelled where there are ``regions`` or no background, else background.

    Convention:
        Class indices are 0 to n - 1 and 255 is unlabelled, in every label map and every mask that wsi-deform
        writes. Raw values are what a user's mask file holds; by default a raw value is its class index. A colour of a
        colour-coded mask is a raw value from ``class_data.COLOUR_VALUE`` on.
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    values: tuple[tuple[int, ...], ...]
    background: int | None = None
    unlabelled_values: tuple[int, ...] = (UNLABELLED,)
    label_rgb: tuple[tuple[Colour, ...], ...] = ()
    unlabelled_rgb: tuple[Colour, ...] = ()
    source_names: tuple[tuple[str, ...], ...] = ()
    unlabelled_names: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    groups: tuple[tuple[str, tuple[int, ...]], ...] = ()
    outline_order: OutlineOrder = "drawing"
    outside_outlines: str | None = None

    @classmethod
    def from_names(cls, names: Sequence[str]) -> ClassTable:
        """Make a table of classes 0, 1, ... whose raw values are their indices."""
        return class_table_from_data(list(names), "class names")

    @classmethod
    def from_values(cls, values: Iterable[int]) -> ClassTable:
        """Make a table from the raw values seen in masks: one class per value, in rising order.

        Args:
            values: Raw mask values, 0 to 65535, in any order; 255 is taken for unlabelled.

        Raises:
            AnnotationError: There is no value besides 255, or there are more than 255.
        """
        found = sorted({int(value) for value in values} - {UNLABELLED})
        if not found:
            raise AnnotationError(
                "masks: no value besides 255 (unlabelled). Needed at least one class. Name the classes in a "
                "class table."
            )
        names = {value: "background" if value == 0 else f"class {value}" for value in found}
        return class_table_from_data({name: value for value, name in names.items()}, "values of the masks")

    @property
    def count(self) -> int:
        """Number of classes."""
        return len(self.names)

    @property
    def mapping(self) -> dict[int, int]:
        """Raw mask value -> class index, or 255 for unlabelled; those of colours too."""
        colours = [value_of_colour(colour) for colour in self.unlabelled_rgb]
        mapping = dict.fromkeys((*self.unlabelled_values, *colours), UNLABELLED)
        mapping |= {value: index for index, values in enumerate(self.values) for value in values}
        return mapping | {
            value_of_colour(colour): index for index, own in enumerate(self.label_rgb) for colour in own
        }

    @property
    def meanings(self) -> dict[int, int]:
        """``mapping``, and the stand-ins of ``raw_value``: what is counted of masks and of outlines alike."""
        stand_ins = {-1 - index: index for index in range(self.count)}
        return stand_ins | {-1 - UNLABELLED: UNLABELLED} | self.mapping

    def raw_value(self, label: int) -> int:
        """The first raw value that means a class, or unlabelled (255); without any a stand-in that no mask holds.

        Convention:
            Outlines, which hold no values, are counted by it together with masks.
        """
        return next((value for value, index in self.mapping.items() if index == label), -1 - label)

    @property
    def unlabelled_raw(self) -> set[int]:
        """The raw values that mean "nobody said", those of colours too, and the stand-in of ``raw_value``."""
        return {-1 - UNLABELLED, *self.unlabelled_values, *map(value_of_colour, self.unlabelled_rgb)}

    @property
    def has_label_colours(self) -> bool:
        """Whether it says what the colours of colour-coded masks mean."""
        return bool(self.label_rgb)

    def index(self, name: str) -> int:
        """Index of the class with this name.

        Raises:
            AnnotationError: There is none; the message names the nearest.
        """
        if name not in self.names:
            raise AnnotationError(
                f"class {name!r}: not in the class table. Needed one of "
                f"{', '.join(self.names)}.{nearest(name, self.names)}"
            )
        return self.names.index(name)

    @property
    def source_mapping(self) -> dict[str, int]:
        """Name in annotation files -> class index, ``UNLABELLED``, ``REGION`` or ``IGNORED``.

        Convention:
            A class is also meant by its own name, unless the table gives that name another meaning.
        """
        mapping = {name: index for index, name in enumerate(self.names)}
        mapping |= {name: index for index, own in enumerate(self.source_names) for name in own}
        others = {UNLABELLED: self.unlabelled_names, REGION: self.regions, IGNORED: self.ignored}
        return mapping | {name: meaning for meaning, names in others.items() for name in names}

    def index_of_source(self, name: str) -> int:
        """What a name in an annotation file means; see ``indices_of_sources``."""
        return self.indices_of_sources([name])[name]

    def indices_of_sources(self, names: Iterable[str], *, source: str = "annotation") -> dict[str, int]:
        """What names in an annotation file mean.

        Args:
            names: As the file writes them; where they are counted (name -> outlines), errors say how often.
            source: What errors call the file, usually "annotation PATH".

        Returns:
            Name -> class index, ``UNLABELLED``, ``REGION`` or ``IGNORED``.

        Raises:
            AnnotationError: Some mean nothing; the message lists all of them, each with the nearest name.

        Convention:
            A name that is written exactly so comes first; without it case and spaces do not matter, as long as only
            one meaning fits.
        """
        return meanings_of_names(names, self.source_mapping, source=source)

    def lookup(self) -> NDArray[np.int16]:
        """(65536,) int16, raw value -> class index, 255 for unlabelled, -1 for unknown values; without colours."""
        table = np.full(LARGEST_VALUE + 1, -1, np.int16)
        for value, index in self.mapping.items():
            if value <= LARGEST_VALUE:
                table[value] = index
        return table

    def to_data(self) -> dict[str, Any]:
        """The table as plain lists and numbers, the form that ``class_table_from_data`` reads."""
        classes: list[dict[str, Any]] = [
            {"name": name, "color": list(colour), "values": list(values)}
            for name, colour, values in zip(self.names, self.colours, self.values, strict=True)
        ]
        for one, own in zip(classes, self.label_rgb, strict=False):
            if own:
                one["label_rgb"] = [list(colour) for colour in own]
        for one, names in zip(classes, self.source_names, strict=False):
            if names:
                one["source_names"] = list(names)
        background = None if self.background is None else self.names[self.background]
        data: dict[str, Any] = {
            "classes": classes,
            "background": background,
            "unlabelled": list(self.unlabelled_values),
        }
        if self.unlabelled_rgb:
            data["unlabelled_rgb"] = [list(colour) for colour in self.unlabelled_rgb]
        others: dict[str, Any] = {
            "unlabelled_names": list(self.unlabelled_names),
            "regions": list(self.regions),
            "ignored": list(self.ignored),
            "groups": {name: [self.names[index] for index in members] for name, members in self.groups},
        }
        if self.outline_order != "drawing":
            others["outline_order"] = self.outline_order
        return data | {
            key: held for key, held in (others | {"outside_outlines": self.outside_outlines}).items() if held
        }


def read_class_table(path: Path | str) -> ClassTable:
    """Read a class table from a YAML or JSON file.

    Args:
        path: The file holds a list of names; or a list of ``{name, color, value | values}``; or
            ``name: value`` pairs; or a table with ``classes`` (any of these), ``background`` (a name, or
            null) and ``unlabelled`` (raw values). For colour-coded masks, a class has ``label_rgb``, a colour or a
            list of them, and the table may have ``unlabelled_rgb``. For outlines, a class has ``source_names``, and
            the table may have ``unlabelled_names``, ``regions`` and ``ignored``, names in annotation files all, and
            ``outline_order`` and ``outside_outlines``.
            ``groups`` are ``name: [class, class]`` pairs.

    Returns:
        The table. A class without a colour gets one of a palette that colour-blind readers can tell apart.

    Raises:
        AnnotationError: The file cannot be read, or says something that is not a class table.
    """
    path = Path(path)
    try:
        text = read_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AnnotationError(
            f"class table {path}: cannot be read ({error}). Needed a YAML or JSON text file. Check the path."
        ) from error
    try:
        data = parse_json(text) if path.suffix.lower() == ".json" else parse_yaml(text)
    except ValueError as error:
        raise AnnotationError(
            f"class table {path}: not valid YAML or JSON ({' '.join(str(error).split())}). Mend the file at "
            "that place."
        ) from error
    return class_table_from_data(data, f"class table {path}")


def write_class_table(table: ClassTable, path: Path | str) -> None:
    """Write a class table as JSON (``.json``) or YAML (any other suffix); the file is whole or absent."""
    path = Path(path)
    if path.suffix.lower() == ".json":
        write_json(path, table.to_data())
    else:
        write_text(path, yaml.safe_dump(table.to_data(), sort_keys=False, default_flow_style=None))


def class_table_from_data(data: object, source: str) -> ClassTable:
    """Make a class table from parsed YAML or JSON.

    Args:
        data: Any of the forms that ``read_class_table`` describes.
        source: What errors call it, usually "class table PATH".

    Raises:
        AnnotationError: The data is not a class table; the message says all that is wrong, where, and what is needed.
    """
    found = parsed_table(data, source)
    background = found.background_index
    has_colours = any(each.label_rgb for each in found.classes)
    unlabelled = found.unlabelled
    if not found.names_unlabelled and not any(UNLABELLED in values for values in found.values):
        unlabelled = (UNLABELLED,)
    source_names = tuple(tuple(dict.fromkeys(each.source_names)) for each in found.classes)
    return ClassTable(
        names=found.names,
        colours=tuple(
            default_colour(index, background) if each.colour is None else each.colour
            for index, each in enumerate(found.classes)
        ),
        values=found.values,
        background=background,
        unlabelled_values=unlabelled,
        label_rgb=tuple(each.label_rgb for each in found.classes) if has_colours else (),
        unlabelled_rgb=found.unlabelled_rgb,
        source_names=source_names if any(source_names) else (),
        unlabelled_names=tuple(dict.fromkeys(found.unlabelled_names)),
        regions=tuple(dict.fromkeys(found.regions)),
        ignored=tuple(dict.fromkeys(found.ignored)),
        groups=tuple(
            (group, tuple(sorted({found.names.index(name) for name in members})))
            for group, members in found.groups.items()
        ),
        outline_order=found.outline_order,
        outside_outlines=found.outside_outlines,
    )
