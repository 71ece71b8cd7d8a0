"""How many pixels of each raw value, or class, the labels of a manifest row hold, whichever kind of file they are."""

from __future__ import annotations

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.label_file import LabelFile, outlines_over
from wsi_deform.annotation.outlines.labels import OutlineLabels
from wsi_deform.annotation.value_counts import counted_values
from wsi_deform.errors import ManifestError
from wsi_deform.geometry import Region
from wsi_deform.manifest.rows import ManifestRow
from wsi_deform.slide.open import open_slide


def counts_of_row(row: ManifestRow, table: ClassTable) -> dict[int, int]:
    """Count the labels of a row.

    Args:
        row: Has a mask or an annotation.
        table: What values and names mean.

    Returns:
        Raw value -> px of the mask, or level-0 px of outlines, see ``raw_counts``; whatever the row's region.

    Raises:
        ManifestError: The row has no labels.
        AnnotationError: They cannot be read.
        SlideError: The slide of outlines cannot be opened.
    """
    file = LabelFile.of_row(row)
    if file is None:
        raise ManifestError(f"slide {row.slide_id}: no labels. Needed a mask or outlines. Fill column mask.")
    if not file.is_outlines:
        return counted_values(file.path, file.channel, colours=table.has_label_colours)
    slide = open_slide(row.slide, mpp=row.mpp, slide_id=row.slide_id)
    return raw_counts(outlines_over(file.path, slide, table))


def raw_counts(labels: OutlineLabels, region: Region | None = None) -> dict[int, int]:
    """Count the pixels of outlines as if they were a mask of the slide's size.

    Args:
        labels: The outlines.
        region: The pixels that count, level-0 px; None is all of the slide.

    Returns:
        ``ClassTable.raw_value`` of each class, and of unlabelled -> level-0 px.
    """
    counts = labels.class_counts() if region is None else labels.counts_in(region)
    table = labels.classes
    indices = [*range(table.count), UNLABELLED]
    found = {
        table.raw_value(index): int(number) for index, number in zip(indices, counts, strict=True) if number
    }
    return dict(sorted(found.items()))
