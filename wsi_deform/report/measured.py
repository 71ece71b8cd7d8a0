"""From an evaluation to the measures that a table shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from wsi_deform.errors import MaskError
from wsi_deform.evaluate.masks import Evaluation
from wsi_deform.evaluate.tables import evaluation_data
from wsi_deform.report.files import read_json

MIOU, WITHOUT, CEILING, ACCURACY = "mIoU", "mIoU without background", "mIoU(Y', Y)", "pixel accuracy"


class _Measured(BaseModel):
    """Measures of one comparison, as ``evaluation.json`` has them; None where nothing was there to measure."""

    miou: float | None
    miou_without_background: float | None = None
    iou: dict[str, float | None]
    accuracy: float | None


class _Pooled(BaseModel):
    """All slides together: the masks, and the samples where they were kept."""

    predicted: _Measured
    sampled: _Measured | None


class _Evaluated(BaseModel):
    """What is taken from an evaluation."""

    pooled: _Pooled
    background: str | None


def measures(evaluation: Evaluation | Mapping[str, Any] | Path) -> dict[str, float]:
    """Name and value of each pooled measure.

    Args:
        evaluation: What ``evaluate_masks`` returned, what ``evaluation.json`` holds, or that file's path.

    Returns:
        mIoU, mIoU without background (where a class is the background), IoU of each class, pixel accuracy,
        and mIoU(Y', Y) (where samples were kept): what the sampling alone allows, as if every sample were
        labelled right. NaN where nothing was there to measure.

    Raises:
        MaskError: The file is not an evaluation.
    """
    source = "evaluation"
    if isinstance(evaluation, Path):
        source = str(evaluation)
        evaluation = read_json(evaluation)
    data = evaluation_data(evaluation) if isinstance(evaluation, Evaluation) else evaluation
    try:
        known = _Evaluated.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise MaskError(
            f"{source}: not an evaluation ({'.'.join(map(str, first['loc']))}: {first['msg'].lower()}). "
            "Needed what `wsi-deform evaluate` writes. Evaluate again."
        ) from error
    predicted, sampled = known.pooled.predicted, known.pooled.sampled
    values = {MIOU: predicted.miou}
    if known.background is not None:
        values[WITHOUT] = predicted.miou_without_background
    values |= {f"IoU {name}": value for name, value in predicted.iou.items()}
    values[ACCURACY] = predicted.accuracy
    if sampled is not None:
        values[CEILING] = sampled.miou
    return {name: math.nan if value is None else value for name, value in values.items()}
