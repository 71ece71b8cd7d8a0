"""Training of a model that reads fields in blocks: resumed, from other weights, with what a run may be told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from blocks_study import SETTINGS
from safetensors import safe_open
from stopping import StopAfter

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ConfigError, ModelError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.train.loop import train
from wsi_deform.train.origin import start_from

TRAINING = ("training={epochs: 2, validate_every: 2, batch: 2, threads: 1, pictures: 1}", "optimiser.ema=0.9")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    draw_study(folder, train=3, val=1, test=0, seed=3, size=Size(512, 256))
    return folder


def trained(study, run, *changes, **options):
    return train(
        read_config(changes=[*SETTINGS, *TRAINING, *changes]),
        read_manifest(study / "manifest.csv"),
        read_class_table(study / "classes.yaml"),
        run,
        **options,
    )


@pytest.fixture(scope="module")
def uninterrupted(study, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole")
    assert trained(study, run).finished
    return run


def state(run: Path) -> dict[str, torch.Tensor]:
    with safe_open(run / "checkpoint.safetensors", framework="pt") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118


def test_a_run_of_blocks_that_was_stopped_goes_on_to_the_same_weights_bit_for_bit(
    study, uninterrupted, tmp_path
):
    # Three fields in batches of two: the second of the first epoch's steps is the last that is done.
    stop = StopAfter(3)
    assert not trained(study, tmp_path, watcher=stop, stop=stop.asked).finished
    assert trained(study, tmp_path).finished
    whole, parts = state(uninterrupted), state(tmp_path)
    assert whole.keys() == parts.keys()
    assert any(name.startswith("extra.average") for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    one, two = (load_model(run / "last.safetensors").state_dict() for run in (uninterrupted, tmp_path))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_every_network_of_blocks_learns(study, uninterrupted):
    model = load_model(uninterrupted / "last.safetensors")
    torch.manual_seed(0)
    start = Model(config=model.config, classes=model.classes, mpp=model.mpp).state_dict()
    for part in ("backbone", "joins.2", "context", "scorers.0", "scorers.1", "merges.0", "merges.2", "head"):
        name = next(name for name in start if f"segmentation.{part}" in name and name.endswith("weight"))
        assert not torch.equal(model.state_dict()[name], start[name]), name


def test_a_run_starts_from_blocks_of_other_classes(study, uninterrupted):
    stored = load_model(uninterrupted / "last.safetensors")
    classes = read_class_table(study / "classes.yaml")
    more = type(classes).from_names([*classes.names, "another"])
    model = Model(config=read_config(changes=SETTINGS), classes=more, mpp=0.5)
    origin = start_from(model, uninterrupted)
    assert set(origin.heads) == {"segmentation.head.4.weight", "segmentation.head.4.bias"}
    assert (origin.anew, origin.unused) == ((), ())
    given, own = stored.state_dict(), model.state_dict()
    assert all(torch.equal(own[name], given[name]) for name in origin.taken)
    # Whether the encoder learns is no other kind of network.
    frozen = "networks.segmentation={name: efficientnet-lite0, width: 8, frozen: true}"
    assert (
        start_from(
            Model(config=read_config(changes=[*SETTINGS, frozen]), classes=classes, mpp=0.5), uninterrupted
        ).heads
        == ()
    )
    warp = Model(
        config=read_config(changes=["networks.segmentation={name: hrnetv2, width: 4}"]),
        classes=classes,
        mpp=0.5,
    )
    with pytest.raises(ModelError, match="sampling.geometry is blocks, here warp"):
        start_from(warp, uninterrupted)


@pytest.mark.parametrize(
    "changes",
    [
        ("augmentation={rotate_degrees: 30, transpose: true, move: 0.2, shift_cells: 0, warp_cells: 0}",),
        ("training.precision=bfloat16", "loss.class_weights=inverse", "training.rare_classes=1"),
        ("fields.side_um=100", "fields.whole_below_mm2=0", "fields.cut_to_tissue=true"),
        ("loss.segmentation=monai:DiceCELoss", "blocks.choice=detail", "training.mixed_shapes=true"),
        ("blocks.choice=labels", "blocks.margin_px=16"),
        ("blocks.levels=1", "networks.stain=macenko"),
        ("blocks.label_px=2", "blocks.margin_px=16"),
    ],
    ids=[
        "turned and moved",
        "bfloat16, rare classes",
        "cut to tissue",
        "Dice",
        "oracle, margin",
        "one level",
        "finer labels",
    ],
)
def test_what_a_run_may_be_told_goes_with_blocks(study, tmp_path, changes):
    found = trained(study, tmp_path, "training.epochs=1", "training.validate_every=1", *changes)
    assert found.finished
    model = load_model(tmp_path / "last.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["training.compile=true"], "blocks with training.compile True: needed False"),
        (["loss.edge_weight=0"], "nothing would teach the scorers. Needed an edge_weight above 0"),
    ],
)
def test_what_blocks_cannot_do_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        read_config(changes=[*SETTINGS, *changes])
