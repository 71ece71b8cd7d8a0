import numpy as np
import pytest

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.data.balance import class_pixels, rare_field_weights
from wsi_deform.data.batches import shuffled_batches
from wsi_deform.data.fields import LabelledField
from wsi_deform.data.study import open_labelled
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import Field
from wsi_deform.manifest.read import read_manifest


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=2, val=0, test=0, seed=4, size=Size(512, 256))
    classes = read_class_table(made.classes)
    found = []
    for row in read_manifest(made.manifest).rows:
        slide, labels = open_labelled(row, classes)
        for x in (0, 256):
            region = Region(x, 0, 256, 256)
            found.append(
                LabelledField(
                    slide=slide,
                    labels=labels,
                    field=Field(region, region),
                    size=Size(32, 32),
                    map_size=Size(64, 64),
                )
            )
    return found


def test_class_pixels_are_the_labelled_area_of_each_field(items):
    found = class_pixels(items)
    true = [
        np.bincount(item.labels.read_region(item.field.region).ravel(), minlength=256)[:5] for item in items
    ]
    # 64 x 64 cells of 4 x 4 points over 256 x 256 px: every pixel is one of the points.
    np.testing.assert_array_equal(found, true)
    np.testing.assert_array_equal(class_pixels(items), found)


def test_at_power_1_every_class_is_drawn_alike():
    pixels = np.array([[1000.0, 0, 0], [800, 20, 0], [0, 0, 0], [900, 0, 0]])
    weights = rare_field_weights(pixels, 1.0)
    np.testing.assert_allclose(weights, np.array([1000, 800 + 2700, 0, 900]) / 5400)
    assert weights @ (pixels / pixels.sum(axis=0).clip(1))[:, 1] > 0.6
    half = rare_field_weights(pixels, 0.5)
    np.testing.assert_allclose(half / half[0], np.sqrt(weights / weights[0]))
    assert half[2] == 0


def test_nothing_labelled_is_refused():
    with pytest.raises(ShapeError, match="masks of the training slides"):
        rare_field_weights(np.zeros((3, 2)), 1.0)


def test_an_epoch_draws_the_field_with_a_rare_class_more_often_and_the_same_each_time(items):
    many = items * 25
    pixels = np.tile([[100.0, 0], [100, 0], [99, 1], [100, 0]], (25, 1))
    weights = rare_field_weights(pixels, 1.0)
    batches = shuffled_batches(many, 2, seed=1, epoch=0, weights=weights)
    assert len(batches) == len(shuffled_batches(many, 2, seed=1, epoch=0)) == 50
    drawn = np.array([index % 4 for batch in batches for index in batch])
    assert 0.5 < (drawn == 2).mean() < 0.75  # 1/2 for the rare class, and 1/8 for its share of the other
    assert batches == shuffled_batches(many, 2, seed=1, epoch=0, weights=weights)
