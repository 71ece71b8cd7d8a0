"""Which fields cover a slide's tissue, and how many samples each of them gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from wsi_deform.block_choice import shared_blocks
from wsi_deform.config_blocks import Blocks
from wsi_deform.config_sections import Fields
from wsi_deform.deform.blocks import BlockLayout
from wsi_deform.deform.budget import allocate_samples
from wsi_deform.geometry import Region, Size, size_of_area
from wsi_deform.look.fields import SQUARE, Field, cover_exactly, cover_with_fields, cut_to_tissue
from wsi_deform.look.lowres import low_res_view
from wsi_deform.look.stain import Normalisation, StainChoice, normalisation, stain_of
from wsi_deform.look.tissue import TissueMask, tissue_mask, tissue_mask_from_file
from wsi_deform.model import MIN_SIDE_PX, Model
from wsi_deform.scale import has_tissue, px_from_um, refuse_too_coarse
from wsi_deform.slide.slide import Slide

# Fine enough to choose fields of 2 mm by; finer only costs memory.
TISSUE_PX = 768
# Inner edges of fields are multiples of 4 mask tiles, where fields are long enough: few tiles show several.
ALIGN_PX = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldBudget:
    """A field and how much of it is read.

    Attributes:
        field: Where it lies.
        size: Size of its sampled image, or labels, px.
        windows: Where it is read in blocks, how many of levels 1, 2, ... it gets; None is as many as a field alone.
        seen_px: Pixels that a network was shown to know that.
    """

    field: Field
    size: Size
    windows: tuple[int, ...] | None = None
    seen_px: int = 0


def budgets_of(slide: Slide, model: Model) -> tuple[FieldBudget, ...]:
    """The fields of a slide with their samples: all alike, or shared out by the slide-level deformation map.

    Of a region all is covered, its glass too: what nobody looked at would be unlabelled there, as it is outside.

    Raises:
        SlideError: See ``fields_of``.
    """
    fields = fields_of(slide, model, everywhere=slide.is_cropped)
    sizes = allocated_sizes(slide, fields, model)
    if model.has_blocks and model.block_settings.budget_of == "slide" and len(fields) > 1:
        return _competing(slide, fields, sizes, model)
    return tuple(FieldBudget(field=field, size=size) for field, size in zip(fields, sizes, strict=True))


def _competing(
    slide: Slide, fields: Sequence[Field], sizes: Sequence[Size], model: Model
) -> tuple[FieldBudget, ...]:
    """Fields whose blocks compete for the pixels of their slide."""
    layouts = [model.layout(size) for size in sizes]
    dense = sum(layout.dense_px for layout in layouts)
    stain, tissue = model.config.networks.stain, model.sees_tissue
    views = (
        view_of(slide, field, layout.root, tissue=tissue, stain=stain)
        for field, layout in zip(fields, layouts, strict=True)
    )
    budget_px = model.block_settings.share_of(dense) * dense
    windows, seen = shared_blocks(model, layouts, views, budget_px=budget_px)
    return tuple(
        FieldBudget(field=field, size=size, windows=of_field, seen_px=px)
        for field, size, of_field, px in zip(fields, sizes, windows, seen, strict=True)
    )


def windows_of(budget: FieldBudget, model: Model) -> tuple[int, ...]:
    """How many blocks of levels 1, 2, ... of a field are read, where ``model.has_blocks``."""
    if budget.windows is not None:
        return budget.windows
    layout, settings = model.layout(budget.size), model.block_settings
    return layout.counts(settings.share_of(layout.dense_px), settings.split)


def block_share(slide: Slide, layout: BlockLayout, model: Model) -> float:
    """Pixels read of a field / its pixels at the finest level, where fields do not compete: in training.

    Raises:
        SlideError: See ``fields_of``.
    """
    settings = model.block_settings
    if settings.px is None or settings.budget_of == "field":
        return settings.share_of(layout.dense_px)
    known, key = _DENSE.setdefault(slide, {}), (model.config.fields, settings)
    if key not in known:
        fields = fields_of(slide, model, everywhere=slide.is_cropped)
        known[key] = sum(model.layout(sampled_size_of(slide, field, model)).dense_px for field in fields)
    return settings.share_of(known[key])


_DENSE: WeakKeyDictionary[Slide, dict[tuple[Fields, Blocks], int]] = WeakKeyDictionary()


def allocated_sizes(slide: Slide, fields: Sequence[Field], model: Model) -> list[Size]:
    """Sizes of the sampled images of a slide's fields, px, as ``fields.allocation`` says.

    Args:
        slide: An open slide.
        fields: All of its fields.
        model: The model, in evaluation mode.

    Returns:
        One size per field.

    Raises:
        SlideError: A tile cannot be read.
    """
    sizes = [sampled_size_of(slide, field, model) for field in fields]
    settings = model.config.fields
    if settings.allocation == "density" and model.deformation is not None and len(fields) > 1:
        given = allocate_samples(
            field_masses(slide, fields, model),
            [size.area for size in sizes],
            max_ratio=settings.allocation_ratio,
        )
        sizes = [
            size_of_area(slide.squared(field.region.size), int(samples), min_px=MIN_SIDE_PX)
            for field, samples in zip(fields, given, strict=True)
        ]
    return sizes


@torch.no_grad()
def field_masses(slide: Slide, fields: Sequence[Field], model: Model) -> list[float]:
    """How much of the slide-level deformation map lies in the kept region of each field.

    The slide-level map is one softmax over the views of all fields: the deformation network's logits are comparable
    between fields, because it sees them at one scale.

    Args:
        slide: An open slide.
        fields: Its fields; one view is in memory at a time.
        model: The model; has a deformation network.

    Returns:
        One share per field; they sum to 1, less what lies in context margins.
    """
    if model.deformation is None:
        return [1 / len(fields)] * len(fields)
    logs = []
    for field in fields:
        size = model.map_size(sampled_size_of(slide, field, model))
        stain = model.config.networks.stain
        view = view_of(slide, field, size, tissue=model.sees_tissue, stain=stain)[None].to(model.device)
        logits = model.logits(view)[0, 0].double()
        part = field.kept_in_region
        scale_x, scale_y = size.width / field.region.width, size.height / field.region.height
        kept = logits[
            round(part.y * scale_y) : max(1, round(part.bottom * scale_y)),
            round(part.x * scale_x) : max(1, round(part.right * scale_x)),
        ]
        # A map cell of a large field stands for more of the slide than one of a small field.
        cell_px2 = field.region.size.area / size.area
        logs.append(float(torch.logsumexp(kept.flatten(), 0)) + float(torch.tensor(cell_px2).log()))
    return torch.softmax(torch.tensor(logs, dtype=torch.float64), 0).tolist()


def view_of(
    slide: Slide, field: Field, size: Size, *, tissue: bool = False, stain: StainChoice = "none"
) -> Tensor:
    """The low-res view of a field.

    Args:
        slide: An open slide.
        field: One of its fields.
        size: Size of the view, px.
        tissue: Whether the model sees the tissue mask.
        stain: See ``normalised``.

    Returns:
        (3, H, W) float32 RGB in [0, 255]; with ``tissue`` a fourth channel, the share of each pixel that is tissue,
        in [0, 1].
    """
    view = torch.from_numpy(low_res_view(slide, field.region, size)).permute(2, 0, 1)
    view = normalised(slide, view, stain)
    if tissue:
        share = torch.from_numpy(tissue_of(slide).fractions(field.region, size))
        view = torch.cat((view, share[None]))
    return view.contiguous()


def tissue_of(slide: Slide) -> TissueMask:
    """The tissue of a slide, found by colour or read from its own file once, and kept as long as the slide is.

    Raises:
        SlideError: A tile, or the file, cannot be read.
    """
    if slide not in _TISSUE:
        if slide.tissue_path is None:
            _TISSUE[slide] = tissue_mask(slide, max_side_px=TISSUE_PX)
        else:
            _TISSUE[slide] = tissue_mask_from_file(slide.tissue_path, slide, max_side_px=TISSUE_PX)
    return _TISSUE[slide]


_TISSUE: WeakKeyDictionary[Slide, TissueMask] = WeakKeyDictionary()


def normalised(slide: Slide, images: Tensor, stain: StainChoice) -> Tensor:
    """Images of a slide in the colours that the networks see.

    Args:
        slide: The slide that they were read from; its stains are measured once and kept as long as it is.
        images: (..., 3, H, W) RGB in [0, 255].
        stain: "none" leaves them, "macenko" brings the slide's stains to ``look.stain.REFERENCE``.

    Returns:
        (..., 3, H, W) as given, in [0, 255]; differentiable. A slide with too little stained tissue keeps its colours.

    Raises:
        SlideError: A tile cannot be read.
    """
    if stain == "none":
        return images
    if slide not in _NORMALISATION:
        found = stain_of(slide, tissue_of(slide))
        _NORMALISATION[slide] = None if found is None else normalisation(found)
    change = _NORMALISATION[slide]
    return images if change is None else change(images)


_NORMALISATION: WeakKeyDictionary[Slide, Normalisation | None] = WeakKeyDictionary()


def fields_of(slide: Slide, model: Model, *, everywhere: bool = False) -> tuple[Field, ...]:
    """The fields that cover a slide's tissue, or the tissue in its region.

    A slide up to ``fields.whole_below_mm2`` (``whole_below_mpx``) is one field. An image without glass
    (``scale.has_tissue``) is covered whole, and so is any where ``everywhere`` says so: then no field is left out or
    cut to the tissue.

    Raises:
        SlideError: A field has fewer pixels than samples for the slide's mpp is far from the model's
            (``scale.refuse_too_coarse``), or the model has lengths in um and the slide no mpp.
    """
    settings = model.config.fields
    if settings_um := model.config.lengths_in_um:
        px_from_um(max(settings_um.values()), slide, model)  # refused before anything is read
    side_px, part = field_side_px(slide, model), slide.region
    # A side in px is taken at its word: so many pixels along both axes.
    pixel = slide.pixel if settings.side_px is None else SQUARE
    tissue = None
    if side_px is not None and has_tissue(model, slide.tissue_path) and not everywhere:
        tissue = tissue_of(slide)
    if side_px is not None and settings.exact:
        fields = cover_exactly(
            part.size,
            tissue,
            field_px=side_px,
            margin_fraction=settings.margin,
            origin=(part.x, part.y),
            pixel=pixel,
        )
    else:
        fields = cover_with_fields(
            part.size,
            tissue,
            field_px=side_px,
            margin_fraction=settings.margin,
            # A side in px is taken at its word: 1,000 px in fields of 500 are two.
            align_px=ALIGN_PX
            if settings.side_px is None
            else min(ALIGN_PX, settings.side_px & -settings.side_px),
            origin=(part.x, part.y),
            pixel=pixel,
        )
    if settings.cut_to_tissue and not everywhere:
        fields = cut_to_tissue(fields, tissue_of(slide))
    for field in fields:
        refuse_too_coarse(slide, model, field.region.size, sampled_size_of(slide, field, model))
    return fields


def field_side_px(slide: Slide, model: Model) -> int | None:
    """Side of a slide's fields, level-0 px; None where the whole slide, or its region, is one.

    Of a slide whose pixels are not square, sides of the square of their area (``Slide.pixel``).

    Raises:
        SlideError: It is set in um, and the slide has no mpp.
    """
    settings = model.config.fields
    area_px2 = slide.region.size.area
    if settings.side_um is None:
        is_small = not settings.exact and area_px2 <= settings.whole_below_mpx * 1e6
        return None if is_small else settings.side_px
    side_px = px_from_um(settings.side_um, slide, model)
    px_per_mm = side_px / settings.side_um * 1000
    if not settings.exact and area_px2 / px_per_mm**2 <= settings.whole_below_mm2:
        return None
    return max(1, round(side_px))


def sampled_size_of(slide: Slide, field: Field, model: Model) -> Size:
    """Size of the sampled image of a field, px: by the budget, or, where ``fields.exact``, at the budget's scale.

    A field of an exact side has the budget's samples; one that the slide cuts off has as many as lie in it.
    """
    region, side_px = slide.squared(field.region.size), field_side_px(slide, model)
    if model.has_blocks:
        return model.labelled_size(region, root_px(slide, model))
    if not model.config.fields.exact or side_px is None:
        return model.sampled_size(region)
    scale = model.config.sampling.budget[1] / side_px
    return Size(max(MIN_SIDE_PX, round(region.width * scale)), max(MIN_SIDE_PX, round(region.height * scale)))


def root_px(slide: Slide, model: Model) -> float:
    """Level-0 px of a slide per px of the first look, where ``model.has_blocks``; of square pixels of their area.

    Raises:
        SlideError: It is set in um, and the slide has no mpp.
    """
    settings = model.block_settings
    finest_px = settings.finest_px
    if settings.finest_um is not None:
        finest_px = px_from_um(settings.finest_um, slide, model)
    assert finest_px is not None
    return finest_px * (1 << settings.levels - 1)


def spacing_px(slide: Slide, model: Model) -> float:
    """How far apart, on average, the samples of a model lie on a slide, level-0 px."""
    side_px = field_side_px(slide, model)
    if side_px is None:
        region = slide.region.size
    else:
        margin_px = 0 if model.config.fields.exact else math.ceil(model.config.fields.margin * side_px)
        region = Size(side_px + 2 * margin_px, side_px + 2 * margin_px)
    field = Field(Region.whole(region), Region.whole(region))
    return math.sqrt(region.area / sampled_size_of(slide, field, model).area)
