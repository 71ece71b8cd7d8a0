"""Rings that cross are repaired so that what was inside stays inside."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from outline_files import even_odd_area

from wsi_deform.annotation.outlines.colours import (
    colour_from_bgr,
    colour_from_json,
    colour_from_text,
    colour_text,
)
from wsi_deform.annotation.outlines.fill import filled
from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.outlines.shapes import ellipse_ring, turned_ring
from wsi_deform.errors import AnnotationError


@pytest.fixture
def read(tmp_path: Path):
    def written_and_read(kind: str, coordinates):
        (tmp_path / "a.json").write_text(json.dumps({"type": kind, "coordinates": coordinates}))
        return read_outlines(tmp_path / "a.json")

    return written_and_read


def inside(rings, points: np.ndarray) -> np.ndarray:
    """Whether a ray to the right crosses rings an odd number of times, for each point."""
    crossings = np.zeros(len(points), int)
    for ring in rings:
        x0, y0 = np.asarray(ring, float).T
        x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
        x, y = points[:, :1], points[:, 1:]
        meets = (y0 <= y) != (y1 <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
        crossings += (meets & (at > x)).sum(axis=1)
    return crossings % 2 == 1


def test_convention_a_star_drawn_in_one_line_has_no_middle(read):
    star = [
        (100 + 50 * math.cos(0.8 * math.pi * k), 100 + 50 * math.sin(0.8 * math.pi * k)) for k in range(5)
    ]
    (outline,) = read("Polygon", [star]).outlines
    assert inside(outline.rings, np.array([[100.0, 100.0], [100 + 40.0, 100.0]])).tolist() == [False, True]
    # Five triangles on the pentagon in the middle: their bases are its sides.
    inner = 50 * math.cos(2 * math.pi / 5) / math.cos(math.pi / 5)
    base = 2 * inner * math.sin(math.pi / 5)
    height = 50 - inner * math.cos(math.pi / 5)
    assert even_odd_area(outline.rings) == pytest.approx(5 * base * height / 2)


@pytest.mark.parametrize("seed", range(8))
def test_random_rings_that_cross_themselves_keep_what_is_inside(read, seed):
    rng = np.random.default_rng(seed)
    ring = rng.uniform(0, 100, (12, 2)).round(2)
    found = read("Polygon", [ring.tolist()])
    assert found.remarks == (
        "Outlines that crossed themselves, their holes or their parts, and were repaired: 1",
    )
    points = rng.uniform(0, 100, (3000, 2))
    np.testing.assert_array_equal(inside(found.outlines[0].rings, points), inside([ring], points))


@pytest.mark.parametrize("seed", range(8))
def test_random_parts_and_holes_are_unions_less_their_holes(read, seed):
    rng = np.random.default_rng(seed)
    parts = [[rng.uniform(0, 100, (3, 2)).round(2) for _ in range(3)] for _ in range(3)]
    found = read("MultiPolygon", [[ring.tolist() for ring in part] for part in parts])
    points = rng.uniform(0, 100, (3000, 2))
    expected = np.zeros(len(points), bool)
    for shell, *holes in parts:
        expected |= inside([shell], points) & ~np.any([inside([hole], points) for hole in holes], axis=0)
    np.testing.assert_array_equal(inside(found.outlines[0].rings, points), expected)


def test_what_is_sound_keeps_every_vertex_even_on_straight_lines(read):
    ring = [[0, 0], [5, 0], [10, 0], [10, 10], [5, 10], [0, 10]]
    found = read("Polygon", [ring])
    np.testing.assert_array_equal(found.outlines[0].rings, [ring])
    assert found.remarks == ()


def test_a_spike_is_cut_off_and_a_ring_of_spikes_encloses_nothing(read):
    found = read("Polygon", [[[0, 0], [10, 0], [10, 10], [10, 50], [10, 10], [0, 10]]])
    assert even_odd_area(found.outlines[0].rings) == 100
    assert max(ring[:, 1].max() for ring in found.outlines[0].rings) == 10
    assert read("Polygon", [[[0, 0], [10, 0], [0, 0], [0, 10]]]).outlines == ()


def test_a_scribble_is_filled_and_one_without_end_is_refused_in_little_time(read):
    ring = np.random.default_rng(0).uniform(0, 1000, (250, 2)).round(2)
    (outline,) = read("Polygon", [ring.tolist()]).outlines
    points = np.random.default_rng(1).uniform(0, 1000, (2000, 2))
    np.testing.assert_array_equal(inside(outline.rings, points), inside([ring], points))
    endless = np.random.default_rng(0).uniform(0, 1000, (20_000, 2))
    with pytest.raises(AnnotationError, match="feature 1: its outline crosses itself .* 20,000 at most"):
        read("Polygon", [endless.tolist()])


def test_what_a_ring_encloses_is_what_make_valid_says_where_no_edges_coincide():
    import shapely

    for seed in range(20):
        ring = np.random.default_rng(seed).uniform(0, 8, (9, 2))
        assert filled(ring).area == pytest.approx(shapely.make_valid(shapely.polygons(ring)).area)
        assert filled(ring).is_valid


def test_convention_what_is_drawn_round_twice_is_not_inside():
    twice = np.array([(0, 0), (10, 0), (10, 10), (0, 10)] * 2, float)
    assert filled(twice).is_empty
    half = np.array([(0, 0), (10, 0), (10, 10), (0, 10), (0, 0), (10, 0), (10, 5), (0, 5)], float)
    assert filled(half).area == 50


def test_ellipses_of_any_size_have_their_area_and_few_enough_corners():
    for radius, least, most in ((0.5, 16, 16), (100, 30, 60), (50_000, 900, 1200), (4e6, 4096, 4096)):
        ring = ellipse_ring((0.0, 0.0), (radius, radius / 2))
        assert least <= len(ring) <= most
        assert even_odd_area([ring]) == pytest.approx(math.pi * radius**2 / 2, rel=1e-9)
    assert even_odd_area([ellipse_ring((5.0, 6.0), (0.0, 0.0))[:3]]) == 0


def test_convention_angles_go_from_x_towards_y():
    np.testing.assert_allclose(turned_ring(np.array([[1.0, 0.0]]), math.pi / 2), [[0.0, 1.0]], atol=1e-12)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2, 3], (1, 2, 3)), ([1.0, 2, 255, 9], (1, 2, 255)), ([1, 2], None), ([1, 2, True], None),
        ([1, 2, -1], None),
        (-3670016, (200, 0, 0)), (0, (0, 0, 0)), (True, None), ("#0a0B0c", (10, 11, 12)), ("#0a0b0cff", (10, 11, 12)),
        ("#0a0b", None), ("rgb(1, 2, 3)", (1, 2, 3)), ("rgba(1,2,3,0.5)", (1, 2, 3)), ("rgb(1, 2)", None),
        ("rgb(1, , 2)", None), ("red", None), (None, None), ({}, None),
    ],
)  # fmt: skip
def test_colours_in_every_notation(value, expected):
    assert colour_from_json(value) == expected


def test_windows_colours_and_texts_of_colours():
    assert [colour_from_bgr(text) for text in ("255", " 65280 ", "x", "")] == [
        (255, 0, 0),
        (0, 255, 0),
        None,
        None,
    ]
    assert colour_text((10, 11, 255)) == "#0a0bff"
    assert colour_from_text(colour_text((10, 11, 255))) == (10, 11, 255)
