"""All measures of one slide, in one pass over its labels and its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.labels import Labels
from wsi_deform.evaluate.block import BlockMeasure
from wsi_deform.evaluate.boundary import Boundary, BoundaryDistances
from wsi_deform.evaluate.calibration import Calibration, Source
from wsi_deform.evaluate.frequency import ClassFrequency
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.objects import ObjectCounts, Objects
from wsi_deform.evaluate.slides import LabelMap, confusions_of
from wsi_deform.evaluate.trimap import WIDTHS_PX, WIDTHS_UM, Trimap, TrimapCounts
from wsi_deform.geometry import Mpp, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuresWanted:
    """What is measured beyond confusion counts, class frequency and calibration, which are always.

    Attributes:
        near_borders: Whether trimap, boundary distance and objects are measured; they take about as long as reading.
        widths_px: Widths of trimap bands, level-0 px.
        widths_um: Widths of trimap bands, um.
    """

    near_borders: bool = True
    widths_px: tuple[float, ...] = WIDTHS_PX
    widths_um: tuple[float, ...] = WIDTHS_UM


BASIC, ALL = MeasuresWanted(near_borders=False), MeasuresWanted()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """What was measured of a slide, or of all slides together, beyond confusion counts; None where it was not.

    Attributes:
        trimap: Pixels in bands around the borders of the labels.
        boundary: Distances between borders; None also where they were too long to hold.
        objects: Connected objects by size.
        calibration: Probabilities and how often they came true.
        frequency: Samples and pixels of each class.
        probabilities_of: Where the probabilities are from.
    """

    trimap: TrimapCounts | None = None
    boundary: BoundaryDistances | None = None
    objects: ObjectCounts | None = None
    calibration: Calibration | None = None
    frequency: ClassFrequency | None = None
    probabilities_of: frozenset[Source] = frozenset()

    @classmethod
    def together(cls, parts: Sequence[Measured]) -> Measured:
        """Add up slides; a measure is over those that have it."""
        sums: dict[str, Any] = {}
        for each in fields(cls):
            values = [value for part in parts if (value := getattr(part, each.name)) is not None]
            if each.name == "probabilities_of":
                sums[each.name] = frozenset[Source]().union(*values)
            elif values:
                total = values[0]
                for value in values[1:]:
                    total = total + value
                sums[each.name] = total
        return cls(**sums)


def counted_slide(
    truth: Labels,
    label_maps: Sequence[LabelMap],
    *,
    size: Size,
    mpp: Mpp | None,
    classes: ClassTable,
    wanted: MeasuresWanted,
) -> tuple[list[Confusion], Measured]:
    """Count a slide.

    Args:
        truth: Its labels.
        label_maps: The mask, and what else is to be counted against the labels; see ``confusions_of``.
        size: Level-0 size of the slide.
        mpp: um per level-0 pixel, of both axes or along x and y, or None.
        classes: The class table.
        wanted: What is measured of the mask.

    Returns:
        The counts of each label map, and what was measured of the mask near borders.
    """
    trimap = Trimap(classes=classes.count, mpp=mpp, widths_px=wanted.widths_px, widths_um=wanted.widths_um)
    boundary = Boundary(classes=classes.count, mpp=mpp)
    objects = Objects(classes=classes.count, background=classes.background, mpp=mpp, width_px=size.width)
    measures: list[BlockMeasure] = [trimap, boundary, objects] if wanted.near_borders else []
    counts = confusions_of(truth, label_maps, size=size, classes=classes.count, measures=measures)
    if not measures:
        return counts, Measured()
    return counts, Measured(trimap=trimap.result(), boundary=boundary.result(), objects=objects.result())
