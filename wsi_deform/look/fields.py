"""Fields: the parts in which a slide larger than a core is segmented."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Point, Region, Size, squared
from wsi_deform.look.tissue import TissueMask

SQUARE = Point(1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Field:
    """A part of a slide with its own low-res view, deformation map and sample budget.

    Attributes:
        region: What is read, level-0 px: the kept region and its context margin.
        kept: What the field decides in the mask, level-0 px; kept regions never overlap.
    """

    region: Region
    kept: Region

    @property
    def kept_in_region(self) -> Region:
        """The kept region in px from the region's top-left edge."""
        return Region(
            self.kept.x - self.region.x, self.kept.y - self.region.y, self.kept.width, self.kept.height
        )


def cover_with_fields(
    size: Size,
    tissue: TissueMask | None,
    *,
    field_px: int | None,
    margin_fraction: float = 0.0,
    align_px: int = 1,
    origin: tuple[int, int] = (0, 0),
    pixel: Point = SQUARE,
) -> tuple[Field, ...]:
    """Cover the tissue of a slide, or of a region of it, with fields.

    Args:
        size: Size of what is covered, level-0 px.
        tissue: Where the tissue is; None covers the whole slide.
        field_px: The longest side of a kept region, level-0 px; None takes one field over everything.
        margin_fraction: Context margin on every side as a fraction of the kept region's longer side, 0 to 1.
        align_px: Inner edges of kept regions are multiples of this from the origin, where the fields are longer than
            that: then few tiles of a mask show several fields. A power of two.
        origin: Where the top-left corner of what is covered lies on the slide, level-0 px.
        pixel: Sides of a pixel in sides of the square of its area, see ``Slide.pixel``: ``field_px`` and the margin are
            in these, so that they have one length along both axes.

    Returns:
        Fields row by row. Those without any tissue are left out: a slide of bare glass has none.

    Raises:
        ShapeError: field_px is not positive, or margin_fraction is outside [0, 1].

    Convention:
        ``field_px=None``, or a slide whose longer side is at most ``field_px``, gives one field over
        everything, without margin and whether or not tissue was found. Otherwise each axis is cut into the
        fewest equal parts of at most ``field_px``, equal to whole pixels, or to ``align_px`` where that is at most half
        a field. Margins are clipped at the border of what is covered.
    """
    if field_px is not None and field_px < 1:
        raise ShapeError(f"field_px {field_px}: needed at least 1, or None for one field over the slide.")
    if not 0.0 <= margin_fraction <= 1.0:
        raise ShapeError(f"margin_fraction {margin_fraction}: needed 0 to 1.")
    x, y = origin
    whole = Region(x, y, size.width, size.height)
    if field_px is None or squared(size, pixel).long <= field_px:
        return (Field(whole, whole),)
    across_px, down_px = max(1, round(field_px / pixel.x)), max(1, round(field_px / pixel.y))
    while align_px > 1 and 2 * align_px > min(across_px, down_px):
        align_px //= 2
    columns, rows = _cuts(size.width, across_px, align_px), _cuts(size.height, down_px, align_px)
    fields = []
    for top, bottom in zip(rows[:-1], rows[1:], strict=True):
        for left, right in zip(columns[:-1], columns[1:], strict=True):
            kept = Region(x + left, y + top, right - left, bottom - top)
            if tissue is not None and tissue.fraction_of(kept) == 0.0:
                continue
            margin = margin_fraction * max(kept.width * pixel.x, kept.height * pixel.y)
            x_px, y_px = math.ceil(margin / pixel.x), math.ceil(margin / pixel.y)
            around = Region(kept.x - x_px, kept.y - y_px, kept.width + 2 * x_px, kept.height + 2 * y_px)
            fields.append(Field(around.intersection(whole), kept))
    return tuple(fields)


def cover_exactly(
    size: Size,
    tissue: TissueMask | None,
    *,
    field_px: int,
    margin_fraction: float = 0.0,
    origin: tuple[int, int] = (0, 0),
    pixel: Point = SQUARE,
) -> tuple[Field, ...]:
    """Cover the tissue of a slide, or of a region of it, with fields of one size, margins included.

    Args:
        size: Size of what is covered, level-0 px.
        tissue: Where the tissue is; None covers the whole slide.
        field_px: Side of a field's region, level-0 px.
        margin_fraction: Context margin on every side as a fraction of ``field_px``, 0 to below 1/2.
        origin: Where the top-left corner of what is covered lies on the slide, level-0 px.
        pixel: As for ``cover_with_fields``.

    Returns:
        Fields row by row; those whose kept region has no tissue are left out.

    Raises:
        ShapeError: field_px is not positive, or margin_fraction is outside [0, 1/2).

    Convention:
        A field starts every ``field_px`` less two margins, the last one where it ends with the slide. Kept regions meet
        in the middle of what two fields share. A slide that is shorter than a field along an axis has one field there,
        as long as the slide.
    """
    if field_px < 1:
        raise ShapeError(f"field_px {field_px}: needed at least 1.")
    if not 0.0 <= margin_fraction < 0.5:
        raise ShapeError(f"margin_fraction {margin_fraction}: needed 0 to below 1/2 of exact fields.")
    columns, rows = (
        _exact_parts(length, side, max(1, side - 2 * math.floor(margin_fraction * side)))
        for length, side in (
            (size.width, max(1, round(field_px / pixel.x))),
            (size.height, max(1, round(field_px / pixel.y))),
        )
    )
    x, y = origin
    fields = []
    for top, bottom, first_row, last_row in rows:
        for left, right, first, last in columns:
            kept = Region(x + first, y + first_row, last - first, last_row - first_row)
            if tissue is None or tissue.fraction_of(kept) > 0.0:
                fields.append(Field(Region(x + left, y + top, right - left, bottom - top), kept))
    return tuple(fields)


def cut_to_tissue(fields: Sequence[Field], tissue: TissueMask) -> tuple[Field, ...]:
    """Shrink each field to the box around the tissue in it, so that no sample falls on the glass around.

    Args:
        fields: Fields of a slide.
        tissue: Its tissue.

    Returns:
        The fields with smaller regions and kept regions; those without any tissue are left out. What was kept and is
        no more is outside every field.
    """
    cut = []
    for field in fields:
        around = tissue.box_in(field.region)
        if around is None:
            continue
        kept = field.kept.intersection(around)
        if not kept.is_empty:
            cut.append(Field(around, kept))
    return tuple(cut)


def _cuts(length_px: int, field_px: int, align_px: int) -> list[int]:
    """Edges of the fewest equal parts of at most field_px; inner edges are multiples of align_px."""
    units = -(-length_px // align_px)
    parts = -(-units // (field_px // align_px))
    inner = [units * number // parts * align_px for number in range(parts)]
    return [*inner, length_px]


def _exact_parts(length_px: int, field_px: int, step: int) -> list[tuple[int, int, int, int]]:
    """Along an axis: start and end of each field, and of what it keeps."""
    last = max(0, length_px - field_px)
    starts = [min(number * step, last) for number in range(-(-last // step) + 1)]
    ends = [min(start + field_px, length_px) for start in starts]
    cuts = [0, *((end + start) // 2 for end, start in zip(ends[:-1], starts[1:], strict=True)), length_px]
    return list(zip(starts, ends, cuts[:-1], cuts[1:], strict=True))
