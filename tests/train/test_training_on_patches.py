"""A model that is trained on patches: trained, validated as it is used, segmented by both methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from drawn_reader import ArrayReader
from monai.inferers import sliding_window_inference

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.config import find_config, read_config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.drawn.study import draw_study, write_labels
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import Model
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_results import WantedOutputs
from wsi_deform.train.loop import train
from wsi_deform.train.validation import validate
from wsi_deform.train.watcher import NullWatcher

SMALL = (
    "networks.segmentation={name: monai:BasicUNet, features: [4, 4, 4, 4, 4, 4]}",
    "sampling.budget=[64, 64]",
    "sampling.map_scale=0.25",
    "fields.side_um=32",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of small drawn slides, and a run of two epochs on it."""
    folder = tmp_path_factory.mktemp("patches")
    study = draw_study(folder, train=2, val=1, test=1, size=Size(640, 160), mpp=0.5, slides_per_patient=1)
    config = read_config(
        find_config("patches"),
        changes=[
            *SMALL, "training={epochs: 2, validate_every: 1, batch: 4, fields_per_slide: 6, pictures: 1}",
            "device=cpu",
        ],
    )  # fmt: skip
    torch.set_num_threads(1)
    steps: list[tuple[int, int]] = []

    class Steps(NullWatcher):
        def step(self, *, epoch: int, step: int, loss: float) -> None:
            steps.append((epoch, step))

    result = train(
        config,
        read_manifest(study.manifest),
        read_class_table(study.classes),
        folder / "run",
        watcher=Steps(),
    )
    assert result.finished
    assert result.best is not None
    # 6 crops of each of two slides, 4 a step.
    assert steps == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]
    assert list((folder / "run" / "pictures").glob("*.png"))
    return folder


@pytest.mark.parametrize("patches", [None, PatchSettings()])
def test_it_segments_by_both_methods(trained: Path, tmp_path: Path, patches: PatchSettings | None) -> None:
    found = segment_slides(
        slide_sources(trained / "manifest.csv", out=tmp_path, split="test"),
        trained / "run",
        tmp_path,
        device="cpu",
        wanted=WantedOutputs(patches=patches),
        fields=4,
    )
    (outcome,) = found.outcomes
    assert outcome.status == "done", outcome.reason
    assert tifffile.imread(MaskFolder(tmp_path).mask(outcome.slide_id), level=0).shape == (160, 640)
    if patches is None:
        # Fields of 64 px, 48 px apart, on tissue: one sample a pixel.
        assert outcome.state.samples == outcome.state.fields * 64 * 64
    else:
        assert "patches of 64 px at level 0 (1/1), overlap 0.25" in outcome.reason


def test_validation_is_monais_sliding_window_on_the_whole_slide(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers((120, 20, 90), (250, 120, 220), (150, 333, 3)).astype(np.uint8)
    slide = Slide.from_reader(ArrayReader(pixels, mpp=0.5), slide_id="tissue")
    truth = rng.integers(0, 2, (150, 333)).astype(np.uint8)
    write_labels(tmp_path / "labels.tif", truth, mpp=0.5)
    classes = ClassTable.from_names(["background", "gland"])
    labels = open_label_mask(tmp_path / "labels.tif", slide_size=slide.size, classes=classes)
    torch.manual_seed(0)
    model = Model(config=read_config(find_config("patches"), changes=SMALL), classes=classes, mpp=0.5).eval()
    row = validate(model, [(slide, labels)])
    with torch.no_grad():
        whole = sliding_window_inference(
            torch.from_numpy(pixels).permute(2, 0, 1)[None].float(),
            (64, 64),
            4,
            lambda images: model.scores(images).softmax(dim=1),
            overlap=0.25,
            mode="gaussian",
        )[0]
    predicted = whole.argmax(dim=0).numpy()
    ious = [
        ((predicted == each) & (truth == each)).sum() / ((predicted == each) | (truth == each)).sum()
        for each in (0, 1)
    ]
    assert min(ious) > 0
    assert row["val_miou"] == pytest.approx(np.mean(ious), abs=1e-4)
