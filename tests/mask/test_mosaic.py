import itertools
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.mosaic import MaskMosaic
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples


def fields_of(size, side, rng, *, drop=0.3, classes=4, smooth=False):
    """Fields on a grid, some left out, each with samples inside and around its kept region."""
    fields = []
    for y, x in itertools.product(range(0, size.height, side), range(0, size.width, side)):
        kept = Region(x, y, side, side).intersection(Region.whole(size))
        if rng.random() < drop:
            continue
        points = rng.random((40, 2)) * 1.4 * side - 0.2 * side + (x, y)
        labels = rng.integers(0, classes, 40) if not smooth else np.full(40, rng.integers(0, classes))
        fields.append(FieldSamples(kept=kept, points_px=points, labels=labels.astype(np.uint8)))
    return fields


def assembled(tiles, mosaic):
    """All levels as arrays; every tile exactly once."""
    levels = [np.full(size.shape, 254, np.uint8) for size in mosaic.level_sizes]
    seen = [np.zeros(touched.shape, int) for touched in mosaic._touched]
    side = mosaic.tile_px
    for tile in tiles:
        seen[tile.level][tile.row : tile.row + tile.rows, tile.column : tile.column + tile.columns] += 1
        window = np.s_[
            tile.row * side : (tile.row + tile.rows) * side,
            tile.column * side : (tile.column + tile.columns) * side,
        ]
        levels[tile.level][window] = tile.label if tile.pixels is None else tile.pixels
    assert all((each == 1).all() for each in seen)
    return levels


@pytest.mark.parametrize("seed", range(12))
def test_mosaic_of_fields_equals_the_mask_of_all_samples_at_once(seed):
    rng = np.random.default_rng(seed)
    size = Size(int(rng.integers(40, 400)), int(rng.integers(40, 300)))
    side = int(rng.integers(17, 150))
    fields = fields_of(size, side, rng, smooth=seed % 3 == 0)
    mosaic = MaskMosaic([f.kept for f in fields], size=size, outside_label=3, tile_px=16)
    order = rng.permutation(len(fields))
    levels = assembled(mosaic.mosaic(fields[i] for i in order), mosaic)
    at_once = ReverseSampler(fields, size=size, outside_label=3, tile_px=16)
    for level, pixels in enumerate(levels):
        assert (pixels == at_once.region(Region.whole(at_once.level_sizes[level]), level)).all(), level
    assert mosaic.waiting_bytes == 0


def test_one_field_over_everything_never_waits():
    size = Size(300, 200)
    field = fields_of(size, 300, np.random.default_rng(0), drop=0)[0]
    mosaic = MaskMosaic([field.kept], size=size, tile_px=32)
    for _ in mosaic.mosaic([field]):
        assert mosaic.waiting_bytes == 0


def test_what_waits_is_a_frontier_not_the_slide():
    rng = np.random.default_rng(1)
    waiting = {}
    for height in (1024, 4096):
        size = Size(1024, height)
        fields = fields_of(size, 128, rng, drop=0)
        mosaic = MaskMosaic([f.kept for f in fields], size=size, tile_px=32)
        waiting[height] = max(mosaic.waiting_bytes for _ in mosaic.mosaic(fields))
    assert waiting[4096] < 1.3 * waiting[1024]


def test_what_waits_takes_its_own_pixels_and_none_where_it_has_one_label():
    size = Size(1024, 1024)
    halves = [Region(0, 0, 1024, 400), Region(0, 400, 1024, 624)]
    mosaic = MaskMosaic(halves, size=size, tile_px=512)
    waiting = []

    def fields():
        for half in halves:
            waiting.append(mosaic.waiting_bytes)
            points = np.array([[x, half.y + half.height / 2] for x in (100.0, 300.0, 700.0)])
            yield FieldSamples(kept=half, points_px=points, labels=np.array([0, 1, 2], np.uint8))

    levels = assembled(mosaic.mosaic(fields()), mosaic)
    # Of both tiles of level 0 the right one shows one label; level 1 is one tile.
    assert waiting == [0, 400 * 512 + 200 * 512]
    assert (levels[0][0] == np.repeat([0, 1, 2], (200, 300, 524))).all()


def test_slide_without_fields_is_all_outside(tmp_path):
    mosaic = MaskMosaic([], size=Size(900, 700), outside_label=2)
    write_mask(tmp_path / "m.ome.tif", mosaic.mosaic([]), size=Size(900, 700), mpp=0.5)
    assert (tifffile.imread(tmp_path / "m.ome.tif") == 2).all()


def test_file_does_not_depend_on_threads(tmp_path):
    rng = np.random.default_rng(4)
    size = Size(1500, 1100)
    fields = fields_of(size, 512, rng)
    for threads in (1, 3):
        mosaic = MaskMosaic([f.kept for f in fields], size=size)
        write_mask(
            tmp_path / f"{threads}.ome.tif",
            mosaic.mosaic(fields, threads=threads),
            size=size,
            mpp=0.5,
            threads=threads,
        )
    # The names inside the OME-XML differ by nothing but the digit.
    one, three = (tmp_path / f"{threads}.ome.tif" for threads in (1, 3))
    assert (tifffile.imread(one) == tifffile.imread(three)).all()
    assert one.stat().st_size == three.stat().st_size


def test_fields_that_come_twice_or_never_are_refused():
    size = Size(256, 256)
    fields = fields_of(size, 128, np.random.default_rng(2), drop=0)
    mosaic = MaskMosaic([f.kept for f in fields], size=size, tile_px=32)
    with pytest.raises(MaskError, match="twice"):
        list(mosaic.mosaic([fields[0], fields[0]]))
    mosaic = MaskMosaic([f.kept for f in fields], size=size, tile_px=32)
    with pytest.raises(MaskError, match="3 fields did not come"):
        list(mosaic.mosaic(fields[:1]))


def test_linear_mosaic_equals_the_linear_mask_of_all_samples_at_once():
    rng = np.random.default_rng(4)
    size, lattice = Size(330, 250), Size(8, 5)
    fields = [
        replace(field, probabilities=rng.random((40, 4)).astype(np.float32), lattice=lattice)
        for field in fields_of(size, 90, rng)
    ]
    mosaic = MaskMosaic(
        [f.kept for f in fields], size=size, outside_label=3, tile_px=16, interpolation="linear"
    )
    levels = assembled(mosaic.mosaic(fields), mosaic)
    at_once = ReverseSampler(fields, size=size, outside_label=3, tile_px=16, interpolation="linear")
    for level, pixels in enumerate(levels):
        assert (pixels == at_once.region(Region.whole(at_once.level_sizes[level]), level)).all(), level
