"""Polygons of label maps: which rings, that they are valid, and that they say all of the map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from scipy import ndimage

from wsi_deform.mask.open_outlines import VOID, empty_pool, empty_rows
from wsi_deform.mask.outlines import trace_rows
from wsi_deform.mask.polygons import LabelBand, Polygon, label_band, polygons
from wsi_deform.mask.rings import finished_rings


def labels_of(*rows: str) -> NDArray[np.uint8]:
    """A label map drawn with one letter per pixel; ``.`` is label 0."""
    return np.array([[0 if letter == "." else int(letter) for letter in row] for row in rows], np.uint8)


def traced(
    labels: NDArray[np.uint8], heights: Sequence[int] = (), void: Sequence[int] = (0,)
) -> list[Polygon]:
    """Polygons of a map that comes in bands of these heights, then the rest."""
    cuts = np.cumsum(heights)
    bands = [label_band(part) for part in np.split(labels, cuts) if len(part)]
    return list(polygons(bands, (0, labels.shape[1]), void=void))


def as_lists(found: Sequence[Polygon]) -> list[tuple[int, list[list[list[int]]]]]:
    return [(polygon.label, [ring.tolist() for ring in polygon.rings]) for polygon in found]


def as_shape(polygon: Polygon) -> shapely.Polygon:
    return shapely.Polygon(polygon.rings[0], polygon.rings[1:])


def signed_area(ring: NDArray[np.int32]) -> float:
    """By the shoelace formula."""
    x, y = ring.T.astype(float)
    return 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))


def filled(found: Sequence[Polygon], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The labels at pixel centres, by how many rings they lie in; independent of how rings are found."""
    centres = np.argwhere(np.ones(shape))[:, ::-1] + 0.5
    drawn = np.zeros(shape, np.uint8)
    for polygon in found:
        inside = np.zeros(len(centres), bool)
        for ring in polygon.rings:
            inside ^= Outline(np.vstack([ring, ring[:1]]), closed=True).contains_points(centres)
        assert not drawn.ravel()[inside].any()
        drawn.ravel()[inside] = polygon.label
    return drawn


SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        pytest.param(["1"], [(1, [SQUARE])], id="a pixel is a square"),
        pytest.param(
            ["1..", "1..", "111"],
            [(1, [[[0, 0], [1, 0], [1, 2], [3, 2], [3, 3], [0, 3]]])],
            id="an L has six vertices: straight edges have none between",
        ),
        pytest.param(
            ["111", "1.1", "111"],
            [(1, [[[0, 0], [3, 0], [3, 3], [0, 3]], [[1, 1], [1, 2], [2, 2], [2, 1]]])],
            id="a hole runs the other way round",
        ),
        pytest.param(
            ["111", "1.1", "1.1"],
            [(1, [[[0, 0], [3, 0], [3, 3], [2, 3], [2, 1], [1, 1], [1, 3], [0, 3]]])],
            id="a hole that reaches the border is none",
        ),
        pytest.param(
            ["111", "1.1", "11."],
            [
                (
                    1,
                    [
                        [[0, 0], [3, 0], [3, 2], [2, 2], [2, 3], [0, 3]],
                        [[1, 1], [1, 2], [2, 2], [2, 1]],
                    ],
                )
            ],
            id="a hole that meets the outside at a corner touches the outer ring there",
        ),
        pytest.param(
            ["1.", ".1"],
            [(1, [SQUARE]), (1, [[[1, 1], [2, 1], [2, 2], [1, 2]]])],
            id="pixels that share a corner are two polygons",
        ),
        pytest.param(
            ["1111", "1.11", "11.1", "1111"],
            [
                (
                    1,
                    [
                        [[0, 0], [4, 0], [4, 4], [0, 4]],
                        [[1, 1], [1, 2], [2, 2], [2, 1]],
                        [[2, 2], [2, 3], [3, 3], [3, 2]],
                    ],
                )
            ],
            id="holes that share a corner are two holes",
        ),
        pytest.param(
            ["11111", "1...1", "1.1.1", "1...1", "11111"],
            [
                (1, [[[2, 2], [3, 2], [3, 3], [2, 3]]]),
                (1, [[[0, 0], [5, 0], [5, 5], [0, 5]], [[1, 1], [1, 4], [4, 4], [4, 1]]]),
            ],
            id="an island in a hole is a polygon of its own",
        ),
        pytest.param(
            ["12", "33"],
            [
                (1, [SQUARE]),
                (2, [[[1, 0], [2, 0], [2, 1], [1, 1]]]),
                (3, [[[0, 1], [2, 1], [2, 2], [0, 2]]]),
            ],
            id="three classes meet without a gap",
        ),
        pytest.param(
            ["222", "222"], [(2, [[[0, 0], [3, 0], [3, 2], [0, 2]]])], id="one class is a rectangle"
        ),
        pytest.param(["..", ".."], [], id="nothing but void has no polygon"),
    ],
)
def test_drawn_maps_have_these_rings(
    drawing: list[str], expected: list[tuple[int, list[list[list[int]]]]]
) -> None:
    assert as_lists(traced(labels_of(*drawing))) == expected


def random_map(seed: int) -> NDArray[np.uint8]:
    """Noise, blocks or blobs of up to four labels: full of corners that touch."""
    rng = np.random.default_rng(seed)
    height, width, classes = rng.integers(1, 20, 2).tolist() + [int(rng.integers(2, 5))]
    labels = rng.integers(0, classes, (height, width)).astype(np.uint8)
    if seed % 3 == 1:
        labels = np.kron(labels, np.ones(rng.integers(1, 5, 2), np.uint8))
    if seed % 3 == 2:
        labels = np.asarray(ndimage.median_filter(labels, 3))
    return labels


@pytest.mark.parametrize("block", range(10))
def test_polygons_of_random_maps_are_valid_components_with_the_area_of_their_pixels(block: int) -> None:
    for seed in range(40 * block, 40 * block + 40):
        labels = random_map(seed)
        found = traced(labels)
        for polygon in found:
            assert shapely.is_valid(as_shape(polygon)), (seed, shapely.is_valid_reason(as_shape(polygon)))
            areas = [signed_area(ring) for ring in polygon.rings]
            assert areas[0] > 0 > max([-1.0, *areas[1:]]), seed
        for label in np.unique(labels[labels > 0]).tolist():
            own = [as_shape(polygon) for polygon in found if polygon.label == label]
            assert sum(each.area for each in own) == np.count_nonzero(labels == label)
            assert len(own) == ndimage.label(labels == label)[1]
            # As a whole too: what QuPath gets where there are too many.
            assert shapely.is_valid(shapely.MultiPolygon(own)), seed


def test_filling_the_polygons_by_pixel_centres_gives_the_map_back() -> None:
    for seed in range(60):
        labels = random_map(seed)
        np.testing.assert_array_equal(filled(traced(labels), labels.shape), labels)


def test_every_vertex_is_a_turn_and_rings_begin_at_their_highest_vertex() -> None:
    for seed in range(60):
        for polygon in traced(random_map(seed)):
            for ring in polygon.rings:
                steps = np.roll(ring, -1, 0) - ring
                assert ((steps == 0).sum(axis=1) == 1).all()
                assert ((steps != 0)[:, 0] != np.roll(steps != 0, 1, 0)[:, 0]).all()
                assert min(ring.tolist(), key=lambda point: (point[1], point[0])) == ring[0].tolist()
            tops = [(int(ring[0, 1]), int(ring[0, 0])) for ring in polygon.rings]
            assert tops == sorted(tops)


def test_bands_of_any_height_give_the_same_polygons_in_the_same_order() -> None:
    for seed in range(100):
        labels = random_map(seed)
        rng = np.random.default_rng(seed)
        heights = rng.integers(1, 4, len(labels)).tolist()
        heights = [
            height for height, end in zip(heights, np.cumsum(heights), strict=True) if end <= len(labels)
        ]
        assert as_lists(traced(labels, heights)) == as_lists(traced(labels)), seed


def test_blocks_of_one_label_are_what_their_pixels_would_be() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        side = int(rng.integers(1, 21))
        kinds = rng.integers(-3, 1, (3, 4))  # 0 is pixels, -1 - label one label
        rows = [np.where(row == 0, -1, -1 - row) for row in kinds]
        bands, whole = [], []
        for row in rows:
            pixels = [random_map(seed + 7).repeat(20, 0).repeat(20, 1)[:side, :side] for _ in row]
            shown = [
                np.full((side, side), label) if label >= 0 else part
                for label, part in zip(row, pixels, strict=True)
            ]
            whole.append(np.hstack(shown).astype(np.uint8))
            stack = np.full((int((row < 0).sum()), side, -(-side // 8) * 8), 77, np.uint8)
            places = np.where(row >= 0, -1 - row, np.cumsum(row < 0) - 1)
            for place, part in zip(places, pixels, strict=True):
                if place >= 0:
                    stack[place, :, :side] = part
            bands.append(
                LabelBand(ends=np.arange(1, 5) * side, places=places, stack=stack, begin=0, end=side)
            )
        assert as_lists(list(polygons(bands, (0, 4 * side), void=(0,)))) == as_lists(traced(np.vstack(whole)))


def test_only_what_lies_between_the_sides_is_traced_and_the_first_band_begins_at_the_top() -> None:
    band = label_band(labels_of("12211", "12211"))
    found = polygons([band], (2, 4), top=10)
    assert as_lists(list(found)) == [
        (2, [[[2, 10], [3, 10], [3, 12], [2, 12]]]),
        (1, [[[3, 10], [4, 10], [4, 12], [3, 12]]]),
    ]


def test_void_and_unlabelled_get_no_polygon_and_are_joined() -> None:
    labels = labels_of("0330", "0330")
    labels[:, 0] = 255
    assert [polygon.label for polygon in traced(labels, void=())] == [3, 0]
    assert [polygon.label for polygon in traced(labels, void=(0, 3))] == []


def test_bands_are_read_one_at_a_time_and_polygons_leave_with_the_band_that_ends_them() -> None:
    order: list[object] = []

    def bands():
        for number in range(3):
            order.append(number)
            yield label_band(labels_of("1..1", "...1"))

    for polygon in polygons(bands(), (0, 4), void=(0,)):
        order.append(polygon.rings[0][0].tolist())
    assert order == [0, [0, 0], 1, [0, 2], 2, [0, 4], [3, 0]]


def test_room_for_vertices_follows_the_open_outlines_not_the_map() -> None:
    rows, pool = empty_rows(40), empty_pool()
    table = np.arange(256, dtype=np.uint8)
    table[0] = VOID
    island = label_band(np.kron(np.eye(2, 20, dtype=np.uint8), np.ones((4, 2), np.uint8)))
    blocks = (island.ends, island.places, island.stack, island.stack.view(np.uint64))
    held = []
    for number in range(500):
        pool = trace_rows(blocks, 0, 8, 8 * number, (0, 40), table, False, rows, pool)
        finished_rings(pool, rows.scalars)
        held.append((len(pool.nodes), len(pool.finished)))
    assert held[9] == held[-1]
    assert held[-1][0] < 100
