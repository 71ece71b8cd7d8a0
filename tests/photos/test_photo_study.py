"""Photographs without um per pixel through the real commands: check, train, segment, evaluate, report, export."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.errors import ConfigError
from wsi_deform.mask.samples import read_samples
from wsi_deform.model_file import load_model

PX_ONLY = ("--set", "fields.side_um=null", "--set", "sampling.coarsest_um=null")
TINY = (
    *("--config", "joint"),
    *(
        "--set",
        "sampling.budget=[16, 16]",
        "--set",
        "sampling.size=exact",
        "--set",
        "sampling.view_px=[12, 20]",
    ),
    *(
        "--set",
        "sampling.sigma_px=3",
        "--set",
        "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}",
    ),
    *("--set", "training.epochs=2", "--set", "training.validate_every=1", "--set", "device=cpu"),
    *("--set", "augmentation.transpose=true", "--set", "training.threads=1"),
)


def command(*arguments: object, fails: bool = False) -> str:
    done = CliRunner().invoke(typer_app, [str(each) for each in arguments])
    if fails:
        assert done.exit_code == 2
        return done.stderr
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four PNG of 90 x 60 px, green above soil, half of it white and half black as no tissue is; wide and high ones."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    lines = ["slide,patient,split,mask"]
    for number, split in enumerate(("train", "train", "val", "test")):
        labels = np.zeros((60, 90), np.uint8)
        labels[: 20 + 5 * number] = 1
        picture = np.where(labels[..., None] == 1, [30, 200, 40], [255, 255, 255])
        picture[labels == 0] *= (np.arange(90) % 2)[None, :].repeat(60, 0)[labels == 0][:, None]
        picture = np.clip(picture + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
        if number == 1:
            labels, picture = labels.T, picture.transpose(1, 0, 2)
        Image.fromarray(picture).save(folder / f"p{number}.png", dpi=(300, 300))
        Image.fromarray(labels).save(folder / f"p{number}_mask.png")
        lines.append(f"p{number}.png,{number},{split},p{number}_mask.png")
    (folder / "manifest.csv").write_text("\n".join(lines))
    # The green above is a class that a limit to tissue would leave; "soil" is one that it would cut.
    (folder / "classes.yaml").write_text("classes: [soil, green]\nbackground: green\n")
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path) -> Path:
    command("train", "--slides", photos / "manifest.csv", "--out", photos / "run", *PX_ONLY, *TINY)
    return photos / "run"


@pytest.fixture(scope="module")
def segmented(photos: Path, trained: Path) -> Path:
    command(
        *("segment", "--slides", photos / "manifest.csv", "--split", "test", "--model", trained),
        *("--out", photos / "out", "--device", "cpu"),
    )
    return photos / "out"


def test_a_manifest_of_photographs_is_right_with_a_remark(photos: Path) -> None:
    said = command("manifest", "check", photos / "manifest.csv")
    assert "no slide has um per pixel: they are taken for photographs" in said
    assert "4 slides, no problems" in said


def test_a_manifest_of_both_kinds_is_refused(photos: Path, tmp_path: Path) -> None:
    lines = (photos / "manifest.csv").read_text().splitlines()
    mixed = [f"{lines[0]},mpp", f"{lines[1]},0.5", *(f"{line}," for line in lines[2:])]
    (photos / "mixed.csv").write_text("\n".join(mixed))
    done = CliRunner().invoke(typer_app, ["manifest", "check", str(photos / "mixed.csv")])
    assert done.exit_code == 1
    (line,) = [line for line in done.output.splitlines() if "Needed an mpp of all slides, or of none" in line]
    assert line.startswith("- 3 rows, slide p1 (line 3): ")


def test_lengths_in_um_are_refused_before_training(photos: Path, tmp_path: Path) -> None:
    said = command("train", "--slides", photos / "manifest.csv", "--out", tmp_path / "run", *TINY, fails=True)
    assert "fields.side_um 2048 and sampling.coarsest_um 16 are in um" in said
    assert "fields.side_um=null" in said


def test_what_is_read_whole_in_um_is_refused_with_the_keys_in_px(photos: Path, tmp_path: Path) -> None:
    small = (
        "--set",
        "networks.segmentation={name: efficientnet-lite0, width: 4}",
        "--set",
        "networks.pretrained=null",
    )
    asked = ("train", "--slides", photos / "manifest.csv", "--out", tmp_path / "run", *small)
    said = command(*asked, fails=True)
    assert "config dense: fields.side_um 2048 and blocks.finest_um 5 are in um" in said
    assert (
        "fields.side_um=null (with fields.side_px, if images are to be cut) and blocks.finest_um=null with"
        in said
    )
    in_px = ("fields.side_um=null", "blocks.finest_um=null", "blocks.finest_px=2")
    changes = [part for change in (*in_px, "training.epochs=1") for part in ("--set", change)]
    command(*asked, *changes, "--device", "cpu")
    assert load_model(tmp_path / "run").config.blocks.finest_px == 2


def test_the_model_has_no_mpp_and_says_so(trained: Path) -> None:
    assert json.loads((trained / "best.json").read_text())["mpp"] is None
    model = load_model(trained)
    assert model.mpp is None
    card = (trained / "best.md").read_text()
    assert "Segments images into 2 classes" in card
    assert "no um per pixel" in card
    assert "sigma 3 px of the map" in card
    assert "16 x 16 samples per field" in card


def test_the_mask_has_no_physical_size_and_areas_are_in_pixels(segmented: Path) -> None:
    with tifffile.TiffFile(segmented / "masks" / "p3.ome.tif") as file:
        assert file.ome_metadata is not None
        assert "PhysicalSize" not in file.ome_metadata
        assert 'K="limited to tissue">no<' in file.ome_metadata.replace("'", '"')
        assert file.pages.first.tags["ResolutionUnit"].value == 1
        labels = file.asarray()
    assert labels.shape == (60, 90)
    with (segmented / "measurements.csv").open() as file_:
        rows = list(csv.DictReader(file_))
    assert [int(row["pixels"]) for row in rows] == np.bincount(labels.ravel(), minlength=2).tolist()
    assert {(row["mm2"], row["tissue_mm2"], row["share_of_tissue"]) for row in rows} == {("", "", "")}
    assert (segmented / "geojson" / "p3.geojson.gz").is_file()
    state = json.loads((segmented / "states" / "p3.json").read_text())
    assert state["remark"] == ""
    assert state["samples"] == 256
    assert read_samples(segmented / "samples" / "p3.npz").limit is None


def test_a_users_flag_limits_to_tissue_all_the_same(photos: Path, trained: Path, tmp_path: Path) -> None:
    command(
        *("segment", "--slides", photos / "p3.png", "--model", trained, "--out", tmp_path / "out"),
        *("--device", "cpu", "--limit-to-tissue"),
    )
    assert read_samples(tmp_path / "out" / "samples" / "p3.npz").limit is not None


def test_masks_of_photographs_are_measured_and_reported(photos: Path, trained: Path, segmented: Path) -> None:
    command(
        *("evaluate", "--slides", photos / "manifest.csv", "--masks", segmented),
        *("--classes", photos / "classes.yaml"),
    )
    data = json.loads((segmented / "evaluation.json").read_text())
    assert data["pooled"]["predicted"]["pixels"] == 60 * 90
    command("report", segmented)
    command("report", trained)
    assert "p3" in (segmented / "report.html").read_text()


def test_the_networks_are_exported_without_an_mpp(trained: Path, tmp_path: Path) -> None:
    command("export", trained, "--out", tmp_path / "out", "--format", "torchscript")
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["mpp"] is None
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "images without um per pixel" in readme
    assert "12 x 20 px (short x long side)" in readme
    assert "3 px of the map" in readme


def test_a_model_without_mpp_segments_a_slide_with_one_and_says_what_it_does_not_know(
    photos: Path, trained: Path, tmp_path: Path
) -> None:
    said = command(
        *("segment", "--slides", photos / "p3.png", "--model", trained, "--out", tmp_path / "out"),
        *("--device", "cpu", "--mpp", "0.5"),
    )
    assert "0.5 um per pixel, but the model was trained on images without" in said


def test_a_model_without_mpp_and_with_lengths_in_um_is_none(trained: Path, tmp_path: Path) -> None:
    about = json.loads((trained / "best.json").read_text())
    about["config"]["sampling"]["coarsest_um"] = 8.0
    (tmp_path / "best.json").write_text(json.dumps(about))
    (tmp_path / "best.safetensors").write_bytes((trained / "best.safetensors").read_bytes())
    with pytest.raises(ConfigError, match="coarsest_um 8 are in um"):
        load_model(tmp_path)
