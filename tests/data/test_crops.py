"""Patches to train on: fields of one size, the slide's own pixels, some of a slide at a time, moved at random."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_reader import ArrayReader

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.config import read_config
from wsi_deform.cover import fields_of, sampled_size_of, spacing_px, view_of
from wsi_deform.data.crops import drawn_fields, moved_fields
from wsi_deform.data.fields import FieldViews, LabelledField
from wsi_deform.drawn.study import write_labels
from wsi_deform.errors import ConfigError, ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.look.fields import cover_exactly
from wsi_deform.look.tissue import TissueMask
from wsi_deform.model import Model
from wsi_deform.sampled_fields import sample_fields
from wsi_deform.slide.slide import Slide

CLASSES = ClassTable.from_names(["background", "gland"])
NETWORK = "networks.segmentation={name: hrnetv2, width: 2, stem_stride: 4}"
EXACT = (
    "sampling={budget: [48, 48], density: uniform, map_scale: 0.25}",
    "fields={side_um: 24, exact: true, margin: 0.125}",
)


def slide_of(width, height, *, seed=0, mpp=0.5, levels=1):
    pixels = np.random.default_rng(seed).integers(0, 200, (height, width, 3), np.uint8)
    return Slide.from_reader(ArrayReader(pixels, mpp=mpp, levels=levels), slide_id=f"slide {seed}"), pixels


def model_of(*changes):
    return Model(config=read_config(changes=[NETWORK, *changes]), classes=CLASSES, mpp=0.5).eval()


def test_exact_fields_have_one_size_and_share_out_the_slide():
    fields = cover_exactly(Size(1000, 512), None, field_px=512, margin_fraction=0.125)
    # 512 less two margins of 64 px: a field every 384 px, the last one where it ends with the slide.
    assert [field.region for field in fields] == [
        Region(0, 0, 512, 512), Region(384, 0, 512, 512), Region(488, 0, 512, 512)
    ]  # fmt: skip
    assert [(field.kept.x, field.kept.right) for field in fields] == [(0, 448), (448, 692), (692, 1000)]
    assert {(field.kept.y, field.kept.bottom) for field in fields} == {(0, 512)}


def test_exact_fields_are_on_tissue_and_a_short_slide_has_shorter_ones():
    tissue = np.zeros((4, 8), bool)
    tissue[1, 5] = True
    (field,) = cover_exactly(
        Size(800, 400), TissueMask(tissue=tissue, downsample=Point(100, 100)), field_px=100
    )
    assert field.region == field.kept == Region(500, 100, 100, 100)
    assert [each.region for each in cover_exactly(Size(30, 100), None, field_px=64, margin_fraction=0.25)] == [
        Region(0, 0, 30, 64), Region(0, 32, 30, 64), Region(0, 36, 30, 64)
    ]  # fmt: skip
    with pytest.raises(ShapeError, match="below 1/2"):
        cover_exactly(Size(100, 100), None, field_px=64, margin_fraction=0.5)
    with pytest.raises(ShapeError, match="field_px 0"):
        cover_exactly(Size(100, 100), None, field_px=0)


@pytest.mark.parametrize("size", [Size(200, 110), Size(30, 110), Size(20, 20)])
def test_the_sampled_image_of_an_exact_field_is_the_slides_own_pixels(size):
    slide, pixels = slide_of(size.width, size.height)
    model = model_of(*EXACT)
    fields = fields_of(slide, model)
    assert len(fields) > 1 or size == Size(20, 20)
    for field in fields:
        region = field.region
        found = sampled_size_of(slide, field, model)
        assert found == region.size
        assert found.long == min(48, size.long)
        view = view_of(slide, field, model.map_size(found))[None]
        image = sample_fields(model, [slide], [field], view, size=found).images[0]
        own = pixels[region.y : region.bottom, region.x : region.right].transpose(2, 0, 1)
        # Half a thousandth of a pixel beside its centre, through float32.
        np.testing.assert_allclose(image.numpy(), own, atol=0.1)
    assert spacing_px(slide, model) == 1.0


def test_a_slide_of_another_mpp_has_fields_of_the_same_um():
    slide, _ = slide_of(400, 300, mpp=0.25, levels=3)
    model = model_of(*EXACT)
    fields = fields_of(slide, model)
    assert {field.region.size for field in fields} == {Size(96, 96)}
    assert sampled_size_of(slide, fields[0], model) == Size(48, 48)
    assert spacing_px(slide, model) == 2.0


def items_of(tmp_path, counts):
    items = []
    for number, count in enumerate(counts):
        slide, _ = slide_of(48 * count, 96, seed=number)
        truth = np.zeros((96, 48 * count), np.uint8)
        truth[:, ::2] = 1
        path = tmp_path / f"{number}.tif"
        write_labels(path, truth, mpp=0.5)
        labels = open_label_mask(path, slide_size=slide.size, classes=CLASSES)
        model = model_of(*EXACT, "fields.margin=0")
        for field in fields_of(slide, model):
            if field.region.y == 0:
                size = sampled_size_of(slide, field, model)
                items.append(
                    LabelledField(slide=slide, labels=labels, field=field, size=size, map_size=Size(12, 12))
                )
    return items


def test_an_epoch_draws_so_many_fields_of_each_slide(tmp_path):
    items = items_of(tmp_path, (2, 6, 1))
    assert len(items) == 9
    assert drawn_fields(items, None, seed=0, epoch=0) == list(range(9))
    seen = []
    for epoch in range(40):
        drawn = drawn_fields(items, 3, seed=0, epoch=epoch)
        assert drawn == sorted(set(drawn))
        assert [sum(first <= each < last for each in drawn) for first, last in ((0, 2), (2, 8), (8, 9))] == [
            2,
            3,
            1,
        ]
        seen.append(drawn)
    assert seen[0] == drawn_fields(items, 3, seed=0, epoch=0)
    # 40 times 3 of 6: each about 20 times.
    times = [sum(index in drawn for drawn in seen) for index in range(2, 8)]
    assert min(times) > 8
    assert max(times) < 32


def test_the_draw_follows_weights(tmp_path):
    items = items_of(tmp_path, (6,))
    weights = [0.0, 1.0, 1.0, 10.0, 1.0, 0.0]
    drawn = [drawn_fields(items, 2, seed=1, epoch=epoch, weights=weights) for epoch in range(60)]
    times = [sum(index in each for each in drawn) for index in range(6)]
    assert times[0] == times[5] == 0
    assert times[3] > 45 > max(times[1], times[2], times[4])


def test_fields_move_by_whole_pixels_and_stay_on_the_slide(tmp_path):
    items = items_of(tmp_path, (4,))
    starts = []
    for epoch in range(30):
        moved = moved_fields(items, 0.5, seed=0, epoch=epoch)
        for before, after in zip(items, moved, strict=True):
            region = after.field.region
            assert region.size == before.field.region.size
            assert Region.whole(after.slide.size).intersection(region) == region
            assert abs(region.x - before.field.region.x) <= 24
            assert abs(region.y - before.field.region.y) <= 24
            assert after.size == before.size
        starts.append(tuple(each.field.region.x for each in moved))
    assert len(set(starts)) == 30
    assert starts[0] == tuple(each.field.region.x for each in moved_fields(items, 0.5, seed=0, epoch=0))
    assert moved_fields(items, 0.0, seed=0, epoch=3) == items


@pytest.mark.parametrize("workers", [0, 1])
def test_views_follow_moved_fields_also_in_workers(tmp_path, workers):
    items = items_of(tmp_path, (3,))
    views = FieldViews(items)
    before = next(iter(views.read([[1]], workers)))[0]
    moved = moved_fields(items, 0.5, seed=0, epoch=0)
    views.move(moved)
    index, view, fractions = next(iter(views.read([[1]], workers)))[0]
    assert index == 1
    expected = view_of(moved[1].slide, moved[1].field, Size(12, 12))
    torch.testing.assert_close(view, expected)
    assert not torch.equal(view, before[1])
    labels = moved[1].labels.cell_fractions(moved[1].field.region, Size(12, 12))
    np.testing.assert_array_equal(fractions.numpy(), labels)
    batch = views.batch(views.collate([(index, view, fractions)]))
    assert batch.items == [moved[1]]


@pytest.mark.parametrize(
    "wrong",
    [
        ["sampling.budget=[40, 90]"],
        ["fields.side_um=null"],
        ["fields.margin=0.5"],
        ["fields.cut_to_tissue=true"],
        ["fields.allocation=density"],
    ],
)
def test_exact_fields_without_a_scale_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"fields\.exact: needed"):
        read_config(changes=[*EXACT, *wrong])
