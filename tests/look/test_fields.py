from __future__ import annotations

import numpy as np
import pytest

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.look.fields import Field, cover_with_fields
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
