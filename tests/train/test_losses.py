"""The focal loss against torch and MONAI, the edge loss by hand, and both where there is nothing to learn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wsi_deform.errors import ShapeError
from wsi_deform.train.losses import class_weights_of, edge_loss, edge_losses, focal_loss


@pytest.fixture
def scores() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 5, 6, 9).mul(3).requires_grad_()


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.randint(0, 5, (2, 6, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def partly(labels: torch.Tensor) -> torch.Tensor:
    hidden = torch.rand(labels.shape, generator=torch.Generator().manual_seed(2)) < 0.6
    return labels.masked_fill(hidden, 255)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 0.0, 3.0])])
def test_gamma_zero_is_cross_entropy_in_value_and_gradient(scores, partly, weights):
    ours = focal_loss(scores, partly, gamma=0, class_weights=weights)
    (gradient,) = torch.autograd.grad(ours, scores)
    theirs = F.cross_entropy(scores, partly, weight=weights, ignore_index=255)
    (expected,) = torch.autograd.grad(theirs, scores)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("gamma", [0.5, 2.0, 3.5])
def test_focal_loss_equals_monai_where_everything_is_labelled(scores, labels, gamma: float):
    from monai.losses import FocalLoss

    # MONAI averages over classes too, of which only the true one counts.
    theirs = 5 * FocalLoss(use_softmax=True, to_onehot_y=True, gamma=gamma)(scores, labels.unsqueeze(1))
    ours = focal_loss(scores, labels, gamma=gamma)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, scores), torch.autograd.grad(theirs, scores))


def test_unlabelled_samples_count_nowhere(scores, partly):
    loss = focal_loss(scores, partly)
    (gradient,) = torch.autograd.grad(loss, scores)
    hidden = partly == 255
    assert (gradient.movedim(1, -1)[hidden] == 0).all()
    changed = scores.detach().movedim(1, -1).clone()
    changed[hidden] = 50.0
    torch.testing.assert_close(focal_loss(changed.movedim(-1, 1), partly), loss)


def test_sample_weights_are_a_weighted_mean(scores, labels):
    halves = torch.zeros(2, 6, 9)
    halves[:, :, :4] = 7.0
    torch.testing.assert_close(
        focal_loss(scores, labels, sample_weights=halves),
        focal_loss(scores[..., :4], labels[..., :4]),
    )


def test_class_and_sample_weights_multiply(scores, partly):
    class_weights, areas = torch.tensor([1.0, 2.0, 0.5, 1.0, 4.0]), torch.rand(2, 6, 9) / 1000
    together = focal_loss(scores, partly, class_weights=class_weights, sample_weights=areas)
    by_sample = class_weights[partly.where(partly != 255, 0)] * areas
    torch.testing.assert_close(together, focal_loss(scores, partly, sample_weights=by_sample))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_nothing_labelled_gives_zero_and_zero_gradient(scores, gamma: float):
    loss = focal_loss(scores, torch.full((2, 6, 9), 255, dtype=torch.uint8), gamma=gamma)
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


def test_all_weights_zero_gives_zero(scores, labels):
    loss = focal_loss(scores, labels, sample_weights=torch.zeros(2, 6, 9))
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("certain", [1e4, -1e4])
def test_gradient_is_finite_for_certain_scores(gamma: float, certain: float):
    scores = torch.zeros(1, 2, 1, 3)
    scores[:, 0] = certain
    scores.requires_grad_()
    loss = focal_loss(scores, torch.zeros(1, 1, 3, dtype=torch.uint8), gamma=gamma)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_both_label_types_and_half_scores_are_accepted(scores, partly, dtype):
    loss = focal_loss(scores.half(), partly.to(dtype))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, focal_loss(scores.half().float(), partly))


def test_losses_of_misfitting_inputs_are_refused(scores, labels):
    for bad, message in [
        (lambda: focal_loss(scores, labels + 1), "labels from 1 to 5: .* classes 0 to 4"),
        (lambda: focal_loss(scores, labels.where(labels > 0, -1)), "labels from -1"),
        (lambda: focal_loss(scores, labels.float()), "uint8 or int64"),
        (lambda: focal_loss(scores, labels[:, :3]), r"needed \(2, 6, 9\)"),
        (lambda: focal_loss(scores[0], labels), r"\(B, C, h, w\)"),
        (lambda: focal_loss(scores, labels, gamma=-1), "gamma -1"),
        (lambda: focal_loss(scores, labels, class_weights=torch.ones(4)), "each of 5 classes"),
        (lambda: focal_loss(scores, labels, sample_weights=torch.ones(9)), "sample weights"),
        (lambda: edge_loss(torch.ones(2, 1, 4, 4), torch.ones(2, 1, 4, 5)), "one size"),
        (lambda: edge_loss(torch.ones(2, 2, 4, 4), torch.ones(2, 2, 4, 4)), r"\(B, 1, H, W\)"),
    ]:
        with pytest.raises(ShapeError, match=message):
            bad()


def test_edge_loss_does_not_depend_on_the_scale_of_either():
    torch.manual_seed(0)
    found, wanted = torch.rand(2, 1, 5, 7), torch.rand(2, 1, 5, 7)
    per_image = torch.tensor([1e-3, 40.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(edge_loss(found * per_image, wanted / per_image), edge_loss(found, wanted))
    assert edge_loss(found / 35, found).item() == pytest.approx(0, abs=1e-12)


def test_edge_loss_by_hand():
    found, wanted = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2), torch.tensor([3.0, 1.0]).view(1, 1, 1, 2)
    assert edge_loss(found, wanted).item() == pytest.approx(1.0)


def test_edge_loss_on_the_papers_scale_is_the_bare_squared_error_by_hand():
    density = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]], [[[0.25, 0.25], [0.25, 0.25]]]])
    edges = torch.tensor([[[[0.0, 1.2], [0.3, 2.4]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    # (.1^2 + 1^2 + 0 + 2^2) / 4 and .25^2: nothing is divided by a mean, and no edge is no uniform map.
    assert edge_losses(density, edges, scale="paper").tolist() == pytest.approx([1.2525, 0.0625])
    assert float(edge_loss(density, edges, scale="paper")) == pytest.approx(0.6575)


@pytest.mark.parametrize("flat", [0.0, 5.0])
def test_flat_target_asks_for_the_uniform_map(flat: float):
    logits = torch.randn(2, 40, requires_grad=True)
    density = logits.softmax(1).view(2, 1, 5, 8)
    loss = edge_loss(density, torch.full((2, 1, 5, 8), flat))
    torch.testing.assert_close(loss, (density * 40 - 1).square().mean())
    loss.backward()
    assert logits.grad.isfinite().all()
    assert edge_loss(torch.full((2, 1, 5, 8), 1 / 40), torch.full((2, 1, 5, 8), flat)).item() < 1e-12


def test_edge_loss_gradient_moves_the_map_to_its_target():
    torch.manual_seed(0)
    logits, wanted = torch.zeros(1, 64, requires_grad=True), torch.rand(1, 1, 4, 16) + 0.1
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        edge_loss(logits.softmax(1).view(1, 1, 4, 16), wanted).backward()
        optimiser.step()
    found = logits.softmax(1).view(1, 1, 4, 16) * 64
    torch.testing.assert_close(found, wanted / wanted.mean(), atol=0.02, rtol=0)


def test_edge_loss_gives_no_gradient_to_the_target():
    target = torch.rand(1, 1, 2, 2, requires_grad=True)
    edge_loss(torch.rand(1, 1, 2, 2, requires_grad=True), target).backward()
    assert target.grad is None


@pytest.mark.parametrize("kind", ["inverse", "effective"])
def test_class_weights_have_mean_1_over_labelled_pixels_and_1_for_classes_never_seen(kind):
    pixels = [9e8, 3e5, 0.0, 2e7]
    weights = class_weights_of(kind, pixels)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(float(weights.double() @ torch.tensor(pixels).double()) / sum(pixels), 1.0)
    assert weights[2] == 1
    assert weights[0] < weights[3] < weights[1]
    torch.testing.assert_close(class_weights_of(kind, [number / 64 for number in pixels]), weights)


def test_inverse_weights_make_classes_count_alike_and_effective_ones_stop_at_a_limit():
    pixels = [900.0, 90.0, 10.0]
    inverse, effective = class_weights_of("inverse", pixels), class_weights_of("effective", pixels)
    torch.testing.assert_close(inverse * torch.tensor(pixels), torch.full((3,), 1000 / 3))
    assert effective[2] / effective[0] < inverse[2] / inverse[0]
    # Cui et al., equation 4, with N the mean of n; in whole numbers of pixels, beta as they write it.
    n = torch.tensor(pixels, dtype=torch.float64) * 1e6
    beta = (n.mean() - 1) / n.mean()
    written = (1 - beta) / (1 - beta**n)
    torch.testing.assert_close(effective.double() / effective[0], written / written[0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("pixels", [[0.0, 0.0], [], [-1.0, 5.0], [-5.0, 5.0]])
def test_class_weights_of_nothing_labelled_are_refused(pixels):
    with pytest.raises(ShapeError, match="masks of the training slides"):
        class_weights_of("inverse", pixels)
