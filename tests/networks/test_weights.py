"""Pretrained weights: what fits is loaded, the rest is named, and no code is run."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.hrnet import HRNetV2
from wsi_deform.networks.pspnet import PSPNet
from wsi_deform.networks.registry import segmentation_network
from wsi_deform.networks.weights import load_pretrained


def network(seed: int, width: int = 2, classes: int = 3) -> HRNetV2:
    torch.manual_seed(seed)
    return HRNetV2(width=width, classes=classes)


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """A checkpoint like the published ones: the backbone, and a classification head that we do not have."""
    tensors = {name: tensor.clone() for name, tensor in network(1).backbone.state_dict().items()}
    return {
        **tensors,
        "classifier.weight": torch.zeros(7, 5),
        "incre_modules.0.0.conv1.weight": torch.zeros(2),
    }


#: Of the classification head in the published hrnetv2_w48_imagenet_pretrained.pth.
IMAGENET_HEAD = {
    "incre_modules.0.0.conv1.weight": (32, 48, 1, 1),
    "incre_modules.3.0.bn3.running_var": (1024,),
    "downsamp_modules.0.0.weight": (256, 128, 3, 3),
    "downsamp_modules.2.0.bias": (1024,),
    "final_layer.0.weight": (2048, 1024, 1, 1),
    "classifier.weight": (1000, 2048),
    "classifier.bias": (1000,),
}


def test_a_file_with_the_names_of_the_published_w48_loads_whole(tmp_path: Path):
    path = tmp_path / "hrnetv2_w48_imagenet_pretrained.pth"
    with torch.device("meta"):
        shapes = {
            name: tensor.shape for name, tensor in HRNetV2(width=48, classes=2).backbone.state_dict().items()
        }
    # One number per tensor, spread out: 300 MB of weights in 1 MB.
    torch.save(
        {name: torch.tensor(0.5).expand(shape) for name, shape in (shapes | IMAGENET_HEAD).items()}, path
    )
    with torch.device("meta"):
        target = HRNetV2(width=48, classes=6, fuse="nearest")
    target.to_empty(device="cpu")
    report = load_pretrained(target, path)
    assert len(report.loaded) == 1830
    assert report.unexpected == tuple(IMAGENET_HEAD)
    assert (report.shape_mismatched, report.remark) == ((), "")
    assert all(name.startswith("head.") for name in report.missing)
    assert all(
        (tensor == torch.tensor(0.5).to(tensor.dtype)).all()
        for tensor in target.backbone.state_dict().values()
    )


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize(
    ("head", "fuse", "said"),
    [
        (
            "incre_modules.0.0.conv1.weight",
            "bilinear",
            "of HRNet's ImageNet classification network, which resizes bra",
        ),
        ("downsamp_modules.0.0.weight", "bilinear", "set networks.segmentation.fuse=nearest."),
        ("incre_modules.0.0.conv1.weight", "nearest", ""),
        (
            "last_layer.0.weight",
            "nearest",
            "of HRNet's segmentation network, which resizes branches by bilinear",
        ),
        ("ocr_distri_head.conv_bn_dropout.0.weight", "nearest", "fuse=bilinear."),
        ("last_layer.0.weight", "bilinear", ""),
        ("decode_head.conv_seg.weight", "nearest", ""),
    ],
)
def test_weights_of_a_network_that_fuses_otherwise_are_remarked_upon(
    tmp_path: Path, published: dict[str, Tensor], prefix: str, head: str, fuse: str, said: str
):
    path = (
        tmp_path / "weights.safetensors"
    )  # quicker than torch.save, and what is said depends on names alone
    tensors = {name: t for name, t in published.items() if not name.startswith(("incre", "classifier"))}
    save_file({prefix + name: t for name, t in (tensors | {head: torch.zeros(2)}).items()}, path)
    target = fusing(fuse)
    for part in (target, target.backbone):
        report = load_pretrained(part, path)
        assert len(report.loaded) == 1830
        assert bool(report.remark) == bool(said)
        assert said in report.remark
        assert report.remark in report.text()
    if said:
        assert "differ by .12 to .18 of their norm (measured on drawn weights, width 18)" in report.remark


@cache
def fusing(fuse: str) -> HRNetV2:
    """A network for tests that look at what is said of it, not at its weights."""
    return HRNetV2(width=2, classes=3, fuse=fuse)


def wrap(tensors: dict[str, Tensor], how: str) -> object:
    return {
        "plain": tensors,
        "module": {f"module.{name}": tensor for name, tensor in tensors.items()},
        "model": {f"model.{name}": tensor for name, tensor in tensors.items()},
        "state_dict": {"epoch": 3, "state_dict": {f"module.model.{k}": v for k, v in tensors.items()}},
        "backbone": {f"backbone.{name}": tensor for name, tensor in tensors.items()},
        "model_module": {"model": {f"module.backbone.{k}": v for k, v in tensors.items()}, "epoch": 1},
    }[how]


@pytest.mark.parametrize("how", ["plain", "module", "model", "state_dict", "backbone", "model_module"])
@pytest.mark.parametrize("zipped", [True, False])
def test_backbone_checkpoint_loads_however_it_is_wrapped(
    tmp_path: Path, published: dict[str, Tensor], how: str, zipped: bool
):
    path = tmp_path / "weights.pth"
    torch.save(wrap(published, how), path, _use_new_zipfile_serialization=zipped)
    loaded_into = network(2)
    report = load_pretrained(loaded_into, path)
    for name, tensor in loaded_into.backbone.state_dict().items():
        assert torch.equal(tensor, published[name]), name
    assert len(report.loaded) == 1830
    assert all(name.startswith("head.") for name in report.missing)
    assert len(report.unexpected) == 2
    assert report.shape_mismatched == ()
    assert str(report).startswith("weights.pth: 1830 loaded")


def test_backbone_beside_a_foreign_head_loads_into_backbone_and_whole(
    tmp_path: Path, published: dict[str, Tensor]
):
    path = tmp_path / "segmenter.pth"
    tensors = {f"backbone.{name}": tensor for name, tensor in published.items()}
    torch.save({"state_dict": {**tensors, "decode_head.conv_seg.weight": torch.zeros(9, 2)}}, path)
    for target in (network(2), network(2).backbone):
        report = load_pretrained(target, path)
        assert len(report.loaded) == 1830
        assert "decode_head.conv_seg.weight" in report.unexpected


@pytest.mark.parametrize("counted", [True, False])
def test_checkpoint_with_the_names_of_torchvision_loads_into_pspnet(tmp_path: Path, counted: bool):
    path = tmp_path / "resnet18.pth"
    torch.manual_seed(0)
    tensors = {
        name: torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in PSPNet(classes=2, depth=18).backbone.state_dict().items()
        # The oldest published files know no counters.
        if counted or not name.endswith("num_batches_tracked")
    }
    torch.save({**tensors, "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}, path)
    target = PSPNet(classes=2, depth=18)
    report = load_pretrained(target, path)
    assert report.unexpected == ("fc.weight", "fc.bias")
    assert len(report.loaded) == len(tensors) == (120 if counted else 100)
    left = [name for name in report.missing if not name.endswith("num_batches_tracked")]
    assert all(name.startswith(("pyramid.", "head.")) for name in left)
    own = target.backbone.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in tensors.items())


def test_a_first_convolution_with_more_channels_starts_as_the_published_one(
    tmp_path: Path, published: dict[str, Tensor]
):
    path = tmp_path / "hrnet.pth"
    torch.save(published, path)
    source, target = network(1), HRNetV2(width=2, classes=3, in_channels=4)
    report = load_pretrained(target, path)
    assert report.widened == ("backbone.conv1.weight",)
    assert report.shape_mismatched == ()
    assert len(report.loaded) == 1830
    assert "start at 0: backbone.conv1.weight 64 x 4 x 3 x 3 (file: 64 x 3 x 3 x 3)" in report.text()
    image = torch.randn(1, 4, 16, 24)
    for ours, theirs in zip(target.eval().backbone(image), source.eval().backbone(image[:, :3]), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_report_names_what_was_not_loaded_with_shapes(tmp_path: Path):
    path = tmp_path / "run.pt"
    source = network(1, classes=4).state_dict()
    del source["backbone.bn1.weight"]
    source["extra"] = torch.zeros(1, 7)
    torch.save(source, path)
    report = load_pretrained(network(2, classes=3), path)
    lines = report.text().splitlines()
    assert lines[0] == str(report)
    assert lines[1:] == [
        "  missing, keeps its start values: backbone.bn1.weight 64",
        "  unexpected, ignored: extra 1 x 7",
        "  of another shape, keeps its start values: "
        "head.3.weight 3 x 30 x 1 x 1 (file: 4 x 30 x 1 x 1), head.3.bias 3 (file: 4)",
    ]
    assert "and 1 more" in report.text(max_names=1)
    assert "more" not in report.text(max_names=2)


def test_of_many_names_eight_are_shown_and_the_others_counted(tmp_path: Path):
    path = tmp_path / "run.pt"
    source = nn.Linear(2, 3).state_dict()
    torch.save(source | {f"extra{number}": torch.zeros(1) for number in range(12)}, path)
    (line,) = load_pretrained(nn.Linear(2, 3), path).text().splitlines()[1:]
    assert line.endswith("extra7 1, and 4 more")


class Branches(nn.Module):
    """A bias for each of four branches, of any lengths."""

    def __init__(self, *lengths: int) -> None:
        super().__init__()
        self.branches = nn.ParameterList(torch.full((length,), float(length)) for length in lengths)


def test_a_file_loads_where_as_many_shapes_fit_as_do_not_and_is_refused_where_fewer_do(tmp_path: Path):
    path = tmp_path / "half.pt"
    torch.save(Branches(3, 4, 5, 6).state_dict(), path)
    target = Branches(3, 4, 1, 2)
    report = load_pretrained(target, path)
    assert (report.loaded, report.shape_mismatched) == (
        ("branches.0", "branches.1"),
        ("branches.2", "branches.3"),
    )
    with pytest.raises(ModelError, match=r"half\.pt: 3 of 4 names have another shape, such as 'branches.1'"):
        load_pretrained(Branches(3, 1, 1, 2), path)


@pytest.mark.parametrize(
    ("own", "fits"), [((8, 4, 3, 3), True), ((9, 4, 3, 3), False), ((8, 2, 3, 3), False)]
)
def test_only_further_channels_of_the_same_filters_start_at_zero(
    tmp_path: Path, own: tuple[int, ...], fits: bool
):
    path = tmp_path / "one.pt"
    torch.save({"weight": torch.ones(8, 3, 3, 3)}, path)
    layer = nn.Conv2d(own[1], own[0], 3, bias=False)
    if not fits:
        with pytest.raises(ModelError, match="1 of 1 names have another shape"):
            load_pretrained(layer, path)
        return
    assert load_pretrained(layer, path).widened == ("weight",)
    assert layer.weight.sum((0, 2, 3)).tolist() == [72, 72, 72, 0]


def test_inner_layers_of_a_narrower_network_do_not_load_by_halves(tmp_path: Path):
    path = tmp_path / "one.pt"
    torch.save({"weight": torch.ones(8, 2, 3, 3)}, path)
    with pytest.raises(ModelError, match="1 of 1 names have another shape"):
        load_pretrained(nn.Conv2d(4, 8, 3, bias=False), path)


def test_a_prefix_is_removed_that_most_names_have_and_not_half_of_them(tmp_path: Path):
    path = tmp_path / "names.pt"
    tensors = {"module.weight": torch.ones(3, 2), "module.bias": torch.ones(3)}
    torch.save({**tensors, "other": torch.zeros(1)}, path)
    assert load_pretrained(nn.Linear(2, 3), path).unexpected == ("other",)
    torch.save({**tensors, "other": torch.zeros(1), "another": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="none of its 4 names"):
        load_pretrained(nn.Linear(2, 3), path)


def test_safetensors_file_loads(tmp_path: Path, published: dict[str, Tensor]):
    path = tmp_path / "weights.safetensors"
    save_file(published, path)
    assert len(load_pretrained(network(2).backbone, path).loaded) == 1830


def test_every_network_name_is_in_exactly_one_list(tmp_path: Path):
    source, path = network(1, classes=4).state_dict(), tmp_path / "run.pt"
    del source["backbone.bn1.weight"]
    source["extra"] = torch.zeros(1)
    torch.save(source, path)
    target = network(2, classes=3)
    before = target.head[3].weight.clone()
    report = load_pretrained(target, path)
    assert report.missing == ("backbone.bn1.weight",)
    assert report.unexpected == ("extra",)
    assert set(report.shape_mismatched) == {"head.3.weight", "head.3.bias"}
    assert torch.equal(target.head[3].weight, before)
    assert sorted((*report.loaded, *report.missing, *report.shape_mismatched)) == sorted(target.state_dict())


def test_monai_network_loads_with_and_without_the_adapters_prefix(tmp_path: Path):
    path = tmp_path / "unet.pt"
    source = segmentation_network("monai:UNet", classes=3)
    for names in (source, source.network):
        torch.save({f"module.{k}": v for k, v in names.state_dict().items()}, path)
        target = segmentation_network("monai:UNet", classes=3)
        report = load_pretrained(target, path)
        assert (report.missing, report.unexpected, report.shape_mismatched) == ((), (), ())
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_checkpoint_of_another_width_is_refused_and_changes_nothing(tmp_path: Path):
    path = tmp_path / "w3.pth"
    torch.save(network(1, width=3).backbone.state_dict(), path)
    target = network(2)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ModelError, match=r"w3\.pth: .* another shape, such as .* another width"):
        load_pretrained(target, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_checkpoint_of_another_network_is_refused(tmp_path: Path):
    path = tmp_path / "other.pth"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(
        ModelError, match=r"none of its 2 names is in the network.*Set networks\.pretrained to .*, or to null"
    ):
        load_pretrained(network(2), path)


class Harmful:
    """Unpickling it would make a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_file_with_code_is_refused_and_the_code_not_run(tmp_path: Path):
    path, folder = tmp_path / "harmful.pth", tmp_path / "made"
    torch.save({"conv1.weight": torch.zeros(1), "x": Harmful(folder)}, path)
    with pytest.raises(ModelError, match=r"harmful\.pth: holds more than tensors"):
        load_pretrained(network(2), path)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
def test_damaged_file_is_refused(tmp_path: Path, published: dict[str, Tensor], name: str):
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(published, path)
    else:
        save_file(published, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelError, match=name):
        load_pretrained(network(2), path)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, about what it found
def test_a_scrambled_pickle_is_refused_whatever_torch_raises(tmp_path: Path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "whole.pth", _use_new_zipfile_serialization=False)
    whole, path, causes = (tmp_path / "whole.pth").read_bytes(), tmp_path / "x.pth", set()
    target = nn.Linear(2, 2)
    for place in range(2, len(whole), 3):
        path.write_bytes(whole[:place] + b"R" + whole[place + 1 :])
        with pytest.raises(ModelError, match=r"x\.pth") as caught:
            load_pretrained(target, path)
        causes.add(type(caught.value.__cause__))
    assert {
        AttributeError,
        TypeError,
        IndexError,
        AssertionError,
    } & causes  # not only what torch means to raise


def test_file_that_is_no_checkpoint_is_refused(tmp_path: Path):
    text, empty, numbers = tmp_path / "notes.pth", tmp_path / "empty.pth", tmp_path / "numbers.pth"
    text.write_text("not found")
    empty.write_bytes(b"")
    torch.save({"epoch": 3, "state_dict": {}}, numbers)
    for path in (text, empty, numbers, tmp_path / "absent.pth"):
        with pytest.raises(ModelError, match=path.name):
            load_pretrained(network(2), path)
