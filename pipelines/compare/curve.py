"""Train a drawn study with whatever ``wsi_deform`` is on the path, and write down every loss.

    python curve.py STUDY RUN OUT.json [key=value ...]

Runs in the checkout of another commit: it uses nothing but names that all commits have.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import wsi_deform
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.config import read_config
from wsi_deform.manifest.read import read_manifest
from wsi_deform.train.loop import train

SCORES = ("loss", "val_miou")


class Recorder:
    """A watcher that writes down what it is told, whatever else a commit tells it."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.epochs: list[dict[str, Any]] = []

    def start(self, **facts: Any) -> None:
        """Ignore."""

    def step(self, **facts: Any) -> None:
        """Keep the loss of a step."""
        self.steps.append({name: facts[name] for name in ("epoch", "step", "loss")})

    def epoch(self, row: dict[str, Any]) -> None:
        """Keep loss and mIoU of an epoch."""
        self.epochs.append({name: row[name] for name in SCORES if name in row})


def main(arguments: list[str]) -> None:
    """Train and write."""
    study, run, out = (Path(each) for each in arguments[:3])
    recorder = Recorder()
    train(
        read_config(changes=arguments[3:]),
        read_manifest(study / "manifest.csv"),
        read_class_table(study / "classes.yaml"),
        run,
        watcher=recorder,
    )
    found = {
        "package": str(Path(wsi_deform.__file__).parent),
        "steps": recorder.steps,
        "epochs": recorder.epochs,
    }
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
