"""Validation: mIoU at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.labels import Labels
from wsi_deform.baselines.patch_files import grid_of, scores_of
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.baselines.patches import Patches, slide_labels
from wsi_deform.evaluate.means import labelled_miou, mean_classes
from wsi_deform.evaluate.measures import Confusion, count_pairs, no_pairs
from wsi_deform.evaluate.slides import confusion_of
from wsi_deform.model import Model
from wsi_deform.segment import segment_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.train.ranks import Ranks


def validate(
    model: Model, validation: Sequence[tuple[Slide, Labels]], *, ranks: Ranks | None = None
) -> dict[str, Any]:
    """Measure mIoU at full resolution over the validation slides, with and without background.

    A model of exact fields is measured as patches: blended where they overlap, on tissue alone.

    Args:
        model: The model; left in evaluation mode.
        validation: All validation slides; each process segments its share of them.
        ranks: The processes; None is this one alone.

    Returns:
        ``miou_classes``: which classes the means are over, see ``MeanClasses.to_data``; ``val_confusion``: pixels by
        true and predicted class, a list of rows. Where the labels hold two classes or more also ``val_miou``,
        ``val_miou_without_background``, and of how many classes of the table ``val_miou`` is the mean
        (``val_classes``) and how many are left out (``val_classes_absent``).

    Convention:
        Means are over the classes that the validation labels have. A class that they lack is in none, even where it is
        predicted: it would count as 0 in some epochs and not at all in others, and the best epoch would be one that
        happens not to predict it. Its predictions are errors of the true classes.
    """
    ranks = ranks or Ranks()
    model.eval()
    counts = Confusion.empty(model.classes.count)
    for slide, labels in ranks.share(validation):
        if model.config.fields.exact:
            counts = counts + _of_patches(model, slide, labels)
            continue
        # What the networks say, not what the limit to tissue makes of it: it is the same for every model.
        reverse = segment_slide(slide, model, labels=labels, limit_to_tissue=False).reverse()
        counts = counts + confusion_of(labels, reverse.region, size=slide.size, classes=model.classes.count)
    counts = Confusion(ranks.sum(torch.from_numpy(counts.counts)).numpy())
    return validation_row(counts, model.classes)


def _of_patches(model: Model, slide: Slide, labels: Labels) -> Confusion:
    """Counts of a slide that is segmented as ``segment --method patches`` does, a block in memory at a time.

    Its samples, one a pixel, would not fit into memory.
    """
    grid, _ = grid_of(slide, model, PatchSettings(), everywhere=False)
    patches = Patches(
        slide,
        scores_of(slide, model),
        grid,
        classes=model.classes.count,
        batch=model.config.training.batch,
        device=model.device,
        outside_label=model.classes.background or 0,
    )
    pairs = no_pairs()
    for region, predicted in slide_labels(patches):
        count_pairs(labels.read_region(region), predicted, into=pairs)
    pairs[:, UNLABELLED] = 0
    return Confusion.from_pairs(pairs, model.classes.count)


def validation_row(counts: Confusion, classes: ClassTable) -> dict[str, Any]:
    """What ``validate`` returns, from the counts of all validation slides."""
    over = mean_classes(counts, classes.names, labelled_alone=True)
    found: dict[str, Any] = {"miou_classes": over.to_data(), "val_confusion": counts.counts.tolist()}
    miou = labelled_miou(counts)
    if miou is not None:
        found |= {
            "val_miou": miou,
            "val_miou_without_background": labelled_miou(counts, without=classes.background),
            "val_classes": len(over.over),
            "val_classes_absent": len(over.absent),
        }
    return found
