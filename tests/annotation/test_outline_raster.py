"""Outlines as label maps: the pixel rule, the same in tiles of any size, overlaps, and what lies outside."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from matplotlib.path import Path as MatplotlibPath

from wsi_deform.annotation.outlines.outline import Outline
from wsi_deform.annotation.outlines.raster import Ground, OutlineRaster
from wsi_deform.errors import AnnotationError, ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.kernels import edge_index
from wsi_deform.kernels.scanline import REGION

SIZE = Size(40, 30)
WHOLE = Region(0, 0, 40, 30)


def box(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def drawn(*rings, erases=False):
    return Outline(rings=rings, source_class="any", erases=erases)


def raster_of(outlines, meanings, *, size=SIZE, **options):
    return OutlineRaster.of(outlines, meanings, slide_size=size, **options)


def star(rng, centre, radius, count):
    """A polygon without crossings: points at rising angles; no vertex or edge on a pixel centre, by chance."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, count))
    radii = radius * rng.uniform(0.6, 1.4, count)
    return np.asarray(centre) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def tangle(rng, size, count):
    """A polygon that crosses itself."""
    return rng.uniform((-10, -10), (size.width + 10, size.height + 10), (count, 2))


def area_of(points):
    x, y = points.T
    return abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2


def centres_inside(rings, size, step=Point(1, 1)):
    """Even-odd at the centres of pixels, (H, W) bool: which side of each edge a centre is on, nothing of a scanline."""
    x, y = np.meshgrid((np.arange(size.width) + 0.5) * step.x, (np.arange(size.height) + 0.5) * step.y)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    odd = np.zeros(len(centres), bool)
    for ring in rings:
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            spans = (y0 > centres[:, 1]) != (y1 > centres[:, 1])
            side = (x1 - x0) * (centres[:, 1] - y0) - (y1 - y0) * (centres[:, 0] - x0)
            odd ^= spans & (side * np.sign(y1 - y0) <= 0)
    return odd.reshape(size.shape)


def test_convention_a_square_fills_its_pixels_and_a_hole_takes_its_own():
    whole = raster_of([drawn(box(10, 10, 20, 20))], [1]).read(WHOLE)
    assert (whole == 1).sum() == 100
    assert (whole[10:20, 10:20] == 1).all()
    holed = raster_of([drawn(box(10, 10, 20, 20), box(13, 13, 17, 17))], [1]).read(WHOLE)
    assert (holed == 1).sum() == 84
    assert (holed[13:17, 13:17] == 255).all()


@pytest.mark.parametrize(
    ("left", "top", "right", "bottom", "columns", "rows"),
    [
        (10.5, 10.5, 12.5, 12.5, (10, 12), (10, 12)),  # left and top centres in, right and bottom out
        (10.4, 10.6, 12.6, 12.4, (10, 13), (11, 12)),
        (10.6, 10.6, 11.4, 11.4, (11, 11), (11, 11)),  # meets no centre
        (-5, -5, 2, 3, (0, 2), (0, 3)),
        (38, 28, 60, 70, (38, 40), (28, 30)),
    ],
)
def test_convention_left_and_top_edges_are_in_right_and_bottom_edges_out(
    left, top, right, bottom, columns, rows
):
    found = raster_of([drawn(box(left, top, right, bottom))], [7]).read(WHOLE)
    expected = np.full(SIZE.shape, 255, np.uint8)
    expected[rows[0] : rows[1], columns[0] : columns[1]] = 7
    assert np.array_equal(found, expected)


def test_convention_neighbours_share_no_pixel_and_leave_none_out():
    rng = np.random.default_rng(3)
    # Triangles of whole and half coordinates: their edges meet many centres.
    points = np.concatenate([rng.integers(0, 81, (300, 2)) / 2, [[0, 0], [40, 0], [0, 40], [40, 40]]])
    triangles = shapely.delaunay_triangles(shapely.MultiPoint(points)).geoms
    times = np.zeros((40, 40), int)
    for triangle in triangles:
        ring = np.asarray(triangle.exterior.coords)[:-1]
        ring = ring[::-1] if rng.random() < 0.5 else ring
        times += raster_of([drawn(ring)], [1], size=Size(40, 40)).read(Region(0, 0, 40, 40)) == 1
    assert (times == 1).all()


def test_polygons_equal_shapely_pixel_by_pixel():
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(120) + 0.5, np.arange(90) + 0.5)
    for _ in range(25):
        shell = star(rng, rng.uniform((30, 30), (90, 60)), rng.uniform(10, 50), rng.integers(3, 40))
        centre = shell.mean(axis=0)
        hole = centre + (shell - centre) * rng.uniform(0.2, 0.6)
        found = raster_of([drawn(shell, hole)], [1], size=Size(120, 90)).read(Region(0, 0, 120, 90)) == 1
        outer, inner = (shapely.contains_xy(shapely.Polygon(ring), x, y) for ring in (shell, hole))
        assert np.array_equal(found, outer ^ inner)


def test_simple_polygons_equal_matplotlib_pixel_by_pixel():
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.arange(200) + 0.5, np.arange(150) + 0.5)
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    for _ in range(25):
        ring = star(rng, rng.uniform(-20, 220, 2), rng.uniform(5, 150), rng.integers(3, 60))
        found = raster_of([drawn(ring)], [1], size=Size(200, 150)).read(Region(0, 0, 200, 150)) == 1
        expected = MatplotlibPath(np.concatenate([ring, ring[:1]]), closed=True).contains_points(centres)
        assert np.array_equal(found, expected.reshape(150, 200))


def test_polygons_that_cross_themselves_are_even_odd():
    rng = np.random.default_rng(2)
    bow_tie = np.array([[0, 0], [10, 10], [10, 0], [0, 10]], np.float64)
    assert (raster_of([drawn(bow_tie)], [1]).read(WHOLE) == 1).sum() == 50
    for _ in range(20):
        rings = [tangle(rng, SIZE, rng.integers(3, 30)) for _ in range(rng.integers(1, 4))]
        found = raster_of([drawn(*rings)], [1]).read(WHOLE) == 1
        assert np.array_equal(found, centres_inside(rings, SIZE))


def test_areas_are_right_on_average():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(100):
        ring = star(rng, rng.uniform(500, 600, 2), rng.uniform(150, 300), rng.integers(8, 60))
        found = raster_of([drawn(ring)], [1], size=Size(1100, 1100)).read(Region(0, 0, 1100, 1100)) == 1
        errors.append(found.sum() / area_of(ring) - 1)
    assert abs(np.mean(errors)) < 0.001
    assert np.max(np.abs(errors)) < 0.01


@pytest.fixture(scope="module")
def busy():
    """Outlines of every kind, over one another, larger than bins and cells, and some beyond the slide's edges."""
    rng = np.random.default_rng(5)
    size = Size(700, 300)
    outlines = [
        drawn(star(rng, rng.uniform((-50, -50), (750, 350)), rng.uniform(2, 150), rng.integers(3, 80)))
        for _ in range(60)
    ]
    outlines += [drawn(tangle(rng, size, 25), erases=number == 1) for number in range(3)]
    outlines += [drawn(box(100, 50, 300, 90), box(120, 60, 140, 80))]
    return size, outlines, [int(each) for each in rng.integers(0, 5, len(outlines))]


@pytest.mark.parametrize("order", ["drawing", "classes"])
def test_tiles_of_any_size_and_points_give_the_same_labels(busy, order):
    size, outlines, meanings = busy
    raster = raster_of(outlines, meanings, size=size, order=order)
    whole = raster.read(Region.whole(size))
    assert set(np.unique(whole)) == {0, 1, 2, 3, 4, 255}
    rng = np.random.default_rng(6)
    for tile in (Size(7, 5), Size(64, 64), Size(256, 33), Size(700, 1)):
        joined = np.full(size.shape, 99, np.uint8)
        for part, labels in raster.parts(Region.whole(size), tile):
            joined[part.y : part.bottom, part.x : part.right] = labels
        assert np.array_equal(joined, whole)
    for _ in range(50):
        x, y = rng.integers(0, (690, 290))
        part = Region(int(x), int(y), int(rng.integers(1, 701 - x)), int(rng.integers(1, 301 - y)))
        assert np.array_equal(raster.read(part), whole[part.y : part.bottom, part.x : part.right])
    pixels = rng.integers(0, (700, 300), (3000, 2))
    assert np.array_equal(raster.at_pixels(pixels), whole[pixels[:, 1], pixels[:, 0]])


def test_labels_do_not_depend_on_how_edges_are_indexed(busy, monkeypatch):
    size, outlines, meanings = busy
    expected = raster_of(outlines, meanings, size=size).read(Region.whole(size))
    for bin_px, cell_px in ((2.0, 8.0), (1e4, 1e4), (50.0, 30.0)):
        monkeypatch.setattr(edge_index, "BIN_PX", bin_px)
        monkeypatch.setattr(edge_index, "CELL_PX", cell_px)
        raster = raster_of(outlines, meanings, size=size)
        assert raster.edges.bin_px == bin_px
        assert np.array_equal(raster.read(Region.whole(size)), expected)
        pixels = np.argwhere(expected < 256)[:, ::-1]
        assert np.array_equal(raster.at_pixels(pixels).reshape(size.shape), expected)


def test_every_pixel_is_that_of_the_outlines_painted_one_by_one(busy):
    size, outlines, meanings = busy
    expected = np.full(size.shape, 255, np.uint8)
    for outline, meaning in zip(outlines, meanings, strict=True):
        inside = centres_inside(outline.rings, size)
        expected[inside] = 255 if outline.erases else meaning
    assert np.array_equal(raster_of(outlines, meanings, size=size).read(Region.whole(size)), expected)


@pytest.mark.parametrize("step", [Point(2, 2), Point(8, 8), Point(3.7, 5.1), Point(64, 64)])
def test_coarser_levels_have_the_label_at_the_centre_of_their_pixels(busy, step):
    size, outlines, meanings = busy
    level = Size(int(size.width // step.x), int(size.height // step.y))
    raster = raster_of(outlines, meanings, size=size)
    found = raster.read(Region.whole(level), step)
    expected = np.full(level.shape, 255, np.uint8)
    for outline, meaning in zip(outlines, meanings, strict=True):
        expected[centres_inside(outline.rings, level, step)] = 255 if outline.erases else meaning
    assert np.array_equal(found, expected)
    part = Region(1, 1, level.width - 1, level.height - 1)
    assert np.array_equal(raster.read(part, step), expected[1:, 1:])


def test_a_coarse_pixel_whose_centre_lies_beyond_the_slide_has_the_label_of_its_last_pixel():
    raster = raster_of([drawn(box(0, 0, 33, 33))], [1], size=Size(33, 33))
    assert raster.read(Region(0, 0, 3, 3), Point(16, 16)).tolist() == [[1, 1, 1]] * 3


def test_later_outlines_lie_over_earlier_ones_or_later_classes_over_earlier_ones():
    outlines = [drawn(box(0, 0, 10, 10)), drawn(box(5, 0, 15, 10)), drawn(box(9, 0, 12, 10))]
    by_drawing = raster_of(outlines, [2, 1, 2]).read(Region(0, 0, 16, 1))[0].tolist()
    assert by_drawing == [2] * 5 + [1] * 4 + [2] * 3 + [1] * 3 + [255]
    by_class = raster_of(outlines, [0, 2, 1], order="classes").read(Region(0, 0, 16, 1))[0].tolist()
    assert by_class == [0] * 5 + [2] * 10 + [255]


@pytest.mark.parametrize("order", ["drawing", "classes"])
def test_what_erases_takes_away_what_was_drawn_before_and_nothing_after(order):
    outlines = [
        drawn(box(0, 0, 10, 1)),
        drawn(box(2, 0, 6, 1), erases=True),
        drawn(box(4, 0, 8, 1)),
    ]
    found = raster_of(outlines, [1, 0, 2], order=order, ground=Ground(outside=0))
    assert found.read(Region(0, 0, 12, 1))[0].tolist() == [1, 1, 0, 0, 2, 2, 2, 2, 1, 1, 0, 0]


@pytest.mark.parametrize("order", ["drawing", "classes"])
def test_annotated_regions_are_ground_wherever_they_were_drawn(order):
    tumour, region, later = drawn(box(2, 0, 4, 1)), drawn(box(0, 0, 8, 1)), drawn(box(6, 0, 10, 1))
    outlines = [tumour, region, later]
    found = raster_of(outlines, [1, REGION, 2], order=order, ground=Ground(outside=255, in_region=0))
    assert found.read(Region(0, 0, 12, 1))[0].tolist() == [0, 0, 1, 1, 0, 0, 2, 2, 2, 2, 255, 255]


def test_what_erases_takes_an_annotated_region_away_too():
    outlines = [drawn(box(0, 0, 8, 1)), drawn(box(2, 0, 4, 1), erases=True)]
    found = raster_of(outlines, [REGION, 0], ground=Ground(outside=255, in_region=0))
    assert found.read(Region(0, 0, 10, 1))[0].tolist() == [0, 0, 255, 255, 0, 0, 0, 0, 255, 255]


def test_an_outline_may_say_unlabelled():
    found = raster_of([drawn(box(0, 0, 4, 1)), drawn(box(1, 0, 2, 1))], [0, 255], ground=Ground(outside=1))
    assert found.read(Region(0, 0, 5, 1))[0].tolist() == [0, 255, 0, 0, 1]


def test_regions_without_an_edge_are_told_by_one_label():
    raster = raster_of([drawn(box(0, 0, 2000, 1000))], [3], size=Size(3000, 2000))
    assert raster.label(Region(100, 100, 600, 600)) == 3
    assert raster.label(Region(2100, 0, 500, 500)) == 255
    assert raster.label(Region(1999, 0, 2, 2)) is None
    # The upper edge passes through, its ends lie far away.
    assert (
        raster_of([drawn(box(0, 50, 2000, 90))], [3], size=Size(2000, 100)).label(Region(800, 40, 20, 20))
        is None
    )


def test_no_outlines_leave_the_ground():
    raster = raster_of([], [], ground=Ground(outside=4))
    assert (raster.read(WHOLE) == 4).all()
    assert raster.label(WHOLE) == 4
    assert raster.at_pixels(np.array([[3, 4]])).tolist() == [4]


def test_flat_outlines_and_those_far_outside_hold_no_pixel():
    flat = drawn(np.array([[0, 5.5], [30, 5.5], [10, 5.5]]), np.array([[3, 3], [3, 9], [3, 4.0]]))
    far = [drawn(box(-1e12, -1e12, -1e11, 1e12)), drawn(box(1e9, 0, 2e9, 10)), drawn(box(0, 500, 40, 600))]
    assert (raster_of([flat, *far], [1, 1, 1, 1]).read(WHOLE) == 255).all()
    around = raster_of([drawn(box(-1e12, -1e12, 1e12, 1e12))], [1])
    assert (around.read(WHOLE) == 1).all()


def test_the_index_of_tall_and_wide_outlines_stays_as_small_as_they_are():
    size = Size(200_000, 200_000)
    rng = np.random.default_rng(0)
    rings = [box(*rng.uniform(0, 1000, 2), *rng.uniform(199_000, 200_000, 2)) for _ in range(2000)]
    raster = raster_of([drawn(ring) for ring in rings], [1] * len(rings), size=size)
    assert raster.nbytes < 60 << 20
    assert (raster.read(Region(100_000, 100_000, 64, 64)) == 1).all()


def test_points_that_are_not_finite_name_their_outline():
    broken = Outline(rings=(np.array([[0, 0], [np.nan, 3], [3, 3]]),), source_class="a", number=17)
    with pytest.raises(AnnotationError, match="outline 17: a point that is not finite"):
        raster_of([drawn(box(0, 0, 1, 1)), broken], [0, 0])


def test_orders_and_meanings_that_do_not_exist_are_refused():
    with pytest.raises(ShapeError, match="order 'size'"):
        raster_of([], [], order="size")
    with pytest.raises(ShapeError, match=r"meanings \[-2\]"):
        raster_of([drawn(box(0, 0, 1, 1))], [-2])
