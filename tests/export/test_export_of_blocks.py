"""Exports of models that read fields in blocks: part by part, and put together as their README says."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest
import tifffile
import torch
from blocks_study import block_run
from tiny_study import tiny_study

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.cover import budgets_of, view_of
from wsi_deform.errors import ModelError
from wsi_deform.export.blocks import BlockScores
from wsi_deform.export.folder import export_model
from wsi_deform.export.onnx import NEEDED, run_onnx
from wsi_deform.export.torch_export import run_torch_export
from wsi_deform.export.torchscript import run_torchscript
from wsi_deform.for_monai.parts import model_of_parts
from wsi_deform.looks import label_looks, look_at_fields
from wsi_deform.model_file import load_model
from wsi_deform.networks.blocks import raster
from wsi_deform.slide.open import open_slide
from wsi_deform.slide_files import segment_to_files

pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
PARTS = ("look0", "look1", "look2", "scorer1", "scorer2", "merge0", "merge1", "merge2", "head")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    classes = read_class_table(tiny_study(folder, test=1).classes)
    block_run(folder / "run", classes=classes)
    return folder


def resized(features, size):
    return torch.nn.functional.interpolate(features, size, mode="bilinear", align_corners=False)


def check_put_together(study, parts):
    """The steps of the README with the written parts alone give the labels of the model."""
    model = load_model(study / "run")
    slide = open_slide(sorted((study / "slides").iterdir())[-1])
    (budget,) = budgets_of(slide, model)
    view = view_of(slide, budget.field, model.map_size(budget.size), tissue=True)[None]
    with torch.no_grad():
        looks = look_at_fields(model, [slide], [budget.field], view, size=budget.size)
        needed = label_looks(model, looks)
    # 40 x 10 px, filled up to 48 x 16.
    filled = torch.nn.functional.pad(view[:, :3], (0, 8, 0, 6), mode="replicate")
    first = parts["look0"](filled)
    rasters = [torch.cat((first, torch.ones(1, 1, 2, 6)), dim=1)]
    assert (parts["scorer1"](rasters[0]) - model.blocks.score(looks.rasters[:1])).abs().max() < 1e-4
    together = torch.cat((resized(rasters[0], (4, 12)), looks.rasters[1]), dim=1)
    assert (parts["scorer2"](together) - model.blocks.score(looks.rasters[:2])).abs().max() < 1e-4
    windows = looks.last
    features = parts["look2"](windows.images)
    finest = torch.zeros(1, 9, 8, 24)
    for window, (_, row, column) in zip(features, windows.places.tolist(), strict=True):
        # Windows of 16 px are 2 x 2 cells.
        finest[0, :8, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = window
        finest[0, 8, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 1
    all_rasters = (rasters[0], looks.rasters[1], finest)
    total = sum(resized(parts[f"merge{level}"](each), (8, 24)) for level, each in enumerate(all_rasters))
    found = parts["head"](total)[:, :, :10, :40]
    assert found.shape == needed.shape
    assert float((found - needed).abs().max()) < 1e-3 * float(needed.abs().max())


def test_parts_of_blocks_compute_the_model_together(study, tmp_path):
    out = export_model(study / "run", format="torchscript", out=tmp_path / "out")
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted(["README.md", "model.json", "model_card.md", *(f"{part}.ts" for part in PARTS)])
    check_put_together(study, {part: run_torchscript(out / f"{part}.ts") for part in PARTS})
    about = json.loads((out / "model.json").read_text())
    assert about["blocks"]["window_px"] == 16
    assert about["networks"]["scorer2"]["input"]["shape"] == ["batch", 18, "height", "width"]
    assert about["networks"]["head"]["output"]["channels"] == [
        "background", "large acini", "small acini", "sheets", "cords",
    ]  # fmt: skip
    readme = (out / "README.md").read_text()
    assert (
        "Level 2, 2 um per px, is read in windows of 16 px, and only in blocks of which level 1 was read"
        in readme
    )
    assert "deformation" not in readme


def test_torch_export_of_one_level_computes_the_model(study, tmp_path):
    # An encoder takes torch.export a quarter of a minute: one level has one.
    classes = read_class_table(study / "classes.yaml")
    run = block_run(tmp_path / "run", "blocks.levels=1", classes=classes)
    out = export_model(run, format="torch-export", out=tmp_path / "out")
    parts = {part: run_torch_export(out / f"{part}.pt2") for part in ("look0", "merge0", "head")}
    image = 255 * torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    features = parts["look0"](image)
    found = parts["head"](parts["merge0"](torch.cat((features, torch.ones(1, 1, 4, 6)), dim=1)))
    blocks = load_model(run).blocks
    with torch.no_grad():
        needed = blocks.label([raster(blocks.encode(image, 0), 1, (4, 6))])
    assert found.shape == needed.shape == (1, 5, 8, 12)
    assert float((found - needed).abs().max()) < 1e-3 * float(needed.abs().max())


@pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} not installed (pip install wsi-deform[onnx])"
)
def test_onnx_parts_of_blocks_compute_the_model_together(study, tmp_path):
    out = export_model(study / "run", format="onnx", out=tmp_path / "out")
    check_put_together(study, {part: run_onnx(out / f"{part}.onnx") for part in PARTS})


def test_a_bundle_of_blocks_segments_a_slide_as_the_command_does(study, tmp_path):
    import monai.bundle

    bundle = export_model(study / "run", format="monai-bundle", out=tmp_path / "bundle")
    assert not (bundle / "configs" / "sampled_images.json").exists()
    config = str(bundle / "configs" / "inference.json")
    monai.bundle.verify_net_in_out(
        net_id="network",
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=config,
        device="cpu",
        any=24,
        bundle_root=str(bundle),
    )
    slide = sorted((study / "slides").iterdir())[-1]
    given = {"slide": str(slide), "output_dir": str(tmp_path / "out")}
    monai.bundle.run(config_file=config, bundle_root=str(bundle), device="cpu", **given)
    opened = open_slide(slide)
    segment_to_files(opened, load_model(study / "run"), tmp_path / "ours")
    found, expected = (
        tifffile.imread(tmp_path / name / "masks" / f"{opened.slide_id}.ome.tif", level=0)
        for name in ("out", "ours")
    )
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found, expected)
    with pytest.raises(ModelError, match=r"Needed wsi_deform\.export\.blocks\.BlockScores"):
        model_of_parts(bundle / "configs" / "wsi_deform.json", torch.nn.Linear(1, 1))


@pytest.mark.parametrize(("label_px", "side"), [(4, 32), (2, 64)])
def test_the_networks_as_one_label_a_first_look_of_any_size(label_px, side):
    network = BlockScores(
        classes=3,
        levels=3,
        encoder="efficientnet-lite0",
        width=4,
        frozen=False,
        scores=True,
        label_px=label_px,
    ).eval()
    with torch.no_grad():
        # 30 x 20 px are filled up to 32 x 32: 128 x 128 of the finest level.
        assert network(torch.zeros(2, 3, 20, 30)).shape == (2, 3, side, side)


def test_parts_of_finer_labels_say_so_and_compute_the_model(study, tmp_path):
    classes = read_class_table(study / "classes.yaml")
    run = block_run(tmp_path / "run", "blocks.levels=1", "blocks.label_px=2", classes=classes)
    out = export_model(run, format="torchscript", out=tmp_path / "out")
    readme = (out / "README.md").read_text()
    assert "one cell for 4 x 4 px" in readme
    assert "one label for 2 x 2 px of level 0" in readme
    assert "one for 2 x 2 px of the finest level" in (out / "model_card.md").read_text()
    image = torch.full((1, 3, 32, 48), 200.0)
    model = load_model(run)
    with torch.no_grad():
        needed = model.blocks.encode(image, 0)
    assert needed.shape == (1, 8, 8, 12)
    assert (run_torchscript(out / "look0.ts")(image) - needed).abs().max() < 1e-4
