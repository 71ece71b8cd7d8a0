"""What all labels must do, whatever their file: subclass and give the fixture ``case``."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_deform.annotation.labels import Labels
from wsi_deform.annotation.outlines.held import OUTLINE_CACHE
from wsi_deform.annotation.raster import LABEL_CACHE
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size

SIZE = Size(150, 70)
PART = Region(30, 10, 60, 40)


@dataclass(frozen=True)
class Case:
    """Labels of a slide of ``SIZE`` px, the same labels of ``PART`` alone, and the truth without a region."""

    labels: Labels
    of_part: Labels
    truth: NDArray[np.uint8]


class LabelsContract:
    """Regions, points, cells and counts of labels, and what becomes of them in threads and processes."""

    @pytest.fixture
    def case(self) -> Case:
        raise NotImplementedError

    def test_it_says_what_it_is(self, case: Case) -> None:
        assert case.labels.path.is_file()
        assert (case.labels.slide_size, case.labels.region, case.of_part.region) == (SIZE, None, PART)
        assert case.labels.classes.names[0] == "background"

    def test_regions_hold_the_labels_and_255_outside(self, case: Case) -> None:
        whole = case.labels.read_region(Region.whole(SIZE))
        assert whole.dtype == np.uint8
        assert np.array_equal(whole, case.truth)
        found = case.labels.read_region(Region(-5, 60, 40, 20))
        assert found.shape == (20, 40)
        assert np.array_equal(found[:10, 5:], case.truth[60:, :35])
        assert (found[10:] == 255).all()
        assert (found[:, :5] == 255).all()
        assert (case.labels.read_region(Region(500, 500, 3, 2)) == 255).all()

    def test_convention_points_take_the_pixel_they_lie_in(self, case: Case) -> None:
        x, y = np.meshgrid(np.arange(SIZE.width), np.arange(SIZE.height))
        corners = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
        shuffle = np.random.default_rng(1).permutation(len(corners))
        for shift in (0.0, 0.5, 0.999):
            found = case.labels.at_points(corners[shuffle] + shift)
            assert found.dtype == np.uint8
            assert np.array_equal(found, case.truth.ravel()[shuffle])
        beside = np.array([[-9.0, -0.1], [150.0, 70.0], [1e9, 3.0]])
        expected = [case.truth[0, 0], case.truth[-1, -1], case.truth[3, -1]]
        assert case.labels.at_points(beside).tolist() == expected
        assert case.labels.at_points(np.empty((0, 2))).shape == (0,)

    @pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 3)), np.array([[np.nan, 1.0]])])
    def test_points_that_are_none_are_refused(self, case: Case, points: NDArray[np.float64]) -> None:
        with pytest.raises(ShapeError, match=r"Needed \(N, 2\) finite"):
            case.labels.at_points(points)

    def test_a_grid_of_points_has_the_labels_of_its_points(self, case: Case) -> None:
        x, y = np.array([-3.0, 0.0, 29.9, 30.0, 89.99, 90.0, 151.0]), np.array([69.999, 9.5, 10.0, -0.1])
        columns, rows = [0, 0, 29, 30, 89, 90, 149], [69, 9, 10, 0]
        found = case.labels.at_grid(x, y)
        assert found.dtype == np.uint8
        assert np.array_equal(found, case.truth[np.ix_(rows, columns)])
        expected = case.truth[np.ix_(rows, columns)]
        expected[:, [0, 1, 2, 5, 6]] = 255
        expected[[0, 1, 3]] = 255
        assert np.array_equal(case.of_part.at_grid(x, y), expected)
        assert case.labels.at_grid(np.empty(0), y).shape == (4, 0)
        with pytest.raises(ShapeError, match="not finite"):
            case.labels.at_grid(np.array([np.inf]), y)

    def test_cell_fractions_are_exact_when_subsamples_meet_every_pixel(self, case: Case) -> None:
        fractions = case.labels.cell_fractions(Region(10, 5, 120, 60), Size(24, 12), subsamples=5)
        part = case.truth[5:65, 10:130].reshape(12, 5, 24, 5)
        expected = np.stack([(part == label).mean((1, 3)) for label in range(case.labels.classes.count)])
        assert fractions.dtype == np.float32
        np.testing.assert_allclose(fractions, expected, atol=1e-6)
        with pytest.raises(ShapeError, match="0 subsamples"):
            case.labels.cell_fractions(Region(10, 5, 120, 60), Size(24, 12), subsamples=0)

    def test_class_counts_count_every_pixel(self, case: Case) -> None:
        expected = np.bincount(case.truth.ravel(), minlength=256)
        assert case.labels.class_counts().tolist() == [*expected[: case.labels.classes.count], expected[255]]
        assert case.of_part.class_counts().tolist() == case.labels.class_counts().tolist()

    def test_all_outside_of_a_region_is_unlabelled(self, case: Case) -> None:
        expected = np.full_like(case.truth, 255)
        inside = np.s_[PART.y : PART.bottom, PART.x : PART.right]
        expected[inside] = case.truth[inside]
        assert np.array_equal(case.of_part.read_region(Region.whole(SIZE)), expected)
        points = np.random.default_rng(4).uniform(0, (150, 70), (500, 2))
        index = points.astype(int)
        assert np.array_equal(case.of_part.at_points(points), expected[index[:, 1], index[:, 0]])
        shares = case.of_part.cell_fractions(Region.whole(SIZE), Size(15, 7), subsamples=10)
        assert shares.sum() == pytest.approx((expected != 255).sum() / 100)

    def test_it_pickles_as_its_path_and_serves_threads(self, case: Case) -> None:
        for labels in (case.labels, case.of_part):
            copy = pickle.loads(pickle.dumps(labels))
            assert len(pickle.dumps(labels)) < 1500
            LABEL_CACHE.forget()
            OUTLINE_CACHE.forget()
            points = np.random.default_rng(2).uniform(0, (150, 70), (500, 2))
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(copy.at_points, [points] * 16))
            assert all(np.array_equal(one, labels.at_points(points)) for one in found)
