"""Proof that the whole pipeline learns: one slide, by heart, measured at full resolution."""

from __future__ import annotations

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest
from wsi_deform.train.loop import train

SETTINGS = [
    "sampling.budget=[64, 128]",
    "networks.segmentation={name: 'monai:DynUNet'}",
    "training={epochs: 80, validate_every: 80, batch: 1, threads: 1, pictures: 0}",
    "augmentation={flip_x: false, shift_cells: 0, warp_cells: 0}",
    "optimiser.learning_rate=0.005",
    "device=cpu",
]


def test_one_slide_is_learnt_by_heart(tmp_path):
    """Validation segments the training slide and counts every pixel of it: mIoU above 0.95."""
    drawn = draw_study(tmp_path / "study", train=1, val=0, test=0, seed=5, size=Size(128, 64))
    manifest = read_manifest(drawn.manifest)
    (row,) = manifest.rows
    twice = Manifest(rows=(row, row.model_copy(update={"split": "val"})), folder=manifest.folder)
    result = train(read_config(changes=SETTINGS), twice, read_class_table(drawn.classes), tmp_path / "run")
    assert result.best is not None
    assert result.best > 0.95
