"""The fields that a model is trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import fields_of, sampled_size_of
from wsi_deform.data.fields import FieldViews, LabelledField
from wsi_deform.errors import TrainingError
from wsi_deform.model import Model
from wsi_deform.scale import samples_remark
from wsi_deform.slide.slide import Slide

logger = logging.getLogger(__name__)


def views_of(items: Sequence[LabelledField], model: Model) -> FieldViews:
    """What a model reads of training fields before it decides where to look."""
    return FieldViews(items, tissue=model.sees_tissue, stain=model.config.networks.stain)


def training_fields(training: Sequence[tuple[Slide, Labels]], model: Model) -> list[LabelledField]:
    """All fields of the training slides, in the order of the manifest, with equal budgets."""
    items = []
    for slide, labels in training:
        for field in fields_of(slide, model):
            size = sampled_size_of(slide, field, model)
            items.append(
                LabelledField(
                    slide=slide,
                    labels=labels,
                    field=field,
                    size=size,
                    map_size=model.map_size(size),
                    read_size=model.read_size(size, field.region.size),
                )
            )
    if not items:
        raise TrainingError(
            "no tissue found on any training slide. Needed at least one field. Look at the slides."
        )
    if remark := samples_remark([(item.slide, item.field.region.size, item.size) for item in items], model):
        logger.warning("%s", remark)
    return items
