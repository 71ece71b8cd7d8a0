"""A slide in a process of its own, which may die without taking the others along."""

from __future__ import annotations

import multiprocessing
import signal
from dataclasses import replace
from multiprocessing.connection import Connection

from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.distribute.turn import forget_attempt, record_death, segment_to_folder


def segmented_in_child(job: SlideJob) -> Outcome:
    """Segment a slide in a new process and wait for it.

    Args:
        job: A slide that is suspected of killing its process.

    Returns:
        What was done with it; "failed", with the signal, where the process died.

    Raises:
        OutFolderGoneError: The mask folder is not the one in which the work began.
        MaskError: The ledger cannot be written.
    """
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_segment, args=(replace(job, is_isolated=True), theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        with mine:
            answer: Outcome | BaseException = mine.recv()
    except EOFError:
        process.join()
        return record_death(job, f"its process died ({_how(process.exitcode)})")
    except BaseException:
        process.kill()
        process.join()
        # This kill is no fault of the slide.
        forget_attempt(job)
        raise
    process.join()
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _segment(job: SlideJob, answer: Connection) -> None:
    # Ctrl-C reaches every process of a terminal; the first one ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        answer.send(segment_to_folder(job))
    except Exception as error:  # noqa: BLE001  told to the process that waits
        answer.send(error)


def _how(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    try:
        return f"signal {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"signal {-exitcode}"
