"""Batch: many small slides in one call. What a slide costs as they become thousands, in time, memory and open files.

- `ledger`: slides whose segmentation writes four small files and does nothing else, so that what is left is the call
  itself: leases, states, signatures, tables. Seconds per slide of the first and of the last tenth.
- `slides`: drawn slides of 640 x 160 px and a small network. Memory and open files of the command and its child after
  each slide; medians of the second and of the last quarter.
- `child` and `in process`: the whole command on 50 such slides, with its child and with ``--in-process``, in turns.
- `workers 1` and `workers 2`: the whole command on 50 slides that take about 2 s each on one core. Each process has the
  threads of ``--threads``; with one, and two cores that do nothing else, it is two processes against one.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import torch

from pipelines.benchmarks.measure import MIB, Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.child import Child
from wsi_deform.distribute.outcome import NullWatcher, Outcome
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import Model
from wsi_deform.model_file import save_model
from wsi_deform.slide_results import SlideFiles, WantedOutputs

ROOT = Path(__file__).parents[2]
SIZE, MPP = Size(640, 160), 0.5
KINDS = 20
SETTINGS = ("sampling.budget=[12, 48]", "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}")
# About 2 s of one core: HRNetV2-W18 on 131,072 samples.
LONG_SIZE = Size(1536, 768)
LONG_SETTINGS = ("sampling.budget=[256, 512]",)
LEDGER_SLIDES, SLIDES, COMMAND_SLIDES = 5_000, 2_000, 50


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    ledger, slides, command = (20, 8, 2) if settings.quick else (LEDGER_SLIDES, SLIDES, COMMAND_SLIDES)
    cases = [
        Case(name="ledger", factory="batch:ledger", params={"slides": ledger}, runs=1),
        Case(name="slides", factory="batch:slides", params={"slides": slides}, runs=1),
        Case(name="child", factory="batch:command", params={"slides": command, "options": ""}),
        Case(
            name="in process",
            factory="batch:command",
            params={"slides": command, "options": "--in-process"},
        ),
        *(
            Case(
                name=f"workers {workers}",
                factory="batch:command",
                params={"slides": command, "options": f"--workers {workers}", "is_long": not settings.quick},
                runs=1 if settings.quick else 3,
            )
            for workers in (1, 2)
        ),
    ]
    chosen = [case for case in cases if not settings.only or case.name in settings.only]
    with Pool(settings.threads) as pool:
        return pool.measure(chosen, runs=settings.runs)


class Clock(NullWatcher):
    """Notes when slides end, and what two processes hold then."""

    def __init__(self, child: Child | None = None) -> None:
        self.child = child
        self.ends: list[float] = [time.perf_counter()]
        self.cpu_ends: list[float] = [time.process_time()]
        self.mib: list[float] = []
        self.files: list[int] = []

    def outcome(self, outcome: Outcome) -> None:
        """Note it."""
        if outcome.status != "done":
            raise RuntimeError(f"{outcome.slide_id}: {outcome.status}, {outcome.reason}")
        self.ends.append(time.perf_counter())
        self.cpu_ends.append(time.process_time())
        pids = [os.getpid(), *([self.child.pid] if self.child is not None else [])]
        processes = [psutil.Process(pid) for pid in pids]
        self.mib.append(sum(process.memory_info().rss for process in processes) / MIB)
        self.files.append(sum(process.num_fds() for process in processes))


def ledger(*, slides: int) -> Work:
    """A call on slides that cost nothing."""
    folder = study_of(slides)

    def once(_: int) -> Facts:
        out = Path(tempfile.mkdtemp(dir=folder))
        watcher = Clock()
        with patch("wsi_deform.distribute.turn.segment_to_files", no_segmentation):
            segment_slides(
                slide_sources(folder / "many", out=out), folder / "run", out, device="cpu", watcher=watcher
            )
        shutil.rmtree(out)
        facts = _growth(watcher)
        for name, ends in (("", watcher.ends), ("cpu_", watcher.cpu_ends)):
            tenth, ms = max(1, slides // 10), [1e3 * each for each in _steps(ends)]
            first, last = statistics.mean(ms[:tenth]), statistics.mean(ms[-tenth:])
            facts |= {f"{name}first_ms": first, f"{name}last_ms": last, f"{name}last_by_first": last / first}
        return facts

    return Work(run=once, finish=lambda: _removed(folder))


def slides(*, slides: int) -> Work:
    """A call on drawn slides."""
    folder = study_of(slides)

    def once(_: int) -> Facts:
        out = Path(tempfile.mkdtemp(dir=folder))
        with Child() as child:
            child.start()
            watcher = Clock(child)
            segment_slides(
                slide_sources(folder / "many", out=out),
                folder / "run",
                out,
                device="cpu",
                watcher=watcher,
                child=child,
            )
        shutil.rmtree(out)
        return {"ms_per_slide": 1e3 * statistics.median(_steps(watcher.ends)), **_growth(watcher)}

    return Work(run=once, finish=lambda: _removed(folder))


def command(*, slides: int, options: str, is_long: bool = False) -> Work:
    """The whole of `segment`, start and end included."""
    folder = study_of(slides, LONG_SIZE, LONG_SETTINGS) if is_long else study_of(slides)
    given = [
        sys.executable,
        "-m",
        "wsi_deform",
        "segment",
        str(folder / "many"),
        "--model",
        str(folder / "run"),
        "--device",
        "cpu",
    ]

    def once(_: int) -> Facts:
        out = Path(tempfile.mkdtemp(dir=folder))
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(
            [*given, "--out", str(out), *options.split()],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        masks = len(list((out / "masks").iterdir()))
        shutil.rmtree(out)
        return {"masks": masks}

    once(-1)  # compiles
    return Work(run=once, finish=lambda: _removed(folder))


def _steps(ends: Sequence[float]) -> list[float]:
    return [after - before for before, after in pairwise(ends)]


def _growth(watcher: Clock) -> Facts:
    """Medians of the second and the last quarter of the slides."""
    facts: Facts = {}
    for name, values in (("mib", watcher.mib), ("files", watcher.files)):
        second, last = _quarter(values, 1), _quarter(values, 3)
        facts |= {f"second_{name}": second, f"last_{name}": last, f"{name}_growth": last / second}
    return facts


def _quarter(values: Sequence[float], number: int) -> float:
    size = max(1, len(values) // 4)
    return statistics.median(values[number * size : (number + 1) * size])


def study_of(slides: int, size: Size = SIZE, settings: Sequence[str] = SETTINGS) -> Path:
    """A folder with a run, and so many slides in ``many``: copies of some that were drawn."""
    folder = Path(tempfile.mkdtemp(prefix="wsi-deform-batch-"))
    study = draw_study(
        folder, train=0, val=0, test=min(KINDS, slides), size=size, mpp=MPP, slides_per_patient=1
    )
    torch.manual_seed(0)
    model = Model(config=read_config(changes=settings), classes=read_class_table(study.classes), mpp=MPP)
    save_model(model, folder / "run" / "best.safetensors", facts={})
    drawn = sorted((folder / "slides").iterdir())
    (folder / "many").mkdir()
    for number in range(slides):
        # Files of their own: caches know files by their inodes.
        shutil.copy(drawn[number % len(drawn)], folder / "many" / f"s{number:05d}.tif")
    return folder


def _removed(folder: Path) -> Facts:
    shutil.rmtree(folder)
    return {}


def no_segmentation(
    slide: Any, model: Any, folder: MaskFolder, *, wanted: WantedOutputs, **_: Any
) -> SlideFiles:
    """Four small files in place of a slide's."""
    places = folder.outputs(slide.slide_id)
    for kind in wanted.kinds(has_mpp=True):
        places[kind].parent.mkdir(parents=True, exist_ok=True)
        places[kind].write_bytes(slide.slide_id.encode() * 100)
    pixels = (SIZE.area, *([0] * (model.classes.count - 1)))
    return SlideFiles(
        width_px=SIZE.width,
        height_px=SIZE.height,
        mpp=MPP,
        mpp_xy=(MPP, MPP),
        remark="",
        fields=1,
        samples=1,
        tiles=1,
        class_pixels=pixels,
        class_pixels_in_tissue=pixels,
        removed_pixels=(0,) * len(pixels),
        tissue_pixels=SIZE.area,
    )
