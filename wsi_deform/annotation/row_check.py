"""What opening the files of one manifest row finds; rows are looked at in any order, by any thread."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.label_check import classes_with_pixels, place_of
from wsi_deform.annotation.raster import LabelMask, open_label_mask
from wsi_deform.annotation.value_counts import counted_values
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.geometry import Point, Size
from wsi_deform.manifest.problems import Problem
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.slide.content import file_content, slide_content
from wsi_deform.slide.levels.build_time import build_seconds
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

# Opens a mask whose size is compared and whose values nobody looks up.
ANY_CLASSES = ClassTable.from_names(["any"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideFacts:
    """What is known of a slide that opened.

    Attributes:
        size: Of level 0, px.
        mpp: Level-0 um per pixel along x and y, or None.
        stored_levels: Number of levels in the file.
        vendor: Who wrote it, as far as its reader can tell.
        remarks: What whoever uses it should know of how it was read.
        content: ``slide_content``; "" where nobody asked.
        build_s: Seconds that the coarse levels which it lacks will take to be built, about; 0.0 where none are, or they
            are so small that they are made when they are read.
    """

    size: Size
    mpp: Point | None
    stored_levels: int
    vendor: str
    remarks: tuple[str, ...] = ()
    content: str = ""
    build_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class RowFindings:
    """What was found in the files of a row.

    Attributes:
        row: The row.
        problems: What is wrong with them.
        slide: What is known of its slide; None where it does not open.
        values: Raw value -> mask px of its labels; None where they were not counted.
        px_per_pixel: Level-0 px of the slide per mask px.
        stretched: Level-0 px per mask px along x where that is no whole number, or None.
        unread: Whether it has labels that could not be read.
        content: ``file_content`` of its labels; "" where they cannot be read or nobody asked.
    """

    row: ManifestRow
    problems: list[Problem] = field(default_factory=list)
    slide: SlideFacts | None = None
    values: dict[int, int] | None = None
    px_per_pixel: float = 1.0
    stretched: float | None = None
    unread: bool = False
    content: str = ""

    @property
    def labels(self) -> Path | None:
        """The file of its labels."""
        return self.row.mask or self.row.annotation

    def add(self, message: str) -> None:
        """Note an error that already says what was found, what was needed and what to do."""
        found, _, rest = message.partition(" Needed ")
        needed, _, remedy = rest.partition(". ")
        kind = found
        for path in (self.row.slide, self.row.mask):
            kind = kind.replace(str(path), "FILE").replace(path.name, "FILE") if path is not None else kind
        self.problems.append(
            Problem(
                where=place_of(self.row),
                kind=kind.rstrip("."),
                found=found.rstrip("."),
                needed=needed.rstrip(".") or "a file that opens",
                remedy=remedy.rstrip(".") or "Mend or replace the file, or remove the row",
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCheck:
    """How rows are looked at; safe in threads.

    Attributes:
        classes: What mask values mean, or None.
        scan: Whether the pixels of masks are counted.
        scanned: Splits whose masks are counted; None is all, and those without a split.
        builds_levels: Whether levels that slides lack are built now, and not only timed.
        compares: Whether it is told which contents are the same.
    """

    classes: ClassTable | None
    scan: bool = True
    scanned: tuple[str, ...] | None = None
    builds_levels: bool = False
    compares: bool = True

    def look(self, row: ManifestRow) -> RowFindings:
        """Open the slide and the labels of a row."""
        found = RowFindings(row=row)
        try:
            found.slide = self._slide(row)
        except SlideError as error:
            found.add(str(error))
        self._labels(found)
        return found

    def _slide(self, row: ManifestRow) -> SlideFacts:
        slide = open_slide(row.slide, mpp=row.mpp, slide_id=row.slide_id, region=row.region)
        build_s = 0.0
        if self.builds_levels or not slide.will_build_levels:
            slide.read_tile(len(slide.levels) - 1, 0, 0)
        else:
            stored = slide.stored_levels - 1
            build_s = build_seconds(slide.levels[stored], partial(slide.read_tile, stored))
        return SlideFacts(
            size=slide.size,
            mpp=slide.mpp_xy,
            stored_levels=slide.stored_levels,
            vendor=slide.info.vendor,
            remarks=slide.remarks,
            content=self._content(slide),
            build_s=build_s,
        )

    def _content(self, slide: Slide) -> str:
        return (
            slide_content(slide.path, slide.levels[: slide.stored_levels], slide.read_tiles)
            if self.compares
            else ""
        )

    def _labels(self, found: RowFindings) -> None:
        """Open the labels of a row, compare sizes, and count their values."""
        row = found.row
        if row.annotation is not None:
            found.add(
                f"annotation {row.annotation}: outlines are not read. Needed a raster mask in column mask. "
                "Export the annotation as a label image.",
            )
        if row.mask is None:
            return
        if found.slide is None:
            found.unread = True
            return
        try:
            mask = open_label_mask(
                row.mask,
                slide_size=found.slide.size,
                classes=self.classes or ANY_CLASSES,
                channel=row.mask_channel,
                region=row.region,
            )
            if not mask.frame.is_whole:
                found.stretched = mask.frame.downsample.x
            if self.scan and (self.scanned is None or row.split in self.scanned):
                self._values(found, mask)
            found.content = file_content(row.mask) if self.compares else ""
        except (AnnotationError, SlideError) as error:
            found.unread = True
            found.add(str(error))

    def _values(self, found: RowFindings, mask: LabelMask) -> None:
        """Count the values of a mask and look for those that mean nothing."""
        row, classes = found.row, self.classes
        values = counted_values(
            mask.path,
            row.mask_channel,
            colours=classes is not None and classes.has_label_colours,
            part=None if row.region is None else mask.frame.part(row.region),
        )
        scale = mask.frame.downsample
        found.values, found.px_per_pixel = values, scale.x * scale.y
        if classes is None or values.keys() - classes.mapping.keys():
            return
        if not classes_with_pixels(values, classes):
            found.add(
                f"mask {mask.path}: every pixel is unlabelled. Needed at least one labelled pixel. "
                "Label the slide, or empty its mask cell.",
            )
