"""Many slides: skip what is done, do the rest here or on workers, and say how it went."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from wsi_deform.annotation.classes import ClassTable, read_class_table, write_class_table
from wsi_deform.distribute.job import SlideJob, loaded_model, model_sha256, segment_to_folder, torch_device
from wsi_deform.distribute.ledger import Ledger, State, is_being_done
from wsi_deform.distribute.measurements import write_measurements
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.distribute.summary import write_summary
from wsi_deform.distribute.workers import segmented_by_workers
from wsi_deform.errors import MaskError, ModelError, SlideError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import find_model
from wsi_deform.provenance import provenance, write_json

MOST_MASK_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one call did with one slide.

    Attributes:
        slide_id: The slide.
        slide: Its path.
        status: "done" now, "skipped" because it needed no work or another process does it, or "failed".
        reason: Why it was skipped or failed; empty when it was done.
        state: What the ledger says of it.
    """

    slide_id: str
    slide: Path
    status: Literal["done", "skipped", "failed"]
    reason: str
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one call did.

    Attributes:
        out: The mask folder.
        outcomes: One per slide, in the order of the slides; those that an interrupt left are missing.
        record: The file in ``runs/``.
    """

    out: Path
    outcomes: tuple[Outcome, ...]
    record: Path

    def of(self, status: Literal["done", "skipped", "failed"]) -> tuple[Outcome, ...]:
        """The outcomes of one kind."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)


class Watcher(Protocol):
    """Who is told how the batch goes; the command line draws progress bars with it."""

    def start(self, *, slides: int) -> None:
        """The batch starts."""
        ...

    def slide(self, slide_id: str) -> None:
        """Work on a slide starts (not told for slides that workers do)."""
        ...

    def field(self, done: int, total: int) -> None:
        """A field of that slide is done."""
        ...

    def outcome(self, outcome: Outcome) -> None:
        """A slide is settled."""
        ...


class Quiet:
    """Watches nothing."""

    def start(self, *, slides: int) -> None:
        """Ignore."""

    def slide(self, slide_id: str) -> None:
        """Ignore."""

    def field(self, done: int, total: int) -> None:
        """Ignore."""

    def outcome(self, outcome: Outcome) -> None:
        """Ignore."""


def segment_slides(
    sources: Sequence[SlideSource],
    model: Path,
    out: Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    watcher: Watcher | None = None,
    command: Sequence[str] | None = None,
) -> Batch:
    """Segment slides into a mask folder; goes on where an earlier call stopped.

    A slide that an earlier call finished with the same model is skipped. One that cannot be segmented is recorded with
    its reason, and the others are done all the same. ``measurements.csv``, ``summary.md`` and the record in ``runs/`` are written
    at the end, also after an interrupt.

    Args:
        sources: The slides, each with an id of its own.
        model: A run folder of `train`, or a ``.safetensors`` file.
        out: The mask folder; made if missing.
        device: "auto", or a torch device.
        overwrite: Segment again what is done.
        workers: Processes on this machine; 1 works in this one.
        scheduler: Address of a dask scheduler whose workers shall do the slides; they see the same paths.
        watcher: Told how it goes.
        command: The command line, for the record.

    Returns:
        What happened to each slide.

    Raises:
        ModelError: The model cannot be used, or ``out`` holds masks of other classes.
        MaskError: ``out`` cannot be written.
        SlideError: There are no slides, or the scheduler cannot be reached.
    """
    if not sources:
        raise SlideError("no slides were given. Needed one or more.")
    watcher = watcher or Quiet()
    folder = MaskFolder(out.absolute())
    ledger = Ledger(folder)
    path = find_model(model).absolute()
    sha256 = model_sha256(path)
    # A scheduler's workers choose for themselves; here the device must be there before anything is written.
    chosen = device if scheduler else torch_device(device)
    classes = loaded_model(path, sha256, "cpu" if scheduler else chosen).classes
    about = provenance(command=command)
    versions = {"wsi_deform": about["wsi_deform"], "python": about["python"], **about["packages"]}
    _prepare(folder, classes)
    cores = os.cpu_count() or 1
    jobs = [
        SlideJob(
            source=replace(source, path=source.path.absolute()),
            model=path,
            model_sha256=sha256,
            out=folder.path,
            device=chosen,
            threads=max(1, min(MOST_MASK_THREADS, cores // workers)),
            versions=versions,
        )
        for source in sources
    ]
    outcomes: dict[str, Outcome] = {}

    def settle(outcome: Outcome) -> None:
        outcomes[outcome.slide_id] = outcome
        watcher.outcome(outcome)

    watcher.start(slides=len(jobs))
    with _recorded(ledger, jobs, outcomes, classes, about) as record:
        waiting = []
        for job in jobs:
            outcome = None if overwrite else _skipped(ledger, job)
            if outcome is not None:
                settle(outcome)
                continue
            waiting.append(job)
            # A mask of another model stays one until its turn comes.
            if ledger.read(job.slide_id).status != "done":
                ledger.write(State(slide_id=job.slide_id, slide=str(job.source.path)))
        for job, state in _states(waiting, workers, scheduler, watcher):
            if state.status == "failed":
                ledger.write(state)  # a worker that was killed could not
            status: Literal["done", "failed"] = "done" if state.status == "done" else "failed"
            settle(
                Outcome(
                    slide_id=job.slide_id,
                    slide=job.source.path,
                    status=status,
                    reason=state.error,
                    state=state,
                )
            )
    return Batch(out=out, outcomes=_in_order(jobs, outcomes), record=record)


def _states(
    jobs: Sequence[SlideJob], workers: int, scheduler: str | None, watcher: Watcher
) -> Iterator[tuple[SlideJob, State]]:
    """Do the jobs, here or on workers; each with its new state, as they end."""
    if scheduler is not None or (workers > 1 and len(jobs) > 1):
        yield from segmented_by_workers(jobs, workers=workers, scheduler=scheduler)
        return
    for job in jobs:
        watcher.slide(job.slide_id)
        yield job, segment_to_folder(job, watcher.field)


def _skipped(ledger: Ledger, job: SlideJob) -> Outcome | None:
    """The outcome of a slide that needs no work, else None."""
    state = ledger.read(job.slide_id)
    if ledger.is_done(state, job.fingerprint()):
        reason = "already done with this model"
    elif is_being_done(state):
        reason = f"process {state.pid} on this machine is working on it"
    else:
        return None
    return Outcome(slide_id=job.slide_id, slide=job.source.path, status="skipped", reason=reason, state=state)


def _prepare(folder: MaskFolder, classes: ClassTable) -> None:
    """Make the folder and its class table; masks of other classes must not come to lie beside these."""
    if folder.classes.exists():
        held = read_class_table(folder.classes)
        if held.names != classes.names:
            raise ModelError(
                f"{folder.classes}: classes {', '.join(held.names)}; the model has {', '.join(classes.names)}. Needed the same "
                "for all masks of a folder. Choose another --out, or delete the folder."
            )
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_class_table(classes, folder.classes)
    except OSError as error:
        raise MaskError(
            f"output folder {folder.path}: cannot be written ({error}). Choose a folder that can, with --out."
        ) from error


@contextmanager
def _recorded(
    ledger: Ledger,
    jobs: Sequence[SlideJob],
    outcomes: Mapping[str, Outcome],
    classes: ClassTable,
    about: Mapping[str, Any],
) -> Iterator[Path]:
    """Write tables and record when the block ends, however it ends."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    record, again = ledger.folder.run(stamp), 1
    while record.exists():
        record, again = ledger.folder.run(f"{stamp}-{again}"), again + 1
    complete = False
    try:
        yield record
        complete = True
    finally:
        settled = _in_order(jobs, outcomes)
        states = ledger.all()
        # A mask that somebody removed is not measured.
        present = [state for state in states if ledger.folder.mask(state.slide_id).is_file()]
        write_measurements(ledger.folder, present, classes)
        write_json(record, _record(settled, jobs, about, complete=complete))
        others = [
            state.slide_id
            for state in present
            if state.status == "done" and state.model != jobs[0].model_sha256
        ]
        rows = [(o.slide_id, o.status, o.reason, o.state) for o in settled]
        left = [job.slide_id for job in jobs if job.slide_id not in outcomes]
        write_summary(ledger.folder, rows, model=jobs[0].model, record=record, left=left, others=others)


def _record(
    outcomes: Sequence[Outcome], jobs: Sequence[SlideJob], about: Mapping[str, Any], *, complete: bool
) -> dict[str, Any]:
    """What ``runs/<time>.json`` says."""
    return {
        "provenance": dict(about),
        "complete": complete,
        "model": str(jobs[0].model),
        "model_sha256": jobs[0].model_sha256,
        "device": jobs[0].device,
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
            for outcome in outcomes
        ],
        "left": [job.slide_id for job in jobs if job.slide_id not in {o.slide_id for o in outcomes}],
    }


def _in_order(jobs: Sequence[SlideJob], outcomes: Mapping[str, Outcome]) -> tuple[Outcome, ...]:
    return tuple(outcomes[job.slide_id] for job in jobs if job.slide_id in outcomes)
