"""The turn of one slide: take it, look whether it is done, do it aside, move it into place, record how it went.

The same in a loop, in a child process, in workers and on a cluster.
"""

from __future__ import annotations

import logging
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Protocol

from wsi_deform.annotation.label_file import LabelFile, open_labels
from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import FieldBudget
from wsi_deform.distribute.attempts import blank_state, check_out, outcome_of
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.lease import Lease, LeaseLostError, leased
from wsi_deform.distribute.ledger import Ledger, State, is_broken, this_process
from wsi_deform.distribute.models import loaded_model
from wsi_deform.distribute.out_folder import OutFolderGoneError
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.distribute.staging import publish, staging
from wsi_deform.distribute.standing import (
    MAX_DEATHS,
    broken_files,
    deaths_before,
    is_of,
    why_again,
    without_the_dead,
)
from wsi_deform.distribute.unwritable import OutFolderUnwritableError, refuse_unwritable
from wsi_deform.errors import SlideError, WsiDeformError
from wsi_deform.faults import with_notes
from wsi_deform.field_tasks import SegmentedField
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import Model
from wsi_deform.segment import segment_fields
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.reader import BadTileError
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_files import FROM_MASK, OnField, complete_files, segment_to_files, with_more_cost

BLANK_REMEDY = "Or leave such tiles out, which are then unlabelled in the mask: --on-bad-tile blank."

logger = logging.getLogger(__name__)


class FieldHelpers(Protocol):
    """Those who help with the fields of a slide; called like ``segment_fields``.

    Attributes:
        flops: Operations of networks in other processes.
        decoded_bytes: Bytes of tiles that other processes decoded.
    """

    flops: int
    decoded_bytes: int

    def __call__(
        self,
        slide: Slide,
        model: Model,
        budgets: Sequence[FieldBudget],
        *,
        labels: Labels | None = None,
        batch: int = 1,
    ) -> Iterator[SegmentedField]:
        """The labelled samples of each field, in order."""
        ...


def segment_to_folder(
    job: SlideJob, on_field: OnField | None = None, helpers: FieldHelpers | None = None
) -> Outcome:
    """Segment a slide if it needs it; whatever goes wrong with it is recorded, not raised.

    New files are made aside and take their places when all are whole; until then, and where it fails, what an earlier
    call made stays as it is.

    Args:
        job: The slide, the model and where to write.
        on_field: Called after each field with how many are done and how many there are.
        helpers: Who else does fields of the slide; None is nobody.

    Returns:
        What was done with the slide; its state also stands in the ledger. Where another process has the slide, or it
        is suspected of killing its process and this one may not die, ``again`` says so and nothing was done.

    Raises:
        OutFolderGoneError: The mask folder is not the one in which the work began.
        OutFolderUnwritableError: Nothing more can be written to it.
        MaskError: The ledger cannot be read.
    """
    folder = MaskFolder(job.out)
    check_out(job, folder)
    with leased(folder.lease(job.slide_id), expired=job.expired) as lease:
        ledger = Ledger(folder)
        if lease is not None:
            try:
                return _turn(job, ledger, lease, on_field, helpers)
            except LeaseLostError as error:
                return outcome_of(job, ledger.read(job.slide_id), "skipped", str(error), again="taken")
        state = ledger.read(job.slide_id)
        by = f"process {state.pid} on {state.host}" if state.status == "running" else "another process"
        return outcome_of(job, state, "skipped", f"{by} is working on it", again="taken")


def _turn(
    job: SlideJob, ledger: Ledger, lease: Lease, on_field: OnField | None, helpers: FieldHelpers | None
) -> Outcome:
    """Decide what a slide needs whose lease is held, and do it."""
    before = ledger.mend(ledger.read(job.slide_id))
    if is_broken(before):
        logger.warning("%s: %s", job.slide_id, before.error)
    if lease.took_over and before.status == "running":
        # At once: what this turn comes to is not known, and the lease says it only once.
        before = without_the_dead(before)
        ledger.write(before)
    result = before.result
    try:
        identity = job.identity()
    except SlideError as error:
        state = replace(blank_state(job, before), status="failed", error=str(error))
        ledger.write(state)
        return outcome_of(job, state, "failed", state.error)
    fingerprint = job.fingerprint(identity)
    missing: Sequence[str] = ()
    if result is not None and is_of(job, result, job.fingerprints(identity)):
        missing = broken_files(job, ledger.folder, result)
        if not job.overwrite or result.attempt != job.seen:
            if not missing:
                if before.status != "done":
                    ledger.write(result)
                return outcome_of(job, result, "skipped", "already done with this model")
            if set(missing) <= FROM_MASK:
                return _completed(job, ledger, lease, before, result, missing)
    deaths = deaths_before(before, fingerprint)
    if deaths and (refused := _after_deaths(job, ledger, before, fingerprint, deaths)):
        return refused
    running = replace(
        blank_state(job, before),
        status="running",
        attempt=uuid.uuid4().hex,
        fingerprint=fingerprint,
        identity=identity,
        deaths=deaths,
        started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        **this_process(),
    )
    ledger.write(running)
    try:
        state = _worked_on(job, ledger.folder, lease, running, on_field, helpers)
    except BaseException:
        # Interrupted: as it was before, as far as the folder is still there, and the slide this process's.
        with suppress(WsiDeformError):
            lease.check()
            check_out(job, ledger.folder)
            status = before.status if before.status in ("done", "failed") else "not_started"
            ledger.write(replace(before, slide=running.slide, status=status, deaths=deaths))
        raise
    ledger.write(state)
    if state.status == "failed":
        return outcome_of(job, state, "failed", state.error)
    why = before.error if is_broken(before) else ""
    if result is not None and not job.overwrite:
        why = f"done again: {why_again(job, result, state.identity, missing)}"
    return outcome_of(job, state, "done", "; ".join(part for part in (why, state.remark) if part))


def _after_deaths(
    job: SlideJob, ledger: Ledger, before: State, fingerprint: str, deaths: int
) -> Outcome | None:
    """The outcome of a slide whose process died before, or None where it is tried again here and now."""
    if deaths < MAX_DEATHS or job.retry_failed or job.overwrite:
        if job.is_isolated:
            return None
        return outcome_of(job, before, "skipped", "its process died", again="suspected")
    reason = before.error or (
        f"slide {job.source.path}: its process died {deaths} times while it was segmented. --retry-failed tries it "
        "again."
    )
    state = replace(
        blank_state(job, before), status="failed", fingerprint=fingerprint, deaths=deaths, error=reason
    )
    ledger.write(state)
    return outcome_of(job, state, "failed", f"not tried again: {reason}")


def _worked_on(
    job: SlideJob,
    folder: MaskFolder,
    lease: Lease,
    running: State,
    on_field: OnField | None,
    helpers: FieldHelpers | None,
) -> State:
    """Segment the slide aside and move its files into place; the state that it then has, "done" or "failed"."""
    started = time.monotonic()
    try:
        with staging(folder, job.slide_id) as made:
            slide = opened_slide(job)
            model = loaded_model(job.model, job.model_sha256, job.device, job.runtime)
            files = segment_to_files(
                slide,
                model,
                made,
                wanted=job.wanted,
                labels=_labels(job, slide, model),
                batch=job.batch,
                threads=job.threads,
                memory_gib=job.memory_gib,
                on_field=on_field,
                segment=helpers or segment_fields,
            )
            if helpers is not None:
                files = with_more_cost(files, decoded=helpers.decoded_bytes, flops=helpers.flops)
            if job.identity() != running.identity:
                raise SlideError(
                    f"slide {job.source.path}: changed while it was read. Needed one that stays as it is. Segment it "
                    "again when it is whole."
                )
            check_out(job, folder)
            lease.check()
            signatures = publish(made, folder, job.slide_id)
            check_out(job, folder)
        state = replace(running, status="done", deaths=0, kept=None, **asdict(files))
        return replace(_with_outputs(state, running.kept, signatures), seconds=_since(started))
    except (OutFolderGoneError, OutFolderUnwritableError, LeaseLostError):
        raise
    except Exception as error:  # noqa: BLE001  one bad slide never stops the rest
        _refuse_to_go_on(job, folder, lease, error)
        return replace(_failed(job, running, error), deaths=0, seconds=_since(started))


def _refuse_to_go_on(job: SlideJob, folder: MaskFolder, lease: Lease, error: Exception) -> None:
    """Raise, where what went wrong is not the slide's fault: its lease was lost, or no slide can be written."""
    check_out(job, folder)
    lease.check()
    refuse_unwritable(folder, error)


def _failed(job: SlideJob, running: State, error: Exception) -> State:
    """The state of a slide in which something went wrong."""
    if isinstance(error, BadTileError):
        return replace(running, status="failed", error=f"{error} {BLANK_REMEDY}")
    if isinstance(error, WsiDeformError):
        return replace(running, status="failed", error=str(error))
    logger.info("%s: not foreseen", job.slide_id, exc_info=True)
    reason = f"slide {job.source.path}: {with_notes(error)}"
    return replace(running, status="failed", error=reason, traceback=traceback.format_exc())


def _with_outputs(state: State, kept: State | None, signatures: Mapping[str, str]) -> State:
    """A finished state with the signatures of its files, and of those that an earlier attempt left there."""
    old = {} if kept is None else {k: v for k, v in kept.outputs.items() if k not in signatures}
    earlier = {} if kept is None else {kind: kept.earlier.get(kind, kept.fingerprint) for kind in old}
    return replace(state, outputs={**old, **signatures}, earlier=earlier)


def _completed(
    job: SlideJob, ledger: Ledger, lease: Lease, before: State, result: State, missing: Sequence[str]
) -> Outcome:
    """Make files of a finished slide that can be made from its mask."""
    try:
        with staging(ledger.folder, job.slide_id) as made:
            model = loaded_model(job.model, job.model_sha256, job.device, job.runtime)
            slide, patches = opened_slide(job), job.wanted.patches
            complete_files(slide, model, ledger.folder, missing, patches=patches, made=made)
            check_out(job, ledger.folder)
            lease.check()
            signatures = publish(made, ledger.folder, job.slide_id)
    except (OutFolderGoneError, OutFolderUnwritableError, LeaseLostError):
        raise
    except Exception as error:  # noqa: BLE001  one bad slide never stops the rest
        _refuse_to_go_on(job, ledger.folder, lease, error)
        state = replace(_failed(job, before, error), kept=result)
        ledger.write(state)
        return outcome_of(job, state, "failed", state.error)
    state = replace(result, outputs={**result.outputs, **signatures})
    ledger.write(state)
    return outcome_of(job, state, "done", f"made {' and '.join(missing)} of a mask that was done")


def opened_slide(job: SlideJob) -> Slide:
    """The slide of a job, open.

    Raises:
        SlideError: It cannot be opened.
    """
    source = job.source
    return open_slide(
        source.path,
        mpp=source.mpp,
        slide_id=source.slide_id,
        tissue_path=source.tissue_path,
        region=source.region,
        on_bad_tile=job.on_bad_tile,
    )


def _labels(job: SlideJob, slide: Slide, model: Model) -> Labels | None:
    """The slide's labels, where the model is to be shown them."""
    source = job.source
    if not job.needs_labels or source.labels is None:
        return None
    file = LabelFile(path=source.labels, is_outlines=source.labels_are_outlines, channel=source.label_channel)
    return open_labels(file, slide, model.classes, region=source.region)


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
