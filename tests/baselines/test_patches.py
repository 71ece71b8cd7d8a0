import numpy as np
import pytest
import tifffile
import torch
from drawn_reader import AddressReader, ArrayReader

from wsi_deform.baselines.patches import Windows, patch_labels, patch_tiles, tissue_windows
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.look.tissue import TissueMask
from wsi_deform.mask.tiff import write_mask
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.slide import Slide


def dark(image):
    """Class 1 where a pixel is dark: sees one pixel, so it can be compared pixel by pixel."""
    grey = image.mean(dim=1)
    return torch.stack((grey - 128, 128 - grey), dim=1)


def pictured(width, height, *, levels=1, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 2, (-(-height // 7), -(-width // 7)), np.uint8)
    truth = coarse.repeat(7, axis=0).repeat(7, axis=1)[:height, :width]
    pixels = np.where(truth[..., None] == 1, 40, 240).astype(np.uint8).repeat(3, axis=2)
    reader = CountingReader(ArrayReader(pixels, levels=levels))
    return Slide.from_reader(reader, slide_id="pictured"), truth, reader


def level_0(tiles, size, tile_px, level=0):
    width, height = -(-size.width // 2**level), -(-size.height // 2**level)
    seen = np.zeros((height, width), np.uint8)
    out = np.zeros((height, width), np.uint8)
    for tile in tiles:
        if tile.level == level:
            left, top = tile.column * tile_px, tile.row * tile_px
            place = np.s_[top : top + tile.rows * tile_px, left : left + tile.columns * tile_px]
            out[place] = tile.label if tile.pixels is None else tile.pixels
            seen[place] += 1
    assert (seen == 1).all()
    return out


@pytest.mark.parametrize("window_px", [32, 64, 256])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("margin_px", [0, 8])
def test_mask_is_the_network_on_every_pixel(window_px, batch, margin_px):
    slide, truth, _ = pictured(300, 170)
    windows = Windows(window_px=window_px, batch=batch, margin_px=margin_px)
    tiles = list(patch_tiles(slide, dark, tissue=None, windows=windows, tile_px=64))
    assert (level_0(tiles, slide.size, 64) == truth).all()
    assert (level_0(tiles, slide.size, 64, level=2) == truth[::4, ::4]).all()


def test_mask_file_is_written_from_the_stream(tmp_path):
    slide, truth, _ = pictured(300, 170)
    path = tmp_path / "mask.ome.tif"
    tiles = patch_tiles(slide, dark, tissue=None, windows=Windows(window_px=64), tile_px=64)
    write_mask(path, tiles, size=slide.size, mpp=0.5, tile_px=64)
    assert (tifffile.imread(path, level=0) == truth).all()


def test_glass_is_not_read_and_gets_the_outside_label():
    slide, truth, reader = pictured(512, 256)
    tissue = np.zeros((4, 8), bool)
    tissue[1, 2] = True
    mask = TissueMask(tissue=tissue, downsample=Point(64, 64))
    windows = Windows(window_px=64)
    assert tissue_windows(slide, mask, windows) == (Region(128, 64, 64, 64),)
    tiles = list(patch_tiles(slide, dark, tissue=mask, windows=windows, tile_px=64, outside_label=3))
    assert reader.total_tiles == 1
    drawn = level_0(tiles, slide.size, 64)
    assert (drawn[64:128, 128:192] == truth[64:128, 128:192]).all()
    drawn[64:128, 128:192] = 3
    assert (drawn == 3).all()


def test_convention_labels_of_a_coarser_level_are_repeated():
    slide, _, _ = pictured(256, 128, levels=3)
    windows = Windows(level=2, window_px=16)
    tiles = list(patch_tiles(slide, dark, tissue=None, windows=windows, tile_px=32))
    pixels = slide.read_region(2, Region.whole(slide.levels[2].size)).mean(axis=2) < 128
    assert (level_0(tiles, slide.size, 32) == pixels.repeat(4, axis=0).repeat(4, axis=1)).all()


def test_some_windows_may_be_chosen_and_are_counted():
    slide, truth, _ = pictured(256, 256)
    windows = Windows(window_px=64)
    chosen = tissue_windows(slide, None, windows)[3::5]
    calls = []
    tiles = patch_tiles(
        slide,
        dark,
        tissue=None,
        windows=windows,
        regions=chosen,
        tile_px=64,
        on_window=lambda done, total: calls.append((done, total)),
    )
    drawn = level_0(list(tiles), slide.size, 64)
    assert calls == [(number + 1, len(chosen)) for number in range(len(chosen))]
    for region in chosen:
        place = np.s_[region.y : region.bottom, region.x : region.right]
        assert (drawn[place] == truth[place]).all()
        drawn[place] = 0
    assert not drawn.any()


def test_margin_is_seen_and_cut_off():
    slide, _, _ = pictured(128, 128)
    seen = []

    def network(image):
        seen.append(tuple(image.shape))
        return dark(image)

    regions = tissue_windows(slide, None, Windows(window_px=64))
    windows = Windows(window_px=64, margin_px=16, batch=2)
    labels = [each.shape for _, each in patch_labels(slide, network, regions, windows)]
    assert seen == [(2, 3, 96, 96)] * 2
    assert labels == [(64, 64)] * 4


def test_strange_windows_are_refused():
    with pytest.raises(ShapeError, match="window_px 100"):
        Windows(window_px=100)
    with pytest.raises(ShapeError, match="margin_px -1"):
        Windows(margin_px=-1)
    slide, _, _ = pictured(64, 64)
    with pytest.raises(ShapeError, match="level 9"):
        tissue_windows(slide, None, Windows(level=9))
    with pytest.raises(ShapeError, match="tile_px 100"):
        next(iter(patch_tiles(slide, dark, tissue=None, tile_px=100)))
    odd = Slide.from_reader(AddressReader(Size(3000, 3000), downsamples=(1, 3)), slide_id="odd")
    with pytest.raises(ShapeError, match="downsample 3 x 3"):
        tissue_windows(odd, None, Windows(level=1))
