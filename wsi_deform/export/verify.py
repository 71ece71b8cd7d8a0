"""Whether an exported file computes what the model computes: nobody should have to trust an exporter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from wsi_deform.deform.blocks import STRIDE
from wsi_deform.errors import ModelError
from wsi_deform.export.blocks import block_reference
from wsi_deform.export.networks import input_channels
from wsi_deform.geometry import Size
from wsi_deform.model import Model

#: Greatest difference from the model's output, as a share of the output's greatest value (at least 1).
TOLERANCE = 1e-4
#: Batch and size of the inputs that are compared: other sizes than the one that networks are traced with.
COMPARED = ((1, Size(64, 24)), (2, Size(53, 31)))

Runner = Callable[[Tensor], Tensor]


def example_input(channels: int, size: Size, *, batch: int, seed: int = 0) -> Tensor:
    """A drawn input: (batch, channels, H, W), RGB in [0, 255], further channels in [0, 1]."""
    image = torch.rand(batch, channels, *size.shape, generator=torch.Generator().manual_seed(seed))
    image[:, :3] *= 255
    return image


def verify(model: Model, runners: dict[str, Runner], *, source: Path) -> list[dict[str, object]]:
    """Compare what exported networks compute with what the model computes, at several sizes.

    Args:
        model: The model on the CPU, in evaluation mode.
        runners: Part -> what runs its exported file.
        source: The exported folder, for the error.

    Returns:
        For each part and input: the input's shape and the greatest difference, relative to the greatest value.

    Raises:
        ModelError: An output has another shape, or differs by more than ``TOLERANCE``.
    """
    compared: list[dict[str, object]] = []
    for part, run in runners.items():
        channels = len(input_channels(model, part))
        reference = reference_of(model, part)
        for seed, (batch, size) in enumerate(COMPARED):
            image = example_input(channels, fitting(model, part, size), batch=batch, seed=seed)
            with torch.inference_mode():
                found, needed = run(image), reference(image)
            shape = tuple(image.shape)
            if found.shape != needed.shape:
                raise ModelError(
                    f"export {source}: {part} gives {tuple(found.shape)} for an input of {shape}, needed "
                    f"{tuple(needed.shape)} as the model does: the format fixed a size that should be free. "
                    "Try another --format."
                )
            difference = float((found - needed).abs().max() / _scale(part, needed))
            # Not "greater than": a difference of nan is no agreement.
            if not difference <= TOLERANCE:
                raise ModelError(
                    f"export {source}: {part} differs from the model by {difference:.2g} of its greatest value "
                    f"for an input of {shape}, needed at most {TOLERANCE:g}. Try another --format."
                )
            compared.append({"part": part, "input": list(shape), "difference": difference})
    return compared


def reference_of(model: Model, part: str) -> Callable[[Tensor], Tensor]:
    """What the model itself computes in place of a part."""
    if model.has_blocks:
        return block_reference(model, part)
    return model.density if part == "deformation" else model.scores


def _scale(part: str, needed: Tensor) -> float:
    # A deformation map is far below 1 everywhere; scores may be anything.
    greatest = float(needed.abs().max())
    return greatest if part == "deformation" else max(1.0, greatest)


def fitting(model: Model, part: str, size: Size) -> Size:
    """The size, or less where the network of that part takes no larger image."""
    step = side_step(part)
    if step > 1:
        # As different from each other as the sizes are.
        return Size(max(1, size.width // 8) * step, max(1, size.height // 8) * step)
    fixed = getattr(model.segmentation, "fixed_size", None)
    if part == "deformation" or fixed is None:
        return size
    return Size(min(size.width, fixed[1]), min(size.height, fixed[0]))


def side_step(part: str) -> int:
    """What the sides of a part's images are multiples of: whole strides of an encoder, or 1."""
    return STRIDE if part.startswith("look") else 1
