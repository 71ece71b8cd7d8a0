"""Targets drawn from labels: what they must not depend on, and the plain filters where all is labelled."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from wsi_deform.deform.targets import class_number_target, edge_target, region_target, target_map
from wsi_deform.errors import ShapeError


def random_fractions(seed: int, shape: tuple[int, int, int, int] = (2, 4, 20, 33)) -> torch.Tensor:
    """Blobs of four classes as fractions, a third of the image unlabelled, some cells labelled in part."""
    torch.manual_seed(seed)
    batch, classes, height, width = shape
    coarse = torch.randn(batch, classes, max(1, height // 5), max(1, width // 5))
    classes_of = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False).argmax(1)
    labelled = (torch.rand(batch, 1, height, width) * 1.5 - 0.3).clamp(0, 1)
    return F.one_hot(classes_of, classes).movedim(-1, 1).float() * labelled


def halves(height: int = 11, width: int = 16) -> torch.Tensor:
    fractions = torch.zeros(1, 2, height, width)
    fractions[:, 0, :, : width // 2] = 1
    fractions[:, 1, :, width // 2 :] = 1
    return fractions


@pytest.mark.parametrize("std", [0.0, 1.0, 2.3])
def test_labelled_everywhere_it_is_blur_and_laplacian(std: float):
    shares = random_fractions(0).double()
    shares = (shares + 0.1) / (shares + 0.1).sum(1, keepdim=True)
    kernel = np.full((3, 3), -1.0)
    kernel[1, 1] = 8.0
    expected = np.empty((2, 1, 20, 33))
    for image in range(2):
        filtered = [
            ndimage.convolve(
                ndimage.gaussian_filter(channel, std, mode="nearest", radius=int(np.ceil(3 * std))),
                kernel,
                mode="nearest",
            )
            for channel in shares[image].numpy()
        ]
        expected[image, 0] = np.abs(filtered).max(0)
    np.testing.assert_allclose(edge_target(shares, blur_std=std).numpy(), expected, atol=1e-12)


def test_renumbering_classes_changes_nothing():
    fractions = random_fractions(1)
    torch.testing.assert_close(
        edge_target(fractions[:, [2, 0, 3, 1]]), edge_target(fractions), rtol=1e-5, atol=1e-6
    )


def test_an_absent_class_changes_nothing():
    fractions = random_fractions(2)
    more = torch.cat([fractions, torch.zeros_like(fractions[:, :1])], 1)
    torch.testing.assert_close(edge_target(more), edge_target(fractions), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("std", [0.0, 0.7, 1.0, 3.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_one_class_gives_exactly_zero_even_partly_labelled(std: float, dtype: torch.dtype):
    torch.manual_seed(0)
    for share in (torch.ones(23, 41), torch.rand(23, 41), torch.rand(23, 41) * (torch.rand(23, 41) < 0.1)):
        fractions = torch.zeros(1, 5, 23, 41, dtype=dtype)
        fractions[:, 3] = share
        assert (edge_target(fractions, blur_std=std) == 0).all()
        assert (edge_target(fractions[:, 3:4], blur_std=std) == 0).all()


def test_nothing_labelled_gives_zero():
    assert (edge_target(torch.zeros(2, 3, 9, 17)) == 0).all()


def test_edge_is_where_classes_meet_and_symmetric():
    edges = edge_target(halves())[0, 0]
    # The Laplacian of a blurred step peaks about one standard deviation to either side of it.
    assert set(edges[5].topk(2).indices.tolist()) <= {6, 7, 8, 9}
    torch.testing.assert_close(edges, edges.flip(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(edges, edges[:1].expand(11, 16), rtol=1e-5, atol=1e-6)
    assert edges[:, :3].max() < 1e-5


def test_border_of_the_labelled_part_is_no_edge():
    fractions = halves(11, 40)
    hidden = fractions.clone()
    hidden[..., :10] = 0
    edges, seen = edge_target(hidden)[0, 0], edge_target(fractions)[0, 0]
    assert edges[:, :15].max() < 1e-5
    torch.testing.assert_close(edges[:, 15:], seen[:, 15:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 40), (40, 1), (1, 1), (2, 3)])
def test_maps_of_one_row_work(size: tuple[int, int]):
    fractions = random_fractions(3, (1, 2, *size))
    target = target_map(edge_target(fractions))
    assert target.shape == (1, 1, *size)
    assert target.isfinite().all()
    assert target.mean().item() == pytest.approx(1, abs=1e-5)


def test_gradients_are_finite_where_little_is_labelled():
    fractions = random_fractions(4)
    fractions[0] = 0
    fractions[1, :, 4:] = 0
    fractions.requires_grad_()
    target_map(edge_target(fractions)).square().sum().backward()
    assert fractions.grad.isfinite().all()


def test_target_map_has_mean_one_and_keeps_its_floor():
    edges = torch.rand(3, 1, 8, 21) * torch.tensor([1e-30, 1.0, 1e30]).view(3, 1, 1, 1)
    target = target_map(edges, floor=0.1)
    torch.testing.assert_close(target.mean((1, 2, 3)), torch.ones(3))
    scaled = edges / edges.amax((1, 2, 3), keepdim=True) + 0.1
    torch.testing.assert_close(target, scaled / scaled.mean((1, 2, 3), keepdim=True))


@pytest.mark.parametrize("floor", [0.0, 0.03])
@pytest.mark.parametrize("value", [0.0, 2.0])
def test_flat_edges_give_the_uniform_map(floor: float, value: float):
    assert (target_map(torch.full((2, 1, 5, 6), value), floor=floor) == 1).all()


def test_one_flat_image_does_not_change_the_other():
    edges = torch.rand(2, 1, 5, 6)
    edges[0] = 0
    torch.testing.assert_close(target_map(edges)[1:], target_map(edges[1:]))


@pytest.mark.parametrize("std", [0.0, 1.0])
def test_class_numbers_labelled_everywhere_are_filtered_as_grey_values(std: float):
    torch.manual_seed(0)
    numbers = F.interpolate(torch.randint(0, 5, (1, 1, 4, 6)).double(), size=(16, 24), mode="nearest")
    fractions = F.one_hot(numbers[:, 0].long(), 5).movedim(-1, 1).double()
    # A cell with less of another class has the number of the larger one.
    fractions = 0.7 * fractions + 0.3 * fractions.roll(1, dims=1)
    kernel = np.full((3, 3), -1.0)
    kernel[1, 1] = 8.0
    blurred = ndimage.gaussian_filter(numbers[0, 0].numpy(), std, mode="nearest", radius=3 * int(std))
    expected = np.abs(ndimage.convolve(blurred, kernel, mode="nearest"))
    found = class_number_target(fractions, blur_std=std)
    assert found.shape == (1, 1, 16, 24)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-12)


def test_class_numbers_make_borders_count_by_the_difference_and_each_class_alone_does_not():
    fractions = torch.zeros(1, 5, 5, 9)
    for number, columns in ((0, slice(0, 3)), (4, slice(3, 6)), (3, slice(6, 9))):
        fractions[:, number, :, columns] = 1
    assert class_number_target(fractions, blur_std=0)[0, 0, 2].tolist() == [0, 0, 12, 12, 0, 3, 3, 0, 0]
    assert edge_target(fractions, blur_std=0)[0, 0, 2].tolist() == [0, 0, 3, 3, 0, 3, 3, 0, 0]


@pytest.mark.parametrize("std", [0.0, 1.0])
def test_class_numbers_of_one_class_or_none_give_exactly_zero(std: float):
    fractions = torch.zeros(2, 4, 12, 14)
    fractions[0, 3, 2:9, 3:11] = torch.rand(7, 8)
    assert (class_number_target(fractions, blur_std=std) == 0).all()
    with pytest.raises(ShapeError, match=r"needed floating-point \(B, C, H, W\)"):
        class_number_target(fractions[0], blur_std=std)


def test_target_on_the_papers_scale_is_the_edges_as_they_are_and_the_floor():
    edges = torch.tensor([[[[0.0, 2.0], [4.0, 1.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    assert torch.equal(target_map(edges, floor=0, scale="paper"), edges)
    assert target_map(edges, floor=0.5, scale="paper")[0, 0].tolist() == [[2, 4], [6, 3]]


def test_region_target_is_the_blurred_labelled_area_without_background():
    fractions = random_fractions(5)
    area = region_target(fractions, 0, blur_std=0)
    torch.testing.assert_close(area, fractions[:, 1:].sum(1, keepdim=True))
    blurred = region_target(fractions, 0)[0, 0].numpy()
    expected = ndimage.gaussian_filter(area[0, 0].numpy(), 1.0, mode="nearest", radius=3)
    np.testing.assert_allclose(blurred, expected, atol=1e-5)


def test_region_target_without_a_background_counts_every_label():
    fractions = random_fractions(6)
    torch.testing.assert_close(region_target(fractions, None, blur_std=0), fractions.sum(1, keepdim=True))
    assert (region_target(torch.ones(1, 1, 4, 4), 0) == 0).all()


def test_misfitting_inputs_are_refused():
    for bad, message in [
        (lambda: edge_target(torch.zeros(3, 4, 4)), r"\(B, C, H, W\)"),
        (lambda: edge_target(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)), "floating-point"),
        (lambda: edge_target(torch.zeros(1, 3, 4, 4), blur_std=-1), "blur_std -1"),
        (lambda: region_target(torch.zeros(1, 3, 4, 4), 3), "classes 0 to 2"),
        (lambda: target_map(torch.zeros(1, 2, 4, 4)), r"\(B, 1, H, W\)"),
        (lambda: target_map(torch.zeros(1, 1, 4, 4), floor=-0.1), "floor -0.1"),
    ]:
        with pytest.raises(ShapeError, match=message):
            bad()


@pytest.mark.parametrize("target", [edge_target, class_number_target, region_target])
def test_each_image_of_a_batch_has_the_target_that_it_has_alone(target):
    rng = torch.Generator().manual_seed(0)
    first = F.one_hot(torch.randint(0, 3, (2, 7, 9), generator=rng), 3).permute(0, 3, 1, 2).double()
    first[0, :, :, 5:] = 0  # unlabelled
    first[1] *= 0.5
    torch.testing.assert_close(target(first), target(first, blur_std=1.0))
    together = target(first, blur_std=0.8)
    alone = torch.cat([target(each[None], blur_std=0.8) for each in first])
    torch.testing.assert_close(together, alone)
    scaled = torch.cat([target_map(each[None], floor=0.1) for each in alone])
    torch.testing.assert_close(target_map(together, floor=0.1), scaled)
    torch.testing.assert_close(
        target_map(together, floor=0.1, scale="paper"),
        torch.cat([target_map(each[None], floor=0.1, scale="paper") for each in alone]),
    )


def test_cells_that_are_half_labelled_count_half():
    left = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(1, 1, 5, 4)
    whole = torch.cat((left, 1 - left), dim=1)
    for target in (edge_target, class_number_target):
        assert target(whole, blur_std=0)[0, 0, 2].tolist() == pytest.approx([0, 3, 3, 0])
        assert target(0.5 * whole, blur_std=0)[0, 0, 2].tolist() == pytest.approx([0, 1.5, 1.5, 0])
    assert region_target(0.5 * whole, 0, blur_std=0)[0, 0, 2].tolist() == [0, 0, 0.5, 0.5]
    assert region_target(0.5 * whole, blur_std=0)[0, 0, 2].tolist() == [0.5] * 4


def test_without_an_edge_or_a_floor_the_target_is_even():
    assert (target_map(torch.zeros(2, 1, 3, 4)) == 1).all()
    assert (target_map(torch.full((1, 1, 3, 4), 5.0), floor=0) == 1).all()
    edges = torch.tensor([0.0, 0.0, 0.0, 4.0]).view(1, 1, 1, 4)
    assert target_map(edges, floor=0)[0, 0, 0].tolist() == [0, 0, 0, 4]
    assert target_map(edges, floor=0.5)[0, 0, 0].tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2])
    # The default is .03 of the largest.
    assert target_map(edges)[0, 0, 0].tolist() == pytest.approx([0.12 / 1.12] * 3 + [4.12 / 1.12])
    assert target_map(edges, floor=0.5, scale="paper")[0, 0, 0].tolist() == [2, 2, 2, 6]


@pytest.mark.parametrize(
    ("wrong", "settings"),
    [
        (torch.ones(2, 3, 3), {}),
        (torch.ones(1, 2, 3, 3, dtype=torch.int64), {}),
        (torch.ones(1, 0, 3, 3), {}),
        (torch.ones(1, 2, 3, 3), {"blur_std": -0.1}),
        (torch.ones(1, 2, 3, 3), {"blur_std": math.inf}),
    ],
)
def test_what_are_no_fractions_is_refused(wrong, settings):
    for target in (edge_target, class_number_target, region_target):
        with pytest.raises(ShapeError, match="needed"):
            target(wrong, **settings)
    for background in (-1, 2):
        with pytest.raises(ShapeError, match="have classes 0 to 1"):
            region_target(torch.ones(1, 2, 3, 3), background)
    for edges, floor in (
        (torch.ones(1, 3, 3), 0),
        (torch.ones(1, 2, 3, 3), 0),
        (torch.ones(1, 1, 3, 3), -0.1),
    ):
        with pytest.raises(ShapeError, match="needed"):
            target_map(edges, floor=floor)
