import csv
import json

import pytest
import torch
from stopping import StopAfter

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import TrainingError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest
from wsi_deform.model_file import load_model
from wsi_deform.train import step_loss
from wsi_deform.train.loop import train

TINY = [
    "sampling.budget=[12, 24]",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 3, validate_every: 1, batch: 2, threads: 1}",
    "augmentation={shift_cells: 1.0, warp_cells: 0.3, flip_y: true}",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=5, val=1, test=1, seed=3, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


def weights(run):
    return load_model(run / "last.safetensors").state_dict()


def test_interrupted_and_resumed_training_equals_uninterrupted_bit_for_bit(study, tmp_path):
    manifest, classes = study
    config = read_config(changes=TINY)
    whole = train(config, manifest, classes, tmp_path / "whole")
    assert whole.finished
    for steps in (2, 1, 2):  # in the middle of an epoch, after its last step, in the middle again
        watcher = StopAfter(steps)
        result = train(config, manifest, classes, tmp_path / "parts", watcher=watcher, stop=watcher.asked)
        assert not result.finished
        assert (tmp_path / "parts" / "last.safetensors").is_file()
    assert train(config, manifest, classes, tmp_path / "parts").finished
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], two[name]) for name in one)

    def losses(run):
        with (run / "log.csv").open() as file:
            return [(row["loss"], row["val_miou"], row["learning_rate"]) for row in csv.DictReader(file)]

    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    assert len(losses(tmp_path / "whole")) == 3


def test_a_run_folder_tells_what_it_is(study, tmp_path):
    manifest, classes = study
    config = read_config(changes=[*TINY, "training.epochs=1"])
    train(config, manifest, classes, tmp_path, command=["wsi-deform", "train"])
    assert read_config(tmp_path / "config.yaml") == config
    assert read_class_table(tmp_path / "classes.json") == classes
    about = json.loads((tmp_path / "best.json").read_text())
    assert about["mpp"] == pytest.approx(0.5)
    seen = about["trained_on"]
    assert (seen["slides"], seen["mpp"], seen["vendors"]) == (
        about["data"]["train"]["slides"],
        [0.5, 0.5],
        ["generic-tiff"],
    )
    assert 0 < seen["tissue_share"][0] <= seen["tissue_share"][1] < 1
    assert 0 <= about["metrics"]["val_miou"] <= 1
    assert about["provenance"]["seed"] == 0
    assert json.loads((tmp_path / "provenance.json").read_text())["command"] == ["wsi-deform", "train"]
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((tmp_path / "tensorboard").iterdir())
    model = load_model(tmp_path)
    assert not model.training
    assert model.classes.names == classes.names


def test_same_seed_gives_the_same_model_and_another_seed_another(study, tmp_path):
    manifest, classes = study
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        train(
            read_config(changes=[*TINY, f"seed={seed}", "training.epochs=1"]),
            manifest,
            classes,
            tmp_path / run,
        )
    a, b, c = (weights(tmp_path / run) for run in "abc")
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["deformation.body.0.weight"], c["deformation.body.0.weight"])


def test_uniform_density_trains_without_a_deformation_network(study, tmp_path):
    manifest, classes = study
    train(
        read_config(changes=[*TINY, "sampling.density=uniform", "training.epochs=1"]),
        manifest,
        classes,
        tmp_path,
    )
    assert not [name for name in weights(tmp_path) if name.startswith("deformation")]


def test_run_of_another_configuration_is_not_continued(study, tmp_path):
    manifest, classes = study
    train(read_config(changes=[*TINY, "training.epochs=1"]), manifest, classes, tmp_path)
    with pytest.raises(TrainingError, match=r"other config(.|\n)*--out"):
        train(
            read_config(changes=[*TINY, "training.epochs=1", "sampling.sigma=0.3"]),
            manifest,
            classes,
            tmp_path,
        )


def test_manifest_without_training_slides_is_refused(study, tmp_path):
    manifest, classes = study
    with pytest.raises(TrainingError, match='split "train"'):
        train(
            read_config(changes=TINY),
            Manifest(rows=manifest.of_split("test"), folder=manifest.folder),
            classes,
            tmp_path,
        )


def test_loss_that_is_not_finite_names_the_slides(study, tmp_path):
    manifest, classes = study
    hot = read_config(changes=[*TINY, "optimiser={learning_rate: 1.0e+30, clip_norm: null, decay: none}"])
    with pytest.raises(TrainingError, match=r"on slides P0\d\d-"):
        train(hot, manifest, classes, tmp_path)


def test_gradient_that_is_not_finite_names_the_slides(study, tmp_path, monkeypatch):
    manifest, classes = study
    focal_sums = step_loss.focal_sums

    def with_infinite_slope(scores, *given, **named):
        segmentation, weight = focal_sums(scores, *given, **named)
        zero = (scores - scores.detach()).abs().sum()
        return segmentation + zero.sqrt(), weight  # 0, with a slope of 0 / 0

    monkeypatch.setattr(step_loss, "focal_sums", with_infinite_slope)
    with pytest.raises(TrainingError, match=r"gradient is nan, of a loss of \d\.\d+, on slides P0\d\d-"):
        train(read_config(changes=TINY), manifest, classes, tmp_path)


def test_broken_checkpoint_is_a_clear_error(study, tmp_path):
    manifest, classes = study
    tmp_path.joinpath("checkpoint.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="Delete it"):
        train(read_config(changes=TINY), manifest, classes, tmp_path)
