"""``summary.md``: what the last call did, for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsi_deform.distribute.ledger import State
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.provenance import write_text

HEADER = "| slide | outcome | seconds | size, px | um/px | fields | samples | tiles read | reason |"


def write_summary(
    folder: MaskFolder,
    rows: Sequence[tuple[str, str, str, State]],
    *,
    model: Path,
    record: Path,
    left: Sequence[str],
    others: Sequence[str],
) -> None:
    """Write the summary of a call.

    Args:
        folder: The mask folder.
        rows: Slide id, outcome (done, skipped, failed), reason and state of each slide.
        model: The model.
        record: The file in ``runs/`` with all details.
        left: Slides that the call did not come to.
        others: Slides of the folder whose masks another model made.
    """
    counts = {kind: sum(1 for row in rows if row[1] == kind) for kind in ("done", "skipped", "failed")}
    lines = [
        "# Segmented slides",
        "",
        f"{counts['done']} done, {counts['skipped']} skipped, {counts['failed']} failed"
        + (f", {len(left)} not reached" if left else "")
        + ".",
        "",
        f"Model: `{model}`. Details: `runs/{record.name}`.",
        "",
    ]
    if left:
        lines += [f"Stopped before: {', '.join(left)}. The same command goes on.", ""]
    if others:
        lines += [f"Masks of another model lie in this folder: {', '.join(others)}.", ""]
    lines += [HEADER, "|" + " --- |" * (HEADER.count("|") - 1)]
    # What failed comes first: it is what the reader must act on.
    for slide_id, outcome, reason, state in sorted(rows, key=lambda row: row[1] != "failed"):
        known = state.status == "done"
        cells = [
            slide_id,
            f"**{outcome}**" if outcome == "failed" else outcome,
            f"{state.seconds:.1f}",
            f"{state.width_px} x {state.height_px}" if known else "",
            ("unknown" if state.mpp is None else f"{state.mpp:.4g}") if known else "",
            *(str(number) if known else "" for number in (state.fields, state.samples, state.tiles)),
            reason,
        ]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    write_text(folder.summary, "\n".join(lines) + "\n")


def _cell(text: str) -> str:
    """Text that stays inside its cell."""
    return " ".join(text.split()).replace("|", "\\|")
