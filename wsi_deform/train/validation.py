"""Validation: mIoU at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.raster import LabelMask
from wsi_deform.evaluate.means import mean_classes, measured_miou
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.slides import confusion_of
from wsi_deform.model import Model
from wsi_deform.segment import segment_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.train.ranks import Ranks


def validate(
    model: Model, validation: Sequence[tuple[Slide, LabelMask]], *, ranks: Ranks | None = None
) -> dict[str, Any]:
    """Measure mIoU at full resolution over the validation slides, with and without background.

    Args:
        model: The model; left in evaluation mode.
        validation: All validation slides; each process segments its share of them.
        ranks: The processes; None is this one alone.

    Returns:
        ``miou_classes``: which classes the means are over, see ``MeanClasses.to_data``. Where the labels hold two
        classes or more also ``val_miou``, ``val_miou_without_background``, and of how many classes of the table
        ``val_miou`` is the mean (``val_classes``) and how many are left out (``val_classes_absent``).
    """
    ranks = ranks or Ranks()
    model.eval()
    counts = Confusion.empty(model.classes.count)
    for slide, labels in ranks.share(validation):
        # What the networks say, not what the limit to tissue makes of it: it is the same for every model.
        reverse = segment_slide(slide, model, labels=labels, limit_to_tissue=False).reverse()
        counts = counts + confusion_of(labels, reverse.region, size=slide.size, classes=model.classes.count)
    counts = Confusion(ranks.sum(torch.from_numpy(counts.counts)).numpy())
    return validation_row(counts, model.classes)


def validation_row(counts: Confusion, classes: ClassTable) -> dict[str, Any]:
    """What ``validate`` returns, from the counts of all validation slides."""
    over = mean_classes(counts, classes.names)
    found: dict[str, Any] = {"miou_classes": over.to_data()}
    miou = measured_miou(counts)
    if miou is not None:
        found |= {
            "val_miou": miou,
            "val_miou_without_background": measured_miou(counts, without=classes.background),
            "val_classes": len(over.over),
            "val_classes_absent": len(over.absent),
        }
    return found
