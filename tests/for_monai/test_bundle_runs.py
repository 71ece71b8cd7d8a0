"""A bundle in MONAI's hands: a slide path in, a mask out; a manifest in, a better bundle out."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from tiny_study import tiny_model, tiny_study

from wsi_deform.errors import ModelError, SlideError, TrainingError
from wsi_deform.export.folder import export_model
from wsi_deform.for_monai.inferer import SlideInferer
from wsi_deform.for_monai.parts import model_of_parts
from wsi_deform.for_monai.transforms import OpenSlided, slides_of
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model_file import load_model
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_files import segment_to_files

#: MONAI says of every bundle that it runs what its configurations name.
pytestmark = pytest.mark.filterwarnings("ignore:parsing config_file")
needs_fire = pytest.mark.skipif(
    importlib.util.find_spec("fire") is None,
    reason="fire, which python -m monai.bundle needs, is not installed",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return tiny_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def run(study, tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "run", study.classes)


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    return export_model(run, format="monai-bundle", out=tmp_path_factory.mktemp("bundle") / "gland")


@pytest.fixture(scope="module")
def slide(study) -> Path:
    return next(row.slide for row in read_manifest(study.manifest).rows if row.split == "test")


def run_bundle(bundle: Path, config: str, **given: object) -> None:
    """``monai.bundle.run`` as ``python -m monai.bundle run`` calls it."""
    import monai.bundle

    monai.bundle.run(
        config_file=str(bundle / "configs" / config), bundle_root=str(bundle), device="cpu", **given
    )


def mask_of(folder: Path, slide: Path) -> np.ndarray:
    return tifffile.imread(folder / "masks" / f"{Slide(slide).slide_id}.ome.tif")


def test_inference_takes_a_slide_path_and_writes_the_mask_of_segment(bundle, run, slide, tmp_path):
    run_bundle(bundle, "inference.json", slide=str(slide), output_dir=str(tmp_path / "out"))
    segment_to_files(Slide(slide), load_model(run), tmp_path / "ours")
    found, expected = mask_of(tmp_path / "out", slide), mask_of(tmp_path / "ours", slide)
    assert found.shape == (160, 640)
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(found, expected)
    names = {path.relative_to(tmp_path / "ours") for path in (tmp_path / "ours").rglob("*") if path.is_file()}
    assert names == {
        path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()
    }


def test_inference_takes_manifests_and_folders(bundle, study, slide, tmp_path):
    run_bundle(bundle, "inference.json", slide=str(study.manifest), output_dir=str(tmp_path / "out"))
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3
    run_bundle(bundle, "inference.json", slide=str(slide.parent), output_dir=str(tmp_path / "folder"))
    assert len(list((tmp_path / "folder" / "masks").iterdir())) == 3


def test_training_starts_from_the_bundle_and_writes_a_new_one(bundle, study, slide, tmp_path):
    given = {"manifest": str(study.manifest), "output_dir": str(tmp_path / "run"), "epochs": 1}
    run_bundle(bundle, "train.json", settings=["loss.segmentation=monai:DiceCELoss"], **given)
    new = tmp_path / "run" / "export" / "monai-bundle"
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "name: monai:DiceCELoss" in config
    taken = json.loads((tmp_path / "run" / "init_from.json").read_text())
    assert taken["anew"] == []
    old_weights, new_weights = (
        torch.load(each / "models" / "model.pt", weights_only=True) for each in (bundle, new)
    )
    assert old_weights.keys() == new_weights.keys()
    assert any((old_weights[key] != new_weights[key]).any() for key in old_weights)
    run_bundle(new, "inference.json", slide=str(slide), output_dir=str(tmp_path / "out"))
    segment_to_files(Slide(slide), load_model(tmp_path / "run"), tmp_path / "ours")
    np.testing.assert_array_equal(mask_of(tmp_path / "out", slide), mask_of(tmp_path / "ours", slide))


@needs_fire
def test_the_command_line_of_monai_runs_both(bundle, study, slide, tmp_path, forked):
    for config, given in (
        ("inference.json", ["--slide", str(slide), "--output_dir", str(tmp_path / "out")]),
        (
            "train.json",
            ["--manifest", str(study.manifest), "--output_dir", str(tmp_path / "run"), "--epochs", "1"],
        ),
    ):
        # In the bundle's folder, as its README says: bundle_root is the working folder.
        command = ["run", "--device", "cpu", "--config_file", f"configs/{config}", *given]
        done = forked("monai.bundle", *command, said=tmp_path / f"{config}.log", folder=bundle)
        assert done.wait() == 0, done.said()
    assert len(np.unique(mask_of(tmp_path / "out", slide))) > 1
    assert (tmp_path / "run" / "export" / "monai-bundle" / "models" / "model.pt").is_file()


#: What MONAI's published schema (meta_schema_20240725) asks of metadata.json, by the type of its values.
MANDATORY = {
    **dict.fromkeys(("schema", "version", "monai_version", "pytorch_version", "numpy_version"), str),
    **dict.fromkeys(("task", "description", "authors", "copyright"), str),
    **dict.fromkeys(("required_packages_version", "network_data_format"), dict),
}
OPTIONAL = {
    **dict.fromkeys(("changelog", "eval_metrics", "supported_apps"), dict),
    **dict.fromkeys(("data_source", "data_type", "image_classes", "label_classes", "pred_classes"), str),
    **{"intended_use": str, "references": list},
}
#: The bundle specification wants modality, is_patch_data and channel_def too.
OF_TENSORS = {
    **dict.fromkeys(("type", "format", "modality", "dtype"), str),
    **{"num_channels": int, "spatial_shape": list, "value_range": list, "is_patch_data": bool},
    "channel_def": dict,
}


def test_metadata_are_as_the_schema_and_the_specification_ask(bundle):
    said = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert said["schema"].endswith("/meta_schema_20240725.json")
    assert said.keys() >= MANDATORY.keys()
    known = MANDATORY | OPTIONAL
    assert {key: type(said[key]) for key in said if key in known} == {
        key: known[key] for key in said if key in known
    }
    # It knows no other key but for names, which it leaves to the user.
    assert said.keys() - known.keys() == {"name"}
    assert said["network_data_format"].keys() == {"inputs", "outputs"}
    for tensors in said["network_data_format"].values():
        for tensor in tensors.values():
            assert {key: type(value) for key, value in tensor.items()} == OF_TENSORS
            assert {type(side) for side in tensor["spatial_shape"]} <= {str, int}
            assert {type(value) for value in tensor["value_range"]} <= {int, float}
            assert list(tensor["channel_def"]) == [str(index) for index in range(tensor["num_channels"])]


def test_what_is_missing_is_said(bundle, tmp_path):
    for config, kind, said in (
        ("inference.json", SlideError, "--slide PATH"),
        ("train.json", TrainingError, "--manifest FILE"),
    ):
        with pytest.raises(RuntimeError) as caught:
            run_bundle(bundle, config, output_dir=str(tmp_path))
        reason: BaseException | None = caught.value
        while reason is not None and not isinstance(reason, kind):
            reason = reason.__cause__
        assert said in str(reason)
    with pytest.raises(SlideError, match="nothing is given"):
        slides_of([], output_dir=tmp_path)
    with pytest.raises(SlideError, match=r"none\.svs"):
        OpenSlided("slide")({"slide": str(tmp_path / "none.svs")})


def test_parts_of_two_bundles_are_refused(bundle, run, slide):
    from wsi_deform.export.networks import exported_networks

    parts = exported_networks(load_model(run))
    description = bundle / "configs" / "wsi_deform.json"
    model = model_of_parts(description, parts["segmentation"], parts["deformation"])
    assert model.segmentation is parts["segmentation"].network
    with pytest.raises(ModelError, match="deformation network is none"):
        SlideInferer(description)(Slide(slide), parts["segmentation"])
    with pytest.raises(ModelError, match="of the kind Identity"):
        model_of_parts(description, torch.nn.Identity(), parts["deformation"])
    parts["deformation"].network = torch.nn.Conv2d(3, 1, 1)
    with pytest.raises(ModelError, match="deformation network has other tensors"):
        model_of_parts(description, parts["segmentation"], parts["deformation"])
    (bundle / "broken.json").write_text("[]")
    with pytest.raises(ModelError, match=r"broken\.json: cannot be read"):
        model_of_parts(bundle / "broken.json", parts["segmentation"], parts["deformation"])
