"""The linear reverse sampler against brute force: every triangle at every pixel, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.tri import LinearTriInterpolator, Triangulation

from wsi_deform.deform.grid import sampling_grid
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.reverse.levels import MaskTile
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

OUTSIDE = 255
FAR_PX = 4096.0
"""How far the brute force copies border samples out; the slides here are smaller."""


def field_of(
    points: object,
    probabilities: np.ndarray,
    lattice: Size,
    kept: Region,
) -> FieldSamples:
    points = np.asarray(points, np.float64).reshape(-1, 2)
    probabilities = probabilities.reshape(len(points), -1)
    return FieldSamples(
        kept=kept,
        points_px=points,
        labels=probabilities.argmax(axis=1).astype(np.uint8),
        probabilities=probabilities,
        lattice=lattice,
    )


def linear(fields: list[FieldSamples], size: Size, tile_px: int = 16) -> ReverseSampler:
    return ReverseSampler(fields, size=size, outside_label=OUTSIDE, tile_px=tile_px, interpolation="linear")


def extended(field: FieldSamples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices, scores and triangles of the mesh whose border samples are copied straight out."""
    height, width = field.lattice.shape
    points = np.rint(field.points_px * 256).reshape(height, width, 2) / 256
    scale = 255 if field.probabilities.dtype == np.uint8 else 1
    scores = np.rint(field.probabilities.astype(np.float64) / scale * 65535).reshape(height, width, -1)
    points = np.pad(points, ((1, 1), (1, 1), (0, 0)), mode="edge")
    scores = np.pad(scores, ((1, 1), (1, 1), (0, 0)), mode="edge")
    points[:, 0, 0], points[:, -1, 0] = -FAR_PX, FAR_PX
    points[0, :, 1], points[-1, :, 1] = -FAR_PX, FAR_PX
    index = np.arange((height + 2) * (width + 2)).reshape(height + 2, width + 2)
    cells = []
    for row in range(height + 1):
        for column in range(width + 1):
            a, b = index[row, column], index[row, column + 1]
            c, d = index[row + 1, column], index[row + 1, column + 1]
            on_rim, on_side = row in (0, height), column in (0, width)
            # Triangles, then strips above, below, left and right, then quadrants.
            turn = (
                5 if on_rim and on_side else 1 + (row > 0) if on_rim else 3 + (column > 0) if on_side else 0
            )
            cells.append((turn, row, column, [(a, b, d), (a, d, c)]))
    triangles = [each for *_, both in sorted(cells) for each in both]
    return points.reshape(-1, 2), scores.reshape(len(index.ravel()), -1), np.array(triangles)


def interpolated(field: FieldSamples, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, C) scores at points, each from the first triangle that holds it."""
    points, scores, triangles = extended(field)
    found = np.full((x.size, scores.shape[1]), np.nan)
    for a, b, c in triangles:
        (ax, ay), (bx, by), (cx, cy) = points[[a, b, c]]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
        v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
        w = 1 - u - v
        least = np.minimum(np.minimum(u, v), w)
        holds = (least >= -1e-12) & np.isnan(found[:, 0])
        found[holds] = u[holds, None] * scores[a] + v[holds, None] * scores[b] + w[holds, None] * scores[c]
    assert not np.isnan(found).any(), "the mesh does not cover everything"
    return found


def expected_level(fields: list[FieldSamples], size: Size, level_size: Size, level: int):
    """Labels of a level by brute force, and where they are certain."""
    rows, columns = np.mgrid[: level_size.height, : level_size.width]
    x, y = ((columns + 0.5) * 2**level).ravel(), ((rows + 0.5) * 2**level).ravel()
    labels, certain = np.full(x.shape, OUTSIDE), np.ones(x.shape, bool)
    for field in fields:
        kept = field.kept
        owned = (x >= kept.x) & ((x < kept.right) | (kept.right >= size.width))
        owned &= (y >= kept.y) & ((y < kept.bottom) | (kept.bottom >= size.height))
        scores = interpolated(field, x[owned], y[owned]) / 65535
        labels[owned] = scores.argmax(axis=1)
        if scores.shape[1] > 1:
            best = np.sort(scores, axis=1)
            certain[owned] = best[:, -1] - best[:, -2] > 1e-6
    return labels.reshape(level_size.shape), certain.reshape(level_size.shape)


def painted(tiles, sizes: tuple[Size, ...], tile_px: int) -> list[np.ndarray]:
    levels = [np.full(size.shape, -1, np.int16) for size in sizes]
    for tile in tiles:
        rows = slice(tile.row * tile_px, (tile.row + tile.rows) * tile_px)
        columns = slice(tile.column * tile_px, (tile.column + tile.columns) * tile_px)
        assert (levels[tile.level][rows, columns] == -1).all(), "given twice"
        levels[tile.level][rows, columns] = tile.label if tile.pixels is None else tile.pixels
    assert all((level >= 0).all() for level in levels), "not given"
    return levels


def drawn_probabilities(rng: np.random.Generator, lattice: Size, classes: int) -> np.ndarray:
    """Smooth or rough, soft or one-hot, of one of the types that can be given."""
    scores = rng.normal(size=(*lattice.shape, classes)) * rng.choice([0.3, 3.0])
    if rng.random() < 0.5:
        rows, columns = np.mgrid[: lattice.height, : lattice.width]
        waves = rng.normal(size=(classes, 3))
        scores += 3 * np.stack([np.sin(a * rows / 3 + b * columns / 3 + c) for a, b, c in waves], axis=-1)
    shares = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
    if rng.random() < 0.2:
        shares = (shares == shares.max(axis=-1, keepdims=True)).astype(float)
    kind = rng.choice([0, 1, 2])
    if kind == 0:
        return np.rint(shares * 255).astype(np.uint8)
    return shares.astype([np.float16, np.float32][kind - 1])


def drawn_lattice(rng: np.random.Generator, lattice: Size, region: Region) -> np.ndarray:
    """Points of a lattice in a region: jittered, folded, on whole coordinates with duplicates, or nearly flat."""
    unit = np.stack(
        np.meshgrid(
            (np.arange(lattice.width) + 0.5) / lattice.width,
            (np.arange(lattice.height) + 0.5) / lattice.height,
        ),
        axis=-1,
    )
    kind = rng.integers(4)
    spacing = 1 / np.array([lattice.width, lattice.height])
    if kind == 0:
        unit = unit + rng.uniform(-0.3, 0.3, unit.shape) * spacing
    elif kind == 1:
        unit = unit + rng.normal(size=unit.shape) * spacing * 1.5
    elif kind == 3:
        unit = (unit - 0.5) * [1.0, rng.choice([0.0, 0.02])] + 0.5
    points = unit * [region.width, region.height] + [region.x, region.y]
    return np.round(points / 4) * 4 if kind == 2 else points


def drawn_case(seed: int) -> tuple[list[FieldSamples], Size]:
    rng = np.random.default_rng(seed)
    size = Size(int(rng.integers(1, 90)), int(rng.integers(1, 90)))
    classes = int(rng.integers(1, 5))
    cut = int(rng.integers(0, size.width + 1))
    regions = [Region(0, 0, cut, size.height), Region(cut, 0, size.width - cut, size.height)]
    fields = []
    for kept in regions[: 1 if rng.random() < 0.2 else 2]:
        if kept.is_empty:
            continue
        lattice = Size(int(rng.integers(1, 7)), int(rng.integers(1, 7)))
        region = kept.grown(int(rng.integers(0, 20)), size)
        points = drawn_lattice(rng, lattice, region)
        fields.append(field_of(points, drawn_probabilities(rng, lattice, classes), lattice, kept))
    return fields, size


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.uint8)[labels] * np.uint8(255)


def spiky_grid(seed: int, lattice: Size, size: Size, **settings: float) -> np.ndarray:
    """(N, 2) points of a warped grid over a slide, from a map with high peaks."""
    generator = torch.Generator().manual_seed(seed)
    density = torch.rand((1, 1, 12, 16), generator=generator) ** 12 + 1e-3
    grid = sampling_grid(density, sigma_px=2.0, size=lattice, **settings)[0].double().numpy()
    return grid.reshape(-1, 2) * [size.width, size.height]


def test_every_level_equals_brute_force():
    pixels = doubtful = 0
    for seed in range(150):
        fields, size = drawn_case(seed)
        sampler = linear(fields, size)
        levels = painted(sampler.tiles(), sampler.level_sizes, 16)
        for level, level_size in enumerate(sampler.level_sizes):
            labels, certain = expected_level(fields, size, level_size, level)
            wrong = (levels[level] != labels) & certain
            assert not wrong.any(), f"seed {seed}, level {level}: {wrong.sum()} of {wrong.size}"
            pixels, doubtful = pixels + certain.size, doubtful + (~certain).sum()
            rng = np.random.default_rng(seed)
            x, y = int(rng.integers(level_size.width)), int(rng.integers(level_size.height))
            part = Region(x, y, (level_size.width - x + 1) // 2, (level_size.height - y + 1) // 2)
            np.testing.assert_array_equal(
                sampler.region(part, level), levels[level][part.y : part.bottom, part.x : part.right]
            )
    assert pixels > 250_000
    assert doubtful < 0.02 * pixels


@pytest.mark.parametrize("steps", [1, 2])
def test_spiky_grids_of_the_method_equal_brute_force(steps: int):
    size, lattice = Size(211, 167), Size(24, 18)
    rng = np.random.default_rng(steps)
    for seed in (0, 3):
        radius = 2.0 if seed == 3 else None  # the paper's kernel, which may fold
        points = spiky_grid(seed, lattice, size, warp_steps=steps, radius_px=radius)
        field = field_of(points, drawn_probabilities(rng, lattice, 3), lattice, Region.whole(size))
        sampler = linear([field], size, tile_px=64)
        for level, found in enumerate(painted(sampler.tiles(), sampler.level_sizes, 64)):
            labels, certain = expected_level([field], size, sampler.level_sizes[level], level)
            np.testing.assert_array_equal(found[certain], labels[certain])


def test_inside_the_mesh_matplotlib_interpolates_the_same():
    size, lattice = Size(150, 120), Size(15, 12)
    points = spiky_grid(7, lattice, size)
    scores = drawn_probabilities(np.random.default_rng(3), lattice, 4).astype(np.float32)
    scores = scores / scores.sum(axis=-1, keepdims=True)
    field = field_of(points, scores, lattice, Region.whole(size))
    found = linear([field], size).region(Region.whole(size))
    index = np.arange(lattice.area).reshape(lattice.shape)
    a, b, c, d = (part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    mesh = Triangulation(*points.T, np.concatenate([np.stack([a, b, d], 1), np.stack([a, d, c], 1)]))
    x, y = np.meshgrid(np.arange(size.width) + 0.5, np.arange(size.height) + 0.5)
    values = np.ma.stack(
        [LinearTriInterpolator(mesh, column)(x, y) for column in scores.reshape(lattice.area, -1).T]
    )
    best = np.sort(values.data, axis=0)
    certain = ~values.mask[0] & (best[-1] - best[-2] > 1e-3)  # positions and scores are rounded here
    assert certain.sum() > 0.7 * size.area
    np.testing.assert_array_equal(found[certain], values.data.argmax(axis=0)[certain])


@pytest.mark.parametrize(("width", "height"), [(1, 1), (37, 50), (1, 60), (60, 1), (2, 2)])
def test_a_uniform_grid_with_certain_classes_inverts_to_the_identity(width: int, height: int):
    size = Size(width, height)
    labels = np.random.default_rng(0).integers(0, 5, size.shape)
    rows, columns = np.mgrid[:height, :width]
    points = np.stack([columns + 0.5, rows + 0.5], axis=-1)
    sampler = linear([field_of(points, one_hot(labels, 5), size, Region.whole(size))], size)
    np.testing.assert_array_equal(painted(sampler.tiles(), sampler.level_sizes, 16)[0], labels)


def test_samples_keep_their_class_where_they_are():
    size, lattice = Size(400, 300), Size(20, 16)
    points = np.floor(spiky_grid(1, lattice, size)) + 0.5
    points, first = np.unique(points, axis=0, return_index=True)
    assert len(first) == lattice.area
    points = np.floor(spiky_grid(1, lattice, size)) + 0.5
    labels = np.random.default_rng(1).integers(0, 4, lattice.area)
    sampler = linear([field_of(points, one_hot(labels, 4), lattice, Region.whole(size))], size)
    pixels = sampler.region(Region.whole(size))
    columns, rows = points.astype(int).T
    np.testing.assert_array_equal(pixels[rows, columns], labels)


def test_convention_quads_are_cut_from_the_first_corner_to_the_last():
    # Corners one-hot: 0 and 2 on the cut, 1 beyond it. On the other diagonal, class 1 would reach the middle.
    corners = [[0.5, 0.5], [8.5, 0.5], [0.5, 8.5], [8.5, 8.5]]
    scores = one_hot(np.array([0, 1, 1, 2]), 3)
    size = Size(9, 9)
    pixels = linear([field_of(corners, scores, Size(2, 2), Region.whole(size))], size).region(
        Region.whole(size)
    )
    assert [int(pixels[i, i]) for i in range(9)] == [0] * 5 + [2] * 4  # the tie in the middle: the lower
    assert pixels[4, 3] == 0
    assert (pixels == pixels.T).all()


def test_convention_ties_between_classes_go_to_the_lower():
    scores = np.full((4, 3), 0.25, np.float32)
    points = [[1, 1], [9, 1], [1, 9], [9, 9]]
    sampler = linear([field_of(points, scores, Size(2, 2), Region(0, 0, 10, 10))], Size(10, 10))
    assert (sampler.region(Region(0, 0, 10, 10)) == 0).all()


def test_convention_beyond_the_outermost_samples_only_the_place_along_the_border_counts():
    points = [[20, 20], [40, 24], [20, 40], [40, 40]]
    scores = one_hot(np.array([0, 1, 2, 3]), 4)
    size = Size(60, 60)
    pixels = linear([field_of(points, scores, Size(2, 2), Region.whole(size))], size).region(
        Region.whole(size)
    )
    assert (pixels[:20] == pixels[19]).all()
    assert (pixels[41:] == pixels[41]).all()
    assert (pixels[:, :20] == pixels[:, 19:20]).all()
    assert pixels[0].tolist() == [0] * 30 + [1] * 30
    assert pixels[59].tolist() == [2] * 30 + [3] * 30
    assert pixels[:, 0].tolist() == [0] * 30 + [2] * 30
    assert pixels[:, 59].tolist() == [1] * 32 + [3] * 28


def test_a_class_that_is_second_everywhere_may_win_between():
    points = [[0.5, 0.5], [20.5, 0.5], [0.5, 20.5], [20.5, 20.5]]
    scores = np.array([[0.55, 0.45, 0], [0, 0.45, 0.55], [0.55, 0.45, 0], [0, 0.45, 0.55]], np.float32)
    sampler = linear([field_of(points, scores, Size(2, 2), Region(0, 0, 21, 21))], Size(21, 21))
    assert sampler.region(Region(0, 10, 21, 1)).tolist() == [[0] * 4 + [1] * 13 + [2] * 4]


def test_no_class_appears_that_the_samples_do_not_have_and_one_class_is_one_block_per_level():
    lattice, size = Size(320, 200), Size(100_000, 90_000)
    points = spiky_grid(2, lattice, size)
    scores = np.tile(np.array([0.1, 0.2, 0.6, 0.1], np.float16), (lattice.area, 1))
    tiles = list(linear([field_of(points, scores, lattice, Region.whole(size))], size, 512).tiles())
    assert [tile.level for tile in tiles] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert all(tile.label == 2 for tile in tiles)
    small = Size(300, 211)
    labels = np.random.default_rng(0).choice([1, 4], Size(20, 20).area)
    sampler = linear(
        [field_of(spiky_grid(3, Size(20, 20), small), one_hot(labels, 6), Size(20, 20), Region.whole(small))],
        small,
    )
    assert set(np.unique(sampler.region(Region.whole(small)))) == {1, 4}


def test_linear_tiles_and_their_order_do_not_depend_on_the_number_of_threads():
    def spelled(tile: MaskTile) -> tuple[object, ...]:
        data = None if tile.pixels is None else tile.pixels.tobytes()
        return tile.level, tile.column, tile.row, tile.columns, tile.rows, tile.label, data

    lattice, size = Size(40, 30), Size(1000, 700)
    scores = drawn_probabilities(np.random.default_rng(8), lattice, 3)
    sampler = linear([field_of(spiky_grid(5, lattice, size), scores, lattice, Region.whole(size))], size, 32)
    alone = [spelled(tile) for tile in sampler.tiles()]
    for threads in (2, 4):
        assert [spelled(tile) for tile in sampler.tiles(threads=threads)] == alone


def test_cells_as_large_as_the_largest_slide_stay_exact():
    side = 1 << 20
    size = Size(side, side)
    corners = np.array([[0, 0], [side, 0], [0, side], [side, side]], float)
    scores = one_hot(np.array([0, 1, 1, 0]), 2)
    sampler = linear([field_of(corners, scores, Size(2, 2), Region.whole(size))], size, 512)
    for level in (0, 6):
        level_size = sampler.level_sizes[level]
        rng = np.random.default_rng(level)
        for _ in range(200):
            x, y = (int(each) for each in rng.integers(0, level_size.width, 2))
            # Class 1 has |x - y| / side of the sum between the corners: it wins past half.
            expected = int(2 * abs(x - y) * 2**level > side)
            assert sampler.region(Region(x, y, 1, 1), level)[0, 0] == expected


def test_many_fields_with_margins_meet_at_their_kept_edges():
    size = Size(128 * 6, 128 * 5)
    rng = np.random.default_rng(5)
    fields, lattice = [], Size(9, 8)
    for row in range(5):
        for column in range(6):
            kept = Region(column * 128, row * 128, 128, 128)
            region = kept.grown(24, size)
            points = spiky_grid(row * 6 + column, lattice, region.size) + [region.x, region.y]
            fields.append(field_of(points, drawn_probabilities(rng, lattice, 3), lattice, kept))
    levels = painted(linear(fields, size, 64).tiles(), linear(fields, size, 64).level_sizes, 64)
    alone = [ReverseSampler([f], size=size, tile_px=64, interpolation="linear") for f in fields]
    for field, sampler in zip(fields, alone, strict=True):
        for level in (0, 1, 3):
            part = Region(*(each >> level for each in (field.kept.x, field.kept.y, 128, 128)))
            np.testing.assert_array_equal(
                levels[level][part.y : part.bottom, part.x : part.right], sampler.region(part, level)
            )


def test_what_linear_needs_is_asked_for():
    whole = Region(0, 0, 9, 9)
    points, labels = np.ones((4, 2)), np.zeros(4, np.uint8)
    scores = np.full((4, 2), 0.5, np.float32)
    bare = FieldSamples(kept=whole, points_px=points, labels=labels)
    with pytest.raises(ShapeError, match="no probabilities"):
        ReverseSampler([bare], size=Size(9, 9), interpolation="linear")
    with pytest.raises(ShapeError, match='"cubic"'):
        ReverseSampler([bare], size=Size(9, 9), interpolation="cubic")
    three = field_of(points, np.full((4, 3), 0.3, np.float32), Size(2, 2), Region(4, 0, 5, 9))
    two = field_of(points, scores, Size(2, 2), Region(0, 0, 4, 9))
    with pytest.raises(ShapeError, match=r"\[2, 3\] classes"):
        ReverseSampler([two, three], size=Size(9, 9), interpolation="linear")
    assert (
        ReverseSampler([], size=Size(9, 9), interpolation="linear", outside_label=3).region(whole)[0, 0] == 3
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lattice": None}, "lattice: None"),
        ({"lattice": Size(3, 1)}, "lattice 3 x 1: 3 samples, but there are 4"),
        ({"probabilities": np.full((3, 2), 0.5, np.float32)}, r"\(3, 2\)"),
        ({"probabilities": np.full((4, 257), 0, np.uint8)}, r"\(4, 257\)"),
        ({"probabilities": np.full((4, 2), 0.5)}, "float64"),
        ({"probabilities": np.full((4, 2), np.nan, np.float16)}, "NaN"),
        ({"probabilities": np.full((4, 2), 1.5, np.float32)}, "outside"),
        ({"areas_px": np.ones(3, np.float32)}, r"\(3,\)"),
        ({"areas_px": np.full(4, -1, np.float32)}, "negative"),
    ],
)
def test_probabilities_that_cannot_be_used_are_refused(change: dict, said: str):
    good = {
        "kept": Region(0, 0, 9, 9),
        "points_px": np.ones((4, 2)),
        "labels": np.zeros(4, np.uint8),
        "probabilities": np.full((4, 2), 0.5, np.float32),
        "lattice": Size(2, 2),
    }
    with pytest.raises(ShapeError, match=said):
        FieldSamples(**(good | change))


def test_probabilities_by_hand():
    """Four samples of two classes: from 1 to .5 along x, and half a pixel around each sample's place is its own."""
    scores = np.array([[1, 0], [0.5, 0.5], [1, 0], [0.5, 0.5]], np.float32)
    points = [[0.5, 0.5], [8.5, 0.5], [0.5, 8.5], [8.5, 8.5]]
    sampler = linear([field_of(points, scores, Size(2, 2), Region(0, 0, 9, 9))], Size(11, 9))
    found = sampler.probabilities(Region(0, 3, 11, 1))
    # 255 (1 - x / 16), rounded to the nearest; nothing beyond the kept region.
    assert found[0].tolist() == [[255, 239, 223, 207, 191, 175, 159, 143, 128, 0, 0]]
    assert found[1].tolist() == [[0, 16, 32, 48, 64, 80, 96, 112, 128, 0, 0]]
    assert sampler.class_count == 2
    assert ReverseSampler([], size=Size(9, 9), interpolation="linear").class_count == 0
    nearest = ReverseSampler([], size=Size(9, 9))
    assert nearest.class_count == 0
    with pytest.raises(ShapeError, match='needed "linear"'):
        nearest.probabilities(Region(0, 0, 1, 1))
    with pytest.raises(ShapeError, match="level 1"):
        sampler.probabilities(Region(0, 0, 1, 1), level=1)


def test_one_class_and_256_are_taken_and_none_and_257_are_not():
    def field(classes):
        scores = np.zeros((4, classes), np.uint8)
        return FieldSamples(
            kept=Region(0, 0, 9, 9),
            points_px=np.ones((4, 2)),
            labels=np.zeros(4, np.uint8),
            probabilities=scores,
            lattice=Size(2, 2),
        )

    assert [field(classes).probabilities.shape[1] for classes in (1, 256)] == [1, 256]
    for classes in (0, 257):
        with pytest.raises(ShapeError, match="1 to 256 classes"):
            field(classes)


def test_a_tile_whose_pieces_disagree_between_pixel_centres_alone_has_one_label():
    points = np.stack(np.meshgrid([7.9, 8.0, 8.1], [7.9, 8.0, 8.1]), axis=-1)
    labels = np.zeros((3, 3), int)
    labels[1, 1] = 1
    field = field_of(points, one_hot(labels, 2), Size(3, 3), Region(0, 0, 16, 16))
    (tile,) = linear([field], Size(16, 16)).tiles()
    assert (tile.label, tile.pixels) == (0, None)


class _Seventy:
    """NumPy whose new arrays hold 77 and not what memory held before."""

    def __getattr__(self, name: str) -> object:
        return getattr(np, name)

    def empty(self, shape: object, dtype: object = float) -> np.ndarray:
        return np.full(shape, 77, dtype)


@pytest.mark.parametrize("shape", ["anyhow", "one place", "a column", "few places", "a slanted line"])
def test_every_pixel_is_painted_whatever_the_grid_does(shape: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wsi_deform.reverse.sampler.np", _Seventy())
    rng = np.random.default_rng(3)
    for width, height in ((1, 1), (1, 7), (6, 1), (5, 4), (9, 8)):
        points = rng.uniform(-0.3, 1.3, (width * height, 2)) * [300, 200]
        if shape == "one place":
            points[:] = points[0]
        elif shape == "a column":
            points[:, 0] = points[0, 0]
        elif shape == "few places":
            points = np.round(points / 40) * 40
        elif shape == "a slanted line":
            points[:, 1] = points[:, 0]
        probabilities = rng.random((len(points), 3)).astype(np.float32)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        field = field_of(points, probabilities, Size(width, height), Region(0, 0, 300, 200))
        for tile in linear([field], Size(300, 200), tile_px=64).tiles():
            found = tile.pixels if tile.label is None else np.uint8(tile.label)
            assert set(np.unique(found)) <= {0, 1, 2}


def test_triangles_without_area_decide_nothing():
    """Both rows of samples lie on the pixel centres of row 4: what is above and below meets there."""
    points = [[0.5, 4.5], [4.5, 4.5], [8.5, 4.5]] * 2
    field = field_of(points, one_hot(np.array([1, 2, 1] * 2), 3), Size(3, 2), Region(0, 0, 9, 9))
    pixels = linear([field], Size(9, 9)).region(Region(0, 0, 9, 9))
    assert pixels.tolist() == [[1, 1, 1, 2, 2, 2, 1, 1, 1]] * 9
    found = linear([field], Size(9, 9)).probabilities(Region(0, 4, 9, 1))
    assert found[1].tolist() == [[255, 191, 128, 64, 0, 64, 128, 191, 255]]
