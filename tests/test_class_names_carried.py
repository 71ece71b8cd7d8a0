"""Names in annotation files and groups of classes: every file that holds a class table carries them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_study import tiny_model, tiny_study

from wsi_deform.annotation.classes import ClassTable, class_table_from_data, read_class_table
from wsi_deform.config import read_config
from wsi_deform.distribute.out_folder import prepare_folder
from wsi_deform.export.folder import export_model
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.geojson import write_geojson
from wsi_deform.mask.tiff import write_mask
from wsi_deform.model_file import load_model
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.train.loop import train

TABLE = class_table_from_data(
    {
        "classes": ["background", {"name": "gland", "source_names": ["Gland", "acinus"]}, "stroma"],
        "unlabelled_names": ["unsure"],
        "regions": ["ROI"],
        "ignored": ["ruler"],
        "groups": {"tissue": ["gland", "stroma"]},
    },
    "test",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("run"), TABLE)


def test_a_stored_model_knows_them(run: Path):
    assert load_model(run).classes == TABLE


def test_a_model_without_them_is_stored_as_before_and_loads(tmp_path: Path):
    plain = ClassTable.from_names(TABLE.names)
    tiny_model(tmp_path, plain)
    stored = json.loads((tmp_path / "best.json").read_text())["classes"]
    assert stored.keys() == {"classes", "background", "unlabelled"}
    assert {key for each in stored["classes"] for key in each} == {"name", "color", "values"}
    assert load_model(tmp_path).classes == plain


def test_a_folder_of_masks_knows_them(tmp_path: Path):
    prepare_folder(MaskFolder(tmp_path), TABLE)
    assert read_class_table(tmp_path / "classes.json") == TABLE


def test_an_export_knows_them(run: Path, tmp_path: Path):
    out = export_model(run, format="torchscript", out=tmp_path / "exported")
    about = json.loads((out / "model.json").read_text())
    assert class_table_from_data(about["classes"], "export") == TABLE


def test_a_run_and_its_models_know_them(tmp_path: Path):
    study = tiny_study(tmp_path / "study", test=0)
    drawn = read_class_table(study.classes)
    names = tuple((f"file {name}",) for name in drawn.names)
    data = drawn.to_data()
    for entry, own in zip(data["classes"], names, strict=True):
        entry["source_names"] = list(own)
    small = ["networks.segmentation={name: hrnetv2, width: 2, stem_stride: 4}", "sampling.budget=[12, 48]"]
    config = read_config(changes=[*small, "training.epochs=1", "training.workers=0"])
    train(config, read_manifest(study.manifest), class_table_from_data(data, "t"), tmp_path / "run")
    assert read_class_table(tmp_path / "run" / "classes.json").source_names == names
    assert load_model(tmp_path / "run").classes.source_names == names


def test_names_of_written_outlines_mean_their_classes_again(tmp_path: Path):
    size = Size(32, 16)
    samples = FieldSamples(
        kept=Region.whole(size),
        points_px=np.array([[4.0, 8.0], [16.0, 8.0], [28.0, 8.0]]),
        labels=np.array([0, 1, 2], np.uint8),
    )
    write_mask(tmp_path / "a.ome.tif", ReverseSampler([samples], size=size).tiles(), size=size, mpp=0.5)
    write_geojson(tmp_path / "a.geojson.gz", tmp_path / "a.ome.tif", classes=TABLE)
    features = json.loads(gzip.decompress((tmp_path / "a.geojson.gz").read_bytes()))["features"]
    names = [each["properties"]["classification"]["name"] for each in features]
    assert TABLE.indices_of_sources(names) == {"gland": 1, "stroma": 2}
