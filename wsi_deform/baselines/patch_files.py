"""From an open slide to its mask by patches: what ``slide_files`` does with fields, here with blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.baselines.patch_grid import (
    PatchGrid,
    level_of,
    patch_grid,
    patch_px_of,
    power_of_two,
)
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.baselines.patch_tiles import patch_tiles
from wsi_deform.baselines.patches import LabelledBlock, Patches
from wsi_deform.cover import normalised, tissue_of
from wsi_deform.geometry import Region
from wsi_deform.mask.blanks import BlankRegions
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.mask.region_tiles import unlabelled_outside
from wsi_deform.mask.tiff import write_mask
from wsi_deform.mask.tissue_limit import TissueCounts
from wsi_deform.memory import patches_per_batch
from wsi_deform.model import Model
from wsi_deform.segment import region_note
from wsi_deform.slide.slide import Slide
from wsi_deform.tissue_cover import counted_tissue, tissue_limit_of

TILE_PX = 512
# Maps and outlines of a pixel each would fill disks; nobody looks at more of them at once.
MAX_SHOWN_PX = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchWork:
    """What looking at patches took.

    Attributes:
        patches: Patches that the network saw.
        pixels: Pixels of the level in them, those that several hold counted as often.
        tiles: Tiles of the level that were read.
        shown: Level-0 px per pixel of maps and outlines, see ``shown_downsample``.
        text: How it was done, for people.
        remark: What they should know of it, else "".
        blank_pixels: Level-0 pixels that are unlabelled because they could not be read.
    """

    patches: int
    pixels: int
    tiles: int
    shown: int
    text: str
    remark: str
    blank_pixels: int = 0


def grid_of(
    slide: Slide, model: Model, settings: PatchSettings, *, everywhere: bool
) -> tuple[PatchGrid, str]:
    """The patches of a slide for a model.

    Args:
        slide: An open slide.
        model: The model.
        settings: How it is cut.
        everywhere: Whether the network sees all of it, or only patches that touch what the limit to tissue leaves;
            without a background class all of it in any case.

    Returns:
        The grid, and a remark or "".

    Raises:
        SlideError: The slide cannot be read, or the level that is wanted cannot be told.
        ShapeError: There is no such level.
    """
    level, remark = level_of(slide, model, settings)
    limit = None if everywhere else tissue_limit_of(slide, model.classes.background)
    # With the border and the holes that the limit leaves: then every pixel that is kept has all of its patches.
    cells = None if limit is None else limit.cells | tissue_of(slide).tissue
    grid = patch_grid(slide, settings, patch_px=patch_px_of(model, settings), level=level, cells=cells)
    return grid, remark


def scores_of(slide: Slide, model: Model) -> Callable[[Tensor], Tensor]:
    """What the model says of a slide's patches: from (B, 3, H, W) RGB in [0, 255] to (B, classes, H, W) scores."""
    return lambda images: model.scores(normalised(slide, images, model.config.networks.stain))


def write_patch_files(
    slide: Slide,
    model: Model,
    folder: MaskFolder,
    settings: PatchSettings,
    *,
    limit_to_tissue: bool = True,
    probabilities: bool = False,
    batch: int = 1,
    threads: int = 1,
    memory_gib: float | None = None,
    on_patch: Callable[[int, int], None] | None = None,
) -> tuple[PatchWork, TissueCounts]:
    """Write the mask of a slide, and its probability map, block by block; each file is whole or absent.

    Args:
        slide: An open slide.
        model: The model, in evaluation mode.
        folder: Where to; made if missing.
        settings: How the slide is cut.
        limit_to_tissue: Whether labels outside the tissue become background; without, the network sees the glass too.
        probabilities: Whether a probability map is written.
        batch: Most patches per forward pass.
        threads: Threads that encode; files do not depend on it.
        memory_gib: Most memory of this process, GiB; None is no limit.
        on_patch: Called with how many patches the network has seen and how many there are.

    Returns:
        What it took, and the pixels of each class.

    Raises:
        SlideError: The slide cannot be read.
        MaskError: A file cannot be written.
        ModelError: Not even one patch fits into the memory.
    """
    grid, remark = grid_of(slide, model, settings, everywhere=not limit_to_tissue)
    plan = patches_per_batch(
        model, grid.patch_px, block_px=grid.block_px, wanted=batch, memory_gib=memory_gib
    )
    grid = grid.in_blocks(plan.block_px)
    classes = model.classes
    # Of what no patch covers; outside a region nothing has a label.
    outside = classes.background or 0
    limit = tissue_limit_of(slide, classes.background) if limit_to_tissue else None
    tissue = counted_tissue(slide, limited=limit_to_tissue)
    counts = TissueCounts(tissue, slide.size, limit=limit, tile_px=TILE_PX)
    annotations = patch_annotations(slide, classes, grid.text, limited=limit is not None)
    annotations |= region_note(slide) | {"networks computed by": model.computed_by}
    shown = shown_downsample(slide, grid.level)
    patches = Patches(
        slide,
        scores_of(slide, model),
        grid,
        classes=classes.count,
        batch=plan.batch,
        device=model.device,
        outside_label=outside,
        mean_px=shown // grid.downsample if probabilities else None,
        shared_bytes=plan.shared_bytes,
        on_patch=on_patch,
    )
    blanks = BlankRegions(slide.size, TILE_PX, slide.blank_regions)
    with ExitStack() as opened:
        blocks = _noted(patches.labelled(), blanks)
        if probabilities:
            folder.probabilities(slide.slide_id).parent.mkdir(parents=True, exist_ok=True)
            written = opened.enter_context(
                ProbabilityMap(
                    folder.probabilities(slide.slide_id),
                    size=slide.size,
                    mpp=slide.mpp_xy,
                    class_names=classes.names,
                    colours=classes.colours,
                    downsample=shown,
                    annotations=annotations,
                    threads=threads,
                )
            )
            blocks = _with_map(blocks, written, grid, shown)
        folder.mask(slide.slide_id).parent.mkdir(parents=True, exist_ok=True)
        tiles = patch_tiles(blocks, grid, outside_label=outside, tile_px=TILE_PX)
        if slide.is_cropped:
            tiles = unlabelled_outside(tiles, slide.region, size=slide.size, tile_px=TILE_PX)
        write_mask(
            folder.mask(slide.slide_id),
            counts.limited(blanks.cut(tiles)),
            size=slide.size,
            mpp=slide.mpp_xy,
            tile_px=TILE_PX,
            threads=threads,
            annotations=annotations,
        )
    work = PatchWork(
        patches=grid.count,
        pixels=grid.count * grid.extents[0] * grid.extents[1],
        tiles=int(patches.tiles.sum()),
        shown=shown,
        text=grid.text,
        remark=remark,
        blank_pixels=blanks.pixels,
    )
    return work, counts


def shown_downsample(slide: Slide, level: int) -> int:
    """Level-0 px per pixel of maps and outlines of a slide whose patches are of a level: a power of two."""
    downsample = power_of_two(slide, level) or 1
    while slide.size.long > MAX_SHOWN_PX * downsample:
        downsample *= 2
    return downsample


def patch_annotations(slide: Slide, classes: ClassTable, text: str, *, limited: bool) -> dict[str, str]:
    """What a mask's OME-XML says of how it was made."""
    names = {f"class {index}": name for index, name in enumerate(classes.names)}
    return {
        "slide": slide.path.name,
        "method": text,
        "limited to tissue": "yes" if limited else "no",
        **names,
    }


def _noted(blocks: Iterator[LabelledBlock], blanks: BlankRegions) -> Iterator[LabelledBlock]:
    """Hand blocks on, and note what could not be read for them."""
    for block in blocks:
        blanks.add(block.blanks)
        yield block


def _with_map(
    blocks: Iterator[LabelledBlock], written: ProbabilityMap, grid: PatchGrid, shown: int
) -> Iterator[LabelledBlock]:
    """Hand blocks on, and put their probabilities into the map."""
    side = grid.block_px * grid.downsample // shown
    for block in blocks:
        if block.probabilities is not None:
            place = Region(block.block.column * side, block.block.row * side, side, side)
            place = place.intersection(Region.whole(written.size))
            found = block.probabilities[:, : place.height, : place.width]
            # A level that was rounded down lacks the last pixel; past a region nobody looked.
            missing = ((0, 0), (0, place.height - found.shape[1]), (0, place.width - found.shape[2]))
            mode: Literal["edge", "constant"] = "edge"
            if grid.region != Region.whole(grid.slide_size):
                mode = "constant"
            written.put(place, np.pad(found, missing, mode=mode))
        yield block
