"""Looks at fields: what is read, at which level, and what comes of it."""

import numpy as np
import pytest
import torch
from drawn_reader import ArrayReader
from plugged import unplugged

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import budgets_of, view_of
from wsi_deform.data.augment import random_change
from wsi_deform.deform.block_choices import add_choice
from wsi_deform.errors import ConfigError, ModelError, ShapeError, SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.looks import label_looks, look_at_fields, score_losses
from wsi_deform.model import Model
from wsi_deform.segment import segment_slide
from wsi_deform.slide.slide import Slide

CLASSES = ClassTable.from_names(["background", "dark"])
SETTINGS = (
    "sampling.geometry=blocks",
    "blocks={finest_um: 1.0, levels: 3, window_px: 32, share: 0.3}",
    "networks.segmentation={name: efficientnet-lite0, width: 8}",
    "augmentation.shift_cells=0",
    "augmentation.warp_cells=0",
    "fields.side_um=null",
)


def make_model(*changes, mpp=0.5):
    torch.manual_seed(0)
    return Model(config=read_config(changes=[*SETTINGS, *changes]), classes=CLASSES, mpp=mpp).eval()


def drawn(width=1024, height=512, *, mpp=0.5):
    """Glass with one dark disc and a faint square; at the finest level, of 1 um/px, it is 512 x 256 px."""
    y, x = np.mgrid[:height, :width] + 0.5
    disc = (x - 700) ** 2 + (y - 200) ** 2 < 100**2
    rng = np.random.default_rng(0)
    pixels = np.full((height, width, 3), 245, np.uint8)
    pixels[64:192, 64:192] = (230, 190, 210)
    pixels[disc] = rng.integers(40, 160, (int(disc.sum()), 3))
    return Slide.from_reader(ArrayReader(pixels, levels=4, mpp=mpp), slide_id="disc"), pixels, disc


def looked(slide, model, **options):
    (budget,) = budgets_of(slide, model)
    view = view_of(slide, budget.field, model.map_size(budget.size), tissue=model.sees_tissue)
    with torch.no_grad():
        return look_at_fields(model, [slide], [budget.field], view[None], size=budget.size, **options)


def test_the_first_look_and_the_labels_follow_the_physical_scale():
    slide, _, _ = drawn()
    (budget,) = budgets_of(slide, make_model())
    # 512 x 256 um: 128 x 64 px of 4 um, and one label for 4 x 4 px of 1 um.
    assert budget.size == Size(128, 64)
    assert make_model().map_size(budget.size) == Size(128, 64)
    (budget,) = budgets_of(slide, make_model("blocks.levels=1"))
    assert make_model("blocks.levels=1").map_size(budget.size) == Size(512, 256)
    assert budget.size == Size(128, 64)


def test_finer_labels_lie_closer_and_are_of_the_same_pixels():
    slide, _, _ = drawn()
    coarse, fine = (
        looked(slide, make_model("blocks.choice=detail", f"blocks.label_px={label_px}"))
        for label_px in (4, 2)
    )
    assert (fine.pixels, fine.tiles) == (coarse.pixels, coarse.tiles)
    # All 512 x 256 px of 1 um, in tiles of 64 px; the first of three looks is at 128 x 64 px.
    assert looked(slide, make_model("blocks.levels=1")).tiles == (32,)
    assert looked(slide, make_model("blocks.levels=1", "blocks.finest_um=4")).tiles == (2,)
    assert torch.equal(fine.last.places, coarse.last.places)
    # 512 x 256 px of 1 um: the first label is of the first 2 x 2.
    assert fine.grid.shape == (1, 128, 256, 2)
    assert fine.grid[0, 0, 0].tolist() == [1 / 512, 1 / 256]
    # Each label of 4 x 4 px is four, read as closely.
    assert torch.equal(fine.areas[:, ::2, ::2], coarse.areas)
    assert torch.equal(fine.areas[:, 1::2, 1::2], coarse.areas)
    model = make_model("blocks.choice=detail", "blocks.label_px=2")
    assert label_looks(model, fine).shape == (1, 2, 128, 256)


def test_windows_are_the_pixels_of_their_level():
    slide, pixels, _ = drawn()
    looks = looked(slide, make_model("blocks.choice=detail", "blocks.margin_px=0"))
    # 1 um/px is level 1 of a slide of .5 um/px: means of 2 x 2 px.
    level = np.stack([pixels[dy::2, dx::2].astype(float) for dy in (0, 1) for dx in (0, 1)]).mean(axis=0)
    for image, (_, row, column) in zip(looks.last.images, looks.last.places.tolist(), strict=True):
        expected = level[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32]
        # The pyramid is rounded to whole numbers.
        assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() <= 0.5


def test_detail_finds_the_disc():
    slide, _, disc = drawn()
    looks = looked(slide, make_model("blocks.choice=detail", "blocks.share=0.2"))
    for _, row, column in looks.last.places.tolist():
        assert disc[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64].any()


def test_a_choice_that_is_added_reads_where_it_says(monkeypatch):
    unplugged(monkeypatch)
    add_choice("pink", lambda view: view[:, :1] - view[:, 1:2], words="where it is pink")
    add_choice("flat", lambda view: view.mean(), words="nowhere")
    slide, _, _ = drawn()
    looks = looked(slide, make_model("blocks.choice=pink", "blocks.share=0.2", "blocks.margin_px=0"))
    # The faint square: 32 to 96 px of the finest level, in blocks of 32 px.
    first = [tuple(place[1:]) for place in looks.last.places.tolist()]
    assert {(1, 1), (1, 2), (2, 1), (2, 2)} <= set(first)
    with pytest.raises(ShapeError, match=r"choice of blocks 'flat': gives \(\) for a view \(1, 3, 64, 128\)"):
        looked(slide, make_model("blocks.choice=flat"))


def test_what_is_read_is_what_the_budget_allows():
    slide, _, _ = drawn()
    for share in (0.15, 0.3, 0.6):
        looks = looked(slide, make_model(f"blocks.share={share}", "blocks.skip_glass=false"))
        assert looks.pixels[0] <= share * 512 * 256 + 32 * 32
        assert looks.pixels[0] >= share * 512 * 256 - 2 * 32 * 32
        assert looks.pixels[0] == 128 * 64 + (len(looks.last.places) + _blocks_of_level_1(looks)) * 32**2


def _blocks_of_level_1(looks):
    """From the raster of level 1: 16 cells of each block were read."""
    return int(looks.rasters[1][:, -1].sum()) // 16


def test_blocks_without_tissue_are_not_read():
    slide, pixels, _ = drawn()
    looks = looked(slide, make_model("blocks.choice=random", "blocks.share=1.0"))
    for _, row, column in looks.last.places.tolist():
        block = pixels[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
        # The tissue mask is one cell coarser than the border.
        assert block.min() < 245
    everywhere = looked(
        slide, make_model("blocks.choice=random", "blocks.share=2.0", "blocks.skip_glass=false")
    )
    assert len(everywhere.last.places) == 16 * 8


def test_blocks_of_slivers_and_of_rounding_are_glass():
    slide, _, _ = drawn()
    model = make_model("blocks.choice=tissue", "blocks.share=2.0")
    (budget,) = budgets_of(slide, model)
    view = view_of(slide, budget.field, model.map_size(budget.size), tissue=True)
    # Blocks are 16 x 16 px of the first look, their quarters 8 x 8. Tissue shares are differences of sums.
    view[3] = 1e-14
    view[3, 3, 3] = 0.009 * 16 * 16
    view[3, 3, 67] = 0.011 * 16 * 16
    with torch.no_grad():
        looks = look_at_fields(model, [slide], [budget.field], view[None], size=budget.size)
    assert _blocks_of_level_1(looks) == 1
    assert looks.last.places.tolist() == [[0, 0, 8]]
    assert looks.pixels == (128 * 64 + 2 * 32**2,)


def test_a_label_says_how_closely_its_place_was_read():
    slide, _, _ = drawn()
    looks = looked(slide, make_model("blocks.choice=detail"))
    um = (looks.areas[0] * slide.size.area).sqrt() * 0.5
    assert sorted({round(each, 3) for each in um.flatten().tolist()}) == [1.0, 2.0, 4.0]
    finest = torch.zeros(64, 128, dtype=torch.bool)
    for _, row, column in looks.last.places.tolist():
        finest[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = True
    assert torch.equal(um.round() == 1, finest)


def test_a_slide_is_read_alike_each_time_whatever_the_choice():
    slide, _, _ = drawn()
    for choice in ("learned", "detail", "features", "tissue", "random"):
        model = make_model(f"blocks.choice={choice}")
        first, second = looked(slide, model), looked(slide, model)
        assert torch.equal(first.last.places, second.last.places)
        assert torch.equal(label_looks(model, first), label_looks(model, second))


def test_an_oracle_reads_where_classes_meet():
    slide, _, disc = drawn()
    model = make_model("blocks.choice=labels", "blocks.share=0.12", "blocks.skip_glass=false")
    cells = disc.reshape(64, 8, 128, 8).mean(axis=(1, 3))
    fractions = torch.from_numpy(np.stack([1 - cells, cells])[None]).float()
    looks = looked(slide, model, fractions=fractions)
    chosen = {tuple(place[1:]) for place in looks.last.places.tolist()}
    blocks = disc.reshape(8, 64, 16, 64).mean(axis=(1, 3))
    parents = looks.rasters[1][0, -1].numpy()[::2, ::2].astype(bool)[:8, :16]
    mixed = {(row, column) for row, column in np.argwhere((blocks > 0) & (blocks < 1) & parents).tolist()}
    # Of the parts of the blocks of level 1, itself the most mixed, all that are mixed come before any other.
    assert len(mixed) >= 3
    assert mixed <= chosen or chosen <= mixed
    with pytest.raises(ModelError, match="blocks.choice labels: an oracle"):
        looked(slide, model)


def test_a_scorer_is_told_how_mixed_its_blocks_are():
    slide, _, disc = drawn()
    looks = looked(slide, make_model("blocks.skip_glass=false"))
    cells = disc.reshape(64, 8, 128, 8).mean(axis=(1, 3))
    fractions = torch.from_numpy(np.stack([1 - cells, cells])[None]).float()
    # At first every logit is 0, whatever the target: log 2.
    assert score_losses(looks, fractions).tolist() == pytest.approx([np.log(2)])
    # Odds of g: what says so has the least loss.
    for level, scores in enumerate(looks.scores, start=1):
        pooled = looks.layout.pooled(fractions, level)
        mixed = 2 * pooled[:, :1] * pooled[:, 1:]
        scores.copy_((4 * mixed).clamp_min(1e-6).log())
    best = float(score_losses(looks, fractions))
    assert best < np.log(2)
    for change in (-1.0, 1.0):
        for scores in looks.scores:
            scores.add_(change)
        assert float(score_losses(looks, fractions)) > best
        for scores in looks.scores:
            scores.sub_(change)


def test_a_flipped_field_is_read_flipped():
    slide, _, _ = drawn()
    model = make_model("blocks.choice=detail", "blocks.margin_px=16")
    (budget,) = budgets_of(slide, model)
    view = view_of(slide, budget.field, Size(128, 64), tissue=True)[None]
    seed = next(
        seed
        for seed in range(100)
        if (change := change_of(budget, slide, seed)).flip_x.item() and not change.flip_y.item()
    )
    change = change_of(budget, slide, seed)
    plain = look_at_fields(model, [slide], [budget.field], view, size=budget.size)
    flipped = look_at_fields(
        model, [slide], [budget.field], change.transform_view(view), size=budget.size, change=change
    )
    places = {(row, 15 - column) for _, row, column in plain.last.places.tolist()}
    # Gradients look forward, so that a block at a border may be another one.
    both = places & {(row, column) for _, row, column in flipped.last.places.tolist()}
    assert len(both) >= len(places) - 4
    row, column = next(iter(both))
    at = {tuple(each[1:]): number for number, each in enumerate(plain.last.places.tolist())}[
        (row, 15 - column)
    ]
    there = {tuple(each[1:]): number for number, each in enumerate(flipped.last.places.tolist())}[
        (row, column)
    ]
    assert torch.allclose(plain.last.images[at].flip(2), flipped.last.images[there], atol=1e-3)


def change_of(budget, slide, seed):
    return random_change(
        [budget.size], [slide.size], flip_x=True, flip_y=True, shift_cells=0, warp_cells=0, seed=seed
    )


def test_noise_in_training_shows_other_blocks():
    slide, _, _ = drawn()
    model = make_model("blocks.skip_glass=false")
    seen = {tuple(map(tuple, looked(slide, model, seeds=[seed]).last.places.tolist())) for seed in range(3)}
    assert len(seen) == 3


class Dark(torch.nn.Module):
    """In place of the backbone: features that say how dark a pixel is."""

    def forward(self, images):
        dark = -images.mean(dim=1, keepdim=True)
        channels = {2: 16, 4: 24, 8: 40, 16: 112}
        return {
            stride: torch.nn.functional.avg_pool2d(dark, stride).expand(-1, channels[stride], -1, -1)
            for stride in channels
        }


def test_a_slide_is_segmented_through_the_same_stages():
    slide, _, disc = drawn()
    model = make_model("blocks.choice=detail", "blocks.share=0.6", "blocks.levels=2")
    model.blocks.backbone = Dark()
    segmented = segment_slide(slide, model, limit_to_tissue=False)
    assert segmented.samples == 128 * 64
    mask = segmented.reverse().region(Region.whole(slide.size))
    assert mask.shape == (512, 1024)
    # The same in batches and alone.
    again = segment_slide(slide, model, limit_to_tissue=False, batch=4)
    assert np.array_equal(again.reverse().region(Region.whole(slide.size)), mask)


def test_lengths_in_um_need_an_mpp():
    with pytest.raises(ConfigError, match="blocks.finest_um 1 are in um"):
        make_model(mpp=None)
    slide, _, _ = drawn(mpp=None)
    with pytest.raises(SlideError, match="no mpp in file or manifest"):
        budgets_of(slide, make_model())
    photograph = make_model(
        "blocks={finest_um: null, finest_px: 2, levels: 3, window_px: 32, share: 0.3, skip_glass: false}",
        mpp=None,
    )
    (budget,) = budgets_of(slide, photograph)
    assert budget.size == Size(128, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["blocks.window_px=40"], "needed a multiple of 16"),
        (["blocks.finest_px=4"], "needed one of finest_um and finest_px"),
        (["blocks.split=[1.0]"], "needed 2, one for each level but the coarsest"),
        (["blocks.share=0.05"], "the first look alone reads 0.0625 of the finest level's pixels"),
        (["augmentation.warp_cells=0.3"], "augmentation.warp_cells 0.3: needed 0"),
        (["fields.allocation=density"], "fields.allocation density: needed equal"),
        (["sampling.geometry=warp"], "needed geometry: blocks, or blocks: null"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        read_config(changes=[*SETTINGS, *changes])


def test_other_networks_and_patches_are_refused():
    with pytest.raises(ModelError, match="needed an encoder"):
        make_model("networks.segmentation={name: hrnetv2, width: 4}")
    with pytest.raises(ModelError, match="has no option 'stem_stride'"):
        make_model("networks.segmentation={name: efficientnet-lite0, stem_stride: 2}")
    with pytest.raises(ModelError, match="this model labels a field out of several looks"):
        make_model().scores(torch.zeros(1, 3, 32, 32))
