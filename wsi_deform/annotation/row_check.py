"""What opening the files of one manifest row finds; rows are looked at in any order, by any thread."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.label_check import classes_with_pixels, place_of
from wsi_deform.annotation.label_counts import raw_counts
from wsi_deform.annotation.label_file import LabelFile, outlines_over, read_outlines_over
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.annotation.value_counts import counted_values
from wsi_deform.errors import AnnotationError, SlideError
from wsi_deform.faults import not_foreseen
from wsi_deform.geometry import Point, Size
from wsi_deform.manifest.problems import Problem
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.slide.content import file_content, slide_content
from wsi_deform.slide.levels.build_time import build_seconds
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

# Opens a mask whose size is compared and whose values nobody looks up.
ANY_CLASSES = ClassTable.from_names(["any"])

logger = logging.getLogger(__name__)


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
        are_outlines: Whether its labels are outlines.
        unnamed: Its outlines where no class table says what their names mean.
        outline_remarks: What was left out, repaired or taken for something else of its outlines.
        unread: Whether it has labels that could not be read.
        content: ``file_content`` of its labels; "" where they cannot be read or nobody asked.
    """

    row: ManifestRow
    problems: list[Problem] = field(default_factory=list)
    slide: SlideFacts | None = None
    values: dict[int, int] | None = None
    px_per_pixel: float = 1.0
    stretched: float | None = None
    are_outlines: bool = False
    unnamed: OutlineSet | None = None
    outline_remarks: tuple[str, ...] = ()
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
        for path in (self.row.slide, self.labels):
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

    def doubt(self, error: Exception, path: Path) -> None:
        """Note an error that nobody foresaw."""
        logger.info("%s: not foreseen", path, exc_info=True)
        self.add(not_foreseen(error, path))


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
        slide = None
        try:
            slide = open_slide(row.slide, mpp=row.mpp, slide_id=row.slide_id, region=row.region)
            found.slide = self._facts(slide)
        except SlideError as error:
            found.add(str(error))
        except Exception as error:  # noqa: BLE001  one bad row never stops the others
            found.doubt(error, row.slide)
        file = LabelFile.of_row(row)
        if file is not None:
            self._labels(found, file, slide if found.slide is not None else None)
        return found

    def _facts(self, slide: Slide) -> SlideFacts:
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

    def _labels(self, found: RowFindings, file: LabelFile, slide: Slide | None) -> None:
        """Open the labels of a row, see whether they fit the slide, and count them."""
        found.are_outlines = file.is_outlines
        if slide is None:
            found.unread = True
            return
        try:
            if file.is_outlines:
                self._outlines(found, file, slide)
            else:
                self._mask(found, file, slide)
            found.content = file_content(file.path) if self.compares else ""
        except (AnnotationError, SlideError) as error:
            found.unread = True
            found.add(str(error))
        except Exception as error:  # noqa: BLE001  one bad row never stops the others
            found.unread = True
            found.doubt(error, file.path)

    def _is_counted(self, row: ManifestRow) -> bool:
        return self.scan and (self.scanned is None or row.split in self.scanned)

    def _outlines(self, found: RowFindings, file: LabelFile, slide: Slide) -> None:
        """Look up every name of a file of outlines, and count the pixels of their classes."""
        if self.classes is None:
            found.unnamed = read_outlines_over(file.path, slide)
            found.outline_remarks = found.unnamed.remarks
            return
        labels = outlines_over(file.path, slide, self.classes, region=found.row.region)
        found.outline_remarks = labels.remarks
        if not self._is_counted(found.row):
            return
        found.values = raw_counts(labels, found.row.region)
        if not classes_with_pixels(found.values, self.classes):
            found.add(
                f"annotation {file.path}: every pixel is unlabelled. Needed at least one labelled pixel. "
                "Annotate the slide, or empty its annotation cell.",
            )

    def _mask(self, found: RowFindings, file: LabelFile, slide: Slide) -> None:
        """Compare sizes, count the values of a mask, and look for those that mean nothing."""
        row, classes = found.row, self.classes
        mask = open_label_mask(
            file.path,
            slide_size=slide.size,
            classes=classes or ANY_CLASSES,
            channel=file.channel,
            region=row.region,
        )
        if not mask.frame.is_whole:
            found.stretched = mask.frame.downsample.x
        if not self._is_counted(row):
            return
        values = counted_values(
            file.path,
            file.channel,
            colours=classes is not None and classes.has_label_colours,
            part=None if row.region is None else mask.frame.part(row.region),
        )
        scale = mask.frame.downsample
        found.values, found.px_per_pixel = values, scale.x * scale.y
        if classes is None or values.keys() - classes.mapping.keys():
            return
        if not classes_with_pixels(values, classes):
            found.add(
                f"mask {file.path}: every pixel is unlabelled. Needed at least one labelled pixel. "
                "Label the slide, or empty its mask cell.",
            )
