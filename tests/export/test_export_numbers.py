"""What exports say and allow, in numbers: bundles, READMEs, tolerances, and ONNX without its packages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exported_model import small_model
from torch import Tensor

from wsi_deform.errors import ModelError
from wsi_deform.export.bundle import metadata, sampled_images_config
from wsi_deform.export.onnx import run_onnx, write_onnx
from wsi_deform.export.readme import readme_text
from wsi_deform.export.verify import example_input, verify
from wsi_deform.geometry import Size


@pytest.mark.parametrize(("areas", "suffix", "channels"), [(False, ".png", 3), (True, ".npy", 4)])
def test_a_bundle_reads_sampled_images_one_at_a_time_in_order_and_writes_class_maps(
    areas: bool, suffix: str, channels: int
) -> None:
    config = sampled_images_config(small_model(areas=areas))
    assert config["datalist"] == f"$sorted(glob.glob(os.path.join(@dataset_dir, '*{suffix}')))"
    load, first, _ = config["preprocessing"]["transforms"]
    assert load == {"_target_": "LoadImaged", "keys": "image"} | (
        {"reader": "NumpyReader", "channel_dim": -1}
        if areas
        else {"reader": "PILReader", "reverse_indexing": False}
    )
    assert first["channel_dim"] == -1
    loader = config["dataloader"]
    assert (loader["batch_size"], loader["shuffle"], loader["num_workers"]) == (1, False, 0)
    best, turned, saved = config["postprocessing"]["transforms"]
    assert best["argmax"] is True
    assert turned["func"] == "$lambda labels: labels.transpose(-1, -2)"
    assert (saved["resample"], saved["separate_folder"], saved["output_dtype"]) == (
        False,
        False,
        "$torch.uint8",
    )
    assert config["network_def"]["in_channels"] == channels


@pytest.mark.parametrize("areas", [False, True])
def test_metadata_say_the_ranges_and_channels_of_tensors(areas: bool) -> None:
    said = metadata(small_model(areas=areas), version="1.0.0")["network_data_format"]
    image, pred = said["inputs"]["image"], said["outputs"]["pred"]
    names = ["red", "green", "blue", *(["area of the sample's cell / mean of the field"] if areas else [])]
    assert list(image["channel_def"].values()) == names
    assert (image["num_channels"], image["value_range"], image["modality"]) == (
        len(names),
        [0, 255],
        "histopathology",
    )
    assert (pred["num_channels"], pred["value_range"], pred["format"]) == (3, [], "segmentation")
    assert (image["is_patch_data"], pred["is_patch_data"]) == (False, False)


def said_of(**sampling: Any) -> str:
    """The README of an export with this sampling."""
    model = small_model()
    chosen = model.config.sampling.model_dump(mode="json") | sampling
    tensor = {
        "shape": ["batch", 3],
        "dtype": "float32",
        "meaning": "m",
        "channels": ["red"],
        "ranges": [[0, 255]],
    }
    parts = ("deformation", "segmentation") if chosen["density"] == "learned" else ("segmentation",)
    return readme_text(
        {
            "kind": "torchscript",
            "networks": {part: {"file": f"{part}.ts", "input": tensor, "output": tensor} for part in parts},
            "classes": model.classes.to_data(),
            "mpp": sampling.get("mpp", 0.5),
            "sampling": chosen,
            "stain": sampling.get("stain", "none"),
            "verified": {
                "compared": [{"part": "segmentation", "input": [1, 3, 24, 64], "difference": 1.51e-6}]
            },
        }
    )


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({"size": "area"}, "a sampled image of 576 samples in the field's aspect ratio."),
        ({"size": "exact"}, "of 12 x 48 px (short x long side), whatever the field's aspect ratio."),
        ({"size": "inside"}, "of at most 12 x 48 px (short x long side) in the field's aspect ratio."),
        ({"mpp": None}, "The model knows images without um per pixel."),
        ({"map_scale": 1, "view_px": None}, "area-averaged, of that size; `deformation` makes"),
        ({"map_scale": 2.5, "view_px": None}, "area-averaged, 2.5 times that size; `deformation`"),
        ({"view_px": [40, 160]}, "area-averaged, 40 x 160 px (short x long side); `deformation`"),
        ({"sigma_px": None, "sigma": 0.25}, "a Gaussian of 0.25 times the map's short side (cut at"),
        ({"sigma_px": 3.5, "radius_sigmas": 2.5}, "a Gaussian of 3.5 px of the map (cut at 2.5 standard"),
        ({"warp_steps": 3, "border": "reflect"}, "border: reflect), 3 times."),
        ({"density": "tissue"}, '2. Grid: density "tissue" needs no network'),
        (
            {"stain": "macenko"},
            "\n4. Colours: the slide's RGB is brought to one reference stain first (macenko)",
        ),
        ({}, "\n4. Sampled image: the slide's RGB at the grid's points"),
        (
            {},
            "- segmentation, input 1 x 3 x 24 x 64: differs from the model by at most 1.5e-06 of its greatest",
        ),
        ({}, "classes: 0 background, 1 gland, 2 stroma."),
        ({}, "| segmentation | `segmentation.ts` | m, (batch, 3) float32: red 0 to 255 | m, (batch, 3) |"),
    ],
)
def test_a_readme_has_the_numbers_of_its_model(sampling: dict[str, Any], said: str) -> None:
    assert said in said_of(**sampling)


def test_drawn_inputs_are_colours_and_shares_of_1() -> None:
    image = example_input(5, Size(40, 20), batch=2, seed=3)
    assert image.shape == (2, 5, 20, 40)
    assert image[:, :3].amax((0, 2, 3)).tolist() == pytest.approx([255] * 3, abs=1)
    assert image[:, 3:].amax((0, 2, 3)).tolist() == pytest.approx([1] * 2, abs=0.01)
    assert torch.equal(image, example_input(5, Size(40, 20), batch=2, seed=3))
    assert not torch.equal(image, example_input(5, Size(40, 20), batch=2))


@pytest.mark.parametrize(
    ("part", "greatest", "allowed"),
    [("segmentation", 0.5, 1e-4), ("segmentation", 20.0, 2e-3), ("deformation", 1e-3, 1e-7)],
)
def test_outputs_may_differ_by_a_ten_thousandth_of_the_greatest_score_or_of_1(
    part: str, greatest: float, allowed: float
) -> None:
    def made(image: Tensor) -> Tensor:
        return torch.full((len(image), 1, *image.shape[2:]), greatest, dtype=torch.float64)

    model: Any = SimpleNamespace(
        has_blocks=False, sees_tissue=False, sees_areas=False, segmentation=None, density=made, scores=made
    )
    off: Callable[[float], Callable[[Tensor], Tensor]] = lambda by: lambda image: made(image) - by  # noqa: E731
    compared = verify(model, {part: off(0.99 * allowed)}, source=Path("x"))
    assert [each["input"] for each in compared] == [[1, 3, 24, 64], [2, 3, 31, 53]]
    assert all(each["difference"] == pytest.approx(0.99e-4) for each in compared)
    with pytest.raises(ModelError, match=rf"{part} differs .* needed at most 0\.0001"):
        verify(model, {part: off(1.01 * allowed)}, source=Path("x"))


def test_onnx_is_written_with_free_batch_height_and_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    saved: list[str] = []

    def export(part: Any, args: tuple[Tensor], **options: Any) -> Any:
        given.update(options, part=part, shape=tuple(args[0].shape))
        return SimpleNamespace(save=saved.append)

    monkeypatch.setattr(torch.onnx, "export", export)
    part, path = torch.nn.Conv2d(4, 2, 1), tmp_path / "a.onnx"
    write_onnx(part, path, channels=4)
    assert (given["part"], given["shape"], saved) == (part, (2, 4, 37, 91), [str(path)])
    assert (given["dynamo"], given["verbose"]) == (True, False)
    assert given["dynamic_shapes"] == {"image": {0: "batch", 2: "height", 3: "width"}}
    assert (given["input_names"], given["output_names"]) == (["image"], ["output"])

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(ModelError, match=r"a\.onnx: torch returned no ONNX program"):
        write_onnx(part, path, channels=4)

    def refusing(*_: Any, **__: Any) -> None:
        try:
            raise ValueError("no such operator\nadvice")
        except ValueError as error:
            raise torch.onnx.OnnxExporterError("advice on the exporter") from error

    monkeypatch.setattr(torch.onnx, "export", refusing)
    with pytest.raises(ModelError, match=r"images of any size: no such operator Try --format torch-export"):
        write_onnx(part, path, channels=4)


def test_onnxruntime_runs_on_the_cpu_and_its_refusals_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {name: type(name, (Exception,), {}) for name in ("Fail", "InvalidGraph", "InvalidArgument")}
    kinds |= {name: type(name, (Exception,), {}) for name in ("NotImplemented", "RuntimeException")}
    opened: list[Any] = []

    class Session:
        def __init__(self, path: str, options: Any, providers: list[str]) -> None:
            opened.append((path, options.log_severity_level, providers))
            if path.endswith("bad.onnx"):
                raise kinds["InvalidGraph"]("no graph\nmore")

        def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
            assert outputs == ["output"]
            if inputs["image"].shape[0] > 1:
                raise kinds["Fail"]("a batch\nmore")
            return [2 * inputs["image"]]

    runtime: Any = ModuleType("onnxruntime")
    runtime.SessionOptions, runtime.InferenceSession = SimpleNamespace, Session
    capi: Any = ModuleType("onnxruntime.capi")
    capi.onnxruntime_pybind11_state = SimpleNamespace(**kinds)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "onnxruntime.capi", capi)
    run = run_onnx(tmp_path / "good.onnx")
    assert opened == [(str(tmp_path / "good.onnx"), 4, ["CPUExecutionProvider"])]
    assert np.array_equal(run(torch.ones(1, 3, 2, 2)), 2 * np.ones((1, 3, 2, 2)))
    with pytest.raises(ModelError, match=r"good\.onnx: onnxruntime cannot run it: a batch Try another"):
        run(torch.ones(2, 3, 2, 2))
    with pytest.raises(ModelError, match=r"bad\.onnx: onnxruntime cannot run it: no graph Try another"):
        run_onnx(tmp_path / "bad.onnx")
