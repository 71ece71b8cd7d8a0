import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size
from wsi_deform.networks.deformation import DeformationNetwork
from wsi_deform.networks.positions import PositionNetwork


@pytest.mark.parametrize(
    ("view", "lattice"),
    [((64, 64), Size(17, 17)), ((36, 801), Size(357, 17)), ((5, 3), Size(2, 2)), ((31, 53), Size(10, 6))],
)
def test_offsets_of_any_lattice_are_zero_before_training(view, lattice):
    network = PositionNetwork().eval()
    found = network(torch.randn(2, 3, *view), lattice)
    assert found.shape == (2, *lattice.shape, 2)
    assert not found.any()


def test_positions_on_the_frame_stay_on_it_and_others_move():
    torch.manual_seed(0)
    network = PositionNetwork(in_channels=4).eval()
    torch.nn.init.normal_(network.head.weight)
    found = network(torch.randn(1, 4, 40, 30), Size(7, 9))[0]
    assert not found[:, [0, -1], 0].any()
    assert not found[[0, -1], :, 1].any()
    assert found[:, 1:-1, 0].abs().min() > 0
    assert found[1:-1, :, 1].abs().min() > 0


def test_the_network_sees_far_across_the_lattice():
    torch.manual_seed(0)
    network = PositionNetwork().eval()
    torch.nn.init.normal_(network.head.weight)
    view = torch.randn(1, 3, 64, 64, requires_grad=True)
    network(view, Size(17, 17))[0, 8, 8].sum().backward()
    seen = view.grad[0].abs().sum(0).nonzero()
    # From the middle 7 of 8 positions to either side, of 4 px each, and what the convolutions before them see.
    assert (seen.amin(0) <= 4).all()
    assert (seen.amax(0) >= 59).all()


def test_learns_offsets_of_a_picture():
    """Positions are pulled right where the view is bright: two weights would do, so that few steps suffice."""
    torch.manual_seed(0)
    network = PositionNetwork()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    bright = torch.zeros(2, 3, 16, 16)
    bright[1] = 1.0
    wanted = torch.zeros(2, 5, 5, 2)
    wanted[1, :, 1:-1, 0] = 0.1
    for _ in range(60):
        loss = ((network(bright, Size(5, 5)) - wanted) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.05 * float((wanted**2).mean())


def test_views_of_other_channels_are_refused():
    with pytest.raises(ShapeError, match=r"position network.*needed \(B, 3, H, W\)"):
        PositionNetwork()(torch.zeros(1, 4, 8, 8), Size(3, 3))


def test_it_is_as_small_as_its_docstring_says():
    network, deformation = PositionNetwork().eval(), DeformationNetwork().eval()
    assert sum(each.numel() for each in network.parameters()) == 29_258
    flops = []
    for run in (lambda view: network(view, Size(17, 17)), deformation):
        with FlopCounterMode(display=False) as counted:
            run(torch.zeros(1, 3, 64, 64))
        flops.append(counted.get_total_flops())
    assert flops[0] / flops[1] == pytest.approx(0.54, abs=0.01)
