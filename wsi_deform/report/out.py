"""The report of a mask folder: what was segmented, what failed, what the masks say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wsi_deform.anonymous import AS_THEY_ARE, LEFT_OUT, Names, without_files
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.measurements import read_measurements
from wsi_deform.drawing.figures import sampling_points_figure
from wsi_deform.errors import MaskError, WsiDeformError
from wsi_deform.evaluate.folder import evaluations_in
from wsi_deform.geometry import Mpp, Point, Size, both_axes
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.overlay_file import renamed_overlay
from wsi_deform.mask.samples import read_samples
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.redact import redacted_data
from wsi_deform.report.evaluated import evaluated_sections
from wsi_deform.report.files import duration, read_json
from wsi_deform.report.page import Fact, Picture, Section, write_report
from wsi_deform.report.pictures import slide_picture
from wsi_deform.report.tables import Table

REPORT = "report.html"
MAX_SLIDES = 12


def report_out(out: Path | str, *, max_slides: int = MAX_SLIDES, names: Names = AS_THEY_ARE) -> Path:
    """Write ``report.html`` into a mask folder.

    Args:
        out: What ``wsi-deform segment`` filled.
        max_slides: Of more finished slides, so many are shown, evenly spread; all are in the tables.
        names: What slides are called.

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
    facts = [Fact(value=str(len(done)), what="slides segmented")]
    if failed:
        facts.append(Fact(value=str(len(failed)), what="slides failed"))
    if other:
        facts.append(Fact(value=str(other), what="slides not finished"))
    facts += _costs(done)
    sections = []
    if failed:
        rows = tuple(
            (names.slide(state.slide_id), " ".join(state.error.split()) if names.are_shown else LEFT_OUT)
            for state in failed
        )
        sections.append(
            Section(
                title="What failed",
                table=Table(header=("slide", "reason"), rows=rows, is_text=True),
                quote={
                    f"traceback: {s.slide_id}": s.traceback for s in failed if s.traceback and names.are_shown
                },
            )
        )
    for place, evaluation in enumerate(evaluations_in(out)):
        parts, fact = evaluated_sections(evaluation, names)
        sections += parts
        facts.insert(place, fact)
    if folder.measurements.is_file():
        sections.append(Section(title="Measurements", table=_measurements(folder.measurements, names)))
    sections += [_slide_section(folder, state, names) for state in evenly(done, max_slides)]
    lead = [f"Masks of {len(states)} slides, made by wsi-deform {_by(done)}."]
    if len(done) > max_slides:
        lead.append(
            f"{max_slides} of the {len(done)} segmented slides are shown below, all are in the tables."
        )
    return write_report(
        out / REPORT,
        title=f"Segmented slides: {out.resolve().name}" if names.are_shown else "Segmented slides",
        lead=lead,
        facts=facts,
        sections=sections,
        provenance=_last_run(folder, names),
    )


def _by(done: Sequence[State]) -> str:
    """How the masks were made."""
    words = {
        "sampled": "from a few samples per slide",
        "patches": "from patches that cover the tissue (the baseline)",
        "edge oracle": "from samples placed by the slides' own labels: an oracle, for comparison and not for use",
    }
    methods = {state.method for state in done} or {"sampled"}
    return ", or ".join(text for method, text in words.items() if method in methods)


def evenly(states: Sequence[State], most: int) -> list[State]:
    """At most so many states, evenly spread, the first and the last among them."""
    if len(states) <= most:
        return list(states)
    return [states[place] for place in np.linspace(0, len(states) - 1, most).round().astype(int)]


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


def _measurements(path: Path, names: Names) -> Table:
    """Area of each class, one row per slide."""
    rows = read_measurements(path)
    classes = list(dict.fromkeys(row["class"] for row in rows))
    areas: dict[str, dict[str, str]] = {}
    for row in rows:
        share = f"{100 * float(row['share_of_slide']):.1f} %"
        area = f"{float(row['mm2']):.3g} mm², " if row["mm2"] else ""
        areas.setdefault(names.slide(row["slide"]), {})[row["class"]] = area + share
    return Table(
        header=("slide", *classes),
        rows=tuple((slide, *(own.get(name, "") for name in classes)) for slide, own in sorted(areas.items())),
    )


def _slide_section(folder: MaskFolder, state: State, names: Names) -> Section:
    """Overlay and sampling points of a slide; a file that is gone is said to be gone."""
    text = [
        f"{state.width_px:,} x {state.height_px:,} px"
        + (f" at {_shown_mpp(state)} µm per pixel" if state.mpp else "")
        + f"; {_looked_at(state)}, "
        f"{state.tiles:,} tile{'s' if state.tiles != 1 else ''} read, {duration(state.seconds)}."
    ]
    pictures = []
    overlay = folder.overlay(state.slide_id)
    if overlay.is_file():
        try:
            image = overlay.read_bytes() if names.are_shown else _renamed(overlay, state, names)
            pictures.append(Picture(image=image, caption="The mask over the slide."))
        except MaskError:
            text.append(f"The overlay is not shown: {LEFT_OUT}")
    if state.method == "patches":
        return Section(title=names.slide(state.slide_id), text=text, pictures=pictures)
    try:
        samples = read_samples(folder.samples(state.slide_id))
        try:
            picture, size = slide_picture(Path(state.slide), mpp=_mpp_of(state))
        except WsiDeformError as error:
            text.append(f"The slide itself is not shown: {error if names.are_shown else LEFT_OUT}")
            picture, size = _blank(samples.size), samples.size
        bar = scale_bar(size, _mpp_of(state))
        points = sampling_points_figure(picture, samples.points_px, size=size, bar=bar)
        pictures.append(Picture(image=points, caption="Where the slide was sampled."))
    except WsiDeformError as error:
        text.append(f"The sampling points are not shown: {error if names.are_shown else LEFT_OUT}")
    return Section(title=names.slide(state.slide_id), text=text, pictures=pictures)


def _renamed(overlay: Path, state: State, names: Names) -> bytes:
    """An overlay that has the id of a slide in place of its name."""
    both = both_axes(_mpp_of(state) or 1.0)
    aspect = state.width_px * both.x / max(1.0, state.height_px * both.y)
    return renamed_overlay(overlay, names.slide(state.slide_id), aspect=aspect)


def _mpp_of(state: State) -> Mpp | None:
    """The scale that a slide was segmented at."""
    return Point(*state.mpp_xy) if state.mpp_xy is not None and len(state.mpp_xy) == 2 else state.mpp


def _shown_mpp(state: State) -> str:
    """The same for people."""
    both = both_axes(_mpp_of(state) or 0.0)
    x, y = f"{both.x:.4g}", f"{both.y:.4g}"
    return x if x == y else f"{x} x {y}"


def _looked_at(state: State) -> str:
    """How the network saw a slide, in words."""
    many = "s" if state.fields != 1 else ""
    if state.method == "patches":
        return f"{state.fields:,} patch{'es' if many else ''} of {state.samples:,} pixels in all"
    said = f"{state.samples:,} samples in {state.fields} field{many}"
    return (
        f"edge oracle: {said}, placed by the labels of the slide itself"
        if state.method == "edge oracle"
        else said
    )


def _blank(size: Size, max_px: int = 1200) -> Any:
    """White paper in the shape of a slide."""
    scale = max_px / size.long
    shape = (max(1, round(size.height * scale)), max(1, round(size.width * scale)), 3)
    return np.full(shape, 255, np.uint8)


def _last_run(folder: MaskFolder, names: Names) -> dict[str, Any]:
    """What the newest record in ``runs/`` says."""
    records = sorted(folder.run("x").parent.glob("[!.]*.json"))
    if not records:
        return {}
    # Records of older versions may hold the secrets of URLs.
    record = redacted_data(read_json(records[-1]))
    about = {name: record[name] for name in ("model", "model_sha256", "device") if name in record}
    made = {"record": f"runs/{records[-1].name}", **about, **record.get("provenance", {})}
    return made if names.are_shown else without_files(made)
