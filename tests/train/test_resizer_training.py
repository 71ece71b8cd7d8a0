"""The interpolation baseline from manifest to mask: a resizer makes the sampled image, trained with the network."""

import numpy as np
import psutil
import pytest
import torch
from drawn_reader import ArrayReader

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.config import read_config
from wsi_deform.cover import FieldBudget, budgets_of, fields_of, view_of
from wsi_deform.data.augment import random_change
from wsi_deform.data.batches import load
from wsi_deform.data.study import open_labelled
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ConfigError, ModelError
from wsi_deform.export.folder import export_model
from wsi_deform.geometry import Region, Size
from wsi_deform.grids import even_grids
from wsi_deform.look.fields import Field
from wsi_deform.manifest.read import read_manifest
from wsi_deform.memory import fields_per_batch
from wsi_deform.model import Model, network_input, rgb_of_input
from wsi_deform.model_file import load_model
from wsi_deform.report.run import report_run
from wsi_deform.sampled_fields import sample_fields
from wsi_deform.segment import segment_fields, segment_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.train.loop import train
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.schedule import optimiser_of
from wsi_deform.train.step import learner_of, training_step
from wsi_deform.train.step_loss import change_of_step, field_sums
from wsi_deform.train.training_fields import training_fields, views_of

CLASSES = ClassTable.from_names(["background", "gland"])
TINY = [
    "sampling.density=uniform",
    "sampling.budget=[12, 24]",
    "networks.resizer={blocks: 1, filters: 16, input_scale: 3}",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 2, validate_every: 1, batch: 2, threads: 1}",
    "augmentation={shift_cells: 1.0, warp_cells: 0.3, flip_y: true, transpose: true, stain_jitter: 0.1}",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=4, val=1, test=1, seed=3, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


@pytest.fixture(scope="module")
def run(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    assert train(read_config(changes=TINY), *study, folder).finished
    return folder


def model_of(*changes, classes=CLASSES):
    torch.manual_seed(0)
    return Model(config=read_config(changes=[*TINY, *changes]), classes=classes, mpp=4.0).eval()


def ramp(width=300, height=240):
    """Red is x / 2, green y / 2, in level-0 px at pixel centres: an image that says where it was read."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = (np.arange(width) // 2)[None, :]
    pixels[..., 1] = (np.arange(height) // 2)[:, None]
    return Slide.from_reader(ArrayReader(pixels, levels=1, mpp=4.0), slide_id="ramp")


def test_convention_the_image_read_is_the_sampled_size_times_the_scale_up_to_the_field():
    model = model_of()
    assert model.read_size(Size(24, 12), Size(1000, 500)) == Size(72, 36)
    assert model.read_size(Size(24, 12), Size(60, 500)) == Size(60, 36)
    assert model.read_size(Size(24, 12), Size(60, 30)) == Size(60, 30)
    odd = model_of("networks.resizer.input_scale=2.5")
    assert odd.read_size(Size(25, 13), Size(1000, 500)) == Size(62, 32)
    assert model_of("networks.resizer=null").read_size(Size(24, 12), Size(1000, 500)) is None


def test_convention_a_field_no_larger_than_that_is_read_pixel_by_pixel():
    slide = ramp()
    grids = even_grids(Size(300, 240), like=torch.zeros(1))
    model = model_of("networks.resizer.input_scale=16", "sampling.budget=[24, 30]")
    (field,) = fields_of(slide, model)
    size = Size(30, 24)
    read = model.read_size(size, field.region.size)
    assert read == Size(300, 240)
    sampled = sample_fields(model, [slide], [field], torch.zeros(1, 3, 24, 30), size=size, read_size=read)
    assert sampled.images.shape == (1, 3, 240, 300)
    assert sampled.grid.shape == (1, 24, 30, 2)
    expected = (torch.arange(300) // 2).float()
    torch.testing.assert_close(sampled.images[0, 0, 7], expected, atol=0.02, rtol=0)
    assert float(grids.areas.sum()) == pytest.approx(1, abs=1e-4)


def test_before_training_the_sampled_image_is_the_resized_one_at_the_samples_places():
    slide, model = ramp(), model_of("sampling.budget=[12, 15]")
    (budget,) = budgets_of(slide, model)
    read = model.read_size(budget.size, budget.field.region.size)
    view = view_of(slide, budget.field, model.map_size(budget.size))[None]
    sampled = sample_fields(model, [slide], [budget.field], view, size=budget.size, read_size=read)
    with torch.no_grad():
        seen = model.segmentation_input(sampled.images, sampled.areas)
    assert seen.shape == (1, 3, 12, 15)
    # Inside, the mean of a ramp is its value at the sample; red is x / 2, up to half a grey level.
    red = seen[0, 0, 3:-3, 3:-3]
    wanted = (sampled.grid[0, 3:-3, 3:-3, 0] * 300 - 0.5) / 2
    assert float((red - wanted).abs().max()) < 0.8


@pytest.mark.parametrize("seed", range(8))
def test_augmentation_moves_the_finer_image_as_it_moves_the_samples(seed):
    """Every colour says where it was read: the image resized, and the samples' grid, must say the same."""
    slide, size = ramp(), Size(15, 12)
    model = model_of("sampling.budget=[12, 15]", "networks.resizer.input_scale=5")
    (field,) = fields_of(slide, model)
    change = random_change(
        [size],
        [field.region.size],
        flip_x=True,
        flip_y=True,
        shift_cells=1.0,
        warp_cells=0.3,
        transpose=True,
        rotate_degrees=20.0,
        seed=seed,
    )
    seen = change.size_of(size)
    read = change.size_of(model.read_size(size, field.region.size))
    sampled = sample_fields(
        model, [slide], [field], torch.zeros(1, 3, *seen.shape), size=seen, read_size=read, place=change
    )
    assert sampled.images.shape == (1, 3, *read.shape)
    with torch.no_grad():
        image = model.segmentation_input(sampled.images, sampled.areas)[0]
    assert image.shape == (3, *seen.shape)
    at = sampled.grid[0].clamp(0, 1)
    # Samples whose neighbourhood lies inside: elsewhere the border is repeated.
    inside = ((sampled.grid[0] - 0.5).abs() < 0.36).all(dim=-1)
    assert inside.sum() > 20
    for channel, extent in ((0, 300), (1, 240)):
        error = (image[channel] - (at[..., channel] * extent - 0.5) / 2).abs()[inside]
        assert float(error.max()) < 2.5  # a quarter of a cell, 20 px or 10 grey levels, where the warp bends


def test_an_unchanged_grid_is_only_refined():
    change = random_change(
        [Size(4, 3)], [Size(40, 30)], flip_x=False, flip_y=False, shift_cells=0.0, warp_cells=0.0, seed=0
    )
    grid = even_grids(Size(8, 9), like=torch.zeros(1)).grid
    assert torch.equal(change(grid), grid)
    assert grid[0, 0, :2, 0].tolist() == [0.0625, 0.1875]


def test_gradients_of_the_segmentation_loss_reach_the_resizer(study):
    manifest, classes = study
    model = model_of(classes=classes).train()
    torch.nn.init.normal_(model.resizer.head.weight, std=0.1)
    items = training_fields([open_labelled(row, classes) for row in manifest.of_split("train")[:2]], model)
    assert items[0].read_size == Size(3 * items[0].size.width, 3 * items[0].size.height)
    ((batch,),) = load(views_of(items, model), [[0, 1]], 0)
    sums = field_sums(model, batch, change_of_step(model.config, batch, epoch=0, step=0))
    sums.segmentation.sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in model.resizer.parameters())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_step_changes_both_networks(study, precision):
    manifest, classes = study
    model = model_of(f"training.precision={precision}", classes=classes).train()
    items = training_fields([open_labelled(row, classes) for row in manifest.of_split("train")[:2]], model)
    (shapes,) = load(views_of(items, model), [[0, 1]], 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    learner = learner_of(model, optimiser_of(model), ranks=Ranks())
    assert len(learner.optimiser.param_groups) == 1
    numbers = training_step(learner, shapes, epoch=0, step=0, edge_weight=1.0)
    assert numbers["loss"] > 0
    after = model.state_dict()
    for name in ("resizer.head.weight", "segmentation.network.final_conv.weight"):
        assert not torch.equal(before[name], after[name])


def test_slides_are_segmented_alike_in_batches_of_any_size(study, run):
    """Fields of one sampled size whose regions differ are not read together."""
    manifest, classes = study
    slide, _ = open_labelled(manifest.of_split("test")[0], classes)
    model = load_model(run)
    size = Size(24, 12)
    regions = [Region(0, 0, 64, 32), Region(64, 0, 65, 33), Region(200, 100, 300, 150)]
    budgets = [FieldBudget(field=Field(region=each, kept=each), size=size) for each in regions]
    one = [each.samples.probabilities for each in segment_fields(slide, model, budgets, batch=1)]
    three = [each.samples.probabilities for each in segment_fields(slide, model, budgets, batch=3)]
    for a, b in zip(one, three, strict=True):
        assert a.shape == (288, classes.count)
        assert abs(a.astype(float) - b.astype(float)).max() < 2e-3
    assert segment_slide(slide, model).reverse().region(Region(0, 0, 512, 256)).shape == (256, 512)


def test_a_run_stores_the_resizer_and_says_so(run):
    model = load_model(run)
    assert any(name.startswith("resizer.") for name in model.state_dict())
    assert not model.training
    card = (run / "last.md").read_text()
    assert "resizer: 1 residual block of 16 filters make the sampled image out of one 3 times as long" in card
    assert "A network makes the sampled image out of one 3 times as long along each axis." in (
        report_run(run).read_text()
    )


def test_an_export_is_refused(run, tmp_path):
    with pytest.raises(ModelError, match=r"its resizer \(networks.resizer\) cannot be exported"):
        export_model(run, format="torchscript", out=tmp_path / "out")


@pytest.mark.parametrize("density", ["learned", "tissue", "edges", "edge_based", "edge_positions"])
def test_any_other_density_is_refused(density):
    with pytest.raises(ConfigError, match=f"networks.resizer, sampling.density {density}"):
        model_of(f"sampling.density={density}")


@pytest.mark.parametrize(
    ("resizer", "said"),
    [
        ("{blocks: 5}", "networks.resizer.blocks: found 5"),
        ("{filters: 24}", "networks.resizer.filters: found 24"),
        ("{input_scale: 0.5}", "networks.resizer.input_scale: found 0.5"),
        ("{block: 2}", 'networks.resizer.block: unknown key "block". Did you mean "blocks"'),
    ],
)
def test_settings_out_of_range_are_refused(resizer, said):
    with pytest.raises(ConfigError, match=said):
        read_config(changes=[f"networks.resizer={resizer}"])


def test_one_key_of_a_section_that_is_null_makes_the_section():
    config = read_config("configs/uniform.yaml", changes=["networks.resizer.blocks=2"])
    assert (config.networks.resizer.blocks, config.networks.resizer.filters) == (2, 16)


def test_memory_counts_the_finer_image(study, run):
    manifest, classes = study
    slide, _ = open_labelled(manifest.of_split("test")[0], classes)
    model = load_model(run)
    big = [
        FieldBudget(
            field=Field(region=Region(0, 0, 512, 256), kept=Region(0, 0, 512, 256)), size=Size(170, 85)
        )
    ]
    held = psutil.Process().memory_info().rss / 2**30
    plain = Model(
        config=read_config(changes=[*TINY, "networks.resizer=null"]), classes=classes, mpp=0.5
    ).eval()
    limit = held + 2.5
    assert fields_per_batch(plain, big, wanted=10**6, memory_gib=limit) > 2 * fields_per_batch(
        model, big, wanted=10**6, memory_gib=limit
    )


def test_colours_come_back_from_what_networks_see():
    image = torch.rand(1, 3, 4, 5) * 255
    torch.testing.assert_close(rgb_of_input(network_input(image)), image)
