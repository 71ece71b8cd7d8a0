import pytest
import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.geometry import Size
from wsi_deform.model import Model, area_input, network_input
from wsi_deform.model_file import load_model, save_model

CLASSES = ClassTable.from_names(["background", "benign", "tumour"])
SMALL = "networks.segmentation={name: hrnetv2, width: 2, stem_stride: 4}"


def make(*changes, classes=CLASSES):
    return Model(config=read_config(changes=[SMALL, *changes]), classes=classes, mpp=0.5)


@pytest.mark.parametrize(
    ("network", "changes", "segmentation", "deformation"),
    [
        ("{name: hrnetv2, width: 4}", [], True, True),
        ("{name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}", [], True, True),
        ("{name: pspnet, depth: 50}", [], False, True),
        ("{name: pspnet, depth: 50}", ["networks.channels_last=true"], True, True),
        ("{name: hrnetv2, width: 4}", ["networks.channels_last=false"], False, False),
    ],
)
def test_a_loaded_model_has_the_memory_format_that_is_faster_on_a_cpu(
    tmp_path, network, changes, segmentation, deformation
):
    model = make(f"networks.segmentation={network}", *changes)
    save_model(model, tmp_path / "best.safetensors", facts={})
    loaded = load_model(tmp_path)
    for part, expected in ((loaded.segmentation, segmentation), (loaded.deformation, deformation)):
        kernels = [
            each
            for each in part.parameters()
            if each.dim() == 4 and each.shape[1] > 1 and each[0, 0].numel() > 1
        ]
        assert {each.is_contiguous(memory_format=torch.channels_last) for each in kernels} == {expected}
    image = torch.rand(1, 3, 16, 24) * 255
    with torch.no_grad():
        plain = model.eval().scores(image)
        assert float((loaded.scores(image) - plain).abs().max()) < 1e-4 * float(plain.abs().max())


def test_density_sums_to_one_and_is_flat_before_training():
    model = make().eval()
    density = model.density(torch.rand(2, 3, 9, 30) * 255)
    torch.testing.assert_close(density, torch.full((2, 1, 9, 30), 1 / 270))
    assert make("sampling.density=uniform").deformation is None


def test_convention_networks_see_colours_centred_and_scaled_as_imagenet_networks_do():
    """ImageNet's mean, 8-bit, red first: (123.675, 116.28, 103.53)."""
    mean = torch.tensor([123.675, 116.28, 103.53]).view(1, 3, 1, 1)
    torch.testing.assert_close(network_input(mean), torch.zeros(1, 3, 1, 1), atol=1e-6, rtol=0)
    white = network_input(torch.full((1, 3, 1, 1), 255.0)).flatten()
    torch.testing.assert_close(white, torch.tensor([2.2489083, 2.4285715, 2.64]))


def test_convention_a_cell_of_mean_size_is_0_and_one_7_4_times_as_large_is_1():
    relative = torch.tensor([1.0, 7.389056, 1 / 7.389056, 0.0]).view(1, 1, 1, 4)
    expected = torch.tensor([0.0, 1.0, -1.0, -4.60517]).view(1, 1, 1, 4)
    torch.testing.assert_close(area_input(relative), expected, atol=1e-6, rtol=0)


def test_convention_the_deformation_network_sees_tissue_centred_as_the_colours_are():
    model = make("networks.deformation.inputs=rgb+tissue").eval()
    seen = []
    model.deformation.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    view = torch.full((1, 4, 8, 3), 255.0)
    view[:, 3] = torch.tensor([0.0, 0.5, 1.0])
    model.logits(view)
    assert seen[0][0, 3, 0].tolist() == [-1, 0, 1]
    assert seen[0][0, 0, 0].tolist() == pytest.approx([2.2489083] * 3)


@pytest.mark.parametrize(("floor", "expected"), [(0, [0.0, 2.0, 2.0, 0.0]), (0.5, [0.5, 1.5, 1.5, 0.5])])
def test_edge_floor_is_added_to_the_target_before_it_is_scaled_to_a_mean_of_1(floor, expected):
    model = make(f"loss={{edge_blur: 0, edge_floor: {floor}}}")
    left = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 6, 4)
    target = model.target_of(torch.cat((left, 1 - left, 0 * left), dim=1))
    torch.testing.assert_close(target, torch.tensor(expected).expand(1, 1, 6, 4))


@pytest.mark.parametrize(("floor", "glass", "tissue"), [(0, 0, 2), (0.5, 0.5, 1.5)])
def test_edge_floor_is_what_a_tissue_mask_as_density_leaves_to_the_glass(floor, glass, tissue):
    model = make("sampling.density=tissue", f"loss.edge_floor={floor}")
    view = torch.zeros(1, 4, 6, 8)
    view[:, 3, :, 4:] = 1.0
    density = model.density(view)[0, 0, 0]
    assert (density * 48).tolist() == pytest.approx([glass] * 4 + [tissue] * 4)


def test_scores_have_the_size_of_the_sampled_image():
    assert make().eval().scores(torch.rand(1, 3, 17, 33) * 255).shape == (1, 3, 17, 33)


def test_sampled_size_follows_the_budget_by_area_or_by_sides():
    region = Size(7986, 368)
    assert make("sampling={budget: [80, 800], size: sides}").sampled_size(region) == Size(800, 36)
    by_area = make("sampling={budget: [80, 800], size: area}").sampled_size(region)
    assert by_area.area == pytest.approx(64_000, rel=0.01)
    model = make("sampling={budget: [24, 96], map_scale: 2}")
    assert model.map_size(Size(96, 24)) == Size(192, 48)
