import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import FieldBudget
from wsi_deform.errors import ModelError, SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.memory import fields_per_batch, limit_caches, patches_per_batch, peak_memory_bytes
from wsi_deform.model import Model
from wsi_deform.networks.memory import forward_bytes
from wsi_deform.slide.cache import PICTURES, TILE_CACHE
from wsi_deform.slide.tiff.strips import STRIP_CACHE, strips_to_come_bytes
from wsi_deform.slide.tiff.tiles import TiffTiles


@pytest.fixture
def model():
    before = TILE_CACHE.limit_bytes, STRIP_CACHE.limit_bytes
    torch.manual_seed(0)
    config = read_config(changes=["networks.segmentation={name: hrnetv2, width: 4, stem_stride: 2}"])
    yield Model(config=config, classes=ClassTable.from_names(["a", "b"]), mpp=0.5).eval()
    TILE_CACHE.set_limit(before[0])
    STRIP_CACHE.set_limit(before[1])


def budgets(side):
    region = Region(0, 0, 4096, 4096)
    return [FieldBudget(field=Field(region, region), size=Size(side, side))] * 3


def test_without_a_limit_as_many_fields_as_wanted(model):
    assert fields_per_batch(model, budgets(256), wanted=8, memory_gib=None) == 8


def test_less_memory_means_fewer_fields_and_a_smaller_cache(model, monkeypatch):
    # What this process holds depends on the tests before, and on how large torch's build is.
    held = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=2**29))
    monkeypatch.setattr("wsi_deform.memory.psutil.Process", lambda: held)
    counts = [fields_per_batch(model, budgets(512), wanted=64, memory_gib=gib) for gib in (64, 8, 4)]
    assert counts[0] == 64
    assert counts[0] > counts[1] > counts[2] >= 1
    fields_per_batch(model, budgets(16), wanted=1, memory_gib=2)
    assert TILE_CACHE.limit_bytes <= 0.2 * 2**30


def test_a_limit_below_one_field_says_how_much_would_do(model):
    with pytest.raises(
        ModelError, match=r"limit 0\.5 GiB(.|\n)*4096 x 4096 samples needs \d+\.\d+ GiB(.|\n)*--memory-gib"
    ):
        fields_per_batch(model, budgets(4096), wanted=1, memory_gib=0.5)


def test_forward_bytes_are_those_of_the_image_and_of_all_tensors_that_live_at_once():
    """Of 3 channels in and 8 and 2 out, 4 bytes each, with 2.25 times as much for scratch; ReLU works in place."""
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(inplace=True), torch.nn.Conv2d(8, 2, 1)
    )
    for size in (Size(128, 128), Size(64, 32), Size(512, 256)):
        assert forward_bytes(layers.eval(), size) == 2.25 * 4 * (3 + 8 + 2) * size.area


def test_forward_bytes_grow_with_the_area_and_hold_at_least_the_widest_tensor(model):
    small, large = (forward_bytes(model.segmentation, Size(side, side), channels=4) for side in (128, 512))
    assert large == pytest.approx(16 * small, rel=1e-6)
    # The stem's first output: 64 channels at half the size, float32.
    assert small > 64 * 64 * 64 * 4


def write_strips(path, *, width, height, rows):
    """A deflate TIFF of few huge strips, drawn as waves."""
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    pixels = np.stack(np.broadcast_arrays((x // 7 + y // 5) % 251, x // 9 % 200, y // 11 % 200), axis=-1)
    tifffile.imwrite(
        path, pixels.astype(np.uint8), compression="deflate", compressionargs={"level": 1}, rowsperstrip=rows,
        photometric="rgb", metadata=None,
    )  # fmt: skip
    return path


def test_strips_of_open_files_count_against_the_limit(model, tmp_path):
    STRIP_CACHE.forget()
    path = write_strips(tmp_path / "a.tif", width=4000, height=3000, rows=1500)
    before = fields_per_batch(model, budgets(512), wanted=10_000, memory_gib=4)
    tiles = TiffTiles(path)
    assert strips_to_come_bytes() >= 36_000_000
    assert fields_per_batch(model, budgets(512), wanted=10_000, memory_gib=4) <= before
    tiles.read_tile(0, 0, 0)
    assert 18_000_000 <= strips_to_come_bytes() < 36_000_000
    tiles.close()
    assert strips_to_come_bytes() == 0


STRIPS = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from wsi_deform.memory import limit_caches
from wsi_deform.slide.cache import set_cache_bytes
from wsi_deform.geometry import Region, Size
from wsi_deform.look.lowres import low_res_view
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.tiff.strips import STRIP_CACHE

def mib(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

slide = open_slide({path!r})
low_res_view(slide, Region(0, 0, 10, 10), Size(10, 10))  # code is loaded, one strip is kept
STRIP_CACHE.forget()
held = mib("VmRSS")
room = {room}
set_cache_bytes(8 << 20)
limit_caches(None if room is None else (held + room) / 1024)
low_res_view(slide, Region.whole(slide.size), Size(40, 30))
print(json.dumps(dict(held=held, peak=mib("VmHWM"), strips=STRIP_CACHE.held_bytes / 2**20)))
"""


def test_the_limit_holds_for_a_slide_of_huge_strips(tmp_path):
    if not Path("/proc/self/status").is_file():
        pytest.skip("peak memory is read from /proc, which this system does not have")
    path = write_strips(tmp_path / "a.tif", width=6000, height=6000, rows=1000)  # 6 strips of 17 MiB

    def grown(room):
        program = STRIPS.format(path=str(path), room=room)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    free, limited = grown(None), grown(100)
    assert free["strips"] > 100
    assert limited["strips"] <= 0.4 * 100
    assert limited["peak"] <= limited["held"] + 100
    assert limited["peak"] - limited["held"] < 0.7 * (free["peak"] - free["held"])


def test_a_strip_beyond_the_limit_is_refused_with_a_remedy(model, tmp_path):
    tiles = TiffTiles(write_strips(tmp_path / "a.tif", width=4000, height=3000, rows=3000))
    STRIP_CACHE.set_limit(30 << 20)
    with pytest.raises(
        SlideError, match=r"a\.tif: a strip decodes to 34 MiB(.|\n)*leaves 30 MiB(.|\n)*--memory-gib"
    ):
        tiles.read_tile(0, 0, 0)


@pytest.fixture
def accounted(monkeypatch):
    """A process of 512 MiB with empty, unlimited caches, whose networks need 1,000 bytes per px and channel."""
    held = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=1 << 29))
    monkeypatch.setattr("wsi_deform.memory.psutil.Process", lambda: held)
    monkeypatch.setattr(
        "wsi_deform.memory.forward_bytes", lambda network, size, channels=3: 1000 * channels * size.area
    )
    monkeypatch.setattr("wsi_deform.memory.strips_to_come_bytes", lambda: 1_000_000)
    caches = TILE_CACHE, STRIP_CACHE, PICTURES
    limits = [cache.limit_bytes for cache in caches]
    for cache in caches:
        cache.forget()
        cache.set_limit(1 << 50)
    yield
    for cache, limit in zip(caches, limits, strict=True):
        cache.forget()
        cache.set_limit(limit)


@pytest.mark.usefixtures("accounted")
def test_caches_have_their_shares_of_a_limit_and_are_never_raised():
    TILE_CACHE.keep("a tile", np.zeros(1 << 20, np.uint8))
    limit_caches(None)
    assert TILE_CACHE.limit_bytes == 1 << 50
    limit_caches(4)  # GiB; of it 512 MiB are held, less 1 MiB that is a cache's own
    assert TILE_CACHE.limit_bytes == PICTURES.limit_bytes == 429_496_729  # a tenth
    assert STRIP_CACHE.limit_bytes == 1_503_657_984  # .4 of what is left
    limit_caches(64)
    assert (TILE_CACHE.limit_bytes, STRIP_CACHE.limit_bytes) == (429_496_729, 1_503_657_984)
    limit_caches(0.25)
    assert (PICTURES.limit_bytes, STRIP_CACHE.limit_bytes) == (26_843_545, 0)


@pytest.mark.usefixtures("accounted")
def test_fields_in_a_batch_counted_by_hand(model):
    """Of 4 GiB, 512 MiB are held, 409.6 go to tiles, 1 MB to strips, 96 MiB to the mask; a sample takes 5,200 bytes."""
    left = (4 << 30) - (1 << 29) - 429_496_729 - 1_000_000 - (96 << 20)
    fields = budgets(4)[:1] + budgets(2)[:1]
    assert fields_per_batch(model, fields, wanted=10**9, memory_gib=4) == left // (16 * (1200 + 4 * 1000))
    assert fields_per_batch(model, fields, wanted=7, memory_gib=4) == 7
    assert fields_per_batch(model, [], wanted=7, memory_gib=0.001) == 7
    model.config = read_config(changes=["networks.area_channel=false"])
    assert fields_per_batch(model, fields, wanted=10**9, memory_gib=4) == left // (16 * (1200 + 3 * 1000))


@pytest.mark.usefixtures("accounted")
def test_fields_of_a_resizer_take_what_is_read_for_it_too():
    config = read_config(
        changes=[
            "networks.resizer={input_scale: 2.0}",
            "networks.area_channel=false",
            "sampling.density=uniform",
        ]
    )
    model = Model(config=config, classes=ClassTable.from_names(["a", "b"]), mpp=0.5).eval()
    left = (4 << 30) - (1 << 29) - 429_496_729 - 1_000_000 - (96 << 20)
    # 4 x 4 samples, out of 8 x 8 px.
    needed = 16 * (1200 + 3000) + 64 * (1200 + 3000)
    assert fields_per_batch(model, budgets(2)[:1] + budgets(4), wanted=10**9, memory_gib=4) == left // needed


@pytest.mark.usefixtures("accounted")
def test_what_one_field_needs_is_said_to_a_hundredth_of_a_gib(model):
    # 1 GiB: held 512 MiB, tiles 102.4, mask 96, strips 1 MB; 5,200 bytes for each of 512 x 512 samples.
    with pytest.raises(ModelError, match=r"limit 1 GiB: a field of 512 x 512 samples needs 1\.96 GiB with"):
        fields_per_batch(model, budgets(512), wanted=1, memory_gib=1)


@pytest.mark.usefixtures("accounted")
def test_patches_in_a_batch_counted_by_hand(model):
    """A patch of 16 px: 4 bytes for each pixel of 3 + 2 x 2 channels, and the network's. Its block: 26 + 2 x 12."""
    left = (4 << 30) - (1 << 29) - 429_496_729 - 1_000_000 - (96 << 20) - (256 << 20)
    patch = 256 * (4 * 7 + 4 * 1000)
    found = patches_per_batch(model, 16, block_px=2048, wanted=10**9, memory_gib=4)
    assert (found.batch, found.block_px) == ((left - 2080**2 * 50) // patch, 2048)
    assert found.shared_bytes == 256 << 20
    assert patches_per_batch(model, 16, block_px=2048, wanted=3, memory_gib=4).batch == 3
    free = patches_per_batch(model, 16, block_px=2048, wanted=3, memory_gib=None)
    assert (free.batch, free.block_px, free.shared_bytes) == (3, 2048, 256 << 20)


@pytest.mark.usefixtures("accounted")
def test_blocks_are_halved_down_to_512_px_before_patches_are_refused(model):
    # .85 GiB: held 512 MiB, tiles and waiting scores 87 MiB each, mask 96, strips 1: 87 MiB are left, and a block of
    # 2,080 px takes 206, one of 1,056 px 53.
    found = patches_per_batch(model, 16, block_px=2048, wanted=10**9, memory_gib=0.85)
    assert (found.block_px, found.shared_bytes) == (1024, 91_268_055)
    assert found.batch == 34
    # A patch of 128 px takes 63 MiB, and so 512 px are the block; with 256 px of 252 MiB nothing helps.
    assert patches_per_batch(model, 128, block_px=2048, wanted=9, memory_gib=0.9).block_px == 512
    with pytest.raises(ModelError, match=r"0\.85 GiB: a patch of 256 px needs 1\.06 GiB with"):
        patches_per_batch(model, 256, block_px=2048, wanted=9, memory_gib=0.85)


def test_peak_memory_is_in_bytes():
    import psutil

    held = psutil.Process().memory_info().rss
    assert held / 2 < peak_memory_bytes() < 100 * held
