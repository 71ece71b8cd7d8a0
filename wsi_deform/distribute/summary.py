"""What is in the folder and what a call did: ``summary.md`` for people, ``runs/<time>.json`` for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.ledger import State
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.files import write_json, write_text
from wsi_deform.mask.folder import MaskFolder

HEADER = "| slide | state | seconds | size, px | um/px | fields | samples | tiles read | remark |"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """How a call ended.

    Attributes:
        job: Any of its jobs; they share model and device.
        outcomes: The slides that were settled, in order.
        left: Slides that it did not come to.
        complete: False after an interrupt, and while it goes on.
        is_running: Whether it goes on.
    """

    job: SlideJob
    outcomes: tuple[Outcome, ...]
    left: tuple[str, ...]
    complete: bool
    is_running: bool = False


def write_record(path: Path, report: BatchReport, about: Mapping[str, Any]) -> None:
    """Write the record of a call.

    Args:
        path: The file in ``runs/``.
        report: How it ended.
        about: Its provenance.
    """
    record = {
        "provenance": dict(about),
        "complete": report.complete,
        "model": str(report.job.model),
        "model_sha256": report.job.model_sha256,
        "device": report.job.device,
        "slides": [
            {
                "slide_id": outcome.slide_id,
                "slide": str(outcome.slide),
                "outcome": outcome.status,
                "reason": outcome.reason,
                "method": outcome.state.method,
                "seconds": outcome.state.seconds,
                "fields": outcome.state.fields,
                "samples": outcome.state.samples,
                "tiles": outcome.state.tiles,
                "blank_tiles": outcome.state.blank_tiles,
                "blank_pixels": outcome.state.blank_pixels,
            }
            for outcome in report.outcomes
        ],
        "left": list(report.left),
    }
    write_json(path, record)


def write_summary(folder: MaskFolder, report: BatchReport, states: Sequence[State], record: Path) -> None:
    """Write the summary of a folder: how far all of its slides are, and what the last call did.

    Args:
        folder: The mask folder.
        report: How the call ended.
        states: Of all slides of the folder.
        record: The file in ``runs/`` with all details.
    """
    kinds = ("done", "skipped", "failed")
    counts = [f"{sum(o.status == kind for o in report.outcomes)} {kind}" for kind in kinds]
    if report.left:
        counts.append(f"{len(report.left)} {'to go' if report.is_running else 'not reached'}")
    own = {outcome.slide_id: outcome for outcome in report.outcomes}
    # What could not be given a state of its own stands only among the outcomes.
    stateless = [o.state for o in report.outcomes if o.slide_id not in {state.slide_id for state in states}]
    everything = [*states, *stateless]
    lines = ["# Segmented slides", "", f"In this folder: {_totals(everything)}.", ""]
    call = "A call goes on" if report.is_running else "Last call"
    lines += [f"{call}: {', '.join(counts)}.", ""]
    lines += [f"Model: `{report.job.model}`. Details: `runs/{record.name}`.", ""]
    if report.left and not report.is_running:
        lines += [f"Stopped before: {', '.join(report.left)}. The same command goes on.", ""]
    others = [
        state.slide_id
        for state in states
        if state.result is not None
        and state.result.model != report.job.model_sha256
        and folder.mask(state.slide_id).is_file()
    ]
    if others:
        lines += [f"Masks of another model lie in this folder: {', '.join(others)}.", ""]
    lines += _left_out(everything)
    lines += _methods(everything)
    lines += [HEADER, "|" + " --- |" * (HEADER.count("|") - 1)]
    # What failed comes first: it is what the reader must act on.
    rows = sorted(everything, key=lambda state: state.status != "failed")
    lines += [_row(state, own.get(state.slide_id)) for state in rows]
    write_text(folder.summary, "\n".join(lines) + "\n")


def _left_out(states: Sequence[State]) -> list[str]:
    """Which masks lack what could not be read of their slides."""
    found = [state.result for state in states if state.result is not None and state.result.blank_tiles]
    if not found:
        return []
    each = [f"{one.slide_id} ({one.blank_tiles} tiles, {one.blank_pixels:,} level-0 px)" for one in found]
    return [
        f"Tiles that could not be decoded were left out, and are unlabelled (255), of: {', '.join(each)}.",
        "",
    ]


def _methods(states: Sequence[State]) -> list[str]:
    """Which masks were made otherwise than by sampling alone, a paragraph each."""
    said = {
        "edge oracle": "Edge oracle, sampled where the labels of the slide itself have borders (for comparison, not "
        "for use)",
        "block oracle": "Block oracle, read closely where the labels of the slide itself have several classes (for "
        "comparison, not for use)",
        "blocks": "Read in blocks, of several levels (the samples below are labels, each of some pixels of the finest)",
        "groups": "Groups of look-alike tissue, found without labels in blocks of several levels (no diagnosis, and no "
        "class that anyone has named; the samples below are labels, each of some pixels of the finest level)",
        "patches": "Patches, all of whose pixels the network saw (the samples below are their pixels)",
    }
    lines = []
    for method, words in said.items():
        of = [state.slide_id for state in states if state.result and state.result.method == method]
        lines += [f"{words}: {', '.join(of)}.", ""] if of else []
    return lines


def _totals(states: Sequence[State]) -> str:
    """How many slides are in which state, in words."""
    counts = {"done": 0, "failed": 0}
    for state in states:
        counts[state.status] = counts.get(state.status, 0) + 1
    open_ones = counts.get("running", 0) + counts.get("not_started", 0)
    remarks = sum(state.status == "done" and bool(state.remark) for state in states)
    done = f"{counts['done']} done" + (f" ({remarks} with remarks)" if remarks else "")
    words = [done, f"{counts['failed']} failed"]
    return ", ".join(words + ([f"{open_ones} not finished"] if open_ones else []))


def _row(state: State, outcome: Outcome | None) -> str:
    shown = state.result or state
    known = shown.status == "done"
    size = f"{shown.width_px} x {shown.height_px}"
    cells = [
        state.slide_id,
        f"**{state.status}**" if state.status == "failed" else state.status.replace("_", " "),
        f"{shown.seconds:.1f}",
        size if known else "",
        ("unknown" if shown.mpp is None else f"{shown.mpp:.4g}") if known else "",
        *(str(number) if known else "" for number in (shown.fields, shown.samples, shown.tiles)),
        _remark(state, outcome),
    ]
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _remark(state: State, outcome: Outcome | None) -> str:
    """What a reader must know of a slide."""
    parts = [outcome.reason if outcome is not None else state.error or state.remark]
    if state.status != "done" and state.kept is not None:
        parts.append("the files of an earlier run are kept")
    if state.status == "done" and state.earlier:
        parts.append(f"{', '.join(sorted(state.earlier))} kept from an earlier run, not made with this mask")
    return "; ".join(part for part in parts if part)


def _cell(text: str) -> str:
    """Text that stays inside its cell."""
    return " ".join(text.split()).replace("|", "\\|")
