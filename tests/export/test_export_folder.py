"""Exports that run without the program, checked after writing."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import warnings
from pathlib import Path

import pytest
import torch
from exported_model import small_model, stored_run
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.errors import ModelError
from wsi_deform.export import folder as folder_module
from wsi_deform.export import onnx as onnx_module
from wsi_deform.export.bundle import metadata, run_bundle
from wsi_deform.export.folder import export_model
from wsi_deform.export.networks import input_channels
from wsi_deform.export.onnx import NEEDED, run_onnx
from wsi_deform.export.torch_export import run_torch_export, write_torch_export
from wsi_deform.export.torchscript import run_torchscript, tracing
from wsi_deform.export.verify import Runner, example_input, verify
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.model_file import load_model

MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
SIZES = (Size(64, 16), Size(90, 37), Size(9, 7))


def test_torchscript_files_compute_the_model_at_any_size(tmp_path: Path):
    run = stored_run(tmp_path / "run", inputs="rgb+tissue")
    out = export_model(run, format="torchscript")
    assert out == run / "export" / "torchscript"
    assert files_in(out) == ["README.md", "deformation.ts", "model.json", "model_card.md", "segmentation.ts"]
    check_against_model(
        load_model(run),
        {part: run_torchscript(out / f"{part}.ts") for part in ("deformation", "segmentation")},
    )


def test_torch_export_files_compute_the_model_at_any_size(tmp_path: Path):
    run = stored_run(tmp_path / "run", inputs="rgb+tissue")
    out = export_model(run, format="torch-export")
    assert out == run / "export" / "torch-export"
    assert files_in(out) == [
        "README.md",
        "deformation.pt2",
        "model.json",
        "model_card.md",
        "segmentation.pt2",
    ]
    check_against_model(
        load_model(run),
        {part: run_torch_export(out / f"{part}.pt2") for part in ("deformation", "segmentation")},
    )
    assert (
        'torch.export.load("segmentation.pt2").module(check_guards=False)' in (out / "README.md").read_text()
    )


def test_torchscript_without_torch_jit_names_what_to_use_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = stored_run(tmp_path, density="uniform")
    monkeypatch.delattr(torch.jit, "trace")
    with pytest.raises(ModelError, match=r"no torch\.jit\.trace any more\. Use --format torch-export"):
        export_model(run, format="torchscript")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("category", [DeprecationWarning, FutureWarning])
@pytest.mark.parametrize("said", ["is deprecated. Please", "is not supported in Python 3.14+ and may"])
def test_torch_may_call_torch_jit_deprecated_in_either_way(category: type[Warning], said: str):
    with tracing():
        warnings.warn(f"`torch.jit.trace` {said} switch to `torch.export`.", category, stacklevel=1)


def test_bundle_is_built_by_monai_and_computes_the_model_at_any_size(tmp_path: Path):
    from monai.bundle import verify_net_in_out

    run = stored_run(tmp_path / "run", dilations=[1, 2])
    out = export_model(run, format="monai-bundle", out=tmp_path / "bundle")
    assert files_in(out) == [
        "configs/inference.json",
        "configs/metadata.json",
        "configs/sampled_images.json",
        "configs/train.json",
        "configs/wsi_deform.json",
        "docs/README.md",
        "model.json",
        "model_card.md",
        "models/deformation.pt",
        "models/model.pt",
    ]
    check_against_model(
        load_model(run), {part: run_bundle(out, part) for part in ("deformation", "segmentation")}
    )
    # MONAI's own check of the tensors that metadata.json promises.
    verify_net_in_out(
        net_id="network",
        meta_file=str(out / "configs" / "metadata.json"),
        config_file=str(out / "configs" / "inference.json"),
        device="cpu",
        any=24,
        bundle_root=str(out),
    )
    weights = torch.load(out / "models" / "model.pt", weights_only=True)
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    said = json.loads((out / "configs" / "metadata.json").read_text())
    prediction = said["network_data_format"]["outputs"]["pred"]
    assert prediction["channel_def"] == {"0": "background", "1": "gland", "2": "stroma"}


def test_a_bundle_says_which_versions_it_was_made_with(monkeypatch: pytest.MonkeyPatch):
    installed = {"monai": "1.5.1", "torch": "2.9.1+cpu", "numpy": "2.3.4", "wsi-deform": "0.1.0"}
    monkeypatch.setattr(importlib.metadata, "version", installed.__getitem__)
    said = metadata(small_model(), version="1.0.0")
    assert said["monai_version"] == "1.5.1"
    assert said["pytorch_version"] == "2.9.1"  # the release alone
    assert said["numpy_version"] == "2.3.4"
    assert said["required_packages_version"] == {"wsi-deform": "0.1.0"}


@pytest.mark.skipif(
    bool(MISSING), reason=f"{', '.join(MISSING)} not installed (pip install wsi-deform[onnx])"
)
def test_onnx_files_compute_the_model_at_any_size(tmp_path: Path):
    run = stored_run(tmp_path / "run")
    out = export_model(run, format="onnx")
    check_against_model(
        load_model(run), {part: run_onnx(out / f"{part}.onnx") for part in ("deformation", "segmentation")}
    )


def test_onnx_without_its_packages_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx_module, "NEEDED", ("onnx_of_nowhere",))
    with pytest.raises(ModelError, match=r"onnx_of_nowhere not installed.*pip install wsi-deform\[onnx\]"):
        export_model(stored_run(tmp_path), format="onnx")
    assert not (tmp_path / "export").exists()


def test_facts_say_what_programs_need(tmp_path: Path):
    run = stored_run(tmp_path, inputs="rgb+tissue")
    out = export_model(run, format="torchscript")
    about = json.loads((out / "model.json").read_text())
    assert about["format"] == "wsi-deform export 1"
    assert [each["name"] for each in about["classes"]["classes"]] == ["background", "gland", "stroma"]
    assert (about["mpp"], about["sampling"]["sigma"], about["sampling"]["budget"]) == (0.5, 0.25, [12, 48])
    deformation, segmentation = about["networks"]["deformation"], about["networks"]["segmentation"]
    assert (deformation["input"]["meaning"], segmentation["input"]["meaning"]) == (
        "low-res view of a field",
        "sampled image of a field",
    )
    assert segmentation["output"]["shape"] == ["batch", 3, "height", "width"]
    assert segmentation["output"]["channels"] == ["background", "gland", "stroma"]
    assert (deformation["output"]["channels"], deformation["output"]["meaning"]) == (
        ["density"],
        "deformation map, sums to 1 over each image",
    )
    assert segmentation["input"]["ranges"] == [[0, 255], [0, 255], [0, 255], [0, None]]
    assert deformation["input"]["channels"] == ["red", "green", "blue", "share of tissue"]
    assert deformation["input"]["ranges"][-1] == [0, 1]
    assert deformation["output"]["shape"] == ["batch", 1, "height", "width"]
    assert deformation["sha256"] == hashlib.sha256((out / "deformation.ts").read_bytes()).hexdigest()
    assert about["model"]["epoch"] == 3
    assert len(about["verified"]["compared"]) == 4
    assert all(each["difference"] <= about["verified"]["tolerance"] for each in about["verified"]["compared"])
    readme = (out / "README.md").read_text()
    assert 'torch.jit.load("segmentation.ts")' in readme
    assert "share of tissue 0 to 1" in readme


def test_a_uniform_model_exports_its_segmentation_alone(tmp_path: Path):
    out = export_model(stored_run(tmp_path, density="uniform"), format="torchscript")
    assert files_in(out) == ["README.md", "model.json", "model_card.md", "segmentation.ts"]
    readme = (out / "README.md").read_text()
    assert "\n1. The model knows slides of 0.5 um per pixel at level 0." in readme
    assert "\n2. Grid: uniform" in readme
    assert "pyramid level: mip, at most about 16 um per pixel" in readme


def test_a_network_of_one_size_is_compared_within_it(tmp_path: Path):
    segmentation = {"name": "monai:SegResNetVAE", "input_image_size": [16, 32], "init_filters": 8}
    run = stored_run(tmp_path, segmentation={**segmentation, "blocks_down": [1, 1], "blocks_up": [1]})
    about = json.loads((export_model(run, format="torchscript") / "model.json").read_text())
    inputs = [each["input"] for each in about["verified"]["compared"] if each["part"] == "segmentation"]
    assert inputs == [[1, 4, 16, 32], [2, 4, 16, 32]]


def test_an_earlier_export_is_replaced_and_other_folders_are_not(tmp_path: Path):
    run = stored_run(tmp_path / "run", density="uniform")
    out = export_model(run, format="torchscript")
    (out / "left.txt").write_text("from before")
    export_model(run, format="torchscript")
    assert not (out / "left.txt").exists()
    assert [path.name for path in out.parent.iterdir()] == ["torchscript"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ModelError, match=r"mine: holds files.*Choose another --out"):
        export_model(run, format="torchscript", out=tmp_path / "mine")
    with pytest.raises(ModelError, match="is a file"):
        export_model(run, format="torchscript", out=tmp_path / "mine" / "notes.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scores: scores + 0.1 * scores.abs().max(), "differs from the model by 0.1 of"),
        (lambda scores: scores * float("nan"), "differs from the model by nan"),
        (lambda scores: scores[..., :-1], r"gives \(1, 3, 24, 63\) .* needed \(1, 3, 24, 64\)"),
    ],
)
def test_a_file_that_computes_something_else_is_refused_and_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change, message: str
):
    def spoilt(path: Path) -> Runner:
        run = run_torchscript(path)
        return lambda image: change(run(image))

    monkeypatch.setattr(folder_module, "run_torchscript", spoilt)
    with pytest.raises(ModelError, match=message):
        export_model(stored_run(tmp_path, density="uniform"), format="torchscript")
    assert files_in(tmp_path / "export") == []


def test_a_network_that_a_format_cannot_express_is_a_clear_error(tmp_path: Path):
    run = stored_run(tmp_path, density="uniform", segmentation={"name": "monai:FlexibleUNet"})
    with pytest.raises(
        ModelError,
        match=r"segmentation\.ts: TorchScript cannot .* Try --format torch-export, or monai-bundle",
    ):
        export_model(run, format="torchscript")
    assert files_in(tmp_path / "export") == []


class Branching(torch.nn.Module):
    """Computes one thing or another, as the pixels are."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image if image.sum() > 0 else -image


def test_a_network_that_torch_export_cannot_express_is_a_clear_error(tmp_path: Path):
    path = tmp_path / "part.pt2"
    with pytest.raises(ModelError, match=r"part\.pt2: torch\.export cannot .* Try --format monai-bundle"):
        write_torch_export(Branching().eval(), path, channels=3)
    path.write_bytes(b"rubbish")
    with pytest.raises(ModelError, match=r"part\.pt2: torch\.export cannot"):
        run_torch_export(path)


def test_small_differences_of_a_deformation_map_are_seen():
    model = small_model()
    with pytest.raises(ModelError, match="deformation differs"):
        verify(model, {"deformation": lambda view: model.density(view) * 1.001}, source=Path("x"))


def test_unknown_formats_and_missing_models_are_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="needed one of monai-bundle, torchscript, torch-export, onnx"):
        export_model(tmp_path, format="caffe")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no best"):
        export_model(tmp_path, format="torchscript")


def test_command_prints_the_folder(tmp_path: Path):
    run = stored_run(tmp_path / "run", density="uniform")
    arguments = ["export", str(run), "--format", "torchscript", "--out", str(tmp_path / "ts")]
    result = CliRunner().invoke(typer_app, arguments)
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tmp_path / "ts")


def check_against_model(model: Model, runners: dict[str, Runner]) -> None:
    for part, run in runners.items():
        deformation = part == "deformation"
        channels = len(input_channels(model, part))
        for seed, size in enumerate(SIZES):
            image = example_input(channels, size, batch=1 + seed, seed=10 + seed)
            with torch.inference_mode():
                needed = model.density(image) if deformation else model.scores(image)
                torch.testing.assert_close(run(image), needed, rtol=1e-4, atol=1e-8 if deformation else 1e-4)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
