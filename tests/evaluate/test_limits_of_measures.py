"""Where measures begin, end and give up: widths, caps, sizes, and what is too little to measure."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_near_borders import streamed

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.drawn.study import write_labels
from wsi_deform.errors import MaskError
from wsi_deform.evaluate.bootstrap import intervals_of
from wsi_deform.evaluate.boundary import MAX_POINTS, Boundary, Distances
from wsi_deform.evaluate.calibration import Calibration, calibration_of
from wsi_deform.evaluate.cost import SlideCost, mean_cost_of_rows, slide_cost
from wsi_deform.evaluate.frequency import ClassFrequency
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.objects import Objects
from wsi_deform.evaluate.slide_measures import ALL, BASIC, Measured
from wsi_deform.evaluate.slides import blocks
from wsi_deform.evaluate.trimap import Trimap
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.mask.samples import SlideSamples
from wsi_deform.reverse.samples import FieldSamples

CLASSES = ClassTable.from_names(["a", "b"])
PX = [("px", width) for width in (1, 2, 4, 8, 16, 32)]


@pytest.mark.parametrize(
    ("mpp", "um"),
    [
        (None, ()),
        (0.5, (1, 2, 4, 8, 16)),
        # 16 um are 320 px: wider than the 254 px that are looked at. 1 and 2 um of 4 um hold no centre of a pixel.
        (0.05, (1, 2, 4, 8)),
        (4.0, (4, 8, 16)),
    ],
)
def test_trimap_bands_are_those_that_a_slide_can_show(mpp, um):
    assert list(Trimap(classes=2, mpp=mpp).result().bands) == [*PX, *(("um", width) for width in um)]


@pytest.mark.parametrize(
    ("mpp", "um", "halo_px"),
    [
        # Half of a pixel of 1 um^2 is .5 um; 16 um are 32 px of the shorter side.
        (Point(0.5, 2.0), (1, 2, 4, 8, 16), 33),
        (Point(2.0, 0.5), (1, 2, 4, 8, 16), 33),
        # 16 um are wider than 254 px of .04 um; 8 um are 200.
        (Point(0.04, 0.09), (1, 2, 4, 8), 201),
        # Half of a pixel of 64 um^2 is 4 um: a band of these holds no centre.
        (Point(4.0, 16.0), (8, 16), 33),
        (Point(0.01, 0.04), (1, 2), 201),
        (Point(40.0, 160.0), (), 33),
    ],
)
def test_bands_of_pixels_that_are_not_square_go_by_their_shorter_side(mpp, um, halo_px):
    found = Trimap(classes=2, mpp=mpp)
    assert found.halo_px == halo_px
    assert list(found.result().bands) == [*PX, *(("um", width) for width in um)]


@pytest.mark.parametrize(
    ("axis", "px", "um", "capped"),
    [(1, 4, 2, 0), (0, 4, 5, 2), (1, 10, 5, 2), (0, 2, 4, 0)],
)
def test_distances_in_um_are_capped_by_the_shorter_side_of_a_pixel(axis, px, um, capped):
    """Pixels of .5 x 2 um, and a border that is looked for 10 px away: 5 um."""
    labels = []
    for end in (5, 5 + px):
        side = np.zeros((40, 40), np.uint8)
        side[(slice(None),) * axis + (slice(0, end),)] = 1
        labels.append(side)
    found = streamed(Boundary(classes=2, mpp=Point(0.5, 2.0), cap_px=10), *labels, side_px=16)
    assert found.units["px"][1].mean() == px
    assert found.units["um"][1].mean() == um
    assert found.units["um"][1].capped_share() == capped / 2


def test_a_measure_sees_as_far_around_a_block_as_it_looks():
    assert Trimap(classes=2, mpp=None, widths_px=[2.5]).halo_px == 4
    assert list(Trimap(classes=2, mpp=None, widths_px=[0.5, 254, 254.1]).result().bands) == [("px", 254)]
    assert Boundary(classes=2, mpp=None).halo_px == 1
    assert Objects(classes=2, background=0, mpp=None, width_px=9).halo_px == 0


def test_borders_are_looked_for_512_px_away():
    truth, predicted = np.zeros((2, 700), np.uint8), np.zeros((2, 700), np.uint8)
    truth[:, :80] = 1
    for width, apart, capped in ((591, 511, 0), (592, 512, 2), (600, 512, 2)):
        predicted[:, :width] = 1
        found = streamed(Boundary(classes=2, mpp=None), truth, predicted, side_px=300).units["px"][1]
        assert (found.mean(), found.to_true.capped, found.capped_share()) == (apart, capped, capped / 2)


def test_borders_far_to_the_right_are_found_in_a_low_slide():
    truth, predicted = np.zeros((8, 200), np.uint8), np.zeros((8, 200), np.uint8)
    truth[:, :100], predicted[:, :102] = 1, 1
    assert (
        streamed(Boundary(classes=2, mpp=None, cap_px=10), truth, predicted, side_px=40).units["px"][1].mean()
        == 2
    )


def test_three_rows_of_blocks_are_held_of_a_tall_slide(monkeypatch):
    truth, predicted = np.zeros((400, 12), np.uint8), np.zeros((400, 12), np.uint8)
    truth[:, :4], predicted[:, :6] = 1, 1
    whole = streamed(Boundary(classes=2, mpp=None, cap_px=10), truth, predicted, side_px=400).units["px"][1]
    # Four border pixels in each row of pixels, ten of these in a row of blocks, and as many above and below.
    assert MAX_POINTS == 30_000_000
    monkeypatch.setattr("wsi_deform.evaluate.boundary.MAX_POINTS", 120)
    found = streamed(Boundary(classes=2, mpp=None, cap_px=10), truth, predicted, side_px=10).units["px"][1]
    assert (found.to_true.count, found.to_true.total) == (400, 800)
    assert (whole.mean(), found.mean()) == (2, 2)
    monkeypatch.setattr("wsi_deform.evaluate.boundary.MAX_POINTS", 119)
    assert streamed(Boundary(classes=2, mpp=None, cap_px=10), truth, predicted, side_px=10) is None


def test_distances_are_kept_to_a_64th():
    found = Distances.of(np.array([1 / 64 + 1 / 200, 1.0]))
    assert [found.percentile(share) for share in (0.5, 1.0)] == [1 / 64, 1]
    assert found.total == pytest.approx(1 + 1 / 64 + 1 / 200)
    assert np.isnan(Distances.of(np.empty(0)).percentile(0.5))


def labels_by_row(folder, size):
    """Labels that are a above the middle and b below."""
    truth = np.zeros(size.shape, np.uint8)
    truth[size.height // 2 :] = 1
    write_labels(folder / "labels.tif", truth, mpp=0.5)
    return open_label_mask(folder / "labels.tif", slide_size=size, classes=CLASSES)


def field_that_is_sure(size, p, *, certain=True):
    """A sample at the centre of each pixel of a slide, all labelled a with probability p."""
    y, x = np.mgrid[: size.height, : size.width]
    points = np.stack([x + 0.5, y + 0.5], axis=-1).reshape(-1, 2)
    return FieldSamples(
        kept=Region.whole(size),
        points_px=points,
        labels=np.zeros(len(points), np.uint8),
        probabilities=np.tile(np.array([p, 1 - p], np.float16), (len(points), 1)) if certain else None,
        lattice=size,
    )


def map_of(path, size, p, downsample=1):
    with ProbabilityMap(
        path, size=size, mpp=None, class_names=CLASSES.names, downsample=downsample
    ) as writer:
        writer.add(field_that_is_sure(size, p))
    return path


def test_a_tall_probability_map_is_compared_band_by_band(tmp_path, monkeypatch):
    monkeypatch.setattr("wsi_deform.evaluate.calibration.POINTS_AT_ONCE", 20)
    size = Size(12, 1500)
    truth = labels_by_row(tmp_path, size)
    found, _ = calibration_of(truth, map_of(tmp_path / "p.ome.tif", size, 0.8), None, classes=2)
    # 204 of 255 for a: right above the middle, in the 12th of 15 bins; class b has 51 of 255, in the third.
    assert len(found.top) == 15
    np.testing.assert_allclose(found.top[11], [18000, 18000 * 0.8, 9000])
    np.testing.assert_allclose(found.classes[1, 2], [18000, 18000 * 0.2, 9000])
    assert found.top[:, 0].sum() == found.classes[1, :, 0].sum() == 18000
    both = found + found
    np.testing.assert_allclose(both.classes[0, 11], [36000, 36000 * 0.8, 18000])


def test_a_probability_map_of_another_slide_is_refused_and_one_of_one_pixel_is_not(tmp_path):
    truth = labels_by_row(tmp_path, Size(1, 1))
    found, _ = calibration_of(truth, map_of(tmp_path / "p.ome.tif", Size(1, 1), 0.8), None, classes=2)
    assert found.top[:, 0].sum() == 1
    other = map_of(tmp_path / "other.ome.tif", Size(3, 1), 0.8)
    with pytest.raises(MaskError, match="3 x 1 px, 2 channels of uint8. Needed that of a slide of 1 x 1 px"):
        calibration_of(truth, other, None, classes=2)


def test_samples_say_only_what_they_know(tmp_path):
    size = Size(16, 10)
    truth = labels_by_row(tmp_path, size)
    fields = (field_that_is_sure(size, 0.75), field_that_is_sure(size, 0.75, certain=False))
    samples = SlideSamples(size=size, fields=fields, outside_label=0, interpolation="nearest")
    found, source = calibration_of(truth, tmp_path / "none", samples, classes=2)
    assert (source, found.top.sum(axis=0).tolist()) == ("samples", [160, 120, 80])
    # Probabilities of other classes than the table's are those of another model.
    found, _ = calibration_of(truth, tmp_path / "none", samples, classes=3)
    assert found.top.sum() == 0
    assert np.isnan(found.expected_error())


def test_probabilities_that_do_not_quite_add_up_are_scaled(tmp_path):
    size = Size(4, 4)
    field = field_that_is_sure(size, 0.75)
    field.probabilities[:] = [0.375, 0.125]
    samples = SlideSamples(size=size, fields=(field,), outside_label=0, interpolation="nearest")
    found, _ = calibration_of(labels_by_row(tmp_path, size), tmp_path / "none", samples, classes=2)
    assert found.top.sum(axis=0).tolist() == [16, 12, 8]


def test_a_bin_holds_its_upper_edge_also_after_rounding():
    p = np.array([[0.6 + 1e-12, 0.4 - 1e-12], [0.6 + 1e-6, 0.4 - 1e-6], [0.0, 1.0]])
    found = Calibration.of(p, np.array([0, 0, 1], np.uint8), bins=5)
    assert found.classes[0, :, 0].tolist() == [1, 0, 1, 1, 0]


def test_an_interval_has_95_of_100_resamples():
    # 3 of 20 patients are wrong: of 20 draws 7 or more are of these in 2.2 % of the resamples, 6 or more in 6.7 %.
    right, wrong = np.array([[1, 0], [0, 0]]), np.array([[0, 1], [0, 0]])
    found = intervals_of([wrong] * 3 + [right] * 17, [str(n) for n in range(20)], resamples=100_000)
    assert found.iou[0] == (0.7, 1.0)
    assert found.dice[0] == pytest.approx((28 / 34, 1.0))


def test_a_class_that_is_in_half_of_the_resamples_has_an_interval():
    rare, none = np.diag([5, 1]), np.diag([5, 0])
    found = [intervals_of([rare] + [none] * 4, list("abcde"), resamples=2, seed=n).iou[1] for n in range(60)]
    # It is missing from one resample with a chance of .33, from both with .11, from one or both with .55.
    assert 1 <= sum(each is None for each in found) <= 15


def test_intervals_are_of_a_thousand_resamples_of_a_seed():
    rng = np.random.default_rng(0)
    counts = [rng.integers(1, 50, (2, 2)) for _ in range(9)]
    assert intervals_of(counts, list("abcdefghi")) == intervals_of(
        counts, list("abcdefghi"), resamples=1000, seed=0
    )


def test_nothing_sampled_and_nothing_labelled_has_no_share():
    none = ClassFrequency.of(np.array([255], np.uint8), np.array([0, 0]))
    assert np.isnan(none.sample_shares()).all()
    assert np.isnan(none.pixel_shares()).all()
    some = ClassFrequency(samples=np.array([1, 3]), pixels=np.array([1, 1]))
    assert (some.sample_shares().tolist(), some.ratios().tolist()) == ([0.25, 0.75], [0.5, 1.5])


def test_amounts_that_are_none_are_not_costs(tmp_path):
    folder = MaskFolder(tmp_path)
    folder.states.mkdir()
    state = {"status": "done", "samples": 0, "seconds": True, "flops": "many", "decoded_bytes": -3}
    folder.state("s").write_text(json.dumps(state | {"decoded_pixels": 1}))
    assert slide_cost(folder, "s") == SlideCost(decoded_pixels=1)
    folder.state("s").write_text(json.dumps({"status": "failed", "samples": 5}))
    assert slide_cost(folder, "s") == SlideCost()
    names = ("samples", "read_pixels", "decoded_pixels", "decoded_bytes", "flops", "peak_memory_bytes")
    rows = [dict.fromkeys(names, 4)] * 2
    assert mean_cost_of_rows([row | {"seconds": n} for n, row in enumerate(rows)])["seconds"] == 0.5


def test_everything_is_measured_unless_the_basics_are_asked_for():
    assert (ALL.near_borders, BASIC.near_borders) == (True, False)
    assert ALL.widths_px == (1, 2, 4, 8, 16, 32)
    assert ALL.widths_um == (1, 2, 4, 8, 16)


def test_a_measure_is_over_the_slides_that_have_it():
    some = Measured(frequency=ClassFrequency(samples=np.array([1]), pixels=np.array([2])))
    found = Measured.together([some, Measured(probabilities_of=frozenset(["samples"])), some, some])
    assert (found.frequency.samples.tolist(), found.frequency.pixels.tolist()) == ([3], [6])
    assert (found.trimap, found.probabilities_of) == (None, {"samples"})


def test_a_slide_is_read_in_blocks_of_2048_px():
    assert list(blocks(Size(2049, 5))) == [Region(0, 0, 2048, 5), Region(2048, 0, 1, 5)]


def test_measures_of_counts_without_a_whole_are_not_numbers():
    found = Confusion(np.array([[4, 1, 0], [0, 0, 0], [0, 0, 0]]))
    for values, wanted in (
        (found.iou(), [0.8, 0, np.nan]),
        (found.dice(), [8 / 9, 0, np.nan]),
        (found.precision(), [1, 0, np.nan]),
        (found.recall(), [0.8, np.nan, np.nan]),
    ):
        np.testing.assert_allclose(values, wanted)
    assert found.miou(without=1) == 0.8
