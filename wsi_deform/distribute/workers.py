"""Slides on dask workers: processes of this machine, or a cluster behind a scheduler's address."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import torch

from wsi_deform.distribute.attempts import record_death
from wsi_deform.distribute.cluster import OtherVersionsError, connected, for_this_worker, lost
from wsi_deform.distribute.crew import Crew
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.out_folder import OutFolderGoneError
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.distribute.shared import SharedFields
from wsi_deform.distribute.turn import segment_to_folder
from wsi_deform.errors import MaskError
from wsi_deform.faults import with_notes

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_TIMEOUT_S = 20
LOOK_S = 0.5
STARTED = "wsi-deform-slide-started"
# dask has its processes give memory back at once: two workers took a quarter more CPU time (benchmark `batch`).
KEEP_MEMORY = {"distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None}


def segmented_by_workers(
    jobs: Sequence[SlideJob],
    *,
    workers: int,
    scheduler: str | None,
    enough: Callable[[], bool] = lambda: False,
    started: Callable[[str], None] = lambda slide_id: None,
) -> Iterator[tuple[SlideJob, Outcome]]:
    """Segment slides on workers, one slide at a time on each; those that are idle help with the fields of others.

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
        SlideError: The scheduler cannot be reached or is lost, or a worker has other versions; one that joins late with
            others is named and left out, as long as there are more.
        MaskError: The mask folder is gone or cannot be written.
    """
    _quieten_dask()
    # One process needs none of it, and it takes a quarter of a second to import.
    import dask
    from distributed import Client, LocalCluster

    with ExitStack() as stack:
        if scheduler is None:
            count = min(workers, len(jobs))
            with _interrupts_ignored(), dask.config.set(KEEP_MEMORY):
                # Spawned, one thread each: torch and numba use threads of their own.
                cluster = LocalCluster(
                    n_workers=count, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
                )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
            client.run(prepare_worker, max(1, (os.cpu_count() or 1) // count))
        else:
            client = stack.enter_context(connected(scheduler, timeout_s=CONNECT_TIMEOUT_S))
        # A name of this call: a scheduler that stays passes on what other calls tell, too.
        topic = f"{STARTED}-{uuid.uuid4().hex}"
        client.subscribe_topic(topic, lambda event: started(event[1]))
        waiting = _Waiting(client, topic, jobs)
        yield from waiting.outcomes(scheduler, enough)


class _Waiting:
    """The slides that are with dask: their futures, renewed where other workers may be given them than before."""

    def __init__(self, client: Client, topic: str, jobs: Sequence[SlideJob]) -> None:
        from distributed import as_completed

        self._client, self._topic = client, topic
        self._crew = Crew(client)
        self._numbers = {job.slide_id: number for number, job in enumerate(jobs)}
        self._jobs: dict[Future, tuple[SlideJob, int]] = {}
        self._completed = as_completed([])
        for job in jobs:
            self._submit(job)

    def outcomes(
        self, scheduler: str | None, enough: Callable[[], bool]
    ) -> Iterator[tuple[SlideJob, Outcome]]:
        """Each job with its outcome, see ``segmented_by_workers``."""
        is_ending = False
        for future in self._ended():
            if future not in self._jobs:
                continue  # given anew
            if future.cancelled():
                if not is_ending:
                    raise lost(scheduler)
                continue
            job, generation = self._jobs.pop(future)
            error = future.exception()
            if isinstance(error, OutFolderGoneError | MaskError):
                raise error
            if error is None:
                yield job, future.result()
            elif self._was_refused(error, generation):
                self._submit(job)
            elif isinstance(error, OtherVersionsError):
                raise error
            else:
                said = with_notes(error).rstrip(".")
                yield job, record_death(job, f"its worker process died or failed ({said})")
            future.release()
            if is_ending:
                continue
            self._give_anew()
            if enough():
                is_ending = True
                self._client.cancel([each for each in self._not_taken() if not each.done()])

    def _ended(self) -> Iterator[Future]:
        """Futures as they end; where only some workers are allowed, those that join meanwhile are looked at."""
        while not self._completed.is_empty():
            if self._crew.allowed is not None and not self._completed.has_ready():
                time.sleep(LOOK_S)
                self._crew.look_if_changed()
                self._give_anew()
            else:
                yield next(self._completed)

    def _submit(self, job: SlideJob) -> None:
        # "impure": the same slide twice is work twice; priority keeps the order of the slides.
        future = self._client.submit(
            segment_on_worker,
            job,
            self._topic,
            pure=False,
            retries=0,
            priority=-self._numbers[job.slide_id],
            workers=self._crew.allowed,
        )
        self._jobs[future] = job, self._crew.generation
        self._completed.add(future)

    def _was_refused(self, error: BaseException, generation: int) -> bool:
        """Whether a slide failed since its worker cannot do any: who joins late is not known before."""
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return False
        if generation == self._crew.generation:
            self._crew.look()
        return generation != self._crew.generation

    def _give_anew(self) -> None:
        """What no worker has that may have it, to those that may."""
        old = [each for each, (_, generation) in self._jobs.items() if generation != self._crew.generation]
        if not old:
            return
        not_taken = set(self._not_taken())
        for future in old:
            job, _ = self._jobs[future]
            if future in not_taken and not future.done():
                del self._jobs[future]
                future.cancel()
                self._submit(job)

    def _not_taken(self) -> list[Future]:
        """The slides that no worker has that may have them."""
        allowed = self._crew.allowed
        held = self._client.processing().items()
        taken = {key for worker, keys in held if allowed is None or worker in allowed for key in keys}
        return [each for each in self._jobs if each.key not in taken]


def prepare_worker(threads: int) -> None:
    """Make this process, one that was started for slides alone, ready for them.

    Args:
        threads: Of torch.

    Convention:
        It ends without freeing piece by piece what it holds, which takes longer than a small slide. What it has to say
        and to hand over is said by then: ``atexit`` calls last what was registered first.
    """
    torch.set_num_threads(threads)
    atexit.register(_end_at_once)


def _end_at_once() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    os._exit(0)


def segment_on_worker(job: SlideJob, topic: str) -> Outcome:
    """Segment a slide on the device that the worker has; a worker that dies is replaced.

    Args:
        job: The slide.
        topic: Of dask's events, told the slide's id as its turn begins.
    """
    from distributed import get_client, get_worker

    # Before anything is told: a worker with other versions has begun nothing.
    here = for_this_worker(job)
    get_worker().log_event(topic, job.slide_id)
    return segment_to_folder(here, helpers=SharedFields(job, get_client()))


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
