"""One training step: several shapes, precisions, memory formats, compilation."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import parse_config
from wsi_deform.data.batches import load
from wsi_deform.data.fields import FieldViews
from wsi_deform.data.study import median_mpp, open_labelled
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.model import Model
from wsi_deform.sampled_fields import Sampled
from wsi_deform.train.schedule import optimiser_of
from wsi_deform.train.step import learner_of, training_step
from wsi_deform.train.step_loss import _sample_weights, change_of_step, hash_of, labels_of
from wsi_deform.train.training_fields import training_fields

SIZES = (Size(24, 12), Size(20, 14), Size(24, 12))
EDGE_WEIGHT = 0.5


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=3, val=0, test=0, seed=4, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


@pytest.fixture
def learner_and_views(study):
    def build(device="cpu", name="hrnetv2", channels_last=False, loss=None, **training):
        manifest, classes = study
        config = parse_config(
            {
                "sampling": {"budget": [12, 24]},
                "networks": {
                    "segmentation": {"name": "hrnetv2", "width": 4, "stem_stride": 1}
                    if name == "hrnetv2"
                    else {"name": name, "features": [4, 4, 4, 4, 4, 4]},
                    # From He, so that the grid is warped from the first step.
                    "deformation": {"zero_init_head": False},
                    "channels_last": channels_last,
                },
                "loss": {"weighting": "mixed"} if loss is None else loss,
                "training": training,
            },
            source="test",
        )
        torch.manual_seed(0)
        opened = [open_labelled(row, classes) for row in manifest.rows]
        model = Model(config=config, classes=classes, mpp=median_mpp([slide for slide, _ in opened]))
        items = [
            replace(item, size=size, map_size=size)
            for item, size in zip(training_fields(opened, model), SIZES, strict=True)
        ]
        model = model.to_device(device).train()
        return learner_of(model, optimiser_of(model)), FieldViews(items)

    return build


def gradients_of(model):
    return {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def backward(learner, batches):
    """Loss and gradients of a step whose normalisation does not depend on what is in the batch."""
    learner.model.eval()
    learner.optimiser.zero_grad()
    loss, numbers = learner.loss(batches, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(numbers["loss"], rel=1e-6)
    return numbers, gradients_of(learner.model)


def test_mixed_batch_has_the_losses_of_its_fields_one_by_one(learner_and_views):
    """Loss and gradient are the weighted means of those of the fields alone."""
    learner, views = learner_and_views()
    (mixed,) = load(views, [[0, 1, 2]], 0)
    assert [batch.places for batch in mixed] == [(0, 2), (1,)]
    together, gradients = backward(learner, mixed)
    alone = []
    for place, index in enumerate((0, 1, 2)):
        ((batch,),) = load(views, [[index]], 0)
        # At its place in the whole batch, so that it gets the same augmentation.
        alone.append(backward(learner, [replace(batch, places=(place,))]))
    # Weights of mean 1 per field: the labelled samples of each field count, weighted; here nearly all are labelled.
    weights = torch.tensor([weight_of(learner, views, place) for place in range(3)])
    shares = weights / weights.sum()
    expected = sum(
        float(share) * found["segmentation_loss"] for share, (found, _) in zip(shares, alone, strict=True)
    )
    assert together["segmentation_loss"] == pytest.approx(expected, rel=1e-5)
    assert together["edge_loss"] == pytest.approx(sum(found["edge_loss"] for found, _ in alone) / 3, rel=1e-5)
    assert together["loss"] == pytest.approx(
        together["segmentation_loss"] + EDGE_WEIGHT * together["edge_loss"], rel=1e-6
    )
    assert together["samples"] == 2 * 24 * 12 + 20 * 14
    # The deformation network learns from both terms, the segmentation network from one.
    for name in [name for name in gradients if name.startswith("segmentation")]:
        sum_of = sum(share * found[name] for share, (_, found) in zip(shares, alone, strict=True))
        assert_close_in_scale(gradients[name], sum_of)


def assert_close_in_scale(found, expected):
    """Equal but for rounding; untrained networks in evaluation mode have large scores."""
    assert float((found - expected).abs().max()) <= 1e-4 * float(expected.abs().max()) + 1e-7


def weight_of(learner, views, place):
    """The sum of the sample weights of a field, as the step counts it."""
    from wsi_deform.train.step_loss import field_sums

    ((batch,),) = load(views, [[place]], 0)
    batch = replace(batch, places=(place,))
    change = change_of_step(learner.model.config, batch, epoch=0, step=0)
    with torch.no_grad():
        return float(field_sums(learner.model, batch, change).weight)


def test_scores_of_a_mixed_batch_are_those_of_its_fields_one_by_one(learner_and_views):
    learner, views = learner_and_views()
    model = learner.model.eval()
    images = [torch.rand(3, size.height, size.width) * 255 for size in SIZES]
    with torch.no_grad():
        together = model.scores(torch.stack([images[0], images[2]]))
        for number, index in enumerate((0, 2)):
            assert_close_in_scale(together[number], model.scores(images[index][None])[0])


def test_a_change_of_a_field_depends_on_its_place_alone(learner_and_views):
    learner, views = learner_and_views()
    (mixed,) = load(views, [[0, 1, 2]], 0)
    config = learner.model.config
    (pair, single) = (change_of_step(config, batch, epoch=2, step=5) for batch in mixed)
    ((alone,),) = load(views, [[2]], 0)
    lonely = change_of_step(config, replace(alone, places=(2,)), epoch=2, step=5)
    assert torch.equal(pair.displacement[1], lonely.displacement[0])
    assert single.displacement[0].shape == (14, 20, 2)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_the_segmentation_network_and_nothing_else(learner_and_views, precision):
    learner, views = learner_and_views(precision=precision)
    full, _ = learner_and_views()
    seen = []
    learner.model.segmentation.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    learner.model.deformation.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    (mixed,) = load(views, [[0, 1, 2]], 0)
    found = training_step(learner, mixed, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    expected = training_step(full, mixed, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    assert seen == [torch.float32, getattr(torch, precision)] * 2
    assert found["segmentation_loss"] == pytest.approx(expected["segmentation_loss"], rel=0.05)
    assert found["edge_loss"] == pytest.approx(expected["edge_loss"], rel=1e-5)
    assert all(each.dtype == torch.float32 for each in learner.model.parameters())
    assert learner.scaler.is_enabled() == (precision == "float16")


def test_float16_scale_is_kept_and_restored(learner_and_views):
    learner, views = learner_and_views(precision="float16")
    (mixed,) = load(views, [[0, 1, 2]], 0)
    training_step(learner, mixed, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    state = learner.scale()
    assert state[0] > 1
    other, _ = learner_and_views(precision="float16")
    other.restore_scale(state / 2)
    assert other.scale().tolist() == [float(state[0]) / 2, float(state[1]) // 2]
    plain, _ = learner_and_views()
    plain.restore_scale(state)
    assert plain.scale().tolist() == [1, 0]


def test_memory_format_changes_neither_losses_nor_names(learner_and_views):
    learner, views = learner_and_views(channels_last=True)
    plain, _ = learner_and_views()
    (mixed,) = load(views, [[0, 1, 2]], 0)
    found = training_step(learner, mixed, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    expected = training_step(plain, mixed, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    # Rounding of the deformation map moves the grid, and with it what is read.
    assert found["loss"] == pytest.approx(expected["loss"], rel=5e-5)
    weights = [
        each for each in learner.model.segmentation.parameters() if each.dim() == 4 and each.shape[1] > 1
    ]
    assert all(each.is_contiguous(memory_format=torch.channels_last) for each in weights)
    assert list(learner.model.state_dict()) == list(plain.model.state_dict())


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own
def test_compilation_changes_no_names(learner_and_views):
    """Names are what checkpoints depend on; compiling itself takes minutes on a CPU."""
    learner, _ = learner_and_views(compile=True)
    plain, _ = learner_and_views()
    assert learner.model.segmentation._compiled_call_impl is not None
    assert list(learner.model.state_dict()) == list(plain.model.state_dict())
    assert copy.deepcopy(plain.model).segmentation._compiled_call_impl is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_step_on_cuda_has_the_losses_of_the_cpu(learner_and_views, precision):
    learner, views = learner_and_views(device="cuda", precision=precision, channels_last=True)
    plain, _ = learner_and_views()
    (mixed,) = load(views, [[0, 1, 2]], 0)
    found = training_step(learner, mixed, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    expected = training_step(plain, mixed, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-3 if precision == "float32" else 0.05)
    assert math.isfinite(float(learner.scale()[0]))


class Undecided(torch.nn.Module):
    """A segmentation network that gives all five classes the same score."""

    def __init__(self):
        super().__init__()
        self.score = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image):
        return self.score.expand(len(image), 5, *image.shape[2:])


@pytest.mark.parametrize(("gamma", "expected"), [(0, 1.6094379), (1, 1.2875503), (2, 1.0300403)])
def test_focal_gamma_takes_weight_from_what_is_labelled_well(learner_and_views, gamma, expected):
    """(1 - 1/5)^gamma ln 5."""
    learner, views = learner_and_views(loss={"focal_gamma": gamma})
    learner.model.segmentation = Undecided()
    (mixed,) = load(views, [[0, 1, 2]], 0)
    _, numbers = learner.loss(mixed, epoch=0, step=0, edge_weight=0.0)
    assert numbers["segmentation_loss"] == pytest.approx(expected, rel=1e-6)


def test_edge_loss_as_published_is_the_bare_squared_error_of_a_softmax_and_edges_of_class_numbers(
    learner_and_views,
):
    """A deformation network that says nothing gives 1 / N everywhere; scipy filters the class numbers."""
    loss = {"edge_scale": "paper", "edge_target": "class_numbers", "edge_floor": 0}
    learner, views = learner_and_views(loss=loss)
    torch.nn.init.zeros_(learner.model.deformation.head.weight)
    torch.nn.init.zeros_(learner.model.deformation.head.bias)
    (mixed,) = load(views, [[0, 1, 2]], 0)
    _, numbers = learner.loss(mixed, epoch=0, step=0, edge_weight=0.0)
    laplacian = np.full((3, 3), -1.0)
    laplacian[1, 1] = 8.0
    expected = []
    for item in views.items:
        fractions = item.labels.cell_fractions(item.field.region, item.map_size)
        np.testing.assert_allclose(fractions.sum(axis=0), 1, atol=1e-5)
        blurred = ndimage.gaussian_filter(
            fractions.argmax(axis=0).astype(float), 1.0, mode="nearest", radius=3
        )
        edges = np.abs(ndimage.convolve(blurred, laplacian, mode="nearest"))
        assert edges.max() > 0.5
        expected.append(np.square(1 / edges.size - edges).mean())
    assert numbers["edge_loss"] == pytest.approx(np.mean(expected), rel=1e-4)


@pytest.mark.parametrize("moves", [True, False])
def test_segmentation_gradient_says_whether_the_segmentation_loss_moves_the_grid(learner_and_views, moves):
    learner, views = learner_and_views(loss={"segmentation_gradient": moves, "edge_weight": 0})
    (mixed,) = load(views, [[0, 1, 2]], 0)
    loss, _ = learner.loss(mixed, epoch=0, step=0, edge_weight=0.0)
    loss.backward()
    gradients = gradients_of(learner.model)
    moved = {name for name in gradients if name.startswith("deformation") and gradients[name].any()}
    assert ("deformation.head.weight" in moved) == moves
    assert bool(moved) == moves
    assert gradients["segmentation.head.0.weight"].any()


@pytest.mark.parametrize(
    ("weighting", "expected"), [("none", None), ("area", [0.5, 1.5]), ("mixed", [0.75, 1.25])]
)
def test_a_sample_weighs_1_or_its_cells_area_or_the_mean_of_both(weighting, expected):
    config = parse_config({"loss": {"weighting": weighting}}, source="test")
    nothing = torch.zeros(0)
    areas = torch.tensor([[[0.02, 0.06]]])
    sampled = Sampled(
        density=nothing, grid=nothing, areas=areas, images=nothing, pixels=(), tiles=(), read_seconds=0.0
    )
    found = _sample_weights(config, sampled)
    assert (found if found is None else found.flatten().tolist()) == (
        expected if expected is None else pytest.approx(expected)
    )


def test_convention_the_seed_of_a_step_is_of_run_epoch_step_and_process():
    assert hash_of(0, 0, 0) == 1442695040888963407
    assert hash_of(1, 0, 0) == 3662714356206348644
    assert hash_of(0, 1, 0) == 2383404599562494998
    assert hash_of(0, 0, 1) == 7806831264735756412
    assert hash_of(0, 3, 5) == 8415388725579195781
    assert hash_of(0, 3, 5, 1) == 6744537771584233920


class HalfLabelled:
    """Labels of a field whose left half nobody labelled."""

    def __init__(self, labels, region):
        self.labels, self.middle = labels, region.x + region.width / 2

    def at_points(self, points):
        return np.where(points[:, 0] < self.middle, 255, self.labels.at_points(points)).astype(np.uint8)

    def __getattr__(self, name):
        return getattr(self.labels, name)


def test_half_of_the_samples_of_half_labelled_fields_count(learner_and_views):
    learner, views = learner_and_views()
    torch.nn.init.zeros_(learner.model.deformation.head.weight)
    views.items = [replace(item, labels=HalfLabelled(item.labels, item.field.region)) for item in views.items]
    (mixed,) = load(views, [[0, 1, 2]], 0)
    _, numbers = learner.loss(mixed, epoch=0, step=0, edge_weight=0.0)
    # The grid is shifted by up to a cell of a twentieth of the width.
    assert numbers["labelled_share"] == pytest.approx(0.5, abs=0.05)
    assert numbers["samples"] == 856


def test_seconds_of_a_step_are_read_forward_and_backward(learner_and_views, monkeypatch):
    """A clock that is asked at the start, around the labels of both shapes, after the loss, and at the end."""
    learner, views = learner_and_views()
    (mixed,) = load(views, [[0, 1, 2]], 0)
    ticks = iter([0.0, 10.0, 11.0, 20.0, 22.0, 40.0, 100.0])
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    for part in ("step", "step_loss"):
        monkeypatch.setattr(f"wsi_deform.train.{part}.time", clock)
    found = training_step(learner, mixed, epoch=0, step=0, edge_weight=EDGE_WEIGHT)
    tiles = found["read_seconds"] - 3
    assert 0 < tiles < 30
    assert found["forward_seconds"] == pytest.approx(40 - 3 - tiles)
    assert found["backward_seconds"] == 60


@pytest.mark.parametrize(("edge_weight", "learns"), [(0, False), (0.25, True)])
def test_without_a_weight_there_is_no_edge_loss(learner_and_views, edge_weight, learns):
    learner, views = learner_and_views(loss={"edge_weight": edge_weight})
    (mixed,) = load(views, [[0]], 0)
    _, numbers = learner.loss(mixed, epoch=0, step=0, edge_weight=0.0)
    assert (numbers["edge_loss"] > 0) == learns


def test_fields_that_count_nothing_add_nothing(learner_and_views):
    learner, views = learner_and_views()
    (mixed,) = load(views, [[0, 1, 2]], 0)
    (pair,) = (batch for batch in mixed if len(batch.items) == 2)
    idle = [replace(batch, counted=batch is pair) for batch in mixed]
    learner.model.eval()
    alone, found = (learner.loss(each, epoch=0, step=0, edge_weight=0.5)[1] for each in ([pair], idle))
    assert {name: found[name] for name in found if name != "read_seconds"} == pytest.approx(
        {name: alone[name] for name in alone if name != "read_seconds"}
    )


def test_labels_outside_a_field_are_none(learner_and_views):
    _, views = learner_and_views()
    ((batch,),) = load(views, [[0]], 0)
    at = [[0.0, 0.0], [1.0, 1.0], [-0.001, 0.5], [0.5, 1.001]]
    found = labels_of(batch, torch.tensor(at, dtype=torch.float64).view(1, 2, 2, 2))
    assert (found == 255).flatten().tolist() == [False, False, True, True]


def test_what_a_step_draws_at_random_depends_on_its_epoch(learner_and_views):
    learner, views = learner_and_views()
    (mixed,) = load(views, [[0, 1, 2]], 0)
    training_step(learner, mixed, epoch=3, step=5, edge_weight=EDGE_WEIGHT)
    assert torch.initial_seed() == 8415388725579195781
    config = learner.model.config
    changes = [change_of_step(config, mixed[0], epoch=epoch, step=5).displacement[0] for epoch in (3, 4, 3)]
    assert torch.equal(changes[0], changes[2])
    assert not torch.equal(changes[0], changes[1])


def test_a_loss_of_monai_is_the_mean_of_its_fields_whatever_their_shapes(learner_and_views):
    learner, views = learner_and_views(loss={"segmentation": "monai:DiceCELoss"})
    (mixed,) = load(views, [[0, 1, 2]], 0)
    together, gradients = backward(learner, mixed)
    alone = []
    for place, index in enumerate((0, 1, 2)):
        ((batch,),) = load(views, [[index]], 0)
        alone.append(backward(learner, [replace(batch, places=(place,))]))
    expected = sum(found["segmentation_loss"] for found, _ in alone) / 3
    assert together["segmentation_loss"] == pytest.approx(expected, rel=1e-5)
    assert len({round(found["segmentation_loss"], 4) for found, _ in alone}) == 3
    for name in [name for name in gradients if name.startswith("segmentation")]:
        assert_close_in_scale(gradients[name], sum(found[name] for _, found in alone) / 3)


def test_steps_with_a_loss_of_monai_make_it_smaller(learner_and_views):
    learner, views = learner_and_views(loss={"segmentation": "monai:DiceCELoss", "edge_weight": 0.0})
    (batches,) = load(views, [[0, 1, 2]], 0)
    losses = [training_step(learner, batches, epoch=0, step=0, edge_weight=0.0)["loss"] for _ in range(12)]
    assert losses[-1] < losses[0] - 0.2
