"""Networks by name: any size in, scores of that size out, and refusals that help."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from wsi_deform.errors import ModelError, ShapeError
from wsi_deform.geometry import Size
from wsi_deform.networks.deformation import DeformationNetwork
from wsi_deform.networks.hrnet import HRNetV2
from wsi_deform.networks.monai_nets import MonaiNetwork, _fixed_size, monai_network_names
from wsi_deform.networks.names import nearest
from wsi_deform.networks.registry import segmentation_network
from wsi_deform.networks.resizer import Resizer

MONAI_NAMES = ["UNet", "BasicUNet", "BasicUNetPlusPlus", "SegResNet", "AttentionUnet", "DynUNet"]
SIZES = [(24, 96), (17, 33), (8, 8), (1, 40)]


@pytest.mark.parametrize("name", MONAI_NAMES)
def test_monai_networks_train_and_score_at_any_size(name: str):
    torch.manual_seed(0)
    network = segmentation_network(f"monai:{name}", classes=5)
    for size in SIZES:
        for training in (True, False):
            scores = network.train(training)(torch.randn(1, 3, *size))
            assert scores.shape == (1, 5, *size), (size, training)
            assert scores.isfinite().all()
    network.train()(torch.randn(2, 3, 24, 96)).square().mean().backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_a_monai_network_without_defaults_here_works_too():
    network = segmentation_network("monai:HighResNet", classes=2, size_multiple=1).eval()
    assert network(torch.zeros(1, 3, 9, 12)).shape == (1, 2, 9, 12)


@pytest.mark.parametrize(
    ("name", "options", "parameters", "multiple"),
    [
        ("UNet", {}, 403_674, 8),
        ("UNet", {"strides": ((2, 1), 2, 3), "num_res_units": 0}, 163_449, 12),
        ("AttentionUnet", {}, 494_295, 8),
        ("BasicUNet", {}, 774_019, 16),
        ("BasicUNetPlusPlus", {}, 1_085_196, 16),
        ("SegResNet", {}, 893_315, 8),
        ("SegResNet", {"blocks_down": (1, 1), "blocks_up": (1,)}, 33_539, 2),
        ("DynUNet", {}, 391_395, 8),
        ("HighResNet", {}, 274_502, 32),
    ],
)
def test_networks_of_monai_have_these_sizes_and_paddings(name, options, parameters, multiple):
    network = segmentation_network(f"monai:{name}", classes=3, **options)
    assert network.size_multiple == multiple
    assert sum(each.numel() for each in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hrnetv2", {"width": 1}),
        ("pspnet", {"depth": 18}),
        ("efficientnet-lite0", {"width": 1}),
        ("monai:BasicUNet", {"features": (4, 4, 4, 4, 4, 4)}),
    ],
)
def test_the_least_that_a_network_can_be_is_one_class(name: str, options: dict):
    network = segmentation_network(name, classes=1, **options).eval()
    assert network(torch.zeros(1, 3, 9, 12)).shape == (1, 1, 9, 12)


class Called(TorchDispatchMode):
    """Counts what is called."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("network", "in_place", "copied"),
    [
        # Sums of branches are kept: the network hands them on, and works on them.
        (lambda: segmentation_network("hrnetv2", classes=2, width=2), 243, 26),
        (lambda: segmentation_network("pspnet", classes=2, depth=18), 22, 0),
        (lambda: segmentation_network("pspnet", classes=2, depth=50), 54, 0),
        (DeformationNetwork, 3, 0),
    ],
)
def test_what_is_not_looked_at_again_is_rectified_in_place(network, in_place: int, copied: int):
    """Memory of a network is that of its largest tensors: a copy would be one more."""
    with Called() as called, torch.no_grad():
        network().eval()(torch.zeros(1, 3, 32, 32))
    assert (called.counts["aten.relu_.default"], called.counts["aten.relu.default"]) == (in_place, copied)


def test_the_resizer_rectifies_in_place_too():
    with Called() as called, torch.no_grad():
        Resizer(blocks=2).eval()(torch.zeros(1, 3, 32, 32), Size(8, 8))
    assert called.counts["aten.leaky_relu_.default"] == 4
    assert called.counts["aten.leaky_relu.default"] == 0


def test_a_size_that_fits_is_not_padded():
    network = segmentation_network("monai:DynUNet", classes=3)
    seen = []
    network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[-2:]))
    network(torch.zeros(2, 3, 24, 96))
    network(torch.zeros(2, 3, 8, 8))
    assert seen == [(24, 96), (8, 16)]


def test_padding_repeats_the_border_on_both_sides_and_is_cropped_off():
    network = MonaiNetwork("UNet", classes=3, channels=(4, 8, 16), strides=(2, 2))
    network.network = nn.Identity()
    seen = []
    network.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 3, 5, 10)
    assert torch.equal(network(image), image)
    assert seen[0].shape == (1, 3, 8, 12)
    assert torch.equal(seen[0][:, :, 1:6, 1:11], image)
    assert torch.equal(seen[0][:, :, 0, 1:11], image[:, :, 0])


def test_monai_networks_start_with_the_standard_deviation_of_he():
    torch.manual_seed(0)
    network = segmentation_network("monai:DynUNet", classes=5)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10_000:
            fan_in = layer.weight[0].numel()
            assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
        if isinstance(layer, nn.ConvTranspose2d) and layer.weight.numel() > 5_000:
            # Kernel 2, stride 2: an output pixel sees one weight of each input channel.
            assert layer.weight.std().item() == pytest.approx((2 / layer.in_channels) ** 0.5, rel=0.05)


def test_hrnet_is_built_with_its_options():
    network = segmentation_network("hrnetv2", classes=4, width=2, stem_stride=1, in_channels=4)
    assert isinstance(network, HRNetV2)
    assert network.backbone(torch.zeros(2, 4, 9, 8))[0].shape == (2, 2, 9, 8)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("hrnetv", {"width": 18}, "Did you mean 'hrnetv2'"),
        ("HRNetV2", {"width": 18}, "Did you mean 'hrnetv2'"),
        ("basicunet", {}, "Did you mean 'monai:BasicUNet'"),
        ("qqqqqq", {}, "Known: .*hrnetv2"),
        ("hrnetv2", {"widht": 18}, "no option 'widht'. Did you mean 'width'"),
        ("hrnetv2", {}, "needs the option 'width'"),
        ("monai:BasicUnett", {}, "Did you mean 'monai:BasicUNet'"),
        ("monai:convert_to", {}, "no two-dimensional segmentation network"),
        ("monai:SENet", {}, "no two-dimensional segmentation network"),
        ("monai:UNet", {"chanels": (8, 16)}, "no option 'chanels'. Did you mean 'channels'"),
        ("monai:UNet", {"spatial_dims": 3}, "no option 'spatial_dims'"),
        ("monai:UNet", {"strides": (2,)}, "refuses the options"),
        ("monai:UNet", {"size_multiple": 0}, "size_multiple 0"),
        ("monai:UNet", {"classes": 0}, "with 0 classes"),
    ],
)
def test_unknown_names_and_options_are_answered_with_the_nearest(name: str, options: dict, message: str):
    with pytest.raises(ModelError, match=message):
        segmentation_network(name, **{"classes": 3, **options})


def test_names_with_half_of_the_letters_in_common_are_near():
    assert nearest("unet", ["monai:UNet", "qqq"]) == "Did you mean 'monai:UNet'?"  # 8 of 14 letters
    assert nearest("net", ["monai:UNet", "qqq"]) == "Known: monai:UNet, qqq."  # 6 of 13


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError, match=r"monai:UNet: input of shape .* needed \(B, 3, H, W\)"):
        segmentation_network("monai:UNet", classes=3)(torch.zeros(1, 1, 16, 16))


def test_known_monai_names_include_the_common_ones():
    assert set(MONAI_NAMES) <= set(monai_network_names())


def test_monai_is_not_imported_before_it_is_needed():
    code = "import sys, wsi_deform.networks.registry; sys.exit('monai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("name", "options"), [("AHNet", {}), ("FlexibleUNet", {}), ("MedNeXt", {})])
def test_larger_monai_networks_take_sampled_images(name: str, options: dict):
    network = segmentation_network(f"monai:{name}", classes=5, **options).eval()
    with torch.inference_mode():
        for size in ((16, 64), (37, 90)):
            assert network(torch.zeros(1, 3, *size)).shape == (1, 5, *size)


def test_a_network_of_one_size_pads_to_it_and_refuses_more():
    network = segmentation_network("monai:SegResNetVAE", classes=2, input_image_size=(64, 128)).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 16, 64)).shape == (1, 2, 16, 64)
        for height, width in ((65, 90), (16, 129)):
            with pytest.raises(ModelError, match=rf"{height} x {width} px .* at most the 64 x 128"):
                network(torch.zeros(1, 3, height, width))
    with pytest.raises(ModelError, match="needed one side, or height and width"):
        segmentation_network("monai:SegResNetVAE", classes=2, input_image_size=(64, 128, 64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DenseNet", r"returned \(1, 3\), needed scores"),
        ("VNet", "divisible by in_channels"),
        ("AutoEncoder", "missing a required argument: 'channels'"),
    ],
)
def test_what_cannot_segment_is_refused_when_it_is_built(name: str, message: str):
    with pytest.raises(ModelError, match=message):
        segmentation_network(f"monai:{name}", classes=3)


def test_one_side_is_the_size_of_a_square():
    assert _fixed_size("any", {"img_size": 96}) == (96, 96)
    assert _fixed_size("any", {"img_size": None, "input_image_size": [32, 64]}) == (32, 64)
    assert _fixed_size("any", {"img_size": None, "channels": 4}) is None


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    from monai.networks import nets

    class NeedsMore(nets.UNet):
        def __init__(self, spatial_dims: int, in_channels: int, out_channels: int) -> None:
            super().__init__(spatial_dims, in_channels, out_channels, channels=(4, 8), strides=(2,))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ImportError("from einops import rearrange (No module named 'einops').\nOriginal traceback")

    monkeypatch.setattr(nets, "NeedsMore", NeedsMore, raising=False)
    with pytest.raises(ModelError, match="pip install einops") as error:
        segmentation_network("monai:NeedsMore", classes=3)
    assert "traceback" not in str(error.value)


def test_building_a_network_leaves_the_random_sequence_to_its_weights():
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        network = segmentation_network("monai:BasicUNet", classes=2)
        drawn.append((torch.rand(1), network.training))
    assert drawn[0] == drawn[1]
    assert drawn[0][1]
