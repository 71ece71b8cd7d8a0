"""Equation 2 against a dense least-squares solve built from its residuals, and what holds of its positions."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from wsi_deform.deform.equation2 import border_points, edge_positions, solved_lattices, solved_positions
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size

UNLABELLED = 255


def blobs(seed):
    """A random label map of two classes, of a random size."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 90, 2)
    smooth = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(1, 8))
    return (smooth > rng.normal() * 0.02).astype(np.uint8)


def halves(height=8, width=12, column=5):
    labels = np.zeros((height, width), np.uint8)
    labels[:, column:] = 1
    return labels


def signed_areas(grid):
    down, up = grid[1:, 1:] - grid[:-1, :-1], grid[1:, :-1] - grid[:-1, 1:]
    return (down[..., 0] * up[..., 1] - down[..., 1] * up[..., 0]) / 2


def dense_positions(closest, smoothness):
    """The least squares of all residuals: one row per sample and per pair, frame samples as constants."""
    height, width, _ = closest.shape
    solved = np.empty_like(closest)
    for axis, (n, place) in enumerate(((width, 1), (height, 0))):
        rows, right = [], []

        def known(sample, n=n, place=place):
            return {0: 0.0, n - 1: 1.0}.get(sample[place])

        def residual(parts, value, rows=rows, right=right, known=known):
            row = np.zeros((height, width))
            for sample, factor in parts:
                if known(sample) is None:
                    row[sample] += factor
                else:
                    value -= factor * known(sample)
            rows.append(row.ravel())
            right.append(value)

        for i in range(height):
            for j in range(width):
                if known((i, j)) is None:
                    residual([((i, j), 1.0)], closest[i, j, axis])
                for other in ((i + 1, j), (i, j + 1)):
                    if other[0] < height and other[1] < width:
                        residual([((i, j), smoothness**0.5), (other, -(smoothness**0.5))], 0.0)
        found = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0].reshape(height, width)
        for i in range(height):
            for j in range(width):
                solved[i, j, axis] = found[i, j] if known((i, j)) is None else known((i, j))
    return solved


def test_convention_without_a_border_samples_stay_where_they_are():
    found = edge_positions(np.zeros((5, 7), np.uint8), Size(3, 2))
    assert found.tolist() == [[[0, 0], [0.5, 0], [1, 0]], [[0, 1], [0.5, 1], [1, 1]]]
    labels = halves()
    labels[:, 5] = UNLABELLED  # nobody knows where one class ends
    assert np.array_equal(edge_positions(labels, Size(3, 2)), found)


def test_convention_the_frame_stays_on_the_frame():
    found = edge_positions(blobs(3), Size(9, 7), smoothness=0.3)
    assert (found[:, 0, 0] == 0).all()
    assert (found[:, -1, 0] == 1).all()
    assert (found[0, :, 1] == 0).all()
    assert (found[-1, :, 1] == 1).all()
    assert ((found >= 0) & (found <= 1)).all()


def test_convention_borders_are_edges_between_known_classes():
    labels = np.array([[0, 0, 1], [0, UNLABELLED, 1], [2, 2, 2]], np.uint8)
    assert border_points(labels).tolist() == sorted(
        # right of (0, 1); below (1, 0) and below (1, 2); the ends half a pixel off the middles
        [[2, 0], [2, 0.5], [2, 1], [0, 2], [0.5, 2], [1, 2], [2, 2], [2.5, 2], [3, 2]]
    )


def test_three_samples_across_a_border_by_hand():
    """Samples at 0, .5 and 1; the border at .25: (g - .25)^2 + (g - 0)^2 + (1 - g)^2 is least at 1.25 / 3."""
    labels = np.zeros((1, 4), np.uint8)
    labels[:, 1:] = 1
    assert edge_positions(labels, Size(3, 1))[0, :, 0] == pytest.approx([0, 1.25 / 3, 1])
    assert edge_positions(labels, Size(3, 1), smoothness=2)[0, 1, 0] == pytest.approx(2.25 / 5)


@pytest.mark.parametrize("size", [Size(9, 7), Size(2, 6), Size(5, 1), Size(3, 3), Size(1, 1), Size(4, 11)])
@pytest.mark.parametrize("smoothness", [0.02, 1.0, 30.0])
def test_positions_are_the_dense_least_squares_solution(size, smoothness):
    closest = np.random.default_rng(0).uniform(0, 1, (*size.shape, 2))
    found = solved_positions(closest, smoothness=smoothness)
    if min(size.shape) > 1:
        assert np.abs(found - dense_positions(closest, smoothness)).max() < 1e-8
    else:  # one sample along an axis is on both sides of the frame, and stays in the middle
        axis = 1 if size.height == 1 else 0
        assert (found[..., axis] == 0.5).all()


def test_no_smoothness_puts_samples_inside_the_frame_on_borders():
    labels = blobs(1)
    scale = np.array(labels.shape[::-1])
    found = edge_positions(labels, Size(12, 10), smoothness=0.0)[1:-1, 1:-1].reshape(-1, 2) * scale
    distance = np.linalg.norm(found[:, None] - border_points(labels)[None], axis=2).min(axis=1)
    assert distance.max() < 1e-9


def test_much_smoothness_leaves_samples_where_they_are():
    rigid = edge_positions(blobs(1), Size(9, 9), smoothness=1e8)
    undeformed = edge_positions(np.zeros((4, 4), np.uint8), Size(9, 9))
    assert np.abs(rigid - undeformed).max() < 1e-6


def test_samples_come_nearer_to_borders_the_less_smoothness_there_is():
    labels = halves(40, 60, 25)
    distances = [
        np.abs(edge_positions(labels, Size(17, 9), smoothness=each)[..., 0] - 25 / 60).mean()
        for each in (0.1, 1, 10, 100)
    ]
    assert distances == sorted(distances)
    assert distances[1] < 0.5 * distances[3]


@pytest.mark.parametrize(
    ("side", "smoothness", "maps", "folded"), [(17, 1.0, 60, 0), (17, 0.01, 60, 10), (65, 16.0, 10, 0)]
)
def test_folds_are_as_the_docstring_says(side, smoothness, maps, folded):
    """Measured: none with enough smoothness for the lattice; some beside the frame with little."""
    found = [edge_positions(blobs(seed), Size(side, side), smoothness=smoothness) for seed in range(maps)]
    count = sum((signed_areas(each) * side**2 < -1e-9).any() for each in found)
    assert count == 0 if folded == 0 else count >= folded
    assert [signed_areas(each).sum() for each in found] == pytest.approx([1.0] * maps)


def test_class_fractions_are_solved_by_the_class_that_most_of_a_cell_is():
    left = torch.zeros(1, 1, 8, 12)
    left[..., :5] = 1.0
    left[..., 5] = 0.4  # mostly the other class
    right = (1 - left) * 0.9  # partly unlabelled
    found = solved_lattices(torch.cat((left, right), dim=1), cells=4)
    assert found.dtype == torch.float32
    assert found.shape == (1, 5, 7, 2)
    assert torch.equal(found[0], torch.from_numpy(edge_positions(halves(), Size(7, 5))).float())
    nothing = solved_lattices(torch.zeros(1, 2, 8, 12), cells=4)
    assert nothing[0, 2, 3].tolist() == [0.5, 0.5]


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(ShapeError, match=r"needed \(H, W\)"):
        edge_positions(np.zeros((2, 3, 4), np.uint8), Size(3, 3))
    with pytest.raises(ShapeError, match=r"finite \(h, w, 2\)"):
        solved_positions(np.full((3, 3, 2), np.nan), smoothness=1)
    with pytest.raises(ShapeError, match="0 or more"):
        solved_positions(np.zeros((3, 3, 2)), smoothness=-1)
