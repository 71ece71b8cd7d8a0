"""Training fields get the samples that segmentation would give them, also in a run that was stopped."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from stopping import StopAfter

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.cover import budgets_of
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ConfigError, TrainingError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.train.allocation import allocated_fields
from wsi_deform.train.loop import train
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.start import start_run

TINY = [
    "sampling.budget=[16, 16]",
    "fields={side_um: 64, whole_below_mm2: 0, margin: 0.1, allocation: density}",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    # Large, so that shares of fields change within an epoch.
    "optimiser.deformation_learning_rate=0.5",
    "training={epochs: 3, validate_every: 2, batch: 4, threads: 1, pictures: 0}",
    "device=cpu",
]


class Redness(torch.nn.Module):
    """A deformation network without weights to learn: the logit of a cell is its centred red."""

    def forward(self, view):
        return 4 * view[:, :1]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=2, val=1, test=0, seed=3, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


def started(study, folder, *changes, ranks=None):
    config = read_config(changes=[*TINY, *changes])
    return start_run(config, *study, folder, None, ranks=ranks or Ranks(), checkpoint_every_s=0.0)


def sizes(items):
    return [item.size for item in items]


def stored_sizes(folder):
    with safe_open(folder / "checkpoint.safetensors", framework="pt") as opened:
        return opened.get_tensor("extra.sizes").tolist() if "extra.sizes" in opened.keys() else None  # noqa: SIM118


def test_training_fields_have_the_samples_that_segmentation_gives_them(study, tmp_path):
    run = started(study, tmp_path)
    equal = sizes(run.views.items)
    assert len(equal) >= 12
    run.model.deformation = Redness()
    run.allocate()
    found = sizes(run.views.items)
    slides = {item.slide: None for item in run.views.items}
    assert found == [budget.size for slide in slides for budget in budgets_of(slide, run.model)]
    assert len(set(found)) > 2
    assert 0.8 < sum(size.area for size in found) / sum(size.area for size in equal) < 1.05
    index, view, fractions = run.views[0]
    assert view.shape[1:] == fractions.shape[1:] == found[0].shape


def test_sharing_out_changes_nothing_of_the_model(study, tmp_path):
    """Normalised by running statistics, as in segmentation, and these stay as they are."""
    run = started(study, tmp_path, "networks.deformation.zero_init_head=false")
    run.model.train()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.allocate()
    after = run.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_shares_stay_until_the_next_validation_is_due(study, tmp_path):
    run = started(study, tmp_path)
    run.model.deformation = Redness()
    equal = sizes(run.views.items)
    for epoch, step in ((0, 1), (1, 0), (3, 0)):
        run.counters.epoch, run.counters.step = epoch, step
        run.allocate()
        assert sizes(run.views.items) == equal
    run.counters.epoch, run.counters.step = 2, 0
    run.allocate()
    assert sizes(run.views.items) != equal


def test_equal_budgets_stay_and_take_nothing_of_a_checkpoint(study, tmp_path):
    run = started(study, tmp_path, "fields.allocation=equal")
    run.model.deformation = Redness()
    equal, views = sizes(run.views.items), run.views
    run.allocate()
    assert sizes(run.views.items) == equal
    assert run.views is views
    run.save_checkpoint()
    assert stored_sizes(tmp_path) is None


def test_a_stopped_run_goes_on_with_the_shares_it_had_bit_for_bit(study, tmp_path):
    manifest, classes = study
    config = read_config(changes=TINY)
    assert train(config, manifest, classes, tmp_path / "whole").finished
    seen = []
    for steps in (2, 3, 4):
        watcher = StopAfter(steps)
        assert not train(
            config, manifest, classes, tmp_path / "parts", watcher=watcher, stop=watcher.asked
        ).finished
        seen.append(stored_sizes(tmp_path / "parts"))
    assert train(config, manifest, classes, tmp_path / "parts").finished
    seen.append(stored_sizes(tmp_path / "parts"))
    assert seen[0] != seen[-1]
    tensors = []
    for name in ("whole", "parts"):
        with safe_open(tmp_path / name / "checkpoint.safetensors", framework="pt") as opened:
            tensors.append({key: opened.get_tensor(key) for key in opened.keys()})  # noqa: SIM118
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])


class OneOfTwo(Ranks):
    """A process that hears what another one said before."""

    def __init__(self, rank, others):
        super().__init__(rank=rank, world=2)
        self.others = others
        self.said = None

    def gather(self, value):
        self.said = value
        return [value, *self.others]


def test_each_process_looks_at_the_fields_of_its_slides_and_all_have_the_same(study, tmp_path):
    run = started(study, tmp_path)
    run.model.deformation = Redness()
    items = run.views.items
    alone = sizes(allocated_fields(items, run.model))
    slides = [item.slide for item in items]
    second = OneOfTwo(1, [dict(enumerate(alone))])
    allocated_fields(items, run.model, second)
    assert set(second.said) == {index for index, slide in enumerate(slides) if slide is not slides[0]}
    first = OneOfTwo(0, [second.said])
    assert sizes(allocated_fields(items, run.model, first)) == alone
    assert set(first.said) == {index for index, slide in enumerate(slides) if slide is slides[0]}


@pytest.mark.parametrize("density", ["uniform", "tissue", "edges"])
def test_allocation_by_a_map_that_nobody_learns_is_refused(study, tmp_path, density):
    with pytest.raises(ConfigError, match=rf"density {density}(.|\n)*Needed(.|\n)*fields.allocation=equal"):
        started(study, tmp_path / "run", f"sampling.density={density}")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_other_fields_is_refused(study, tmp_path):
    run = started(study, tmp_path)
    run.views.items = run.views.items[:-1]
    run.save_checkpoint()
    with pytest.raises(TrainingError, match=r"sizes of shape \(\d+, 2\)(.|\n)*Choose another --out"):
        started(study, tmp_path)
