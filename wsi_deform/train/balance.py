"""What a run does about rare classes: how much their pixels count, and how often their fields are drawn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config_sections import Config
from wsi_deform.data.balance import class_pixels, rare_field_weights
from wsi_deform.data.fields import LabelledField
from wsi_deform.files import write_json
from wsi_deform.train.losses import class_weights_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Balance:
    """Weights of classes and fields; made anew from the same labels whenever a run starts or goes on.

    Attributes:
        pixels: (fields, classes) labelled level-0 px; None where nothing asks for them.
        class_weights: (C,) for the segmentation loss, or None.
        field_weights: How likely each field is drawn, or None for every field once an epoch.
    """

    pixels: NDArray[np.float64] | None = None
    class_weights: Tensor | None = None
    field_weights: list[float] | None = None

    def write(self, path: Path, classes: ClassTable) -> None:
        """Write per class what was found and decided; nothing where nothing was asked for.

        Args:
            path: A JSON file: for each class its labelled px, its share of them, its weight in the loss (1 where all
                are alike) and its share in the fields as they are drawn.
            classes: The class table.
        """
        if self.pixels is None:
            return
        totals = self.pixels.sum(axis=0)
        drawn = totals if self.field_weights is None else np.array(self.field_weights) @ self.pixels
        weights = [1.0] * len(totals) if self.class_weights is None else self.class_weights.tolist()
        found: dict[str, Any] = {
            name: {
                "labelled_px": round(float(totals[index])),
                "share": float(totals[index] / totals.sum()),
                "weight": float(weights[index]),
                "share_drawn": float(drawn[index] / drawn.sum()),
            }
            for index, name in enumerate(classes.names)
        }
        write_json(path, found)
        logger.info("class weights: %s", {name: round(facts["weight"], 3) for name, facts in found.items()})


def balance_of(config: Config, items: Sequence[LabelledField]) -> Balance:
    """Weigh classes and fields as the configuration asks; reads all labels if it does.

    Args:
        config: ``loss.class_weights`` and ``training.rare_classes`` decide.
        items: All training fields.

    Returns:
        The weights, a function of labels and configuration alone.

    Raises:
        ShapeError: Nothing is labelled.
        AnnotationError: A mask cannot be read.
    """
    kind, power = config.loss.class_weights, config.training.rare_classes
    if kind == "none" and power == 0:
        return Balance()
    pixels = class_pixels(items)
    return Balance(
        pixels=pixels,
        class_weights=None if kind == "none" else class_weights_of(kind, pixels.sum(axis=0).tolist()),
        field_weights=None if power == 0 else rare_field_weights(pixels, power).tolist(),
    )
