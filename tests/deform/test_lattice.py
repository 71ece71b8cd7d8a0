import numpy as np
import pytest
import torch
import torch.nn.functional as F

from wsi_deform.deform.grid import cell_areas
from wsi_deform.deform.lattice import density_of_cells, grid_of_lattice, lattice_size, uniform_lattice
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size


@pytest.mark.parametrize(
    ("view", "cells", "expected"),
    [
        (Size(64, 64), 16, Size(17, 17)),
        (Size(800, 36), 16, Size(357, 17)),
        (Size(36, 800), 16, Size(17, 357)),
        (Size(9, 5), 16, Size(10, 6)),  # no more cells than pixels
        (Size(30, 1), 16, Size(31, 2)),
        (Size(1, 1), 1, Size(2, 2)),
    ],
)
def test_lattices_have_square_cells_and_a_corner_more_than_cells(view, cells, expected):
    assert lattice_size(view, cells) == expected


@pytest.mark.parametrize("size", [Size(1, 1), Size(7, 4), Size(16, 9), Size(3, 50)])
@pytest.mark.parametrize("lattice", [Size(2, 2), Size(5, 3), Size(17, 33)])
def test_convention_an_undeformed_lattice_gives_the_undeformed_grid(size, lattice):
    found = grid_of_lattice(uniform_lattice(lattice), size)[0].double().numpy()
    expected = np.stack(
        np.meshgrid((np.arange(size.width) + 0.5) / size.width, (np.arange(size.height) + 0.5) / size.height),
        axis=-1,
    )
    assert np.abs(found - expected).max() < 1e-6
    corners = grid_of_lattice(
        uniform_lattice(lattice), Size(size.width + 1, size.height + 1), placement="corner"
    )
    assert float((cell_areas(corners) * size.area - 1).abs().max()) < 1e-3


@pytest.mark.parametrize("placement", ["cell", "corner"])
def test_grids_are_what_torch_interpolates(placement):
    lattice = torch.rand(2, 6, 4, 2)
    found = grid_of_lattice(lattice, Size(9, 8), placement=placement)
    at = grid_of_lattice(uniform_lattice(Size(2, 2)), Size(9, 8), placement=placement).expand(2, -1, -1, -1)
    expected = F.grid_sample(lattice.permute(0, 3, 1, 2), at * 2 - 1, mode="bilinear", align_corners=True)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1), atol=1e-6, rtol=0)


def test_convention_the_frame_of_a_lattice_is_the_frame_of_the_cells():
    lattice = uniform_lattice(Size(4, 4)).clone()
    lattice[0, 1:3, 1:3] += 0.1 * torch.rand(2, 2, 2)
    corners = grid_of_lattice(lattice, Size(8, 7), placement="corner")[0]
    assert corners[:, 0, 0].tolist() == [0.0] * 7
    assert corners[-1, :, 1].tolist() == [1.0] * 8
    assert float(cell_areas(corners[None]).sum()) == pytest.approx(1.0)


def test_density_is_one_over_the_cells_where_they_lie():
    """Columns at x = 0, .1, .2 and 1: two thirds of the samples stand in the left fifth."""
    lattice = uniform_lattice(Size(4, 2)).clone()
    lattice[..., 0] = torch.tensor([0.0, 0.1, 0.2, 1.0])
    grid = grid_of_lattice(lattice, Size(3, 2))
    areas = cell_areas(grid_of_lattice(lattice, Size(4, 3), placement="corner"))
    density = density_of_cells(grid[0], areas[0], Size(10, 4))
    assert density.sum() == pytest.approx(1)
    row = density[0] / density[0, -1]
    # Samples at .05, .15 and .6: from .375 on the last is the nearest; its cell is eight times as large.
    assert row == pytest.approx([8, 8, 8, 8, 1, 1, 1, 1, 1, 1])


def test_lattices_of_one_position_along_an_axis_are_refused():
    with pytest.raises(ShapeError, match="at least 2"):
        grid_of_lattice(torch.zeros(1, 1, 4, 2), Size(3, 3))
