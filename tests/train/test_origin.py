"""A run that starts from another model's weights, and a finished run that goes on for more epochs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.cli.main import typer_app
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ModelError, TrainingError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.train.loop import TrainingResult, train
from wsi_deform.train.origin import start_from

SETTINGS = [
    "sampling.budget=[12, 24]",
    "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}",
    "training={epochs: 2, validate_every: 2, batch: 1, threads: 1, pictures: 0}",
    "device=cpu",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of drawn slides, with a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("study")
    draw_study(folder, train=1, val=1, test=0, size=Size(320, 160), mpp=0.5, slides_per_patient=1)
    assert trained(folder, folder / "run").finished
    return folder


def trained(
    study: Path, run: Path, *changes: str, said: list[str] | None = None, **options: Any
) -> TrainingResult:
    return train(
        read_config(changes=[*SETTINGS, *changes]),
        read_manifest(study / "manifest.csv"),
        read_class_table(study / "classes.yaml"),
        run,
        on_remark=[].append if said is None else said.append,
        **options,
    )


def model_of(*changes: str, classes: ClassTable) -> Model:
    torch.manual_seed(5)
    return Model(config=read_config(changes=[*SETTINGS, *changes]), classes=classes, mpp=0.5)


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open() as opened:
        return list(csv.DictReader(opened))


def own_classes(study: Path) -> ClassTable:
    return read_class_table(study / "classes.yaml")


@pytest.mark.parametrize("name", ["run", "run/best.json", "run/best.safetensors"])
def test_the_same_classes_take_every_tensor(study: Path, name: str) -> None:
    model = model_of(classes=own_classes(study))
    origin = start_from(model, study / name)
    stored = load_file(study / "run" / "best.safetensors")
    assert origin.taken == tuple(model.state_dict())
    assert (origin.heads, origin.anew, origin.unused) == ((), (), ())
    assert all(torch.equal(tensor, stored[key]) for key, tensor in model.state_dict().items())
    assert (
        origin.text()
        == f"weights of {study / 'run' / 'best.safetensors'}: {len(stored)} of {len(stored)} tensors taken."
    )


@pytest.mark.parametrize("classes", [["background", "x"], None])
def test_the_layer_that_scores_classes_starts_anew_where_classes_or_their_order_differ(
    study: Path, classes: list[str] | None
) -> None:
    names = list(own_classes(study).names)
    # Another number of them, or the same ones in another order, whose tensors have the same shapes.
    table = ClassTable.from_names(classes or [names[0], *reversed(names[1:])])
    model = model_of(classes=table)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    random_state = torch.random.get_rng_state()
    origin = start_from(model, study / "run")
    assert torch.equal(torch.random.get_rng_state(), random_state)
    stored = load_file(study / "run" / "best.safetensors")
    after = model.state_dict()
    assert {key.rpartition(".")[0] for key in origin.heads} == {origin.heads[0].rpartition(".")[0]}
    assert len(origin.heads) == 2
    for key, tensor in after.items():
        assert torch.equal(tensor, before[key] if key in origin.heads else stored[key]), key
    assert (
        f"anew, for its classes are {', '.join(names)}: {origin.heads[0]}, {origin.heads[1]}" in origin.text()
    )


def test_a_network_that_the_model_has_not_starts_anew_and_one_that_the_run_has_not_is_not_used(
    study: Path, tmp_path: Path
) -> None:
    uniform = model_of("sampling.density=uniform", classes=own_classes(study))
    origin = start_from(uniform, study / "run")
    # Even samples have cells of one size, which are no channel.
    assert origin.anew == ("segmentation.backbone.conv1.weight",)
    assert {name.partition(".")[0] for name in origin.unused} == {"deformation"}
    assert "  not used, for this run has none of that name: deformation." in origin.text()
    trained(study, tmp_path / "uniform", "sampling.density=uniform")
    learned = start_from(model_of(classes=own_classes(study)), tmp_path / "uniform")
    assert {name.partition(".")[0] for name in learned.anew} == {"deformation", "segmentation"}
    assert [name for name in learned.anew if name.startswith("segmentation")] == [*origin.anew]
    assert " and " in learned.text().partition("anew, for it has none of that name and shape: ")[2]


def test_a_model_of_another_kind_is_refused_with_the_keys_that_differ(study: Path) -> None:
    model = model_of(
        "networks.segmentation.width=8", "networks.deformation.kernel=5", classes=own_classes(study)
    )
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(ModelError) as error:
        start_from(model, study / "run")
    assert "networks.segmentation.width 4 (here 8)" in str(error.value)
    assert "networks.deformation.kernel 3 (here 5)" in str(error.value)
    assert "networks.pretrained" not in str(error.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_a_run_says_what_it_took_keeps_it_and_goes_on_without_the_model(study: Path, tmp_path: Path) -> None:
    said: list[str] = []
    run = tmp_path / "tuned"
    steps = iter([False, True])
    stopped = trained(study, run, said=said, init_from=study / "run", stop=lambda: next(steps, True))
    assert not stopped.finished
    (line,) = said
    assert line.startswith(f"weights of {study / 'run' / 'best.safetensors'}: ")
    kept = json.loads((run / "init_from.json").read_text())
    assert (kept["path"], kept["anew"]) == (str(study / "run" / "best.safetensors"), [])
    assert trained(study, run, said=said).finished
    assert len(said) == 1
    assert json.loads((run / "last.json").read_text())["init_from"] == kept
    # The first step began where the model ended.
    assert float(rows_of(run)[0]["loss"]) < float(rows_of(study / "run")[0]["loss"])
    load_model(run)


def test_a_run_of_another_origin_does_not_go_on(study: Path, tmp_path: Path) -> None:
    trained(study, tmp_path / "tuned", init_from=study / "run")
    with pytest.raises(
        TrainingError, match=r"weights to start from: --init-from with SHA-256 \w{12} \(now --init"
    ):
        trained(study, tmp_path / "tuned", init_from=tmp_path / "tuned" / "last.json")
    with pytest.raises(
        TrainingError, match=r"weights to start from: none \(now --init-from with SHA-256 \w{12}\)"
    ):
        trained(study, study / "run", init_from=tmp_path / "tuned")


def test_a_finished_run_goes_on_for_more_epochs_at_the_rates_of_the_longer_run(
    study: Path, tmp_path: Path
) -> None:
    run, said = tmp_path / "run", list[str]()
    trained(study, run)
    result = trained(study, run, "training.epochs=4", said=said)
    assert (result.finished, result.epochs) == (True, 4)
    assert said == [
        "goes on after its 2 epochs to 4: learning rates are those of a run of 4 epochs from here on, 0.5 of the "
        "start's, and fall to 0 again"
    ]
    rows = rows_of(run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    # One step an epoch: of 2 epochs the cosine's start and middle, then its middle and third quarter of 4.
    rates = [float(row["learning_rate"]) for row in rows]
    assert rates == pytest.approx([2e-3, 1e-3, 1e-3, 2.928932e-4], rel=1e-5)
    with pytest.raises(
        TrainingError, match=r"config: training\.epochs 4 \(now 2\)\. Needed the same to go on"
    ):
        trained(study, run)


def test_more_epochs_are_for_finished_runs_and_change_nothing_else(study: Path, tmp_path: Path) -> None:
    stopped = trained(study, tmp_path / "run", stop=lambda: True)
    assert not stopped.finished
    with pytest.raises(
        TrainingError, match=r"training\.epochs 2 \(now 4\).*this one is in epoch 1: finish it first"
    ):
        trained(study, tmp_path / "run", "training.epochs=4")
    with pytest.raises(TrainingError, match=r"seed 0 \(now 1\), training\.epochs 2 \(now 4\)"):
        trained(study, study / "run", "training.epochs=4", "seed=1")


def test_what_differs_is_named_with_both_values(study: Path) -> None:
    table = ClassTable.from_names([*own_classes(study).names[:-1], "other"])
    with pytest.raises(TrainingError) as error:
        train(
            read_config(changes=[*SETTINGS, "training.batch=2", "loss.focal_gamma=2"]),
            read_manifest(study / "manifest.csv"),
            table,
            study / "run",
        )
    last = own_classes(study).names[-1]
    assert "was started with other batch 1 (now 2); " in str(error.value)
    assert f"; classes (now without {last} and with other); config: loss.focal_gamma 0.0 (now 2.0). " in str(
        error.value
    )


def test_the_command_fine_tunes_and_says_so(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    changes = [part for setting in SETTINGS for part in ("--set", setting)]
    arguments = [
        "train",
        "--slides",
        study / "manifest.csv",
        "--out",
        out,
        "--init-from",
        study / "run",
        "--config",
        "joint",
        *changes,
    ]
    done = CliRunner().invoke(typer_app, [*map(str, arguments), "--allow-empty-classes"])
    assert done.exit_code == 0, done.output
    assert f"{out}: weights of {study / 'run' / 'best.safetensors'}: " in done.stdout
    assert f"{out}: 2 epochs, " in done.stdout
