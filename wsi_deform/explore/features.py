"""What is seen of some slides: features of cells from all over their tissue, at all levels that are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_deform.block_choice import RGB
from wsi_deform.cover import FieldBudget, budgets_of, view_of
from wsi_deform.deform.blocks import BlockLayout
from wsi_deform.errors import SlideError
from wsi_deform.looks import look_at_fields, rasters_of
from wsi_deform.model import Model
from wsi_deform.networks.groups import smoothed
from wsi_deform.networks.layers import resized
from wsi_deform.slide.slide import Slide

MAX_FIELDS = 24
"""Fields that features are taken of, spread evenly over all: what is rare in a slide may be missed, time is bounded."""
MAX_CELLS = 20_000
IS_TISSUE = 0.99
EDGE_CELLS = (4, 2, 0)
"""What an encoder sees near glass is the glass: cells so near to it are left out, fewer where little else is left."""
ENOUGH = 4
"""Parts of the cells that are wanted of a field: one of them is enough."""

OnField = Callable[[int, int], None]


class UnseenSlideError(SlideError):
    """A slide of several, ``slide``, cannot be seen; the others can be grouped without it."""

    def __init__(self, slide: Slide, error: SlideError) -> None:
        super().__init__(str(error))
        self.slide = slide


@contextmanager
def seeing(slide: Slide) -> Iterator[None]:
    """Within, what cannot be read is this slide's fault."""
    try:
        yield
    except SlideError as error:
        raise UnseenSlideError(slide, error) from error


def fields_of_all(slides: Sequence[Slide], model: Model) -> list[tuple[Slide, FieldBudget]]:
    """The fields of some slides, each with its slide, in order.

    Raises:
        UnseenSlideError: The tissue of one cannot be read.
    """
    found = []
    for slide in slides:
        with seeing(slide):
            found += [(slide, budget) for budget in budgets_of(slide, model)]
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellFeatures:
    """Features of N cells.

    Attributes:
        levels: By level, the coarsest first, (N, C) float64 of the same cells of the finest level.
        finest: (N, C) those of the finest level, averaged over the cells around.
    """

    levels: list[Tensor]
    finest: Tensor


@torch.no_grad()
def cell_features(
    slides: Sequence[Slide], model: Model, *, seed: int, on_field: OnField | None = None
) -> CellFeatures:
    """Features of cells of tissue, drawn with the same chance all over the slides.

    Args:
        slides: Open slides.
        model: Reads blocks at random, so that each has the same chance; its network projects nothing.
        seed: Of the draw.
        on_field: Called after each field with how many are done and how many there are.

    Returns:
        At most ``MAX_CELLS``; one field's looks are in memory at a time.

    Raises:
        UnseenSlideError: A tile cannot be read.
        SlideError: There is no tissue.
    """
    found = fields_of_all(slides, model)
    chosen = [found[at] for at in np.unique(np.linspace(0, len(found) - 1, MAX_FIELDS).round().astype(int))]
    rng = np.random.default_rng(seed)
    parts = []
    for number, (slide, budget) in enumerate(chosen, start=1):
        with seeing(slide):
            parts.append(_of_field(slide, budget, model, most=MAX_CELLS // len(chosen), rng=rng))
        if on_field is not None:
            on_field(number, len(chosen))
    levels = [torch.cat([part.levels[level] for part in parts]) for level in range(len(parts[0].levels))]
    if not len(levels[0]):
        names = ", ".join(slide.slide_id for slide in slides)
        raise SlideError(
            f"slide {names}: no tissue was found. Needed some: `wsi-deform inspect` shows what was."
        )
    return CellFeatures(levels=levels, finest=torch.cat([part.finest for part in parts]))


def _of_field(
    slide: Slide, budget: FieldBudget, model: Model, *, most: int, rng: np.random.Generator
) -> CellFeatures:
    """Features of at most so many cells of a field that are tissue and were read at the finest level."""
    size = model.map_size(budget.size)
    view = view_of(slide, budget.field, size, tissue=True, stain=model.config.networks.stain)[None]
    view = view.to(model.device)
    looks = look_at_fields(model, [slide], [budget.field], view, size=budget.size)
    rasters = rasters_of(model, looks)
    last = rasters[-1]
    shape = (last.shape[2], last.shape[3])
    padded = looks.layout.padded(0)
    share = F.pad(view[:, RGB:], (0, padded.width - size.width, 0, padded.height - size.height))
    share = F.interpolate(share, size=shape, mode="area" if shape[0] < padded.height else "nearest")
    # What lies in the margin of a field is seen at the edge of what is read, and its labels are cut off.
    usable = (last[0, -1] > 0) & _kept(budget, looks.layout, shape).to(last.device)
    for reach in EDGE_CELLS:
        inner = -F.max_pool2d(-share, 2 * reach + 1, 1, reach)[0, 0] > IS_TISSUE
        if (usable & inner).sum() >= most // ENOUGH:
            break
    usable = usable & inner
    rows, columns = (each.cpu().numpy() for each in usable.nonzero(as_tuple=True))
    picked = rng.permutation(len(rows))[:most]
    at = torch.from_numpy(rows[picked]), torch.from_numpy(columns[picked])

    def values(features: Tensor) -> Tensor:
        return features[0][:, at[0], at[1]].T.double().cpu()

    return CellFeatures(
        levels=[values(resized(each[:, :-1], shape)) for each in rasters],
        finest=values(smoothed(last[:, :-1], last[:, -1:])),
    )


def _kept(budget: FieldBudget, layout: BlockLayout, shape: tuple[int, int]) -> Tensor:
    """(rows, columns) of the finest cells: whether they lie in what the field decides of the mask."""
    region, kept = budget.field.region, budget.field.kept_in_region
    sides_px = (region.height, region.width)
    finest_px = (layout.root.height << layout.levels - 1, layout.root.width << layout.levels - 1)
    y, x = (
        (torch.arange(count) + 0.5) * layout.cell_px * side / finest
        for count, side, finest in zip(shape, sides_px, finest_px, strict=True)
    )
    rows, columns = (kept.y <= y) & (y < kept.bottom), (kept.x <= x) & (x < kept.right)
    return rows[:, None] & columns[None, :]
