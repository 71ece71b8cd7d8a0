"""Calibration, class frequency, intervals and cost, by hand and against brute force."""

from __future__ import annotations

import json

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.drawn.study import write_labels
from wsi_deform.errors import MaskError
from wsi_deform.evaluate.bootstrap import intervals_of
from wsi_deform.evaluate.calibration import Calibration, calibration_of
from wsi_deform.evaluate.cost import NOTHING, SlideCost, mean_cost_of_rows, slide_cost
from wsi_deform.evaluate.frequency import ClassFrequency
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.mask.samples import SlideSamples
from wsi_deform.reverse.samples import FieldSamples

CLASSES = ClassTable.from_names(["a", "b"])


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.55, 0.45], [0.2, 0.8], [0.3, 0.7]])
    truth = np.array([0, 1, 0, 1, 255], np.uint8)
    found = Calibration.of(probabilities, truth, bins=2)
    # Largest probabilities .9, .7, .55 and .8 all lie in the upper bin; three of four are right.
    np.testing.assert_allclose(found.top, [[0, 0, 0], [4, 2.95, 3]])
    assert found.expected_error() == pytest.approx(abs(3 - 2.95) / 4)
    # Class b: .1, .3 and .45 below (one is b), .8 above (it is b).
    np.testing.assert_allclose(found.classes[1], [[3, 0.85, 1], [1, 0.8, 1]])
    assert found.class_errors()[1] == pytest.approx((0.15 + 0.2) / 4)
    both = found + found
    assert both.top[1, 0] == 8
    assert both.expected_error() == pytest.approx(found.expected_error())


def test_probabilities_that_come_true_have_no_error_and_edges_belong_to_the_lower_bin():
    rng = np.random.default_rng(0)
    p = rng.uniform(0, 1, 200_000)
    truth = (rng.uniform(0, 1, p.size) > p).astype(np.uint8)
    found = Calibration.of(np.stack([p, 1 - p], axis=1), truth)
    assert found.expected_error() < 0.005
    edges = Calibration.of(np.array([[0.6, 0.4], [1.0, 0.0]]), np.array([0, 0], np.uint8), bins=5)
    assert edges.top[:, 0].tolist() == [0, 0, 1, 0, 1]
    assert edges.classes[1, :, 0].tolist() == [1, 1, 0, 0, 0]


def labels_of(folder, size):
    truth = np.zeros(size.shape, np.uint8)
    truth[:, size.width // 2 :] = 1
    write_labels(folder / "labels.tif", truth, mpp=0.5)
    return open_label_mask(folder / "labels.tif", slide_size=size, classes=CLASSES)


def field_of(size, lattice, p):
    y, x = np.mgrid[: lattice.height, : lattice.width]
    points = np.stack(
        [(x + 0.5) / lattice.width * size.width, (y + 0.5) / lattice.height * size.height], axis=-1
    ).reshape(-1, 2)
    scores = np.tile(np.array([p, 1 - p], np.float16), (len(points), 1))
    return FieldSamples(
        kept=Region.whole(size),
        points_px=points,
        labels=np.zeros(len(points), np.uint8),
        probabilities=scores,
        lattice=lattice,
    )


def test_a_probability_map_is_compared_at_the_centres_of_its_pixels(tmp_path):
    size = Size(640, 320)
    truth, path = labels_of(tmp_path, size), tmp_path / "s.probability.ome.tif"
    field = field_of(size, Size(40, 20), 0.8)
    with ProbabilityMap(
        path, size=size, mpp=None, class_names=CLASSES.names, downsample=8
    ) as probability_map:
        probability_map.add(field)
    found, source = calibration_of(truth, path, None, classes=2)
    assert source == "probability maps"
    assert found.top[:, 0].sum() == 80 * 40
    # Half of the map is class a, of which it is .8 (204 of 255) sure.
    assert found.top.sum(axis=0) == pytest.approx([3200, 3200 * 204 / 255, 1600])
    assert found.expected_error() == pytest.approx(204 / 255 - 0.5)
    with pytest.raises(
        MaskError, match="2 channels of uint8. Needed that of a slide of 640 x 320 px and 3 classes"
    ):
        calibration_of(truth, path, None, classes=3)


def test_without_a_map_the_samples_say_it_and_without_probabilities_nobody(tmp_path):
    size = Size(640, 320)
    truth = labels_of(tmp_path, size)
    samples = SlideSamples(
        size=size, fields=(field_of(size, Size(40, 20), 0.75),), outside_label=0, interpolation="linear"
    )
    found, source = calibration_of(truth, tmp_path / "none", samples, classes=2)
    assert (source, found.top.sum(axis=0).tolist()) == ("samples", [800, 600, 400])
    assert calibration_of(truth, tmp_path / "none", None, classes=2) is None
    assert (
        calibration_of(truth, tmp_path / "none", samples.relabelled(truth.at_points), classes=2) is not None
    )


def test_class_frequency_by_hand():
    labels = np.array([0, 0, 1, 1, 1, 1, 255], np.uint8)
    found = ClassFrequency.of(labels, np.array([900, 100, 0]))
    assert found.samples.tolist() == [2, 4, 0]
    assert found.ratios()[:2] == pytest.approx([(2 / 6) / 0.9, (4 / 6) / 0.1])
    assert np.isnan(found.ratios()[2])
    assert (found + found).pixels.tolist() == [1800, 200, 0]


def test_intervals_are_those_of_resampled_groups():
    rng = np.random.default_rng(1)
    counts = [rng.integers(0, 50, (3, 3)) for _ in range(12)]
    patients = [f"p{number // 2}" for number in range(12)]
    found = intervals_of(counts, patients, resamples=400, seed=7)
    assert found.groups == 6
    # The same by drawing patients one by one and adding up all of their slides.
    again = np.random.default_rng(3)
    mious = []
    for _ in range(4000):
        drawn = [f"p{number}" for number in again.integers(0, 6, 6)]
        total = sum(sum(c for c, p in zip(counts, patients, strict=True) if p == each) for each in drawn)
        mious.append(
            np.mean([total[k, k] / (total[k].sum() + total[:, k].sum() - total[k, k]) for k in range(3)])
        )
    low, high = np.quantile(mious, [0.025, 0.975])
    assert found.miou == pytest.approx((low, high), abs=0.15 * (high - low))
    assert found == intervals_of(counts, patients, resamples=400, seed=7)


def test_equal_slides_have_no_spread_and_few_groups_no_interval():
    counts = [np.array([[30, 10], [0, 60]])] * 5
    found = intervals_of(counts, list("abcde"))
    assert found.iou[1] == pytest.approx((60 / 70, 60 / 70))
    assert found.dice[0] == pytest.approx((60 / 70, 60 / 70))
    assert found.mdice == pytest.approx(((60 / 70 + 120 / 130) / 2,) * 2)
    assert intervals_of(counts, list("aabcd")) is None


def test_a_class_that_hardly_occurs_has_no_interval():
    rare, none = np.diag([5, 1, 1]), np.diag([5, 1, 0])
    assert intervals_of([none] * 20, [str(number) for number in range(20)]).iou[2] is None
    assert intervals_of([rare] + [none] * 4, list("abcde")).iou[2] == (1, 1)


def test_costs_come_from_the_state_of_the_mask_that_is_there(tmp_path):
    folder = MaskFolder(tmp_path)
    folder.states.mkdir()
    done = {"slide_id": "s", "status": "done", "samples": 100, "seconds": 2.5, "tiles": 3}
    folder.state("s").write_text(json.dumps({**done, "flops": 10, "decoded_pixels": None}))
    assert slide_cost(folder, "s") == SlideCost(samples=100, seconds=2.5, flops=10)
    folder.state("s").write_text(
        json.dumps({"slide_id": "s", "status": "failed", "samples": 0, "kept": done})
    )
    assert slide_cost(folder, "s") == SlideCost(samples=100, seconds=2.5)
    assert slide_cost(folder, "other") == NOTHING
    folder.state("s").write_text("[1")
    assert slide_cost(folder, "s") == NOTHING


def test_mean_cost_is_over_slides_and_memory_the_largest():
    one = {"samples": 100, "decoded_pixels": None, "peak_memory_bytes": 5}
    one |= dict.fromkeys(("decoded_bytes", "flops", "seconds"))
    other = {**one, "samples": 300, "decoded_pixels": 9, "peak_memory_bytes": 7}
    found = mean_cost_of_rows([one, other])
    assert (found["samples"], found["decoded_pixels"], found["peak_memory_bytes"]) == (200, None, 7)


def test_an_interval_of_the_mean_is_over_the_same_classes_in_every_resample():
    rare = np.array([[40, 10, 0], [0, 50, 0], [0, 0, 10]])
    none = np.array([[40, 10, 0], [0, 50, 0], [0, 0, 0]])
    found = intervals_of([rare, *[none] * 5], list("abcdef"), resamples=200)
    # Two thirds of the resamples have the third class; the others, whose mean is .817, are left out.
    assert found.miou == pytest.approx(((0.8 + 5 / 6 + 1) / 3,) * 2)
    assert intervals_of([rare, *[none] * 30], [str(number) for number in range(31)]).miou is not None
