import math

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from wsi_deform.deform.density import deformation_map, density_of, uniform_map
from wsi_deform.deform.grid import cell_areas, sampling_grid
from wsi_deform.deform.targets import target_map
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size

SIZES = [(1, 1), (1, 9), (9, 1), (5, 7), (8, 8), (24, 96), (33, 80), (36, 800)]


def identity(size: Size, placement: str = "cell") -> torch.Tensor:
    def along(n: int) -> torch.Tensor:
        if placement == "cell":
            return (torch.arange(n, dtype=torch.float64) + 0.5) / n
        return torch.linspace(0, 1, n, dtype=torch.float64) if n > 1 else torch.tensor([0.5]).double()

    y, x = torch.meshgrid(along(size.height), along(size.width), indexing="ij")
    return torch.stack((x, y), dim=-1)[None]


def spiky_map(seed: int, height: int, width: int, spread: float = 4.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(1, 1, height, width, generator=generator, dtype=torch.float64)
    return deformation_map(logits)


@pytest.mark.parametrize("map_shape", SIZES)
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("placement", ["cell", "corner"])
def test_convention_constant_map_gives_identity_grid(map_shape, shape, placement):
    size = Size(shape[1], shape[0])
    constant = uniform_map(Size(map_shape[1], map_shape[0]))
    for sigma in (0.4, 1.0, 0.25 * max(map_shape), 3.7):
        grid = sampling_grid(constant, sigma_px=sigma, size=size, placement=placement)
        assert grid.shape == (1, *shape, 2)
        # float32; sums over 800 cells round by the number of threads (1.01e-6 with one).
        assert (grid.double() - identity(size, placement)).abs().max() < 2e-6


@pytest.mark.parametrize("radius_px", [1.0, 5.5])
def test_constant_map_gives_identity_grid_for_any_radius_and_replicated_borders(radius_px):
    grid = sampling_grid(
        uniform_map(Size(20, 11)),
        sigma_px=5.5,
        radius_px=radius_px,
        size=Size(33, 17),
        border="replicate",
        warp_steps=3,
    )
    assert (grid.double() - identity(Size(33, 17))).abs().max() < 1e-6


@pytest.mark.parametrize("warp_steps", [1, 2, 3])
def test_convention_borders_map_to_borders_exactly_for_any_map(warp_steps):
    for seed in range(50):
        spiky = spiky_map(seed, 7 + seed % 5, 12)
        grid = sampling_grid(
            spiky, sigma_px=0.5 + seed / 10, size=Size(31, 18), placement="corner", warp_steps=warp_steps
        )
        for edge, axis, value in (
            (grid[:, 0], 1, 0.0),
            (grid[:, -1], 1, 1.0),
            (grid[:, :, 0], 0, 0.0),
            (grid[:, :, -1], 0, 1.0),
        ):
            assert (edge[..., axis] - value).abs().max() < 1e-12


@pytest.mark.parametrize("same_size", [True, False])
def test_no_folds_with_the_default_radius(same_size):
    for seed in range(1000):
        height, width = 6 + seed % 11, 9 + seed % 17
        spiky = spiky_map(seed, height, width)
        sigma = 1.0 + (seed % 7) / 2
        corners = Size(width + 1, height + 1) if same_size else Size(2 * width, height + 4)
        areas = cell_areas(sampling_grid(spiky, sigma_px=sigma, size=corners, placement="corner"))
        assert areas.min() > 0
        assert areas.sum().item() == pytest.approx(1, abs=1e-9)


def test_a_floor_keeps_even_absurd_maps_from_folding():
    for seed in range(200):
        floored = 0.9 * spiky_map(seed, 12, 15, spread=30.0) + 0.1 / 180
        assert cell_areas(sampling_grid(floored, sigma_px=2, size=Size(31, 25), placement="corner")).min() > 0


def folded(
    sigmas: float, maps: int = 100, *, warp_steps: int = 1, floor: float | None = None
) -> tuple[int, int]:
    """Folded cells, and maps that have any, of maps of 24 x 96 cells with one to five peaks of 10^6; sigma 6."""
    counts = []
    for seed in range(maps):
        generator = torch.Generator().manual_seed(seed)
        peaked = 0.5 + torch.rand(1, 1, 24, 96, generator=generator, dtype=torch.float64)
        peaked.view(-1)[torch.randperm(24 * 96, generator=generator)[: 1 + seed % 5]] *= 1e6
        if floor is not None:
            peaked = target_map(peaked, floor=floor)
        corners = sampling_grid(
            peaked,
            sigma_px=6,
            radius_px=6 * sigmas,
            size=Size(97, 25),
            placement="corner",
            warp_steps=warp_steps,
        )
        counts.append(int((cell_areas(corners) < -1e-12).sum()))
    return sum(counts), sum(count > 0 for count in counts)


def test_peaks_of_a_million_fold_the_grid_at_three_sigma_and_not_at_five():
    assert folded(3) == (90, 17)
    assert folded(5) == (0, 0)


@pytest.mark.parametrize("warp_steps", [1, 2])
def test_the_floor_of_the_target_keeps_peaks_of_a_million_from_folding(warp_steps):
    assert folded(5, 60, warp_steps=warp_steps, floor=0.03) == (0, 0)
    # Not for want of peaks: without it two steps fold them.
    assert (folded(5, 60, warp_steps=warp_steps)[1] > 0) == (warp_steps == 2)


def test_the_default_radius_is_five_sigma_rounded_up():
    spiky = spiky_map(2, 12, 40)
    for sigma, radius in ((1.5, 8), (2.0, 10), (0.1, 1)):
        grid = sampling_grid(spiky, sigma_px=sigma, size=Size(40, 12))
        same = sampling_grid(spiky, sigma_px=sigma, radius_px=radius, size=Size(40, 12))
        torch.testing.assert_close(grid, same, rtol=0, atol=0)


def test_short_radius_of_the_paper_can_fold_where_the_default_cannot():
    folded = 0
    for seed in range(200):
        corners = sampling_grid(
            spiky_map(seed, 16, 16), sigma_px=3, radius_px=3, size=Size(33, 33), placement="corner"
        )
        folded += bool(cell_areas(corners).min() <= 0)
    assert folded > 0


@pytest.mark.parametrize("warp_steps", [1, 2])
def test_a_map_that_underflows_far_from_its_peak_has_a_grid_and_a_gradient(warp_steps):
    logits = torch.zeros(1, 1, 16, 75)
    logits[..., 60:] = 95.0  # exp(-95) is below what float32 holds in full
    logits[..., 64] = 140.0
    logits.requires_grad_()
    density = deformation_map(logits)
    assert (density == 0).any()
    grid = sampling_grid(density, sigma_px=4, radius_px=12, size=Size(76, 17), warp_steps=warp_steps)
    assert torch.isfinite(grid).all()
    # Nothing within reach weighs more than the rest: these stay.
    torch.testing.assert_close(grid[:, :, :40], identity(Size(76, 17)).float()[:, :, :40], atol=1e-6, rtol=0)
    (grid[..., 0] ** 2).sum().backward()
    assert torch.isfinite(logits.grad).all()


def direct_sum(density: np.ndarray, sigma: float, radius: float, y: float, x: float) -> tuple[float, float]:
    """Equation 3 as it stands: two double loops over the map and its mirror images."""
    height, width = density.shape
    reach = math.ceil(radius)

    def mirrored(i: int, n: int) -> int:
        i %= 2 * n
        return i if i < n else 2 * n - 1 - i

    total = pulled_y = pulled_x = 0.0
    for i in range(-reach, height + reach):
        for j in range(-reach, width + reach):
            dy, dx = i + 0.5 - y, j + 0.5 - x
            if abs(dy) > radius or abs(dx) > radius:
                continue
            weight = density[mirrored(i, height), mirrored(j, width)] * math.exp(
                -0.5 * (dy * dy + dx * dx) / sigma**2
            )
            total += weight
            pulled_y += weight * (i + 0.5)
            pulled_x += weight * (j + 0.5)
    return pulled_x / total / width, pulled_y / total / height


@pytest.mark.parametrize(
    ("height", "width", "sigma", "radius"), [(5, 7, 1.3, 4), (4, 3, 3.0, 9), (1, 6, 2.0, 2)]
)
def test_grid_equals_the_direct_double_sum_of_equation_3(height, width, sigma, radius):
    spiky = spiky_map(3, height, width)
    grid = sampling_grid(spiky, sigma_px=sigma, radius_px=radius, size=Size(width, height))[0]
    for i in range(height):
        for j in range(width):
            expected = direct_sum(spiky[0, 0].numpy(), sigma, radius, i + 0.5, j + 0.5)
            assert grid[i, j].tolist() == pytest.approx(expected, abs=1e-10)


def test_between_cell_centres_the_grid_equals_the_double_sum_once_the_cut_off_is_far():
    # Far out the Gaussian is nothing, so the correction of the lopsided cut-off is nothing too.
    spiky = spiky_map(5, 6, 8)
    grid = sampling_grid(spiky, sigma_px=1.6, radius_px=14, size=Size(11, 9))[0]
    for i, j in [(0, 0), (3, 4), (8, 10), (4, 7)]:
        expected = direct_sum(spiky[0, 0].numpy(), 1.6, 14, (i + 0.5) / 9 * 6, (j + 0.5) / 11 * 8)
        assert grid[i, j].tolist() == pytest.approx(expected, abs=1e-10)


def test_samples_move_towards_density_and_scale_of_the_map_does_not_matter():
    bump = torch.full((1, 1, 12, 20), 0.01)
    bump[..., 6, 13] = 1
    grid = sampling_grid(bump, sigma_px=3, size=Size(20, 12))
    before = (identity(Size(20, 12)) - torch.tensor([13.5 / 20, 6.5 / 12])).norm(dim=-1).mean()
    after = (grid - torch.tensor([13.5 / 20, 6.5 / 12])).norm(dim=-1).mean()
    assert after < before - 0.01
    torch.testing.assert_close(sampling_grid(bump * 1000, sigma_px=3, size=Size(20, 12)), grid)
    further = sampling_grid(bump, sigma_px=3, size=Size(20, 12), warp_steps=2)
    assert (further - torch.tensor([13.5 / 20, 6.5 / 12])).norm(dim=-1).mean() < after


def test_autocast_does_not_lower_the_precision_of_the_grid():
    spiky = spiky_map(1, 9, 9).float()
    plain = sampling_grid(spiky, sigma_px=2, size=Size(9, 9))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(sampling_grid(spiky, sigma_px=2, size=Size(9, 9)), plain, rtol=0, atol=0)


def test_gradient_reaches_the_logits():
    logits = torch.randn(1, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda z: sampling_grid(deformation_map(z, floor=0.1), sigma_px=1.2, size=Size(4, 5), warp_steps=2),
        logits,
    )


@pytest.mark.parametrize("wrong", [torch.ones(3, 3), torch.ones(1, 2, 3, 3)])
def test_map_of_another_shape_is_refused(wrong):
    with pytest.raises(ShapeError, match=r"\(B, 1, H, W\)"):
        sampling_grid(wrong, sigma_px=1, size=Size(3, 3))


def test_deformation_map_sums_to_one_and_keeps_its_floor():
    logits = torch.randn(2, 1, 30, 40).half() * 20
    density = deformation_map(logits, floor=0.2)
    assert density.dtype == torch.float32
    torch.testing.assert_close(density.sum(dim=(1, 2, 3)), torch.ones(2))
    assert density.min() >= 0.2 / 1200 * 0.999


@pytest.mark.parametrize("radius_px", [1.5, 2.5, 4.0])
def test_borders_stay_for_a_radius_between_two_cells(radius_px):
    grid = sampling_grid(
        spiky_map(4, 9, 11), sigma_px=2, radius_px=radius_px, size=Size(12, 10), placement="corner"
    )
    assert grid[:, 0, :, 1].abs().max() < 1e-12
    assert (grid[:, :, -1, 0] - 1).abs().max() < 1e-12


def test_a_radius_below_a_pixel_is_one_and_above_it_is_itself():
    def grid(radius_px):
        return sampling_grid(
            spiky_map(4, 9, 11), sigma_px=2, radius_px=radius_px, size=Size(12, 10), placement="corner"
        )

    torch.testing.assert_close(grid(0.3), grid(1.0), rtol=0, atol=0)
    assert (grid(1.5) - grid(1.0)).abs().max() > 1e-3


def test_replicated_borders_repeat_the_edge():
    spiky = spiky_map(6, 5, 7)
    wide = torch.nn.functional.pad(spiky, (9, 9, 9, 9), mode="replicate")
    grid = sampling_grid(spiky, sigma_px=1.3, radius_px=4, size=Size(7, 5), border="replicate")
    inside = sampling_grid(wide, sigma_px=1.3, radius_px=4, size=Size(25, 23))[:, 9:-9, 9:-9]
    scale = torch.tensor([25 / 7, 23 / 5], dtype=torch.float64)
    expected = inside * scale - torch.tensor([9 / 7, 9 / 5], dtype=torch.float64)
    torch.testing.assert_close(grid, expected.clamp(0, 1), atol=1e-9, rtol=0)


def test_each_map_of_a_batch_has_the_grid_that_it_has_alone():
    both = torch.cat((spiky_map(1, 6, 9), 1000 * spiky_map(2, 6, 9)))
    grids = sampling_grid(both, sigma_px=1.5, size=Size(8, 7))
    alone = [sampling_grid(each[None], sigma_px=1.5, size=Size(8, 7)) for each in both]
    torch.testing.assert_close(grids, torch.cat(alone), atol=1e-12, rtol=0)
    # What a map holds next to nothing of counts for 1e-16 of its own mean, not of its neighbour's.
    tiny = torch.cat((torch.ones(1, 1, 4, 40), 1e-12 * torch.ones(1, 1, 4, 40))).double()
    tiny[..., 30:] = 0
    first, second = sampling_grid(tiny, sigma_px=1, size=Size(40, 4))
    torch.testing.assert_close(first, second, atol=1e-9, rtol=0)


@pytest.mark.parametrize("wrong", [{"sigma_px": 0}, {"sigma_px": -1}, {"sigma_px": 1, "warp_steps": 0}])
def test_impossible_pulls_are_refused(wrong):
    with pytest.raises(ShapeError, match="needed a positive sigma and 1 step or more"):
        sampling_grid(torch.ones(1, 1, 3, 3), size=Size(3, 3), **wrong)


@pytest.mark.parametrize("make", [deformation_map, density_of])
def test_densities_are_of_one_channel_and_have_a_share_as_floor(make):
    pair = torch.tensor([[[[1.0, 3.0, 2.0]]], [[[5.0, 1.0, 1.0]]]])
    both = make(pair, floor=0.25)
    torch.testing.assert_close(both, torch.cat([make(each[None], floor=0.25) for each in pair]))
    torch.testing.assert_close(both.sum((1, 2, 3)), torch.ones(2))
    even = torch.full((2, 1, 1, 3), 1 / 3)
    torch.testing.assert_close(make(pair, floor=1), even)
    torch.testing.assert_close(make(pair, floor=0.25), 0.75 * make(pair) + 0.25 * even)
    assert make(pair.half()).dtype == torch.float32
    assert make(pair.double()).dtype == torch.float64
    for wrong, floor in ((pair[0], 0), (pair.expand(2, 2, 1, 3), 0), (pair, -0.01), (pair, 1.01)):
        with pytest.raises(ShapeError, match="needed"):
            make(wrong, floor=floor)


def test_a_uniform_map_sums_to_one():
    assert uniform_map(Size(4, 2), batch=3).tolist() == [[[[0.125] * 4] * 2]] * 3
    assert uniform_map(Size(4, 2)).shape == (1, 1, 2, 4)


@pytest.mark.parametrize("placement", ["cell", "corner"])
def test_a_further_step_is_the_warp_of_the_corners_of_cells_at_the_new_places(placement):
    spiky = spiky_map(3, 8, 12)
    settings = {"sigma_px": 2, "size": Size(10, 7)}
    corners = sampling_grid(spiky, sigma_px=2, size=Size(13, 9), placement="corner")[0].numpy()
    warp = RegularGridInterpolator((np.linspace(0, 1, 9), np.linspace(0, 1, 13)), corners)
    expected = sampling_grid(spiky, **settings, placement=placement)[0].numpy()
    for steps in (2, 3):
        expected = warp(expected[..., ::-1])
        found = sampling_grid(spiky, **settings, placement=placement, warp_steps=steps)[0].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-12)
