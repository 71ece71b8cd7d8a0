"""What an evaluation says, in words, tables and files: numbers made by hand, and every word of the text."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.evaluate.boundary import BorderPair, BoundaryDistances, Distances
from wsi_deform.evaluate.calibration import Calibration
from wsi_deform.evaluate.cost import SlideCost
from wsi_deform.evaluate.frequency import ClassFrequency
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation, Unmeasured
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.objects import SIZES, Missed, ObjectCounts
from wsi_deform.evaluate.slide_measures import Measured
from wsi_deform.evaluate.summary import object_notes, shown_unit, summary_text
from wsi_deform.evaluate.tables import evaluation_data, write_evaluation
from wsi_deform.evaluate.trimap import TrimapCounts
from wsi_deform.geometry import Region, Size

CLASSES = ClassTable.from_names(["background", "gland"])
KEYS = (
    "from",
    "to",
    "objects",
    "touched",
    "half_covered",
    "covered",
    "predicted_objects",
    "predicted_touching",
    "predicted_half_true",
    "predicted_false",
)


def counts(*rows):
    return Confusion(np.array(rows, np.int64))


def objects_of(missed=()):
    """A gland below 100 um^2 that is missed, and three above 1,000: two are touched, one of these is half covered."""
    true, predicted = (np.zeros((2, len(SIZES["um"]), 5), np.int64) for _ in range(2))
    true[1, 0], true[1, 2] = (1, 0, 0, 200, 0), (3, 2, 1, 12000, 6000)
    predicted[1, 1], predicted[1, 2] = (1, 0, 0, 1000, 0), (5, 4, 1, 20000, 6000)
    return ObjectCounts(true={"um": true}, predicted={"um": predicted}, missed=tuple(missed))


def measured_of(missed):
    border = BorderPair(
        to_true=Distances.of(np.array([1.0, 3.0])),
        to_predicted=Distances.of(np.array([2.0, 512.0]), capped=1),
    )
    none = BorderPair(to_true=Distances.of(np.empty(0)), to_predicted=Distances.of(np.empty(0)))
    halved = BorderPair(
        to_true=Distances.of(np.array([0.5, 1.5])),
        to_predicted=Distances.of(np.array([1.0, 256.0]), capped=1),
    )
    return Measured(
        trimap=TrimapCounts(
            {
                ("um", 2.0): counts([30, 10], [10, 50]),
                ("px", 2.5): counts([6, 2], [1, 1]),
                ("px", 1.0): counts([3, 1], [0, 0]),
                ("px", 32.0): counts([0, 0], [0, 0]),
            }
        ),
        boundary=BoundaryDistances({"px": (none, border), "um": (none, halved)}),
        objects=objects_of(missed),
        calibration=Calibration(
            top=np.array([[0, 0, 0], [8, 6.4, 5]], float),
            classes=np.array([[[2, 0.4, 0], [6, 4.8, 5]], [[6, 1.2, 1], [2, 1.6, 2]]], float),
        ),
        frequency=ClassFrequency(samples=np.array([600, 400]), pixels=np.array([3000, 1000])),
        probabilities_of=frozenset(["samples", "probability maps"]),
    )


COST = SlideCost(
    samples=1200,
    read_pixels=1_650_000,
    decoded_pixels=2_500_000,
    decoded_bytes=7_500_000,
    flops=3_210_000_000,
    seconds=1.25,
    peak_memory_bytes=512_000_000,
)


def evaluation_of(slides=2, *, mpp=0.5, cost=COST, measured=True, unmeasured=()):
    missed = Missed(class_index=1, box=Region(30, 40, 50, 60), pixels=200, covered=0.25, area_um2=50.0)
    large = Missed(class_index=1, box=Region(1, 2, 3, 4), pixels=9000, covered=0.0, area_um2=None)
    found = [
        SlideEvaluation(
            slide_id=f"s{number}",
            size=Size(100, 80),
            predicted=counts([900 - 100 * number, 100 + 100 * number], [50, 150]),
            sampled=counts([990, 10], [20, 180]) if number == 0 else None,
            patient=f"p{number}",
            mpp=mpp,
            measured=measured_of([missed, large] if number == 1 else [])
            if measured and number < 2
            else Measured(),
            cost=cost
            if number == 0
            else replace(cost, seconds=2 * (cost.seconds or 0), peak_memory_bytes=1_000_000_000),
        )
        for number in range(slides)
    ]
    return Evaluation(
        masks="masks", split="test", classes=CLASSES, slides=tuple(found), unmeasured=tuple(unmeasured)
    )


def rows_of(text, under):
    """Cells of the tables under a heading."""
    part = text.split(f"{under}\n", 1)[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|") and ":--" not in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.fixture(scope="module")
def text():
    unmeasured = [Unmeasured(slide_id="x", reason="mask x:\n  missing")]
    figures = {"objects": "o.png", "trimap": "t.png", "calibration": "c.png", "frequency": "f.png"}
    return summary_text(evaluation_data(evaluation_of(unmeasured=unmeasured)), figures)


def test_measures_of_all_slides_stand_in_the_first_table(text):
    title = "# 2 slides against the labels, split test"
    assert text.startswith(f"{title}\n\n")
    # Pooled (1700, 300), (100, 300); only the first slide came with samples.
    assert rows_of(text, title) == [
        ["class", "IoU", "Dice", "precision", "recall", "IoU(Y', Y)", "labelled px"],
        ["background", "0.810", "0.895", "0.944", "0.850", "0.971", "2,000"],
        ["gland", "0.429", "0.600", "0.500", "0.750", "0.857", "400"],
        ["mean", "0.619", "0.747", "–", "–", "0.914", "2,400"],
    ]
    assert "\nNo intervals: fewer than 5 patients or slides say nothing of others.\n" in text
    assert "\nPixel accuracy 0.833.\n" in text
    assert text.endswith("\n## Not measured\n\n- x: mask x: missing\n")


def test_each_measure_has_its_table(text):
    assert rows_of(text, "## Worst slides") == [
        ["slide", "mIoU", "over", "worst class, its IoU"],
        ["s1", "0.568", "background, gland", "gland, 0.375"],
        ["s0", "0.679", "background, gland", "gland, 0.500"],
    ]
    found = rows_of(text, "## Objects that were missed")
    assert found[1:5] == [
        ["gland", "all", "8", "4 (50%)", "2 (25%)", "12", "4 (33%)"],
        ["gland", "0 to 100 µm²", "2", "0 (0%)", "0 (0%)", "0", "–"],
        ["gland", "100 to 1,000 µm²", "0", "–", "–", "2", "2 (100%)"],
        ["gland", "1,000 to 10,000 µm²", "6", "4 (67%)", "2 (33%)", "10", "2 (20%)"],
    ]
    # The largest first, whichever slide it is on.
    assert found[6:] == [
        ["s1", "gland", "1, 2", "3 x 4", "–", "0%"],
        ["s1", "gland", "30, 40", "50 x 60", "50", "25%"],
    ]
    # (1 + 3 + 2 + 512) / 4 px of 0.5 um; the longer way has its 95th percentile at the cap.
    assert rows_of(text, "## Boundary distance") == [
        ["class", "mean, µm", "95th percentile, µm", "512 px or more"],
        ["background", "–", "–", "–"],
        ["gland", "64.75", "256.00", "25.00%"],
    ]
    # Of two slides with equal counts: px before um, narrow before wide, empty ones not at all.
    assert rows_of(text, "## Near borders (trimap)") == [
        ["less than this from a true border", "accuracy", "mIoU", "px"],
        ["1 px", "0.750", "–", "8"],
        ["2.5 px", "0.700", "0.458", "20"],
        ["2 µm", "0.800", "0.657", "200"],
    ]
    assert rows_of(text, "## Calibration") == [
        ["probability of", "error"],
        ["predicted class", "0.175"],
        ["background", "0.075"],
        ["gland", "0.075"],
    ]
    assert "error over probability maps and samples:" in text
    assert rows_of(text, "## Class frequency") == [
        ["class", "of the samples", "of the pixels", "ratio"],
        ["background", "60.00%", "75.00%", "0.80"],
        ["gland", "40.00%", "25.00%", "1.60"],
    ]
    assert rows_of(text, "## Cost") == [
        [
            "samples",
            "pixels read, million",
            "pixels decoded, million",
            "bytes decoded, MB",
            "GFLOPs",
            "seconds",
        ]
        + ["peak memory, MB"],
        ["1,200", "1.65", "2.50", "7.5", "3.21", "1.9", "1,000"],
    ]
    assert [line for line in text.splitlines() if line.startswith("!")] == [
        "![Share of objects found, by size](o.png)",
        "![Accuracy and mIoU in bands around true borders](t.png)",
        "![How often the network is right at each probability](c.png)",
        "![Share of samples and of pixels](f.png)",
    ]


def test_a_part_that_was_not_measured_is_not_there():
    text = summary_text(evaluation_data(evaluation_of(1, measured=False, cost=SlideCost())), {})
    assert text.startswith("# 1 slide against the labels")
    assert "##" not in text
    assert "!" not in text


def test_intervals_stand_beside_the_measures_and_five_slides_are_the_worst():
    data = evaluation_data(evaluation_of(7, measured=False))
    text = summary_text(data, {})
    assert "95 % intervals of 1,000 resamples of the 7 patients, with all their pixels" in text
    # Gland: 7 x 150 px hit; 7 x 200 true, and 250, 350, ... 850 predicted.
    low, high = data["intervals"]["iou"]["gland"]
    assert 0.2 < low < 0.25 < high < 0.35
    assert rows_of(text, "split test")[2][1] == f"0.250 [{low:.3f}, {high:.3f}]"
    assert [cells[0] for cells in rows_of(text, "## Worst slides")] == ["slide", "s6", "s5", "s4", "s3", "s2"]


def test_ten_missed_objects_are_listed():
    evaluation = evaluation_of(1)
    (slide,) = evaluation.slides
    missed = [
        Missed(class_index=1, box=Region(n, 0, 1, 1), pixels=100 + n, covered=0.0, area_um2=None)
        for n in range(12)
    ]
    slide = replace(slide, measured=replace(slide.measured, objects=objects_of(missed)))
    text = summary_text(evaluation_data(replace(evaluation, slides=(slide,))), {})
    assert [cells[2] for cells in rows_of(text, "less than half:")[1:]] == [
        f"{n}, 0" for n in range(11, 1, -1)
    ]


def test_lengths_are_um_where_every_slide_has_them():
    um, px = {"unit": "um"}, {"unit": "px"}
    assert shown_unit([px, um], [{"mpp": 0.5}, {"mpp": 1.0}]) == "um"
    assert shown_unit([px, um], [{"mpp": 0.5}, {"mpp": None}]) == "px"
    assert shown_unit([px], [{"mpp": 0.5}]) == "px"


def test_one_sentence_says_how_many_objects_of_a_class_are_not_touched():
    assert object_notes(evaluation_data(evaluation_of())) == [
        "gland: 4 of 8 objects not touched, 6 covered by less than half."
    ]


@pytest.mark.parametrize(("mpp", "unit", "mean"), [(0.5, "um", "64.750000"), (None, "px", "129.500000")])
def test_a_row_of_the_csv_says_all_of_a_slide(tmp_path, mpp, unit, mean):
    _, path = write_evaluation(evaluation_of(mpp=mpp), tmp_path / "evaluation.json", provenance={})
    with path.open(encoding="utf-8", newline="") as file:
        pooled, first, second = csv.DictReader(file)
    assert first == {
        "slide_id": "s0",
        "pixels": "1200",
        "miou": "0.678571",
        "miou_without_background": "0.500000",
        "accuracy": "0.875000",
        "mean over": "background; gland",
        "mean without": "",
        "iou background": "0.857143",
        "iou gland": "0.500000",
        "sampled miou": "0.913866",
        "sampled miou_without_background": "0.857143",
        "sampled accuracy": "0.975000",
        "sampled mean over": "background; gland",
        "sampled mean without": "",
        "sampled iou background": "0.970588",
        "sampled iou gland": "0.857143",
        "dice background": "0.923077",
        "dice gland": "0.666667",
        "precision background": "0.947368",
        "precision gland": "0.600000",
        "recall background": "0.900000",
        "recall gland": "0.750000",
        "mdice": "0.794872",
        "patient": "p0",
        "objects": "4",
        "touched": "2",
        "half covered": "1",
        "predicted objects": "6",
        "predicted false": "2",
        "boundary unit": unit,
        "boundary distance background": "",
        "boundary distance gland": mean,
        "expected calibration error": "0.175000",
        "samples": "1200",
        "read pixels": "1650000",
        "decoded pixels": "2500000",
        "decoded bytes": "7500000",
        "flops": "3210000000",
        "seconds": "1.25",
        "peak memory bytes": "512000000",
    }
    assert (pooled["slide_id"], pooled["miou"], pooled["patient"], pooled["objects"]) == (
        "all slides",
        "0.619048",
        "",
        "",
    )
    assert (second["sampled miou"], second["seconds"]) == ("", "2.5")


def test_rows_of_data_hold_what_there_is_and_none_of_what_is_not():
    data = evaluation_data(evaluation_of())
    measured = data["measured"]
    gland = {"class": "gland", "unit": "um^2"}
    assert measured["objects"] == [
        gland | row
        for row in (
            dict(zip(KEYS, (None, None, 8, 4, 2, 12000 / 24400, 12, 8, 2, 4), strict=True)),
            dict(zip(KEYS, (0, 100, 2, 0, 0, 0, 0, 0, 0, 0), strict=True)),
            dict(zip(KEYS, (100, 1000, 0, 0, 0, None, 2, 0, 0, 2), strict=True)),
            dict(zip(KEYS, (1000, 10000, 6, 4, 2, 0.5, 10, 8, 2, 2), strict=True)),
        )
    ]
    assert measured["boundary"][1] == {
        "class": "gland",
        "unit": "px",
        "mean": 129.5,
        "percentile_95": 512,
        "capped_share": 0.25,
        "true_border_pixels": 4,
        "predicted_border_pixels": 4,
    }
    assert measured["calibration"]["bins"][:2] == [
        {"class": "", "from": 0, "to": 0.5, "points": 0, "mean_probability": None, "share_right": None},
        {"class": "", "from": 0.5, "to": 1, "points": 16, "mean_probability": 0.8, "share_right": 0.625},
    ]
    assert [each["class"] for each in measured["calibration"]["bins"][2:]] == [
        *["background"] * 2,
        *["gland"] * 2,
    ]
    assert data["intervals"] is None
    assert data["background"] == "background"
    assert data["missed"][0]["pixels"] == 200


def test_the_largest_size_has_no_end():
    counted = np.zeros((2, len(SIZES["px"]), 5), np.int64)
    counted[1, -1] = (1, 1, 1, 70000, 70000)
    (slide,) = evaluation_of(1).slides
    measured = Measured(objects=ObjectCounts(true={"px": counted}, predicted={"px": counted}))
    evaluation = replace(evaluation_of(1), slides=(replace(slide, measured=measured),))
    text = summary_text(evaluation_data(evaluation), {})
    assert [cells[1] for cells in rows_of(text, "## Objects that were missed")] == [
        "area",
        "all",
        "65,536 px² or more",
    ]
