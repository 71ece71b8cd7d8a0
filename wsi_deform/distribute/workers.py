"""Slides on dask workers: processes of this machine, or a cluster behind a scheduler's address."""

from __future__ import annotations

import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from wsi_deform.distribute.attempts import record_death
from wsi_deform.distribute.cluster import OtherVersionsError, connected, for_this_worker, lost
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.out_folder import OutFolderGoneError
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.distribute.turn import segment_to_folder
from wsi_deform.errors import MaskError
from wsi_deform.faults import with_notes

CONNECT_TIMEOUT_S = 20
STARTED = "wsi-deform-slide-started"


def segmented_by_workers(
    jobs: Sequence[SlideJob],
    *,
    workers: int,
    scheduler: str | None,
    enough: Callable[[], bool] = lambda: False,
    started: Callable[[str], None] = lambda slide_id: None,
) -> Iterator[tuple[SlideJob, Outcome]]:
    """Segment slides on workers, one slide at a time on each.

    Args:
        jobs: The slides; workers see the same paths.
        workers: Processes to start on this machine; ignored with a scheduler.
        scheduler: Address of a running scheduler, e.g. "tcp://10.0.0.5:8786", the file that it writes, or None.
        enough: Asked after each outcome; once it is so, slides that no worker has yet are left, and those that workers
            have are finished.
        started: Called from another thread with the id of each slide whose turn begins on a worker.

    Yields:
        Each job with its outcome, in the order in which they end. A slide that kills its worker (memory) is tried
        once more, and then fails alone.

    Raises:
        SlideError: The scheduler cannot be reached or is lost, or a worker has other versions.
        MaskError: The mask folder is gone or cannot be written.
    """
    _quieten_dask()
    # One process needs none of it, and it takes a quarter of a second to import.
    from distributed import Client, LocalCluster, as_completed

    with ExitStack() as stack:
        if scheduler is None:
            count = min(workers, len(jobs))
            with _interrupts_ignored():
                # Spawned, one thread each: torch and numba use threads of their own.
                cluster = LocalCluster(
                    n_workers=count, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
                )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
            client.run(torch.set_num_threads, max(1, (os.cpu_count() or 1) // count))
        else:
            client = stack.enter_context(connected(scheduler, timeout_s=CONNECT_TIMEOUT_S))
        # A name of this call: a scheduler that stays passes on what other calls tell, too.
        topic = f"{STARTED}-{uuid.uuid4().hex}"
        client.subscribe_topic(topic, lambda event: started(event[1]))
        futures = {
            # "impure": the same slide twice is work twice; priority keeps the order of the slides.
            client.submit(segment_on_worker, job, topic, pure=False, retries=0, priority=-number): job
            for number, job in enumerate(jobs)
        }
        is_ending = False
        for future in as_completed(futures):
            if future.cancelled():
                if not is_ending:
                    raise lost(scheduler)
                continue
            job = futures[future]
            error = future.exception()
            if isinstance(error, OutFolderGoneError | MaskError | OtherVersionsError):
                raise error
            if error is None:
                yield job, future.result()
            else:
                said = with_notes(error).rstrip(".")
                yield job, record_death(job, f"its worker process died or failed ({said})")
            future.release()
            if not is_ending and enough():
                is_ending = True
                taken = {key for keys in client.processing().values() for key in keys}
                client.cancel([each for each in futures if each.key not in taken and not each.done()])


def segment_on_worker(job: SlideJob, topic: str) -> Outcome:
    """Segment a slide on the device that the worker has; a worker that dies is replaced.

    Args:
        job: The slide.
        topic: Of dask's events, told the slide's id as its turn begins.
    """
    from distributed import get_worker

    get_worker().log_event(topic, job.slide_id)
    return segment_to_folder(for_this_worker(job))


def _quieten_dask() -> None:
    """Let dask say no more than warnings, unless more is asked for by this program's log level or its own setting.

    Convention:
        dask reads this variable when it is imported, and so do the workers that start from here on. What its nannies
        warn of, workers that died or are slow to end, is said of the slide or concerns nobody.
    """
    if logging.getLogger().getEffectiveLevel() > logging.INFO:
        os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")
        # Read last, or dask's own level would take its place.
        import distributed.client
        import distributed.nanny

        # That a scheduler was lost is said once, and in words.
        distributed.client.logger.setLevel(logging.CRITICAL)
        distributed.nanny.logger.setLevel(logging.ERROR)


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let processes that start meanwhile ignore Ctrl-C for good: only this process ends the batch."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
