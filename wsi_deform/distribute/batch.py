"""Many slides: skip what is done, do the rest here or on workers, and say how it went."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsi_deform.annotation.classes import ClassTable, read_class_table, write_class_table
from wsi_deform.distribute.job import SlideJob, loaded_model, model_sha256, segment_to_folder
from wsi_deform.distribute.ledger import Ledger, State, is_being_done
from wsi_deform.distribute.measurements import write_measurements
from wsi_deform.distribute.outcome import Batch, Outcome, OutcomeStatus, Quiet, Watcher
from wsi_deform.distribute.outputs import WantedOutputs
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.distribute.summary import Ended, write_record, write_summary
from wsi_deform.distribute.workers import segmented_by_workers
from wsi_deform.errors import MaskError, ModelError, SlideError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import device_name, find_model
from wsi_deform.provenance import provenance


def segment_slides(
    sources: Sequence[SlideSource],
    model: Path,
    out: Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    wanted: WantedOutputs = WantedOutputs(),
    fields: int = 1,
    memory_gib: float | None = None,
    watcher: Watcher | None = None,
    command: Sequence[str] | None = None,
) -> Batch:
    """Segment slides into a mask folder; goes on where an earlier call stopped.

    A slide that an earlier call finished with the same model is skipped. One that cannot be segmented is
    recorded with its reason, and the others are done all the same. ``measurements.csv``, ``summary.md`` and
    the record in ``runs/`` are written at the end, also after an interrupt.

    Args:
        sources: The slides, each with an id of its own.
        model: A run folder of `train`, or a file of a model, see ``find_model``.
        out: The mask folder; made if missing.
        device: "auto", or a torch device.
        overwrite: Segment again what is done.
        workers: Processes on this machine; 1 works in this one.
        scheduler: Address of a dask scheduler whose workers shall do the slides; they see the same paths.
        wanted: What is written besides masks, samples and overlays, and how masks are put back.
        fields: Most fields per forward pass.
        memory_gib: Most memory of this machine's work, GiB, shared evenly by its processes; None is no limit.
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
    chosen = device if scheduler else device_name(device)
    classes = loaded_model(path, sha256, "cpu" if scheduler else chosen).classes
    about = provenance(command=command)
    versions = {"wsi_deform": about["wsi_deform"], "python": about["python"], **about["packages"]}
    _prepare(folder, classes)
    jobs = [
        SlideJob(
            source=source.absolute(),
            model=path,
            model_sha256=sha256,
            out=folder.path,
            device=chosen,
            wanted=wanted,
            batch=fields,
            memory_gib=None if memory_gib is None else memory_gib / workers,
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
            settle(_settled(job, state))
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
    return _outcome(job, state, "skipped", reason)


def _settled(job: SlideJob, state: State) -> Outcome:
    """The outcome of a slide that was worked on."""
    if state.status != "done":
        return _outcome(job, state, "failed", state.error)
    return _outcome(job, state, "done", state.remark)


def _outcome(job: SlideJob, state: State, status: OutcomeStatus, reason: str) -> Outcome:
    return Outcome(slide_id=job.slide_id, slide=job.source.path, status=status, reason=reason, state=state)


def _prepare(folder: MaskFolder, classes: ClassTable) -> None:
    """Make the folder and its class table; masks of other classes must not come to lie beside these."""
    if folder.classes.exists():
        held = read_class_table(folder.classes)
        if held.names != classes.names:
            raise ModelError(
                f"{folder.classes}: classes {', '.join(held.names)}; the model has "
                f"{', '.join(classes.names)}. "
                "Needed the same for all masks of a folder. Choose another --out, or delete the folder."
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
        others = tuple(s.slide_id for s in present if s.status == "done" and s.model != jobs[0].model_sha256)
        left = tuple(job.slide_id for job in jobs if job.slide_id not in outcomes)
        ended = Ended(job=jobs[0], outcomes=settled, left=left, others=others, complete=complete)
        write_record(record, ended, about)
        write_summary(ledger.folder.summary, ended, record)


def _in_order(jobs: Sequence[SlideJob], outcomes: Mapping[str, Outcome]) -> tuple[Outcome, ...]:
    return tuple(outcomes[job.slide_id] for job in jobs if job.slide_id in outcomes)
