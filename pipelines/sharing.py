"""Several processes share one OUT and are killed at random: ``python -m pipelines.sharing [--trials 20]``.

Each trial starts processes on the same slides and an empty folder, kills one or more of them with SIGKILL at random
moments, lets the others end, and gives the same command once more. Then every slide must have its mask once, every file
must be that of a run alone, byte by byte, and nothing may be left of those that were killed.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import random
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import parse_config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import Model
from wsi_deform.model_file import save_model

SIZE, MPP = Size(640, 160), 0.5
# What is of a call or a process, and differs from run to run.
OF_A_CALL = ("states", "runs", "summary.md", ".folder.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of one.

    Attributes:
        killed: When each process was killed, s after the first slide was begun; None lived, or had ended.
        done_before: Slides that were done when the last process had ended, of all.
        seconds: How long it took, the rerun included.
        problems: What is not as it should be; empty is as it should.
    """

    killed: tuple[float | None, ...]
    done_before: int
    seconds: float
    problems: tuple[str, ...]


def prepare(folder: Path, slides: int) -> None:
    """Draw slides and make an untrained model that predicts several classes."""
    study = draw_study(folder, train=0, val=0, test=slides, size=SIZE, mpp=MPP, slides_per_patient=1)
    config = parse_config(
        {
            "sampling": {"budget": [12, 48]},
            "networks": {"segmentation": {"name": "hrnetv2", "width": 4, "stem_stride": 1}},
        },
        source="sharing",
    )
    torch.manual_seed(0)
    model = Model(config=config, classes=read_class_table(study.classes), mpp=MPP)
    for parameter in model.segmentation.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_model(model, folder / "run" / "best.safetensors", facts={"epoch": 0})


def segment(folder: Path, out: Path) -> None:
    """One call on all slides; exits with 1 where one fails."""
    torch.set_num_threads(1)
    sources = slide_sources(folder / "slides", out=out)
    batch = segment_slides(sources, folder / "run", out, device="cpu")
    if batch.of("failed"):
        raise SystemExit(1)


def trial(folder: Path, out: Path, alone: Path, *, processes: int, over_s: float, seed: int) -> Trial:
    """Start processes on ``out``, kill some, end with a rerun and look.

    Args:
        folder: What ``prepare`` filled.
        out: An empty or missing folder.
        alone: The mask folder of a run alone.
        processes: How many.
        over_s: They are killed within so many seconds after the first slide was begun.
        seed: Decides which and when.
    """
    rng, started = random.Random(seed), time.monotonic()
    # Forked from a server that has imported everything, so that a process works a moment after it starts.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    running = [context.Process(target=segment, args=(folder, out)) for _ in range(processes)]
    for process in running:
        process.start()
    doomed = rng.sample(range(processes), rng.randint(1, processes))
    moments = sorted((rng.uniform(0, over_s), number) for number in doomed)
    while any(process.is_alive() for process in running) and not any((out / "states").glob("*.json")):
        time.sleep(0.01)
    begun = time.monotonic()
    killed: dict[int, float] = {}
    for moment, number in moments:
        time.sleep(max(0.0, begun + moment - time.monotonic()))
        if running[number].is_alive():
            running[number].kill()
            killed[number] = round(time.monotonic() - begun, 2)
    for process in running:
        process.join()
    problems = [
        f"process {number} ended with {process.exitcode}"
        for number, process in enumerate(running)
        if number not in killed and process.exitcode != 0
    ]
    done = sum(state.status == "done" for state in Ledger(MaskFolder(out)).all())
    again = context.Process(target=segment, args=(folder, out))
    again.start()
    again.join()
    if again.exitcode != 0:
        problems.append(f"the rerun ended with {again.exitcode}")
    return Trial(
        killed=tuple(killed.get(number) for number in range(processes)),
        done_before=done,
        seconds=round(time.monotonic() - started, 1),
        problems=(*problems, *differences(alone, out)),
    )


def differences(alone: Path, out: Path) -> list[str]:
    """What two mask folders do not have in common, in words."""
    expected, found = _files(alone), _files(out)
    problems = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    problems += [f"{name} was left" for name in sorted(found.keys() - expected.keys())]
    shared = expected.keys() & found.keys()
    problems += [f"{name} differs" for name in sorted(shared) if expected[name] != found[name]]
    states = Ledger(MaskFolder(out)).all()
    problems += [f"{each.slide_id} is {each.status}" for each in states if each.status != "done"]
    hidden = [each for each in (out / "states").iterdir() if each.name.startswith(".")]
    return problems + [f"{each.name} was left" for each in hidden]


def _files(out: Path) -> dict[str, bytes]:
    """Files that a slide has, and tables, by their names."""
    names = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes() for name, path in names.items() if name.partition("/")[0] not in OF_A_CALL
    }


def main(arguments: list[str] | None = None) -> int:
    """Run trials; 1 where one is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.sharing", description=__doc__)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--slides", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="one row per trial")
    given = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="wsi-deform-sharing-") as name:
        folder = Path(name)
        prepare(folder, given.slides)
        segment(folder, folder / "warm")  # compiles
        started = time.monotonic()
        segment(folder, folder / "alone")
        alone_s = time.monotonic() - started
        print(f"alone: {given.slides} slides in {alone_s:.1f} s", flush=True)
        for number in range(given.trials):
            done = trial(
                folder,
                folder / f"out-{number}",
                folder / "alone",
                processes=given.processes,
                over_s=alone_s,
                seed=given.seed + number,
            )
            rows.append(done)
            said = "; ".join(done.problems) or "as alone"
            how_far = f"{done.done_before} of {given.slides} done before the rerun"
            print(
                f"trial {number}: killed at {done.killed} s, {how_far}, {done.seconds} s: {said}", flush=True
            )
    bad = sum(bool(row.problems) for row in rows)
    if given.csv:
        with given.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["trial", "killed_s", "done_before_rerun", "seconds", "problems"])
            for number, row in enumerate(rows):
                moments = " ".join("lived" if each is None else str(each) for each in row.killed)
                writer.writerow([number, moments, row.done_before, row.seconds, "; ".join(row.problems)])
    print(f"{given.trials - bad} of {given.trials} trials as a run alone")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
