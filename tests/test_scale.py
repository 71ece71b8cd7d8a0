"""The physical scale of a slide for a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_reader import ArrayReader

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.scale import (
    has_tissue,
    limits_to_tissue,
    mpp_remark,
    px_from_um,
    refuse_too_coarse,
    samples_remark,
)
from wsi_deform.slide.slide import Slide

NETWORK = "networks.segmentation={name: hrnetv2, width: 2, stem_stride: 4}"


def model_of(mpp: float | None) -> Model:
    changes = [NETWORK, *(["fields.side_um=null", "sampling.coarsest_um=null"] if mpp is None else [])]
    return Model(config=read_config(changes=changes), classes=ClassTable.from_names(["a", "b"]), mpp=mpp)


def slide_of(mpp: float | None) -> Slide:
    return Slide.from_reader(ArrayReader(np.zeros((8, 8, 3), np.uint8), mpp=mpp), slide_id="drawn")


@pytest.mark.parametrize(
    ("slide_mpp", "model_mpp", "said"),
    [
        (None, None, ""),
        (0.5, 0.5, ""),
        (0.125, 0.5, ""),
        (2.0, 0.5, ""),
        (0.124, 0.5, "0.124 um per pixel, but the model was trained at 0.5: do not trust the mask"),
        (2.01, 0.5, "2.01 um per pixel, but the model was trained at 0.5: do not trust the mask"),
        (None, 0.5, "no mpp in file or manifest: nothing tells whether it is of the 0.5 um per pixel"),
        (2.0, None, "2 um per pixel, but the model was trained on images without"),
    ],
)
def test_an_mpp_up_to_a_factor_of_four_from_the_models_is_taken(slide_mpp, model_mpp, said):
    found = mpp_remark(slide_of(slide_mpp), model_of(model_mpp))
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_only_fields_of_a_far_slide_with_fewer_pixels_than_samples_are_refused():
    near, far = slide_of(1.9), slide_of(8.0)
    with pytest.raises(SlideError, match="8 um per pixel leave 63 pixels to a field of 64 samples"):
        refuse_too_coarse(far, model_of(0.5), Size(9, 7), Size(8, 8))
    refuse_too_coarse(far, model_of(0.5), Size(8, 8), Size(8, 8))
    refuse_too_coarse(near, model_of(0.5), Size(9, 7), Size(8, 8))
    refuse_too_coarse(slide_of(None), model_of(0.5), Size(9, 7), Size(8, 8))
    refuse_too_coarse(far, model_of(None), Size(9, 7), Size(8, 8))


def test_lengths_in_um_are_px_of_the_slide():
    assert px_from_um(100, slide_of(0.25), model_of(0.5)) == 400
    with pytest.raises(SlideError, match="training slides have none"):
        px_from_um(100, slide_of(None), model_of(None))


@pytest.mark.parametrize(
    ("mpp", "file", "shown"),
    [(0.5, None, True), (0.5, Path("a.png"), True), (None, Path("a.png"), True), (None, None, False)],
)
def test_what_has_an_mpp_or_a_tissue_mask_shows_tissue(mpp, file, shown):
    assert has_tissue(model_of(mpp), file) == shown
    assert limits_to_tissue(None, model_of(mpp), file) == shown
    assert limits_to_tissue(True, model_of(mpp), file)
    assert not limits_to_tissue(False, model_of(mpp), file)


@pytest.mark.parametrize(
    ("slide_mpp", "said"),
    [
        (5.0, " (10 times that, as if a unit was mistaken: a factor of 10): do not trust the mask"),
        (12.5, " (25 times that, as if a unit was mistaken: a factor of 25.4): do not trust the mask"),
        (0.0049, " (0.0098 times that, as if a unit was mistaken: a factor of 100): do not trust the mask"),
        (4.0, "trained at 0.5: do not trust the mask"),
    ],
)
def test_an_mpp_off_by_what_confused_units_make_is_told_so(slide_mpp, said):
    assert said in mpp_remark(slide_of(slide_mpp), model_of(0.5))


def test_training_fields_with_fewer_pixels_than_samples_are_told_with_the_length_that_makes_them_small():
    slide, few, many = slide_of(0.5), Size(8, 8), Size(80, 80)
    fields = [(slide, few, Size(8, 8)), (slide, few, Size(9, 8)), (slide, many, Size(9, 8))]
    said = samples_remark(fields, model_of(0.5))
    assert said.startswith("1 of 3 training fields have fewer pixels than samples")
    assert said.endswith("8 x 8 px for 9 x 8 samples. Choose a smaller sampling.budget, or larger fields")
    in_mm = Model(
        config=read_config(changes=[NETWORK, "fields.side_um=2.5"]),
        classes=ClassTable.from_names(["a", "b"]),
        mpp=0.5,
    )
    assert samples_remark(fields, in_mm).endswith("side_um is 2.5 um; if it was meant in mm, write 2500")
    assert samples_remark([fields[0], fields[2]], model_of(0.5)) == ""
