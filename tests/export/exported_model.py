"""A stored model of few parameters whose deformation map is not flat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import parse_config
from wsi_deform.model import Model
from wsi_deform.model_file import save_model

SMALL_UNET = {"name": "monai:UNet", "channels": [4, 8], "strides": [2], "norm": "batch"}


def small_model(
    *,
    density: str = "learned",
    segmentation: dict[str, Any] | None = None,
    areas: bool = True,
    **deformation: Any,
) -> Model:
    """A model with random weights and running statistics."""
    config = parse_config(
        {
            "sampling": {"budget": [12, 48], "density": density, "floor": 0.1},
            "networks": {
                "area_channel": areas,
                "segmentation": SMALL_UNET if segmentation is None else segmentation,
                "deformation": {"widths": [6, 2], "zero_init_head": False, **deformation},
            },
        },
        source="test",
    )
    torch.manual_seed(0)
    model = Model(config=config, classes=ClassTable.from_names(["background", "gland", "stroma"]), mpp=0.5)
    model.train()
    with torch.no_grad():
        # A step in training mode, so that running statistics are not those of the start.
        model.segmentation(torch.randn(2, 4 if model.sees_areas else 3, 16, 32))
        if model.deformation is not None:
            model.deformation(torch.randn(2, model.deformation.in_channels, 24, 48))
    return model.eval()


def stored_run(run: Path, **options: Any) -> Path:
    """A run folder with such a model."""
    save_model(
        small_model(**options), run / "best.safetensors", facts={"epoch": 3, "metrics": {"val_miou": 0.5}}
    )
    return run
