"""What a model remembers of its training slides, and what it says of a slide that is far from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from drawn_reader import ArrayReader
from PIL import Image, ImageStat
from tiny_study import tiny_model, tiny_study

from wsi_deform.errors import ModelError
from wsi_deform.geometry import Region
from wsi_deform.look.appearance import Appearance, TrainingSlides, appearance_of
from wsi_deform.look.tissue import TissueMask, tissue_mask
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model_file import load_model, save_model
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_files import segment_to_files
from wsi_deform.unlike import slide_remark, training_slides

USUAL = Appearance(colour=(180.0, 100.0, 160.0), mpp=0.5, tissue_share=0.4, vendor="aperio")
SEEN = TrainingSlides.of(
    [USUAL, Appearance(colour=(190.0, 110.0, 170.0), mpp=0.25, tissue_share=0.2, vendor="aperio")]
)


def with_(**changes) -> Appearance:
    return Appearance(
        **{"colour": USUAL.colour, "mpp": USUAL.mpp, "tissue_share": 0.4, "vendor": "aperio"} | changes
    )


def drawn(colour, *, size=(400, 300)) -> Slide:
    pixels = np.full((size[1], size[0], 3), 245, np.uint8)
    pixels[:150, :200] = colour
    return Slide.from_reader(ArrayReader(pixels, levels=3, mpp=0.5), slide_id="a")


def test_the_numbers_are_those_of_the_slides():
    assert SEEN.model_dump() == {
        "slides": 2,
        "colour_mean": (185.0, 105.0, 165.0),
        "colour_spread": (5.0, 5.0, 5.0),
        "mpp": (0.25, 0.5),
        "tissue_share": (0.2, 0.4),
        "vendors": ("aperio",),
    }


def test_a_slides_colour_is_the_mean_of_its_tissue_as_pillow_has_it():
    slide = drawn((150, 60, 140))
    tissue = np.zeros((300, 400), np.bool_)
    tissue[:150, :200] = True
    mask = TissueMask(tissue=tissue, downsample=slide.levels[0].downsample)
    found = appearance_of(slide, mask)
    picture = Image.fromarray(slide.read_region(0, Region(0, 0, 200, 150)))
    assert found.colour == pytest.approx(ImageStat.Stat(picture).mean, abs=0.5)
    assert (found.tissue_share, found.mpp, found.vendor) == (pytest.approx(0.25), 0.5, slide.info.vendor)
    nothing = TissueMask(tissue=np.zeros_like(tissue), downsample=mask.downsample)
    assert appearance_of(slide, nothing).colour is None
    assert appearance_of(slide, None).tissue_share is None


def test_what_the_training_slides_look_like_is_not_remarked_upon():
    for slide in (USUAL, with_(mpp=0.35), with_(tissue_share=0.6), with_(vendor="generic-tiff")):
        assert list(SEEN.remarks(slide)) == []


@pytest.mark.parametrize(
    ("slide", "remark"),
    [
        (with_(colour=(90.0, 100.0, 160.0)), "its tissue has the mean colour 90/100/160, the 2 training slides have "
         "185/105/165 (spread 5/5/5)"),
        (with_(mpp=1.0), "1 um per pixel, the 2 training slides have 0.25 to 0.5"),
        (with_(mpp=0.1), "0.1 um per pixel, the 2 training slides have 0.25 to 0.5"),
        (with_(tissue_share=0.01), "1.0% of the slide is tissue, the 2 training slides have 20.0% to 40.0%"),
        (with_(tissue_share=0.9), "90.0% of the slide is tissue, the 2 training slides have 20.0% to 40.0%"),
        (with_(vendor="hamamatsu"), "scanner or format hamamatsu, the 2 training slides have aperio"),
    ],
)  # fmt: skip
def test_what_is_far_outside_is_remarked_upon_with_the_numbers(slide: Appearance, remark: str):
    assert list(SEEN.remarks(slide)) == [remark]


def test_slides_without_tissue_or_mpp_have_nothing_to_compare():
    bare = Appearance(colour=None, mpp=None, tissue_share=None, vendor="generic-tiff")
    assert list(TrainingSlides.of([bare]).remarks(USUAL)) == [
        "scanner or format aperio, the training slide has generic-tiff"
    ]
    assert list(SEEN.remarks(bare)) == []


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    folder = tmp_path_factory.mktemp("unlike")
    made = tiny_study(folder / "data")
    paths = [row.slide for row in read_manifest(made.manifest).rows]
    return paths, tiny_model(folder / "run", made.classes)


def test_a_model_keeps_the_numbers_and_older_models_have_none(study, tmp_path: Path):
    paths, run = study
    model = load_model(run)
    assert model.trained_on is None
    slides = [open_slide(path) for path in paths]
    assert slide_remark(slides[0], model) == ""
    model.trained_on = training_slides(slides, model)
    save_model(model, tmp_path / "best.safetensors", facts={})
    assert load_model(tmp_path).trained_on == model.trained_on
    about = json.loads((tmp_path / "best.json").read_text())
    assert about["trained_on"]["slides"] == len(slides)
    assert about["trained_on"]["mpp"] == [0.5, 0.5]
    about["trained_on"]["colour_mean"] = "pink"
    (tmp_path / "best.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=r"best\.json: trained_on\.colour_mean"):
        load_model(tmp_path)


def test_segment_says_how_a_slide_differs(study, tmp_path: Path):
    paths, run = study
    model = load_model(run)
    usual = open_slide(paths[0])
    model.trained_on = training_slides([usual], model)
    assert segment_to_files(usual, model, MaskFolder(tmp_path / "a")).remark == ""
    green = drawn((40, 160, 40))
    assert tissue_mask(green).fraction > 0.2
    remark = segment_to_files(green, model, MaskFolder(tmp_path / "b")).remark
    # The cells at its border are part glass.
    found = re.match(
        r"unlike the training slides: its tissue has the mean colour (\d+)/(\d+)/(\d+), the tr", remark
    )
    assert found is not None
    assert [int(each) for each in found.groups()] == pytest.approx([40, 160, 40], abs=20)
