"""The fields of a large slide over a cluster: workers with nothing else to do take some of them.

The worker whose turn the slide is offers fields to dask, a few ahead of the mask, and does those itself that nobody has
begun. So it never waits for a worker that is busy with a slide of its own, holds one slide per thread, and does all
alone where nobody is idle.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future as LocalFuture
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import FieldBudget
from wsi_deform.distribute.cluster import for_this_worker
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.models import loaded_model
from wsi_deform.distribute.turn import opened_slide
from wsi_deform.field_tasks import (
    Fetched,
    FieldBatch,
    FieldContext,
    SegmentedField,
    field_batches,
    field_graph,
    label_task,
)
from wsi_deform.flops import NetworkFlops
from wsi_deform.memory import limit_caches
from wsi_deform.model import Model
from wsi_deform.segment import READ_AHEAD, segment_fields
from wsi_deform.slide.slide import Slide

if TYPE_CHECKING:
    from distributed import Client, Future

SHARED_FROM = 4
"""Batches from which on a slide is large: fewer are done before others have opened the slide."""

MOST_AHEAD = 64
"""Batches at most between the first that the mask still waits for and the last that is offered: about 30 bytes and two
per class of each of their samples wait in memory."""

FIELDS_LAST = -1_000_000_000
"""Priority of fields: after all slides that wait."""

PATIENCE_S = 1.0
ASK_AGAIN_S = 5.0
MAX_CONTEXTS = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldsDone:
    """A batch of fields that a worker has done.

    Attributes:
        fields: Their labelled samples.
        worker: Address of the worker.
        flops: Operations of its networks for them.
        decoded_bytes: Bytes of tiles that it decoded.
    """

    fields: tuple[SegmentedField, ...]
    worker: str
    flops: int
    decoded_bytes: int


def fields_on_worker(job: SlideJob, turn: str, number: int, batch: FieldBatch) -> FieldsDone:
    """Do a batch of another worker's slide, with the model that this worker has.

    Args:
        job: The slide.
        turn: Of the slide's turn: dask's events of this name are told who begins which batch.
        number: Of the batch.
        batch: The fields.

    Returns:
        Their labelled samples.

    Raises:
        OtherVersionsError: This worker has other versions than the process that sent the slide.
        SlideError: The slide cannot be read here.
    """
    from dask import get
    from distributed import get_worker

    worker = get_worker()
    worker.log_event(turn, (number, worker.address))
    context = _context(job, turn)
    model, decoded = context.model, context.slide.decoded_bytes
    graph, key = field_graph(context, batch)
    with NetworkFlops(*model.networks) as flops:
        fields = get(graph, key)
    return FieldsDone(
        fields=fields,
        worker=worker.address,
        flops=flops.total,
        decoded_bytes=context.slide.decoded_bytes - decoded,
    )


class SharedFields:
    """Segments the fields of one slide together with the workers of a cluster that have nothing else to do.

    Called like ``segment_fields``, by the worker whose turn the slide is, and gives the same samples in the same order.
    A slide of few fields, an oracle's (its labels do not travel) and one whose bad tiles are left out (others' would
    not be counted) stay with that worker.

    Args:
        job: The slide, as it was sent to the worker.
        client: The worker's client.

    Attributes:
        elsewhere: Batches that others did.
        flops: Operations of networks in other processes.
        decoded_bytes: Bytes of tiles that other processes decoded.
    """

    def __init__(self, job: SlideJob, client: Client) -> None:
        self._job, self._client = job, client
        self.elsewhere, self.flops, self.decoded_bytes = 0, 0, 0

    def __call__(
        self,
        slide: Slide,
        model: Model,
        budgets: Sequence[FieldBudget],
        *,
        labels: Labels | None = None,
        batch: int = 1,
    ) -> Iterator[SegmentedField]:
        """The labelled samples of each field, in order; see ``segment_fields``."""
        batches = field_batches(budgets, batch, model)
        if len(batches) < SHARED_FROM or labels is not None or self._job.on_bad_tile != "fail":
            yield from segment_fields(slide, model, budgets, labels=labels, batch=batch)
            return
        offers = _Offers(self._client, self._job, batches)
        source = FieldContext(slide=slide, model=model)
        own: deque[tuple[int, LocalFuture[Fetched]]] = deque()
        with offers, ThreadPoolExecutor(1, thread_name_prefix="fields") as reader:
            for number in range(len(batches)):
                while (done := offers.done.pop(number, None)) is None:
                    while len(own) < READ_AHEAD and (mine := offers.claim(number)) is not None:
                        own.append((mine, reader.submit(_fetched, source, batches[mine])))
                    offers.offer(number)
                    if own:
                        mine, fetched = own.popleft()
                        offers.done[mine] = label_task(source, batches[mine], fetched.result())
                    else:
                        offers.wait()
                    for found in offers.collected():
                        self._note(found)
                yield from done

    def _note(self, found: FieldsDone) -> None:
        """Count what others did; what another thread of this process did is counted here anyway."""
        from distributed import get_worker

        self.elsewhere += 1
        if found.worker != get_worker().address:
            self.flops += found.flops
            self.decoded_bytes += found.decoded_bytes


class _Offers:
    """Batches of a slide that others may do: at most ``2 * threads + 2`` ahead, and at most ``MOST_AHEAD``.

    Attributes:
        done: Batches that are done, by whomever, and not yet taken.
    """

    def __init__(self, client: Client, job: SlideJob, batches: Sequence[FieldBatch]) -> None:
        self._client, self._job, self._batches = client, job, batches
        self._turn = f"wsi-deform-fields-{uuid.uuid4().hex}"
        self._futures: dict[int, Future] = {}
        self._begun: dict[int, set[str]] = {}
        self._claimed: set[int] = set()
        self._failed: set[int] = set()
        self._news = threading.Event()
        self._window, self._asked_s = READ_AHEAD, -ASK_AGAIN_S
        self.done: dict[int, tuple[SegmentedField, ...]] = {}

    def __enter__(self) -> _Offers:
        self._client.subscribe_topic(self._turn, self._told)
        return self

    def __exit__(self, *_: object) -> None:
        for future in self._futures.values():
            future.release()
        self._futures.clear()
        self._client.unsubscribe_topic(self._turn)

    def claim(self, first: int) -> int | None:
        """The first batch, of those that may be on the way, that nobody has begun; from now on it is the caller's.

        One that was begun on two workers has cost one of them its life, and is the caller's too: it fails as its own.
        """
        for number in range(first, min(first + self._window, len(self._batches))):
            if number in self.done or number in self._claimed:
                continue
            future = self._futures.get(number)
            if future is not None:
                if future.done() or len(self._begun.get(number, ())) == 1:
                    continue
                self._futures.pop(number).release()
            self._claimed.add(number)
            return number
        return None

    def offer(self, first: int) -> None:
        """Offer what may be on the way, and is nobody's; without a scheduler nothing more."""
        try:
            self._look_at_workers()
            for number in range(first, min(first + self._window, len(self._batches))):
                taken = self.done, self._claimed, self._futures, self._failed
                if not any(number in each for each in taken):
                    self._futures[number] = self._offered(number)
        except Exception as error:  # noqa: BLE001  whatever goes wrong there, the slide can be done here
            logger.info("%s: fields are offered to nobody (%s)", self._job.slide_id, error)
            self._window = READ_AHEAD
            self._failed.update(range(len(self._batches)))

    def _look_at_workers(self) -> None:
        """Now and then: how many may help, and who has died over what it had begun."""
        now = time.monotonic()
        if now - self._asked_s < ASK_AGAIN_S:
            return
        self._asked_s = now
        threads = self._client.nthreads()
        self._window = min(MOST_AHEAD, 2 * sum(threads.values()) + READ_AHEAD)
        for number, workers in list(self._begun.items()):
            if number in self._futures and not workers <= threads.keys():
                # It waits for another worker, which may be this one; and it may be what the first one died of.
                self._futures.pop(number).release()
                self._failed.add(number)

    def _offered(self, number: int) -> Future:
        """A batch, given to dask."""
        future = self._client.submit(
            fields_on_worker,
            self._job,
            self._turn,
            number,
            self._batches[number],
            pure=False,
            retries=0,
            priority=FIELDS_LAST - number,
        )
        future.add_done_callback(lambda _: self._news.set())
        return future

    def wait(self) -> None:
        """Wait until something has changed, or for a moment."""
        self._news.wait(PATIENCE_S)
        self._news.clear()

    def collected(self) -> Iterator[FieldsDone]:
        """What others have done since; what failed there is the caller's, and fails here with its own words, or not."""
        for number, future in list(self._futures.items()):
            if not future.done():
                continue
            del self._futures[number]
            if future.status == "finished":
                found: FieldsDone = future.result()
                self.done[number] = found.fields
                yield found
            else:
                logger.info(
                    "%s: batch %d of fields failed on a worker (%s)",
                    self._job.slide_id,
                    number,
                    future.status,
                )
                self._failed.add(number)

    def _told(self, event: tuple[Any, Any]) -> None:
        """A worker has begun a batch; called from the client's thread."""
        number, worker = event[1]
        self._begun.setdefault(number, set()).add(worker)


def _fetched(source: FieldContext, batch: FieldBatch) -> Fetched:
    """Sampled images of a batch."""
    from dask import get

    graph, key = field_graph(source, batch, last="fetch")
    found: Fetched = get(graph, key)
    return found


_opening = threading.Lock()
_contexts: OrderedDict[str, FieldContext] = OrderedDict()


def _context(job: SlideJob, turn: str) -> FieldContext:
    """Slide and model of a turn, opened once in this process."""
    with _opening:
        if turn not in _contexts:
            here = for_this_worker(job)
            model = loaded_model(here.model, here.model_sha256, here.device, here.runtime)
            limit_caches(here.memory_gib)
            _contexts[turn] = FieldContext(slide=opened_slide(here), model=model)
            while len(_contexts) > MAX_CONTEXTS:
                _contexts.popitem(last=False)
        _contexts.move_to_end(turn)
        return _contexts[turn]
