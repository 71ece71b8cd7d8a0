import csv
import json

import pytest
import torch
from stopping import StopAfter

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model_file import load_model
from wsi_deform.train.loop import train

# 48 of 512 px: slides are turned, transposed, jittered, normalised, weighted and drawn by their classes.
EVERYTHING = [
    "sampling.budget=[12, 24]",
    "networks={stain: macenko, segmentation: {name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}}",
    "training={epochs: 2, batch: 2, threads: 1, rare_classes: 0.5}",
    "augmentation={flip_y: true, transpose: true, rotate_degrees: 20, stain_jitter: 0.1}",
    "loss.class_weights=effective",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=4, val=0, test=0, seed=3, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


def losses(run):
    with (run / "log.csv").open() as file:
        return [row["loss"] for row in csv.DictReader(file)]


def test_a_run_with_every_option_of_the_data_resumes_bit_for_bit_and_tells_its_weights(study, tmp_path):
    manifest, classes = study
    config = read_config(changes=EVERYTHING)
    assert train(config, manifest, classes, tmp_path / "whole").finished
    balance = (tmp_path / "whole" / "balance.json").read_text()
    for steps in (1, 2):
        watcher = StopAfter(steps)
        assert not train(
            config, manifest, classes, tmp_path / "parts", watcher=watcher, stop=watcher.asked
        ).finished
        assert (tmp_path / "parts" / "balance.json").read_text() == balance
    assert train(config, manifest, classes, tmp_path / "parts").finished
    one, two = (load_model(tmp_path / run / "last.safetensors").state_dict() for run in ("whole", "parts"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")

    found = json.loads(balance)
    assert list(found) == list(classes.names)
    seen = [each for each in found.values() if each["labelled_px"] > 0]
    assert sum(each["share"] * each["weight"] for each in seen) == pytest.approx(1)
    assert sum(each["share_drawn"] for each in seen) == pytest.approx(1)
    rarest, commonest = (pick(seen, key=lambda each: each["share"]) for pick in (min, max))
    assert rarest["weight"] > commonest["weight"]
    assert rarest["share_drawn"] >= rarest["share"]


def test_class_weights_change_the_training_and_none_writes_no_file(study, tmp_path):
    manifest, classes = study
    plain = [*EVERYTHING[:2], "training={epochs: 1, batch: 2, threads: 1}"]
    train(read_config(changes=plain), manifest, classes, tmp_path / "none")
    train(
        read_config(changes=[*plain, "loss.class_weights=inverse"]), manifest, classes, tmp_path / "inverse"
    )
    assert not (tmp_path / "none" / "balance.json").exists()
    assert losses(tmp_path / "none") != losses(tmp_path / "inverse")
