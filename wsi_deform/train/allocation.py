"""Samples of the training fields where ``fields.allocation`` is ``density``: shared out as the map is now.

The slide-level map changes while it is learned. Every ``training.validate_every`` epochs, before the first step, the
deformation network looks at all training fields as it will at those of a slide that it segments, and each slide's
samples are shared out anew. In between the shares stay, and they are part of the checkpoint: a run that goes on in the
middle of an epoch has the weights of that moment, not those that the shares were made with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wsi_deform.config_sections import Config
from wsi_deform.cover import allocated_sizes
from wsi_deform.data.fields import LabelledField
from wsi_deform.errors import ConfigError
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.slide.slide import Slide
from wsi_deform.train.ranks import Ranks

logger = logging.getLogger(__name__)


def allocates(config: Config) -> bool:
    """Whether the deformation map decides how many samples a field gets.

    Raises:
        ConfigError: It shall, but no map is learned that could.
    """
    if config.fields.allocation == "equal":
        return False
    if config.sampling.density != "learned":
        raise ConfigError(
            f"fields.allocation {config.fields.allocation}, sampling.density {config.sampling.density}: samples are "
            "shared out among fields by a learned map. Needed sampling.density=learned, or fields.allocation=equal."
        )
    return True


def is_due(config: Config, *, epoch: int, step: int) -> bool:
    """Whether samples are shared out anew before a step.

    Args:
        config: The configuration.
        epoch: The epoch under way, from 0.
        step: Steps of it that are done.
    """
    return allocates(config) and step == 0 and epoch % config.training.validate_every == 0


def allocated_fields(
    items: Sequence[LabelledField], model: Model, ranks: Ranks | None = None
) -> list[LabelledField]:
    """The same fields with their slides' samples shared out by the model as it is now.

    Args:
        items: All training fields.
        model: Has a deformation network; left in evaluation mode.
        ranks: The processes, each of which looks at the fields of its share of the slides; None is this one alone.

    Returns:
        The fields in the same order, the same in all processes.

    Raises:
        SlideError: A slide cannot be read.
    """
    ranks = ranks or Ranks()
    of_slide: dict[Slide, list[int]] = {}
    for index, item in enumerate(items):
        of_slide.setdefault(item.slide, []).append(index)
    model.eval()
    own: dict[int, Size] = {}
    for slide, indices in ranks.share(list(of_slide.items())):
        sizes = allocated_sizes(slide, [items[index].field for index in indices], model)
        own |= dict(zip(indices, sizes, strict=True))
    found = {index: size for said in ranks.gather(own) for index, size in said.items()}
    shares = [found[index] for index in range(len(items))]
    areas = [size.area for size in shares]
    logger.info("samples of %d fields shared out: %d to %d a field", len(items), min(areas), max(areas))
    return _sized(items, shares, model)


def sizes_of(items: Sequence[LabelledField]) -> Tensor:
    """Sizes of the sampled images of fields for a checkpoint, (fields, 2) int64, (width, height) in px."""
    return torch.tensor([[item.size.width, item.size.height] for item in items], dtype=torch.int64)


def with_sizes(items: Sequence[LabelledField], sizes: Tensor, model: Model) -> list[LabelledField]:
    """The same fields with the sizes of a checkpoint.

    Args:
        items: All training fields.
        sizes: (fields, 2) of ``sizes_of``.
        model: Says how large their low-res views are.
    """
    return _sized(items, [Size(int(width), int(height)) for width, height in sizes.tolist()], model)


def _sized(items: Sequence[LabelledField], sizes: Sequence[Size], model: Model) -> list[LabelledField]:
    return [
        replace(item, size=size, map_size=model.map_size(size))
        for item, size in zip(items, sizes, strict=True)
    ]
