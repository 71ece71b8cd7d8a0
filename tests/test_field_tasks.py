"""The tasks of fields by a loop, dask's threads and dask's workers: the same samples, and few fields on the way."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import dask
import numpy as np
import pytest
import torch
from distributed import Client, LocalCluster
from tiny_study import tiny_model, tiny_study

from wsi_deform import field_tasks, segment
from wsi_deform.cover import budgets_of
from wsi_deform.errors import ShapeError
from wsi_deform.field_tasks import FieldContext, SegmentedField, field_batches, field_graph
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.segment import segment_fields, segment_slide
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide


@pytest.fixture(scope="module")
def slide_and_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Slide, Model]:
    """A slide of 10 fields."""
    folder = tmp_path_factory.mktemp("tasks")
    study = tiny_study(folder, test=1)
    tiny_model(folder / "run", study.classes)
    slide, model = open_slide(next(iter(sorted((folder / "slides").iterdir())))), load_model(folder / "run")
    fields = model.config.fields.model_copy(update={"side_um": 40.0, "whole_below_mm2": 0.0, "margin": 0.25})
    model.config = model.config.model_copy(update={"fields": fields})
    return slide, model


def numbers(fields: Iterator[SegmentedField]) -> list[tuple[bytes, bytes, bytes, bytes, int]]:
    """All that a mask depends on."""
    found = []
    for each in fields:
        samples = each.samples
        assert samples.probabilities is not None
        assert samples.areas_px is not None
        parts = samples.points_px, samples.labels, samples.probabilities, samples.areas_px
        found.append((*(part.tobytes() for part in parts), each.tiles))
    return found


@pytest.mark.parametrize("batch", [1, 3])
def test_a_loop_threads_and_workers_give_the_same_samples_bit_for_bit(slide_and_model, batch):
    slide, model = slide_and_model
    budgets = budgets_of(slide, model)
    assert len(budgets) > 8

    def by(scheduler: object) -> list[tuple[bytes, bytes, bytes, bytes, int]]:
        return numbers(segment_fields(slide, model, budgets, batch=batch, scheduler=scheduler))

    loop = by("loop")
    assert len(loop) == len(budgets)
    assert by("threads") == by("auto") == loop
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address="127.0.0.1:0",
            protocol="tcp",
        ) as cluster,
        Client(cluster) as client,
    ):
        assert by(client) == loop


def test_the_graph_is_view_plan_fetch_label_and_dask_makes_one_task_of_it(slide_and_model):
    slide, model = slide_and_model
    source = FieldContext(slide=slide, model=model)
    first = max(field_batches(budgets_of(slide, model), 2, model), key=len)
    graph, key = field_graph(source, first)
    assert [name.partition("-")[0] for name in graph] == ["view", "plan", "fetch", "label"]
    fused, same = field_graph(source, first, fused=True)
    assert list(fused) == [same]
    of_graph, of_fused = dask.get(graph, key), dask.get(fused, same)
    assert len(of_graph) == len(of_fused) == 2
    assert numbers(iter(of_graph)) == numbers(iter(of_fused))
    shorter, last = field_graph(source, first, last="fetch")
    assert dask.get(shorter, last).sampled.images.shape[:2] == (2, 3)


@pytest.mark.parametrize("scheduler", ["loop", "threads"])
def test_no_more_than_two_batches_are_on_the_way(slide_and_model, monkeypatch, scheduler):
    slide, model = slide_and_model
    lock, on_the_way, most = threading.Lock(), 0, 0
    view, label = field_tasks.view_task, field_tasks.label_task

    def viewed(*given):
        nonlocal on_the_way, most
        with lock:
            on_the_way += 1
            most = max(most, on_the_way)
        return view(*given)

    def labelled(*given):
        nonlocal on_the_way
        # Reading could go on meanwhile, if it were allowed to.
        threading.Event().wait(0.05)
        found = label(*given)
        with lock:
            on_the_way -= 1
        return found

    tasks = tuple((name, viewed if name == "view" else function) for name, function in field_tasks.TASKS)
    monkeypatch.setattr(field_tasks, "TASKS", tasks)
    monkeypatch.setattr(segment, "view_task", viewed)
    monkeypatch.setattr(segment, "label_task", labelled)
    fields = segment_fields(slide, model, budgets_of(slide, model), scheduler=scheduler)
    for _ in fields:
        threading.Event().wait(0.02)
    assert (on_the_way, most) == (0, 2)


def test_many_fields_are_read_by_dask_and_few_without_it(slide_and_model, monkeypatch):
    slide, model = slide_and_model
    budgets = budgets_of(slide, model)
    asked = []
    real = dask.threaded.get

    def get(*given, **named):
        asked.append(threading.current_thread().name)
        return real(*given, **named)

    monkeypatch.setattr(dask.threaded, "get", get)
    list(segment_fields(slide, model, budgets[:7]))
    assert asked == []
    list(segment_fields(slide, model, budgets[:8]))
    assert len(asked) == 8
    assert threading.current_thread().name not in asked


def test_a_consumer_that_stops_ends_the_reading(slide_and_model):
    slide, model = slide_and_model
    before = threading.active_count()
    fields = segment_fields(slide, model, budgets_of(slide, model), scheduler="threads")
    next(fields)
    fields.close()
    assert threading.active_count() == before


def test_an_error_of_a_tile_comes_as_it_is(slide_and_model, monkeypatch):
    slide, model = slide_and_model

    def broken(*_: object) -> None:
        raise ValueError("no tile")

    monkeypatch.setattr(Slide, "read_tiles", broken)
    for scheduler in ("loop", "threads"):
        with pytest.raises(ValueError, match="no tile"):
            segment_slide(slide, model, scheduler=scheduler)


def test_another_scheduler_is_refused(slide_and_model):
    slide, model = slide_and_model
    with pytest.raises(ShapeError, match='scheduler "processes": needed "auto", "loop", "threads" or a'):
        list(segment_fields(slide, model, (), scheduler="processes"))


def test_torch_keeps_no_gradient_of_fields(slide_and_model):
    slide, model = slide_and_model
    (first, *_) = field_batches(budgets_of(slide, model), 1, model)
    source = FieldContext(slide=slide, model=model)
    graph, key = field_graph(source, first, last="fetch")
    with torch.enable_grad():
        assert not dask.get(graph, key).sampled.grid.requires_grad
    assert np.isfinite(dask.get(graph, key).sampled.read_seconds)
