"""The method, one call per stage: from a slide to its label map.

Training and inference run the same stages: ``sample_fields`` is both the forward pass of a training step
and the first half of ``segment_field``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.deform.grid import cell_areas, sampling_grid
from wsi_deform.deform.reverse import FieldSamples, ReverseSampler
from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import plan_tiles
from wsi_deform.slide.fields import Field, cover_with_fields
from wsi_deform.slide.lowres import low_res_view
from wsi_deform.slide.slide import Slide
from wsi_deform.slide.tissue import tissue_mask

MOST_MPP_RATIO = 4.0
UM2_PER_MM2 = 1e6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sampled:
    """What sampling a batch of fields gives; all fields have sampled images of one size.

    Attributes:
        density: (B, 1, H, W) deformation maps.
        grid: (B, h, w, 2) sampling grids, (x, y), unit frame of each field's region.
        areas: (B, h, w) areas of the warped cells as fractions of the region, without gradient.
        images: (B, 3, h, w) RGB in [0, 255].
        tiles: Number of tiles read.
    """

    density: Tensor
    grid: Tensor
    areas: Tensor
    images: Tensor
    tiles: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentedSlide:
    """Labels of the samples of a slide, field by field.

    Attributes:
        slide_id: The slide.
        size: Its level-0 size, px.
        fields: The samples of each field and the part of the slide whose mask they decide.
        outside_label: Class of everything that no field covers.
        samples: Number of samples.
        tiles: Number of tiles read.
    """

    slide_id: str
    size: Size
    fields: tuple[FieldSamples, ...]
    outside_label: int
    samples: int
    tiles: int

    def reverse(self) -> ReverseSampler:
        """The reverse sampler of these samples: any region of the mask at any level."""
        return ReverseSampler(self.fields, size=self.size, outside_label=self.outside_label)


def segment_slide(
    slide: Slide,
    model: Model,
    *,
    scheduler: Any = "auto",
    on_field: Callable[[int, int], None] | None = None,
) -> SegmentedSlide:
    """Segment a slide.

    Args:
        slide: An open slide.
        model: What ``load_model`` returned.
        scheduler: Where tiles are read, see ``sample.gather.gather``.
        on_field: Called after each field with how many are done and how many there are.

    Returns:
        The labels of its samples; ``.reverse()`` puts them back in slide order.

    Raises:
        SlideError: The slide cannot be read, or is too coarse for the model.

    Source:
        Jin et al., ICLR 2022, section 2.1 and figure 2.
    """
    outside = model.classes.background or 0
    done: list[FieldSamples] = []
    tiles = 0
    fields = fields_of(slide, model)
    for field in fields:
        samples, read = segment_field(slide, field, model, scheduler=scheduler)
        done.append(samples)
        tiles += read
        if on_field is not None:
            on_field(len(done), len(fields))
    return SegmentedSlide(
        slide_id=slide.slide_id,
        size=slide.size,
        fields=tuple(done),
        outside_label=outside,
        samples=sum(len(each.labels) for each in done),
        tiles=tiles,
    )


@torch.no_grad()
def segment_field(
    slide: Slide, field: Field, model: Model, *, scheduler: Any = "auto"
) -> tuple[FieldSamples, int]:
    """Segment one field: the seven stages of the method.

    Args:
        slide: An open slide.
        field: One of ``fields_of(slide, model)``.
        model: The model, in evaluation mode.
        scheduler: Where tiles are read, see ``sample.gather.gather``.

    Returns:
        The field's samples with their labels, and the number of tiles read.
    """
    size = model.sampled_size(field.region.size)
    view = view_of(slide, field, model.map_size(size))[None].to(model.device)
    sampled = sample_fields(model, [slide], [field], view, size=size, scheduler=scheduler)
    scores = model.scores(sampled.images)
    labels = scores.argmax(dim=1).to(torch.uint8)
    samples = FieldSamples(
        kept=field.kept,
        points_px=points_of(field, sampled.grid[0]),
        labels=labels[0].cpu().numpy().ravel(),
    )
    return samples, sampled.tiles


def view_of(slide: Slide, field: Field, size: Size) -> Tensor:
    """The low-res view of a field, (3, H, W) RGB in [0, 255], float32."""
    return torch.from_numpy(low_res_view(slide, field.region, size)).permute(2, 0, 1).contiguous()


def sample_fields(
    model: Model,
    slides: Sequence[Slide],
    fields: Sequence[Field],
    views: Tensor,
    *,
    size: Size,
    place: Callable[[Tensor], Tensor] | None = None,
    scheduler: Any = "auto",
) -> Sampled:
    """Look at low-res views, decide where to sample, and sample.

    Args:
        model: The model.
        slides: The slide of each field.
        fields: B fields.
        views: (B, 3, H, W) low-res views, RGB in [0, 255].
        size: Size of the sampled images.
        place: Changes the sampling grids before they are used (augmentation by sampling).
        scheduler: Where tiles are read, see ``sample.gather.gather``.

    Returns:
        Maps, grids and sampled images.
    """
    settings = model.config.sampling
    density = model.density(views)
    sigma_px = settings.sigma * min(density.shape[-2:])

    def grid_of(lattice: Size, placement: Any) -> Tensor:
        return sampling_grid(
            density,
            sigma_px=sigma_px,
            radius_px=settings.radius_sigmas * sigma_px,
            size=lattice,
            placement=placement,
            warp_steps=settings.warp_steps,
            border=settings.border,
        )

    grid = grid_of(size, settings.placement)
    with torch.no_grad():
        areas = cell_areas(grid_of(Size(size.width + 1, size.height + 1), "corner"))
    if place is not None:
        grid = place(grid)
    images = []
    tiles = 0
    for slide, field, field_grid, field_areas in zip(slides, fields, grid, areas, strict=True):
        plan = plan_tiles(slide, field_grid, region=field.region, areas=field_areas, level=settings.level)
        images.append(gather(slide, field_grid, plan=plan, scheduler=scheduler))
        tiles += plan.tile_count
    return Sampled(density=density, grid=grid, areas=areas, images=torch.stack(images), tiles=tiles)


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


def fields_of(slide: Slide, model: Model) -> tuple[Field, ...]:
    """The fields that cover a slide's tissue.

    A slide up to ``fields.whole_below_mm2`` is one field; sizes in um use the model's mpp where the slide has none.

    Raises:
        SlideError: The slide's mpp differs from the model's by more than a factor of 4, and a field has fewer pixels
            than samples: it was scanned too coarsely, or its mpp is wrong.
    """
    settings = model.config.fields
    mpp = slide.mpp_or_none or model.mpp
    area_mm2 = slide.size.area * mpp**2 / UM2_PER_MM2
    if settings.side_um is None or area_mm2 <= settings.whole_below_mm2:
        fields = cover_with_fields(slide.size, None, field_px=None)
    else:
        fields = cover_with_fields(
            slide.size,
            tissue_mask(slide),
            field_px=max(1, round(settings.side_um / mpp)),
            margin_fraction=settings.margin,
        )
    for field in fields:
        pixels, samples = field.region.size.area, model.sampled_size(field.region.size).area
        if mpp_remark(slide, model) and pixels < samples:
            raise SlideError(
                f"slide {slide.path}: {mpp:g} um per pixel leave {pixels} pixels to a field of {samples} samples. "
                f"Needed an mpp nearer to the {model.mpp:g} of the model's training slides. "
                "If the file is wrong, set the mpp column in the slide's manifest row."
            )
    return fields


def mpp_remark(slide: Slide, model: Model) -> str:
    """What people should know of a slide's mpp before they trust its mask; empty when all is well."""
    mpp = slide.mpp_or_none
    if mpp is None:
        return "no mpp in file or manifest: the model's was taken, and no area is given; set mpp if that is wrong"
    if 1 / MOST_MPP_RATIO <= mpp / model.mpp <= MOST_MPP_RATIO:
        return ""
    return (
        f"{mpp:g} um per pixel, but the model was trained at {model.mpp:g}: do not trust the mask; "
        "if the file is wrong, set the mpp column"
    )
