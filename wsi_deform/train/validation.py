"""Validation: mIoU at full resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from wsi_deform.annotation.raster import LabelMask
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.slides import confusion_of
from wsi_deform.model import Model
from wsi_deform.segment import segment_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.train.ranks import Ranks


def validate(
    model: Model, validation: Sequence[tuple[Slide, LabelMask]], *, ranks: Ranks | None = None
) -> dict[str, float]:
    """Measure mIoU at full resolution over the validation slides, with and without background.

    Args:
        model: The model; left in evaluation mode.
        validation: All validation slides; each process segments its share of them.
        ranks: The processes; None is this one alone.
    """
    ranks = ranks or Ranks()
    model.eval()
    counts = Confusion.empty(model.classes.count)
    for slide, labels in ranks.share(validation):
        # What the networks say, not what the limit to tissue makes of it: it is the same for every model.
        reverse = segment_slide(slide, model, labels=labels, limit_to_tissue=False).reverse()
        counts = counts + confusion_of(labels, reverse.region, size=slide.size, classes=model.classes.count)
    counts = Confusion(ranks.sum(torch.from_numpy(counts.counts)).numpy())
    return {
        "val_miou": counts.miou(),
        "val_miou_without_background": counts.miou(without=model.classes.background),
    }
