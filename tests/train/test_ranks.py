"""Two processes against one: batch normalisation, gradients, whole curves, and what happens when one is lost."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ranks_worker
import torch

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import parse_config, read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import TrainingError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.train.loop import train
from wsi_deform.train.ranks import Ranks, joined_ranks, without_idle_parameters
from wsi_deform.train.watcher import NullWatcher

SETTINGS = {
    "sampling": {"budget": [12, 24]},
    "networks": {
        "segmentation": {"name": "monai:BasicUNet", "features": [4, 4, 4, 4, 4, 4], "norm": "batch"}
    },
    "augmentation": {"flip_x": True, "shift_cells": 1.0, "warp_cells": 0.3},
    "loss": {"weighting": "area"},
    "device": "cpu",
}
# Losses of a step agree to float rounding; over a few steps Adam enlarges that.
RELATIVE = 1e-5
# Kernels round batches of 2 and of 4 differently, and within three epochs Adam makes 1e-7 into 2e-4.
CURVE_RELATIVE = 1e-3
WAIT_S = 300


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    draw_study(folder, train=5, val=2, test=0, seed=3, size=Size(512, 256))
    return folder


def started(world: int, *arguments: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]


@pytest.fixture(scope="module")
def of_two(study, tmp_path_factory):
    """What each of two processes found."""
    out = tmp_path_factory.mktemp("out")
    processes = started(2, str(Path(ranks_worker.__file__)), json.dumps(SETTINGS), str(study), str(out))
    said = [process.communicate(timeout=WAIT_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return [torch.load(out / f"rank{rank}.pt") for rank in range(2)]


def test_batch_norm_over_two_processes_is_that_of_the_whole_batch(of_two):
    whole = ranks_worker.batch_norm_results(Ranks())
    for number, rows in enumerate((3, 5, 1)):
        for name in (f"out{number}", f"gradient{number}"):
            first, second = (found["batch_norm"][name] for found in of_two)
            torch.testing.assert_close(first, whole[name][0::2])
            if rows > 1:
                torch.testing.assert_close(second, whole[name][1::2])
        for name in (f"weight{number}", f"bias{number}"):
            for found in of_two:
                torch.testing.assert_close(found["batch_norm"][name], whole[name])
    for found in of_two:
        torch.testing.assert_close(found["batch_norm"]["evaluated"], whole["evaluated"])
        assert {name for name in whole if name.startswith("state")} == {
            name for name in found["batch_norm"] if name.startswith("state")
        }
        for name in whole:
            if name.startswith("state"):
                torch.testing.assert_close(found["batch_norm"][name], whole[name])


def test_losses_and_gradients_of_two_processes_are_those_of_the_whole_batch(of_two, study):
    """Also with two shapes in a batch, an uneven split, and a process without a field of its own."""
    whole = ranks_worker.step_results(Ranks(), parse_config(SETTINGS, source="test"), study)
    for found in of_two:
        assert found["step"].keys() == whole.keys()
        for name, value in whole.items():
            # Rounding grows in deep layers of one or two values per channel; biases before batch normalisation
            # have gradients that are nothing but rounding.
            most = 2e-4 * float(value.double().abs().max()) + 1e-6
            assert float((found["step"][name].double() - value.double()).abs().max()) < most, name


def test_processes_hear_each_other(of_two):
    for found in of_two:
        assert found["gathered"] == [0, 1]
        assert found["any"] == [True, False]


class StopAfter(NullWatcher):
    """Asks to stop after so many epochs."""

    def __init__(self, epochs):
        self.left = epochs

    def epoch(self, row):
        self.left -= 1

    def asked(self):
        return self.left <= 0


def curve(run: Path) -> list[float]:
    with (run / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_have_the_curve_of_one_and_survive_the_loss_of_one(study, tmp_path):
    """One process with batch 4; two with batch 2, of which one is killed; then one goes on from their checkpoint."""
    settings = [
        f"sampling.budget={SETTINGS['sampling']['budget']}",
        f"networks.segmentation={json.dumps(SETTINGS['networks']['segmentation'])}",
        "device=cpu",
    ]
    many = "training={epochs: 100000, validate_every: 2, threads: 1, pictures: 0, batch: %d}"
    run = tmp_path / "two"
    # Drawn by a seed for its curve: no training slide has the class "large acini".
    arguments = ["train", "--slides", str(study / "manifest.csv"), "--out", str(run), "--allow-empty-classes"]
    for setting in [*settings, many % 2]:
        arguments += ["--set", setting]
    first, second = started(2, "-m", "wsi_deform", *arguments)
    deadline = time.monotonic() + WAIT_S
    while not ((run / "log.csv").is_file() and len(curve(run)) >= 3) and time.monotonic() < deadline:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    second.kill()
    killed = time.monotonic()
    said, _ = first.communicate(timeout=WAIT_S)
    second.communicate()
    assert first.returncode == 2, said
    assert "another process was lost" in said
    assert "Traceback" not in said
    assert time.monotonic() - killed < 120
    found = curve(run)

    manifest, classes = read_manifest(study / "manifest.csv"), read_class_table(study / "classes.yaml")
    config = read_config(changes=[*settings, many % 4])
    watcher = StopAfter(3)
    train(config, manifest, classes, tmp_path / "one", watcher=watcher, stop=watcher.asked)
    expected = curve(tmp_path / "one")
    assert found[:2] == pytest.approx(expected[:2], rel=CURVE_RELATIVE)
    # What rounding leaves grows about tenfold an epoch: 4e-6, 2e-4, 2e-3 of the loss were seen.
    assert found[2] == pytest.approx(expected[2], rel=10 * CURVE_RELATIVE)

    watcher = StopAfter(1)
    resumed = train(config, manifest, classes, run, watcher=watcher, stop=watcher.asked)
    assert resumed.epochs >= 1


def test_one_process_has_nothing_to_exchange():
    alone, values = Ranks(), torch.tensor([1.0, 2.0])
    assert alone.writes
    assert alone.sum(values) is values
    assert alone.gather("here") == ["here"]
    assert alone.share([1, 2, 3]) == [1, 2, 3]
    assert Ranks(rank=1, world=2).share([1, 2, 3]) == [2]


def test_parameters_that_scores_do_not_depend_on_are_frozen_and_nothing_else():
    class Idle(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = torch.nn.Conv2d(3, 2, 1), torch.nn.Conv2d(3, 2, 1)

        def forward(self, image):
            return self.used(image)

    network = without_idle_parameters(Idle(), torch.zeros(1, 3, 4, 4))
    assert network.training
    assert [name for name, each in network.named_parameters() if each.requires_grad] == [
        "used.weight",
        "used.bias",
    ]


@pytest.mark.parametrize(
    ("device", "variables", "message"),
    [
        ("mps", {"WORLD_SIZE": "2"}, "needed cuda or cpu"),
        ("cpu", {"WORLD_SIZE": "two"}, "WORLD_SIZE='two'"),
    ],
)
def test_an_environment_that_does_not_fit_is_a_clear_error(monkeypatch, device, variables, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=message), joined_ranks(device):
        pass
