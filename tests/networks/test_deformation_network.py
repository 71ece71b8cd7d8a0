"""The deformation network: one logit per position of the low-res view."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wsi_deform.errors import ModelError, ShapeError
from wsi_deform.networks.deformation import DeformationNetwork


def test_layers_are_those_of_the_paper():
    convolutions = [m for m in DeformationNetwork().modules() if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size) for c in convolutions] == [
        (3, 24, (3, 3)),
        (24, 24, (3, 3)),
        (24, 3, (3, 3)),
        (3, 1, (1, 1)),
    ]


def test_zero_head_starts_with_a_constant_map():
    logits = DeformationNetwork()(torch.randn(2, 3, 9, 20))
    assert (logits == 0).all()


def test_he_head_starts_with_a_varied_map():
    torch.manual_seed(0)
    logits = DeformationNetwork(zero_init_head=False)(torch.randn(2, 3, 9, 20))
    assert logits.std() > 0


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(24, 96), (1, 40), (1, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_output_is_one_logit_per_position(kernel: int, size: tuple[int, int], training: bool):
    network = DeformationNetwork(in_channels=4, widths=(6, 2), kernel=kernel).train(training)
    assert network(torch.randn(1, 4, *size)).shape == (1, 1, *size)


def test_dilations_widen_the_context_and_change_no_parameter():
    torch.manual_seed(0)
    near = DeformationNetwork(zero_init_head=False).eval()
    for parameter in near.parameters():
        parameter.data.abs_()  # no ReLU stops anything
    far = DeformationNetwork(dilations=(1, 2, 4), zero_init_head=False).eval()
    far.load_state_dict(near.state_dict())
    for network, reach in ((near, 3), (far, 7)):
        view = torch.zeros(1, 3, 31, 41, requires_grad=True)
        network(view + torch.rand(1, 3, 31, 41))[0, 0, 15, 20].backward()
        seen = view.grad.abs().sum((0, 1)).nonzero()
        assert seen.min(0).values.tolist() == [15 - reach, 20 - reach]
        assert seen.max(0).values.tolist() == [15 + reach, 20 + reach]
    assert near(view).shape == far(view).shape == (1, 1, 31, 41)


def test_dilations_of_one_are_the_default():
    one = DeformationNetwork(dilations=[1, 1, 1])
    assert str(one) == str(DeformationNetwork())


def test_zero_head_learns():
    torch.manual_seed(0)
    network = DeformationNetwork()
    view = torch.randn(2, 3, 12, 30)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = (network(view) - view[:, :1]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in network.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": 4},
        {"kernel": -1},
        {"widths": ()},
        {"widths": (8, 0)},
        {"dilations": (1, 2)},
        {"dilations": (1, 0, 1)},
    ],
)
def test_impossible_settings_are_refused(options: dict):
    with pytest.raises(ModelError, match="needed"):
        DeformationNetwork(**options)


def test_one_layer_of_one_channel_is_the_least_that_works():
    network = DeformationNetwork(widths=(1,), kernel=1, dilations=(1,), in_channels=1)
    assert network(torch.zeros(2, 1, 5, 7)).shape == (2, 1, 5, 7)
    assert sum(each.numel() for each in network.parameters()) == 1 + 2 + 2


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match=r"needed \(B, 3, H, W\)"):
        DeformationNetwork()(torch.zeros(3, 9, 9))
