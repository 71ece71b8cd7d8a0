"""Floating-point operations, counted by hand."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack
from torch.utils.flop_counter import FlopCounterMode

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import parse_config
from wsi_deform.cover import FieldBudget
from wsi_deform.deform.grid import sampling_grid
from wsi_deform.deform.lattice import grid_of_lattice, uniform_lattice
from wsi_deform.flops import NetworkFlops, grid_flops, lattice_flops, sample_flops, sampling_flops
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.model import Model
from wsi_deform.networks.registry import segmentation_network


def small():
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 1)
    ).eval()


# Each of 10 x 7 outputs of 5 channels is 27 products and sums, each of 2 channels 5.
BY_HAND = 2 * 70 * (5 * 27 + 2 * 5)


def test_a_small_convolution_counted_by_hand():
    network = small()
    with NetworkFlops(network) as counted:
        network(torch.zeros(1, 3, 7, 10))
    assert counted.total == BY_HAND
    strided = nn.Conv2d(4, 6, 3, stride=2, padding=1)
    with NetworkFlops(strided) as counted:
        strided(torch.zeros(1, 4, 8, 8))
    assert counted.total == 2 * 16 * 6 * 36


def test_a_pass_without_autograd_is_counted_alike():
    for mode in (torch.no_grad, torch.inference_mode):
        with mode(), NetworkFlops(network := small()) as counted:
            network(torch.zeros(1, 3, 7, 10))
        assert counted.total == BY_HAND, mode


@pytest.mark.parametrize(
    ("name", "options"),
    [("hrnetv2", {"width": 4}), ("efficientnet-lite0", {"width": 4}), ("pspnet", {"depth": 18})],
)
def test_a_pass_that_is_counted_computes_the_same_bits(name, options):
    torch.manual_seed(0)
    network = segmentation_network(name, classes=3, in_channels=3, **options).eval()
    image = torch.randn(1, 3, 30, 45)
    with torch.inference_mode():
        plain = network(image)
        with NetworkFlops(network):
            counted = network(image)
    assert torch.equal(counted, plain)


@pytest.mark.skipif(
    not hasattr(TorchDispatchMode, "_should_skip_dynamo"),
    reason="this torch cannot be told not to import them",
)
def test_counting_imports_neither_compiler_nor_algebra():
    """2 CPU s of every process that segments a slide."""
    script = (
        "import sys, torch\n"
        "from wsi_deform.flops import NetworkFlops\n"
        "from wsi_deform.networks.registry import segmentation_network\n"
        "network = segmentation_network('hrnetv2', classes=2, in_channels=3, width=4).eval()\n"
        "with torch.inference_mode(), NetworkFlops(network) as counted:\n"
        "    network(torch.zeros(1, 3, 16, 24))\n"
        "assert counted.total > 0\n"
        "print(*sorted({'torch._dynamo', 'sympy'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_passes_add_up_over_batches_sizes_networks_and_threads():
    network, other = small(), nn.Linear(6, 2)
    counted = NetworkFlops(network, None, other)
    network(torch.zeros(1, 3, 7, 10))
    with counted:
        network(torch.zeros(2, 3, 7, 10))
        network(torch.zeros(3, 3, 7, 10))
        other(torch.zeros(1, 4, 6))
        thread = threading.Thread(target=network, args=(torch.zeros(1, 3, 7, 20),))
        thread.start()
        thread.join()
    assert counted.total == 5 * BY_HAND + 4 * 2 * 6 * 2 + 2 * BY_HAND
    network(torch.zeros(1, 3, 7, 10))
    with counted:
        network(torch.zeros(1, 3, 7, 10))
    assert counted.total == 8 * BY_HAND + 96


def test_a_pass_that_fails_leaves_nothing_behind():
    network = small()
    counted = NetworkFlops(network)
    with counted, pytest.raises(RuntimeError):
        network(torch.zeros(1, 4, 7, 10))
    before = counted.total
    torch.zeros(3, 3) @ torch.zeros(3, 3)
    with counted:
        network(torch.zeros(1, 3, 7, 10))
    assert counted.total - before == BY_HAND


def test_of_many_sizes_few_are_counted_and_the_rest_is_by_area():
    network = small()
    with NetworkFlops(network) as counted:
        for height in range(1, 9):
            network(torch.zeros(1, 3, 7 * height, 10))
    # This network costs the same everywhere, so that areas are exact.
    assert counted.total == 36 * BY_HAND


@pytest.mark.parametrize(
    "name", ["hrnetv2", "pspnet", "efficientnet-lite0", "monai:DynUNet", "monai:AttentionUnet"]
)
def test_networks_are_counted_as_by_torch_and_give_the_same(name):
    options = {
        "hrnetv2": {"width": 4},
        "pspnet": {"depth": 18},
        "monai:AttentionUnet": {"channels": [4, 8], "strides": [2]},
    }.get(name, {})
    network = segmentation_network(name, classes=3, **options).eval()
    image = torch.randn(1, 3, 38, 50)
    with torch.no_grad():
        with FlopCounterMode(display=False) as by_torch:
            network(image)
        with NetworkFlops(network) as counted:
            found = network(image)
        assert torch.equal(found, network(image))
    assert counted.total == by_torch.get_total_flops() > 1e5


def test_the_grid_is_what_its_matrix_products_are():
    view, size = Size(9, 6), Size(20, 13)
    with FlopCounterMode(display=False) as counter:
        sampling_grid(torch.rand(1, 1, *view.shape), sigma_px=2.0, size=size)
    # (6 x 9)(9 x 20) twice, then (13 x 6)(6 x 20) three times.
    by_hand = 2 * 2 * 6 * 9 * 20 + 3 * 2 * 13 * 6 * 20
    assert grid_flops(view, size) == counter.get_total_flops() == by_hand
    lattice = 2 * 2 * 6 * 9 * 10 + 3 * 2 * 7 * 6 * 10
    # Each point of a further step: six operations for the weights, seven for x and seven for y.
    assert grid_flops(view, size, warp_steps=3) == by_hand + lattice + 2 * 260 * 20


def test_a_lattice_counted_by_hand_and_by_torch():
    lattice, size = Size(6, 5), Size(20, 13)
    with FlopCounterMode(display=False) as counter:
        grid_of_lattice(uniform_lattice(lattice), size)
    # (13 x 5)(5 x 6) and (13 x 6)(6 x 20), for x and for y.
    by_hand = 2 * (2 * 13 * 5 * 6 + 2 * 13 * 6 * 20)
    assert lattice_flops(lattice, size) == counter.get_total_flops() == by_hand


def test_interpolation_by_hand():
    assert sample_flops(Size(10, 10)) == 100 * (6 + 3 * 7)
    assert sample_flops(Size(10, 10), readings=2) == 100 * (2 * (6 + 3 * 7) + 9)


def test_the_samples_of_a_slide_are_those_of_its_fields():
    sampling = {"budget": [12, 40], "warp_steps": 1, "level": "mip", "map_scale": 0.5}
    config = parse_config({"sampling": sampling}, source="test")
    model = Model(config=config, classes=ClassTable.from_names(["a", "b"]), mpp=0.5)
    region = Region(0, 0, 400, 120)
    budget = FieldBudget(field=Field(region=region, kept=region), size=Size(40, 12))
    # A map of 20 x 6 for 40 x 12 samples and for the 41 x 13 corners of their cells.
    grids = 2 * 2 * 6 * 20 * (40 + 41) + 3 * 2 * 6 * (12 * 40 + 13 * 41)
    assert sampling_flops(model, [budget] * 3) == 3 * (grids + 480 * 27)


def test_positions_of_a_lattice_cost_their_interpolation_and_no_map():
    sampling = {"budget": [12, 40], "density": "edge_positions", "edge_lattice": 4, "level": "mip"}
    config = parse_config({"sampling": sampling}, source="test")
    model = Model(config=config, classes=ClassTable.from_names(["a", "b"]), mpp=0.5)
    region = Region(0, 0, 400, 120)
    budget = FieldBudget(field=Field(region=region, kept=region), size=Size(40, 12))
    # 4 cells along 12 and 13 along 40 make 5 x 14 positions.
    grids = 2 * 2 * 12 * 14 * (5 + 40) + 2 * 2 * 13 * 14 * (5 + 41)
    assert sampling_flops(model, [budget]) == grids + 480 * 27


def test_the_fifth_size_is_counted_by_area_from_the_nearest():
    """One operation pair per pixel and one for all: 2 (area + 1)."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 1, 1)).eval()
    with NetworkFlops(network) as counted:
        for width in (10, 20, 40, 80):
            network(torch.zeros(1, 1, 1, width))
        assert counted.total == 22 + 42 + 82 + 162
        network(torch.zeros(1, 1, 1, 160))
        assert counted.total == 308 + 324  # twice that of 80
        network(torch.zeros(3, 1, 1, 14))
        assert counted.total == 632 + 3 * 31  # 22 x 14 / 10


def test_of_a_pass_that_fails_nothing_is_counted_and_no_counter_stays():
    network = small()
    with NetworkFlops(network) as counted:
        with pytest.raises(RuntimeError):
            network(torch.zeros(1, 4, 7, 10))
        assert counted.total == 0
        assert _get_current_dispatch_mode_stack() == []
        network(torch.zeros(1, 3, 7, 10))
    assert counted.total == BY_HAND


def test_further_steps_and_trilinear_readings_by_hand():
    view, size = Size(9, 6), Size(20, 13)
    once = 2 * 2 * 6 * 9 * 20 + 3 * 2 * 13 * 6 * 20
    corners = 2 * 2 * 6 * 9 * 10 + 3 * 2 * 7 * 6 * 10
    assert [grid_flops(view, size, warp_steps=steps) for steps in (1, 2, 3)] == [
        once,
        once + corners + 260 * 20,
        once + corners + 2 * 260 * 20,
    ]
    sampling = {"budget": [12, 40], "density": "edge_positions", "edge_lattice": 4, "level": "trilinear"}
    config = parse_config({"sampling": sampling}, source="test")
    model = Model(config=config, classes=ClassTable.from_names(["a", "b"]), mpp=0.5)
    region = Region(0, 0, 400, 120)
    budget = FieldBudget(field=Field(region=region, kept=region), size=Size(40, 12))
    grids = 2 * 2 * 12 * 14 * (5 + 40) + 2 * 2 * 13 * 14 * (5 + 41)
    assert sampling_flops(model, [budget]) == grids + 480 * (2 * 27 + 9)


def test_what_networks_say_to_operations_reaches_them():
    class Doubled(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.to(torch.float64)

    with NetworkFlops(network := Doubled()) as counted:
        assert network(torch.zeros(1, 3, 7, 10)).dtype == torch.float64
    assert counted.total == 0
