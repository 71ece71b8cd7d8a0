"""Where the labels of a slide lie, whichever kind of file it is, and the one way to open them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wsi_deform.annotation.class_data import OutlineOrder
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.labels import Labels
from wsi_deform.annotation.outlines.labels import OutlineLabels, open_outline_labels
from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.geometry import Point, Region
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.slide.slide import Slide


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFile:
    """A file of labels.

    Attributes:
        path: The file.
        is_outlines: Whether it holds outlines instead of pixels.
        channel: Channel of a mask that holds the labels, or None.
    """

    path: Path
    is_outlines: bool = False
    channel: int | None = None

    @classmethod
    def of_row(cls, row: ManifestRow) -> LabelFile | None:
        """The file of a manifest row: its mask, or else its annotation; None where it has neither."""
        if row.mask is not None:
            return cls(path=row.mask, channel=row.mask_channel)
        return None if row.annotation is None else cls(path=row.annotation, is_outlines=True)


def open_labels(
    file: LabelFile, slide: Slide, classes: ClassTable, *, region: Region | None = None
) -> Labels:
    """Open the labels of a slide.

    Args:
        file: Where they lie.
        slide: The slide.
        classes: What the values of masks and the names of outlines mean.
        region: The part of the slide whose labels count, level-0 px; None is all of it.

    Returns:
        The labels; pixels are read, or outlines looked at, when asked for.

    Raises:
        AnnotationError: The file cannot be read, does not fit the slide, or names classes that the table does not know.
        SlideError: The slide cannot be opened.
    """
    if not file.is_outlines:
        return open_label_mask(
            file.path, slide_size=slide.size, classes=classes, channel=file.channel, region=region
        )
    return outlines_over(file.path, slide, classes, region=region)


def outlines_over(
    path: Path,
    slide: Slide,
    classes: ClassTable,
    *,
    region: Region | None = None,
    order: OutlineOrder | None = None,
    outside: str | None = None,
) -> OutlineLabels:
    """The labels that a file of outlines gives a slide; see ``open_outline_labels``."""
    return open_outline_labels(
        path,
        slide_size=slide.size,
        classes=classes,
        region=region,
        corner=_corner(slide),
        image=slide.path.name,
        order=order,
        outside=outside,
    )


def read_outlines_over(path: Path, slide: Slide) -> OutlineSet:
    """The outlines of a file in the frame of their slide; see ``read_outlines``."""
    return read_outlines(path, bounds=_corner(slide), slide_size=slide.size, image=slide.path.name)


def _corner(slide: Slide) -> Point:
    """Where viewers begin to show a slide, level-0 px."""
    return Point(slide.bounds.x, slide.bounds.y)
