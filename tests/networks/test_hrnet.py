"""HRNetV2: the names of the published checkpoints, any input size, strides that change no parameter."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch

from wsi_deform.errors import ModelError, ShapeError
from wsi_deform.networks.hrnet import HRNetBackbone, HRNetV2

# Entries, numbers held in all of them, and sha256 of the sorted lines "name shape" ("64x3x3x3"; nothing for a
# scalar) of the published ImageNet checkpoints, classification head left out.
PUBLISHED = {
    18: (1830, 9_596_501, "92cd5f686a15b26868448f2ba74180c2e11fb72c46a2e6ea5bf137abc9268d82"),
    32: (1830, 29_363_185, "bd1d59a5a66281fbda9c8c1c0ca54e16c3452e2176cd5cad3e08a9a0c85088ef"),
    48: (1830, 65_409_521, "3e40adaa08088a937dab66e1902250c9d626ed42ceb325ca642b9e425882b25b"),
}
LITERAL_W18 = {
    "conv1.weight": (64, 3, 3, 3),
    "bn2.running_var": (64,),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.3.conv1.weight": (64, 256, 1, 1),
    "transition1.0.0.weight": (18, 256, 3, 3),
    "transition1.1.0.0.weight": (36, 256, 3, 3),
    "stage2.0.fuse_layers.0.1.0.weight": (18, 36, 1, 1),
    "stage2.0.fuse_layers.1.0.0.1.num_batches_tracked": (),
    "transition2.2.0.0.weight": (72, 36, 3, 3),
    "stage3.3.branches.2.3.conv2.weight": (72, 72, 3, 3),
    "stage3.3.fuse_layers.2.0.1.0.weight": (72, 18, 3, 3),
    "transition3.3.0.1.weight": (144,),
    "stage4.2.fuse_layers.3.0.2.0.weight": (144, 18, 3, 3),
    "stage4.2.branches.3.3.bn2.bias": (144,),
}


def shapes(width: int, **options: int | str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        backbone = HRNetBackbone(width=width, **options)
    return {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}


@pytest.mark.parametrize("width", PUBLISHED)
def test_backbone_names_and_shapes_have_the_digest_of_the_published_checkpoint(width: int):
    found = shapes(width)
    lines = "\n".join(sorted(f"{name} {'x'.join(map(str, shape))}" for name, shape in found.items()))
    numbers = sum(torch.Size(shape).numel() for shape in found.values())
    assert (len(found), numbers, hashlib.sha256(lines.encode()).hexdigest()) == PUBLISHED[width]


def test_backbone_has_these_literal_names():
    found = shapes(18)
    assert {name: found[name] for name in LITERAL_W18} == LITERAL_W18


@pytest.mark.parametrize("width", PUBLISHED)
def test_backbone_names_equal_the_reference_files(width: int, shared_data: Path):
    file = shared_data.parent / "reference" / f"hrnetv2_w{width}_backbone_keys.json"
    if not file.is_file():
        pytest.skip(f"no reference names at {file}")
    reference = {name: tuple(shape) for name, shape in json.loads(file.read_text()).items()}
    assert shapes(width) == reference


def test_nearest_neighbours_give_the_branches_of_an_independent_imagenet_network(shared_data: Path):
    """Its weights are drawn from their names, so that both have the same; bilinear differs by an eighth and more."""
    folder = shared_data.parent / "reference"
    script, branches = folder / "hrnetv2_reference.py", folder / "hrnetv2_w18_reference.npz"
    if not (script.is_file() and branches.is_file()):
        pytest.skip(f"no reference branches at {branches}")
    spec = importlib.util.spec_from_file_location("hrnetv2_reference", script)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    image = torch.from_numpy(np.random.RandomState(7).standard_normal((1, 3, 64, 96)).astype(np.float32))
    apart = {}
    for fuse in ("nearest", "bilinear"):
        backbone = HRNetBackbone(width=18, fuse=fuse).eval()
        backbone.load_state_dict(reference.drawn_state(backbone.state_dict()))
        with torch.inference_mode():
            found = [branch[0].numpy() for branch in backbone(image)]
        with np.load(branches) as stored:
            wanted = [stored[f"branch{number}"] for number in range(4)]
        apart[fuse] = [
            np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
            for ours, theirs in zip(found, wanted, strict=True)
        ]
    assert max(apart["nearest"]) < 1e-5
    assert apart["bilinear"] == pytest.approx([0.176, 0.145, 0.137, 0.123], abs=0.001)


def enlarged(branch: np.ndarray, factor: int, fuse: str) -> np.ndarray:
    """(C, h, w) -> (C, factor h, factor w), by numpy and scipy."""
    if fuse == "nearest":
        return branch.repeat(factor, axis=1).repeat(factor, axis=2)
    zoom = {"order": 1, "mode": "nearest", "grid_mode": True}
    return np.stack([scipy.ndimage.zoom(channel, factor, **zoom) for channel in branch])


@pytest.mark.parametrize("fuse", ["nearest", "bilinear"])
def test_branches_are_fused_as_numpy_and_scipy_do(fuse: str):
    torch.manual_seed(0)
    module = HRNetBackbone(width=2, fuse=fuse).eval().stage4[0]
    sizes = [(2, 16, 24), (4, 8, 12), (8, 4, 6), (16, 2, 3)]
    with torch.inference_mode():
        inner = [branch(torch.randn(1, *size)) for branch, size in zip(module.branches, sizes, strict=True)]
        # The blocks have done their work: what is left is the fusing.
        module.branches = torch.nn.ModuleList(torch.nn.Identity() for _ in sizes)
        found = [branch[0].numpy() for branch in module([branch.clone() for branch in inner])]
        for target, size in enumerate(sizes):
            wanted = inner[target][0].numpy().copy()
            for source in range(4):
                if source != target:
                    carried = module.fuse_layers[target][source](inner[source])[0].numpy()
                    factor = 2 ** max(0, source - target)
                    wanted += carried if factor == 1 else enlarged(carried, factor, fuse)
            assert wanted.shape == size
            np.testing.assert_allclose(found[target], np.maximum(wanted, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", [{"stem_stride": 2}, {"stem_stride": 1}, {"fuse": "nearest"}])
def test_stem_stride_and_fuse_change_no_parameter(option: dict):
    assert shapes(18, **option) == shapes(18)


def test_branches_are_fused_bilinearly_unless_told_otherwise():
    assert HRNetV2(width=2, classes=2).backbone.fuse == "bilinear"
    torch.manual_seed(0)
    networks = {fuse: HRNetV2(width=2, classes=2, fuse=fuse).eval() for fuse in ("bilinear", "nearest")}
    networks["nearest"].load_state_dict(networks["bilinear"].state_dict())
    image = torch.randn(1, 3, 40, 72)
    with torch.inference_mode():
        scores = {fuse: network(image) for fuse, network in networks.items()}
    assert (scores["bilinear"] - scores["nearest"]).norm() > 0.01 * scores["bilinear"].norm()


@pytest.fixture(scope="module")
def small() -> HRNetV2:
    torch.manual_seed(0)
    return HRNetV2(width=4, classes=5)


@pytest.mark.parametrize("size", [(36, 800), (17, 33), (8, 8), (1, 40), (64, 64)])
@pytest.mark.parametrize("training", [True, False])
def test_any_input_size_works(small: HRNetV2, size: tuple[int, int], training: bool):
    scores = small.train(training)(torch.randn(1, 3, *size))
    assert scores.shape == (1, 5, *size)
    assert scores.isfinite().all()


@pytest.mark.parametrize("size", [(17, 33), (1, 40)])
def test_any_input_size_works_with_nearest_neighbours(size: tuple[int, int]):
    torch.manual_seed(0)
    scores = HRNetV2(width=2, classes=5, fuse="nearest")(torch.randn(1, 3, *size))
    assert scores.shape == (1, 5, *size)
    assert scores.isfinite().all()


@pytest.mark.parametrize("stem_stride", [4, 2, 1])
def test_branches_come_finest_first_and_halve_rounding_up(stem_stride: int):
    backbone = HRNetBackbone(width=4, stem_stride=stem_stride).eval()
    with torch.inference_mode():
        branches = backbone(torch.zeros(2, 3, 17, 40))
    rows, columns = -(-17 // stem_stride), -(-40 // stem_stride)
    expected = [(2, 4 << i, -(-rows // 2**i), -(-columns // 2**i)) for i in range(4)]
    assert [tuple(branch.shape) for branch in branches] == expected


def test_published_width_runs_with_its_published_stride():
    network = HRNetV2(width=18, classes=6).eval()
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, 36, 80)).shape == (1, 6, 36, 80)


def test_every_parameter_receives_a_finite_gradient(small: HRNetV2):
    small.train().zero_grad()
    small(torch.randn(2, 3, 20, 44)).square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in small.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    # Biases before a BatchNorm cancel; every weight matters.
    assert all(g.abs().sum() > 0 for name, g in gradients.items() if name.endswith("weight"))


def test_convolutions_start_with_the_standard_deviation_of_he():
    torch.manual_seed(0)
    weight = HRNetBackbone(width=18).layer1[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_channels_last_is_kept_and_changes_no_value(small: HRNetV2):
    image = torch.randn(2, 3, 32, 40)
    small.eval()
    with torch.inference_mode():
        plain = small(image)
        other = small.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    small.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(other, plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))
    assert other.is_contiguous(memory_format=torch.channels_last)


def test_extra_input_channels_are_accepted_and_wrong_ones_refused():
    network = HRNetV2(width=2, classes=2, in_channels=4).eval()
    assert network(torch.zeros(1, 4, 9, 9)).shape == (1, 2, 9, 9)
    with pytest.raises(ShapeError, match=r"\(1, 3, 9, 9\), needed \(B, 4, H, W\)"):
        network(torch.zeros(1, 3, 9, 9))


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0, "classes": 2},
        {"width": 4, "classes": 0},
        {"width": 4, "classes": 2, "stem_stride": 3},
        {"width": 4, "classes": 2, "fuse": "cubic"},
    ],
)
def test_impossible_settings_are_refused(options: dict[str, int]):
    with pytest.raises(ModelError, match="needed"):
        HRNetV2(**options)
