import numpy as np
import torch
from drawn_reader import ArrayReader

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import normalised, view_of
from wsi_deform.data.augment import random_change
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.model import Model
from wsi_deform.sampled_fields import sample_fields
from wsi_deform.segment import segment_slide
from wsi_deform.slide.slide import Slide

REGION = Region(0, 0, 256, 128)
STAINS = {
    "pale": ([0.45, 0.84, 0.30], [0.15, 0.95, 0.27], 0.6),
    "dark": ([0.65, 0.66, 0.37], [0.27, 0.88, 0.39], 1.5),
}


def drawn(name):
    """The same tissue, of haematoxylin and eosin in patches of 8 px, in stains of their own; glass on the right."""
    *vectors, strength = STAINS[name]
    amounts = np.random.default_rng(0).beta(1.2, 2.0, (16, 24, 2)) * [1.5, 1.0] * strength
    amounts = np.pad(amounts, ((0, 0), (0, 8), (0, 0))).repeat(8, axis=0).repeat(8, axis=1)
    pixels = np.rint(255 * np.exp(-amounts @ np.array(vectors))).astype(np.uint8)
    return Slide.from_reader(ArrayReader(pixels, levels=3), slide_id=name)


def make_model(stain, *, density="uniform"):
    torch.manual_seed(0)
    config = read_config(
        changes=[
            f"sampling={{budget: [32, 64], density: {density}}}",
            f"networks={{stain: {stain}, segmentation: {{name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}}}}",
        ]
    )
    return Model(config=config, classes=ClassTable.from_names(["background", "other"]), mpp=0.5).eval()


def sampled(slide, model):
    field = Field(REGION, REGION)
    view = view_of(slide, field, Size(64, 32), stain=model.config.networks.stain)[None]
    return sample_fields(model, [slide], [field], view, size=Size(64, 32)).images[0]


def distance(one, other):
    return (one - other).abs().mean().item()


def test_views_and_sampled_images_of_two_stains_come_closer_in_the_same_colours():
    pale, dark = drawn("pale"), drawn("dark")
    size, field = Size(32, 16), Field(REGION, REGION)
    views = {
        stain: [view_of(slide, field, size, stain=stain) for slide in (pale, dark)]
        for stain in ("none", "macenko")
    }
    assert distance(*views["macenko"]) < 0.3 * distance(*views["none"])
    images = [sampled(slide, make_model("macenko")) for slide in (pale, dark)]
    plain = [sampled(slide, make_model("none")) for slide in (pale, dark)]
    assert distance(*images) < 0.3 * distance(*plain)
    # What the networks see of one place has one colour, seen from far or near.
    shrunk = images[1].view(3, 16, 2, 32, 2).mean(dim=(2, 4))
    assert distance(shrunk, views["macenko"][1]) < 3


def test_segmentation_sees_the_normalised_colours():
    dark = drawn("dark")
    labels = {
        stain: segment_slide(dark, make_model(stain)).fields[0].probabilities for stain in ("none", "macenko")
    }
    assert not np.array_equal(labels["none"], labels["macenko"])


def test_gradient_reaches_the_density_through_normalised_jittered_and_turned_samples():
    slide, field = drawn("dark"), Field(REGION, REGION)
    model = make_model("macenko", density="learned")
    size = Size(64, 32)
    change = random_change(
        [size],
        [REGION.size],
        flip_x=True,
        flip_y=True,
        shift_cells=1.0,
        warp_cells=0.3,
        transpose=True,
        rotate_degrees=30.0,
        stain_jitter=0.1,
        seed=2,
    )
    view = change.transform_view(view_of(slide, field, size, stain="macenko")[None])
    found = sample_fields(model, [slide], [field], view, size=change.size_of(size), place=change)
    assert found.grid.min() < 0
    assert found.grid.max() > 1
    change.transform_images(found.images).square().mean().backward()
    gradients = [parameter.grad for parameter in model.deformation.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert max(gradient.abs().max() for gradient in gradients) > 1e-3


def test_none_changes_nothing_and_bare_glass_keeps_its_colour():
    image = 255 * torch.rand(3, 4, 4)
    assert normalised(drawn("pale"), image, "none") is image
    bare = Slide.from_reader(ArrayReader(np.full((64, 64, 3), 240, np.uint8)), slide_id="bare")
    assert normalised(bare, image, "macenko") is image
