"""How many fields fit into one forward pass when memory is limited."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import psutil

from wsi_deform.cover import FieldBudget, windows_of
from wsi_deform.errors import ModelError
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.networks.memory import forward_bytes
from wsi_deform.slide.cache import PICTURES, TILE_CACHE
from wsi_deform.slide.tiff.strips import STRIP_CACHE, strips_to_come_bytes

GIB = 1 << 30
# Plan, corners and weights of a sample, of the batch at work and of the one that is read ahead.
SAMPLING_BYTES_PER_SAMPLE = 2 * 600
# Mask tiles on their way to the file, thumbnail and overlay.
MASK_BYTES = 96 << 20
CACHE_SHARE = 0.1
# A huge strip of a TIFF can only be decoded whole: it needs a large share of what the process does not hold already.
STRIP_SHARE = 0.4
# Scores of patches that wait for a neighbouring block.
SHARED_BYTES = 256 << 20
# A block at work and one that is read ahead: pixels, the same as floats, weights, and for each class scores, what is
# cut out of them and what is divided.
BLOCK_BYTES_PER_PX, BLOCK_BYTES_PER_CLASS = 2 * 3 + 12 + 8, 12
SMALLEST_BLOCK_PX = 512


def limit_caches(memory_gib: float | None) -> None:
    """Lower the caches of decoded pixels to their shares of a memory limit.

    Call it once the model is loaded and before the first pixel is read.

    Args:
        memory_gib: Most memory of this process, GiB, with all that it holds already; None changes nothing.

    Convention:
        A slide with a strip that decodes to more than the share is refused when the strip is read, not before.
    """
    if memory_gib is None:
        return
    limit = int(memory_gib * GIB)
    held = (
        psutil.Process().memory_info().rss
        - TILE_CACHE.held_bytes
        - STRIP_CACHE.held_bytes
        - PICTURES.held_bytes
    )
    tiles = int(CACHE_SHARE * limit)
    strips = int(STRIP_SHARE * max(0, limit - held))
    TILE_CACHE.set_limit(min(TILE_CACHE.limit_bytes, tiles))
    PICTURES.set_limit(min(PICTURES.limit_bytes, tiles))
    STRIP_CACHE.set_limit(min(STRIP_CACHE.limit_bytes, strips))


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchPlan:
    """How patches fit into memory.

    Attributes:
        batch: Most patches per forward pass.
        block_px: Side of a block, px of the level.
        shared_bytes: Most memory of scores that wait for a neighbouring block.
    """

    batch: int
    block_px: int
    shared_bytes: int


def patches_per_batch(
    model: Model, patch_px: int, *, block_px: int, wanted: int, memory_gib: float | None
) -> PatchPlan:
    """Lower blocks and batches until patches fit into memory.

    Args:
        model: The model; its network is run once on a small image to see what it needs.
        patch_px: Side of a patch, px.
        block_px: Side of a block if memory allows, px.
        wanted: Patches per forward pass if memory allows.
        memory_gib: Most memory of this process, GiB, with all that it holds already; None is no limit.

    Returns:
        What fits.

    Raises:
        ModelError: Not even one patch fits; the message says how much would do.
    """
    if memory_gib is None:
        return PatchPlan(batch=wanted, block_px=block_px, shared_bytes=SHARED_BYTES)
    limit = memory_gib * GIB
    limit_caches(memory_gib)
    shared = min(SHARED_BYTES, int(CACHE_SHARE * limit))
    patch = 4.0 * patch_px**2 * (3 + 2 * model.classes.count)
    if model.device.type == "cpu":
        patch += forward_bytes(
            model.segmentation, Size(patch_px, patch_px), channels=4 if model.sees_areas else 3
        )
    caches = TILE_CACHE.limit_bytes - TILE_CACHE.held_bytes + strips_to_come_bytes()
    held = psutil.Process().memory_info().rss + caches + MASK_BYTES + shared
    while True:
        block = (block_px + 2 * patch_px) ** 2 * (
            BLOCK_BYTES_PER_PX + BLOCK_BYTES_PER_CLASS * model.classes.count
        )
        fits = int((limit - held - block) / patch)
        if fits >= 1:
            return PatchPlan(batch=min(wanted, fits), block_px=block_px, shared_bytes=shared)
        if block_px <= SMALLEST_BLOCK_PX:
            raise ModelError(
                f"memory limit {memory_gib:g} GiB: a patch of {patch_px} px needs "
                f"{(held + block + patch) / GIB:.2f} GiB with the network "
                f"{model.config.networks.segmentation.name}. Raise --memory-gib, or lower --patch-px."
            )
        block_px //= 2


def fields_per_batch(
    model: Model, budgets: Sequence[FieldBudget], *, wanted: int, memory_gib: float | None
) -> int:
    """Lower the number of fields per forward pass until a slide fits into memory, and the caches with it.

    Args:
        model: The model; its network is run once on a small image to see what it needs.
        budgets: The fields of a slide.
        wanted: Fields per forward pass if memory allows, 1 or more.
        memory_gib: Most memory of this process, GiB, with all that it holds already; None is no limit.

    Returns:
        1 to ``wanted``.

    Raises:
        ModelError: Not even one field fits; the message says how much would do.
    """
    if memory_gib is None or not budgets:
        return wanted
    limit = memory_gib * GIB
    limit_caches(memory_gib)
    largest = max((budget.size for budget in budgets), key=lambda size: size.area)
    field = SAMPLING_BYTES_PER_SAMPLE * largest.area
    if model.resizer is not None:
        read = max(
            (model.read_size(each.size, each.field.region.size) or each.size for each in budgets),
            key=lambda size: size.area,
        )
        field += SAMPLING_BYTES_PER_SAMPLE * read.area
        if model.device.type == "cpu":
            # As much as if all of it were done at the size of what is read: its residual blocks are at a smaller one.
            field += forward_bytes(model.resizer.features, read)
    if model.has_blocks:
        field += looks_bytes(model, budgets)
    elif model.device.type == "cpu":
        field += forward_bytes(model.segmentation, largest, channels=4 if model.sees_areas else 3)
    caches = TILE_CACHE.limit_bytes - TILE_CACHE.held_bytes + strips_to_come_bytes()
    held = psutil.Process().memory_info().rss + caches + MASK_BYTES
    fits = int((limit - held) / field)
    if fits < 1:
        raise ModelError(
            f"memory limit {memory_gib:g} GiB: a field of {largest} samples needs {(held + field) / GIB:.2f} GiB with "
            f"the network {model.config.networks.segmentation.name}. Raise --memory-gib, or take a model with a "
            "smaller budget."
        )
    return min(wanted, fits)


def looks_bytes(model: Model, budgets: Sequence[FieldBudget]) -> int:
    """Memory that looking at a field and labelling it needs at most, where ``model.has_blocks``.

    Args:
        model: The model; its networks are run once on small images where they run on the CPU.
        budgets: The fields of a slide, of which the largest counts, with the most blocks that any of them reads.
    """
    networks, largest_size = model.blocks, max((each.size for each in budgets), key=lambda size: size.area)
    layout, of_fields = model.layout(largest_size), [windows_of(each, model) for each in budgets]
    windows = [max(each[level] for each in of_fields) for level in range(layout.levels - 1)]
    width = networks.width + 1
    rasters = sum(4 * width * layout.cells(level).area for level in range(layout.levels))
    pixels = 4 * 3 * layout.read_pixels(windows)
    if model.device.type != "cpu":
        return 2 * (rasters + pixels)
    finest = layout.cells(layout.levels - 1)
    largest = max([layout.padded(0).area, *(count * layout.read_px**2 for count in windows)])
    encoder = forward_bytes(networks.backbone, Size(layout.window_px, layout.window_px))
    return (
        2 * (rasters + pixels)
        + round(encoder * largest / layout.window_px**2)
        + forward_bytes(networks.head, finest, channels=networks.width)
        + 4 * networks.width * (layout.levels + 1) * finest.area
    )


def peak_memory_bytes() -> int:
    """Most memory that this process has held at once since it began, bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Kilobytes, but bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
