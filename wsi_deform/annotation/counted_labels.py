"""The labels of a folder of masks, counted before they are dealt to splits."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wsi_deform.annotation.class_data import COLOUR_VALUE
from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.label_counts import counts_of_row
from wsi_deform.annotation.label_table import class_pixels, label_table
from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.outlines.summary import named_outlines, proposed_table
from wsi_deform.annotation.suggested_classes import MAX_VALUES, suggested_classes
from wsi_deform.annotation.value_counts import counted_values
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.faults import not_foreseen
from wsi_deform.manifest.problems import Problem, lines_by_kind
from wsi_deform.manifest.rows import SPLITS, Manifest, ManifestRow

MAX_NAMES = 100

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class CountedLabels:
    """What the labels of some rows hold.

    Attributes:
        table: What their values mean; None where there is none, and the values are too many to be classes.
        is_named: Whether somebody said what the values mean; else every value is taken for a class.
        are_names: Whether these are names of outlines instead.
        values: Slide id -> raw value -> mask px; outlines count as ``label_counts.raw_counts`` does.
        unread: Labels that could not be counted.
    """

    table: ClassTable | None = None
    is_named: bool = True
    are_names: bool = False
    values: dict[str, dict[int, int]] = field(default_factory=dict)
    unread: list[Problem] = field(default_factory=list)

    def by_class(self) -> dict[str, dict[int, int]]:
        """Slide id -> class -> px, without what is unlabelled and what has no meaning."""
        if self.table is None:
            return {}
        return {
            slide_id: {
                index: number
                for index, number in class_pixels(values, self.table).items()
                if index not in (None, UNLABELLED)
            }
            for slide_id, values in self.values.items()
        }

    def lines(self, manifest: Manifest) -> list[str]:
        """What people should know of the labels of the splits: a table of their pixels, and how they were dealt."""
        said = []
        if self.table is not None:
            pixels: dict[str, dict[int, int]] = {}
            for row in manifest.rows:
                held = pixels.setdefault(row.split or "", {}) if row.slide_id in self.values else {}
                for value, number in self.values.get(row.slide_id, {}).items():
                    held[value] = held.get(value, 0) + number
            said += label_table(pixels, self.table)
            said += self._absent(manifest)
        if self.values and self.table is None:
            said.append(
                "remark: splits are by numbers of slides alone: the masks hold more values than classes have, and no "
                "class table says what they mean. Write classes.yaml beside the manifest, or pass --classes FILE"
            )
        elif self.values and self.are_names:
            said.append(
                "remark: no class table was found: every class name of the outlines is taken for a class. "
                "`wsi-deform annotation classes` writes a table to start from"
            )
        elif self.values and not self.is_named:
            said.append("remark: no class table was found: every value of the masks is taken for a class")
        return said

    def unread_lines(self) -> list[str]:
        """What was not counted, whatever the splits."""
        return [f"remark: labels were not counted: {line}" for line in lines_by_kind(self.unread)]

    def _absent(self, manifest: Manifest) -> list[str]:
        """A remark for each class that a split lacks."""
        by_class = self.by_class()
        whose: dict[int, set[str]] = {}
        where: dict[int, set[str]] = {}
        for row in manifest.rows:
            for index, number in by_class.get(row.slide_id, {}).items():
                if number:
                    whose.setdefault(index, set()).add(str(row.patient))
                    where.setdefault(index, set()).add(row.split or "")
        if not whose:  # nothing was counted: that no class has a pixel is no news
            return []
        said = []
        splits = [split for split in SPLITS if manifest.of_split(split)]
        for index, name in enumerate(self.table.names if self.table is not None else ()):
            without = [split for split in splits if split not in where.get(index, set())]
            if without:
                count = len(whose.get(index, ()))
                patients = f"{count} patient{'s' if count != 1 else ''} with it"
                said.append(f"remark: no pixel of class {name!r} in {', '.join(without)}: {patients}")
        return said


def counted_labels(
    rows: Sequence[ManifestRow],
    table: ClassTable | None,
    *,
    on_row: Callable[[], None] | None = None,
) -> CountedLabels:
    """Count the labels of some rows.

    Args:
        rows: Those without labels are passed over.
        table: What values and names mean; None takes every value for a class where they are few, or every name of
            outlines where there are no masks.
        on_row: Called after each row.

    Returns:
        The counts; labels that cannot be read are listed.
    """
    found = CountedLabels(table=table, is_named=table is not None)
    names = _table_of_names(rows) if table is None else table
    found.are_names = table is None and names is not None
    for row in rows:
        try:
            if row.mask is not None:
                colours = table is not None and table.has_label_colours
                found.values[row.slide_id] = counted_values(row.mask, row.mask_channel, colours=colours)
            elif row.annotation is not None and names is not None:
                found.values[row.slide_id] = counts_of_row(row, names)
        except (AnnotationError, SlideError) as error:
            found.unread.append(_problem(row, str(error)))
        except Exception as error:  # noqa: BLE001  one bad row never stops the others
            logger.info("%s: not foreseen", row.slide_id, exc_info=True)
            found.unread.append(_problem(row, not_foreseen(error, row.mask or row.annotation)))
        if on_row is not None:
            on_row()
    if table is None:
        values = {value for own in found.values.values() for value in own}
        found.table = _table_of(values) if names is None else names
    return found


def _table_of_names(rows: Sequence[ManifestRow]) -> ClassTable | None:
    """A class for every name of the outlines of some rows; None where a row has a mask, or none has outlines."""
    if any(row.mask is not None for row in rows):
        return None
    found = []
    for row in rows:
        if row.annotation is not None:
            with contextlib.suppress(Exception):  # told where the row is counted
                found.append(read_outlines(row.annotation, image=row.slide.name))
    named = named_outlines(found)
    # More are no classes that anybody could learn, and more than a table can hold.
    return proposed_table(named) if 0 < len(named) <= MAX_NAMES else None


def _table_of(values: set[int]) -> ClassTable | None:
    """A class for each of a few values."""
    if not values - {UNLABELLED} or len(values) > MAX_VALUES or max(values) >= COLOUR_VALUE:
        return None
    named = ClassTable.from_values(values)
    suggested = suggested_classes(values, named)
    return named if suggested is None else suggested.table


def _problem(row: ManifestRow, message: str) -> Problem:
    found, _, rest = message.partition(" Needed ")
    needed, _, remedy = rest.partition(". ")
    return Problem(
        where=f"slide {row.slide_id}",
        found=found.rstrip("."),
        needed=needed.rstrip(".") or "labels that can be counted",
        remedy=remedy.rstrip(".") or "Mend or replace the file",
        kind=found.replace(str(row.mask or row.annotation), "FILE"),
    )
