"""The deep check of a manifest: every slide and every mask is opened, every value is looked up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.label_check import SeenValues, classes_with_pixels, judge_labels, place_of
from wsi_deform.annotation.label_counts import raw_counts
from wsi_deform.annotation.label_file import LabelFile, outlines_over, read_outlines_over
from wsi_deform.annotation.label_table import label_table
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.annotation.outlines.summary import named_outlines, proposed_table
from wsi_deform.annotation.raster import LabelMask, open_label_mask
from wsi_deform.annotation.suggested_classes import class_table_text, suggested_classes
from wsi_deform.annotation.unknown_values import PASTE, unknown_values_problem
from wsi_deform.annotation.value_counts import counted_values
from wsi_deform.annotation.value_text import values_text
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.manifest.problems import EXAMPLES, Problem
from wsi_deform.manifest.rows import Manifest, ManifestRow, patients_remark
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

# Opens a mask whose size is compared and whose values nobody looks up.
SHOWN_NAMES = 20
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
        slide = check.slide(row)
        check.labels(row, slide, scan=scan and (not for_training or row.split in ("train", "val")))
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
        unnamed: Outlines where no class table says what their names mean.
        unread: Whether labels could not be counted, so that what seems to be missing may be in it.
        scaled: Rows whose slide opened, and whether it has an mpp.
        stretched: Rows whose mask is smaller than its slide by a factor that is no whole number, and the factor.
    """

    classes: ClassTable | None
    problems: list[Problem] = field(default_factory=list)
    seen: SeenValues = field(default_factory=SeenValues)
    has_masks: bool = False
    unnamed: list[OutlineSet] = field(default_factory=list)
    unread: bool = False
    scaled: list[tuple[ManifestRow, bool]] = field(default_factory=list)
    stretched: list[tuple[ManifestRow, float]] = field(default_factory=list)

    def add(self, row: ManifestRow, message: str) -> None:
        """Note an error that already says what was found, what was needed and what to do."""
        found, _, rest = message.partition(" Needed ")
        needed, _, remedy = rest.partition(". ")
        kind = found
        for path in (row.slide, row.mask, row.annotation):
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

    def slide(self, row: ManifestRow) -> Slide | None:
        """Open a slide and read one tile of it; None when that fails."""
        try:
            slide = open_slide(row.slide, mpp=row.mpp, slide_id=row.slide_id, region=row.region)
            slide.read_tile(len(slide.info.levels) - 1, 0, 0)
            has_mpp = slide.mpp_or_none is not None
        except SlideError as error:
            self.add(row, str(error))
            return None
        self.scaled.append((row, has_mpp))
        return slide

    def scales(self) -> list[str]:
        """Look at the um per pixel of all slides together, which all have or none has; returns remarks."""
        without = [row for row, has_mpp in self.scaled if not has_mpp]
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
        return []

    def labels(self, row: ManifestRow, slide: Slide | None, *, scan: bool) -> None:
        """Open the mask or the outlines of a row, see whether they fit the slide, and count their classes."""
        file = LabelFile.of_row(row)
        if file is None:
            return
        self.has_masks |= not file.is_outlines
        if slide is None:
            self.unread = True
            return
        try:
            if file.is_outlines:
                self.outlines(row, file, slide, scan=scan)
            else:
                self.mask(row, file, slide, scan=scan)
        except AnnotationError as error:
            self.unread = True
            self.add(row, str(error))

    def mask(self, row: ManifestRow, file: LabelFile, slide: Slide, *, scan: bool) -> None:
        """Compare sizes, and count the values of a mask."""
        mask = open_label_mask(
            file.path,
            slide_size=slide.size,
            classes=self.classes or ANY_CLASSES,
            channel=file.channel,
            region=row.region,
        )
        if not mask.frame.is_whole:
            self.stretched.append((row, mask.frame.downsample.x))
        if scan:
            self.values(row, mask)

    def outlines(self, row: ManifestRow, file: LabelFile, slide: Slide, *, scan: bool) -> None:
        """Look up every name of a file of outlines, and count the pixels of their classes."""
        if self.classes is None:
            self.unnamed.append(read_outlines_over(file.path, slide))
            return
        labels = outlines_over(file.path, slide, self.classes, region=row.region)
        if not scan:
            return
        values = raw_counts(labels, row.region)
        self.seen.add(row, values, self.classes, are_outlines=True)
        if not classes_with_pixels(values, self.classes):
            self.add(
                row,
                f"annotation {file.path}: every pixel is unlabelled. Needed at least one labelled pixel. "
                "Annotate the slide, or empty its annotation cell.",
            )

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
        elif self.classes is None and self.unnamed:
            self.problems.append(_names_without_table(self.unnamed))
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
            without = [row.slide_id for row in rows if LabelFile.of_row(row) is None]
            if len(without) == len(rows):
                found = f"{len(rows)} slides in split {split}, none with a mask or an annotation"
                remedy = f"Set split to {split} for some patients and fill in column mask or annotation"
                self._of_all(found, "at least one labelled slide", remedy)
            elif without:
                found = f"{len(without)} slides of split {split} have no labels: {', '.join(without[:5])}"
                remedy = "Fill in column mask or annotation, or empty split"
                self._of_all(found, "labels for every slide of train and val", remedy)

    def _of_all(self, found: str, needed: str, remedy: str) -> None:
        self.problems.append(Problem(where="manifest", found=found, needed=needed, remedy=remedy))


def _names_without_table(found: Sequence[OutlineSet]) -> Problem:
    """What outlines are called where no class table says what that means."""
    named = named_outlines(found)
    shown = ", ".join(f"{each.name!r} ({each.count:,})" for each in named[:SHOWN_NAMES])
    more = f" and {len(named) - SHOWN_NAMES} more" if len(named) > SHOWN_NAMES else ""
    return Problem(
        where="class table",
        found="no class table says what the class names of the outlines mean"
        + (f": {shown}{more}" if named else ""),
        needed="a class for every name",
        remedy=f"{PASTE[0].upper()}{PASTE[1:]}, as a start",
        paste=class_table_text(proposed_table(named)),
    )


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
