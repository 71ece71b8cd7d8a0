"""Budgets of blocks in pixels per mm2, of a field and of a slide: what is read is counted."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import tifffile
from blocks_study import SETTINGS, block_model
from distributed import Client, LocalCluster
from drawn_reader import ArrayReader

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import block_share, budgets_of, windows_of
from wsi_deform.errors import ConfigError
from wsi_deform.flops import SAMPLE_FLOPS, sampling_flops
from wsi_deform.memory import looks_bytes
from wsi_deform.model_card import model_card
from wsi_deform.segment import segment_fields
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

CLASSES = ClassTable.from_names(["background", "dark"])
# Fields of 256 x 256 px of .5 um: a first look of 16 x 16 px of 8 um, 64 x 64 px of 2 um, windows of 16 px.
FIELDS = ("fields={side_um: 128, whole_below_mm2: 0, margin: 0}", "blocks.share=null")
LOOK, WINDOW, DENSE = 16 * 16, 16 * 16, 64 * 64


def model_of(*changes):
    return block_model(*FIELDS, *changes, classes=CLASSES)


@pytest.fixture(scope="module")
def slide():
    """Tissue everywhere; of its four fields the first is a chessboard."""
    pixels = np.full((256, 1024, 3), (200, 120, 170), np.uint8)
    y, x = np.mgrid[:256, :256]
    pixels[:, :256][(x // 32 + y // 32) % 2 == 0] = (90, 40, 120)
    return Slide.from_reader(ArrayReader(pixels, levels=4, mpp=0.5), slide_id="four")


def read(slide, model, **options):
    budgets = budgets_of(slide, model)
    assert len(budgets) == 4
    return [each.pixels for each in segment_fields(slide, model, budgets, **options)]


def test_pixels_per_mm2_are_a_share_of_the_finest_level(slide):
    # Of 2 um/px a mm2 has 250,000 px.
    per_mm2 = read(slide, model_of("blocks.px_per_mm2=125000", "blocks.choice=detail"))
    # A look, a block of 16 px of level 1 and five of level 2, of 64 x 64 px.
    assert per_mm2 == [LOOK + 2 * WINDOW + 5 * WINDOW] * 4
    assert per_mm2 == read(slide, model_of("blocks.share=0.5", "blocks.choice=detail"))


def test_pixels_of_a_field_are_those_of_each(slide):
    assert read(slide, model_of("blocks.px=1024", "blocks.choice=detail")) == [LOOK + 3 * WINDOW] * 4


def test_fields_of_a_slide_compete_for_its_pixels(slide):
    px = 4 * LOOK + 24 * WINDOW
    model = model_of(f"blocks.px={px}", "blocks.budget_of=slide", "blocks.choice=detail")
    pixels = read(slide, model)
    assert sum(pixels) == px
    # A third of 24 blocks are of level 1: all 4 of the chessboard, the best of each other field, and one of nothing.
    # Of 16 of level 2 none gets less than one, and the rest goes where there is something to see.
    given = [windows_of(each, model) for each in budgets_of(slide, model)]
    assert given == [(4, 13), (2, 1), (1, 1), (1, 1)]
    assert pixels == [LOOK + sum(each) * WINDOW for each in given]


def test_a_share_of_a_slide_is_of_all_its_fields_and_what_told_it_counts(slide):
    model = model_of("blocks.share=0.5", "blocks.budget_of=slide")
    budgets = budgets_of(slide, model)
    # A learned scorer has the encoder see each field once more.
    assert [each.seen_px for each in budgets] == [LOOK] * 4
    pixels = read(slide, model)
    assert sum(pixels) <= 0.5 * 4 * DENSE + WINDOW
    assert sum(pixels) >= 0.5 * 4 * DENSE - WINDOW
    assert sampling_flops(model, budgets) == sum(pixels) * SAMPLE_FLOPS
    assert looks_bytes(model, budgets) >= looks_bytes(model, budgets[1:2])


def test_of_random_blocks_no_field_comes_first(slide):
    pixels = read(slide, model_of("blocks.share=0.5", "blocks.budget_of=slide", "blocks.choice=random"))
    assert sum(pixels) == 0.5 * 4 * DENSE
    assert pixels != sorted(pixels, reverse=True)


def test_a_slide_of_one_field_is_read_as_that_field_is(slide):
    one = "fields={side_um: null}"
    (alone,) = budgets_of(slide, model_of(one, "blocks.px=4096"))
    of_slide = model_of(one, "blocks.px=4096", "blocks.budget_of=slide")
    (budget,) = budgets_of(slide, of_slide)
    assert budget == alone
    assert budget.seen_px == 0


def test_in_training_each_field_has_the_mean(slide):
    model = model_of("blocks.px=8192", "blocks.budget_of=slide")
    layout = model.layout(budgets_of(slide, model)[0].size)
    assert block_share(slide, layout, model) == 0.5
    assert block_share(slide, layout, model_of("blocks.px=1024")) == 0.25


def test_workers_read_what_fields_of_a_slide_were_given(slide, tmp_path):
    """Also in batches, whose fields need not read alike."""
    tifffile.imwrite(tmp_path / "four.tif", slide.read_region(0, slide.region), tile=(128, 128))
    opened = open_slide(tmp_path / "four.tif", mpp=0.5)
    model = model_of("blocks.share=0.5", "blocks.budget_of=slide", "blocks.choice=detail")
    budgets = budgets_of(opened, model)
    assert len({each.windows for each in budgets}) > 1
    assert pickle.loads(pickle.dumps(budgets)) == budgets

    def labels(**options):
        return [
            (each.pixels, each.samples.labels.tobytes())
            for each in segment_fields(opened, model, budgets, **options)
        ]

    alone = labels(scheduler="loop")
    assert [pixels for pixels, _ in labels(batch=3, scheduler="threads")] == [pixels for pixels, _ in alone]
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address="127.0.0.1:0",
            protocol="tcp",
        ) as cluster,
        Client(cluster) as client,
    ):
        assert labels(scheduler=client) == alone


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([], "needed one of share, px_per_mm2, px; set the others to null"),
        (["blocks.share=0.5", "blocks.px=5"], "needed one of share, px_per_mm2, px"),
        (["blocks.px_per_mm2=10000"], "10000: the first look alone reads .* 15,625 per mm2. Needed more"),
        (
            ["blocks.px_per_mm2=10000", "blocks.finest_um=null", "blocks.finest_px=2"],
            "px_per_mm2 with finest_px: images have no mm2",
        ),
        (
            ["blocks.share=0.5", "blocks.budget_of=slide", "blocks.choice=labels"],
            "budget_of slide with choice labels: .* Needed budget_of: field",
        ),
    ],
)
def test_budgets_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        model_of(*changes)


def test_the_model_card_says_whose_the_budget_is(slide):
    facts = {"classes": CLASSES.to_data(), "mpp": 0.5}
    for changes, words in (
        (["blocks.px_per_mm2=125000"], "at most 125,000 pixels per mm2"),
        (["blocks.px=1024"], "at most 1,024 pixels of a field"),
        (
            ["blocks.px=100000", "blocks.budget_of=slide"],
            "at most 100,000 pixels of a slide, whose fields compete for them",
        ),
    ):
        config = read_config(changes=[*SETTINGS, *FIELDS, *changes]).model_dump(mode="json")
        assert words in model_card(facts | {"config": config})
