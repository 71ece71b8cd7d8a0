"""The method, one call per stage: from a slide to its label map.

Training and inference run the same stages: ``sample_fields`` is both the forward pass of a training step
and the first half of segmenting a field.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import FieldBudget, budgets_of
from wsi_deform.errors import ShapeError
from wsi_deform.field_tasks import (
    Fetched,
    FieldBatch,
    FieldContext,
    SegmentedField,
    fetch_task,
    field_batches,
    field_graph,
    label_task,
    plan_task,
    view_task,
)
from wsi_deform.geometry import Region, Size
from wsi_deform.kernels.ahead import ahead
from wsi_deform.mask.tissue_limit import TissueLimit, reverse_sampler
from wsi_deform.model import Model
from wsi_deform.reverse.interpolation import Interpolation
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.scale import limits_to_tissue
from wsi_deform.slide.slide import Slide
from wsi_deform.tissue_cover import tissue_limit_of

if TYPE_CHECKING:
    from distributed import Client

READ_AHEAD = 2
"""Batches between their view and their labels: the one that is read, and the one that waits for the network or is with
it."""

DASK_FROM = 8
"""Batches from which on dask reads ahead: importing it takes as long as a small field."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SegmentedSlide:
    """Labels of the samples of a slide, field by field.

    Attributes:
        slide_id: The slide.
        size: Its level-0 size, px.
        fields: The samples of each field and the part of the slide whose mask they decide.
        outside_label: Class of everything that no field covers.
        interpolation: "nearest" or "linear", as the model's ``sampling.interpolation``.
        samples: Number of samples.
        tiles: Number of tiles read.
        limit: Where labels other than background may be, or None.
        blanks: What could not be read of the slide and was left out, level-0 px.
    """

    slide_id: str
    size: Size
    fields: tuple[FieldSamples, ...]
    outside_label: int
    interpolation: Interpolation
    samples: int
    tiles: int
    limit: TissueLimit | None = None
    blanks: tuple[Region, ...] = ()

    def reverse(self) -> ReverseSampler:
        """The reverse sampler of these samples: any region of the mask at any level, limited to tissue if wanted."""
        return reverse_sampler(
            self.fields,
            size=self.size,
            outside_label=self.outside_label,
            interpolation=self.interpolation,
            limit=self.limit,
            blanks=self.blanks,
        )

    def __repr__(self) -> str:
        """What it is of, in a line."""
        limited = "not limited to tissue" if self.limit is None else "limited to tissue"
        count = len(self.fields)
        return (
            f"{type(self).__name__}({self.slide_id!r}, {self.size} px, {count} field{'s' if count != 1 else ''}, "
            f"{self.samples:,} samples, {self.interpolation}, {limited})"
        )


def segment_slide(
    slide: Slide,
    model: Model,
    *,
    budgets: Sequence[FieldBudget] | None = None,
    labels: Labels | None = None,
    limit_to_tissue: bool | None = None,
    batch: int = 1,
    scheduler: Any = "auto",
    on_field: Callable[[int, int], None] | None = None,
) -> SegmentedSlide:
    """Segment a slide and keep the labels of all its samples in memory; ``segment_fields`` streams them.

    Args:
        slide: An open slide.
        model: What ``load_model`` returned.
        budgets: The fields, from ``budgets_of``; None asks it.
        labels: The slide's labels, for an oracle (``model.needs_labels``); others never look at them.
        limit_to_tissue: Whether the mask is background outside the slide's tissue; the samples stay as they are. None
            is yes, but for models that were trained on images without mpp (``scale.limits_to_tissue``).
        batch: Most fields per forward pass.
        scheduler: Who runs the tasks of fields, see ``segment_fields``.
        on_field: Called after each field with how many are done and how many there are.

    Returns:
        The labels of its samples; ``.reverse()`` puts them back in slide order.

    Raises:
        SlideError: The slide cannot be read, or is too coarse for the model.

    Source:
        Jin et al., ICLR 2022, section 2.1 and figure 2.
    """
    budgets = budgets_of(slide, model) if budgets is None else budgets
    is_limited = limits_to_tissue(limit_to_tissue, model, slide.tissue_path)
    done: list[SegmentedField] = []
    for segmented in segment_fields(slide, model, budgets, labels=labels, batch=batch, scheduler=scheduler):
        done.append(segmented)
        if on_field is not None:
            on_field(len(done), len(budgets))
    return SegmentedSlide(
        slide_id=slide.slide_id,
        size=slide.size,
        fields=tuple(each.samples for each in done),
        outside_label=outside_label(model.classes, slide),
        interpolation=model.config.sampling.interpolation,
        samples=sum(len(each.samples.labels) for each in done),
        tiles=sum(each.tiles for each in done),
        limit=tissue_limit_of(slide, model.classes.background) if is_limited else None,
        blanks=slide.blank_regions,
    )


def segment_fields(
    slide: Slide,
    model: Model,
    budgets: Sequence[FieldBudget],
    *,
    labels: Labels | None = None,
    batch: int = 1,
    scheduler: Any = "auto",
) -> Iterator[SegmentedField]:
    """Segment fields one batch after the other; the next batch is read while the network works on this one.

    Args:
        slide: An open slide.
        model: The model, in evaluation mode.
        budgets: The fields, from ``budgets_of``.
        labels: As for ``segment_slide``.
        batch: Most fields per forward pass; only neighbours with sampled images of one size share one.
        scheduler: Who runs the tasks of ``field_tasks``: "threads" is dask's threaded scheduler, which reads ahead of
            the network in this thread; "loop" does the same without dask; "auto" is threads from ``DASK_FROM`` batches
            on, else the loop. A ``distributed.Client`` has its workers do whole fields; they get slide (as its path)
            and model once. Labels are the same bit for bit.

    Yields:
        The labelled samples of each field, in order. Memory follows the batch, not the number of fields: at most
        ``READ_AHEAD`` batches are between their view and their labels, or twice as many as a client's workers have
        threads.

    Raises:
        ShapeError: Another scheduler.
        SlideError: A tile cannot be read. Workers of a client cannot leave out tiles (``on_bad_tile``): they fail.
    """
    source = FieldContext(slide=slide, model=model, labels=labels)
    batches = field_batches(budgets, batch, model)
    if not isinstance(scheduler, str):
        yield from _by_workers(scheduler, source, batches)
        return
    if scheduler not in ("auto", "loop", "threads"):
        raise ShapeError(
            f'scheduler "{scheduler}": needed "auto", "loop", "threads" or a distributed.Client.'
        )
    by_dask = scheduler == "threads" or (scheduler == "auto" and len(batches) >= DASK_FROM)
    fetched = _by_threads(source, batches) if by_dask else _by_loop(source, batches)
    for each, images in zip(batches, fetched, strict=True):
        yield from label_task(source, each, images)


def _by_loop(source: FieldContext, batches: Sequence[FieldBatch]) -> Iterator[Fetched]:
    """Sampled images of batches, read ahead by a thread."""

    def fetched(batch: FieldBatch) -> Fetched:
        return fetch_task(source, batch, plan_task(source, batch, view_task(source, batch)))

    # More than one batch ahead of the one that the network works on would only take memory.
    yield from ahead(fetched, batches, threads=1, max_waiting=READ_AHEAD)


def _by_threads(source: FieldContext, batches: Sequence[FieldBatch]) -> Iterator[Fetched]:
    """Sampled images of batches, read ahead by dask's threaded scheduler."""
    # An eighth of a second: only where there are fields enough.
    import dask.threaded

    # One thread: what could not be read until then, and who reads a tile first, do not depend on luck.
    with ThreadPoolExecutor(1, thread_name_prefix="fields") as pool:

        def fetched(batch: FieldBatch) -> Fetched:
            graph, key = field_graph(source, batch, last="fetch")
            found: Fetched = dask.threaded.get(graph, key, pool=pool)
            return found

        yield from ahead(fetched, batches, threads=1, max_waiting=READ_AHEAD)


def _by_workers(
    client: Client, source: FieldContext, batches: Sequence[FieldBatch]
) -> Iterator[SegmentedField]:
    """Labelled samples of batches, by the workers of a dask cluster."""
    # Held by the scheduler's workers, not by each task: the model travels once to each of them.
    (held,) = client.scatter([source], hash=False)
    threads = sum(client.nthreads().values())
    waiting: deque[Any] = deque()
    try:
        for number, batch in enumerate(batches):
            graph, key = field_graph(held, batch, fused=True)
            waiting.append(client.get(graph, key, sync=False, priority=-number))
            if len(waiting) >= max(2, 2 * threads):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def outside_label(classes: ClassTable, slide: Slide) -> int:
    """The label of everything that no field covers: the background, or class 0 where none is named.

    Of a slide of which only a region is segmented all else is unlabelled, so that nobody takes it for segmented.
    """
    return UNLABELLED if slide.is_cropped else classes.background or 0


def region_note(slide: Slide) -> dict[str, str]:
    """What a mask's OME-XML says of a slide of which only a region was segmented; empty for whole slides."""
    if not slide.is_cropped:
        return {}
    part = slide.region
    return {"region": f"{part.x} {part.y} {part.width} {part.height}", "outside the region": str(UNLABELLED)}
