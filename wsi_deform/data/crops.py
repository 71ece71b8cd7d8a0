"""Fields of an epoch: some of each slide's, moved at random on it, so that patches are random crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from wsi_deform.data.fields import LabelledField
from wsi_deform.geometry import Region
from wsi_deform.look.fields import Field


def drawn_fields(
    items: Sequence[LabelledField],
    per_slide: int | None,
    *,
    seed: int,
    epoch: int,
    weights: Sequence[float] | None = None,
) -> list[int]:
    """Which fields an epoch works on.

    Args:
        items: All fields, those of a slide side by side.
        per_slide: Most fields of a slide; None takes all.
        seed: Seed of the run.
        epoch: Number of the epoch; another epoch draws others.
        weights: How likely each field is drawn, on any scale; None draws all alike.

    Returns:
        Indices, ascending. Of a slide with more fields, so many different ones; with weights those of weight 0 come
        only where there are not enough others.
    """
    if per_slide is None:
        return list(range(len(items)))
    of_slide: dict[str, list[int]] = {}
    for index, item in enumerate(items):
        of_slide.setdefault(item.slide.slide_id, []).append(index)
    rng = np.random.default_rng((seed, epoch, 2))
    chosen: list[int] = []
    for own in of_slide.values():
        if len(own) <= per_slide:
            chosen += own
            continue
        keys = rng.random(len(own))
        if weights is not None:
            # The largest of u^(1 / w) are a weighted draw without replacement (Efraimidis and Spirakis 2006).
            given = np.maximum([weights[index] for index in own], 1e-30)
            keys = np.log(keys) / given
        chosen += [own[place] for place in np.argsort(-keys, kind="stable")[:per_slide]]
    return sorted(chosen)


def moved_fields(
    items: Sequence[LabelledField], share: float, *, seed: int, epoch: int
) -> list[LabelledField]:
    """The fields, each moved on its slide by whole pixels: no pixel is interpolated that was not before.

    Args:
        items: All fields.
        share: Most of its side by which a field moves along each axis.
        seed: Seed of the run.
        epoch: Number of the epoch; another epoch moves them elsewhere.

    Returns:
        Fields of the same sizes that lie on their slides, and in the regions of these, in the same order.
    """
    draws = np.random.default_rng((seed, epoch, 3)).uniform(-share, share, (len(items), 2))
    moved = []
    for item, (across, down) in zip(items, draws, strict=True):
        region, part = item.field.region, item.slide.region
        x = part.x + _inside(region.x - part.x + round(across * region.width), region.width, part.width)
        y = part.y + _inside(region.y - part.y + round(down * region.height), region.height, part.height)
        field = _at(item.field, x - region.x, y - region.y, part)
        moved.append(
            LabelledField(
                slide=item.slide, labels=item.labels, field=field, size=item.size, map_size=item.map_size
            )
        )
    return moved


def _inside(start: int, length: int, whole: int) -> int:
    return max(0, min(start, whole - length))


def _at(field: Field, across: int, down: int, part: Region) -> Field:
    """A field elsewhere."""

    def shifted(region: Region) -> Region:
        return Region(region.x + across, region.y + down, region.width, region.height)

    return Field(region=shifted(field.region), kept=shifted(field.kept).intersection(part))
