"""The networks of blocks: what goes where, and what learns."""

import pytest
import torch

from wsi_deform.errors import ModelError, ShapeError
from wsi_deform.networks.block_encoders import ENCODERS, IMAGENET
from wsi_deform.networks.blocks import BlockNetwork, raster


def network(**options):
    torch.manual_seed(0)
    return BlockNetwork(classes=3, **({"levels": 3, "width": 8} | options)).eval()


def test_features_are_one_for_8_px():
    found = network().encode(torch.full((2, 3, 32, 48), 200.0), 1)
    assert found.shape == (2, 8, 4, 6)


@pytest.mark.parametrize(("label_px", "strides", "size"), [(2, (2, 4, 8, 16), (8, 12)), (8, (8, 16), (2, 3))])
def test_finer_labels_have_finer_cells_and_features(label_px, strides, size):
    model = network(label_px=label_px)
    assert model.strides == strides
    assert model.encode(torch.full((2, 3, 32, 48), 200.0), 1).shape == (2, 8, *size)
    assert model.label(rasters_of(model)).shape == (1, 3, 16, 24)


def test_the_head_of_finer_labels_is_the_cheaper_one():
    convolutions = [
        [
            each.groups
            for each in network(label_px=label_px, width=8).head.modules()
            if hasattr(each, "groups")
        ]
        for label_px in (4, 2)
    ]
    assert convolutions == [[1, 1, 1], [8, 1, 8, 1, 1]]


def test_an_encoder_without_fine_features_can_have_fine_labels():
    options = {"dim": 24, "depth": 1, "heads": 3, "patch": 8, "image_px": 32}
    model = network(encoder="vit", encoder_options=options, label_px=2)
    assert model.strides == (8,)
    assert model.encode(torch.full((1, 3, 32, 48), 200.0), 1).shape == (1, 8, 8, 12)


def test_labels_that_an_encoder_has_no_features_for_are_refused(monkeypatch):
    class Fine(torch.nn.Module):
        channels = {4: 3}

        def forward(self, image):
            return {4: torch.nn.functional.avg_pool2d(image, 4)}

    monkeypatch.setitem(ENCODERS, "fine", (Fine, IMAGENET))
    assert network(encoder="fine").label(rasters_of(network(encoder="fine"))).shape == (1, 3, 16, 24)
    with pytest.raises(ModelError, match="encoder fine: has features of stride 4. Needed some of 8"):
        network(encoder="fine", label_px=8)


def test_images_that_are_not_rgb_are_refused():
    with pytest.raises(ShapeError, match=r"\(B, 3, H, W\)"):
        network().encode(torch.zeros(1, 4, 32, 32), 0)


def test_the_encoder_sees_what_its_published_weights_were_trained_on():
    assert network().pixels(torch.tensor([0.0, 127.0, 255.0])).tolist() == [-127 / 128, 0.0, 1.0]


def test_windows_lie_where_their_blocks_are_and_all_else_is_empty():
    features = torch.stack([torch.full((1, 2, 2), value) for value in (5.0, 7.0)])
    places = torch.tensor([[0, 0, 1], [1, 1, 0]])
    found = raster(features, 2, (4, 5), places)
    assert found.shape == (2, 2, 4, 5)
    expected = torch.zeros(2, 4, 5)
    expected[0, 0:2, 2:4] = 5
    expected[1, 2:4, 0:2] = 7
    assert torch.equal(found[:, 0], expected)
    assert torch.equal(found[:, 1], (expected > 0).float())


def test_a_margin_is_cut_off():
    features = torch.arange(16.0).view(1, 1, 4, 4)
    found = raster(features, 1, (2, 2), torch.tensor([[0, 0, 0]]), margin=1)
    assert found[0, 0].tolist() == [[5.0, 6.0], [9.0, 10.0]]


def test_a_window_that_the_raster_cuts_keeps_what_lies_inside():
    found = raster(torch.arange(4.0).view(1, 1, 2, 2) + 1, 1, (2, 3), torch.tensor([[0, 0, 1]]))
    assert found[0, 0].tolist() == [[0.0, 0.0, 1.0], [0.0, 0.0, 3.0]]


def test_gradients_come_back_to_the_windows_that_they_belong_to():
    features = torch.ones(2, 1, 2, 2, requires_grad=True)
    found = raster(features, 1, (2, 4), torch.tensor([[0, 0, 1], [0, 0, 0]]))
    (found[0, 0] * torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])).sum().backward()
    assert features.grad[0, 0].tolist() == [[3.0, 4.0], [7.0, 8.0]]
    assert features.grad[1, 0].tolist() == [[1.0, 2.0], [5.0, 6.0]]


def rasters_of(model, *, requires_grad=False):
    sizes = [(2, 3), (4, 6), (8, 12)]
    return [torch.randn(1, model.width + 1, *size).requires_grad_(requires_grad) for size in sizes]


def test_labels_are_four_to_a_cell_of_the_finest_level():
    model = network()
    assert model.label(rasters_of(model)).shape == (1, 3, 16, 24)


def test_every_level_tells_the_labels_something():
    model = network()
    rasters = rasters_of(model, requires_grad=True)
    model.label(rasters).square().sum().backward()
    assert all(each.grad.abs().sum() > 0 for each in rasters)


def test_scores_send_no_gradient_to_the_features():
    model = network()
    rasters = rasters_of(model, requires_grad=True)
    scored = model.score(rasters[:2])
    assert scored.shape == (1, 1, 4, 6)
    scored.sum().backward()
    assert all(each.grad is None for each in rasters)
    assert model.scorers[1][-1].bias.grad.item() == 24


def test_scores_are_all_alike_at_first():
    model = network()
    assert model.score(rasters_of(model)[:1]).unique().tolist() == [0.0]


def test_a_frozen_encoder_keeps_its_weights_and_its_statistics():
    model = network(frozen=True).train()
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    features = model.encode(torch.rand(2, 3, 32, 32) * 255, 1)
    features.sum().backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert model.joins[1][0].weight.grad.abs().sum() > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.backbone.state_dict().items())


def test_an_encoder_that_is_not_frozen_learns():
    model = network().train()
    model.encode(torch.rand(2, 3, 32, 32) * 255, 0).sum().backward()
    assert model.backbone._conv_stem.weight.grad.abs().sum() > 0


def test_published_weights_find_their_places():
    from wsi_deform.networks.efficientnet import EfficientNetLite0

    names = {f"backbone.{name}" for name in EfficientNetLite0().state_dict()}
    assert names < set(network().state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "resnet"}, "needed an encoder. Did you mean 'resnet50'"),
        ({"width": 0}, "blocks with 0 width"),
        ({"levels": 0}, "blocks with 0 levels"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ModelError, match=message):
        network(**options)
