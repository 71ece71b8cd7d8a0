"""In which order the slides of a call get their turns, and where: in this process, in its child, or on workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from wsi_deform.distribute.child import Child
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.lease import LeaseWatch
from wsi_deform.distribute.outcome import Outcome, Watcher
from wsi_deform.mask.folder import MaskFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """Who does the work.

    Attributes:
        child: A process that segments one slide after another; None segments in this one.
        workers: Processes on this machine; 1 is this one, or its child.
        scheduler: Address of a dask scheduler whose workers do the slides, or None.
        watcher: Told how it goes.
        enough: Whether no further slide shall be started.
    """

    child: Child | None
    workers: int
    scheduler: str | None
    watcher: Watcher
    enough: Callable[[], bool]


def outcomes_of(jobs: Sequence[SlideJob], folder: MaskFolder, hands: Hands) -> Iterator[Outcome]:
    """Do the jobs; their outcomes, as they end.

    Args:
        jobs: The slides.
        folder: The mask folder.
        hands: Who does them.

    Yields:
        An outcome for each, but for those that were not started as there was ``enough``.

    Convention:
        Slides that others had taken are asked for once more at the end: until then it is known whether they live. Those
        that may kill this process come last, in another one.
    """
    suspected: list[SlideJob] = []
    taken: dict[str, tuple[SlideJob, Outcome]] = {}
    watch = LeaseWatch()
    for job, outcome in _turns(jobs, hands):
        if outcome.again == "suspected":
            suspected.append(job)
        elif outcome.again == "taken":
            watch.look(folder.lease(job.slide_id))
            taken[job.slide_id] = (job, outcome)
        else:
            yield outcome
    free = []
    if taken and not hands.enough():
        for name, is_free, found in watch.ended({name: folder.lease(name) for name in taken}):
            job, outcome = taken.pop(name)
            if is_free:
                free.append(replace(job, expired=found))
            else:
                yield outcome
    for job, outcome in _turns(free, hands):
        if outcome.again == "suspected":
            suspected.append(job)
        else:
            yield outcome
    with Child() as child:
        for job in suspected:
            if hands.enough():
                return
            yield child.segment(replace(job, expired=None))


def _turns(jobs: Sequence[SlideJob], hands: Hands) -> Iterator[tuple[SlideJob, Outcome]]:
    """The turns of jobs; each with its outcome, as they end."""
    if not jobs or hands.enough():
        return
    if hands.scheduler is not None or (hands.workers > 1 and len(jobs) > 1):
        # Only here: dask's cluster is slow to import.
        from wsi_deform.distribute.workers import segmented_by_workers

        yield from segmented_by_workers(
            jobs,
            workers=hands.workers,
            scheduler=hands.scheduler,
            enough=hands.enough,
            started=hands.watcher.started,
        )
        return
    segment: Callable[[SlideJob, Callable[[int, int], None] | None], Outcome]
    if hands.child is None:
        # Only here: it imports torch, which the process of a child has no use for.
        from wsi_deform.distribute.turn import segment_to_folder

        segment = segment_to_folder
    else:
        segment = hands.child.segment
    for job in jobs:
        if hands.enough():
            return
        hands.watcher.slide(job.slide_id)
        yield job, segment(job, hands.watcher.field)
