"""The report of a mask folder: what was segmented, what failed, what the masks say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wsi_deform.anonymous import AS_THEY_ARE, LEFT_OUT, Names, without_files
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.measurements import read_measurements
from wsi_deform.distribute.records import newest_record
from wsi_deform.errors import MaskError
from wsi_deform.evaluate.folder import evaluations_in
from wsi_deform.manifest.rows import Manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.redact import redacted_data
from wsi_deform.report.cells import left_out
from wsi_deform.report.evaluated import evaluated_sections, read_evaluation
from wsi_deform.report.files import duration
from wsi_deform.report.page import Fact, Section, write_report
from wsi_deform.report.shown_slides import MAX_SLIDES, choose, slide_section
from wsi_deform.report.tables import Table

REPORT = "report.html"
FAILURES_SHOWN, TRACEBACKS_SHOWN, ROWS_SHOWN = 50, 10, 100
FOLDED_FROM = 20
"""Tables with more rows are hidden until they are asked for."""


def report_out(
    out: Path | str,
    *,
    max_slides: int = MAX_SLIDES,
    names: Names = AS_THEY_ARE,
    page: Path | None = None,
    figures: Path | None = None,
    manifest: Manifest | None = None,
) -> Path:
    """Write the page of a mask folder.

    Args:
        out: What ``wsi-deform segment`` filled.
        max_slides: Of more finished slides, so many are shown: the worst and the best where they were evaluated, else
            evenly spread ones.
        names: What slides are called.
        page: Where to; None is ``report.html`` in the folder.
        figures: A folder that gets the figures as PNG and SVG, or None.
        manifest: Slides with labels, to show these beside the masks; None shows none.

    Returns:
        The path of the report.

    Raises:
        MaskError: The folder is missing, or no slide was segmented into it yet.
    """
    out = Path(out)
    folder = MaskFolder(out)
    states = Ledger(folder).all() if folder.states.is_dir() else []
    if not states:
        found = "no slides in it" if out.is_dir() else "no such folder"
        raise MaskError(
            f"mask folder {out}: {found}. Needed the --out of `wsi-deform segment`. Segment first."
        )
    states.sort(key=lambda state: names.slide(state.slide_id))  # their order shall tell nothing of names
    # A slide whose newest attempt failed still has the files of an earlier one.
    done = [state.result for state in states if state.result is not None]
    failed = [state for state in states if state.status == "failed"]
    other = sum(state.result is None and state.status != "failed" for state in states)
    facts = [Fact(value=f"{len(done):,}", what="slides segmented")]
    if failed:
        facts.append(Fact(value=f"{len(failed):,}", what="slides failed"))
    if other:
        facts.append(Fact(value=f"{other:,}", what="slides not finished"))
    facts += _costs(done)
    sections = failures(failed, names)
    evaluations = evaluations_in(out)
    for place, evaluation in enumerate(evaluations):
        parts, fact = evaluated_sections(evaluation, names)
        sections += parts
        facts.insert(place, fact)
    measured = read_evaluation(evaluations[0]) if evaluations else None
    # An evaluation that is anonymous has other names than the folder.
    shown, why = choose(done, measured, max_slides)
    if shown:
        rows = None if manifest is None else {row.slide_id: row for row in manifest.rows}
        sections.append(Section(title="Slides", text=[why] if why else []))
        sections += [slide_section(folder, each, names, rows) for each in shown]
    if folder.measurements.is_file():
        sections.append(_measurements(folder.measurements, names))
    lead = [f"Masks of {len(states):,} slides, made by wsi-deform {_by(done)}."]
    return write_report(
        page or out / REPORT,
        title=f"Segmented slides: {out.resolve().name}" if names.are_shown else "Segmented slides",
        lead=lead,
        facts=facts,
        sections=sections,
        provenance=out_provenance(folder, names, [measured] if measured else []),
        figures=figures,
    )


def failures(failed: Sequence[State], names: Names, *, title: str = "What failed") -> list[Section]:
    """The slides whose newest attempt failed, with their reasons; of very many the first."""
    if not failed:
        return []
    rows = tuple(
        (names.slide(state.slide_id), " ".join(state.error.split()) if names.are_shown else LEFT_OUT)
        for state in failed[:FAILURES_SHOWN]
    )
    traced = [state for state in failed if state.traceback and names.are_shown]
    return [
        Section(
            title=title,
            table=Table(header=("slide", "reason"), rows=rows, is_text=True),
            notes=left_out(len(rows), len(failed), "failures", "the folder states"),
            quote={f"traceback: {each.slide_id}": each.traceback for each in traced[:TRACEBACKS_SHOWN]},
        )
    ]


def _by(done: Sequence[State]) -> str:
    """How the masks were made."""
    words = {
        "sampled": "from a few samples per slide",
        "blocks": "from blocks, some of which are read more closely",
        "groups": "of groups of look-alike tissue, found without labels: no diagnosis",
        "patches": "from patches that cover the tissue (the baseline)",
        "edge oracle": "from samples placed by the slides' own labels: an oracle, for comparison and not for use",
        "block oracle": "from blocks that the slides' own labels choose: an oracle, for comparison and not for use",
    }
    methods = {state.method for state in done} or {"sampled"}
    return ", or ".join(text for method, text in words.items() if method in methods)


def _costs(done: Sequence[State]) -> list[Fact]:
    """How little was read and how long it took."""
    samples, pixels = sum(state.samples for state in done), sum(s.width_px * s.height_px for s in done)
    if not samples:
        return []
    seconds = sum(state.seconds for state in done)
    return [
        Fact(
            # Patches overlap, and may hold more pixels than the slide.
            value=f"1 / {pixels / samples:,.0f}" if pixels > 1.5 * samples else f"{samples / pixels:.2f}",
            what="samples taken / pixels of the slides",
        ),
        Fact(value=f"{samples / len(done):,.0f}", what="samples per slide"),
        Fact(value=f"{sum(state.tiles for state in done) / len(done):,.0f}", what="tiles read per slide"),
        Fact(value=duration(seconds / len(done)), what="per slide"),
    ]


def _measurements(path: Path, names: Names) -> Section:
    """Area of each class, one row per slide."""
    rows = read_measurements(path)
    classes = list(dict.fromkeys(row["class"] for row in rows))
    areas: dict[str, dict[str, str]] = {}
    for row in rows:
        share = f"{100 * float(row['share_of_slide']):.1f} %"
        area = f"{float(row['mm2']):.3g} mm²\n" if row["mm2"] else ""
        areas.setdefault(names.slide(row["slide"]), {})[row["class"]] = area + share
    shown = sorted(areas.items())[:ROWS_SHOWN]
    return Section(
        title="Measurements",
        text=["Area of each class, and its share of the slide."],
        table=Table(
            header=("slide", *classes),
            rows=tuple((slide, *(own.get(name, "") for name in classes)) for slide, own in shown),
        ),
        notes=left_out(len(shown), len(areas), "slides", path.name),
        folded=len(shown) > FOLDED_FROM,
    )


def out_provenance(
    folder: MaskFolder, names: Names, evaluations: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """What the newest record in ``runs/`` that can be read says, which newer ones cannot, and how it was evaluated."""
    made: dict[str, Any] = {}
    record, broken = newest_record(folder)
    if record is not None:
        about = {
            name: record.data[name] for name in ("model", "model_sha256", "device") if name in record.data
        }
        made = {"record": f"runs/{record.name}", **about, **record.data.get("provenance", {})}
    made = made if names.are_shown else without_files(made)
    if broken:
        # Of the call that was cut off as it wrote it; it tells nothing of a slide.
        made["records that cannot be read"] = [f"runs/{each.name}: {each.why}" for each in broken]
    for data in evaluations:
        found = redacted_data(data.get("provenance"))
        evaluated = found if isinstance(found, dict) else {}
        kept = {
            name: evaluated[name]
            for name in ("wsi_deform", "time_utc", "git", "command")
            if name in evaluated
        }
        if kept:
            made["evaluated"] = kept if names.are_shown else without_files(kept)
    return made
