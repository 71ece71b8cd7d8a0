import numpy as np
import pytest
import torch
import torch.nn.functional as F
from array_slide import ArraySlide, random_slide
from dask.distributed import Client
from scipy.ndimage import gaussian_filter

from wsi_deform.deform.density import deformation_map
from wsi_deform.deform.grid import cell_areas, sampling_grid
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import areas_of_grid, level_positions, plan_tiles


def warped_grid(size: Size, *, seed: int = 0, spread: float = 2.0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(1, 1, 9, 13, generator=generator, dtype=dtype)
    return sampling_grid(deformation_map(logits), sigma_px=2.0, size=size)[0]


def grid_sample(array: np.ndarray, grid: torch.Tensor) -> torch.Tensor:
    """The whole level through torch's own sampler."""
    image = torch.from_numpy(array).double().permute(2, 0, 1)[None]
    return F.grid_sample(
        image, grid[None] * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False
    )[0]


@pytest.mark.parametrize("size", [Size(70, 45), Size(16, 16), Size(1, 33), Size(131, 7)])
def test_convention_exact_gather_equals_grid_sample_on_the_whole_image(size):
    slide = random_slide(size, levels=2 if size.short > 1 else 1)
    grid = warped_grid(Size(23, 14)).requires_grad_()
    again = grid.detach().clone().requires_grad_()
    ours, theirs = gather(slide, grid, level="exact"), grid_sample(slide.arrays[0], again)
    assert ours.shape == (3, 14, 23)
    assert (ours - theirs).abs().max() < 1e-9 * 255
    weights = torch.randn(3, 14, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    extent = torch.tensor([size.width, size.height], dtype=torch.float64)
    at = again.detach() * extent
    interior = ((at > 0.5) & (at < extent - 0.5)).all(dim=-1)
    difference = (grid.grad - again.grad)[interior].abs()
    assert (difference <= 1e-9 * again.grad[interior].abs().clamp(min=1)).all()


def test_a_region_is_sampled_as_if_it_were_cut_out():
    slide = random_slide(Size(90, 80))
    region = Region(16, 32, 48, 40)
    cut = slide.arrays[0][32:72, 16:64]
    grid = (0.1 + 0.8 * warped_grid(Size(9, 8))).contiguous()
    torch.testing.assert_close(gather(slide, grid, region=region, level="exact"), grid_sample(cut, grid))


@pytest.mark.parametrize("level", ["mip", "trilinear"])
def test_every_sample_reads_the_level_whose_pixels_are_as_large_as_its_cell(level):
    slide = random_slide(Size(256, 256), levels=5)
    for samples, expected in [(256, 0), (128, 1), (64, 2), (16, 4), (4, 4)]:
        grid = warped_grid(Size(samples, samples), spread=0.0)
        ours = gather(slide, grid, level=level)
        torch.testing.assert_close(ours, grid_sample(slide.arrays[expected], grid), rtol=0, atol=1e-9)


@pytest.mark.parametrize("level", ["mip", "trilinear"])
@pytest.mark.parametrize("bias", [-4, -2, -1, 0, 1, 4])
def test_a_bias_of_the_level_is_added_in_octaves(level, bias):
    slide = random_slide(Size(256, 256), levels=5)
    grid = warped_grid(Size(64, 64), spread=0.0)  # cells of 4 px
    plan = plan_tiles(slide, grid, level=level, bias=bias)
    expected = grid_sample(slide.arrays[min(max(2 + bias, 0), 4)], grid)
    torch.testing.assert_close(gather(slide, grid, plan=plan), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("level", ["mip", "trilinear"])
@pytest.mark.parametrize(("coarsest_px", "expected"), [(16, 2), (4, 2), (2, 1), (1, 0), (0.1, 0), (None, 2)])
def test_no_pixel_is_coarser_than_the_limit(level, coarsest_px, expected):
    slide = random_slide(Size(256, 256), levels=5)
    grid = warped_grid(Size(64, 64), spread=0.0)  # cells of 4 px
    plan = plan_tiles(slide, grid, level=level, coarsest_px=coarsest_px)
    wanted = grid_sample(slide.arrays[expected], grid)
    torch.testing.assert_close(gather(slide, grid, plan=plan), wanted, rtol=0, atol=1e-9)


def test_the_limit_holds_after_the_bias_and_leaves_smaller_cells_alone():
    slide = random_slide(Size(256, 256), levels=5)
    grid = warped_grid(Size(64, 64), spread=0.0)
    areas = torch.full((64, 64), (4 / 256) ** 2)
    areas[:, 32:] = (16 / 256) ** 2
    plan = plan_tiles(slide, grid, areas=areas, bias=-1, coarsest_px=4)
    levels = plan.level.reshape(64, 64)
    assert (levels[:, :32] == 1).all()
    assert (levels[:, 32:] == 2).all()


def test_limits_between_two_levels_take_the_nearer_one_in_octaves():
    slide = random_slide(Size(256, 256), levels=5)
    grid = warped_grid(Size(16, 16), spread=0.0)  # cells of 16 px
    for coarsest_px, expected in ((5.6, 2), (5.7, 3)):  # 2^2.5 = 5.66
        assert (plan_tiles(slide, grid, coarsest_px=coarsest_px).level == expected).all()
    blended = plan_tiles(slide, grid, level="trilinear", coarsest_px=2**2.25)
    assert set(blended.level.tolist()) == {2, 3}
    torch.testing.assert_close(
        torch.from_numpy(blended.weight[blended.level == 3]), torch.full((256,), 0.25, dtype=torch.float64)
    )


@pytest.mark.parametrize("coarsest_px", [0, -1.0, float("nan")])
def test_a_limit_that_is_no_size_is_a_clear_error(coarsest_px):
    slide = random_slide(Size(64, 64), levels=2)
    with pytest.raises(ShapeError, match="coarsest pixel"):
        plan_tiles(slide, warped_grid(Size(8, 8), spread=0.0), coarsest_px=coarsest_px)


def test_level_0_has_no_bias():
    slide = random_slide(Size(256, 256), levels=5)
    grid = warped_grid(Size(64, 64), spread=0.0)
    plan = plan_tiles(slide, grid, level="exact", bias=2)
    torch.testing.assert_close(
        gather(slide, grid, plan=plan), grid_sample(slide.arrays[0], grid), rtol=0, atol=1e-9
    )


def test_where_a_pyramid_skips_octaves_no_pixel_is_much_longer_than_its_cell():
    every = random_slide(Size(256, 256), levels=5)
    skipping = ArraySlide([every.arrays[0], every.arrays[2], every.arrays[4]])
    for samples, level in [(256, 0), (128, 0), (100, 0), (80, 2), (64, 2), (32, 2), (20, 4)]:
        grid = warped_grid(Size(samples, samples), spread=0.0)
        expected = grid_sample(every.arrays[level], grid)
        torch.testing.assert_close(gather(skipping, grid), expected, rtol=0, atol=1e-9)


def test_trilinear_blends_the_two_levels_around_the_size_of_the_cell():
    slide = random_slide(Size(256, 256), levels=5)
    grid = warped_grid(Size(100, 100), spread=0.0)
    share = np.log2(256 / 100) - 1
    expected = (1 - share) * grid_sample(slide.arrays[1], grid) + share * grid_sample(slide.arrays[2], grid)
    torch.testing.assert_close(gather(slide, grid, level="trilinear"), expected, rtol=0, atol=1e-3)


def test_auto_is_exact_for_few_tiles_and_mip_for_many():
    grid = warped_grid(Size(8, 8))
    small, large = random_slide(Size(256, 256), levels=5), random_slide(Size(800, 800), levels=5)
    torch.testing.assert_close(gather(small, grid, level="auto"), gather(small, grid, level="exact"))
    torch.testing.assert_close(gather(large, grid, level="auto"), gather(large, grid, level="mip"))


def test_each_planned_tile_is_read_once_and_no_other():
    slide = random_slide(Size(256, 256), levels=3)
    grid = warped_grid(Size(30, 30))
    plan = plan_tiles(slide, grid)
    gather(slide, grid, plan=plan)
    assert sorted(slide.read) == sorted((int(level), int(c), int(r)) for level, c, r in plan.tiles)
    assert len(set(slide.read)) == len(slide.read)


def test_loop_and_threads_agree_bit_for_bit_where_samples_are_read_twice():
    slide = random_slide(Size(400, 400), levels=3)
    grid = warped_grid(Size(140, 140), dtype=torch.float32)
    loop = gather(slide, grid, level="trilinear", scheduler="loop")
    assert torch.equal(gather(slide, grid, level="trilinear", scheduler="threads"), loop)


def test_loop_threads_processes_and_cluster_agree_bit_for_bit():
    slide = random_slide(Size(430, 430), levels=3)
    grid = warped_grid(Size(150, 150), dtype=torch.float32)
    plan = plan_tiles(slide, grid)
    assert plan.tile_count > 128
    loop = gather(slide, grid, plan=plan, scheduler="loop")
    assert torch.equal(gather(slide, grid, plan=plan), loop)
    assert torch.equal(gather(slide, grid, plan=plan, scheduler="threads"), loop)
    assert torch.equal(gather(slide, grid, plan=plan, scheduler="processes"), loop)
    with Client(
        processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
    ) as client:
        assert torch.equal(gather(slide, grid, plan=plan, scheduler=client), loop)


def test_positions_are_exact_far_from_the_origin():
    # float32 would be wrong by 0.008 px here and flip floors.
    class Ramp:
        levels = random_slide(Size(8, 8)).levels

        def read_tiles(self, tiles):
            for _, column, _ in tiles:
                x = (column * 256 + np.arange(256)) % 251
                yield np.broadcast_to(x[None, :, None], (256, 256, 3)).astype(np.uint8)

    ramp = Ramp()
    one = ramp.levels[0]
    ramp.levels = (type(one)(size=Size(100_000, 256), downsample=one.downsample, tile=Size(256, 256)),)
    x = torch.tensor([99_000.25 / 100_000, 31_337.75 / 100_000], dtype=torch.float64)
    grid = torch.stack((x, torch.full_like(x, 0.5)), dim=-1)[None]
    expected = [float((99_000.25 - 0.5) % 251), float((31_337.75 - 0.5) % 251)]
    assert gather(ramp, grid, level="exact")[0, 0].tolist() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("level", ["exact", "mip", "trilinear"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_and_without_gradient_the_values_are_the_same(level, dtype):
    slide = random_slide(Size(333, 261), levels=5, tile=Size(32, 16))
    grid = warped_grid(Size(61, 47), spread=3.0, dtype=dtype)
    plain = gather(slide, grid, level=level)
    differentiable = gather(slide, grid.clone().requires_grad_(), level=level)
    assert differentiable.requires_grad
    assert not plain.requires_grad
    assert plain.dtype == differentiable.dtype == dtype
    tolerance = 255 * (1e-6 if dtype == torch.float32 else 1e-12)
    torch.testing.assert_close(plain, differentiable.detach(), rtol=0, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(
            gather(slide, grid.clone().requires_grad_(), level=level), plain, rtol=0, atol=0
        )


@pytest.mark.parametrize("level", ["exact", "mip", "trilinear"])
@pytest.mark.parametrize("grid_strides", ["xy last", "xy first"])
def test_planner_places_samples_where_the_differentiable_positions_are_bit_for_bit(level, grid_strides):
    slide = random_slide(Size(333, 261), levels=5, tile=Size(32, 16))
    grid = warped_grid(Size(61, 47), spread=3.0, dtype=torch.float32)
    grid = (
        grid.contiguous()
        if grid_strides == "xy last"
        else grid.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    )
    region = Region(7, 11, 301, 207)
    plan = plan_tiles(slide, grid, region=region, level=level)
    position = level_positions(
        grid.reshape(-1, 2).double(), region, plan.levels, plan.level, plan.sample
    ).numpy()
    np.testing.assert_array_equal(plan.floor, np.floor(position))
    np.testing.assert_array_equal(plan.fraction, position - np.floor(position))


def test_plan_visits_each_tile_for_exactly_the_corners_that_lie_in_it():
    slide = random_slide(Size(133, 91), levels=3)
    plan = plan_tiles(slide, warped_grid(Size(40, 33)), level="trilinear")
    level, x, y = (each.reshape(-1, 4) for each in plan.corner_pixels())
    sizes = np.array([[one.tile.width, one.tile.height] for one in plan.levels])
    column, row = x // sizes[level][..., 0], y // sizes[level][..., 1]
    wanted = np.unique(np.stack((level, row, column), axis=-1).reshape(-1, 3), axis=0)
    np.testing.assert_array_equal(plan.tiles[:, [0, 2, 1]], wanted)  # each once, by level, row and column
    assert len(plan.border)
    for number, (of, at_column, at_row) in enumerate(plan.tiles):
        here = (level == of) & (column == at_column) & (row == at_row)
        visits = plan.visits[plan.starts[number] : plan.starts[number + 1]]
        np.testing.assert_array_equal(np.sort(visits[visits >= 0]), np.flatnonzero(here.all(axis=1)))
        partly = here.any(axis=1) & ~here.all(axis=1)
        np.testing.assert_array_equal(np.sort(plan.border[-1 - visits[visits < 0]]), np.flatnonzero(partly))


def test_gradient_of_mip_sampling_predicts_what_moving_a_sample_does():
    rng = np.random.default_rng(0)
    slide = random_slide(Size(1024, 1024), levels=6)
    smooth = gaussian_filter(rng.standard_normal((1024, 1024, 1)), (40, 40, 0), mode="wrap")
    texture = 30 * smooth / smooth.std() + 40 * rng.standard_normal((1024, 1024, 3)) + 128
    slide.arrays[0] = texture.clip(0, 255).astype(np.uint8)
    for level in range(1, 6):
        fine = slide.arrays[level - 1].astype(float)
        slide.arrays[level] = fine.reshape(fine.shape[0] // 2, 2, -1, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    move = 0.25 / 32 * torch.ones(32, 32, 2, dtype=torch.float64) * torch.tensor([1.0, 0.0])

    def correlation(level):
        grid = warped_grid(Size(32, 32), spread=0.0).requires_grad_()
        before = gather(slide, grid, level=level)
        before.sum().backward()
        after = gather(slide, (grid + move).clamp(0, 1).detach(), level=level)
        predicted = (grid.grad * move).sum(dim=-1).flatten()
        return torch.corrcoef(torch.stack((predicted, (after - before).sum(dim=0).flatten().detach())))[0, 1]

    assert correlation("mip") > 0.7
    assert correlation("exact") < 0.3


def test_areas_of_grid_agree_with_the_cells_it_stands_for():
    maps = deformation_map(torch.randn(1, 1, 20, 30, generator=torch.Generator().manual_seed(2)))
    corners = sampling_grid(maps, sigma_px=5, size=Size(31, 21), placement="corner")
    grid = sampling_grid(maps, sigma_px=5, size=Size(30, 20))
    torch.testing.assert_close(areas_of_grid(grid[0]), cell_areas(corners)[0], rtol=0.25, atol=1e-5)
    single = torch.tensor([[[0.5, 0.5]]])
    assert areas_of_grid(single).item() == 1


@pytest.mark.parametrize("wrong", [torch.zeros(4, 2), torch.zeros(2, 4, 4, 2), torch.zeros(4, 4, 3)])
def test_grid_of_another_shape_is_refused(wrong):
    with pytest.raises(ShapeError, match=r"\(h, w, 2\)"):
        gather(random_slide(Size(32, 32)), wrong)


def test_grid_that_is_not_finite_is_refused():
    with pytest.raises(ShapeError, match="not finite"):
        gather(random_slide(Size(32, 32)), torch.full((2, 2, 2), float("nan")))
