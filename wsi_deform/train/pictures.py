"""What both networks make of a few validation fields, for people: the stages of the method, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, zip_longest

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_deform.annotation.labels import Labels
from wsi_deform.config_blocks import scales_of
from wsi_deform.cover import fields_of, sampled_size_of, view_of
from wsi_deform.data.fields import LabelledField
from wsi_deform.deform.blocks import BlockLayout
from wsi_deform.deform.lattice import density_of_cells
from wsi_deform.drawing.names import one_line
from wsi_deform.drawing.panels import Stages, field_picture
from wsi_deform.geometry import Size
from wsi_deform.looks import label_looks, look_at_fields
from wsi_deform.model import Model
from wsi_deform.sampled_fields import points_of, sample_fields
from wsi_deform.slide.slide import Slide

MAX_CANDIDATES = 48
CHOICE_PX = 32
MAX_DRAWN_PX = 2048
RGB = 3


def chosen_fields(
    model: Model, validation: Sequence[tuple[Slide, Labels]], *, max_fields: int
) -> list[LabelledField]:
    """The validation fields that are drawn: always the same, and those with much to see.

    Args:
        model: Says which fields cover a slide.
        validation: Slides and their labels.
        max_fields: How many.

    Returns:
        One field of each of the first slides, then a second one of each, and so on. Of a slide's fields, those
        with several labelled classes besides the background come first.
    """
    ranked = [_ranked_fields(model, slide, labels) for slide, labels in validation[:max_fields]]
    return [item for item in chain.from_iterable(zip_longest(*ranked)) if item is not None][:max_fields]


def draw_fields(model: Model, items: Sequence[LabelledField]) -> dict[str, NDArray[np.uint8]]:
    """Draw fields as the model sees and labels them now.

    Args:
        model: The model; it is put into evaluation mode.
        items: The fields.

    Returns:
        Name of each field -> (H, W, 3) RGB, all of one width.
    """
    model.eval()
    pictures: dict[str, NDArray[np.uint8]] = {}
    for item in items:
        name = item.slide.slide_id
        if name in pictures:
            name = f"{name}-{item.field.region.x}-{item.field.region.y}"
        pictures[name] = field_picture(stages_of(model, item), model.classes)
    return pictures


@torch.no_grad()
def stages_of(model: Model, item: LabelledField) -> Stages:
    """The stages of the method on one field.

    Args:
        model: In evaluation mode.
        item: The field.
    """
    field = item.field
    stain = model.config.networks.stain
    view = view_of(item.slide, field, item.map_size, tissue=model.sees_tissue, stain=stain)
    targets = None
    if model.needs_labels:
        fractions = torch.from_numpy(item.labels.cell_fractions(field.region, item.map_size))
        targets = model.target_of(fractions[None].to(model.device))
    if model.has_blocks:
        return _stages_of_looks(model, item, view, targets)
    sampled = sample_fields(
        model,
        [item.slide],
        [field],
        view[None].to(model.device),
        targets=targets,
        size=item.size,
        read_size=model.read_size(item.size, field.region.size),
    )
    seen = model.segmentation_input(sampled.images, sampled.areas)
    predicted = model.scores(seen).argmax(dim=1)[0]
    if sampled.density is None:
        density = density_of_cells(sampled.grid[0], sampled.areas[0], item.map_size)
    else:
        density = sampled.density[0, 0].cpu().double().numpy()
    labels = item.labels.at_points(points_of(field, sampled.grid[0])).reshape(item.size.shape)
    shape = item.slide.squared(field.region.size)
    return Stages(
        title=_title(item),
        aspect=shape.width / shape.height,
        view=_rgb(view[:3]),
        points=sampled.grid[0].cpu().double().numpy(),
        density=density,
        image=_rgb(seen[0, :3]),
        labels=labels,
        predicted=predicted.to(torch.uint8).cpu().numpy(),
    )


def _stages_of_looks(
    model: Model, item: LabelledField, view: torch.Tensor, targets: torch.Tensor | None
) -> Stages:
    """The same of blocks: at which level each part was read, and what was seen so."""
    field, device = item.field, model.device
    looks = look_at_fields(
        model, [item.slide], [field], view[None].to(device), size=item.size, fractions=targets
    )
    predicted = label_looks(model, looks).argmax(dim=1)[0]
    labels = item.labels.at_points(points_of(field, looks.grid[0])).reshape(item.size.shape)
    shape = item.slide.squared(field.region.size)
    octaves = (looks.areas[0] * looks.layout.root.area).log2().cpu().double().numpy() / -2
    read: NDArray[np.uint8] = np.rint(octaves).astype(np.uint8)
    scales, unit = scales_of(model.block_settings.model_dump())
    return Stages(
        title=_title(item, looks.pixels[0]),
        aspect=shape.width / shape.height,
        view=_rgb(view[:3]),
        points=looks.grid[0].cpu().double().numpy(),
        density=None,
        image=_as_read(model, item, looks.layout, read),
        labels=labels,
        predicted=predicted.to(torch.uint8).cpu().numpy(),
        read=read,
        levels=tuple(f"{scale:g} {unit} per px" for scale in scales),
    )


def _as_read(
    model: Model, item: LabelledField, layout: BlockLayout, read: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB of a field, each place as the finest level shows it that was read there, margins left out."""
    finest = layout.levels - 1
    # No finer than it is drawn.
    while finest and layout.root.long << finest > MAX_DRAWN_PX:
        finest -= 1
    rows, columns = layout.root.height << finest, layout.root.width << finest
    place = np.ix_(
        *(np.arange(side) * known // side for side, known in zip((rows, columns), read.shape, strict=True))
    )
    level_there = np.minimum(read[place], finest)
    shown = np.zeros((rows, columns, RGB), np.uint8)
    for level in range(finest + 1):
        size = Size(layout.root.width << level, layout.root.height << level)
        view = view_of(item.slide, item.field, size, tissue=False, stain=model.config.networks.stain)
        times = 2 ** (finest - level)
        larger = _rgb(view).repeat(times, axis=0).repeat(times, axis=1)
        shown[level_there == level] = larger[level_there == level]
    return shown


def _ranked_fields(model: Model, slide: Slide, labels: Labels) -> list[LabelledField]:
    """Fields of a slide, those with much to see first."""
    fields = fields_of(slide, model)
    # Enough to find a good one; reading the labels of thousands would take longer than an epoch.
    fields = fields[:: -(-len(fields) // MAX_CANDIDATES)] if fields else fields
    if len(fields) > 1:
        side = Size(CHOICE_PX, CHOICE_PX)
        seen = {field: labels.cell_fractions(field.region, side).mean(axis=(1, 2)) for field in fields}
        fields = tuple(
            sorted(fields, key=lambda field: _interest(seen[field], model.classes.background), reverse=True)
        )
    sizes = [sampled_size_of(slide, field, model) for field in fields]
    return [
        LabelledField(slide=slide, labels=labels, field=field, size=size, map_size=model.map_size(size))
        for field, size in zip(fields, sizes, strict=True)
    ]


def _interest(shares: NDArray[np.float32], background: int | None) -> float:
    """Several classes are worth more than much of one; the background counts little."""
    worth = np.sqrt(shares)
    if background is not None:
        worth[background] *= 0.1
    return float(worth.sum())


def _title(item: LabelledField, read_px: int | None = None) -> str:
    region, size = item.field.region, item.size
    whole = region.size == item.slide.size
    place = "" if whole else f" at ({region.x}, {region.y})"
    found = f"{one_line(item.slide.slide_id)}:  {region.width} x {region.height} px{place}, "
    if read_px is not None:
        return f"{found}{read_px:,} px read, {size.width} x {size.height} labels"
    return (
        f"{found}{size.width} x {size.height} samples, 1 / {region.size.area / size.area:,.0f} of the pixels"
    )


def _rgb(image_3hw: torch.Tensor) -> NDArray[np.uint8]:
    array: NDArray[np.uint8] = image_3hw.clamp(0, 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return array
