"""Numbers of augmentation, batches, crops and caches that are written down by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wsi_deform.data.augment import GridChange, random_change
from wsi_deform.data.balance import rare_field_weights
from wsi_deform.data.batches import Share, shares_of, shuffled_batches
from wsi_deform.data.central_crops import with_central_crops
from wsi_deform.data.crops import drawn_fields, moved_fields
from wsi_deform.data.fields import VIEW_CACHE_BYTES, FieldViews, LabelledField
from wsi_deform.data.stain_jitter import StainChange, random_stain_change, rgb_of_stains, stains_of_rgb
from wsi_deform.data.study import median_mpp
from wsi_deform.drawn.study import write_slide
from wsi_deform.errors import ManifestError, ShapeError, SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.manifest.rows import Manifest, ManifestRow


def change_of(**parts) -> GridChange:
    """A change of one field of 4 x 2 cells that does nothing but what is given."""
    nothing = {
        "transposed": False,
        "flip_x": torch.tensor([False]),
        "flip_y": torch.tensor([False]),
        "rotation": None,
        "aspect": torch.tensor([2.0], dtype=torch.float64),
        "displacement": (torch.zeros(2, 4, 2),),
        "stain": None,
    }
    return GridChange(**nothing | parts)


def place(change: GridChange, x: float, y: float) -> list[float]:
    """Where one cell of a field of 2 x 4 cells lies, the place of all of them in the network's view."""
    grid = torch.tensor([x, y]).expand(1, *change.displacement[0].shape[:2], 2)
    return change(grid)[0, 0, 0].tolist()


def test_convention_a_place_is_displaced_transposed_flipped_and_turned():
    shifted = torch.tensor([0.125, 0.0625]).expand(2, 4, 2)
    assert place(change_of(displacement=(shifted,)), 0.25, 0.5) == [0.375, 0.5625]
    assert place(change_of(displacement=(shifted,)), 0.9375, 0.96875) == [1, 1]
    assert place(change_of(displacement=(-shifted,)), 0.0625, 0.03125) == [0, 0]
    assert place(change_of(transposed=True, displacement=(shifted,)), 0.25, 0.5) == [0.5625, 0.375]
    both = {"flip_x": torch.tensor([True]), "flip_y": torch.tensor([True])}
    assert place(change_of(**both), 0.25, 0.125) == [0.75, 0.875]
    assert place(change_of(flip_y=torch.tensor([True])), 0.25, 0.125) == [0.25, 0.875]
    # A quarter turn of a field twice as wide as high: .25 of its width to the right is .5 of its height down.
    quarter = torch.tensor([math.pi / 2], dtype=torch.float64)
    assert place(change_of(rotation=quarter), 0.75, 0.5) == pytest.approx([0.5, 1.0], abs=1e-6)
    assert place(change_of(rotation=quarter), 0.5, 0.75) == pytest.approx([0.375, 0.5], abs=1e-6)
    assert place(change_of(rotation=quarter / 3), 0.75, 0.5) == pytest.approx(
        [0.5 + 0.25 * math.cos(math.pi / 6), 0.5 + 0.5 * math.sin(math.pi / 6)], abs=1e-6
    )


def test_a_finer_grid_gets_the_same_displacement_in_between():
    ramp = torch.zeros(2, 4, 2)
    ramp[..., 0] = torch.tensor([0.0, 0.04, 0.08, 0.12])
    found = change_of(displacement=(ramp,))(torch.full((1, 4, 8, 2), 0.5))
    assert found[0, 1, :, 0].tolist() == pytest.approx(
        [0.5, 0.51, 0.53, 0.55, 0.57, 0.59, 0.61, 0.62], abs=1e-6
    )
    assert found[0, :, :, 1].unique().tolist() == [0.5]


def drawn(count=4000, **settings):
    none = {"flip_x": False, "flip_y": False, "shift_cells": 0.0, "warp_cells": 0.0}
    return random_change([Size(4, 2)] * count, [Size(400, 200)] * count, **none | settings, seed=1)


def test_chances_are_halves_and_sizes_of_changes_as_asked_for():
    found = drawn(flip_x=True, shift_cells=2.0, rotate_degrees=30.0)
    assert 0.47 < found.flip_x.double().mean() < 0.53
    assert not found.flip_y.any()
    assert 0.47 < drawn(flip_y=True).flip_y.double().mean() < 0.53
    assert found.aspect.unique().tolist() == [2.0]
    degrees = found.rotation.rad2deg()
    assert (-30 < degrees.min() < -29.5, 29.5 < degrees.max() < 30) == (True, True)
    assert abs(float(degrees.mean())) < 1
    # Up to two cells of a quarter of the width and half of the height, the same for all cells of a field.
    shift = torch.stack(found.displacement)
    assert torch.equal(shift, shift[:, :1, :1].expand_as(shift))
    assert shift[:, 0, 0].abs().amax(0).tolist() == pytest.approx([0.5, 1.0], rel=0.01)
    assert shift[:, 0, 0].mean(0).abs().max() < 0.02
    assert drawn(count=2).rotation is None


def test_a_warp_has_a_knot_every_8_cells_and_two_at_least():
    (fine,) = random_change(
        [Size(64, 8)], [Size(64, 8)], flip_x=False, flip_y=False, shift_cells=0, warp_cells=1.0, seed=3
    ).displacement
    cells = (fine * torch.tensor([64.0, 8.0]))[0, :, 0]
    # Eight knots over 64 cells, linear in between: the slope changes at six places, 63 / 7 cells apart.
    bends = (cells.diff().diff().abs() > 1e-4).nonzero().flatten()
    assert len({round((int(bend) + 1) / 9) for bend in bends}) == 6
    small = torch.stack(drawn(warp_cells=0.5).displacement) * torch.tensor([4.0, 2.0])
    # Corners are knots themselves.
    assert small[:, 0, 0].std() == pytest.approx(0.5, rel=0.05)
    assert small[:, :, 0].mean(1).std() == pytest.approx(0.5 * math.sqrt(0.5), rel=0.05)


def test_stain_offsets_count_in_natural_optical_density():
    one = StainChange(strength=torch.ones(1, 3), offset=torch.tensor([[0.1, 0.0, 0.0]]))
    glass = torch.full((1, 3, 1, 1), 255.0)
    # Haematoxylin's share of optical density in red, green and blue: Ruifrok and Johnston's .65, .70 and .29.
    expected = 255 * torch.exp(-0.1 * torch.tensor([0.65, 0.70, 0.29]))
    torch.testing.assert_close(one(glass).flatten(), expected, rtol=1e-3, atol=0.1)
    black = stains_of_rgb(torch.zeros(1, 3, 1, 1))
    assert rgb_of_stains(black).flatten().tolist() == pytest.approx([1e-6] * 3, rel=0.02)
    assert rgb_of_stains(-torch.ones(1, 3, 1, 1)).max() <= 1


def test_a_strength_is_around_1_and_never_negative_and_an_offset_a_tenth():
    normal = torch.tensor([[[1.0, -2.0, -20.0], [1.0, -3.0, 0.0]]])
    found = random_stain_change(normal, 0.2)
    torch.testing.assert_close(found.strength, torch.tensor([[1.2, 0.6, 0.0]]))
    torch.testing.assert_close(found.offset, torch.tensor([[0.02, -0.06, 0.0]]))


@pytest.mark.parametrize(
    ("pixels", "power"), [([1.0, 2.0], 1.0), ([[1.0]], 0.0), ([[1.0]], -1.0), ([[0.0]], 1.0)]
)
def test_weights_of_what_is_no_table_are_refused(pixels, power):
    with pytest.raises(
        ShapeError, match="needed \\(fields, classes\\) with something labelled, and a power above 0"
    ):
        rare_field_weights(np.array(pixels), power)


def shaped(*shapes):
    return [SimpleNamespace(shape=(size, size, None)) for size in shapes]


def test_batches_of_one_shape_are_full_before_another_begins():
    items = shaped(*[Size(16, 16)] * 5, *[Size(24, 16)] * 2)
    batches = shuffled_batches(items, 2, seed=0, epoch=0)
    assert sorted(len(batch) for batch in batches) == [1, 2, 2, 2]
    firsts = {tuple(shuffled_batches(items, 2, seed=0, epoch=epoch)[0]) for epoch in range(30)}
    assert len({len(first) for first in firsts}) == 2  # what is left over does not always come last


def test_mixed_batches_are_sorted_by_aspect_eight_batches_at_a_time():
    rng = np.random.default_rng(0)
    items = shaped(*(Size(int(width), 16) for width in rng.integers(16, 200, 64)))
    batches = shuffled_batches(items, 4, seed=3, epoch=0, mixed=True)
    widths = [sorted(items[index].shape[0].width for index in batch) for batch in batches]
    # Two pools of 32: in one a batch spans about an eighth of all widths, but for the one where the ends meet.
    spans = sorted(batch[-1] - batch[0] for batch in widths)
    assert len(batches) == 16
    assert spans[13] < 60 < 120 < spans[-1]
    one_pool = shuffled_batches(items[:32], 4, seed=3, epoch=0, mixed=True)
    lows = sorted(min(items[index].shape[0].width for index in batch) for batch in one_pool)
    highs = sorted(max(items[index].shape[0].width for index in batch) for batch in one_pool)
    assert sum(low < high for low, high in zip(lows[1:], highs[:-1], strict=True)) <= 2


def test_a_process_without_a_field_of_its_own_takes_the_last_and_counts_nothing():
    items = shaped(Size(8, 8), Size(16, 8), Size(8, 8))
    assert shares_of(items, [2, 1, 0], rank=1, world=2) == [
        Share(indices=(0,), places=(2,)),
        Share(indices=(1,), places=(1,), counted=False),
    ]


def on_slide(region, part, size=Size(12, 12), kept=None):
    slide = SimpleNamespace(slide_id="s", region=part)
    return LabelledField(
        slide=slide, labels=None, field=Field(region, kept or region), size=size, map_size=size
    )


def test_a_field_moves_up_to_its_share_and_no_further_than_the_part_that_is_looked_at():
    part = Region(1000, 2000, 400, 300)
    item = on_slide(Region(1150, 2100, 100, 50), part, kept=Region(1150, 2100, 60, 50))
    places = np.array(
        [
            (each.field.region.x - 1150, each.field.region.y - 2100)
            for epoch in range(400)
            for each in moved_fields([item], 0.5, seed=0, epoch=epoch)
        ]
    )
    assert np.abs(places).max(axis=0).tolist() == [50, 25]
    assert (places.min(axis=0).tolist(), places.max(axis=0).tolist()) == ([-50, -25], [50, 25])
    (moved,) = moved_fields([item], 0.5, seed=0, epoch=0)
    assert moved.field.kept == Region(moved.field.region.x, moved.field.region.y, 60, 50)
    far = [
        moved_fields([on_slide(Region(1310, 2010, 80, 60), part)], 1.0, seed=0, epoch=n)[0] for n in range(60)
    ]
    xs, ys = ([getattr(each.field.region, axis) for each in far] for axis in "xy")
    assert (max(xs), min(ys)) == (1320, 2000)
    wide = moved_fields([on_slide(Region(1000, 2000, 400, 300), part)], 1.0, seed=0, epoch=0)[0]
    assert wide.field.region == part


def test_weights_of_nothing_come_only_where_others_do_not_suffice():
    items = [on_slide(Region(n, 0, 1, 1), Region(0, 0, 9, 9)) for n in range(4)]
    for epoch in range(20):
        found = drawn_fields(items, 2, seed=0, epoch=epoch, weights=[0.0, 1.0, 0.0, 0.0])
        assert 1 in found
        assert len(found) == 2
    often = [
        drawn_fields(items, 1, seed=0, epoch=epoch, weights=[1.0, 3.0, 0.0, 0.0])[0] for epoch in range(2000)
    ]
    assert np.mean(np.array(often) == 1) == pytest.approx(0.75, abs=0.04)
    assert drawn_fields(items, 4, seed=0, epoch=0, weights=[0.0] * 4) == [0, 1, 2, 3]


def test_a_slide_that_is_taken_whole_draws_nothing_from_the_others():
    def fields(name, count):
        slide = SimpleNamespace(slide_id=name)
        return [
            LabelledField(slide=slide, labels=None, field=None, size=Size(1, 1), map_size=Size(1, 1))
        ] * count

    # One field, as many as are wanted, or none before a slide of nine: of that the same two are drawn.
    found = [
        [
            index - before
            for index in drawn_fields(fields("a", before) + fields("b", 9), 2, seed=5, epoch=1)[-2:]
        ]
        for before in (0, 1, 2)
    ]
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 2


def test_views_are_kept_up_to_half_a_gib_the_newest_and_one_at_least(monkeypatch):
    assert FieldViews([]).cache_bytes == VIEW_CACHE_BYTES == 512 * 1024 * 1024
    read = []

    def view_of(slide, field, size, *, tissue, stain):
        read.append(field.region.x)
        return torch.zeros(3, 10, 10)  # 1,200 bytes

    monkeypatch.setattr("wsi_deform.data.fields.view_of", view_of)
    labels = SimpleNamespace(
        cell_fractions=lambda region, size: np.zeros((2, 10, 10), np.float32)
    )  # 800 bytes
    items = [
        LabelledField(
            slide=None,
            labels=labels,
            field=Field(Region(n, 0, 1, 1), Region(n, 0, 1, 1)),
            size=Size(10, 10),
            map_size=Size(10, 10),
        )
        for n in range(4)
    ]
    for cache_bytes, wanted in (
        (4000, [0, 1, 2, 3, 0]),
        (6000, [0, 1, 2, 3, 0]),
        (8000, [0, 1, 2, 3]),
        (3999, [0, 1, 2, 3, 0]),
    ):
        views, read[:] = FieldViews(items, cache_bytes=cache_bytes), []
        for index in (0, 1, 2, 3, 3, 0):
            assert views[index][0] == index
        assert read == wanted
        assert views._kept_bytes == 2000 * len(views._kept) <= max(cache_bytes, 2000)
    views.move(items)
    assert (len(views._kept), views._kept_bytes) == (0, 0)
    assert views[2, items[1].field][0] == 2
    assert len(views._kept) == 0


def test_the_mpp_of_a_study_is_the_middle_one_and_five_slides_without_are_named():
    def slide(mpp, name="s"):
        return SimpleNamespace(mpp_or_none=mpp, mpp=mpp, slide_id=name)

    assert median_mpp([slide(mpp) for mpp in (0.9, 0.2, 0.5)]) == 0.5
    assert median_mpp([slide(mpp) for mpp in (0.9, 0.2, 0.5, 0.7)]) == 0.7
    assert median_mpp([slide(None)]) is None
    with pytest.raises(SlideError, match=r"6 of 7 slides have no um per pixel: a, b, c, d, e\. Needed"):
        median_mpp([slide(None, name) for name in "abcdef"] + [slide(0.5)])


def test_a_crop_lies_in_the_middle_and_what_is_over_right_and_below(tmp_path):
    write_slide(tmp_path / "a.tif", np.zeros((41, 64, 3), np.uint8), mpp=0.5)

    def cropped(size, region=None):
        row = ManifestRow(slide=tmp_path / "a.tif", slide_id="a", region=region)
        return with_central_crops(Manifest(rows=(row,), folder=tmp_path), size).rows[0].region

    assert cropped(Size(20, 10)) == Region(22, 15, 20, 10)
    assert cropped(Size(64, 41)) == Region(0, 0, 64, 41)
    assert cropped(Size(20, 10), Region(4, 6, 31, 13)) == Region(9, 7, 20, 10)
    for size in (Size(65, 41), Size(64, 42)):
        with pytest.raises(ManifestError, match=f"slide a: 64 x 41 px. Needed at least {size} px"):
            cropped(size)
