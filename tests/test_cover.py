"""Which fields cover a slide, and how many samples each of them gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_reader import ArrayReader
from torch import Tensor

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import budgets_of, field_masses
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.model import Model
from wsi_deform.slide.slide import Slide

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
