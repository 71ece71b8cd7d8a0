"""Opening: CPU milliseconds to open a slide of each container, and to plan one, beside an earlier commit.

Every run is a process of its own, of either commit in turn. It opens a hundred files (links to two that differ in a
letter of their text, so that nothing that is kept of one helps the next), ten at a time, and says the least time of
ten.
To plan is to find the tissue, look at four fields and plan the tiles of a warped grid in each.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from pipelines.compare.commits import worktree
from wsi_deform.drawn.slide import draw_slide
from wsi_deform.geometry import Size

ROOT = Path(__file__).parents[2]
EARLIER = "a230639"
SVS = "CMU-1-Small-Region.svs"
SIZE = Size(2048, 1536)
LEVELS = 4
COPIES, AT_ONCE = 100, 10
PLAN = "plan"
# A letter of these is changed in every second copy.
NAMED = (b'Name="', b"Aperio Image Library v")
OPEN = """
import sys, time
from pathlib import Path
from wsi_deform.slide.open import open_slide

files = sorted(Path(sys.argv[1]).iterdir())
at_once = int(sys.argv[2])
taken = []
for start in range(0, len(files), at_once):
    begun = time.process_time()
    for file in files[start : start + at_once]:
        open_slide(file).mpp_or_none
    taken.append((time.process_time() - begun) / at_once)
print(min(taken[1:]))
"""
PLAN_FIELDS = """
import sys, time
from pathlib import Path
import torch
from wsi_deform.geometry import Region, Size
from wsi_deform.look.lowres import low_res_view
from wsi_deform.look.tissue import tissue_mask
from wsi_deform.sample.plan import plan_tiles
from wsi_deform.slide.open import open_slide

torch.set_num_threads(1)
y, x = torch.meshgrid(torch.linspace(0, 1, 80), torch.linspace(0, 1, 200), indexing="ij")
grid = torch.stack([x**1.5, y**0.7], -1)
taken = []
for file in sorted(Path(sys.argv[1]).iterdir())[:12]:
    slide = open_slide(file)
    half = Size(slide.size.width // 2, slide.size.height // 2)
    begun = time.process_time()
    tissue_mask(slide)
    for number in range(4):
        field = Region(number % 2 * half.width, number // 2 * half.height, half.width, half.height)
        low_res_view(slide, field, Size(64, 48))
        plan_tiles(slide, grid, region=field)
    taken.append(time.process_time() - begun)
print(min(taken[1:]))
"""


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    with tempfile.TemporaryDirectory(prefix="wsi-deform-opening-") as name:
        folder = Path(name)
        folders = {file: _copies(path, folder) for file, path in slides(folder).items()}
        kinds = [(file, OPEN, where) for file, where in folders.items()]
        kinds.append((PLAN, PLAN_FIELDS, folders["TIFF"]))
        rows: list[Row] = []
        with worktree(ROOT, EARLIER, folder / "earlier") as earlier, Pool(1) as pool:
            trees = {"ours": ROOT} if settings.quick else {"ours": ROOT, EARLIER: earlier}
            for kind, script, where in kinds:
                cases = [
                    Case(
                        name=f"{kind}, {commit}",
                        factory="opening:work",
                        params={"script": script, "tree": str(tree), "files": str(where)},
                    )
                    for commit, tree in trees.items()
                    if not settings.only or kind in settings.only
                ]
                rows += pool.measure(cases, runs=settings.runs) if cases else []
    return [
        {name: value for name, value in row.items() if name not in ("script", "tree", "files")}
        for row in rows
    ]


def work(*, script: str, tree: str, files: str) -> Work:
    """Opening the files of a folder, or planning them, with the package of a checkout."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}

    def once(_: int) -> Facts:
        found = subprocess.run(
            [sys.executable, "-c", script, files, str(AT_ONCE)],
            cwd=tree,
            env={**environment, "PYTHONPATH": tree},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return {"cpu_seconds": float(found.stdout)}

    once(-1)  # compiles the modules and kernels of this checkout
    return Work(run=once)


def slides(folder: Path) -> dict[str, Path]:
    """A small slide in each container, drawn; and a real SVS where there is one."""
    image = draw_slide(0, SIZE).image
    levels = [np.ascontiguousarray(image[:: 1 << level, :: 1 << level]) for level in range(LEVELS)]
    stored = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    found = {"TIFF": folder / "a.tif", "OME-TIFF": folder / "a.ome.tif"}
    with tifffile.TiffWriter(found["TIFF"]) as file:
        for number, level in enumerate(levels):
            file.write(
                level, subfiletype=int(number > 0), resolution=(20_000, 20_000), resolutionunit=3, **stored
            )
    about = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    with tifffile.TiffWriter(found["OME-TIFF"], ome=True) as file:
        file.write(levels[0], subifds=LEVELS - 1, metadata=about, **stored)
        for level in levels[1:]:
            file.write(level, subfiletype=1, **stored)
    found["OME-Zarr"] = _zarr(folder / "a.ome.zarr", levels)
    for suffix in ("png", "jpg"):
        found[suffix.upper()] = folder / f"a.{suffix}"
        Image.fromarray(levels[1]).save(folder / f"a.{suffix}")
    named = os.environ.get("WSI_DEFORM_DATA")
    data = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    if (svs := data / "slides" / SVS).is_file():
        found["SVS"] = svs
    return found


def _zarr(path: Path, levels: list[NDArray[np.uint8]]) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    datasets = []
    for number, level in enumerate(levels):
        pixels = np.ascontiguousarray(level.transpose(2, 0, 1))
        keys = {"name": "v2", "separator": "/"}
        array = group.create_array(
            str(number), shape=pixels.shape, chunks=(3, 256, 256), dtype="u1", chunk_key_encoding=keys
        )
        array[:] = pixels
        scale = [1.0, 0.5 * 2**number, 0.5 * 2**number]
        datasets.append(
            {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    group.attrs["multiscales"] = json.loads(
        json.dumps([{"version": "0.4", "axes": axes, "datasets": datasets}])
    )
    return path


def _copies(path: Path, folder: Path) -> Path:
    """A folder of a slide a hundred times: of files two that differ, in turn."""
    where = folder / f"copies of {path.name}"
    where.mkdir()
    suffix = "".join(path.suffixes)
    for number in range(COPIES):
        copy = where / f"{number:03}{suffix}"
        if path.is_dir():
            shutil.copytree(path, copy)
        elif number < 2:
            copy.write_bytes(_varied(path.read_bytes(), number))
        else:
            os.link(where / f"{number % 2:03}{suffix}", copy)
    return where


def _varied(data: bytes, number: int) -> bytes:
    places = (data.find(name) + len(name) for name in NAMED if name in data)
    place = next(places, 0)
    return data[:place] + b"AB"[number : number + 1] + data[place + 1 :] if place else data
