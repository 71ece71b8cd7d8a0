"""Patches: what one call of MONAI's inferer over the whole image gives, block by block."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from drawn_reader import AddressReader, ArrayReader
from monai.inferers import sliding_window_inference

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.baselines.patch_files import grid_of, scores_of, shown_downsample, write_patch_files
from wsi_deform.baselines.patch_grid import (
    level_of,
    morton,
    patch_grid,
    patch_px_of,
    patch_starts,
)
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.baselines.patch_tiles import patch_tiles
from wsi_deform.baselines.patches import Patches, slide_labels
from wsi_deform.config import read_config
from wsi_deform.errors import ConfigError, ModelError, ShapeError, SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.tiff import write_mask
from wsi_deform.memory import patches_per_batch
from wsi_deform.model import Model
from wsi_deform.reverse.levels import pyramid_sizes
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.slide import Slide

CLASSES = ClassTable.from_names(["background", "gland", "stroma"])


@pytest.fixture(scope="module")
def network():
    """A network that sees 11 px around each pixel, so that where a patch ends shows."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 7, padding=3)
    ).eval()
    for parameter in layers.parameters():
        torch.nn.init.normal_(parameter, std=0.2)

    def scores(images):
        with torch.no_grad():
            return layers(images / 255)

    return scores


def noise(width, height, *, seed=0, levels=1, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    reader = CountingReader(ArrayReader(pixels, levels=levels))
    return Slide.from_reader(reader, slide_id="noise", **options), pixels, reader


def dark(images):
    """Class 1 where a pixel is dark: sees one pixel, so that labels can be told from pixels."""
    grey = images.mean(dim=1)
    return torch.stack((grey - 128, 128 - grey), dim=1)


def pictured(width, height, *, levels=1):
    coarse = np.random.default_rng(0).integers(0, 2, (-(-height // 7), -(-width // 7)), np.uint8)
    truth = coarse.repeat(7, axis=0).repeat(7, axis=1)[:height, :width]
    pixels = np.where(truth[..., None] == 1, 40, 240).astype(np.uint8).repeat(3, axis=2)
    reader = CountingReader(ArrayReader(pixels, levels=levels))
    return Slide.from_reader(reader, slide_id="pictured"), truth, reader


def put_together(patches, size):
    """Probabilities of the whole slide, from means over one pixel."""
    found = np.full((patches.classes, *size.shape), np.nan, np.float32)
    for each in patches.labelled():
        kept = each.block.kept
        found[:, kept.y : kept.bottom, kept.x : kept.right] = each.probabilities
    return found


def level_of_mask(tiles, size, tile_px, level=0):
    sizes = pyramid_sizes(size, tile_px)
    out, seen = np.zeros(sizes[level].shape, np.uint8), np.zeros(sizes[level].shape, np.uint8)
    for tile in tiles:
        if tile.level == level:
            left, top = tile.column * tile_px, tile.row * tile_px
            place = np.s_[top : top + tile.rows * tile_px, left : left + tile.columns * tile_px]
            out[place] = tile.label if tile.pixels is None else tile.pixels
            seen[place] += 1
    assert (seen == 1).all()
    return out


@pytest.mark.parametrize(
    ("size", "patch_px", "overlap", "block_px"),
    [
        (Size(300, 170), 48, 0.25, 64),
        (Size(299, 171), 50, 0.3, 64),
        (Size(300, 170), 64, 0.5, 32),
        (Size(300, 170), 33, 0.7, 128),
        (Size(257, 129), 16, 0.25, 16),
        (Size(300, 170), 48, 0.0, 64),
        (Size(96, 170), 96, 0.25, 64),
        (Size(40, 170), 64, 0.25, 64),
        (Size(30, 20), 64, 0.25, 64),
    ],
)
@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_blocks_give_what_one_call_of_monai_over_the_whole_image_gives(
    network, size, patch_px, overlap, block_px, blend
):
    slide, pixels, _ = noise(size.width, size.height)
    settings = PatchSettings(overlap=overlap, blend=blend)
    grid = patch_grid(slide, settings, patch_px=patch_px, level=0, cells=None, block_px=block_px)
    patches = Patches(slide, network, grid, classes=3, batch=4, mean_px=1)
    found = put_together(patches, size)
    whole = sliding_window_inference(
        torch.from_numpy(pixels).permute(2, 0, 1)[None].float(),
        (patch_px, patch_px),
        4,
        lambda images: network(images).softmax(dim=1),
        overlap=overlap,
        mode=blend,
        padding_mode="replicate",
    )
    np.testing.assert_allclose(found, whole[0].numpy(), rtol=0, atol=1e-6)
    # Each patch once, although several blocks need it.
    assert patches.runs == grid.count == len(grid.starts_x) * len(grid.starts_y)


def test_without_memory_for_shared_scores_patches_are_seen_again_and_the_result_is_the_same(network):
    slide, _, _ = noise(300, 170)
    grid = patch_grid(slide, PatchSettings(), patch_px=48, level=0, cells=None, block_px=64)
    shared, alone = (
        Patches(slide, network, grid, classes=3, mean_px=1, shared_bytes=limit) for limit in (1 << 30, 0)
    )
    np.testing.assert_allclose(
        put_together(shared, slide.size), put_together(alone, slide.size), rtol=0, atol=1e-6
    )
    assert alone.runs > shared.runs == grid.count


def test_pixels_of_wanted_cells_are_as_if_the_network_had_seen_everything(network):
    slide, _, _ = noise(320, 192)
    cells = np.zeros((6, 10), bool)
    cells[2:4, 3:5] = True
    everywhere, some = (
        patch_grid(slide, PatchSettings(), patch_px=48, level=0, cells=each, block_px=64)
        for each in (None, cells)
    )
    whole = put_together(Patches(slide, network, everywhere, classes=3, mean_px=1), slide.size)
    part = put_together(Patches(slide, network, some, classes=3, mean_px=1), slide.size)
    inside = cells.repeat(32, axis=0).repeat(32, axis=1)
    np.testing.assert_allclose(part[:, inside], whole[:, inside], rtol=0, atol=1e-6)
    # Patches start at 0, 36, 72, ...; those that touch columns 96 to 160 are 72 to 144, rows 64 to 128 are 36 to 108.
    expected = np.zeros((5, 9), bool)
    expected[1:4, 2:5] = True
    assert (some.wanted == expected).all()


def test_glass_is_not_read_and_gets_the_outside_label():
    slide, truth, reader = pictured(512, 256)
    cells = np.zeros((4, 8), bool)
    cells[1, 2] = True
    grid = patch_grid(slide, PatchSettings(overlap=0), patch_px=64, level=0, cells=cells, block_px=128)
    assert grid.regions() == (Region(128, 64, 64, 64),)
    tiles = patch_tiles(
        Patches(slide, dark, grid, classes=2, outside_label=3).labelled(), grid, outside_label=3, tile_px=64
    )
    drawn = level_of_mask(list(tiles), slide.size, 64)
    assert reader.total_tiles == 1
    assert (drawn[64:128, 128:192] == truth[64:128, 128:192]).all()
    drawn[64:128, 128:192] = 3
    assert (drawn == 3).all()


@pytest.mark.parametrize("size", [Size(300, 170), Size(513, 260), Size(60, 40)])
@pytest.mark.parametrize("block_px", [64, 128, 1024])
def test_the_mask_is_the_network_on_every_pixel(size, block_px):
    slide, truth, _ = pictured(size.width, size.height)
    grid = patch_grid(slide, PatchSettings(), patch_px=32, level=0, cells=None, block_px=block_px)
    tiles = list(patch_tiles(Patches(slide, dark, grid, classes=2).labelled(), grid, tile_px=64))
    assert (level_of_mask(tiles, size, 64) == truth).all()
    # One of two pixels, the second and the first in turn: level-0 px 1 of 2, 1 of 4, 5 of 8, ...
    for level in range(1, len(pyramid_sizes(size, 64))):
        padded = np.pad(truth, [(0, length % 2) for length in truth.shape], mode="edge")
        truth = padded[level % 2 :: 2, level % 2 :: 2]
        assert (level_of_mask(tiles, size, 64, level) == truth).all()


def test_convention_labels_of_a_coarser_level_are_repeated(tmp_path):
    slide, _, _ = pictured(262, 131, levels=3)
    grid = patch_grid(slide, PatchSettings(), patch_px=16, level=2, cells=None, block_px=16)
    tiles = patch_tiles(Patches(slide, dark, grid, classes=2).labelled(), grid, tile_px=32)
    write_mask(tmp_path / "mask.ome.tif", tiles, size=slide.size, mpp=0.5, tile_px=32)
    pixels = slide.read_region(2, Region.whole(slide.levels[2].size)).mean(axis=2) < 128
    repeated = pixels.repeat(4, axis=0).repeat(4, axis=1)
    repeated = np.pad(repeated, ((0, 4), (0, 4)), mode="edge")[:131, :262]
    assert (tifffile.imread(tmp_path / "mask.ome.tif", level=0) == repeated).all()


def test_starts_are_monais():
    assert patch_starts(1000, 512, 0.25) == (0, 384, 488)
    assert patch_starts(896, 512, 0.25) == (0, 384)
    assert patch_starts(512, 512, 0.25) == (0,)
    assert patch_starts(100, 512, 0.25) == (0,)
    assert patch_starts(1024, 512, 0.0) == (0, 512)
    assert patch_starts(10, 4, 0.99) == (0, 1, 2, 3, 4, 5, 6)


def test_blocks_are_walked_as_a_tree_of_squares_is():
    assert [morton(*at) for at in ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (3, 5))] == [0, 1, 2, 3, 4, 39]


def test_progress_counts_patches_once():
    slide, _, _ = pictured(256, 128)
    told = []
    grid = patch_grid(slide, PatchSettings(), patch_px=64, level=0, cells=None, block_px=64)
    patches = Patches(
        slide, dark, grid, classes=2, batch=4, shared_bytes=0, on_patch=lambda *at: told.append(at)
    )
    list(patches.labelled())
    # 0, 48, 96, 144, 192 by 0, 48, 64
    assert told[-1] == (15, 15)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_some_patches_may_be_chosen():
    slide, truth, _ = pictured(256, 256)
    grid = patch_grid(slide, PatchSettings(overlap=0), patch_px=64, level=0, cells=None, block_px=128)
    wanted = np.zeros((4, 4), bool)
    wanted[1, 2] = wanted[3, 0] = True
    few = grid.chosen(wanted)
    assert few.regions() == (Region(128, 64, 64, 64), Region(0, 192, 64, 64))
    tiles = patch_tiles(Patches(slide, dark, few, classes=2).labelled(), few, tile_px=64)
    drawn = level_of_mask(list(tiles), slide.size, 64)
    for region in few.regions():
        place = np.s_[region.y : region.bottom, region.x : region.right]
        assert (drawn[place] == truth[place]).all()
        drawn[place] = 0
    assert not drawn.any()


@pytest.mark.parametrize(("level", "size"), [(0, Size(300, 170)), (1, Size(301, 171))])
def test_labels_of_a_slide_come_square_by_square_and_cover_it_once(level, size):
    slide, truth, _ = pictured(size.width, size.height, levels=2)
    cells = np.zeros((1, 2), bool)
    cells[0, 0] = True
    grid = patch_grid(slide, PatchSettings(overlap=0), patch_px=16, level=level, cells=cells, block_px=32)
    drawn, seen = np.full(size.shape, 99, np.uint8), np.zeros(size.shape, np.uint8)
    for region, labels in slide_labels(Patches(slide, dark, grid, classes=2, outside_label=5)):
        place = np.s_[region.y : region.bottom, region.x : region.right]
        drawn[place] = labels
        seen[place] += 1
    assert (seen == 1).all()
    held = slide.read_region(level, Region.whole(slide.levels[level].size)).mean(axis=2) < 128
    known = held.repeat(2**level, axis=0).repeat(2**level, axis=1)
    known = np.pad(known, [(0, a - b) for a, b in zip(size.shape, known.shape, strict=True)], mode="edge")
    left = -(-size.width // (2 * 16 << level)) * (16 << level)  # patches that touch the left half
    np.testing.assert_array_equal(drawn[:, :left], known[:, :left])
    assert (drawn[:, left:] == 5).all()


def model_of(*changes, mpp=0.5):
    torch.manual_seed(0)
    given = ["networks.segmentation={name: hrnetv2, width: 2, stem_stride: 4}", *changes]
    return Model(config=read_config(changes=given), classes=CLASSES, mpp=mpp).eval()


def test_the_patch_of_a_model_is_its_budget_and_the_level_what_its_samples_stand_for():
    trained = model_of(
        "sampling={budget: [64, 64], density: uniform}", "fields={side_um: 64, exact: true, margin: 0.1}"
    )
    settings = PatchSettings()
    assert patch_px_of(trained, settings) == 64
    assert patch_px_of(model_of("sampling.budget=[40, 90]"), settings) == 60
    assert patch_px_of(trained, PatchSettings(patch_px=100)) == 100

    def slide(mpp):
        reader = AddressReader(Size(4096, 4096), downsamples=(1, 2, 4), mpp=mpp)
        return Slide.from_reader(reader, slide_id="s")

    # Trained at 1 um per px, of slides of .5.
    assert level_of(slide(0.5), trained, settings) == (1, "")
    assert level_of(slide(1.0), trained, settings) == (0, "")
    assert level_of(slide(0.26), trained, settings) == (2, "")
    assert level_of(slide(0.5), trained, PatchSettings(mpp=2.1)) == (2, "")
    assert level_of(slide(0.5), trained, PatchSettings(level=0)) == (0, "")
    level, remark = level_of(slide(2.0), trained, settings)
    assert level == 0
    assert "1/1 of level 0, the level nearest to the 1/0.5" in remark
    # A core is one field whatever its size: 1000 x 1000 px for 100 x 100 samples.
    core = Slide.from_reader(AddressReader(Size(1000, 1000), downsamples=(1, 2, 4, 8), mpp=0.5), slide_id="c")
    assert level_of(core, model_of("sampling.budget=[100, 100]"), settings)[0] == 3


def test_levels_without_a_power_of_two_are_passed_over_and_refused_where_asked_for():
    odd = Slide.from_reader(AddressReader(Size(3000, 3000), downsamples=(1, 3), mpp=0.5), slide_id="odd")
    assert level_of(odd, model_of(), PatchSettings(mpp=1.5))[0] != 1
    with pytest.raises(ShapeError, match="downsample is 3 x 3"):
        patch_grid(odd, PatchSettings(), patch_px=64, level=1, cells=None)
    with pytest.raises(ShapeError, match="level 9: there is none"):
        patch_grid(odd, PatchSettings(), patch_px=64, level=9, cells=None)


def test_a_level_by_mpp_needs_the_slides_mpp():
    slide = Slide.from_reader(AddressReader(Size(100, 100), downsamples=(1,), mpp=None), slide_id="s")
    with pytest.raises(SlideError, match="no mpp in file or manifest"):
        level_of(slide, model_of(), PatchSettings(mpp=0.5))


@pytest.mark.parametrize(
    "wrong",
    [
        {"overlap": 1.0},
        {"overlap": -0.1},
        {"patch_px": 8},
        {"mpp": 0},
        {"level": 1, "mpp": 1},
        {"blend": "x"},
        {"overlap": float("nan")},
        {"patch_px": 15},
        {"mpp": float("inf")},
        {"mpp": -0.5},
        {"level": -1},
    ],
)
def test_strange_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        PatchSettings(**wrong)


def test_the_least_settings_are_taken_and_blocks_are_2048_px():
    slide, _, _ = pictured(64, 40)
    PatchSettings(mpp=1e-3)
    settings = PatchSettings(patch_px=16, overlap=0, level=0, blend="constant")
    grid = patch_grid(slide, settings, patch_px=16, level=0, cells=None)
    assert (grid.block_px, grid.starts_x, grid.starts_y) == (2048, (0, 16, 32, 48), (0, 16, 24))


def test_regions_of_patches_of_a_coarser_level_are_in_level_0_pixels_and_end_with_the_slide():
    slide, _, _ = pictured(
        301, 171, levels=2
    )  # level 1 is 150 x 85 px: the last pixels have none of their own
    grid = patch_grid(slide, PatchSettings(overlap=0), patch_px=64, level=1, cells=None)
    assert grid.count == len(grid.regions()) == 6
    assert grid.regions()[0] == Region(0, 0, 128, 128)
    assert grid.regions()[-1] == Region(172, 42, 128, 128)
    wide = patch_grid(slide, PatchSettings(), patch_px=100, level=1, cells=None)
    assert (wide.starts_y, wide.extents) == ((0,), (100, 85))
    assert wide.regions()[1] == Region(100, 0, 200, 170)


@pytest.mark.parametrize(
    ("mpp", "level", "remark"),
    [(2.9, 2, ""), (3.1, 2, "1/4 of level 0"), (0.34, 0, ""), (0.33, 0, "1/1 of level 0")],
)
def test_a_level_up_to_half_as_coarse_again_is_near_enough(mpp, level, remark):
    reader = AddressReader(Size(4096, 4096), downsamples=(1, 2, 4), mpp=0.5)
    slide = Slide.from_reader(reader, slide_id="s", virtual_levels=False)
    found, said = level_of(slide, model_of(), PatchSettings(mpp=mpp))
    assert found == level
    assert said == remark or said.startswith(f"patches were read at {remark}, the level nearest to the 1/")


@pytest.mark.parametrize(
    ("long_px", "level", "shown"),
    [(16_384, 0, 1), (16_385, 0, 2), (65_537, 0, 8), (16_384, 1, 4), (999, 2, 1)],
)
def test_maps_of_patches_show_their_level_or_at_most_16384_px(long_px, level, shown):
    reader = AddressReader(Size(long_px, 600), downsamples=(1, 4, 6))
    slide = Slide.from_reader(reader, slide_id="s", virtual_levels=False)
    assert shown_downsample(slide, level) == shown


def test_strange_sizes_are_refused():
    slide, _, _ = pictured(64, 64)
    for patch_px, block_px in ((64, 100), (64, 8), (15, 64)):
        with pytest.raises(
            ShapeError, match=f"patch of {patch_px} px, block of {block_px} px: needed at least 16"
        ):
            patch_grid(slide, PatchSettings(), patch_px=patch_px, level=0, cells=None, block_px=block_px)
    grid = patch_grid(slide, PatchSettings(), patch_px=64, level=0, cells=None, block_px=64)
    for tile_px in (8, 48, 128):
        with pytest.raises(ShapeError, match=f"tile_px {tile_px}: needed a power of two, 16 to the 64 px"):
            next(iter(patch_tiles(iter([]), grid, tile_px=tile_px)))


def test_memory_lowers_blocks_and_batches_and_says_what_would_do():
    model = model_of()
    plenty = patches_per_batch(model, 256, block_px=2048, wanted=8, memory_gib=64)
    assert (plenty.batch, plenty.block_px) == (8, 2048)
    assert patches_per_batch(model, 256, block_px=2048, wanted=8, memory_gib=None) == plenty
    with pytest.raises(ModelError, match=r"a patch of 256 px needs [\d.]+ GiB.*--patch-px"):
        patches_per_batch(model, 256, block_px=2048, wanted=8, memory_gib=0.1)


def test_files_of_a_slide_are_what_monai_says_limited_to_tissue(tmp_path):
    """Mask and probability map of a model, against MONAI's inferer over the whole slide."""
    pixels = np.full((400, 700, 3), 245, np.uint8)
    pixels[90:300, 150:520] = np.random.default_rng(0).integers((120, 20, 90), (250, 120, 220), (210, 370, 3))
    slide = Slide.from_reader(ArrayReader(pixels, levels=2, mpp=0.5), slide_id="box")
    model = model_of("sampling={budget: [64, 64], density: uniform}", "fields={side_um: 32, exact: true}")
    folder = MaskFolder(tmp_path / "not" / "yet")
    work, counts = write_patch_files(slide, model, folder, PatchSettings(), probabilities=True, batch=3)
    with torch.no_grad():
        whole = sliding_window_inference(
            torch.from_numpy(pixels).permute(2, 0, 1)[None].float(),
            (64, 64),
            3,
            lambda images: model.scores(images).softmax(dim=1),
            overlap=0.25,
            mode="gaussian",
        )[0].numpy()
    mask = tifffile.imread(folder.mask("box"), level=0)
    # Well inside the tissue all is the network's; far from it all is background.
    assert (mask[100:290, 160:510] == whole.argmax(axis=0)[100:290, 160:510]).all()
    assert (mask[:40] == 0).all()
    assert (mask[:, :100] == 0).all()
    assert counts.pixels[:3].tolist() == np.bincount(mask.ravel(), minlength=3).tolist()
    map_ = tifffile.imread(folder.probabilities("box"), level=0)
    np.testing.assert_allclose(
        map_[:, 100:290, 160:510] / 255, whole[:, 100:290, 160:510], atol=0.5 / 255 + 1e-5
    )
    grid, _ = grid_of(slide, model, PatchSettings(), everywhere=False)
    assert work.patches == grid.count < len(grid.starts_x) * len(grid.starts_y)
    assert (work.pixels, work.tiles, work.shown, work.remark) == (65 * 64 * 64, 59, 1, "")
    with tifffile.TiffFile(folder.mask("box")) as file:
        assert '<M K="limited to tissue">yes</M>' in file.ome_metadata
        assert "patches of 64 px at level 0 (1/1), overlap 0.25, gaussian" in file.ome_metadata
    everywhere, _ = write_patch_files(
        slide, model, MaskFolder(tmp_path / "all"), PatchSettings(), limit_to_tissue=False
    )
    assert everywhere.patches == len(grid.starts_x) * len(grid.starts_y)
    assert everywhere.tiles == 7 * 11  # of 64 px each
    with tifffile.TiffFile(MaskFolder(tmp_path / "all").mask("box")) as file:
        assert '<M K="limited to tissue">no</M>' in file.ome_metadata
        mask = file.series[0].levels[0].asarray()
    assert (mask == whole.argmax(axis=0)).all()


def test_means_of_a_map_are_over_what_patches_cover():
    slide, truth, _ = pictured(100, 60)
    grid = patch_grid(slide, PatchSettings(overlap=0), patch_px=32, level=0, cells=None, block_px=64)
    wanted = np.zeros_like(grid.wanted)
    wanted[0, 0] = True
    (block,) = Patches(slide, dark, grid.chosen(wanted), classes=2, mean_px=64).labelled()
    # Scores of 88 or 112 either way are certain.
    np.testing.assert_allclose(block.probabilities[1, 0, 0], truth[:32, :32].mean(), atol=1e-4)
    np.testing.assert_allclose(block.probabilities.sum(axis=0), 1, atol=1e-4)


def test_a_model_that_sees_areas_sees_patches_as_cells_that_are_all_alike():
    slide, pixels, _ = noise(96, 40)
    model = model_of("sampling.density=tissue")
    assert model.sees_areas
    grid, _ = grid_of(slide, model, PatchSettings(patch_px=96, level=0), everywhere=True)
    found = put_together(Patches(slide, scores_of(slide, model), grid, classes=3, mean_px=1), slide.size)
    # One patch, padded by its own border: 28 rows above, and as many below.
    seen = (
        torch.from_numpy(np.pad(pixels, ((28, 28), (0, 0), (0, 0)), mode="edge"))
        .permute(2, 0, 1)[None]
        .float()
    )
    with torch.no_grad():
        scores = model.scores(torch.cat((seen, torch.ones_like(seen[:, :1])), dim=1))
    expected = scores.softmax(dim=1)[0, :, 28:68].numpy()
    assert np.ptp(expected[0]) > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
