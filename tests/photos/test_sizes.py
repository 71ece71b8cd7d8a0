"""Sizes of sampled images, views and pulls, as the paper states them."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_reader import ArrayReader

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import fields_of
from wsi_deform.deform.grid import sampling_grid
from wsi_deform.errors import ConfigError
from wsi_deform.geometry import Region, Size
from wsi_deform.model import Model
from wsi_deform.segment import segment_slide
from wsi_deform.slide.slide import Slide

CLASSES = ClassTable.from_names(["background", "thing"])
PHOTO = ("fields.side_um=null", "sampling.coarsest_um=null")
SMALL = "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}"


def model_of(*changes: str, mpp: float | None = None) -> Model:
    return Model(config=read_config(changes=[*PHOTO, SMALL, *changes]), classes=CLASSES, mpp=mpp).eval()


@pytest.mark.parametrize(
    ("size", "region", "width", "height"),
    [
        ("area", Size(2048, 1024), 136, 68),
        ("sides", Size(2048, 1024), 96, 48),
        ("exact", Size(2048, 1024), 96, 96),
        ("area", Size(1024, 1024), 96, 96),
        ("sides", Size(1024, 1024), 96, 96),
        ("exact", Size(1024, 1024), 96, 96),
    ],
)
def test_a_budget_of_96_x_96(size, region, width, height):
    assert model_of("sampling.budget=[96, 96]", f"sampling.size={size}").sampled_size(region) == Size(
        width, height
    )


def test_an_exact_size_lies_as_its_field_does():
    model = model_of("sampling.budget=[64, 128]", "sampling.size=exact")
    assert model.sampled_size(Size(2048, 1024)) == Size(128, 64)
    assert model.sampled_size(Size(1000, 1001)) == Size(64, 128)
    assert model.sampled_size(Size(1000, 1000)) == Size(128, 64)


@pytest.mark.parametrize("side", [32, 48, 64, 80, 96, 300])
def test_the_low_res_view_has_the_size_of_table_4(side):
    model = model_of("sampling.budget=[64, 64]", "sampling.size=exact", f"sampling.view_px=[{side}, {side}]")
    assert model.map_size(model.sampled_size(Size(1024, 1024))) == Size(side, side)


def test_a_view_lies_as_the_sampled_image_does():
    model = model_of("sampling.view_px=[20, 50]")
    assert model.map_size(Size(128, 64)) == Size(50, 20)
    assert model.map_size(Size(64, 128)) == Size(20, 50)


@pytest.mark.parametrize(("changes", "sigma"), [((), 16.0), (("sampling.sigma_px=26",), 26.0)])
def test_sigma_in_px_is_that_whatever_the_map(changes, sigma, monkeypatch):
    seen = []

    def grid(density, *, sigma_px, radius_px, **options):
        seen.append((tuple(density.shape), sigma_px, radius_px))
        return sampling_grid(density, sigma_px=sigma_px, radius_px=radius_px, **options)

    monkeypatch.setattr("wsi_deform.grids.sampling_grid", grid)
    model = model_of("sampling.view_px=[64, 80]", "sampling.size=exact", "sampling.radius_sigmas=2", *changes)
    pixels = np.full((128, 128, 3), 128, np.uint8)
    slide = Slide.from_reader(ArrayReader(pixels, mpp=None), slide_id="grey")
    segment_slide(slide, model)
    assert seen[0] == ((1, 1, 64, 80), sigma, 2 * sigma)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("fields.side_um=2048", "fields.side_px=512"), "side_um 2048 and side_px 512"),
        (
            ("sampling.size=exact", "fields.allocation=density"),
            "sampling.size exact with fields.allocation density",
        ),
        (("sampling.view_px=[64, 32]",), "short side first"),
        (("sampling.sigma_px=0",), "sigma_px"),
        (("fields.exact=true", "fields.side_um=null"), "needed fields.side_um or side_px"),
    ],
)
def test_what_contradicts_is_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        read_config(changes=change)


def test_fields_in_px_cover_all_of_a_photograph_whatever_it_shows():
    """White and black parts are no glass: 100 x 50 px in fields of 50 are two, all of it."""
    pixels = np.full((50, 100, 3), 255, np.uint8)
    pixels[:, 50:] = 0
    slide = Slide.from_reader(ArrayReader(pixels, mpp=None), slide_id="white")
    fields = fields_of(slide, model_of("fields={side_um: null, side_px: 50, margin: 0.1}"))
    assert [(f.kept.x, f.kept.y, f.kept.width, f.kept.height) for f in fields] == [
        (0, 0, 50, 50),
        (50, 0, 50, 50),
    ]
    assert [(f.region.x, f.region.width) for f in fields] == [(0, 55), (45, 55)]


def test_fields_in_px_follow_tissue_where_slides_have_an_mpp():
    pixels = np.full((400, 800, 3), 250, np.uint8)
    pixels[100:300, 100:300] = [180, 60, 140]
    slide = Slide.from_reader(ArrayReader(pixels, levels=3, mpp=4.0), slide_id="glass")
    model = model_of("fields={side_um: null, side_px: 400, margin: 0}", mpp=4.0)
    assert [(f.kept.x, f.kept.width) for f in fields_of(slide, model)] == [(0, 400)]


def test_whole_below_mm2_is_of_fields_in_um_alone():
    slide = Slide.from_reader(ArrayReader(np.zeros((64, 128, 3), np.uint8), mpp=0.5), slide_id="small")
    in_px = model_of("fields={side_um: null, side_px: 64, whole_below_mm2: 16}")
    assert len(fields_of(slide, in_px)) == 2


@pytest.mark.parametrize(
    ("name", "region", "sampled"),
    [
        ("cityscapes", Size(2048, 1024), Size(128, 64)),
        ("deepglobe", Size(2448, 2448), Size(100, 100)),
        ("pca_histo", Size(7986, 368), Size(800, 36)),
    ],
)
def test_the_papers_configurations_sample_what_table_8_says_without_any_um(name, region, sampled):
    from wsi_deform.config import find_config

    config = read_config(find_config(name), changes=[SMALL])
    assert config.lengths_in_um == {}
    model = Model(config=config, classes=CLASSES, mpp=None)
    assert model.sampled_size(region) == sampled
    assert model.map_size(sampled) == sampled


PAPER_SIZES = [
    # Table 8, images as they are.
    ("cityscapes", ("sampling.budget=[16, 32]",), Size(2048, 1024), Size(32, 16)),
    ("cityscapes", ("sampling.budget=[32, 64]",), Size(2048, 1024), Size(64, 32)),
    ("cityscapes", (), Size(2048, 1024), Size(128, 64)),
    ("cityscapes", ("sampling.budget=[128, 256]",), Size(2048, 1024), Size(256, 128)),
    ("deepglobe", ("sampling.budget=[50, 50]",), Size(2448, 2448), Size(50, 50)),
    ("deepglobe", (), Size(2448, 2448), Size(100, 100)),
    ("deepglobe", ("sampling.budget=[200, 200]",), Size(2448, 2448), Size(200, 200)),
    ("deepglobe", ("sampling.budget=[300, 300]",), Size(2448, 2448), Size(300, 300)),
    # Appendix A.6: whichever of the two candidates has fewer pixels, 36 x 800 of its example.
    ("pca_histo", ("sampling.budget=[40, 400]",), Size(9392, 1968), Size(190, 40)),
    ("pca_histo", (), Size(9392, 1968), Size(381, 80)),
    ("pca_histo", (), Size(7986, 368), Size(800, 36)),
    # Tables 2 to 6, a central crop of 1024 x 1024.
    ("cityscapes", ("sampling.budget=[96, 96]",), Size(1024, 1024), Size(96, 96)),
    ("cityscapes", ("sampling.budget=[64, 64]",), Size(1024, 1024), Size(64, 64)),
    ("cityscapes", ("sampling.budget=[256, 256]",), Size(1024, 1024), Size(256, 256)),
]


@pytest.mark.parametrize(("name", "changes", "image", "sampled"), PAPER_SIZES)
def test_a_preset_samples_images_of_its_set_at_the_papers_size(name, changes, image, sampled):
    from wsi_deform.config import find_config

    config = read_config(find_config(name), changes=[SMALL, *changes])
    model = Model(config=config, classes=CLASSES, mpp=None).eval()
    grey = np.broadcast_to(np.uint8(128), (*image.shape, 3))
    (field,) = fields_of(Slide.from_reader(ArrayReader(grey, mpp=None), slide_id="whole"), model)
    assert field.region == Region.whole(image)
    assert model.sampled_size(field.region.size) == sampled
