"""Train the same tiny drawn study with two commits and hold their losses side by side.

    python -m pipelines.compare A B [--set key=value ...] [--tolerance 0]

The commits are checked out one after the other into a worktree that vanishes afterwards, and trained by this
interpreter with one thread on the CPU. The slides are drawn once, by the code that is running. Exit code 0: the curves
are equal within the tolerance; 1: they differ; 2: a commit cannot be checked out or trained.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size

ROOT = Path(__file__).parents[2]
CURVE = Path(__file__).with_name("curve.py")
SETTINGS = (
    "sampling.budget=[12, 24]",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 3, validate_every: 1, batch: 2, threads: 1}",
    "device=cpu",
)
TRAIN, VAL, TEST = 4, 1, 0
SIZE = Size(512, 256)
EQUAL, DIFFERENT, FAILED = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare two commits; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.compare", description=__doc__.splitlines()[0])
    parser.add_argument(
        "commits", nargs=2, metavar="COMMIT", help="anything that git knows: HEAD~3, a tag, a hash"
    )
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--tolerance", type=float, default=0.0, help="largest difference of losses and mIoU; default 0"
    )
    parser.add_argument("--repository", type=Path, default=ROOT)
    settings = parser.parse_args(arguments)
    try:
        one, two = curves(settings.repository, settings.commits, settings.changes)
    except subprocess.CalledProcessError as error:
        print(f"{' '.join(map(str, error.cmd))}:\n{error.stderr}", file=sys.stderr)
        return FAILED
    print(table(settings.commits, one["epochs"], two["epochs"]))
    step, most = first_difference(one["steps"], two["steps"], settings.tolerance)
    if step is not None:
        print(f"Losses differ by more than {settings.tolerance:g} from {step} on; at most by {most:.3g}.")
        return DIFFERENT
    if not scores_agree(one["epochs"], two["epochs"], settings.tolerance):
        print(
            f"Losses of all steps agree (at most {most:.3g} apart), but mIoU or the losses of epochs do not."
        )
        return DIFFERENT
    print(f"All {len(one['steps'])} steps agree: losses at most {most:.3g} apart.")
    return EQUAL


def curves(repository: Path, commits: Sequence[str], changes: Sequence[str]) -> list[dict[str, Any]]:
    """What training with each of some commits gives.

    Raises:
        CalledProcessError: A commit is unknown or cannot be trained; ``stderr`` says why.
    """
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        folder = Path(name)
        draw_study(folder / "study", train=TRAIN, val=VAL, test=TEST, size=SIZE)
        found = []
        hashes = [_git(repository, "rev-parse", "--verify", f"{each}^{{commit}}") for each in commits]
        # One worktree for both: what numba compiled of files that did not change is used again.
        with worktree(repository, hashes[0], folder / "tree") as tree:
            for number, commit in enumerate(hashes):
                _git(tree, "checkout", "--detach", commit)
                found.append(_trained(tree, folder, f"{number}", [*SETTINGS, *changes]))
        return found


@contextmanager
def worktree(repository: Path, commit: str, tree: Path) -> Iterator[Path]:
    """A worktree that vanishes afterwards."""
    _git(repository, "worktree", "add", "--detach", str(tree), commit)
    try:
        yield tree
    finally:
        _git(repository, "worktree", "remove", "--force", str(tree))


def _trained(tree: Path, folder: Path, name: str, settings: Sequence[str]) -> dict[str, Any]:
    """Train with the package of a worktree."""
    out = folder / f"{name}.json"
    subprocess.run(
        [sys.executable, str(CURVE), str(folder / "study"), str(folder / f"run-{name}"), str(out), *settings],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    if Path(found["package"]) != tree / "wsi_deform":
        raise subprocess.CalledProcessError(
            1, str(CURVE), stderr=f"{found['package']} was trained. Needed {tree / 'wsi_deform'}."
        )
    return found


def first_difference(
    one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]], tolerance: float
) -> tuple[str | None, float]:
    """The first step whose losses differ by more than the tolerance, in words, and the largest difference of all."""
    first, most = None, 0.0
    for mine, other in zip(one, two, strict=False):
        apart = abs(mine["loss"] - other["loss"])
        most = max(most, apart)
        # Also where one of them is not a number.
        if first is None and not apart <= tolerance:
            first = f"epoch {mine['epoch'] + 1}, step {mine['step']}"
    if first is None and len(one) != len(two):
        first = (
            f"step {min(len(one), len(two)) + 1} of all (one run has {len(one)} steps, the other {len(two)})"
        )
    return first, most


def scores_agree(one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]], tolerance: float) -> bool:
    """Whether the epochs of two runs have the same numbers within the tolerance."""
    return len(one) == len(two) and all(
        mine.keys() == other.keys() and all(abs(mine[name] - other[name]) <= tolerance for name in mine)
        for mine, other in zip(one, two, strict=True)
    )


def table(commits: Sequence[str], one: Sequence[dict[str, Any]], two: Sequence[dict[str, Any]]) -> str:
    """Losses and mIoU of two runs side by side, in Markdown."""
    first, second = commits
    lines = [
        f"| epoch | loss {first} | loss {second} | difference | mIoU {first} | mIoU {second} | difference |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for number, (mine, other) in enumerate(zip(one, two, strict=False), start=1):
        cells = [cell for name in ("loss", "val_miou") for cell in _cells(mine.get(name), other.get(name))]
        lines.append(f"| {number} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(mine: float | None, other: float | None) -> list[str]:
    if mine is None or other is None:
        return ["" if mine is None else f"{mine:.6f}", "" if other is None else f"{other:.6f}", ""]
    return [f"{mine:.6f}", f"{other:.6f}", f"{other - mine:+.2g}"]


def _git(repository: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()
