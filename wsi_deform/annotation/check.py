"""The deep check of a manifest: every slide and every mask is opened, every value is looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.mask_file import raw_value_counts
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.geometry import Size
from wsi_deform.manifest.rows import Manifest, ManifestRow, Problem
from wsi_deform.slide.open import open_slide


def check_manifest(
    manifest: Manifest,
    classes: ClassTable | None = None,
    *,
    for_training: bool = False,
    scan: bool = True,
    on_row: Callable[[ManifestRow], None] | None = None,
) -> list[Problem]:
    """Open what a manifest points to and say everything that is wrong with it.

    Args:
        manifest: From ``read_manifest``, which has checked the CSV itself.
        classes: What mask values mean; None takes a class per value that occurs.
        for_training: Whether there must be labelled slides to train on and to validate on, with every class.
        scan: Whether every pixel of every mask is looked up; False only compares sizes.
        on_row: Called after each row, to show progress.

    Returns:
        All problems, in the order of the rows; empty when there are none.
    """
    check = _Check(classes=classes)
    for row in manifest.rows:
        size = check.slide(row)
        check.labels(row, size, scan=scan)
        if on_row is not None:
            on_row(row)
    if for_training:
        check.training(manifest, scan=scan)
    return check.problems


def class_table_from_masks(manifest: Manifest) -> ClassTable:
    """Make a class table of the values that the masks of a manifest hold, one class per value.

    Raises:
        AnnotationError: No row has a mask, or one cannot be read.
    """
    values: set[int] = set()
    masks = [row for row in manifest.rows if row.mask is not None]
    if not masks:
        raise AnnotationError(
            "manifest: no row has a mask. Needed labels to make a class table. Fill in column mask."
        )
    for row in masks:
        values |= set(raw_value_counts(str(row.mask), row.mask_channel))
    return ClassTable.from_values(values)


@dataclass(slots=True, kw_only=True)
class _Check:
    """What has been found so far.

    Attributes:
        problems: In the order of the rows.
        seen: Pixels of each class, then of unlabelled, in all masks of a split.
    """

    classes: ClassTable | None
    problems: list[Problem] = field(default_factory=list)
    seen: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    def add(self, row: ManifestRow, message: str) -> None:
        """Note an error that already says what was found, what was needed and what to do."""
        found, _, rest = message.partition(" Needed ")
        needed, _, remedy = rest.partition(". ")
        self.problems.append(
            Problem(
                where=f"slide {row.slide_id} (line {row.line})",
                found=found.rstrip("."),
                needed=needed.rstrip(".") or "a file that opens",
                remedy=remedy.rstrip(".") or "Mend or replace the file, or remove the row",
            )
        )

    def slide(self, row: ManifestRow) -> Size | None:
        """Open a slide and read one tile of it; its size, or None when that fails."""
        try:
            slide = open_slide(row.slide, mpp=row.mpp, slide_id=row.slide_id)
            slide.read_tile(len(slide.info.levels) - 1, 0, 0)
            size = slide.size
        except SlideError as error:
            self.add(row, str(error))
            return None
        if slide.mpp_or_none is None:
            self.add(
                row,
                f"{row.slide}: no microns-per-pixel in the file. Needed to place it at a physical scale. "
                "Set the mpp column in its manifest row.",
            )
        return size

    def labels(self, row: ManifestRow, size: Size | None, *, scan: bool) -> None:
        """Open the mask of a row, compare sizes, and count its classes."""
        if row.annotation is not None:
            self.add(
                row,
                f"annotation {row.annotation}: outlines are not read. Needed a raster mask in column mask. "
                "Export the annotation as a label image.",
            )
        if row.mask is None or size is None:
            return
        try:
            classes = self.classes or ClassTable.from_values(raw_value_counts(row.mask, row.mask_channel))
            mask = open_label_mask(row.mask, slide_size=size, classes=classes, channel=row.mask_channel)
            if scan and self.classes is not None:
                counts = mask.class_counts()
                self.seen[row.split or ""] = self.seen.get(row.split or "", 0) + counts
                if not counts[:-1].any():
                    raise AnnotationError(
                        f"mask {row.mask}: every pixel is unlabelled. Needed at least one labelled pixel. "
                        "Label the slide, or empty its mask cell."
                    )
        except AnnotationError as error:
            self.add(row, str(error))

    def training(self, manifest: Manifest, *, scan: bool) -> None:
        """Look for labelled slides in train and val, and for every class in train."""
        for split in ("train", "val"):
            rows = manifest.of_split(split)
            if not any(row.mask for row in rows):
                found = f"{len(rows)} slides in split {split}, none with a mask"
                remedy = f"Set split to {split} for some patients and fill in column mask"
                self._of_all(found, "at least one labelled slide", remedy)
            elif len(without := [row.slide_id for row in rows if row.mask is None]):
                found = f"{len(without)} slides of split {split} have no mask: {', '.join(without[:5])}"
                self._of_all(
                    found, "labels for every slide of train and val", "Fill in column mask or empty split"
                )
        if scan and self.classes is not None and "train" in self.seen:
            for name, count in zip(self.classes.names, self.seen["train"][:-1], strict=True):
                if count == 0:
                    found, needed = f"class {name!r} is in no training mask", "every class in train"
                    self._of_all(
                        found, needed, "Move a patient that has it to train, or merge it with another class"
                    )

    def _of_all(self, found: str, needed: str, remedy: str) -> None:
        self.problems.append(Problem(where="manifest", found=found, needed=needed, remedy=remedy))
