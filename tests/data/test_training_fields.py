import dataclasses
import gc
import multiprocessing
import os
import pickle
import shutil
import signal

import numpy as np
import pytest
import torch

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.data.batches import load, shuffled_batches
from wsi_deform.data.fields import FieldViews, LabelledField
from wsi_deform.data.study import median_mpp, open_labelled
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ManifestError, SlideError, TrainingError
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.manifest.read import read_manifest


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=3, val=0, test=0, seed=2, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


@pytest.fixture(scope="module")
def items(study):
    manifest, classes = study
    found = []
    for number, row in enumerate(manifest.rows):
        slide, labels = open_labelled(row, classes)
        for x in (0, 256):
            region = Region(x, 0, 256, 256)
            size = Size(16, 16) if number else Size(24, 24)
            found.append(
                LabelledField(
                    slide=slide, labels=labels, field=Field(region, region), size=size, map_size=size
                )
            )
    return found


def test_every_field_comes_once_an_epoch_in_batches_of_one_size(items):
    for epoch in range(5):
        batches = shuffled_batches(items, 2, seed=1, epoch=epoch)
        assert sorted(index for batch in batches for index in batch) == list(range(len(items)))
        assert all(len({items[index].size for index in batch}) == 1 for batch in batches)
        assert all(1 <= len(batch) <= 2 for batch in batches)
    orders = {str(shuffled_batches(items, 2, seed=1, epoch=epoch)) for epoch in range(5)}
    assert len(orders) > 1
    assert shuffled_batches(items, 2, seed=1, epoch=3) == shuffled_batches(items, 2, seed=1, epoch=3)


def test_view_and_fractions_are_those_of_the_field(items):
    views = FieldViews(items)
    index, view, fractions = views[1]
    item = items[1]
    assert index == 1
    region = item.slide.read_region(0, item.field.region).astype(float)
    assert view.shape == (3, 24, 24)
    assert view.mean().item() == pytest.approx(region.mean(), abs=1)
    labels = item.labels.read_region(item.field.region)
    assert fractions.shape == (5, 24, 24)
    assert fractions.sum(dim=0).max() <= 1 + 1e-6
    shares = np.array([(labels == index).mean() for index in range(5)])
    np.testing.assert_allclose(fractions.mean(dim=(1, 2)).numpy(), shares, atol=0.03)


def test_what_is_kept_stays_within_its_limit_and_reads_equal(items):
    roomy, tight = FieldViews(items), FieldViews(items, cache_bytes=1)
    for index in [0, 1, 2, 0, 1, 2]:
        assert torch.equal(roomy[index][1], tight[index][1])
    assert len(tight._kept) == 1


def same(inline, spawned):
    for (one,), (other,) in zip(inline, spawned, strict=True):
        assert torch.equal(one.views, other.views)
        assert torch.equal(one.fractions, other.fractions)
        assert one.items == other.items


def test_spawned_workers_read_the_same_stay_and_tell_what_went_wrong(study, items, tmp_path):
    manifest, classes = study
    # One more field, of a slide that is gone by the time a worker wants it.
    row = manifest.rows[0]
    gone = shutil.copy(row.slide, tmp_path / f"gone{row.slide.suffix}")
    slide, labels = open_labelled(row.model_copy(update={"slide": gone, "slide_id": "gone"}), classes)
    lost = dataclasses.replace(items[0], slide=slide, labels=labels)
    views = FieldViews([*items, lost], tissue=True, stain="macenko")
    gone.unlink()
    own = FieldViews(items, tissue=True, stain="macenko")
    epochs = [shuffled_batches(items, 2, seed=0, epoch=epoch) for epoch in range(3)]
    inline = [list(load(own, batches, 0)) for batches in epochs]
    same(inline[0], load(views, epochs[0], 2))
    processes = set(multiprocessing.active_children())
    assert len(processes) == 2
    next(load(views, epochs[1], 2))  # an epoch that is given up
    same(inline[2], load(views, epochs[2], 2))
    assert set(multiprocessing.active_children()) == processes
    with pytest.raises(SlideError, match=r"^\S*gone\.\w+: cannot be found"):
        list(load(views, [[0], [len(items)], [1]], 2))
    same(inline[1], load(views, epochs[1], 2))
    for process in processes:
        os.kill(process.pid, signal.SIGINT)  # the main process alone decides what Ctrl-C means
    same(inline[1], load(views, epochs[1], 2))
    processes.pop().kill()
    with pytest.raises(TrainingError, match=r"loader process was lost(.|\n)*training.workers"):
        list(load(views, epochs[1] * 20, 2))
    rest = processes.pop()
    del views
    gc.collect()
    rest.join(20)
    assert not rest.is_alive()


def test_what_travels_to_a_worker_is_small_whatever_was_read(items):
    views = FieldViews(items, stain="macenko")
    fresh = len(pickle.dumps(views))
    for index in range(len(items)):
        views[index]
    assert len(pickle.dumps(views)) == fresh < 1500 * len(items)
    assert len(pickle.dumps(items[0].slide)) < 1000


def test_row_without_a_mask_is_refused_and_mpp_is_the_middle_one(study, items):
    manifest, classes = study
    with pytest.raises(ManifestError, match="Fill column mask or annotation"):
        open_labelled(manifest.rows[0].model_copy(update={"mask": None}), classes)
    assert median_mpp([item.slide for item in items]) == pytest.approx(0.5)
