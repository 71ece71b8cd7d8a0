"""From the rows of a manifest to labelled fields."""

from __future__ import annotations

from collections.abc import Sequence

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.label_file import LabelFile, open_labels
from wsi_deform.annotation.labels import Labels
from wsi_deform.errors import ManifestError, SlideError
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide


def open_labelled(row: ManifestRow, classes: ClassTable) -> tuple[Slide, Labels]:
    """Open the slide and the labels of a manifest row.

    Args:
        row: The row.
        classes: The class table that the mask's values, or the names of outlines, are read with.

    Returns:
        Slide and labels of the same level-0 size, both with the region of the row.

    Raises:
        ManifestError: The row has no labels.
        SlideError: The slide cannot be opened.
        AnnotationError: The labels cannot be used.
    """
    file = LabelFile.of_row(row)
    if file is None:
        raise ManifestError(
            f"slide {row.slide_id}: no labels in its manifest row. Needed a mask or outlines. Fill column mask or "
            "annotation."
        )
    slide = open_slide(
        row.slide, mpp=row.mpp, slide_id=row.slide_id, tissue_path=row.tissue_mask, region=row.region
    )
    return slide, open_labels(file, slide, classes, region=row.region)


def median_mpp(slides: Sequence[Slide]) -> float | None:
    """The middle mpp of some slides, um per level-0 pixel; None where none of them has one.

    Raises:
        SlideError: Some have one and some have none: a model learns at a physical scale or without.
    """
    known = sorted(slide.mpp for slide in slides if slide.mpp_or_none is not None)
    if not known:
        return None
    if len(known) < len(slides):
        without = [slide.slide_id for slide in slides if slide.mpp_or_none is None]
        raise SlideError(
            f"{len(without)} of {len(slides)} slides have no um per pixel: {', '.join(without[:5])}. Needed an mpp of "
            "all of them, or of none. Fill the mpp column of the manifest."
        )
    return known[len(known) // 2]
