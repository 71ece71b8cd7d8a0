"""A run that is killed at any moment goes on from its checkpoint to the same weights, bit for bit."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model_file import load_model
from wsi_deform.train.loop import train

SETTINGS = [
    "sampling.budget=[12, 24]",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 4, validate_every: 2, batch: 1, threads: 1, pictures: 0}",
    "optimiser.ema=0.9",
    "device=cpu",
]
# A checkpoint after every step, and a pause at the moment of the kill: before a checkpoint is moved into place, right
# after that, or between two steps. Children of one process, because importing torch takes longer than training here.
WORKER = """
import os, signal, sys, time
from pathlib import Path
import matplotlib.figure, numba, torch, torch.utils.tensorboard
import monai.networks.nets
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.manifest.read import read_manifest
from wsi_deform.train import checkpoint, loop
from wsi_deform.train.watcher import NullWatcher

folder, run, settings = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
replace = Path.replace

def child(moment, number):
    calls = 0

    def pause(at):
        nonlocal calls
        calls += at == moment
        if at == moment and calls == number:
            (folder / "now").touch()
            time.sleep(600)

    def slow_replace(path, target):
        checkpoints = Path(target).name == checkpoint.NAME
        if checkpoints:
            pause("before the move")
        replace(path, target)
        if checkpoints:
            pause("after the move")

    class Slow(NullWatcher):
        def step(self, **facts):
            pause("between steps")

    Path.replace = slow_replace
    loop.train(
        read_config(changes=settings), read_manifest(folder / "manifest.csv"),
        read_class_table(folder / "classes.yaml"), run, watcher=Slow(), seconds_between_checkpoints=0,
    )
    os._exit(0)

for moment, number in (("before the move", 2), ("after the move", 3), ("between steps", 4)):
    process = os.fork()
    if process == 0:
        child(moment, number)
    deadline = time.monotonic() + 300
    while not (folder / "now").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WTERMSIG(status) != signal.SIGKILL:
        sys.exit(f"ended by itself before {moment}")
    (folder / "now").unlink()
    if any(run.glob(".aside-*")) != (moment == "before the move"):
        sys.exit(f"killed {moment}: found {list(run.iterdir())}")
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    draw_study(folder, train=3, val=1, test=0, seed=3, size=Size(512, 256))
    return folder


def go_on(study: Path, run: Path, **options: float) -> None:
    manifest, classes = read_manifest(study / "manifest.csv"), read_class_table(study / "classes.yaml")
    assert train(read_config(changes=SETTINGS), manifest, classes, run, **options).finished


def state(run: Path) -> dict[str, torch.Tensor]:
    """Everything in a checkpoint that is a number of the training itself."""
    with safe_open(run / "checkpoint.safetensors", framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def uninterrupted(study, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole")
    go_on(study, run)
    return run


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(study, uninterrupted, tmp_path, forked):
    """One run folder, killed three times with SIGKILL, each time at another moment."""
    script, run = tmp_path / "worker.py", tmp_path / "run"
    script.write_text(WORKER)
    run.mkdir()
    worker = forked(
        *(script, study, run, *SETTINGS), said=tmp_path / "said", variables={"OMP_NUM_THREADS": "1"}
    )
    assert worker.wait() == 0, worker.said()
    go_on(study, run)
    assert not any(run.glob(".aside-*"))
    whole, parts = state(uninterrupted), state(run)
    assert whole.keys() == parts.keys()
    assert any(name.startswith("extra.average") for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    for name in ("last.safetensors", "best.safetensors"):
        one, two = load_model(uninterrupted / name).state_dict(), load_model(run / name).state_dict()
        assert all(torch.equal(one[each], two[each]) for each in one)


def curve(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as file:
        return [
            {name: value for name, value in row.items() if "seconds" not in name and "per_second" not in name}
            for row in csv.DictReader(file)
        ]


def test_the_same_seed_gives_the_same_curve_however_often_checkpoints_are_written(
    study, uninterrupted, tmp_path
):
    go_on(study, tmp_path, seconds_between_checkpoints=0)
    whole, often = state(uninterrupted), state(tmp_path)
    assert all(torch.equal(whole[name], often[name]) for name in whole)
    assert curve(tmp_path) == curve(uninterrupted)
    assert len(curve(tmp_path)) == 4


def test_a_model_whose_saving_was_cut_short_is_whole_again_when_its_run_goes_on(
    study, uninterrupted, tmp_path
):
    """Killed between the two files: the JSON is the new one, and the new tensors do not yet have their place."""
    run = shutil.copytree(uninterrupted, tmp_path / "run")
    best, begun = run / "best.safetensors", run / ".next-best.safetensors"
    wanted = load_model(best).state_dict()
    best.replace(begun)
    tensors = load_file(begun)
    save_file({name: tensor.flatten().roll(1).view(tensor.shape) for name, tensor in tensors.items()}, best)
    go_on(study, run)
    assert not begun.exists()
    found = load_file(best)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
