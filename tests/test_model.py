import pytest
import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.errors import ConfigError, ModelError
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.model_file import load_model, save_model
from wsi_deform.networks.device import device_name
from wsi_deform.networks.inputs import area_input, network_input

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


def test_sampled_images_have_their_long_side_along_that_of_the_region():
    exact = make("sampling={budget: [20, 60], size: exact}")
    assert [exact.sampled_size(Size(*sides)) for sides in ((90, 80), (80, 90), (80, 80))] == [
        Size(60, 20), Size(20, 60), Size(60, 20),
    ]  # fmt: skip
    assert make("sampling={budget: [2, 3], size: exact}").sampled_size(Size(9, 9)) == Size(4, 4)
    assert make("sampling={budget: [2, 3], size: sides}").sampled_size(Size(9, 9)) == Size(4, 4)
    area = make("sampling={budget: [4, 9], size: area}")
    assert area.sampled_size(Size(100, 100)) == Size(6, 6)


def test_views_follow_the_sampled_image_or_have_a_size_of_their_own():
    scaled = make("sampling.map_scale=0.25")
    assert [scaled.map_size(Size(*sides)) for sides in ((96, 24), (1, 1), (10, 14))] == [
        Size(24, 6), Size(1, 1), Size(2, 4),
    ]  # fmt: skip
    own = make("sampling.view_px=[20, 30]")
    assert [own.map_size(Size(*sides)) for sides in ((96, 24), (24, 96), (24, 24))] == [
        Size(30, 20), Size(20, 30), Size(30, 20),
    ]  # fmt: skip


TISSUE = "networks.deformation.inputs=rgb+tissue"


@pytest.mark.parametrize(
    ("changes", "tissue", "labels", "lattice", "areas"),
    [
        (["sampling.density=learned"], False, False, False, True),
        (["sampling.density=learned", TISSUE], True, False, False, True),
        (["sampling.density=uniform", TISSUE], False, False, False, False),
        (["sampling.density=tissue"], True, False, False, True),
        (["sampling.density=edges"], False, True, False, True),
        (["sampling.density=edge_based"], False, False, True, True),
        (["sampling.density=edge_based", TISSUE], True, False, True, True),
        (["sampling.density=edge_positions"], False, True, True, True),
        (["networks.area_channel=false"], False, False, False, False),
    ],
)
def test_what_a_model_needs_and_sees(changes, tissue, labels, lattice, areas):
    model = make(*changes)
    assert (model.sees_tissue, model.needs_labels, model.has_lattice, model.sees_areas) == (
        tissue, labels, lattice, areas,
    )  # fmt: skip
    learned = "sampling.density=learned" in changes or changes == ["networks.area_channel=false"]
    assert (model.deformation is not None) == learned
    assert (model.positions is not None) == ("edge_based" in changes[0])
    channels = 4 if tissue else 3
    if model.positions is not None:
        view = torch.rand(2, channels, 24, 40) * 255
        assert model.lattice(view).shape == (2, 17, 28, 2)
        assert not model.train().positions.training
        assert model.segmentation.training
    elif model.deformation is not None:
        assert model.logits(torch.rand(2, channels, 5, 7) * 255).shape == (2, 1, 5, 7)


def test_what_a_model_has_not_is_refused_by_name():
    view = torch.rand(1, 3, 8, 8)
    with pytest.raises(ModelError, match="density uniform: this model has no deformation network"):
        make("sampling.density=uniform").logits(view)
    with pytest.raises(ModelError, match="density learned: this model has no lattice"):
        make().lattice(view)
    with pytest.raises(ModelError, match="density edge_positions: an oracle"):
        make("sampling.density=edge_positions").lattice(view)
    with pytest.raises(ModelError, match="density edge_based: positions are predicted"):
        make("sampling.density=edge_based").density(view)
    with pytest.raises(ModelError, match="density edges: an oracle"):
        make("sampling.density=edges").density(view)


def test_images_without_um_are_for_models_without_lengths_in_um():
    with pytest.raises(ConfigError, match=r"fields\.side_um 2048 and sampling\.coarsest_um 16 are in um"):
        Model(config=read_config(changes=[SMALL]), classes=CLASSES, mpp=None)
    free = read_config(changes=[SMALL, "fields.side_um=null", "sampling.coarsest_um=null"])
    assert Model(config=free, classes=CLASSES, mpp=None).mpp is None


def test_the_floor_of_sampling_is_that_of_every_density():
    view = torch.zeros(1, 4, 6, 8)
    view[:, 3, :, 4:] = 1.0
    tissue = make("sampling={density: tissue, floor: 0.5}", "loss.edge_floor=0").density(view)[0, 0, 0]
    assert (tissue * 48).tolist() == pytest.approx([0.5] * 4 + [1.5] * 4)
    wanted = torch.tensor([0.0, 2.0]).expand(1, 1, 3, 2)
    edges = make("sampling={density: edges, floor: 0.5}").density(view, wanted)[0, 0, 0]
    assert (edges * 6).tolist() == pytest.approx([0.5, 1.5])
    learned = make("sampling.floor=0.5")
    learned.logits = lambda view: torch.tensor([0.0, 100.0]).expand(1, 1, 3, 2)
    assert (learned.density(view)[0, 0, 0] * 6).tolist() == pytest.approx([0.5, 1.5])


def test_both_targets_are_the_mean_of_edges_and_regions():
    left = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]).expand(1, 1, 6, 6)
    fractions = torch.cat((left, 1 - left, 0 * left), dim=1)

    def row(target):
        settings = f"loss={{edge_blur: 0, edge_floor: 0, edge_target: {target}}}"
        return make(settings).target_of(fractions)[0, 0, 2].tolist()

    assert row("edge") == pytest.approx([0, 3, 3, 0, 0, 0])
    assert row("region") == pytest.approx([0, 0, 1.5, 1.5, 1.5, 1.5])  # class 0 is the background
    assert row("both") == pytest.approx([0, 1.5, 2.25, 0.75, 0.75, 0.75])
    assert row("class_numbers") == pytest.approx([0, 3, 3, 0, 0, 0])


def test_a_device_that_is_not_there_is_refused():
    assert device_name("cpu") == "cpu"
    assert device_name("auto") in ("cpu", "cuda", "mps")
    with pytest.raises(ModelError, match='device "nowhere": .*Needed auto, cpu, cuda or mps'):
        device_name("nowhere")
