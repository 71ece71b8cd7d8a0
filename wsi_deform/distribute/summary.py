"""What a call leaves about itself: ``summary.md`` for people, ``runs/<time>.json`` for programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.provenance import write_json, write_text

HEADER = "| slide | outcome | seconds | size, px | um/px | fields | samples | tiles read | reason |"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a call ended.

    Attributes:
        job: Any of its jobs; they share model and device.
        outcomes: The slides that were settled, in order.
        left: Slides that it did not come to.
        others: Slides of the folder whose masks another model made.
        complete: False after an interrupt.
    """

    job: SlideJob
    outcomes: tuple[Outcome, ...]
    left: tuple[str, ...]
    others: tuple[str, ...]
    complete: bool


def write_record(path: Path, ended: Ended, about: Mapping[str, Any]) -> None:
    """Write the record of a call.

    Args:
        path: The file in ``runs/``.
        ended: How it ended.
        about: Its provenance.
    """
    record = {
        "provenance": dict(about),
        "complete": ended.complete,
        "model": str(ended.job.model),
        "model_sha256": ended.job.model_sha256,
        "device": ended.job.device,
        "slides": [
            {
                "slide_id": outcome.slide_id,
                "slide": str(outcome.slide),
                "outcome": outcome.status,
                "reason": outcome.reason,
                "seconds": outcome.state.seconds,
                "fields": outcome.state.fields,
                "samples": outcome.state.samples,
                "tiles": outcome.state.tiles,
            }
            for outcome in ended.outcomes
        ],
        "left": list(ended.left),
    }
    write_json(path, record)


def write_summary(path: Path, ended: Ended, record: Path) -> None:
    """Write the summary of a call.

    Args:
        path: The file.
        ended: How it ended.
        record: The file in ``runs/`` with all details.
    """
    kinds = ("done", "skipped", "failed")
    counts = [f"{sum(o.status == kind for o in ended.outcomes)} {kind}" for kind in kinds]
    if ended.left:
        counts.append(f"{len(ended.left)} not reached")
    lines = ["# Segmented slides", "", ", ".join(counts) + ".", ""]
    lines += [f"Model: `{ended.job.model}`. Details: `runs/{record.name}`.", ""]
    if ended.left:
        lines += [f"Stopped before: {', '.join(ended.left)}. The same command goes on.", ""]
    if ended.others:
        lines += [f"Masks of another model lie in this folder: {', '.join(ended.others)}.", ""]
    lines += [HEADER, "|" + " --- |" * (HEADER.count("|") - 1)]
    # What failed comes first: it is what the reader must act on.
    lines += [_row(outcome) for outcome in sorted(ended.outcomes, key=lambda o: o.status != "failed")]
    write_text(path, "\n".join(lines) + "\n")


def _row(outcome: Outcome) -> str:
    state = outcome.state
    known = state.status == "done"
    size = f"{state.width_px} x {state.height_px}"
    cells = [
        outcome.slide_id,
        f"**{outcome.status}**" if outcome.status == "failed" else outcome.status,
        f"{state.seconds:.1f}",
        size if known else "",
        ("unknown" if state.mpp is None else f"{state.mpp:.4g}") if known else "",
        *(str(number) if known else "" for number in (state.fields, state.samples, state.tiles)),
        outcome.reason,
    ]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _cell(text: str) -> str:
    """Text that stays inside its cell."""
    return " ".join(text.split()).replace("|", "\\|")
