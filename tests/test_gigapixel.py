"""Cost follows the samples, not the slide: measured on a slide of 100,000 x 80,000 px that is drawn as it is read."""

from __future__ import annotations

import json
import uuid
from pathlib import Path

import pytest

# Not ru_maxrss: a child that is started from a large process inherits that process's peak. What a process has that
# did nothing but import is not the work's.
PEAK = """
def memory_mib(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024

at_first_mib = memory_mib("VmRSS")

def peak_mib():
    return memory_mib("VmHWM") - at_first_mib
"""

GATHER = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from drawn_reader import AddressReader
from wsi_deform.config import read_config
from wsi_deform.deform.density import deformation_map
from wsi_deform.deform.grid import sampling_grid
from wsi_deform.geometry import Size
from wsi_deform.sample.gather import gather
from wsi_deform.sample.plan import plan_tiles
from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.slide import Slide

counting = CountingReader(AddressReader(Size(100_000, 80_000)))
slide = Slide.from_reader(counting, slide_id="drawn")
logits = 3 * torch.randn(1, 1, 64, 80, generator=torch.Generator().manual_seed(0))
grid = sampling_grid(deformation_map(logits), sigma_px=16, size=Size(573, 458), warp_steps=2)[0]
coarsest_px = read_config().sampling.coarsest_um / slide.mpp
sampled = gather(slide, grid, plan=plan_tiles(slide, grid, coarsest_px=coarsest_px))
print(json.dumps(dict(samples=grid.shape[0] * grid.shape[1], tiles=counting.total_tiles,
                      level_0_tiles=plan_tiles(slide, grid, level="exact").tile_count,
                      peak_mib=peak_mib())))
"""

SEGMENT = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from drawn_reader import AddressReader
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.geometry import Size
from wsi_deform.mask.tiff import write_mask
from wsi_deform.model import Model
from wsi_deform.segment import segment_slide
from wsi_deform.slide.slide import Slide

torch.manual_seed(0)
slide = Slide.from_reader(AddressReader(Size(100_000, 80_000)), slide_id="drawn")
config = read_config(changes=["sampling.budget=[512, 512]", "fields.side_um=null",
                              "networks.segmentation={{name: hrnetv2, width: 18, stem_stride: 2}}"])
model = Model(config=config, classes=ClassTable.from_names(["background", "tumour", "stroma"]), mpp=0.25).eval()
segmented = segment_slide(slide, model)
out = Path({out!r})
write_mask(out, segmented.reverse().tiles(), size=slide.size, mpp=slide.mpp)
print(json.dumps(dict(samples=segmented.samples, tiles=segmented.tiles,
                      peak_mib=peak_mib())))
"""

FIELDS = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from drawn_reader import AddressReader
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.slide_files import segment_to_files
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import Model
from wsi_deform.slide.cache import set_cache_bytes
from wsi_deform.slide.slide import Slide

torch.manual_seed(0)
set_cache_bytes(64 << 20)
slide = Slide.from_reader(AddressReader(Size({side}, {side}), pattern="smooth"), slide_id="drawn")
config = read_config(changes=["sampling.budget=[48, 48]", "fields={{side_um: 2048}}",
                              "networks.segmentation={{name: hrnetv2, width: 4, stem_stride: 4}}"])
model = Model(config=config, classes=ClassTable.from_names(["background", "tumour"]), mpp=0.25).eval()
written = segment_to_files(slide, model, {out!r})
print(json.dumps(dict(fields=written.fields, samples=written.samples, tiles=written.tiles, peak_mib=peak_mib())))
"""


@pytest.fixture
def run(tmp_path, forked):
    """Runs a program and gives what it measured."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("peak memory is read from /proc, which this system does not have")

    def measured(program: str) -> dict[str, float]:
        # After the imports of the program's first lines.
        head, imports, rest = program.partition("import torch\n")
        script = tmp_path / "program.py"
        script.write_text(head + PEAK + imports + rest)
        said = tmp_path / f"said {uuid.uuid4().hex}"
        done = forked(script, said=said)
        assert done.wait() == 0, done.said()
        return json.loads(done.said().splitlines()[-1])

    return measured


def test_gather_of_262k_samples_reads_under_200_tiles_in_under_1_gib(run):
    measured = run(GATHER.format(tests=str(Path(__file__).parent)))
    assert measured["samples"] >= 262_000
    assert measured["tiles"] < 200
    assert measured["level_0_tiles"] > 1000 * measured["tiles"]
    assert measured["peak_mib"] < 512  # and as much for what is imported


def test_segment_with_hrnet_w18_stays_under_3_gib(tmp_path, run):
    out = tmp_path / "drawn.ome.tif"
    measured = run(SEGMENT.format(tests=str(Path(__file__).parent), out=str(out)))
    assert measured["samples"] == pytest.approx(262_144, rel=0.01)
    assert measured["tiles"] < 200
    assert measured["peak_mib"] < 2.5 * 1024
    import tifffile

    with tifffile.TiffFile(out) as opened:
        assert opened.series[0].levels[0].shape == (80_000, 100_000)
        assert len(opened.series[0].levels) >= 8


def test_fields_stream_through_memory_that_does_not_grow_with_the_slide(tmp_path, run):
    tests = str(Path(__file__).parent)
    small, large = (
        run(FIELDS.format(tests=tests, side=side, out=str(tmp_path / str(side)))) for side in (20_000, 60_000)
    )
    assert large["fields"] > 6 * small["fields"]
    assert large["samples"] > 6 * small["samples"]
    assert large["tiles"] < 2 * large["fields"]
    assert large["peak_mib"] < 1.4 * small["peak_mib"]
