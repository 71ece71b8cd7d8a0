"""The deep check of a manifest: every slide and every mask is opened, every value is looked up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.label_check import SeenValues, classes_with_pixels, judge_labels, place_of
from wsi_deform.annotation.label_table import label_table
from wsi_deform.annotation.raster import LabelMask, open_label_mask
from wsi_deform.annotation.scales import unit_remarks
from wsi_deform.annotation.suggested_classes import class_table_text, suggested_classes
from wsi_deform.annotation.unknown_values import PASTE, unknown_values_problem
from wsi_deform.annotation.value_counts import counted_values
from wsi_deform.annotation.value_text import values_text
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.geometry import Size
from wsi_deform.manifest.problems import EXAMPLES, Problem
from wsi_deform.manifest.rows import Manifest, ManifestRow, patients_remark
from wsi_deform.slide.open import open_slide

# Opens a mask whose size is compared and whose values nobody looks up.
ANY_CLASSES = ClassTable.from_names(["any"])


def check_manifest(
    manifest: Manifest,
    classes: ClassTable | None = None,
    *,
    for_training: bool = False,
    scan: bool = True,
    on_row: Callable[[ManifestRow], None] | None = None,
    allow_empty_classes: bool = False,
    on_remark: Callable[[str], None] | None = None,
    on_table: Callable[[list[str]], None] | None = None,
) -> list[Problem]:
    """Open what a manifest points to and say everything that is wrong with it.

    Args:
        manifest: From ``read_manifest``, which has checked the CSV itself.
        classes: What mask values mean; None is a problem where there are masks, told with a table to start from.
        for_training: Whether there must be labelled slides to train on and to validate on; the values of other masks
            are not looked up.
        scan: Whether every pixel of every mask is looked up, once: of large masks that did not change the counts are
            known from the last time. False only compares sizes.
        on_row: Called after each row, to show progress.
        allow_empty_classes: Whether classes without pixels are remarks instead of problems.
        on_remark: Called with what is no problem and yet worth knowing: classes that val or test lack, slides
            without a patient, masks that are no level of their slide.
        on_table: Called with the lines of ``label_table`` where labels were counted.

    Returns:
        All problems, in the order of the rows, then those of all rows together; empty when there are none. With a
        class table and ``scan``, a class that no training mask has is one, and so are masks of one class only.
    """
    check = _Check(classes=classes)
    for row in manifest.rows:
        size = check.slide(row)
        check.labels(row, size, scan=scan and (not for_training or row.split in ("train", "val")))
        if on_row is not None:
            on_row(row)
    if for_training:
        check.training(manifest)
    remarks = [*check.scales(), *check.frames(), *check.all_labels(allow_empty_classes=allow_empty_classes)]
    if remark := patients_remark(manifest):
        remarks.append(remark)
    if on_remark is not None:
        for each in remarks:
            on_remark(each)
    if on_table is not None and classes is not None:
        on_table(label_table(check.seen.pixels, classes))
    return check.problems


@dataclass(slots=True, kw_only=True)
class _Check:
    """What has been found so far.

    Attributes:
        problems: In the order of the rows.
        seen: The values of all masks that were counted.
        has_masks: Whether any row has a mask.
        unread: Whether a mask could not be counted, so that what seems to be missing may be in it.
        scaled: Rows whose slide opened, and its um per pixel.
        stretched: Rows whose mask is smaller than its slide by a factor that is no whole number, and the factor.
    """

    classes: ClassTable | None
    problems: list[Problem] = field(default_factory=list)
    seen: SeenValues = field(default_factory=SeenValues)
    has_masks: bool = False
    unread: bool = False
    scaled: list[tuple[ManifestRow, float | None]] = field(default_factory=list)
    stretched: list[tuple[ManifestRow, float]] = field(default_factory=list)

    def add(self, row: ManifestRow, message: str) -> None:
        """Note an error that already says what was found, what was needed and what to do."""
        found, _, rest = message.partition(" Needed ")
        needed, _, remedy = rest.partition(". ")
        kind = found
        for path in (row.slide, row.mask):
            kind = kind.replace(str(path), "FILE").replace(path.name, "FILE") if path is not None else kind
        self.problems.append(
            Problem(
                where=place_of(row),
                kind=kind.rstrip("."),
                found=found.rstrip("."),
                needed=needed.rstrip(".") or "a file that opens",
                remedy=remedy.rstrip(".") or "Mend or replace the file, or remove the row",
            )
        )

    def slide(self, row: ManifestRow) -> Size | None:
        """Open a slide and read one tile of it; its size, or None when that fails."""
        try:
            slide = open_slide(row.slide, mpp=row.mpp, slide_id=row.slide_id, region=row.region)
            slide.read_tile(len(slide.info.levels) - 1, 0, 0)
            size = slide.size
        except SlideError as error:
            self.add(row, str(error))
            return None
        self.scaled.append((row, slide.mpp_or_none))
        return size

    def scales(self) -> list[str]:
        """Look at the um per pixel of all slides together, which all have or none has; returns remarks."""
        without = [row for row, mpp in self.scaled if mpp is None]
        if without and len(without) == len(self.scaled):
            return [
                "no slide has um per pixel: they are taken for photographs, and no setting may be in um "
                "(fields.side_um=null, sampling.coarsest_um=null). If they are slides, fill column mpp of the manifest"
            ]
        for row in without:
            self.add(
                row,
                f"{row.slide}: no microns-per-pixel in the file, and {len(self.scaled) - len(without)} other slides "
                "have them. Needed an mpp of all slides, or of none. Set the mpp column in its manifest row.",
            )
        return unit_remarks([(row.slide_id, mpp) for row, mpp in self.scaled if mpp is not None])

    def labels(self, row: ManifestRow, size: Size | None, *, scan: bool) -> None:
        """Open the mask of a row, compare sizes, and count its classes."""
        if row.annotation is not None:
            self.add(
                row,
                f"annotation {row.annotation}: outlines are not read. Needed a raster mask in column mask. "
                "Export the annotation as a label image.",
            )
        if row.mask is None:
            return
        self.has_masks = True
        if size is None:
            self.unread = True
            return
        try:
            mask = open_label_mask(
                row.mask,
                slide_size=size,
                classes=self.classes or ANY_CLASSES,
                channel=row.mask_channel,
                region=row.region,
            )
            if not mask.frame.is_whole:
                self.stretched.append((row, mask.frame.downsample.x))
            if scan:
                self.values(row, mask)
        except AnnotationError as error:
            self.unread = True
            self.add(row, str(error))

    def values(self, row: ManifestRow, mask: LabelMask) -> None:
        """Count the values of a mask and look for those that mean nothing."""
        colours = self.classes is not None and self.classes.has_label_colours
        values = counted_values(
            mask.path,
            row.mask_channel,
            colours=colours,
            part=None if row.region is None else mask.frame.part(row.region),
        )
        scale = mask.frame.downsample
        self.seen.add(row, values, self.classes, px_per_pixel=scale.x * scale.y)
        if self.classes is None or values.keys() - self.classes.mapping.keys():
            return
        if not classes_with_pixels(values, self.classes):
            self.add(
                row,
                f"mask {mask.path}: every pixel is unlabelled. Needed at least one labelled pixel. "
                "Label the slide, or empty its mask cell.",
            )

    def frames(self) -> list[str]:
        """A remark where masks are no levels of their slides."""
        if not self.stretched:
            return []
        shown = ", ".join(f"{row.slide_id}: {factor:.4g}" for row, factor in self.stretched[:EXAMPLES])
        return [
            f"{len(self.stretched)} masks are smaller than their slides by a factor that is no whole number ({shown}): "
            "they are laid over them edge to edge, each level-0 pixel with the label of the mask pixel that its centre "
            "lies in"
        ]

    def all_labels(self, *, allow_empty_classes: bool) -> list[str]:
        """Look at the values of all masks together; returns remarks."""
        if self.classes is None and self.has_masks:
            self.problems.append(_without_table(self.seen))
        if self.classes is None or not self.seen.pixels:
            return []
        if self.unread:
            # What seems to be missing may be in the masks that were not read; what is unknown stays so.
            unknown = unknown_values_problem(self.seen.total, self.classes, self.seen.unknown)
            self.problems += [] if unknown is None else [unknown]
            return []
        found = judge_labels(self.seen, self.classes, allow_empty_classes=allow_empty_classes)
        self.problems += found.problems
        return found.remarks

    def training(self, manifest: Manifest) -> None:
        """Look for labelled slides in train and val."""
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

    def _of_all(self, found: str, needed: str, remedy: str) -> None:
        self.problems.append(Problem(where="manifest", found=found, needed=needed, remedy=remedy))


def _without_table(seen: SeenValues) -> Problem:
    """What the masks hold where no class table says what it means."""
    found = "no class table says what the values of the masks mean"
    found += f": {values_text(seen.total)}" if seen.total else ""
    needed, remedy = (
        "the names of the classes and their mask values",
        f"{PASTE[0].upper()}{PASTE[1:]}, as a start",
    )
    if seen.total.keys() <= {UNLABELLED}:
        remedy = "Write classes.yaml beside the manifest, or pass --classes FILE"
        return Problem(where="class table", found=found, needed=needed, remedy=remedy)
    named = ClassTable.from_values(seen.total)
    suggested = suggested_classes(seen.total, named)
    text = class_table_text(named) if suggested is None else suggested.text
    return Problem(where="class table", found=found, needed=needed, remedy=remedy, paste=text)
