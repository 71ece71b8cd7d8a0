"""Small slides and settings for tests of models that read fields in blocks."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.model import Model
from wsi_deform.model_file import save_model

# Of a slide of 512 x 256 px of .5 um: a first look of 32 x 16 px of 8 um, and 32 x 16 labels.
SETTINGS = (
    "sampling.geometry=blocks",
    "blocks={finest_um: 2, levels: 3, window_px: 16, share: 0.5}",
    "networks.segmentation={name: efficientnet-lite0, width: 8}",
    "augmentation.shift_cells=0",
    "augmentation.warp_cells=0",
    "augmentation.flip_y=true",
    "fields.side_um=null",
    "device=cpu",
)


def block_model(*changes: str, classes: ClassTable, mpp: float | None = 0.5) -> Model:
    """An untrained model whose running statistics are not those of the start."""
    torch.manual_seed(0)
    model = Model(config=read_config(changes=[*SETTINGS, *changes]), classes=classes, mpp=mpp)
    for name, parameter in model.blocks.named_parameters():
        if parameter.ndim > 1 and not name.startswith("backbone"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def block_run(run: Path, *changes: str, classes: ClassTable) -> Path:
    """A run folder with such a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_model(block_model(*changes, classes=classes), run / "best.safetensors", facts={"epoch": 0})
    return run
