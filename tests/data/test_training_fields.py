import numpy as np
import pytest
import torch

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.data.fields import FieldViews, LabelledField, shuffled_batches
from wsi_deform.data.study import median_mpp, open_labelled
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ManifestError
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest import read_manifest
from wsi_deform.slide.fields import Field
from wsi_deform.train.loop import load


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


def test_spawned_workers_read_the_same(items):
    views = FieldViews(items)
    batches = shuffled_batches(items, 2, seed=0, epoch=0)
    inline, spawned = list(load(views, batches, 0)), list(load(views, batches, 1))
    assert len(inline) == len(spawned) == len(batches)
    for one, other in zip(inline, spawned, strict=True):
        assert torch.equal(one.views, other.views)
        assert torch.equal(one.fractions, other.fractions)
        assert one.items == other.items


def test_row_without_a_mask_is_refused_and_mpp_is_the_middle_one(study, items):
    manifest, classes = study
    with pytest.raises(ManifestError, match="mask column"):
        open_labelled(manifest.rows[0].model_copy(update={"mask": None}), classes)
    assert median_mpp([item.slide for item in items]) == pytest.approx(0.5)
