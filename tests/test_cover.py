"""Which fields cover a slide, and how many samples each of them gets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from drawn_reader import AddressReader, ArrayReader
from torch import Tensor

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import (
    budgets_of,
    field_masses,
    field_side_px,
    fields_of,
    sampled_size_of,
    spacing_px,
    tissue_of,
    view_of,
)
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.model import Model
from wsi_deform.slide.slide import Slide
from wsi_deform.tissue_cover import counted_tissue, tissue_limit_of

SIZE = Size(512, 128)
FIELDS = "fields={side_um: 64, whole_below_mm2: 0, margin: 0"


class Redness(torch.nn.Module):
    """A deformation network without weights to learn: the logit of a cell is its centred red."""

    def forward(self, view: Tensor) -> Tensor:
        return view[:, :1]


def make_model(*changes: str) -> Model:
    model = Model(
        config=read_config(changes=["sampling.budget=[16, 16]", *changes]),
        classes=ClassTable.from_names(["background", "dark"]),
        mpp=0.5,
    )
    return model.eval()


@pytest.fixture
def slide() -> Slide:
    """Tissue everywhere, in four squares of 128 px; the last two are redder."""
    pixels = np.full((*SIZE.shape, 3), (120, 40, 160), np.uint8)
    pixels[:, 256:, 0] = 180
    return Slide.from_reader(ArrayReader(pixels, levels=4, mpp=0.5), slide_id="drawn")


def test_a_map_cell_of_a_large_field_counts_for_more_of_the_slide(slide):
    """The same map everywhere, 16 x 16 cells in both: shares are those of the area."""
    fields = [Field(region, region) for region in (Region(0, 0, 128, 128), Region(128, 0, 64, 64))]
    assert field_masses(slide, fields, make_model()) == pytest.approx([0.8, 0.2])


def test_context_margins_do_not_count(slide):
    fields = [
        Field(Region(0, 0, 128, 128), Region(0, 0, 128, 128)),
        Field(Region(128, 0, 128, 128), Region(128, 0, 64, 128)),
    ]
    assert field_masses(slide, fields, make_model()) == pytest.approx([2 / 3, 1 / 3])


def allocated(slide: Slide, *changes: str) -> list[Size]:
    model = make_model(*changes)
    model.deformation = Redness()
    return [budget.size for budget in budgets_of(slide, model)]


def test_allocation_by_density_gives_more_samples_to_denser_fields(slide):
    """A logit that is 1.03 higher asks for 2.8 times as much; steps are fourths of an octave."""
    assert allocated(slide, FIELDS + "}") == [Size(16, 16)] * 4
    assert allocated(slide, FIELDS + ", allocation: density}") == [
        Size(13, 12),  # 152 samples
        Size(12, 11),  # 128
        Size(19, 19),  # 362
        Size(19, 19),
    ]


@pytest.mark.parametrize(
    ("ratio", "samples"), [(1, [256, 256, 256, 256]), (1.2, [210, 210, 306, 256]), (4, [156, 132, 361, 361])]
)
def test_no_field_has_more_samples_than_the_ratio_allows(slide, ratio, samples):
    found = allocated(slide, FIELDS + f", allocation: density, allocation_ratio: {ratio}}}")
    assert [size.area for size in found] == samples


def drawn(
    *, mpp: float | None = 0.5, region: Region | None = None, glass: bool = False, size: Size = SIZE
) -> Slide:
    """A slide full of tissue, or of bare glass."""
    pixels = np.full((*size.shape, 3), (245, 245, 245) if glass else (120, 40, 160), np.uint8)
    return Slide.from_reader(ArrayReader(pixels, levels=4, mpp=mpp), slide_id="drawn", region=region)


@pytest.mark.parametrize(
    ("region", "touched", "inside"),
    [
        # Cells of 16 px, 32 x 8 of them: first and last + 1 along x and y.
        (Region(20, 10, 100, 60), (1, 8, 0, 5), (2, 7, 1, 4)),
        (Region(32, 16, 64, 96), (2, 6, 1, 7), (2, 6, 1, 7)),
        (Region(33, 17, 62, 94), (2, 6, 1, 7), (3, 5, 2, 6)),
    ],
)
def test_cells_of_a_region_are_counted_where_it_touches_them_and_limited_where_it_holds_them(
    region, touched, inside
):
    def cells(left: int, right: int, top: int, bottom: int) -> np.ndarray:
        expected = np.zeros((8, 32), bool)
        expected[top:bottom, left:right] = True
        return expected

    np.testing.assert_array_equal(counted_tissue(drawn(region=region), limited=False), cells(*touched))
    limit = tissue_limit_of(drawn(region=region, glass=True), 0)
    np.testing.assert_array_equal(limit.cells, ~cells(*inside))
    assert (limit.size, limit.background) == (SIZE, 0)


def test_tissue_is_counted_where_a_mask_is_limited_or_an_mpp_says_that_it_may_be_there():
    assert counted_tissue(drawn(mpp=None), limited=False).tolist() == [[False]]
    assert counted_tissue(drawn(mpp=None), limited=True).all()
    assert counted_tissue(drawn(), limited=False).shape == (8, 32)


def test_the_tissue_mask_of_a_slide_has_up_to_768_px():
    assert tissue_of(drawn(mpp=None, size=Size(1000, 250))).tissue.shape == (192, 768)
    slide = drawn()
    assert tissue_of(slide) is tissue_of(slide)


@pytest.mark.parametrize(("mpp", "cells"), [(0.5, 3906), (2.0, 3906), (16.0, 976), (None, 0)])
def test_holes_up_to_a_quarter_of_a_square_millimetre_are_kept(monkeypatch, mpp, cells):
    """Cells of 8 um, or of a pixel: 250,000 um2 are so many."""
    asked = []
    monkeypatch.setattr(
        "wsi_deform.tissue_cover.with_border",
        lambda tissue, *, hole_cells: asked.append(hole_cells) or tissue,
    )
    tissue_limit_of(drawn(mpp=mpp), 0)
    assert asked == [cells]


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ("{side_um: null}", None),
        ("{side_um: null, side_px: 77}", 77),
        # It has 512 x 128 px, .065536 million.
        ("{side_um: null, side_px: 77, whole_below_mpx: 0.065536}", None),
        ("{side_um: null, side_px: 77, whole_below_mpx: 0.065535}", 77),
        # The slide has 256 x 64 um, .016384 mm2.
        ("{side_um: 64, whole_below_mm2: 0.016384}", None),
        ("{side_um: 64, whole_below_mm2: 0.016383}", 128),
        ("{side_um: 64.2, whole_below_mm2: 0}", 128),
        ("{side_um: 64.3, whole_below_mm2: 0}", 129),
        ("{side_um: 0.1, whole_below_mm2: 0}", 1),
        ("{side_um: 64, exact: true}", 128),
    ],
)
def test_the_side_of_fields_and_slides_that_are_one(slide, fields, side):
    assert field_side_px(slide, make_model(f"fields={fields}")) == side


@pytest.mark.parametrize(
    ("fields", "spacing"),
    [
        ("{side_um: null}", 16.0),  # 512 x 128 px and 32 x 8 samples
        ("{side_um: 64, whole_below_mm2: 0, margin: 0}", 8.0),
        ("{side_um: 64, whole_below_mm2: 0, margin: 0.1}", 154 / 16),  # margins of 13 px
        ("{side_um: 64, margin: 0.1, exact: true}", 8.0),  # margins lie inside
    ],
)
def test_spacing_is_how_far_samples_are_apart(slide, fields, spacing):
    assert spacing_px(slide, make_model(f"fields={fields}")) == pytest.approx(spacing)


def test_inner_edges_lie_on_mask_tiles_unless_the_side_is_in_px():
    slide = Slide.from_reader(AddressReader(Size(20_000, 2000), mpp=0.5), slide_id="long")
    um = make_model("fields={side_um: 2560, whole_below_mm2: 0, margin: 0}")  # 5,120 px, and so 4,096
    assert [field.kept.x for field in fields_of(slide, um)] == [0, 4096, 8192, 12288, 16384]
    for side, edges in ((5000, [0, 5000, 10_000, 15_000]), (4096, [0, 4096, 8192, 12288, 16384])):
        px = make_model(f"fields={{side_um: null, side_px: {side}, margin: 0}}")
        assert [field.kept.x for field in fields_of(slide, px)] == edges


def test_exact_fields_have_the_budgets_scale_and_at_least_four_samples_a_side(slide):
    model = make_model("fields={side_um: 64, margin: 0, exact: true}")  # 16 samples on 128 px
    sizes = [
        sampled_size_of(slide, Field(region, region), model)
        for region in (Region(0, 0, 128, 128), Region(0, 0, 60, 44), Region(0, 0, 20, 128))
    ]
    assert sizes == [Size(16, 16), Size(8, 6), Size(4, 16)]


def test_fields_are_alike_without_a_map(slide):
    fields = fields_of(slide, make_model(FIELDS + "}"))
    assert field_masses(slide, fields, make_model("sampling.density=uniform")) == [0.25] * 4
    alone = make_model("fields={side_um: null, allocation: density}")
    assert [budget.size for budget in budgets_of(slide, alone)] == [Size(32, 8)]


def test_a_view_has_red_green_and_blue_in_this_order_and_the_tissue_after_them(slide):
    view = view_of(slide, Field(Region(0, 0, 512, 128), Region(0, 0, 512, 128)), Size(8, 2), tissue=True)
    assert view.shape == (4, 2, 8)
    assert view.is_contiguous()
    assert view[:, 0, 0].tolist() == [120, 40, 160, 1]
    assert view[:, 1, 7].tolist() == [180, 40, 160, 1]


def test_the_mass_of_a_field_is_that_of_its_kept_cells_and_their_size(slide):
    """Cells are worth 1, but for the red half of the slide, which is worth e^1.03 = 2.8 of the others."""
    model = make_model()
    model.deformation = Redness()
    kept = Region(224, 64, 64, 32)  # half of it is red
    fields = [
        Field(Region(192, 0, 128, 128), kept),
        Field(Region(0, 0, 128, 64), Region(0, 0, 128, 64)),
        Field(Region(384, 0, 64, 64), Region(384, 0, 64, 64)),
    ]
    red = math.exp(60 / 255 / 0.229)
    masses = np.array([1024 * (1 + red), 8192, 4096 * red])
    assert field_masses(slide, fields, model) == pytest.approx(masses / masses.sum(), rel=0.02)


def test_of_an_exact_field_that_the_slide_cuts_off_fewer_cells_count(slide):
    model = make_model("fields={side_um: 64, margin: 0, exact: true}")
    fields = [Field(region, region) for region in (Region(0, 0, 128, 128), Region(128, 0, 64, 128))]
    assert field_masses(slide, fields, model) == pytest.approx([2 / 3, 1 / 3])
