"""BatchNorm on one pixel, and resizing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from wsi_deform.networks.layers import BatchNorm, Chain, he_initialise, resized


def test_batch_norm_equals_torch_where_torch_works():
    torch.manual_seed(0)
    ours, theirs, features = BatchNorm(4), nn.BatchNorm2d(4), torch.randn(2, 4, 3, 5)
    assert torch.equal(ours(features), theirs(features))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert torch.equal(ours.running_var, theirs.running_var)


def test_batch_norm_of_one_pixel_uses_and_keeps_the_running_statistics():
    layer, features = BatchNorm(4), torch.randn(1, 4, 1, 1)
    torch.testing.assert_close(layer(features), features, rtol=1e-4, atol=1e-5)
    assert (layer.running_mean == 0).all()
    assert layer.num_batches_tracked == 0


def test_resized_keeps_a_fitting_size_and_a_constant():
    features = torch.full((1, 2, 3, 5), 7.0)
    assert resized(features, (3, 5)) is features
    assert torch.allclose(resized(features, (8, 9)), torch.tensor(7.0))


def test_nearest_is_the_pixel_that_a_new_pixels_centre_lies_in():
    features = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    doubled = [[1, 1, 2, 2, 3, 3], [1, 1, 2, 2, 3, 3], [4, 4, 5, 5, 6, 6], [4, 4, 5, 5, 6, 6]]
    assert resized(features, (4, 6), mode="nearest")[0, 0].tolist() == doubled
    # Centres of five pixels over three: .3, .9, 1.5, 2.1, 2.7. The same from both sides.
    assert resized(features, (2, 5), mode="nearest")[0, 0].tolist() == [[1, 1, 2, 3, 3], [4, 4, 5, 6, 6]]


def test_fan_in_is_what_an_output_pixel_sees_of_the_kernel_in_its_group():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.ConvTranspose2d(64, 64, 3, stride=2, groups=4),  # 16 inputs, 9 / 4 of the kernel
        nn.ConvTranspose2d(64, 64, 2, stride=4),  # 64 inputs, no less than one weight
        nn.Conv2d(64, 64, 3, groups=2),  # 32 inputs, 9
        nn.Linear(300, 100),
    )
    he_initialise(layers)
    for layer, fan_in in zip(layers, (16 * 9 / 4, 64, 32 * 9, 300), strict=True):
        assert layer.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)
        assert not layer.bias.any()


def test_norms_start_as_no_change():
    norms = nn.Sequential(BatchNorm(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.BatchNorm2d(4, affine=False))
    for parameter in norms.parameters():
        nn.init.constant_(parameter, 7.0)
    he_initialise(norms)
    for norm in norms[:3]:
        assert (norm.weight.tolist(), norm.bias.tolist()) == ([1, 1, 1, 1], [0, 0, 0, 0])


def test_a_convolution_normalises_by_itself_where_nothing_is_learned():
    """3 x 2 + 1 = 7; less the mean 1, through the deviation sqrt(9) = 3, times 6, plus .5: 12.5."""
    convolution, norm = nn.Conv2d(1, 1, 1), BatchNorm(1, eps=0.0).eval()
    layers = (
        (convolution, "weight", 3.0),
        (convolution, "bias", 1.0),
        (norm, "weight", 6.0),
        (norm, "bias", 0.5),
    )
    with torch.no_grad():
        for layer, name, value in layers:
            getattr(layer, name).fill_(value)
        norm.running_mean.fill_(1.0)
        norm.running_var.fill_(9.0)
    image = torch.full((1, 1, 2, 2), 2.0)
    chain = Chain(convolution, norm, nn.ReLU())
    called: list[str] = []
    norm.register_forward_hook(lambda *_: called.append("norm"))
    with torch.no_grad():
        assert chain(image).tolist() == [[[[12.5, 12.5], [12.5, 12.5]]]]
    assert not called
    # With a gradient, and while traced, the normalisation is a layer of its own.
    assert chain(image).tolist() == [[[[12.5, 12.5], [12.5, 12.5]]]]
    assert called == ["norm"]
    # What changes in the layers is seen the next time.
    with torch.no_grad():
        norm.running_mean.fill_(7.0)
        assert chain(image).tolist() == [[[[0.5, 0.5], [0.5, 0.5]]]]


def test_in_training_a_chain_normalises_by_the_batch():
    torch.manual_seed(0)
    chain, plain = Chain(nn.Conv2d(2, 3, 3, bias=False), BatchNorm(3)), nn.Sequential()
    plain.extend(chain)
    image = torch.randn(4, 2, 6, 6)
    with torch.no_grad():
        assert torch.equal(chain(image), plain(image))
        assert float(chain[1].running_mean.abs().max()) > 0
