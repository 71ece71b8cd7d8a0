"""Edge-based sampling from manifest to mask: a network learns positions, is frozen, and the other is trained."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from stopping import StopAfter

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.cover import budgets_of, view_of
from wsi_deform.data.study import open_labelled
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ConfigError, ModelError, TrainingError
from wsi_deform.export.folder import export_model
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.report.run import report_run
from wsi_deform.sampled_fields import sample_fields
from wsi_deform.segment import segment_slide
from wsi_deform.train import positions
from wsi_deform.train.loop import train
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.start import start_run
from wsi_deform.train.watcher import NullWatcher

TINY = [
    "name=edge based",
    "sampling.density=edge_based",
    "sampling.budget=[16, 32]",
    "sampling.edge_lattice=4",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 2, auxiliary_epochs: 3, validate_every: 1, batch: 2, threads: 1}",
    "augmentation={shift_cells: 1.0, warp_cells: 0.3, flip_y: true}",
]
FIRST_PHASE_STEPS = 6  # 3 epochs of 4 slides in batches of 2


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=4, val=1, test=1, seed=3, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


@pytest.fixture(scope="module")
def run(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert train(read_config(changes=TINY), *study, folder).finished
    return folder


class Noting(StopAfter):
    """Notes what starts; may raise after so many steps, as a process that is killed."""

    def __init__(self, steps=10**9, *, killed=False):
        super().__init__(steps)
        self.killed = killed
        self.started = []
        self.rows = []
        self.losses = []

    def start(self, **told):
        self.started.append(told)

    def epoch(self, row):
        self.rows.append(row)

    def step(self, **told):
        super().step(**told)
        self.losses.append(told["loss"])
        if self.killed and self.left <= 0:
            raise KeyboardInterrupt


def weights(folder, name="last"):
    return load_file(folder / f"{name}.safetensors")


def test_the_frozen_network_is_the_one_that_the_first_phase_left(run):
    stored = load_file(run / "positions.checkpoint.safetensors")
    first = {
        name.removeprefix("extra."): tensor for name, tensor in stored.items() if name.startswith("extra.")
    }
    last = weights(run)
    assert {name for name in last if name.startswith("positions.")} == first.keys()
    # Batch normalisation's running statistics too.
    assert any(name.endswith("running_mean") for name in first)
    assert all(torch.equal(last[name], tensor) for name, tensor in first.items())
    assert not any(name.startswith("deformation.") for name in last)


def test_the_first_phase_comes_nearer_to_the_solved_positions(study, tmp_path):
    changes = [*TINY, "training.auxiliary_epochs=30", "training.epochs=1"]
    train(read_config(changes=changes), *study, tmp_path)
    with (tmp_path / "positions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 30
    errors = [float(row["rms_cells"]) for row in rows]
    assert errors[-1] < 0.7 * float(rows[-1]["undeformed_rms_cells"])


def test_the_rate_of_the_first_phase_falls_along_a_cosine_step_by_step(run):
    with (run / "positions.csv").open() as file:
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    rate = read_config(changes=TINY).optimiser.deformation_learning_rate
    # In the second of two steps of each of three epochs.
    assert rates == pytest.approx([rate * (1 + math.cos(math.pi * at / 6)) / 2 for at in (1, 3, 5)])


def test_errors_are_root_mean_squares_in_cells_over_what_may_move(study, tmp_path):
    watcher = Noting()
    config = read_config(changes=[*TINY[:-1], "training.auxiliary_epochs=1", "augmentation.flip_x=false"])
    started = start_run(
        config, *study, tmp_path, None, ranks=Ranks(), checkpoint_every_s=0.0, watcher=watcher
    )
    with (tmp_path / "positions.csv").open() as file:
        (row,) = csv.DictReader(file)
    squares = 0.0
    for item in started.views.items:
        fractions = torch.from_numpy(item.labels.cell_fractions(item.field.region, item.map_size))[None]
        found = started.model.target_of(fractions)[0].double().numpy()
        x, y = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 5))
        squares += ((found[..., 0] - x) ** 2).sum() * 8**2 + ((found[..., 1] - y) ** 2).sum() * 4**2
    # Of 9 x 5 points x may move in 7 columns, y in 3 rows.
    assert float(row["undeformed_rms_cells"]) == pytest.approx(math.sqrt(squares / (4 * 62)), rel=1e-4)
    assert watcher.rows[0]["loss"] == pytest.approx(float(row["rms_cells"]) ** 2)
    assert watcher.losses[0] > 0


def test_a_frozen_network_asks_for_no_gradient_and_stays_in_evaluation_mode(study, run):
    started = start_run(read_config(changes=TINY), *study, run, None, ranks=Ranks(), checkpoint_every_s=1e9)
    model = started.model.train()
    assert model.segmentation.training
    assert not any(module.training for module in model.positions.modules())
    assert not any(each.requires_grad for each in model.positions.parameters())
    trained = {id(each) for group in started.optimiser.param_groups for each in group["params"]}
    assert trained == {id(each) for each in model.segmentation.parameters()}


@pytest.mark.parametrize("ema", ["null", "0.9"])
def test_stopped_in_either_phase_it_goes_on_to_the_same_weights_bit_for_bit(study, tmp_path, ema):
    config = read_config(changes=[*TINY, f"optimiser.ema={ema}"])
    train(config, *study, tmp_path / "whole")
    # In the middle of an epoch of the first phase, after its last step, in the second phase.
    for steps in (3, FIRST_PHASE_STEPS - 3, 1):
        watcher = Noting(steps)
        assert not train(config, *study, tmp_path / "parts", watcher=watcher, stop=watcher.asked).finished
    last = Noting()
    assert train(config, *study, tmp_path / "parts", watcher=last).finished
    assert [told.get("phase", "") for told in last.started] == [""]
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (tmp_path / "parts" / "positions.csv").read_text().count("\n") == 4


@pytest.mark.parametrize("steps", [4, FIRST_PHASE_STEPS, FIRST_PHASE_STEPS + 2])
def test_killed_in_either_phase_it_goes_on_to_the_same_weights_bit_for_bit(study, run, tmp_path, steps):
    config = read_config(changes=TINY)
    with pytest.raises(KeyboardInterrupt):
        train(config, *study, tmp_path, watcher=Noting(steps, killed=True), seconds_between_checkpoints=0)
    assert train(config, *study, tmp_path).finished
    one, two = weights(run), weights(tmp_path)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_checkpoint_of_the_first_phase_is_due_when_the_newest_is_old_enough(study, tmp_path, monkeypatch):
    now, found = 1000.0, []

    class Ticking(NullWatcher):
        """Every step takes half a minute."""

        def step(self, *, epoch, step, loss):
            nonlocal now
            now += 30.0

    def noting(folder, networks, optimiser, counters, **options):
        found.append((counters.epoch, counters.step))

    def stopped(model, views, phase):
        raise StopIteration(learn(model, views, phase))

    learn = positions.learn_positions
    monkeypatch.setattr(positions, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(positions, "save_checkpoint", noting)
    monkeypatch.setattr("wsi_deform.train.start.learn_positions", stopped)
    config = read_config(changes=[*TINY, "training.batch=1", "training.auxiliary_epochs=2"])
    with pytest.raises(StopIteration):
        start_run(config, *study, tmp_path, None, ranks=Ranks(), checkpoint_every_s=90.0, watcher=Ticking())
    # After three of the four steps of the first epoch, three steps later, and at the end.
    assert found == [(0, 3), (1, 2), (2, 0)]


def test_a_first_phase_of_other_settings_is_not_continued(study, tmp_path):
    watcher = Noting(2)
    train(read_config(changes=TINY), *study, tmp_path, watcher=watcher, stop=watcher.asked)
    with pytest.raises(TrainingError, match=r"sampling.edge_smoothness 1.0 \(now 2.0\)"):
        train(read_config(changes=[*TINY, "sampling.edge_smoothness=2.0"]), *study, tmp_path)


def test_the_watcher_is_told_of_both_phases(study, tmp_path):
    watcher = Noting()
    train(read_config(changes=[*TINY, "training.epochs=1"]), *study, tmp_path, watcher=watcher)
    assert [(told.get("phase", ""), told["epochs"], told["steps"]) for told in watcher.started] == [
        ("positions", 3, 2),
        ("", 1, 2),
    ]


def test_slides_are_segmented_at_the_predicted_positions(study, run):
    manifest, classes = study
    slide, labels = open_labelled(manifest.of_split("test")[0], classes)
    model = load_model(run)
    assert not model.training
    segmented = segment_slide(slide, model)
    mask = segmented.reverse().region(Region(0, 0, 512, 256))
    assert mask.shape == (256, 512)
    assert set(np.unique(mask)) <= set(range(classes.count))
    (budget,) = budgets_of(slide, model)
    view = view_of(slide, budget.field, model.map_size(budget.size))[None]
    with torch.no_grad():
        sampled = sample_fields(model, [slide], [budget.field], view, size=budget.size)
        lattice = model.lattice(view)
    assert sampled.density is None
    assert float(sampled.areas.sum()) == pytest.approx(1, abs=0.05)  # folds count twice
    points = segmented.fields[0].points_px / [512, 256]
    assert np.abs(points - sampled.grid[0].reshape(-1, 2).numpy()).max() < 1e-6
    assert lattice.shape == (1, 5, 9, 2)
    assert lattice[0, :, 0, 0].tolist() == [0] * 5


def test_oracle_positions_lie_nearer_to_borders_than_even_ones(study):
    manifest, classes = study
    slide, labels = open_labelled(manifest.of_split("test")[0], classes)
    found = {}
    for density in ("uniform", "edge_positions"):
        config = read_config(changes=[*TINY, f"sampling.density={density}", "sampling.edge_lattice=8"])
        model = Model(config=config, classes=classes, mpp=0.5).eval()
        assert model.positions is None
        points = segment_slide(slide, model, labels=labels).fields[0].points_px
        # Whether another class lies within 3 px to any side.
        around = [labels.at_points(points + offset) for offset in ([0, 0], [3, 0], [-3, 0], [0, 3], [0, -3])]
        found[density] = float((np.ptp(around, axis=0) > 0).mean())
    assert found["edge_positions"] > 2 * found["uniform"] > 0
    with pytest.raises(ModelError, match="density edge_positions: an oracle"):
        segment_slide(slide, model)


def test_report_and_card_say_what_it_is(run):
    card = (run / "last.md").read_text()
    assert "at positions that a network, trained before all else, expects near class borders" in card
    assert "network of positions: trained first, for 3 epochs, then frozen" in card
    assert "positions: edge based, lattice of 4 cells along the short side, lambda 1" in card
    page = report_run(run).read_text()
    assert "predicts positions near class borders for 512 samples per field" in page
    assert json.loads((run / "last.json").read_text())["config"]["sampling"]["density"] == "edge_based"


@pytest.mark.parametrize("format", ["torchscript", "monai-bundle"])
def test_an_export_is_refused(run, tmp_path, format):
    with pytest.raises(ModelError, match=r"network of positions \(sampling.density=edge_based\) cannot be"):
        export_model(run, format=format, out=tmp_path / "out")
    assert not Path(tmp_path / "out").exists()


def test_what_has_no_meaning_without_a_map_is_refused(study, tmp_path):
    with pytest.raises(ConfigError, match=r"fields.allocation density, sampling.density edge_based"):
        train(read_config(changes=[*TINY, "fields.allocation=density"]), *study, tmp_path)
    _, classes = study
    model = Model(config=read_config(changes=TINY), classes=classes, mpp=0.5)
    with pytest.raises(ModelError, match="there is no map of density"):
        model.density(torch.zeros(1, 3, 8, 8))
    uniform = Model(config=read_config(changes=[*TINY, "sampling.density=uniform"]), classes=classes, mpp=0.5)
    with pytest.raises(ModelError, match="this model has no lattice"):
        uniform.lattice(torch.zeros(1, 3, 8, 8))


def test_every_process_takes_the_whole_first_phase_and_the_same_steps(study, run, tmp_path, monkeypatch):
    """A process of two: what it says to the other is heard here, and its batches are those of both."""

    class OneOfTwo(Ranks):
        def gather(self, value):
            return [value, value]

        def sum(self, values):
            return values

    config = read_config(changes=[*TINY, "training.batch=1"])
    found = {}
    learn = positions.learn_positions

    def noting(model, views, phase):
        done = learn(model, views, phase)
        found.update({name: tensor.clone() for name, tensor in model.positions.state_dict().items()})
        raise StopIteration(done)

    monkeypatch.setattr("wsi_deform.train.start.learn_positions", noting)
    with pytest.raises(StopIteration):
        start_run(
            config,
            *study,
            tmp_path,
            None,
            ranks=OneOfTwo(rank=1, world=2),
            checkpoint_every_s=0.0,
            watcher=NullWatcher(),
        )
    assert not list(tmp_path.iterdir())  # process 0 alone writes
    last = weights(run)
    assert all(torch.equal(last[f"positions.{name}"], tensor) for name, tensor in found.items())
