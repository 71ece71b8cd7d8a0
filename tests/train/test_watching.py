import csv
import json
import logging

import pytest
import torch
from safetensors.torch import load_file
from stopping import StopAfter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import TrainingError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.train.keep import kept_epochs
from wsi_deform.train.log import COLUMNS
from wsi_deform.train.loop import train

TINY = [
    "sampling.budget=[12, 24]",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 3, validate_every: 1, batch: 2, threads: 1, pictures: 0}",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=3, val=1, test=0, seed=3, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


def table(run):
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def scores(monkeypatch):
    """What the validations of a run find, one after the other."""
    found = []

    def validate(model, validation, **_):
        return dict.fromkeys(("val_miou", "val_miou_without_background"), found.pop(0))

    monkeypatch.setattr("wsi_deform.train.loop.validate", validate)
    return found


class Noting(StopAfter):
    """Notes what it is told, and may ask to stop after so many steps."""

    def __init__(self, steps=10**9):
        super().__init__(steps)
        self.started = {}
        self.rows = []

    def start(self, **told):
        self.started = told

    def epoch(self, row):
        self.rows.append(row)


def test_log_says_where_the_time_goes_and_what_is_seen(study, tmp_path):
    watcher = Noting()
    config = read_config(changes=[*TINY, "training.pictures=1", "training.epochs=2"])
    train(config, *study, tmp_path, watcher=watcher)
    rows = table(tmp_path)
    assert tuple(rows[0]) == COLUMNS
    for row in rows:
        parts = [float(row[f"{name}_seconds"]) for name in ("read", "forward", "backward")]
        assert all(part > 0 for part in parts)
        assert sum(parts) <= float(row["seconds"])
        samples = watcher.started["samples"]
        assert float(row["samples_per_second"]) == pytest.approx(samples / float(row["seconds"]))
        assert float(row["labelled_share"]) == 1.0
    assert watcher.started["samples"] == 3 * 12 * 24
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["epoch-0002.png"]
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    assert set(found.Tags()["scalars"]) == set(COLUMNS) - {"epoch"}
    (tag,) = found.Tags()["images"]
    assert [each.step for each in found.Images(tag)] == [1, 2]


def test_the_newest_validated_models_are_kept(study, tmp_path):
    train(read_config(changes=[*TINY, "training.keep=2"]), *study, tmp_path)
    assert kept_epochs(tmp_path) == [2, 3]
    assert json.loads((tmp_path / "epoch-0002.json").read_text())["epoch"] == 2
    last, kept = (load_file(tmp_path / f"{name}.safetensors") for name in ("last", "epoch-0003"))
    assert all(torch.equal(last[name], kept[name]) for name in last)


def test_a_run_that_gets_no_better_stops_early_also_across_a_resumption(study, tmp_path, scores, caplog):
    scores += [0.3, 0.5, 0.5, 0.4, 0.3, 0.6]
    config = read_config(changes=[*TINY, "training.epochs=50", "training.patience=2"])
    watcher = Noting(7)  # in the fourth epoch of two steps
    assert not train(config, *study, tmp_path, watcher=watcher, stop=watcher.asked).finished
    with caplog.at_level(logging.INFO, logger="wsi_deform.train.loop"):
        result = train(config, *study, tmp_path)
    assert result.finished
    assert result.stopped_early
    assert (result.epochs, result.best, result.best_epoch) == (4, 0.5, 2)
    assert "stopped after epoch 4: 2 validations without one better than 0.500 in epoch 2" in caplog.text
    assert json.loads((tmp_path / "best.json").read_text())["epoch"] == 2
    assert len(table(tmp_path)) == 4

    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    watcher = Noting()
    assert train(config, *study, tmp_path, watcher=watcher) == result
    assert watcher.started == {}
    assert files == {path: path.stat().st_mtime_ns for path in files}

    patient = read_config(changes=[*TINY, "training.epochs=6", "training.patience=4"])
    with pytest.raises(TrainingError, match="other config"):
        train(patient, *study, tmp_path)  # another number of epochs is another schedule
    patient = read_config(changes=[*TINY, "training.epochs=50", "training.patience=4"])
    watcher = Noting(4)
    train(patient, *study, tmp_path, watcher=watcher, stop=watcher.asked)
    assert [row["epoch"] for row in watcher.rows] == [5]


def test_validation_of_one_class_chooses_no_model_and_stops_no_run(study, tmp_path, monkeypatch):
    only = {"labelled": ["background"], "over": [], "absent": ["sheets"]}
    monkeypatch.setattr("wsi_deform.train.loop.validate", lambda *_, **__: {"miou_classes": only})
    config = read_config(changes=[*TINY, "training.patience=1"])
    result = train(config, *study, tmp_path)
    assert (result.epochs, result.best, result.best_epoch, result.stopped_early) == (3, None, None, False)
    assert result.miou_classes.text() == "cannot be measured: the labels hold only class 'background'"
    assert not (tmp_path / "best.safetensors").exists()
    assert json.loads((tmp_path / "last.json").read_text())["metrics"]["miou_classes"] == only
    assert [row["val_miou"] for row in table(tmp_path)] == ["", "", ""]
    assert (tmp_path / "curves.png").is_file()


def test_the_result_says_which_classes_its_best_mean_is_over(study, tmp_path, monkeypatch):
    found = [
        {
            "val_miou": miou,
            "val_miou_without_background": miou,
            "miou_classes": {"labelled": ["a", "b"], **classes},
        }
        for miou, classes in (
            (0.25, {"over": ["a", "b"], "absent": ["c"]}),
            (0.5, {"over": ["a", "b", "c"], "absent": []}),
            (0.125, {"over": ["a", "b"], "absent": ["c"]}),
        )
    ]
    monkeypatch.setattr("wsi_deform.train.loop.validate", lambda *_, **__: found.pop(0))
    result = train(read_config(changes=TINY), *study, tmp_path)
    assert (result.best, result.best_epoch) == (0.5, 2)
    assert result.miou_classes.text() == "over 3 of 3 classes (in no label and counted as 0: c)"


def test_every_so_many_epochs_and_the_last_are_validated(study, tmp_path, scores):
    scores += [0.25, 0.5, 0.375]
    config = read_config(changes=[*TINY, "training.epochs=5", "training.validate_every=2"])
    result = train(config, *study, tmp_path)
    assert [row["val_miou"] for row in table(tmp_path)] == ["", "0.25", "", "0.5", "0.375"]
    assert (result.best, result.best_epoch, result.epochs) == (0.5, 4, 5)


def test_checkpoints_are_half_a_minute_apart_unless_told_otherwise(study, tmp_path, monkeypatch):
    asked = {}

    def start_run(*_, **options):
        asked.update(options)
        raise StopIteration

    monkeypatch.setattr("wsi_deform.train.loop.start_run", start_run)
    with pytest.raises(StopIteration):
        train(read_config(changes=TINY), *study, tmp_path)
    assert asked["checkpoint_every_s"] == 30
    assert not asked["stop"]()


def test_a_run_that_reaches_its_last_epoch_did_not_stop_early(study, tmp_path, scores):
    scores += [0.3, 0.2]
    config = read_config(changes=[*TINY, "training.epochs=2", "training.patience=1"])
    result = train(config, *study, tmp_path)
    assert result.finished
    assert not result.stopped_early


def test_averaged_weights_are_validated_and_stored_and_resume_bit_for_bit(study, tmp_path):
    config = read_config(changes=[*TINY, "optimiser.ema=0.9", "optimiser.warmup_epochs=0.5"])
    train(config, *study, tmp_path / "whole")
    for steps in (1, 2):
        watcher = Noting(steps)
        assert not train(config, *study, tmp_path / "parts", watcher=watcher, stop=watcher.asked).finished
    train(config, *study, tmp_path / "parts")
    for name in ("last", "best", "checkpoint"):
        one, two = (load_file(tmp_path / run / f"{name}.safetensors") for run in ("whole", "parts"))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[tensor], two[tensor]) for tensor in one)
    whole, parts = table(tmp_path / "whole"), table(tmp_path / "parts")
    changing = ("seconds", "read_seconds", "forward_seconds", "backward_seconds", "samples_per_second")
    assert [{k: v for k, v in row.items() if k not in changing} for row in whole] == [
        {k: v for k, v in row.items() if k not in changing} for row in parts
    ]
    last, state = (load_file(tmp_path / "whole" / f"{name}.safetensors") for name in ("last", "checkpoint"))
    name = "deformation.body.0.weight"
    assert torch.equal(last[name], state[f"extra.average.{name}"])
    assert not torch.equal(last[name], state[f"model.{name}"])
    assert int(state["extra.average_updates"]) == 6
