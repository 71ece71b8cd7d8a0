import torch

from wsi_deform.data.augment import random_change
from wsi_deform.geometry import Size

SIZE = Size(12, 8)


def change(**settings):
    defaults = {"flip_x": False, "flip_y": False, "shift_cells": 0.0, "warp_cells": 0.0}
    return random_change(6, SIZE, **(defaults | settings), generator=torch.Generator().manual_seed(5))


def identity():
    y, x = torch.meshgrid((torch.arange(8) + 0.5) / 8, (torch.arange(12) + 0.5) / 12, indexing="ij")
    return torch.stack((x, y), dim=-1).expand(6, -1, -1, -1)


def test_no_augmentation_changes_nothing():
    view = torch.rand(6, 3, 8, 12)
    none = change()
    assert torch.equal(none.of_view(view), view)
    assert torch.equal(none(identity()), identity())


def test_convention_sampling_a_flipped_view_reads_the_mirrored_place_of_the_slide():
    slide_image = torch.rand(6, 3, 8, 12)
    flips = change(flip_x=True, flip_y=True)
    assert flips.flip_x.any()
    assert not flips.flip_x.all()
    view = flips.of_view(slide_image)
    # Position of each cell centre of the flipped view on the slide, read back with nearest neighbour.
    at = flips(identity())
    column, row = (at[..., 0] * 12).long(), (at[..., 1] * 8).long()
    read = torch.stack([slide_image[b][:, row[b], column[b]] for b in range(6)])
    assert torch.equal(read, view)


def test_shift_moves_the_whole_grid_by_up_to_so_many_cells():
    moved = (change(shift_cells=1.0)(identity()) - identity()) * torch.tensor([12.0, 8.0])
    inner = moved[:, 2:-2, 2:-2]
    assert inner.abs().max() <= 1
    assert inner.abs().max() > 0.3
    assert (inner - inner[:, :1, :1]).abs().max() < 1e-5


def test_warp_is_smooth_and_stays_inside():
    grid = change(warp_cells=0.3)(identity())
    assert grid.min() >= 0
    assert grid.max() <= 1
    moved = (grid - identity()) * torch.tensor([12.0, 8.0])
    assert 0.05 < moved.std() < 0.6
    assert moved.diff(dim=2).abs().mean() < 0.5 * moved.abs().mean()
