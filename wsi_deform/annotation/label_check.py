"""Whether the values that occur in the masks of a study are labels that a network can learn and be measured by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.label_counts import counts_of_row
from wsi_deform.annotation.label_file import LabelFile
from wsi_deform.annotation.suggested_classes import changed_text, suggested_classes
from wsi_deform.annotation.unknown_values import PASTE, unknown_values_problem
from wsi_deform.annotation.value_text import listed, masks_text, values_text
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.manifest.problems import Problem
from wsi_deform.manifest.rows import ManifestRow

TWO_CLASSES = "pixels of two classes or more, for there is nothing to tell apart in one"
SWITCH = "pass --allow-empty-classes if it is meant so"  # of manifest check, train and evaluate


@dataclass(slots=True, kw_only=True)
class SeenValues:
    """Raw values that were found in masks.

    Attributes:
        pixels: Split, "" for none -> raw value -> px.
        masks: Split -> number of masks, and of files of outlines.
        outlined: How many of these are files of outlines.
        lonely: Ids of slides whose mask holds one class, and beside it only what means unlabelled.
        unknown: Rows, "slide A (line 2)", whose mask holds values that the class table does not know.
    """

    pixels: dict[str, dict[int, int]] = field(default_factory=dict)
    masks: dict[str, int] = field(default_factory=dict)
    outlined: int = 0
    lonely: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def add(
        self,
        row: ManifestRow,
        values: Mapping[int, int],
        table: ClassTable | None = None,
        *,
        px_per_pixel: float = 1.0,
        are_outlines: bool = False,
    ) -> None:
        """Count the values of a row's mask, or what stands for them in outlines.

        Args:
            row: The row.
            values: Raw value -> mask px.
            table: What they mean.
            px_per_pixel: Level-0 px of the slide per mask pixel, so that coarse masks count as fine ones do.
            are_outlines: Whether they are those of ``label_counts.raw_counts``: which pixels are unlabelled was said.
        """
        split = row.split or ""
        held = self.pixels.setdefault(split, {})
        for value, number in values.items():
            held[value] = held.get(value, 0) + round(number * px_per_pixel)
        self.masks[split] = self.masks.get(split, 0) + 1
        self.outlined += are_outlines
        if table is None or are_outlines:
            return
        if len(classes_with_pixels(values, table)) == 1 and values.keys() & table.unlabelled_raw:
            self.lonely.append(row.slide_id)
        if values.keys() - table.mapping.keys():
            self.unknown.append(place_of(row))

    @property
    def word(self) -> str:
        """What its files are called."""
        return "label file" if self.outlined else "mask"

    @property
    def total(self) -> dict[int, int]:
        """Raw value -> px in all masks."""
        total: dict[int, int] = {}
        for held in self.pixels.values():
            for value, number in held.items():
                total[value] = total.get(value, 0) + number
        return dict(sorted(total.items()))


@dataclass(slots=True, kw_only=True)
class LabelFindings:
    """What is wrong with labels, and what is worth a remark."""

    problems: list[Problem] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def judge_labels(seen: SeenValues, table: ClassTable, *, allow_empty_classes: bool = False) -> LabelFindings:
    """Find values without a meaning and classes without pixels.

    Args:
        seen: The values of all masks.
        table: What they mean.
        allow_empty_classes: Whether classes without pixels, and a split of one class, are remarks instead of
            problems; values without a meaning never are.

    Returns:
        Problems: values that the table does not know; pixels of one class only, in all masks or in those of val;
        a class that no training mask has (where there are no training masks, no mask without a split). Remarks:
        classes that val or test lack; masks that hold one class beside unlabelled.
    """
    found = LabelFindings()
    total = seen.total
    unknown = unknown_values_problem(total, table, seen.unknown)
    present = classes_with_pixels(total, table)
    switched: list[Problem] = []
    if unknown is not None:
        found.problems.append(unknown)
    elif len(present) == 1:
        switched.append(
            one_class_problem(total, table, masks=sum(seen.masks.values()), outlined=seen.outlined)
        )
    else:
        switched += _classes_without_pixels(seen, table)
        switched += _val_of_one_class(seen, table)
    if allow_empty_classes:
        found.remarks += [f"{problem.where}: {problem.found}" for problem in switched]
    else:
        found.problems += switched
    if unknown is None and len(present) > 1:
        found.remarks += _absent(seen, table)
        if seen.lonely:
            found.remarks.append(_lonely(seen, table))
    return found


def refuse_labels_of_one_class(rows: Sequence[ManifestRow], table: ClassTable) -> None:
    """Refuse masks in which one class is labelled and every other pixel means unlabelled: nothing can be measured.

    Args:
        rows: Rows of a manifest; those whose labels are missing or cannot be read are passed over.
        table: What the values of their masks, or the names of their outlines, mean.

    Raises:
        AnnotationError: The message says what was found and, where it can be told, the class table that mends it.
    """
    seen = SeenValues()
    for row in rows:
        file = LabelFile.of_row(row)
        if file is None:
            continue
        try:
            seen.add(row, counts_of_row(row, table), are_outlines=file.is_outlines)
        except (AnnotationError, SlideError):
            continue  # told with the slide, when it is measured
    total = seen.total
    if len(classes_with_pixels(total, table)) == 1 and total.keys() & table.unlabelled_raw:
        files = sum(seen.masks.values())
        raise AnnotationError(str(one_class_problem(total, table, masks=files, outlined=seen.outlined)))


def place_of(row: ManifestRow) -> str:
    """Where problems of a row's files are."""
    return f"slide {row.slide_id} (line {row.line})"


def classes_with_pixels(values: Mapping[int, int], table: ClassTable) -> list[int]:
    """Indices of the classes that some raw values mean, in rising order."""
    mapping = table.meanings
    return sorted({mapping[value] for value in values if value in mapping} - {UNLABELLED})


def one_class_problem(
    values: Mapping[int, int], table: ClassTable, *, masks: int, outlined: int = 0
) -> Problem:
    """The problem of masks whose labelled pixels are all of one class.

    Args:
        values: Raw value -> px in all of them.
        table: What the values mean.
        masks: Number of files of labels.
        outlined: How many of these are files of outlines; of these no values can be given another meaning.
    """
    (only,) = classes_with_pixels(values, table)
    suggested = None if outlined else suggested_classes(values, table)
    files = f"{masks} file{'s' if masks != 1 else ''} of labels" if outlined else masks_text(masks)
    holding = f"{files}, which hold {values_text(values, table)}"
    found = f"only class {table.names[only]!r} has pixels in {holding}"
    remedy = f"Check that these are the finished labels and that mask_channel is right, or {SWITCH}"
    if outlined:
        remedy = f"Say in the class table what is outside all outlines (outside_outlines), or {SWITCH}"
    if suggested is not None:
        remedy = f"P{SWITCH[1:]}. If {changed_text(values, table, suggested.table)}, {PASTE}"
    return Problem(
        where="class table",
        found=found,
        needed=TWO_CLASSES,
        remedy=remedy,
        paste="" if suggested is None else suggested.text,
    )


def _classes_without_pixels(seen: SeenValues, table: ClassTable) -> list[Problem]:
    """The problem of classes that no mask to learn from has: those of train, or where none has a split, all."""
    base = "train" if "train" in seen.pixels else ""
    having = classes_with_pixels(seen.pixels.get(base, {}), table)
    without = [index for index in range(table.count) if index not in having]
    if not having or not without:
        return []
    names = ", ".join(repr(table.names[index]) for index in without)
    which = f"class {names} is" if len(without) == 1 else f"classes {names} are"
    remedy = f"Move a patient that has it to train, take it out of the class table, or {SWITCH}"
    # A value that means unlabelled may be the class, unless another split says which value it is.
    everywhere = classes_with_pixels(seen.total, table)
    known = set(without) <= set(everywhere) or seen.outlined
    suggested = None if known else suggested_classes(seen.total, table)
    if suggested is not None:
        remedy += f". If {changed_text(seen.total, table, suggested.table)}, {PASTE}"
    return [
        Problem(
            where="manifest",
            found=f"{which} in no {'training ' if base else ''}{seen.word}: {values_text(seen.pixels[base], table)}",
            needed="every class in train" if base else "pixels of every class",
            remedy=remedy,
            paste="" if suggested is None else suggested.text,
        )
    ]


def _val_of_one_class(seen: SeenValues, table: ClassTable) -> list[Problem]:
    """The problem of validation masks by which no mean IoU can be measured."""
    values = seen.pixels.get("val", {})
    having = classes_with_pixels(values, table)
    if len(having) != 1:
        return []
    return [
        Problem(
            where="manifest",
            found=f"the {seen.word}s of split val hold only class {table.names[having[0]]!r}: "
            f"{values_text(values, table)}; "
            "a mean IoU cannot be measured by them",
            needed="two classes or more in val",
            remedy=f"Move a patient that has others to val, or {SWITCH}",
        )
    ]


def _absent(seen: SeenValues, table: ClassTable) -> list[str]:
    """A remark for val and for test where classes are missing from their masks."""
    remarks = []
    for split in ("val", "test"):
        having = classes_with_pixels(seen.pixels.get(split, {}), table)
        without = [name for index, name in enumerate(table.names) if index not in having]
        if not having or not without or (split == "val" and len(having) == 1):  # this one is a problem
            continue
        says = "is over the others" + (", with 0 for one that is predicted" if split == "test" else "")
        if len(having) < 2:
            says = "cannot be measured"
        remarks.append(
            f"split {split}: no pixel of class {', '.join(map(repr, without))}: a mean IoU of {split} {says}"
        )
    return remarks


def _lonely(seen: SeenValues, table: ClassTable) -> str:
    hidden = sorted(seen.total.keys() & table.unlabelled_raw)
    return (
        f"{len(seen.lonely)} of {masks_text(sum(seen.masks.values()))} hold one class and beside it only what means "
        f"unlabelled ({listed(hidden)}): {', '.join(seen.lonely[:5])}{' ...' if len(seen.lonely) > 5 else ''}. "
        "If that is a class there, give these masks the values of the others"
    )
