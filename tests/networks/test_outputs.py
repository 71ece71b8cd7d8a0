"""What networks with given weights make of a given image, in numbers: each layer has a share in them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from wsi_deform.geometry import Size
from wsi_deform.networks.deformation import DeformationNetwork
from wsi_deform.networks.hrnet import HRNetV2
from wsi_deform.networks.positions import PositionNetwork
from wsi_deform.networks.pspnet import PSPNet
from wsi_deform.networks.resizer import Resizer
from wsi_deform.networks.resnet import _Bottleneck

IMAGE = torch.sin(torch.arange(3 * 37 * 52, dtype=torch.float64)).view(1, 3, 37, 52)


def given_weights(network: nn.Module) -> nn.Module:
    """Waves instead of random numbers."""
    for number, (name, tensor) in enumerate(network.state_dict().items()):
        wave = torch.sin(1.7 * torch.arange(tensor.numel(), dtype=torch.float64) + number).view(tensor.shape)
        if tensor.ndim > 1:
            tensor.copy_(wave * math.sqrt(1 / tensor[0].numel()))
        elif not name.endswith("num_batches_tracked"):
            one = name.endswith(("running_var",)) or (name.endswith("weight") and tensor.ndim == 1)
            tensor.copy_(one + 0.2 * wave)
    return network.double().eval()


def numbers(found: Tensor) -> list[float]:
    """Mean, spread, a pixel inside, and a corner."""
    first = found[0, 0] if found.shape[-1] > 2 else found[0, ..., 0]
    middle = first[first.shape[0] // 2, first.shape[1] // 3]
    return [each.item() for each in (found.mean(), found.std(), middle, found.reshape(-1)[-3])]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        pytest.param(
            lambda: HRNetV2(width=2, classes=3), [0.929424, 0.28123, 0.795524, 1.46757], id="hrnetv2"
        ),
        pytest.param(
            lambda: HRNetV2(width=2, classes=3, stem_stride=2, fuse="nearest"),
            [1.02734, 0.324332, 0.85814, 1.52569],
            id="nearest, 2",
        ),
        pytest.param(
            lambda: HRNetV2(width=1, classes=2, stem_stride=1),
            [0.668692, 0.444536, 1.01147, 1.73278],
            id="hrnetv2, 1",
        ),
        pytest.param(
            lambda: PSPNet(classes=2, depth=18), [-0.0706869, 0.392693, 0.307565, -0.549646], id="pspnet 18"
        ),
        pytest.param(
            lambda: _Bottleneck(3, 4, stride=2, before=1, dilation=2),
            [0.329267, 0.482082, 0.0, 1.99285],
            id="bottleneck",
        ),
        pytest.param(
            lambda: DeformationNetwork(dilations=(1, 2, 1)),
            [0.0756223, 0.101778, -0.00300532, 0.162497],
            id="deformation",
        ),
    ],
)
def test_networks_make_these_numbers(make: Callable[[], nn.Module], expected: list[float]) -> None:
    with torch.inference_mode():
        assert numbers(given_weights(make())(IMAGE)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "size", "expected"),
    [
        pytest.param(
            lambda: PositionNetwork(dilations=(1, 2)),
            Size(9, 7),
            [0.0182359, 0.0706686, -0.0625223, 0.0],
            id="positions",
        ),
        pytest.param(
            lambda: Resizer(blocks=2, filters=4),
            Size(20, 11),
            [-0.0365671, 0.139937, 0.137672, 0.0269218],
            id="resizer",
        ),
    ],
)
def test_networks_of_a_size_make_these_numbers(
    make: Callable[[], nn.Module], size: Size, expected: list[float]
) -> None:
    with torch.inference_mode():
        assert numbers(given_weights(make())(IMAGE, size)) == pytest.approx(expected, rel=1e-4, abs=1e-6)
