"""The method, one call per stage: from a slide to its label map.

Training and inference run the same stages: ``sample_fields`` is both the forward pass of a training step
and the first half of segmenting a field.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import FieldBudget, budgets_of, normalised, tissue_limit_of, view_of
from wsi_deform.geometry import Region, Size
from wsi_deform.grids import even_grids, grids_of
from wsi_deform.kernels.ahead import ahead
from wsi_deform.look.fields import Field
from wsi_deform.looks import Looks, label_looks, look_at_fields
from wsi_deform.mask.tissue_limit import TissueLimit, reverse_sampler
from wsi_deform.model import Model
from wsi_deform.reverse.interpolation import Interpolation
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import TilePlan, plan_tiles
from wsi_deform.scale import limits_to_tissue, px_from_um
from wsi_deform.slide.slide import Slide


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampled:
    """What sampling a batch of fields gives; all fields have sampled images of one size.

    Attributes:
        density: (B, 1, H, W) deformation maps; None where a lattice of positions says where samples lie.
        grid: (B, h, w, 2) sampling grids, (x, y), unit frame of each field's region.
        areas: (B, h, w) areas of the warped cells as fractions of the region, without gradient; folded
            cells too have a positive one.
        images: (B, 3, h, w) RGB in [0, 255]; with a resizer of the ``model.read_size`` that it is given.
        pixels: Pixels that enter a network, of the view and of what is read, per field.
        tiles: Tiles read for each field.
        read_seconds: Time that planning and reading of tiles took.
    """

    density: Tensor | None
    grid: Tensor
    areas: Tensor
    images: Tensor
    pixels: tuple[int, ...]
    tiles: tuple[int, ...]
    read_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentedField:
    """The labelled samples of a field.

    Attributes:
        samples: Where they are and what they are; those in what could not be read are unlabelled.
        tiles: Number of tiles read for them.
        blanks: What could not be read of the slide until then, level-0 px, where such tiles are left out.
        pixels: Pixels, of whatever levels, that entered a network for them; None where nobody counted.
    """

    samples: FieldSamples
    tiles: int
    blanks: tuple[Region, ...] = ()
    pixels: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SegmentedSlide:
    """Labels of the samples of a slide, field by field.

    Attributes:
        slide_id: The slide.
        size: Its level-0 size, px.
        fields: The samples of each field and the part of the slide whose mask they decide.
        outside_label: Class of everything that no field covers.
        interpolation: "nearest" or "linear", as the model's ``sampling.interpolation``.
        samples: Number of samples.
        tiles: Number of tiles read.
        limit: Where labels other than background may be, or None.
        blanks: What could not be read of the slide and was left out, level-0 px.
    """

    slide_id: str
    size: Size
    fields: tuple[FieldSamples, ...]
    outside_label: int
    interpolation: Interpolation
    samples: int
    tiles: int
    limit: TissueLimit | None = None
    blanks: tuple[Region, ...] = ()

    def reverse(self) -> ReverseSampler:
        """The reverse sampler of these samples: any region of the mask at any level, limited to tissue if wanted."""
        return reverse_sampler(
            self.fields,
            size=self.size,
            outside_label=self.outside_label,
            interpolation=self.interpolation,
            limit=self.limit,
            blanks=self.blanks,
        )

    def __repr__(self) -> str:
        """What it is of, in a line."""
        limited = "not limited to tissue" if self.limit is None else "limited to tissue"
        count = len(self.fields)
        return (
            f"{type(self).__name__}({self.slide_id!r}, {self.size} px, {count} field{'s' if count != 1 else ''}, "
            f"{self.samples:,} samples, {self.interpolation}, {limited})"
        )


def segment_slide(
    slide: Slide,
    model: Model,
    *,
    budgets: Sequence[FieldBudget] | None = None,
    labels: Labels | None = None,
    limit_to_tissue: bool | None = None,
    batch: int = 1,
    scheduler: Any = "auto",
    on_field: Callable[[int, int], None] | None = None,
) -> SegmentedSlide:
    """Segment a slide and keep the labels of all its samples in memory; ``segment_fields`` streams them.

    Args:
        slide: An open slide.
        model: What ``load_model`` returned.
        budgets: The fields, from ``budgets_of``; None asks it.
        labels: The slide's labels, for an oracle (``model.needs_labels``); others never look at them.
        limit_to_tissue: Whether the mask is background outside the slide's tissue; the samples stay as they are. None
            is yes, but for models that were trained on images without mpp (``scale.limits_to_tissue``).
        batch: Most fields per forward pass.
        scheduler: Where tiles are read, see ``sample.gather.gather``.
        on_field: Called after each field with how many are done and how many there are.

    Returns:
        The labels of its samples; ``.reverse()`` puts them back in slide order.

    Raises:
        SlideError: The slide cannot be read, or is too coarse for the model.

    Source:
        Jin et al., ICLR 2022, section 2.1 and figure 2.
    """
    budgets = budgets_of(slide, model) if budgets is None else budgets
    is_limited = limits_to_tissue(limit_to_tissue, model, slide.tissue_path)
    done: list[SegmentedField] = []
    for segmented in segment_fields(slide, model, budgets, labels=labels, batch=batch, scheduler=scheduler):
        done.append(segmented)
        if on_field is not None:
            on_field(len(done), len(budgets))
    return SegmentedSlide(
        slide_id=slide.slide_id,
        size=slide.size,
        fields=tuple(each.samples for each in done),
        outside_label=outside_label(model.classes, slide),
        interpolation=model.config.sampling.interpolation,
        samples=sum(len(each.samples.labels) for each in done),
        tiles=sum(each.tiles for each in done),
        limit=tissue_limit_of(slide, model.classes.background) if is_limited else None,
        blanks=slide.blank_regions,
    )


def segment_fields(
    slide: Slide,
    model: Model,
    budgets: Sequence[FieldBudget],
    *,
    labels: Labels | None = None,
    batch: int = 1,
    scheduler: Any = "auto",
) -> Iterator[SegmentedField]:
    """Segment fields one batch after the other; the next batch is read while the network works on this one.

    Args:
        slide: An open slide.
        model: The model, in evaluation mode.
        budgets: The fields, from ``budgets_of``.
        labels: As for ``segment_slide``.
        batch: Most fields per forward pass; only neighbours with sampled images of one size share one.
        scheduler: Where tiles are read, see ``sample.gather.gather``.

    Yields:
        The labelled samples of each field, in order. Memory follows the batch, not the number of fields.
    """
    groups = _neighbours(budgets, batch, model)
    # One batch is read ahead of the one that the network works on; more would only take memory.
    read = ahead(
        lambda group: (_read_batch(slide, model, group, labels, scheduler), slide.blank_regions),
        groups,
        threads=1,
        max_waiting=2,
    )
    for group, (sampled, blanks) in zip(groups, read, strict=True):
        yield from _labelled(model, group, sampled, blanks)


@torch.no_grad()
def _read_batch(
    slide: Slide, model: Model, group: Sequence[FieldBudget], labels: Labels | None, scheduler: Any
) -> Sampled | Looks:
    """The first stages of a batch: look, decide, read."""
    fields = [budget.field for budget in group]
    size = group[0].size
    map_size = model.map_size(size)
    stain = model.config.networks.stain
    views = torch.stack(
        [view_of(slide, field, map_size, tissue=model.sees_tissue, stain=stain) for field in fields]
    )
    targets = None
    if model.needs_labels and labels is not None:
        fractions = [torch.from_numpy(labels.cell_fractions(field.region, map_size)) for field in fields]
        targets = model.target_of(torch.stack(fractions).to(model.device))
    if model.has_blocks:
        return look_at_fields(
            model,
            [slide] * len(fields),
            fields,
            views.to(model.device),
            size=size,
            fractions=targets,
            scheduler=scheduler,
        )
    return sample_fields(
        model,
        [slide] * len(fields),
        fields,
        views.to(model.device),
        targets=targets,
        size=size,
        read_size=model.read_size(size, fields[0].region.size),
        scheduler=scheduler,
    )


@torch.no_grad()
def _labelled(
    model: Model, group: Sequence[FieldBudget], sampled: Sampled | Looks, blanks: tuple[Region, ...]
) -> Iterator[SegmentedField]:
    """The last stages of a batch: score and label, but for samples in what could not be read."""
    probabilities = scores_of(model, sampled).softmax(dim=1)
    labels = probabilities.argmax(dim=1).to(torch.uint8).cpu()
    # (B, h, w, C) half floats: what linear reverse sampling and probability maps need, two bytes per class.
    soft = probabilities.permute(0, 2, 3, 1).half().cpu().numpy()
    areas = sampled.areas.cpu().numpy()
    for number, (budget, grid) in enumerate(zip(group, sampled.grid, strict=True)):
        field = budget.field
        points, label = points_of(field, grid), labels[number].numpy().ravel()
        for blank in blanks:
            label[_inside(blank, points)] = UNLABELLED
        samples = FieldSamples(
            kept=field.kept,
            points_px=points,
            labels=label,
            probabilities=soft[number].reshape(-1, soft.shape[-1]),
            lattice=budget.size,
            areas_px=(areas[number].ravel() * field.region.size.area).astype(np.float32),
        )
        yield SegmentedField(
            samples=samples, tiles=sampled.tiles[number], blanks=blanks, pixels=sampled.pixels[number]
        )


def scores_of(model: Model, sampled: Sampled | Looks) -> Tensor:
    """Scores of the classes, (B, classes, h, w), of sampled images or of looks."""
    if isinstance(sampled, Looks):
        return label_looks(model, sampled)
    return model.scores(model.segmentation_input(sampled.images, sampled.areas))


def _inside(region: Region, points_px: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (N, 2) points (x, y) lie in a region of the same frame; (N,)."""
    x, y = points_px.T
    found: NDArray[np.bool_] = (region.x <= x) & (x < region.right) & (region.y <= y) & (y < region.bottom)
    return found


def _neighbours(budgets: Sequence[FieldBudget], batch: int, model: Model) -> list[list[FieldBudget]]:
    """Runs of fields whose sampled images, and those that are read, have one size; up to ``batch``, in order."""

    def sizes(budget: FieldBudget) -> tuple[Size, Size | None]:
        return budget.size, model.read_size(budget.size, budget.field.region.size)

    groups: list[list[FieldBudget]] = []
    for budget in budgets:
        if groups and len(groups[-1]) < batch and sizes(groups[-1][0]) == sizes(budget):
            groups[-1].append(budget)
        else:
            groups.append([budget])
    return groups


def outside_label(classes: ClassTable, slide: Slide) -> int:
    """The label of everything that no field covers: the background, or class 0 where none is named.

    Of a slide of which only a region is segmented all else is unlabelled, so that nobody takes it for segmented.
    """
    return UNLABELLED if slide.is_cropped else classes.background or 0


def region_note(slide: Slide) -> dict[str, str]:
    """What a mask's OME-XML says of a slide of which only a region was segmented; empty for whole slides."""
    if not slide.is_cropped:
        return {}
    part = slide.region
    return {"region": f"{part.x} {part.y} {part.width} {part.height}", "outside the region": str(UNLABELLED)}


def sample_fields(
    model: Model,
    slides: Sequence[Slide],
    fields: Sequence[Field],
    views: Tensor,
    *,
    size: Size,
    read_size: Size | None = None,
    targets: Tensor | None = None,
    place: Callable[[Tensor], Tensor] | None = None,
    cut_gradient: bool = False,
    scheduler: Any = "auto",
) -> Sampled:
    """Look at low-res views, decide where to sample, and sample.

    Args:
        model: The model.
        slides: The slide of each field.
        fields: B fields.
        views: (B, 3 or 4, H, W) low-res views of ``view_of``.
        size: Size of the sampled images.
        read_size: ``model.read_size`` of the fields, the same for all: where a resizer makes the sampled images, that
            is the size of what is read for it, at the places of the same grid refined.
        targets: Of ``model.target_of``, for an oracle.
        place: Changes the sampling grids before they are used (augmentation by sampling). What it puts outside a
            region reads the nearest place inside; ``Sampled.grid`` keeps where it was put.
        cut_gradient: Whether the sampled images tell the density nothing in the backward pass.
        scheduler: Where tiles are read, see ``sample.gather.gather``.

    Returns:
        Maps, grids and sampled images.
    """
    found = grids_of(model, views, size, targets=targets)
    grid = found.grid.detach() if cut_gradient else found.grid
    # A resizer is given a finer image of the same places.
    finer = None if read_size is None else even_grids(read_size, like=views)
    read = grid if finer is None else finer.grid
    if place is not None:
        grid = place(grid)
        read = grid if finer is None else place(read)
    images, tiles = [], []
    started = time.monotonic()
    areas = found.areas if finer is None else finer.areas
    for slide, field, field_grid, field_areas in zip(slides, fields, read, areas, strict=True):
        inside = field_grid if place is None else field_grid.clamp(0, 1)
        plan = plan_field(model, slide, field, inside, field_areas)
        image = gather(slide, inside, plan=plan, scheduler=scheduler)
        images.append(normalised(slide, image, model.config.networks.stain))
        tiles.append(plan.tile_count)
    return Sampled(
        density=found.density,
        grid=grid,
        areas=found.areas,
        images=torch.stack(images),
        pixels=(model.entering_pixels(read_size or size, Size(views.shape[3], views.shape[2])),)
        * len(fields),
        tiles=tuple(tiles),
        read_seconds=time.monotonic() - started,
    )


def plan_field(model: Model, slide: Slide, field: Field, grid: Tensor, areas: Tensor) -> TilePlan:
    """The tiles that a field's samples read, at the levels that the model's configuration says.

    Args:
        model: The model.
        slide: The field's slide.
        field: The field.
        grid: (h, w, 2), unit frame of the field's region.
        areas: (h, w) areas of the warped cells as fractions of the region.

    Returns:
        The plan.

    Raises:
        SlideError: The model's ``coarsest_um`` is set, and the slide has no mpp.
    """
    settings = model.config.sampling
    coarsest_px = settings.coarsest_px
    if settings.coarsest_um is not None:
        coarsest_px = px_from_um(settings.coarsest_um, slide, model)
    return plan_tiles(
        slide,
        grid,
        region=field.region,
        areas=areas,
        level=settings.level,
        bias=settings.level_bias,
        coarsest_px=coarsest_px,
    )


def points_of(field: Field, grid: Tensor) -> NDArray[np.float64]:
    """Where the samples of a field lie on its slide.

    Args:
        field: The field.
        grid: (h, w, 2), unit frame of the field's region.

    Returns:
        (h * w, 2) float64 (x, y), level-0 px, row by row.
    """
    origin = torch.tensor([field.region.x, field.region.y], dtype=torch.float64)
    extent = torch.tensor([field.region.width, field.region.height], dtype=torch.float64)
    points: NDArray[np.float64] = (origin + grid.detach().cpu().double().reshape(-1, 2) * extent).numpy()
    return points
