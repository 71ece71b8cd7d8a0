import math

import pytest
import torch
import torch.nn.functional as F

from wsi_deform.data.augment import random_change
from wsi_deform.geometry import Size

SIZE = Size(12, 8)
REGION = Size(1200, 800)
NONE = {"flip_x": False, "flip_y": False, "shift_cells": 0.0, "warp_cells": 0.0}
ALL = {
    "flip_x": True,
    "flip_y": True,
    "shift_cells": 1.0,
    "warp_cells": 0.3,
    "transpose": True,
    "rotate_degrees": 30.0,
    "stain_jitter": 0.2,
}


def change(*, size=SIZE, region=REGION, batch=6, seed=5, places=None, **settings):
    return random_change([size] * batch, [region] * batch, **(NONE | settings), seed=seed, places=places)


def seed_where_transposed():
    return next(seed for seed in range(50) if change(transpose=True, seed=seed).transposed)


def identity(size=SIZE, batch=6):
    y, x = torch.meshgrid(
        (torch.arange(size.height) + 0.5) / size.height,
        (torch.arange(size.width) + 0.5) / size.width,
        indexing="ij",
    )
    return torch.stack((x, y), dim=-1).expand(batch, -1, -1, -1)


def read_at(image, at):
    """Nearest neighbour of (B, C, H, W) at unit positions."""
    height, width = image.shape[-2:]
    column, row = (at[..., 0] * width).long(), (at[..., 1] * height).long()
    return torch.stack([image[b][:, row[b], column[b]] for b in range(len(image))])


def test_no_augmentation_changes_nothing():
    view = torch.rand(6, 3, 8, 12)
    none = change()
    assert torch.equal(none.transform_view(view), view)
    assert torch.equal(none.transform_fractions(view), view)
    assert torch.equal(none.transform_images(view), view)
    assert torch.equal(none(identity()), identity())
    assert none.size_of(SIZE) == SIZE


def test_convention_sampling_a_flipped_view_reads_the_mirrored_place_of_the_slide():
    slide_image = torch.rand(6, 3, 8, 12)
    flips = change(flip_x=True, flip_y=True)
    assert flips.flip_x.any()
    assert not flips.flip_x.all()
    # Position of each cell centre of the flipped view on the slide, read back with nearest neighbour.
    assert torch.equal(read_at(slide_image, flips(identity())), flips.transform_view(slide_image))


def test_convention_a_transposed_batch_swaps_its_sizes_and_with_flips_makes_all_eight_orientations():
    slide_image = torch.rand(40, 3, 8, 12)
    turns = change(batch=40, flip_x=True, flip_y=True, transpose=True, seed=seed_where_transposed())
    seen = turns.size_of(SIZE)
    assert (seen.width, seen.height) == (8, 12)
    assert torch.equal(read_at(slide_image, turns(identity(seen, 40))), turns.transform_view(slide_image))
    kinds = {(bool(x), bool(y)) for x, y in zip(turns.flip_x, turns.flip_y, strict=True)}
    assert len(kinds) == 4
    quarter = next(i for i in range(40) if turns.flip_x[i] and not turns.flip_y[i])
    assert torch.equal(
        turns.transform_view(slide_image)[quarter], slide_image[quarter].flip(2).transpose(1, 2)
    )
    seeds = [change(transpose=True, seed=seed).transposed for seed in range(40)]
    assert 10 < sum(seeds) < 30


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


def test_convention_a_turned_field_keeps_distances_in_pixels_and_its_centre():
    turned = change(rotate_degrees=90.0)
    at = turned(identity())
    assert turned.rotation.abs().max() <= math.pi / 2
    px = at * torch.tensor([REGION.width, REGION.height])
    # Cells are 100 x 100 px: so are turned cells, and their axes are still square to each other.
    right, down = px.diff(dim=2)[:, :-1], px.diff(dim=1)[:, :, :-1]
    torch.testing.assert_close(right.norm(dim=-1), torch.full_like(right[..., 0], 100.0), atol=1e-2, rtol=0)
    torch.testing.assert_close(down.norm(dim=-1), torch.full_like(down[..., 0], 100.0), atol=1e-2, rtol=0)
    assert (right * down).sum(-1).abs().max() < 1e-1
    # A positive angle reads clockwise on the slide, whose y points down.
    angle = torch.atan2(right[:, 0, 0, 1], right[:, 0, 0, 0])
    torch.testing.assert_close(angle, turned.rotation.float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(at.mean(dim=(1, 2)), torch.full((6, 2), 0.5))


@pytest.mark.parametrize("transpose", [False, True])
def test_view_fractions_and_grid_of_a_turned_field_agree(transpose):
    # A smooth picture, so that bilinear reading twice is close to reading once.
    size = Size(96, 64)
    x, y = identity(size)[..., 0], identity(size)[..., 1]
    picture = torch.stack((torch.sin(5 * x + 2 * y), torch.cos(4 * y - 3 * x * y), x * y), dim=1)
    turned = change(
        size=size,
        flip_x=True,
        flip_y=True,
        transpose=transpose,
        rotate_degrees=25.0,
        seed=seed_where_transposed(),
    )
    at = turned(identity(turned.size_of(size)))
    inside = ((at > 0.01) & (at < 0.99)).all(-1)
    assert 0.5 < inside.float().mean() < 0.98
    read = F.grid_sample(picture, at * 2 - 1, padding_mode="border", align_corners=False)
    view, fractions = turned.transform_view(picture), turned.transform_fractions(picture)
    torch.testing.assert_close(view, read, atol=1e-4, rtol=0)
    here = inside[:, None].expand_as(view)
    torch.testing.assert_close(fractions[here], view[here])
    far = ((at < -0.02) | (at > 1.02)).any(-1)
    assert (fractions[far[:, None].expand_as(view)] == 0).all()


def test_a_field_has_the_same_change_however_its_batch_is_split():
    whole = change(**ALL)
    view, grid = 255 * torch.rand(6, 3, 8, 12), identity(whole.size_of(SIZE))
    for places in ([0, 2, 4], [1, 3, 5], [5]):
        part = change(**ALL, batch=len(places), places=places)
        for split in (part, whole.part(places)):
            assert split.transposed == whole.transposed
            assert torch.equal(split(grid[places]), whole(grid)[places])
            assert torch.equal(split.transform_view(view[places]), whole.transform_view(view)[places])
            assert torch.equal(split.transform_images(view[places]), whole.transform_images(view)[places])


def test_a_batch_of_several_sizes_is_changed_part_by_part():
    sizes = [Size(12, 8), Size(10, 10), Size(12, 8)]
    mixed = random_change(sizes, sizes, **ALL, seed=3)
    alone = change(**ALL, batch=2, places=[0, 2], region=Size(12, 8), seed=3)
    grid = identity(mixed.size_of(SIZE), 2)
    assert torch.equal(mixed.part([0, 2])(grid), alone(grid))
    assert mixed.part([1])(identity(Size(10, 10), 1)).shape == (1, 10, 10, 2)


def test_switching_one_option_on_leaves_the_others_as_they_were():
    few, all_on = change(flip_x=True, shift_cells=1.0), change(**ALL, seed=5)
    assert torch.equal(few.flip_x, all_on.flip_x)
    more = change(flip_x=True, shift_cells=1.0, stain_jitter=0.1)
    assert torch.equal(more(identity()), few(identity()))
    assert not torch.equal(change(flip_x=True, shift_cells=1.0, seed=6)(identity()), few(identity()))


def test_view_and_sampled_image_get_the_same_stains_and_tissue_none():
    colours = 255 * torch.rand(2, 3, 8, 12)
    jitter = change(batch=2, stain_jitter=0.2)
    view = torch.cat((colours, torch.rand(2, 1, 8, 12)), dim=1)
    assert torch.equal(jitter.transform_view(view)[:, :3], jitter.transform_images(colours))
    assert torch.equal(jitter.transform_view(view)[:, 3], view[:, 3])
    assert (jitter.transform_images(colours) - colours).abs().mean() > 2
