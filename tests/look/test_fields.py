from __future__ import annotations

import numpy as np
import pytest

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.look.fields import Field, cover_exactly, cover_with_fields, cut_to_tissue
from wsi_deform.look.tissue import TissueMask


def kept_count(size: Size, fields: tuple[Field, ...]) -> np.ndarray:
    count = np.zeros(size.shape, int)
    for one in fields:
        count[one.kept.y : one.kept.bottom, one.kept.x : one.kept.right] += 1
    return count


@pytest.mark.parametrize("size", [Size(1000, 700), Size(1001, 333), Size(90, 901)])
@pytest.mark.parametrize("field_px", [37, 100, 333, 899])
@pytest.mark.parametrize("margin", [0.0, 0.25])
def test_kept_regions_cover_every_pixel_exactly_once(size: Size, field_px: int, margin: float):
    fields = cover_with_fields(size, None, field_px=field_px, margin_fraction=margin)
    assert (kept_count(size, fields) == 1).all()
    sides = {(one.kept.width, one.kept.height) for one in fields}
    for axis in (0, 1):
        lengths = {side[axis] for side in sides}
        assert max(lengths) <= field_px
        assert max(lengths) - min(lengths) <= 1


def test_fields_tile_the_tissue_exactly_once_and_leave_glass_out():
    size = Size(1600, 1200)
    tissue = np.zeros((150, 200), bool)
    tissue[20:60, 30:90] = True
    tissue[149, 199] = True
    mask = TissueMask(tissue=tissue, downsample=Point(8.0, 8.0))
    fields = cover_with_fields(size, mask, field_px=200)
    count = kept_count(size, fields)
    assert count.max() == 1
    assert (count[np.repeat(np.repeat(tissue, 8, 0), 8, 1)] == 1).all()
    assert 0 < count.mean() < 0.5


def test_convention_one_field_over_everything_has_no_margin():
    size = Size(2000, 9400)
    whole = Region.whole(size)
    glass = TissueMask(tissue=np.zeros((94, 20), bool), downsample=Point(100.0, 100.0))
    for field_px in (None, 9400, 20_000):
        assert cover_with_fields(size, glass, field_px=field_px, margin_fraction=0.3) == (
            Field(whole, whole),
        )


def test_slide_of_bare_glass_has_no_field():
    glass = TissueMask(tissue=np.zeros((94, 20), bool), downsample=Point(100.0, 100.0))
    assert cover_with_fields(Size(2000, 9400), glass, field_px=1000) == ()


def test_margins_are_read_around_the_kept_region_and_clipped_at_the_border():
    fields = cover_with_fields(Size(1000, 1000), None, field_px=500, margin_fraction=0.1)
    assert fields[0] == Field(Region(0, 0, 550, 550), Region(0, 0, 500, 500))
    assert fields[3] == Field(Region(450, 450, 550, 550), Region(500, 500, 500, 500))
    assert fields[3].kept_in_region == Region(50, 50, 500, 500)


@pytest.mark.parametrize(
    "wrong",
    [{"field_px": 0}, {"field_px": 10, "margin_fraction": -0.1}, {"field_px": 10, "margin_fraction": 2.0}],
)
def test_impossible_fields_are_refused(wrong: dict[str, float]):
    with pytest.raises(ShapeError, match="needed"):
        cover_with_fields(Size(100, 100), None, **wrong)


@pytest.mark.parametrize(
    ("length", "field_px", "align_px"), [(10_000, 4096, 2048), (9_999, 1000, 512), (70, 50, 512)]
)
def test_inner_edges_are_aligned_and_no_field_is_longer_than_asked_for(length, field_px, align_px):
    fields = cover_with_fields(Size(length, length), None, field_px=field_px, align_px=align_px)
    used = align_px
    while used > 1 and 2 * used > field_px:
        used //= 2
    assert max(field.kept.size.long for field in fields) <= field_px
    assert all(field.kept.x % used == 0 and field.kept.y % used == 0 for field in fields)
    assert sum(field.kept.size.area for field in fields) == length**2


def test_margins_are_rounded_up_and_are_of_the_longer_side():
    fields = cover_with_fields(Size(999, 200), None, field_px=333, margin_fraction=0.1)
    assert [field.region for field in fields] == [
        Region(0, 0, 367, 200), Region(299, 0, 401, 200), Region(632, 0, 367, 200)
    ]  # fmt: skip
    with pytest.raises(ShapeError, match="needed 0 to 1"):
        cover_with_fields(Size(100, 100), None, field_px=10, margin_fraction=1.01)
    assert len(cover_with_fields(Size(100, 100), None, field_px=1, margin_fraction=1.0)) == 10_000


def test_fields_of_a_part_of_a_slide_lie_in_it():
    fields = cover_with_fields(Size(100, 60), None, field_px=50, margin_fraction=0.2, origin=(30, 20))
    assert [field.kept for field in fields] == [
        Region(30, 20, 50, 30), Region(80, 20, 50, 30), Region(30, 50, 50, 30), Region(80, 50, 50, 30)
    ]  # fmt: skip
    assert fields[3].region == Region(70, 40, 60, 40)
    exact = cover_exactly(Size(100, 50), None, field_px=50, margin_fraction=0.1, origin=(30, 20))
    assert [(field.region.x, field.region.y, field.kept.x, field.kept.right) for field in exact] == [
        (30, 20, 30, 75), (70, 20, 75, 100), (80, 20, 100, 130)
    ]  # fmt: skip
    with pytest.raises(ShapeError, match="below 1/2"):
        cover_exactly(Size(100, 50), None, field_px=50, margin_fraction=-0.1)


@pytest.mark.parametrize(
    ("field_px", "align_px", "edges"),
    [
        (50, 16, [0, 32, 64, 100]),
        (50, 32, [0, 32, 64, 100]),  # halved, until twice it is no longer than a field
        (64, 32, [0, 64, 100]),
        (50, 1, [0, 50, 100]),
        (99, 64, [0, 64, 100]),
        (40, 1, [0, 33, 66, 100]),
    ],
)
def test_edges_by_hand(field_px, align_px, edges):
    fields = cover_with_fields(Size(100, 1), None, field_px=field_px, align_px=align_px)
    assert [field.kept.x for field in fields] + [fields[-1].kept.right] == edges


def test_fields_shrink_to_the_tissue_in_them():
    tissue = np.zeros((10, 10), bool)
    tissue[2:4, 3:6] = True
    mask = TissueMask(tissue=tissue, downsample=Point(10.0, 10.0))
    fields = [
        Field(Region(0, 0, 60, 60), Region(0, 0, 50, 50)),
        Field(Region(40, 0, 60, 60), Region(50, 0, 50, 50)),
        Field(Region(0, 30, 35, 70), Region(0, 40, 35, 60)),  # tissue in its margin alone
        Field(Region(60, 60, 40, 40), Region(60, 60, 40, 40)),
    ]
    assert cut_to_tissue(fields, mask) == (
        Field(Region(30, 20, 30, 20), Region(30, 20, 20, 20)),
        Field(Region(40, 20, 20, 20), Region(50, 20, 10, 20)),
    )
