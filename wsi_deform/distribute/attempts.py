"""What is known and recorded of a slide by a process that does not work on it itself.

Nothing that is slow is imported here: the process that waits for its child needs neither torch nor a reader.
"""

from __future__ import annotations

from dataclasses import replace

from wsi_deform.distribute.job import MASK_VERSION, SlideJob
from wsi_deform.distribute.lease import leased
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.out_folder import check_folder
from wsi_deform.distribute.outcome import Outcome, OutcomeStatus
from wsi_deform.distribute.standing import broken_files, is_of, without_the_dead
from wsi_deform.mask.folder import MaskFolder


def outcome_if_done(job: SlideJob, ledger: Ledger) -> Outcome | None:
    """The outcome of a slide that needs no work, else None; nothing is taken or written.

    Raises:
        SlideError: The slide is missing or cannot be read.
    """
    result = ledger.read(job.slide_id).result
    if result is None or (job.overwrite and result.attempt == job.seen):
        return None
    wanted = job.fingerprints(job.identity())
    if not is_of(job, result, wanted) or broken_files(job, ledger.folder, result):
        return None
    return outcome_of(job, result, "skipped", "already done with this model")


def record_death(job: SlideJob, reason: str) -> Outcome:
    """Record that the process that worked on a slide died, or could not tell how it went.

    Args:
        job: The slide.
        reason: What is known of it, without a full stop.

    Returns:
        The outcome, "failed"; what an earlier call made of the slide stays.

    Raises:
        MaskError: The ledger cannot be written.
    """
    folder = MaskFolder(job.out)
    check_out(job, folder)
    with leased(folder.lease(job.slide_id), expired=job.expired) as lease:
        ledger = Ledger(folder)
        before = ledger.read(job.slide_id)
        if lease is None:
            return outcome_of(job, before, "skipped", "another process is working on it", again="taken")
        before = without_the_dead(ledger.mend(before))
        state = replace(
            blank_state(job, before), fingerprint=before.fingerprint, deaths=before.deaths, status="failed"
        )
        state = replace(
            state,
            error=f"slide {job.source.path}: {reason}. Most often memory runs out: use --memory-gib or fewer "
            "--workers, or look at the file. --retry-failed tries it again.",
        )
        ledger.write(state)
        return outcome_of(job, state, "failed", state.error)


def forget_attempt(job: SlideJob) -> None:
    """Record that the newest attempt at a slide was ended from outside: it says nothing about the slide.

    Raises:
        MaskError: The ledger cannot be written.
    """
    folder = MaskFolder(job.out)
    check_out(job, folder)
    with leased(folder.lease(job.slide_id)) as lease:
        ledger = Ledger(folder)
        before = ledger.read(job.slide_id)
        if lease is not None and before.status == "running":
            ledger.write(replace(before, status="not_started"))


def blank_state(job: SlideJob, before: State) -> State:
    """The state of a new attempt at a slide, before anything is known."""
    return State(
        slide_id=job.slide_id,
        slide=str(job.source.absolute().path),
        model=job.model_sha256,
        versions=job.versions,
        mask_version=MASK_VERSION,
        kept=before.result,
    )


def check_out(job: SlideJob, folder: MaskFolder) -> None:
    """Refuse to go on in another mask folder than that of the job; see ``out_folder.check_folder``."""
    if job.folder_identity:
        check_folder(folder, job.folder_identity)


def outcome_of(
    job: SlideJob, state: State, status: OutcomeStatus, reason: str, *, again: str = ""
) -> Outcome:
    """What became of a job, whose state in the ledger is given."""
    return Outcome(
        slide_id=job.slide_id,
        slide=job.source.path,
        status=status,
        reason=reason,
        state=state,
        again=again,  # type: ignore[arg-type]
    )
