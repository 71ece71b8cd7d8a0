"""A study of small drawn slides and an untrained model, for tests of whole commands."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.config import parse_config
from wsi_deform.drawn.study import Study, draw_study
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.model_file import save_model

MPP = 0.5
SIZE = Size(640, 160)


def tiny_study(folder: Path, *, test: int = 2) -> Study:
    """Draw slides of 640 x 160 px; the last ones are the test split."""
    return draw_study(folder, train=1, val=0, test=test, size=SIZE, mpp=MPP, slides_per_patient=1)


def tiny_model(run: Path, classes: ClassTable | Path, *, seed: int = 0, mpp: float | None = MPP) -> Path:
    """Write a run folder with an untrained model of few parameters; it predicts several classes."""
    table = classes if isinstance(classes, ClassTable) else read_class_table(classes)
    config = parse_config(
        {
            "sampling": {"budget": [12, 48]} | ({"coarsest_um": None} if mpp is None else {}),
            "networks": {"segmentation": {"name": "hrnetv2", "width": 4, "stem_stride": 1}},
        }
        | ({"fields": {"side_um": None}} if mpp is None else {}),
        source="tiny",
    )
    torch.manual_seed(seed)
    model = Model(config=config, classes=table, mpp=mpp)
    for parameter in model.segmentation.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_model(model, run / "best.safetensors", facts={"epoch": 0})
    return run
