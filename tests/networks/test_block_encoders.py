"""Encoders of blocks by name, with a user's weights: what they compute, and what is refused."""

import json

import pytest
import torch
from blocks_study import block_model
from drawn_reader import ArrayReader
from safetensors.torch import save_file
from torch import nn

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.errors import ModelError
from wsi_deform.export.blocks import BlockScores, block_arguments, block_scores
from wsi_deform.geometry import Region
from wsi_deform.model_blocks import check_weights
from wsi_deform.model_file import load_model, save_model
from wsi_deform.networks.block_encoders import ENCODERS, IMAGENET, Pixels, ResNetEncoder, block_encoder
from wsi_deform.networks.blocks import BlockNetwork, cells_of
from wsi_deform.networks.resnet import ResNetBackbone
from wsi_deform.networks.vit import VisionTransformer
from wsi_deform.networks.weights import load_pretrained
from wsi_deform.runtime.parts import parts_of
from wsi_deform.segment import segment_slide
from wsi_deform.slide.slide import Slide

CLASSES = ClassTable.from_names(["background", "dark"])
SMALL = {"dim": 16, "depth": 2, "heads": 2, "image_px": 64}
VIT = "networks.segmentation={name: vit, dim: 16, depth: 1, heads: 2, image_px: 32, width: 8, "


def small_vit(**options):
    torch.manual_seed(0)
    network = VisionTransformer(**SMALL | options).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


@torch.no_grad()
def test_a_transformer_computes_what_torchs_own_layers_do():
    network, image = small_vit(), torch.randn(2, 3, 64, 64)
    tokens = network.patch_embed["proj"](image).flatten(2).transpose(1, 2)
    tokens = torch.cat((network.cls_token.expand(2, -1, -1), tokens), dim=1) + network.pos_embed
    for block in network.blocks:
        layer = nn.TransformerEncoderLayer(
            16, 2, 64, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        ).eval()
        layer.self_attn.in_proj_weight.copy_(block.attn.qkv.weight)
        layer.self_attn.in_proj_bias.copy_(block.attn.qkv.bias)
        # What a layer adds is scaled where it leaves.
        for part, own, scale in (
            (layer.self_attn.out_proj, block.attn.proj, block.ls1.gamma),
            (layer.linear2, block.mlp.fc2, block.ls2.gamma),
        ):
            part.weight.copy_(own.weight * scale[:, None])
            part.bias.copy_(own.bias * scale)
        layer.linear1.load_state_dict(block.mlp.fc1.state_dict())
        layer.norm1.load_state_dict(block.norm1.state_dict())
        layer.norm2.load_state_dict(block.norm2.state_dict())
        tokens = layer(tokens)
    expected = network.norm(tokens)[:, 1:].transpose(1, 2).reshape(2, 16, 4, 4)
    torch.testing.assert_close(network(image)[16], expected, atol=2e-5, rtol=1e-4)


@torch.no_grad()
def test_positions_are_resized_to_images_of_other_sizes():
    network = small_vit(layer_scale=False)
    rows = torch.arange(4.0).repeat_interleave(4)[None, :, None].expand(1, 16, 16)
    network.pos_embed[:, 1:] = rows
    found = network._positions(8, 2).view(8, 2, 16)
    assert torch.equal(found[:, 0], found[:, 1])
    assert found[:, 0, 0].diff().min() > 0
    assert found[:, 0, 0].mean() == pytest.approx(1.5, abs=1e-5)
    assert network(torch.zeros(1, 3, 128, 32))[16].shape == (1, 16, 8, 2)


@torch.no_grad()
@pytest.mark.parametrize("depth", [18, 50])
def test_a_residual_network_gives_the_features_of_its_stages(depth):
    torch.manual_seed(0)
    encoder, whole = ResNetEncoder(depth=depth).eval(), ResNetBackbone(depth=depth, dilated=False).eval()
    unknown = whole.load_state_dict(encoder.state_dict(), strict=False)
    assert unknown.unexpected_keys == []
    assert {name.split(".")[0] for name in unknown.missing_keys} == {"layer4"}
    stages = {}
    for number, stride in ((1, 4), (2, 8), (3, 16)):
        whole.get_submodule(f"layer{number}").register_forward_hook(
            lambda module, given, out, stride=stride: stages.update({stride: out.clone()})
        )
    image = torch.randn(1, 3, 48, 32)
    found = encoder(image)
    whole(image)
    for stride, features in found.items():
        assert features.shape == (1, encoder.channels[stride], 48 // stride, 32 // stride)
        torch.testing.assert_close(features, stages[stride])


def test_features_of_one_stride_come_to_cells_of_8_px():
    maps = {16: torch.arange(6.0).view(1, 1, 2, 3)}
    assert cells_of(maps, (16,), 8).shape == (1, 1, 4, 6)


def test_pixels_are_those_that_weights_were_trained_on():
    red, green, blue = IMAGENET(torch.full((1, 3, 1, 1), 255.0)).flatten().tolist()
    assert (red, green, blue) == (
        pytest.approx(2.2489, abs=1e-4), pytest.approx(2.4286, abs=1e-4), pytest.approx(2.64, abs=1e-4),
    )  # fmt: skip
    own = BlockNetwork(
        classes=2, levels=2, encoder="resnet18", pixel_mean=[0.5, 0.5, 0.5], pixel_std=[0.25, 0.5, 0.5]
    )
    assert own.pixels(torch.full((1, 3, 1, 1), 255.0)).flatten().tolist() == [2, 1, 1]
    for mean, std in (([0.5, 0.5], [0.5] * 3), ([127, 127, 127], [0.5] * 3), ([0.5] * 3, [0.5, 0.5, 0])):
        with pytest.raises(ModelError, match="needed three numbers, of RGB in"):
            Pixels.of_unit(mean, std)
    with pytest.raises(ModelError, match="alone: needed both, or neither"):
        BlockNetwork(classes=2, levels=2, pixel_mean=[0.5] * 3)


def test_a_users_weights_load_by_the_names_of_their_library(tmp_path):
    path, given = tmp_path / "mine.safetensors", small_vit()
    save_file(given.state_dict() | {"head.weight": torch.zeros(3, 16)}, path)
    network = BlockNetwork(classes=2, levels=3, encoder="vit", encoder_options=SMALL)
    report = load_pretrained(network, path)
    assert len(report.loaded) == len(given.state_dict())
    assert report.unexpected == ("head.weight",)
    for name, value in given.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[name], value)


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        (".pt2", "a program of torch.export.*reads what is no plain tensor by pickle, which runs code"),
        (".onnx", "a network of ONNX, which is not trained further here"),
    ],
)
def test_programs_are_refused_before_they_are_opened(tmp_path, suffix, words):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(b"whatever")
    with pytest.raises(ModelError, match=f"(?s){words}.*Needed the weights alone, as .safetensors"):
        load_pretrained(nn.Linear(2, 2), path)


def test_weights_that_say_how_they_were_trained_must_agree_with_the_settings(tmp_path):
    config = read_config(changes=["sampling.geometry=blocks", "augmentation.shift_cells=0",
                                  "augmentation.warp_cells=0", "networks.segmentation={name: vit}"])  # fmt: skip
    network = BlockNetwork(classes=2, levels=3, encoder="vit", encoder_options=SMALL)
    path, tensors = tmp_path / "mine.safetensors", {"norm.weight": torch.zeros(16)}
    for said in ({}, {"pixel_mean": "0.485,0.456,0.406", "pixel_std": "0.229,0.224,0.225", "um_per_px": "1"}):
        save_file(tensors, path, metadata=said)
        check_weights(config, network, path)
    save_file(tensors, path, metadata={"pixel_mean": "0.7,0.53,0.66", "pixel_std": "0.21,0.26,0.2"})
    with pytest.raises(ModelError, match=r"Needed pixel_mean: \[0.7, 0.53, 0.66\], pixel_std"):
        check_weights(config, network, path)
    save_file(tensors, path, metadata={"um_per_px": "0.5"})
    with pytest.raises(
        ModelError, match=r"trained at 0.5 um per px \(metadata of .*level has 2.5.*from 0.125 to 2"
    ):
        check_weights(config, network, path)
    save_file(tensors, path, metadata={"um_per_px": "half"})
    with pytest.raises(ModelError, match="otherwise than as numbers"):
        check_weights(config, network, path)
    (tmp_path / "mine.pth").write_bytes(b"")
    check_weights(config, network, tmp_path / "mine.pth")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{name: resnet51}", "needed an encoder. Did you mean 'resnet50'"),
        ("{name: resnet18, depth: 2}", "has no option 'depth'"),
        ("{name: vit, dim: wide}", "encoder vit: dim 'wide'. Needed a whole number"),
        ("{name: vit, layer_scale: 1}", "layer_scale 1. Needed true or false"),
        ("{name: vit, patch: 14}", "patches of 14 px: needed 8 or 16"),
        ("{name: vit, dim: 100}", "a dim that is a multiple of heads"),
        ("{name: vit, dim: 16, heads: 2, trained_um: 0.25}", "trained at 0.25 um per px .trained_um., and the"),
        ("{name: vit, trained_um: -1}", "trained_um -1: needed um per px"),
        ("{name: vit, dim: 16, heads: 2, depth: 1, head: groups, width: 8}", "needed an encoder with strides 8"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_are_refused(options, message):
    with pytest.raises(ModelError, match=message):
        block_model(f"networks.segmentation={options}", classes=CLASSES)


def test_every_encoder_can_be_built_and_says_its_channels():
    for name in ENCODERS:
        encoder, _ = block_encoder(name, SMALL if name == "vit" else {})
        assert set(encoder.channels) & {4, 8, 16}


def test_a_model_with_an_encoder_of_its_own_is_stored_loaded_exported_and_segments(tmp_path):
    model = block_model(
        VIT + "trained_um: 1, pixel_mean: [0.7, 0.5, 0.6], pixel_std: [0.2, 0.2, 0.2]}", classes=CLASSES
    )
    save_model(model, tmp_path / "best.safetensors", facts={"epoch": 0})
    stored = load_model(tmp_path / "best.safetensors")
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (256, 512, 3), generator=rng, dtype=torch.uint8).numpy()
    slide = Slide.from_reader(ArrayReader(pixels, levels=3, mpp=0.5), slide_id="noise")
    masks = [
        segment_slide(slide, each, limit_to_tissue=False).reverse().region(Region.whole(slide.size))
        for each in (model, stored)
    ]
    assert masks[0].tobytes() == masks[1].tobytes()
    whole = block_scores(model)
    again = BlockScores(**json.loads(json.dumps(block_arguments(model))))
    again.network.load_state_dict(whole.network.state_dict())
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        assert torch.equal(again.eval()(image), whole(image))
    with pytest.raises(
        ModelError, match="encoder vit: gives feature maps of strides 16; .* Needed runtime torch"
    ):
        parts_of(model)
