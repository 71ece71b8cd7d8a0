"""Numbers of a run that are written down by hand: its identity, its balance, its pictures, its processes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.data.fields import LabelledField
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import TrainingError
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest, ManifestRow
from wsi_deform.model import Model
from wsi_deform.slide.open import open_slide
from wsi_deform.train import pictures, ranks
from wsi_deform.train.balance import Balance, balance_of
from wsi_deform.train.checkpoint import Counters
from wsi_deform.train.identity import check_identity, identity_of
from wsi_deform.train.ranks import Ranks, RanksBatchNorm, joined_ranks
from wsi_deform.train.run import Run
from wsi_deform.train.start import _check_ranks, _data_facts

CLASSES = ClassTable.from_names(["background", "gland"])


def identity(*changes, world=1):
    nothing = Manifest(rows=(), folder=Path())
    return identity_of(read_config(changes=changes), CLASSES, nothing, [], Ranks(world=world))


@pytest.mark.parametrize(
    "change",
    ["workers=3", "threads=3", "cache_gib=0.5", "keep=3", "pictures=1", "patience=3"],
)
def test_where_and_how_fast_a_run_computes_may_change(tmp_path, change):
    check_identity(tmp_path, identity(), identity(f"training.{change}", "device=cpu"))


def test_two_processes_with_a_batch_of_2_go_on_as_one_with_4(tmp_path):
    check_identity(tmp_path, identity("training.batch=4"), identity("training.batch=2", world=2))
    with pytest.raises(TrainingError, match=r"was started with other batch 4 \(now 2\)\. Needed the same"):
        check_identity(tmp_path, identity("training.batch=4"), identity("training.batch=2"))


def test_eight_settings_that_differ_are_named_and_the_others_counted(tmp_path):
    changes = [
        f"{key}=0.5" for key in ("sampling.sigma", "loss.edge_weight", "loss.focal_gamma", "fields.margin")
    ]
    changes += [
        f"augmentation.{key}=0.5" for key in ("shift_cells", "warp_cells", "rotate_degrees", "stain_jitter")
    ]
    with pytest.raises(TrainingError) as error:
        check_identity(tmp_path, identity(), identity(*changes, "seed=4", "optimiser.weight_decay=0.25"))
    assert str(error.value).count(" (now ") == 8
    assert " and 2 more. Needed the same to go on." in str(error.value)
    with pytest.raises(TrainingError) as error:
        check_identity(tmp_path, identity(), identity(*changes))
    assert str(error.value).count(" (now ") == 8
    assert "more" not in str(error.value)


def test_a_run_without_a_checkpoint_may_be_any(tmp_path):
    check_identity(tmp_path, {}, identity())


PIXELS = np.array([[300.4, 0.0], [100.0, 100.0]])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        # 400.4 and 100 px. Drawn with .25 and .75: .25 x 300.4 + .75 x 100 = 150.1 and 75.
        (
            {"class_weights": torch.tensor([0.5, 3.0]), "field_weights": [0.25, 0.75]},
            {"background": (400, 0.5, 150.1 / 225.1), "gland": (100, 3.0, 75 / 225.1)},
        ),
        ({}, {"background": (400, 1.0, 400.4 / 500.4), "gland": (100, 1.0, 100 / 500.4)}),
    ],
)
def test_what_was_decided_for_each_class_is_written(tmp_path, weights, expected):
    Balance(pixels=PIXELS, **weights).write(tmp_path / "balance.json", CLASSES)
    found = json.loads((tmp_path / "balance.json").read_text())
    shares = {"background": 400.4 / 500.4, "gland": 100 / 500.4}
    for name, (pixels, weight, drawn) in expected.items():
        assert found[name] == {
            "labelled_px": pixels,
            "share": pytest.approx(shares[name]),
            "weight": weight,
            "share_drawn": pytest.approx(drawn),
        }


@pytest.mark.parametrize(
    ("changes", "classes", "fields"),
    [
        ([], None, None),
        (["loss.class_weights=inverse"], [500.4 / 800.8, 500.4 / 200], None),
        (["training.rare_classes=1.0"], None, [300.4 / 800.8, (100 / 400.4 + 1) / 2]),
    ],
)
def test_classes_and_fields_are_weighed_where_it_is_asked_for(monkeypatch, changes, classes, fields):
    monkeypatch.setattr("wsi_deform.train.balance.class_pixels", lambda items: PIXELS)
    found = balance_of(read_config(changes=changes), [])
    assert (found.pixels is None) == (not changes)
    assert (None if found.class_weights is None else found.class_weights.tolist()) == (
        None if classes is None else pytest.approx(classes)
    )
    assert found.field_weights == (None if fields is None else pytest.approx(fields))


def test_a_card_counts_slides_and_patients_of_training_and_validation(tmp_path):
    rows = [
        ManifestRow(slide=tmp_path / f"{n}.svs", slide_id=str(n), split=split, patient=patient)
        for n, (split, patient) in enumerate(
            [("train", "a"), ("train", "a"), ("train", "b"), ("val", None), ("test", "c"), (None, None)]
        )
    ]
    found = _data_facts(Manifest(rows=tuple(rows), folder=tmp_path), fields=7)
    assert found["train"] == {"slides": 3, "patients": 2, "fields": 7}
    assert found["val"] == {"slides": 1}
    assert "test" not in found
    assert found["data_licences"] == {"not stated": 4}
    shuffled = _data_facts(Manifest(rows=tuple(rows[::-1]), folder=tmp_path / "elsewhere"), fields=7)
    assert shuffled["manifest_sha256"] == found["manifest_sha256"]
    assert len(found["manifest_sha256"]) == 64


def test_a_model_names_the_licences_of_the_slides_that_it_saw(tmp_path):
    said = [("train", "CC BY 4.0"), ("train", None), ("val", "CC BY 4.0"), ("train", "CC0"), ("test", "own")]
    rows = [
        ManifestRow(slide=tmp_path / f"{n}.svs", slide_id=str(n), split=split, data_licence=licence)
        for n, (split, licence) in enumerate(said)
    ]
    found = _data_facts(Manifest(rows=tuple(rows), folder=tmp_path), fields=1)["data_licences"]
    assert list(found.items()) == [("CC BY 4.0", 2), ("CC0", 1), ("not stated", 1)]


class Shares:
    """Labels with these shares of each class in every field, which notes how they are read."""

    def __init__(self, shares=None):
        self.shares, self.asked = shares or {}, []

    def cell_fractions(self, region, size):
        self.asked.append((region, size))
        shares = self.shares.get(region.x, (1.0, 0.0, 0.0))
        return np.broadcast_to(np.array(shares, np.float32)[:, None, None], (3, *size.shape))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A slide of 768 x 384 px of tissue, and a model whose fields are 48 px wide."""
    folder = tmp_path_factory.mktemp("drawn")
    made = draw_study(folder, train=0, val=1, test=0, size=Size(768, 384), seed=2)
    slide = open_slide(read_manifest(made.manifest).rows[0].slide)
    changes = [
        "sampling={budget: [12, 12], density: uniform}",
        "fields={side_um: 24, whole_below_mm2: 0, margin: 0}",
        "networks.segmentation={name: hrnetv2, width: 2, stem_stride: 4}",
    ]
    classes = ClassTable.from_names(["background", "gland", "tumour"])
    return slide, Model(config=read_config(changes=changes), classes=classes, mpp=0.5)


@pytest.mark.parametrize(("count", "read"), [(0, 0), (1, 0), (2, 2), (48, 48), (49, 25), (97, 33)])
def test_at_most_48_fields_of_a_slide_are_looked_at_for_pictures(drawn, monkeypatch, count, read):
    slide, model = drawn
    fields = tuple(Field(region := Region(n, 0, 48, 48), region) for n in range(count))
    monkeypatch.setattr(pictures, "fields_of", lambda slide, model: fields)
    labels = Shares()
    found = pictures.chosen_fields(model, [(slide, labels)], max_fields=1000)
    assert len(labels.asked) == read
    assert len(found) == max(read, min(count, 1))
    assert {size for _, size in labels.asked} <= {Size(32, 32)}


def test_several_classes_are_worth_more_than_much_of_one_and_the_background_little(drawn, monkeypatch):
    slide, model = drawn
    shares = {
        0: (0.0, 0.0, 0.02),  # sqrt .02 = .141
        1: (1.0, 0.0, 0.0),  # .1 sqrt 1
        2: (0.4, 0.3, 0.3),  # .063 + 2 x .548
        3: (0.2, 0.8, 0.0),  # .045 + .894
        4: (0.0, 0.0, 0.009),  # .095
    }
    fields = tuple(Field(region := Region(n, 0, 48, 48), region) for n in shares)
    monkeypatch.setattr(pictures, "fields_of", lambda slide, model: fields)
    found = pictures.chosen_fields(model, [(slide, Shares(shares))], max_fields=5)
    assert [item.field.region.x for item in found] == [2, 3, 0, 1, 4]


def test_the_title_of_a_field_says_where_it_lies_and_what_is_seen_of_it(drawn):
    slide, _ = drawn

    def title(region, size):
        field = Field(region, region)
        return pictures._title(LabelledField(slide=slide, labels=None, field=field, size=size, map_size=size))

    assert title(Region(64, 32, 480, 240), Size(24, 12)) == (
        f"{slide.slide_id}:  480 x 240 px at (64, 32), 24 x 12 samples, 1 / 400 of the pixels"
    )
    assert title(Region(0, 0, 768, 384), Size(12, 6)) == (
        f"{slide.slide_id}:  768 x 384 px, 12 x 6 samples, 1 / 4,096 of the pixels"
    )


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False},
                                     {"track_running_stats": False}])  # fmt: skip
@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (2, 4, 3)])
def test_normalisation_of_one_process_is_that_of_torch(options, shape):
    torch.manual_seed(0)
    kind = torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d
    own, theirs = kind(4, **options), kind(4, **options)
    for layer in (own, theirs):
        if layer.affine:
            torch.nn.init.constant_(layer.weight, 1.5)
            torch.nn.init.constant_(layer.bias, 0.25)
    own = RanksBatchNorm(own, Ranks())
    for training in (True, True, False):
        inputs = torch.randn(shape) * 3 + 1
        results = []
        for layer in (own, theirs):
            layer.train(training)
            given = inputs.clone().requires_grad_()
            out = layer(given)
            (out**3).sum().backward()
            results.append((out.detach(), given.grad))
        torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(dict(own.named_buffers())[name], buffer)


def test_one_value_is_normalised_by_what_was_seen_before():
    layer = RanksBatchNorm(torch.nn.BatchNorm2d(2), Ranks())
    layer.running_mean.fill_(3.0)
    layer.running_var.fill_(4.0)
    found = layer(torch.full((1, 2, 1, 1), 7.0))
    torch.testing.assert_close(found.flatten(), torch.tensor([2.0, 2.0]), rtol=1e-4, atol=1e-4)
    assert layer.running_mean.tolist() == [3, 3]
    assert int(layer.num_batches_tracked) == 0
    layer(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2).expand(1, 2, 1, 2))
    # Two values of mean 2 and unbiased variance 2: a tenth of the way.
    torch.testing.assert_close(layer.running_mean, torch.full((2,), 2.9))
    torch.testing.assert_close(layer.running_var, torch.full((2,), 3.8))


@pytest.fixture
def joined(monkeypatch):
    """Joins processes that are not there; what torch was asked for."""
    asked = {}

    def init(backend, *, timeout):
        asked.update(backend=backend, timeout=timeout)

    monkeypatch.setattr(ranks.dist, "init_process_group", init)
    monkeypatch.setattr(ranks.dist, "destroy_process_group", lambda: asked.update(left=True))
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", ranks.TIMEOUT_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: asked.update(gpu=index))
    return asked


def test_processes_wait_half_an_hour_for_each_other_unless_told_otherwise(joined, monkeypatch):
    with joined_ranks("cpu") as alone:
        assert (alone.rank, alone.world, joined) == (0, 1, {})
    monkeypatch.setenv("WORLD_SIZE", "3")
    with joined_ranks("cpu") as first:
        assert (first.rank, first.world, first.writes) == (0, 3, True)
        assert joined == {"backend": "gloo", "timeout": timedelta(seconds=1800)}
    assert joined["left"]
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WSI_DEFORM_RANKS_TIMEOUT_S", "2.5")
    with joined_ranks("cuda:0") as third:
        assert (third.rank, third.writes, str(third.device)) == (2, False, "cuda:1")
    assert (joined["backend"], joined["timeout"], joined["gpu"]) == ("nccl", timedelta(seconds=2.5), 1)


def test_a_process_without_a_gpu_of_its_own_is_refused(joined, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(TrainingError, match=r"process 2 of 3: 2 GPUs here, needed 3"), joined_ranks("cuda"):
        pass


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("Gloo connectFullMesh failed"), True),
        (RuntimeError("\n[Rank 1] Timed out\nmore"), True),
        (RuntimeError("Connection reset by peer"), True),
        (torch.distributed.DistError("odd"), True),
        (torch.distributed.DistError(""), True),
        (RuntimeError("shapes do not match\nconnection"), False),
        (RuntimeError(""), False),
    ],
)
def test_only_what_says_so_is_the_loss_of_a_process(joined, monkeypatch, error, lost):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError if lost else RuntimeError) as caught, joined_ranks("cpu"):
        raise error
    assert joined["left"]
    if lost:
        reason = str(error).strip().split("\n")[0] or "DistError"
        assert f"process 0 of 2: another process was lost or silent for too long: {reason}. " in str(
            caught.value
        )
    else:
        assert caught.value is error


def test_counting_is_for_the_block():
    found = Ranks()
    with found.counting(False):
        assert not found.counted
    assert found.counted


def test_settings_of_a_step_are_of_the_whole_batch():
    """Two processes with batches of 3 share batches of 6."""
    asked = SimpleNamespace(
        training=SimpleNamespace(batch=3, fields_per_slide=None, mixed_shapes=True), seed=1
    )
    item = SimpleNamespace(shape=(Size(8, 8), Size(8, 8), None))
    run = SimpleNamespace(
        config=asked, field_weights=None, views=SimpleNamespace(items=[item] * 13), ranks=Ranks(world=2)
    )
    assert sorted(len(batch) for batch in Run.batches(run, epoch=0)) == [1, 6, 6]


@pytest.mark.parametrize(("share", "most"), [(0.0, None), (0.25, 25)])
def test_fields_are_moved_where_it_is_asked_for(share, most):
    part = Region(0, 0, 1000, 1000)
    field = Field(region := Region(450, 450, 100, 100), region)
    slide = SimpleNamespace(region=part)
    fields = [LabelledField(slide=slide, labels=None, field=field, size=Size(8, 8), map_size=Size(8, 8))] * 50
    moved = []
    run = SimpleNamespace(
        config=SimpleNamespace(augmentation=SimpleNamespace(move=share), seed=3),
        fields=fields,
        counters=SimpleNamespace(epoch=2),
        views=SimpleNamespace(move=moved.extend),
    )
    Run.move(run)
    assert len(moved) == (50 if share else 0)
    if share:
        assert 15 < max(abs(each.field.region.x - 450) for each in moved) <= most


def test_processes_that_found_different_checkpoints_do_not_start(tmp_path):
    class Others(Ranks):
        def gather(self, value):
            return [value, (4, 0)]

    _check_ranks(tmp_path, Counters(epoch=4), Others())
    with pytest.raises(TrainingError, match=r"different \(epoch, step\): \[\(4, 1\), \(4, 0\)\]"):
        _check_ranks(tmp_path, Counters(epoch=4, step=1), Others())


def test_a_run_is_finished_after_its_last_epoch_or_its_patience():
    def state(epoch, waited, patience):
        run = SimpleNamespace(
            config=SimpleNamespace(training=SimpleNamespace(epochs=10, patience=patience)),
            counters=SimpleNamespace(epoch=epoch, waited=waited),
        )
        run.stopped_early = Run.stopped_early.fget(run)
        return run.stopped_early, Run.finished.fget(run)

    assert state(9, 3, None) == (False, False)
    assert state(10, 3, None) == (False, True)
    assert state(9, 2, 3) == (False, False)
    assert state(9, 3, 3) == (True, True)
    assert state(10, 3, 3) == (False, True)
