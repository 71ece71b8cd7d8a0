"""How often each class is labelled in each field, and how often fields are drawn for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_deform.data.fields import LabelledField
from wsi_deform.errors import ShapeError


def class_pixels(items: Sequence[LabelledField]) -> NDArray[np.float64]:
    """Estimate the labelled area of each class in each field, from the class fractions of its map's cells.

    Args:
        items: All training fields. Only their labels are read.

    Returns:
        (fields, classes) level-0 px. The same for the same fields: nothing is drawn at random.

    Raises:
        AnnotationError: A mask cannot be read.
    """
    found = []
    for item in items:
        fractions = item.labels.cell_fractions(item.field.region, item.map_size)
        cell_px = item.field.region.size.area / item.map_size.area
        found.append(fractions.sum(axis=(1, 2), dtype=np.float64) * cell_px)
    return np.stack(found)


def rare_field_weights(pixels: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """How likely each field is drawn when fields with rare classes shall come more often.

    Args:
        pixels: (fields, classes) of ``class_pixels``.
        power: r, above 0 to 1. At 1 a draw is: a class at random, then a field by how much of that class's area it
            holds. Towards 0 all fields with labels become equally likely.

    Returns:
        (fields,) probabilities, ``(sum over classes c of pixels_fc / pixels_c) ** r``, scaled to sum to 1, where
        ``pixels_c`` is the sum over all fields; classes that no field has are left out. A field without labels is
        never drawn.

    Raises:
        ShapeError: Not (fields, classes), a power that is not above 0, or nothing is labelled.
    """
    if pixels.ndim != 2 or not power > 0 or not pixels.sum() > 0:
        raise ShapeError(
            f"labelled pixels of shape {pixels.shape}, sum {pixels.sum():g}, power {power}: needed (fields, classes) "
            "with something labelled, and a power above 0. Check the masks of the training slides."
        )
    totals = pixels.sum(axis=0)
    seen = totals > 0
    share = (pixels[:, seen] / totals[seen]).sum(axis=1)
    weights = np.where(share > 0, share**power, 0.0)
    return np.asarray(weights / weights.sum())
