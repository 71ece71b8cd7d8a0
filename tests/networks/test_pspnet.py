"""PSPNet: the names of the published checkpoints, any input size, pooling that tiles the map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from wsi_deform.errors import ModelError, ShapeError
from wsi_deform.networks.pspnet import PSPNet, region_means
from wsi_deform.networks.registry import segmentation_network
from wsi_deform.networks.resnet import ResNetBackbone

# Parameters of torchvision's published networks without their last, fully connected layer.
PUBLISHED_PARAMETERS = {18: 11_176_512, 34: 21_284_672, 50: 23_508_032, 101: 42_500_160}
LITERAL_50 = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.num_batches_tracked": (),
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.running_mean": (256,),
    "layer2.0.conv2.weight": (128, 128, 3, 3),
    "layer3.5.bn3.bias": (1024,),
    "layer4.0.downsample.0.weight": (2048, 1024, 1, 1),
    "layer4.2.conv3.weight": (2048, 512, 1, 1),
}


def backbone(depth: int, **options: int) -> ResNetBackbone:
    with torch.device("meta"):
        return ResNetBackbone(depth=depth, **options)


def shapes(depth: int, **options: int) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in backbone(depth, **options).state_dict().items()}


@pytest.fixture(scope="module")
def small() -> PSPNet:
    torch.manual_seed(0)
    return PSPNet(classes=5, depth=18)


@pytest.mark.parametrize("depth", PUBLISHED_PARAMETERS)
def test_backbone_has_as_many_parameters_as_the_published_network(depth: int):
    assert sum(p.numel() for p in backbone(depth).parameters()) == PUBLISHED_PARAMETERS[depth]


def test_backbone_has_the_names_of_the_published_checkpoint():
    found = shapes(50)
    assert {name: found[name] for name in LITERAL_50} == LITERAL_50
    # 53 convolutions, and 5 entries for each of their BatchNorms.
    assert len(found) == 53 * 6
    assert {name.partition(".")[0] for name in found} == {
        "conv1",
        "bn1",
        "layer1",
        "layer2",
        "layer3",
        "layer4",
    }


@pytest.mark.parametrize("options", [{"stem_stride": 2}, {"stem_stride": 1}, {"dilated": False}])
def test_strides_and_dilation_change_no_parameter(options: dict[str, int]):
    assert shapes(18, **options) == shapes(18)


@pytest.mark.parametrize("depth", [18, 50])
def test_dilated_network_computes_the_strided_one_at_every_pixel(depth: int):
    torch.manual_seed(0)
    strided, dilated = (ResNetBackbone(depth=depth, dilated=each).eval() for each in (False, True))
    dilated.load_state_dict(strided.state_dict())
    image = torch.randn(1, 3, 40, 72)
    with torch.inference_mode():
        coarse, fine = strided(image), dilated(image)
    assert fine.shape[-2:] == (5, 9)
    torch.testing.assert_close(fine[..., ::4, ::4], coarse, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [(16, 64), (37, 90), (17, 33), (4, 4), (1, 40)])
@pytest.mark.parametrize("training", [True, False])
def test_any_input_size_works(small: PSPNet, size: tuple[int, int], training: bool):
    scores = small.train(training)(torch.randn(1, 3, *size))
    assert scores.shape == (1, 5, *size)
    assert scores.isfinite().all()


@pytest.mark.parametrize("stem_stride", [4, 2, 1])
def test_features_have_half_the_resolution_of_the_stem(stem_stride: int):
    network = ResNetBackbone(depth=18, stem_stride=stem_stride).eval()
    with torch.inference_mode():
        features = network(torch.zeros(1, 3, 17, 40))
    stem = (-(-17 // stem_stride), -(-40 // stem_stride))
    assert features.shape == (1, 512, -(-stem[0] // 2), -(-stem[1] // 2))


@pytest.mark.parametrize("size", [(6, 12), (18, 6)])
def test_region_means_are_adaptive_pooling_where_regions_hold_whole_pixels(size: tuple[int, int]):
    features = torch.randn(2, 3, *size)
    for bins in (1, 2, 3, 6):
        torch.testing.assert_close(region_means(features, bins), F.adaptive_avg_pool2d(features, bins))


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (5, 23)])
def test_region_means_keep_the_mean_of_the_map(size: tuple[int, int]):
    features = torch.randn(1, 4, *size)
    for bins in (1, 2, 3, 6):
        torch.testing.assert_close(region_means(features, bins).mean((2, 3)), features.mean((2, 3)))


def test_every_parameter_receives_a_finite_gradient(small: PSPNet):
    torch.manual_seed(1)
    small.train().zero_grad()
    small(torch.randn(2, 3, 32, 64)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in small.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert all(g.abs().sum() > 0 for name, g in gradients.items() if name.endswith("weight"))


def test_evaluation_repeats_itself_and_does_not_depend_on_the_batch(small: PSPNet):
    images = torch.randn(2, 3, 16, 64)
    with torch.inference_mode():
        both = small.eval()(images)
        assert torch.equal(small(images), both)
        torch.testing.assert_close(small(images[:1]), both[:1], rtol=1e-4, atol=1e-4)


def test_convolutions_start_with_the_standard_deviation_of_he(small: PSPNet):
    fresh = PSPNet(classes=2, depth=18)
    assert fresh.backbone.layer3[1].conv2.weight.std().item() == pytest.approx(
        (2 / (256 * 9)) ** 0.5, rel=0.02
    )
    assert fresh.pyramid.levels[0][0].weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.02)


def test_pspnet_is_built_by_name():
    with torch.device("meta"):
        network = segmentation_network("pspnet", classes=4, depth=50, stem_stride=2, in_channels=4)
    assert isinstance(network, PSPNet)
    assert network.backbone.channels == 2048


@pytest.mark.parametrize("options", [{"depth": 49}, {"stem_stride": 3}, {"classes": 0}])
def test_impossible_settings_are_refused(options: dict[str, int]):
    with pytest.raises(ModelError, match="needed"):
        PSPNet(**{"classes": 3, "depth": 18, **options})


def test_wrong_input_is_refused(small: PSPNet):
    with pytest.raises(ShapeError, match=r"PSPNet: .* needed \(B, 3, H, W\)"):
        small(torch.zeros(1, 1, 16, 16))
