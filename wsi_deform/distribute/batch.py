"""Many slides: skip what is done, do the rest here or on workers, and say how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from wsi_deform.distribute.attempts import outcome_if_done
from wsi_deform.distribute.child import Child
from wsi_deform.distribute.chosen import ChosenModel
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.labelled import with_labels
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.out_folder import check_folder, prepare_folder
from wsi_deform.distribute.outcome import Batch, NullWatcher, Outcome, Watcher
from wsi_deform.distribute.rounds import Hands, outcomes_of
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.distribute.tables import Tables
from wsi_deform.errors import NOT_ONE_IMAGE, ModelError, SlideError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.provenance import provenance
from wsi_deform.runtime.choice import Asked
from wsi_deform.scale import limits_to_tissue
from wsi_deform.slide_results import WantedOutputs

if TYPE_CHECKING:
    from wsi_deform.slide.slide import OnBadTile


def segment_slides(
    sources: Sequence[SlideSource],
    model: Path,
    out: Path,
    *,
    device: str = "auto",
    runtime: Asked = Asked(),
    overwrite: bool = False,
    on_bad_tile: OnBadTile = "fail",
    retry_failed: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    wanted: WantedOutputs = WantedOutputs(),
    fields: int = 1,
    memory_gib: float | None = None,
    fail_fast: bool = False,
    watcher: Watcher | None = None,
    command: Sequence[str] | None = None,
    child: Child | None = None,
) -> Batch:
    """Segment slides into a mask folder; goes on where an earlier call stopped.

    A slide that an earlier call finished with the same model is skipped; one that another process works on is left to
    it. One that cannot be segmented is recorded with its reason, and the others are done all the same; what an earlier
    call made of it stays. ``measurements.csv`` and ``summary.md``, of all slides of the folder, and the record in
    ``runs/`` are written as slides end, and at the end, also after an interrupt.

    Args:
        sources: The slides, each with an id of its own.
        model: A run folder of `train`, or a file of a model, see ``find_model``.
        out: The mask folder; made if missing.
        device: "auto", or a torch device.
        runtime: What computes the networks; "auto" is what `doctor` measured to be the fastest here, else torch.
        overwrite: Segment again what was done before this call.
        on_bad_tile: What becomes of a slide with a tile that cannot be decoded: "fail", or "blank", which leaves such
            tiles out: they are unlabelled in the mask, and counted.
        retry_failed: Try slides again that killed their process.
        workers: Processes on this machine; 1 works in this one.
        scheduler: Address of a dask scheduler whose workers shall do the slides; they see the same paths.
        wanted: What is written besides masks, samples and overlays, and how masks are put back.
        fields: Most fields, or patches, per forward pass.
        memory_gib: Most memory of this machine's work, GiB, shared evenly by its processes; None is no limit.
        fail_fast: Start no further slide once one has failed; those under way are finished.
        watcher: Told how it goes.
        command: The command line, for the record.
        child: A process that does what is not for workers, so that a slide that kills it fails alone; None does it
            in this process.

    Returns:
        What happened to each slide.

    Raises:
        ModelError: The model cannot be used, or ``out`` holds masks of other classes.
        MaskError: ``out`` cannot be written, or vanishes meanwhile (``OutFolderGoneError``).
        SlideError: There are no slides, or the scheduler cannot be reached.
        ManifestError: The model is an oracle, and no slide has labels.
    """
    if not sources:
        raise SlideError("no slides were given. Needed one or more.")
    watcher = watcher or NullWatcher()
    folder = MaskFolder(out.absolute())
    ledger = Ledger(folder)
    is_by_workers = scheduler is not None or workers > 1
    # Model and device must be there before anything is written.
    chosen = (
        _chosen_model(model, device, runtime, scheduler)
        if child is None or is_by_workers
        else child.model(model, device, runtime)
    )
    if wanted.patches is not None and chosen.has_blocks:
        raise ModelError(NOT_ONE_IMAGE.format(name=f"model {chosen.path}"))
    classes, needs_labels = chosen.classes, chosen.needs_labels and wanted.patches is None
    if needs_labels:
        sources = with_labels(sources, chosen.path)
    about = provenance(command=command) | {"runtime": chosen.runtime.text}
    template = SlideJob(
        source=sources[0],
        model=chosen.path,
        model_sha256=chosen.sha256,
        out=folder.path,
        folder_identity=prepare_folder(folder, classes),
        device=chosen.device,
        runtime=chosen.runtime,
        wanted=wanted,
        needs_labels=needs_labels,
        batch=fields,
        memory_gib=None if memory_gib is None else memory_gib / workers,
        overwrite=overwrite,
        on_bad_tile=on_bad_tile,
        retry_failed=retry_failed,
        versions={
            "wsi_deform": about["wsi_deform"],
            "python": about["python"],
            **about["packages"],
            **chosen.runtime.versions(),
        },
    )
    jobs = []
    for source in sources:
        is_limited = limits_to_tissue(wanted.limit_to_tissue, chosen, source.tissue_path)
        job = replace(template, source=source.absolute(), wanted=replace(wanted, limit_to_tissue=is_limited))
        jobs.append(replace(job, seen=_newest_attempt(ledger, source)) if overwrite else job)
    tables = Tables(ledger, jobs, classes, about)
    outcomes = tables.outcomes

    def settle(outcome: Outcome) -> None:
        tables.settle(outcome)
        watcher.outcome(outcome)

    watcher.start(slides=len(jobs))
    with tables.written():
        waiting = []
        for job in jobs:
            outcome = _settled_at_once(job, ledger)
            if outcome is None:
                waiting.append(job)
            else:
                settle(outcome)
        hands = Hands(
            child=child,
            workers=workers,
            scheduler=scheduler,
            watcher=watcher,
            enough=partial(_has_failed, outcomes) if fail_fast else _never,
        )
        for outcome in outcomes_of(waiting, folder, hands):
            settle(outcome)
        check_folder(folder, template.folder_identity)
        for outcome in list(outcomes.values()):
            if outcome.status == "done" and not folder.mask(outcome.slide_id).is_file():
                gone = f"mask {folder.mask(outcome.slide_id)}: was made, but is no longer there. Segment it again."
                outcomes[outcome.slide_id] = replace(outcome, status="failed", reason=gone)
    return Batch(out=out, outcomes=tables.in_order(), record=tables.record)


def _chosen_model(run: Path, device: str, runtime: Asked, scheduler: str | None) -> ChosenModel:
    """The model, loaded by this process; a scheduler's workers choose their devices themselves."""
    # Only here: it imports torch, which the process of a child has no use for.
    from wsi_deform.distribute.models import chosen_model

    return chosen_model(run, device, runtime, is_here=scheduler is None)


def _has_failed(outcomes: Mapping[str, Outcome]) -> bool:
    return any(outcome.status == "failed" for outcome in outcomes.values())


def _never() -> bool:
    return False


def _settled_at_once(job: SlideJob, ledger: Ledger) -> Outcome | None:
    """The outcome of a slide that needs no work or allows none, else None."""
    problem = job.source.problem
    if problem:
        state = State(slide_id=job.slide_id, slide=str(job.source.path), status="failed", error=problem)
        return Outcome(
            slide_id=job.slide_id, slide=job.source.path, status="failed", reason=problem, state=state
        )
    with suppress(SlideError):  # told when its turn comes
        return outcome_if_done(job, ledger)
    return None


def _newest_attempt(ledger: Ledger, source: SlideSource) -> str:
    """The attempt whose result lies in the folder now."""
    result = None if source.problem else ledger.read(source.slide_id).result
    return "" if result is None else result.attempt
