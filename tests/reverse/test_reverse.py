"""The reverse sampler against brute force: every pixel, every level, integer distances."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.reverse.levels import MaskTile, kept_at_level, pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

OUTSIDE = 255


def centres(size: Size, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres of a level of this size, in 1/256 level-0 px."""
    rows, columns = np.mgrid[: size.height, : size.width].astype(np.int64)
    return (2 * columns + 1) << (level + 7), (2 * rows + 1) << (level + 7)


def brute_force(fields: list[FieldSamples], size: Size, level_size: Size, level: int) -> np.ndarray:
    """Labels of a level, from all samples at each pixel; numpy's argmin takes the first of equals."""
    x, y = centres(level_size, level)
    labels = np.full(level_size.shape, OUTSIDE, np.uint8)
    for field in fields:
        points = np.rint(field.points_px * 256).astype(np.int64)
        squares = (x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2
        kept = field.kept
        owned = (x >= kept.x * 256) & ((x < kept.right * 256) | (kept.right >= size.width))
        owned &= (y >= kept.y * 256) & ((y < kept.bottom * 256) | (kept.bottom >= size.height))
        labels[owned] = field.labels[squares.argmin(axis=-1)][owned]
    return labels


def painted(tiles, sizes: tuple[Size, ...], tile_px: int) -> list[np.ndarray]:
    """Levels put together from a stream of tiles; fails when a pixel is given twice or not at all."""
    levels = [np.full(size.shape, -1, np.int16) for size in sizes]
    for tile in tiles:
        rows = slice(tile.row * tile_px, (tile.row + tile.rows) * tile_px)
        columns = slice(tile.column * tile_px, (tile.column + tile.columns) * tile_px)
        target = levels[tile.level][rows, columns]
        assert target.size > 0
        assert (tile.rows, tile.columns) == tuple(-(-length // tile_px) for length in target.shape)
        assert (target == -1).all(), "given twice"
        assert (tile.label is None) != (tile.pixels is None)
        if tile.pixels is not None:
            assert tile.pixels.shape == target.shape
        target[:] = tile.label if tile.pixels is None else tile.pixels
    assert all((level >= 0).all() for level in levels), "not given"
    return levels


def drawn_points(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Points of one of four kinds: spread, on a lattice with duplicates, at corners, or mostly outside."""
    count = int(rng.integers(1, 40))
    scale = np.array([size.width, size.height], np.float64)
    kind = int(rng.integers(4))
    if kind == 0:
        return rng.random((count, 2)) * scale
    if kind == 1:
        return rng.integers(-3, 20, (count, 2)) * (scale / 16)
    if kind == 2:
        return np.round(rng.random((count, 2)) * scale)
    return rng.normal(size=(count, 2)) * 300


def cut(rng: np.random.Generator, region: Region, parts: int) -> list[Region]:
    """Disjoint rectangles that cover a region, by random cuts."""
    regions = [region]
    for _ in range(parts - 1):
        r = regions.pop(int(rng.integers(len(regions))))
        if rng.random() < 0.5 and r.width > 1:
            at = int(rng.integers(1, r.width))
            regions += [Region(r.x, r.y, at, r.height), Region(r.x + at, r.y, r.width - at, r.height)]
        elif r.height > 1:
            at = int(rng.integers(1, r.height))
            regions += [Region(r.x, r.y, r.width, at), Region(r.x, r.y + at, r.width, r.height - at)]
        else:
            regions.append(r)
    return regions


def drawn_case(seed: int, max_fields: int) -> tuple[list[FieldSamples], Size, int]:
    """Fields with random samples, the slide's size and a tile side."""
    rng = np.random.default_rng(seed)
    size = Size(int(rng.integers(1, 150)), int(rng.integers(1, 150)))
    regions = cut(rng, Region.whole(size), int(rng.integers(1, max_fields + 1)))
    if len(regions) > 1 and rng.random() < 0.4:
        regions = regions[1:]  # leaves a part of the slide to no field
    fields = []
    for kept in regions:
        points = drawn_points(rng, size)
        labels = rng.integers(0, rng.integers(1, 200), len(points)).astype(np.uint8)
        fields.append(FieldSamples(kept=kept, points_px=points, labels=labels))
    return fields, size, int(rng.choice([16, 32, 48]))


def one_field(points: object, labels: object, size: Size, **settings: int) -> ReverseSampler:
    """A sampler of one field that keeps the whole slide."""
    field = FieldSamples(
        kept=Region.whole(size),
        points_px=np.asarray(points, np.float64),
        labels=np.asarray(labels, np.uint8),
    )
    return ReverseSampler([field], size=size, **settings)


def test_convention_a_tie_goes_to_the_lower_index():
    # The pixel centre 1.5 is as far from 1 as from 2.
    near_first = one_field([[1, 0.5], [2, 0.5]], [7, 9], Size(3, 1))
    assert near_first.region(Region(0, 0, 3, 1)).tolist() == [[7, 7, 9]]
    far_first = one_field([[2, 0.5], [1, 0.5]], [9, 7], Size(3, 1))
    assert far_first.region(Region(0, 0, 3, 1)).tolist() == [[7, 9, 9]]


def test_convention_of_duplicate_points_the_first_decides():
    pixels = one_field([[5, 5]] * 3, [4, 1, 2], Size(10, 10)).region(Region(0, 0, 10, 10))
    assert (pixels == 4).all()


def test_convention_a_position_is_rounded_to_a_256th_of_a_pixel():
    # The second is 0.4 / 256 px nearer to the centre 1.5, which rounding takes away: a tie.
    sampler = one_field([[1.0, 0.5], [2.0 - 0.4 / 256, 0.5]], [7, 9], Size(3, 1))
    assert sampler.region(Region(0, 0, 3, 1)).tolist() == [[7, 7, 9]]


def test_convention_a_pixel_belongs_to_the_field_that_keeps_its_centre():
    # Level-1 pixel 1 has its centre at 3.0, the edge between both fields: it belongs to the right one.
    # The left field's sample is nearest to all pixels, but decides none of the right field's.
    one, two = np.array([1], np.uint8), np.array([2], np.uint8)
    left = FieldSamples(kept=Region(0, 0, 3, 4), points_px=np.array([[3.0, 2]]), labels=one)
    right = FieldSamples(kept=Region(3, 0, 3, 4), points_px=np.array([[90.0, 2]]), labels=two)
    sampler = ReverseSampler([left, right], size=Size(6, 4), tile_px=16)
    assert sampler.region(Region(0, 0, 6, 1)).tolist() == [[1, 1, 1, 2, 2, 2]]
    wide = ReverseSampler([left, right], size=Size(6 * 16, 4), tile_px=16, outside_label=0)
    assert wide.region(Region(0, 0, 4, 1), level=1).tolist() == [[1, 2, 2, 0]]


def test_convention_fields_at_the_edge_hold_centres_of_partial_pixels_past_it():
    # 33 px: the last pixel of level 2 covers [32, 36), its centre 34 lies past the slide's edge.
    field = FieldSamples(
        kept=Region(16, 0, 17, 33), points_px=np.ones((1, 2)), labels=np.array([5], np.uint8)
    )
    sampler = ReverseSampler([field], size=Size(33, 33), outside_label=OUTSIDE, tile_px=16)
    assert sampler.region(Region(0, 0, 9, 9), level=2)[8].tolist() == [OUTSIDE] * 4 + [5] * 5


def test_levels_halve_rounding_up_until_one_tile_holds_them():
    assert pyramid_sizes(Size(1025, 300)) == (Size(1025, 300), Size(513, 150), Size(257, 75))
    assert pyramid_sizes(Size(512, 512)) == (Size(512, 512),)


@pytest.mark.parametrize("max_fields", [1, 6])
def test_every_level_equals_brute_force(max_fields: int):
    for seed in range(120):
        fields, size, tile_px = drawn_case(seed, max_fields)
        sampler = ReverseSampler(fields, size=size, outside_label=OUTSIDE, tile_px=tile_px)
        levels = painted(sampler.tiles(), sampler.level_sizes, tile_px)
        for level, level_size in enumerate(sampler.level_sizes):
            expected = brute_force(fields, size, level_size, level)
            np.testing.assert_array_equal(levels[level], expected, err_msg=f"seed {seed}, level {level}")
            rng = np.random.default_rng(seed)
            x, y = int(rng.integers(level_size.width)), int(rng.integers(level_size.height))
            part = Region(x, y, (level_size.width - x + 1) // 2, (level_size.height - y + 1) // 2)
            expected_part = expected[part.y : part.bottom, part.x : part.right]
            np.testing.assert_array_equal(sampler.region(part, level), expected_part)


@pytest.mark.parametrize("kind", ["crowds", "ties", "a gap", "beside it"])
def test_thousands_of_samples_equal_brute_force_at_any_density(kind: str):
    rng = np.random.default_rng(["crowds", "ties", "a gap", "beside it"].index(kind))
    size, count = Size(137, 101), 1200
    middles = rng.uniform(0, 1, (6, 2)) * [137, 101]
    points = middles[rng.integers(0, 6, count)] + rng.normal(0, 1, (count, 2)) * rng.choice(
        [0.2, 4, 30], (count, 1)
    )
    if kind == "ties":
        points = np.rint(points / 4) * 4  # Many at one place, and pixels as far from one as from another.
    if kind == "a gap":
        points = np.concatenate([points[:3], points[points[:, 0] < 30] * [0.5, 1]])
    if kind == "beside it":
        points = points + [300, -40]
    labels = rng.integers(0, 3, len(points)).astype(np.uint8)
    field = FieldSamples(points_px=points, labels=labels, kept=Region(2, 1, 133, 100))
    sampler = ReverseSampler([field], size=size, outside_label=OUTSIDE, tile_px=64)
    levels = painted(sampler.tiles(), sampler.level_sizes, 64)
    for level, found in enumerate(levels):
        np.testing.assert_array_equal(found, brute_force([field], size, sampler.level_sizes[level], level))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (37, 50), (64, 64), (1, 90), (130, 3)])
def test_a_uniform_grid_on_a_slide_of_its_size_inverts_to_the_identity(width: int, height: int):
    size = Size(width, height)
    labels = np.random.default_rng(0).integers(0, 256, size.shape).astype(np.uint8)
    rows, columns = np.mgrid[:height, :width]
    points = np.stack([columns + 0.5, rows + 0.5], axis=-1).reshape(-1, 2)
    sampler = one_field(points, labels.ravel(), size, tile_px=16)
    np.testing.assert_array_equal(painted(sampler.tiles(), sampler.level_sizes, 16)[0], labels)


def test_no_class_appears_that_the_samples_do_not_have():
    rng = np.random.default_rng(4)
    labels = rng.choice(np.array([3, 17, 200], np.uint8), 500)
    sampler = one_field(rng.random((500, 2)) * 300, labels, Size(300, 211), tile_px=32, outside_label=9)
    for level in painted(sampler.tiles(), sampler.level_sizes, 32):
        assert set(np.unique(level)) <= {3, 17, 200}


def test_a_slide_without_fields_has_the_outside_label_everywhere():
    sampler = ReverseSampler([], size=Size(100, 70), outside_label=6, tile_px=16)
    assert all((level == 6).all() for level in painted(sampler.tiles(), sampler.level_sizes, 16))


def test_one_label_over_a_huge_slide_is_one_block_per_level():
    rng = np.random.default_rng(0)
    sampler = one_field(rng.random((64_000, 2)) * 100_000, np.full(64_000, 3), Size(100_000, 90_000))
    tiles = list(sampler.tiles())
    assert [tile.level for tile in tiles] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert all(tile.label == 3 for tile in tiles)
    assert (tiles[-1].columns, tiles[-1].rows) == (196, 176)


def test_fewer_levels_are_the_finest_of_all():
    fields, size, _ = drawn_case(3, 4)
    sampler = ReverseSampler(fields, size=size, tile_px=16)
    every = painted(sampler.tiles(), sampler.level_sizes, 16)
    assert len(every) > 2
    for level, two in zip(
        every, painted(sampler.tiles(level_count=2), sampler.level_sizes[:2], 16), strict=False
    ):
        np.testing.assert_array_equal(level, two)


def test_tiles_and_their_order_do_not_depend_on_the_number_of_threads():
    def spelled(tile: MaskTile) -> tuple[object, ...]:
        data = None if tile.pixels is None else tile.pixels.tobytes()
        return tile.level, tile.column, tile.row, tile.columns, tile.rows, tile.label, data

    rng = np.random.default_rng(8)
    sampler = one_field(rng.random((900, 2)) * 1000, rng.integers(0, 3, 900), Size(1000, 700), tile_px=32)
    alone = [spelled(tile) for tile in sampler.tiles()]
    for threads in (2, 4):
        assert [spelled(tile) for tile in sampler.tiles(threads=threads)] == alone


@pytest.mark.parametrize("interpolation", ["nearest", "linear"])
def test_a_sampler_takes_no_kernel_along_to_another_process(interpolation):
    """A pickled kernel is compiled anew where it arrives, which took a worker 15 s for the first tile of a mask."""
    sampler = ReverseSampler([], size=Size(40, 30), interpolation=interpolation)
    packed = pickle.dumps(sampler)
    assert b"numba" not in packed
    np.testing.assert_array_equal(pickle.loads(packed).region(Region(0, 0, 40, 30)), np.zeros((30, 40)))


def test_distances_stay_exact_at_the_largest_size_and_offset():
    side = 1 << 20
    rng = np.random.default_rng(2)
    points = rng.uniform(-side, side, (60, 2))
    labels = np.arange(60, dtype=np.uint8)
    sampler = one_field(points, labels, Size(side, side))
    units = [(int(x), int(y)) for x, y in np.rint(points * 256)]
    for level in (0, 5, 11):
        level_size = sampler.level_sizes[level]
        for _ in range(100):
            x, y = int(rng.integers(level_size.width)), int(rng.integers(level_size.height))
            centre_x, centre_y = (2 * x + 1) << (level + 7), (2 * y + 1) << (level + 7)
            squares = [
                (centre_x - u) ** 2 + (centre_y - v) ** 2 for u, v in units
            ]  # Python integers: no limit
            assert sampler.region(Region(x, y, 1, 1), level)[0, 0] == squares.index(min(squares))


def test_the_smallest_difference_of_the_largest_distances_decides():
    side, far = 1 << 20, (1 << 28) - 4096  # px, units
    for level in (0, 3):
        x, y = centres(Size(1, 1), level)
        # |(far + 1, far - 1)|^2 is 2 more than |(far, far)|^2: 2 in 2^57, which no double holds.
        offsets = np.array([[far + 1, far - 1], [far, far], [far - 1, far + 1]])
        points = (np.array([x[0, 0], y[0, 0]]) + offsets) / 256
        sampler = one_field(points, [7, 8, 9], Size(side, side))
        assert sampler.region(Region(0, 0, 1, 1), level)[0, 0] == 8


def test_thousands_of_fields_share_a_slide():
    side, per_field = 50, 20  # 2,500 places for fields of 256 px, samples up to 100 px outside
    rng = np.random.default_rng(6)
    size = Size(side * 256 - 50, side * 256 - 30)
    fields = [
        FieldSamples(
            kept=Region(column * 256, row * 256, 256, 256),
            points_px=rng.uniform(-100, 356, (per_field, 2)) + [column * 256, row * 256],
            labels=rng.integers(0, 4, per_field).astype(np.uint8),
        )
        for row in range(side)
        for column in range(side)
        if (row + column) % 5
    ]
    sampler = ReverseSampler(fields, size=size, outside_label=OUTSIDE)
    levels = painted(sampler.tiles(), sampler.level_sizes, 512)
    by_place = {(field.kept.x, field.kept.y): field for field in fields}
    for level in (0, 3, 5):
        level_size = sampler.level_sizes[level]
        for _ in range(100):
            x, y = int(rng.integers(level_size.width)), int(rng.integers(level_size.height))
            centre = (np.array([x, y]) + 0.5) * 2**level
            column, row = np.minimum(centre // 256, side - 1).astype(int) * 256
            found = levels[level][y, x]
            if (column, row) not in by_place:
                assert found == OUTSIDE
                continue
            field = by_place[column, row]
            squares = ((np.rint(field.points_px * 256) - centre * 256) ** 2).sum(axis=1)
            assert found == field.labels[squares.argmin()]


@pytest.mark.parametrize(
    ("points", "labels", "said"),
    [
        (np.zeros((4, 3)), np.zeros(4, np.uint8), r"\(4, 3\)"),
        (np.zeros((4, 2), np.float32), np.zeros(4, np.uint8), "float32"),
        (np.zeros((4, 2)), np.zeros(5, np.uint8), r"\(5,\)"),
        (np.zeros((4, 2)), np.zeros(4, np.int64), "int64"),
        (np.zeros((0, 2)), np.zeros(0, np.uint8), "no points"),
        (np.array([[0, 0], [np.nan, 1]]), np.zeros(2, np.uint8), r"points_px\[1\]"),
        (np.array([[0, np.inf]]), np.zeros(1, np.uint8), r"points_px\[0\]"),
        (np.array([[0, 3e6]]), np.zeros(1, np.uint8), "another frame"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(points: np.ndarray, labels: np.ndarray, said: str):
    with pytest.raises(ShapeError, match=said):
        FieldSamples(kept=Region(0, 0, 9, 9), points_px=points, labels=labels)


def test_kept_regions_that_overlap_are_refused():
    def field(kept: Region) -> FieldSamples:
        return FieldSamples(kept=kept, points_px=np.ones((1, 2)), labels=np.zeros(1, np.uint8))

    apart = [field(Region(0, 0, 5, 5)), field(Region(5, 0, 5, 5)), field(Region(0, 5, 5, 5))]
    ReverseSampler(apart, size=Size(10, 10))
    with pytest.raises(ShapeError, match="overlap"):
        ReverseSampler([*apart, field(Region(4, 6, 3, 3))], size=Size(10, 10))


def test_settings_out_of_range_are_refused():
    sampler = one_field([[1, 1]], [0], Size(40, 40), tile_px=16)
    with pytest.raises(ShapeError, match="level 3"):
        sampler.region(Region(0, 0, 1, 1), level=3)
    with pytest.raises(ShapeError, match="inside level 1"):
        sampler.region(Region(15, 15, 6, 1), level=1)
    with pytest.raises(ShapeError, match="level_count 4"):
        sampler.tiles(level_count=4)
    with pytest.raises(ShapeError, match="outside_label 256"):
        one_field([[1, 1]], [0], Size(40, 40), outside_label=256)
    with pytest.raises(ShapeError, match="tile_px 20"):
        one_field([[1, 1]], [0], Size(40, 40), tile_px=20)
    with pytest.raises(ShapeError, match="per side"):
        one_field([[1, 1]], [0], Size(1 << 21, 40))


def test_outside_fields_the_label_is_0_unless_one_is_given():
    sampler = ReverseSampler([], size=Size(40, 30))
    assert (sampler.region(Region(0, 0, 40, 30)) == 0).all()
    assert sampler.tile_px == 512


@pytest.mark.parametrize(
    ("kept", "level", "expected"),
    [
        # A pixel of level 1 belongs to where its centre lies: 1, 3, 5, ...
        (Region(0, 0, 3, 5), 1, Region(0, 0, 1, 2)),
        (Region(3, 5, 4, 2), 1, Region(1, 2, 2, 1)),
        (Region(2, 4, 4, 4), 1, Region(1, 2, 2, 2)),
        (Region(3, 5, 30, 28), 1, Region(1, 2, 16, 15)),  # up to the slide's edge, 17 px
        (Region(3, 5, 29, 27), 1, Region(1, 2, 15, 14)),
        (Region(7, 5, 2, 1), 3, Region(1, 1, 0, 0)),
        (Region(12, 4, 21, 29), 3, Region(1, 0, 4, 5)),
        (Region(3, 5, 4, 2), 0, Region(3, 5, 4, 2)),
    ],
)
def test_what_a_field_keeps_of_a_level(kept, level, expected):
    assert kept_at_level(kept, Size(33, 33), level) == expected
    if not expected.is_empty:
        field = FieldSamples(kept=kept, points_px=np.ones((1, 2)), labels=np.array([5], np.uint8))
        sampler = ReverseSampler([field], size=Size(33, 33), outside_label=OUTSIDE, tile_px=16)
        if level < len(sampler.level_sizes):
            size = sampler.level_sizes[level]
            painted_px = sampler.region(Region.whole(size), level) == 5
            assert painted_px.sum() == expected.size.area
            assert painted_px[expected.y : expected.bottom, expected.x : expected.right].all()


def test_regions_that_overlap_are_both_named():
    def field(kept: Region) -> FieldSamples:
        return FieldSamples(kept=kept, points_px=np.ones((1, 2)), labels=np.zeros(1, np.uint8))

    fields = [field(Region(0, 0, 5, 5)), field(Region(6, 0, 4, 5)), field(Region(8, 4, 2, 6))]
    with pytest.raises(
        ShapeError, match=r"x=6, y=0, width=4, height=5\) and Region\(x=8, y=4, width=2, height=6\)"
    ):
        ReverseSampler(fields, size=Size(10, 10))
    # One that reaches over two others: the first of them in order of their left edges.
    wide = [field(Region(0, 0, 10, 1)), field(Region(7, 0, 1, 5)), field(Region(3, 0, 1, 5))]
    with pytest.raises(ShapeError, match=r"x=0, y=0, width=10, height=1\) and Region\(x=3, "):
        ReverseSampler(wide, size=Size(10, 10))


def test_what_labels_must_be_is_said():
    with pytest.raises(ShapeError, match=r"labels: shape \(5,\), uint8\. Needed \(4,\) uint8"):
        FieldSamples(kept=Region(0, 0, 9, 9), points_px=np.zeros((4, 2)), labels=np.zeros(5, np.uint8))


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({"tile_px": 16}, True), ({"tile_px": 15}, False), ({"tile_px": 0}, False), ({"tile_px": 4096}, True),
        ({"tile_px": 4112}, False), ({"tile_px": 40}, False), ({"outside_label": -1}, False),
        ({"outside_label": 255}, True),
    ],
)  # fmt: skip
def test_settings_at_the_ends_of_their_ranges(settings, taken):
    if taken:
        assert one_field([[1, 1]], [0], Size(40, 40), **settings).region(Region(0, 0, 1, 1)).shape == (1, 1)
        return
    with pytest.raises(ShapeError, match="needed"):
        one_field([[1, 1]], [0], Size(40, 40), **settings)


def test_levels_and_slides_at_the_ends_of_their_ranges():
    sampler = one_field([[1, 1]], [0], Size(40, 40), tile_px=16)
    for level in (-1, 3):
        with pytest.raises(ShapeError, match="needed 0 to 2 for a slide of 40 x 40"):
            sampler.region(Region(0, 0, 1, 1), level)
    for count in (0, 4):
        with pytest.raises(ShapeError, match="needed 1 to 3 for a slide of 40 x 40"):
            sampler.tiles(level_count=count)
    assert {tile.level for tile in sampler.tiles(level_count=1)} == {0}
    assert {tile.level for tile in sampler.tiles(level_count=3)} == {0, 1, 2}
    with pytest.raises(ShapeError, match="not empty"):
        sampler.region(Region(3, 3, 0, 5))
    assert one_field([[1, 1]], [0], Size(1 << 20, 40)).level_sizes[0] == Size(1_048_576, 40)
    with pytest.raises(ShapeError, match="needed at most 1,048,576 px per side"):
        one_field([[1, 1]], [0], Size((1 << 20) + 1, 40))


def test_values_are_put_back_as_numbers_of_16_bits():
    field = FieldSamples(
        kept=Region(0, 0, 4, 1), points_px=np.array([[1, 0.5], [3, 0.5]]), labels=np.zeros(2, np.uint8)
    )
    values = [np.array([300, 65_535], np.uint16)]
    sampler = ReverseSampler([field], size=Size(6, 1), values=values, outside_label=65_534)
    found = sampler.region(Region(0, 0, 6, 1))
    assert found.dtype == np.uint16
    assert found.tolist() == [[300, 300, 65_535, 65_535, 65_534, 65_534]]
    with pytest.raises(ShapeError, match="needed 0 to 65535"):
        ReverseSampler([field], size=Size(4, 1), values=values, outside_label=65_536)
    with pytest.raises(ShapeError, match="linear without values"):
        ReverseSampler([field], size=Size(4, 1), values=values, interpolation="linear")


def test_a_tile_whose_samples_disagree_between_pixel_centres_alone_has_one_label():
    near = [[8 + x / 10, 8 + y / 10] for x in (-1, 0, 1) for y in (-1, 0, 1)]
    labels = [0, 0, 0, 0, 1, 0, 0, 0, 0]
    (tile,) = one_field(near, labels, Size(16, 16), tile_px=16, outside_label=OUTSIDE).tiles()
    assert (tile.label, tile.pixels) == (0, None)
