from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawing.figures import (
    comparison_figure,
    sampling_points_figure,
)
from wsi_deform.drawing.measure_figures import frequency_figure
from wsi_deform.drawing.run_figures import loss_figure
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size

CLASSES = ClassTable.from_names(["background", "gland", "tumour"])
WIDE = np.full((60, 300, 3), 240, np.uint8)


def pixels(png: bytes) -> NDArray[np.uint8]:
    assert png.startswith(b"\x89PNG")
    with Image.open(io.BytesIO(png)) as opened:
        return np.asarray(opened.convert("RGB"))


def has_colour(image: NDArray[np.uint8], colour: tuple[int, int, int], least: int = 20) -> bool:
    near = np.abs(image.astype(int) - np.array(colour)).max(axis=2) <= 3
    return int(near.sum()) >= least


def test_convention_points_lie_where_they_were_taken() -> None:
    size = Size(3000, 600)
    left = np.stack([np.full(50, 300.0), np.linspace(100, 500, 50)], axis=1)
    image = pixels(sampling_points_figure(WIDE, left, size=size))
    dark = np.argwhere(image.max(axis=2) < 120)
    assert len(dark) > 100
    across = dark[:, 1] / image.shape[1]
    assert abs(across.mean() - 0.1) < 0.005
    down = dark[:, 0] / (
        image.shape[1] / 5
    )  # the panel is as wide as the figure, and five times as wide as high
    assert abs(down.min() - 100 / 600) < 0.03
    assert abs(down.max() - 500 / 600) < 0.03


def test_many_points_are_thinned_and_drawn_alike_each_time() -> None:
    points = np.random.default_rng(1).random((3000, 2)) * [3000, 600]
    few = sampling_points_figure(WIDE, points, size=Size(3000, 600), max_points=100)
    again = sampling_points_figure(WIDE, points, size=Size(3000, 600), max_points=100)
    many = sampling_points_figure(WIDE, points, size=Size(3000, 600))
    assert few == again
    assert (pixels(few) < 120).sum() < (pixels(many) < 120).sum()


def test_comparison_of_a_wide_slide_is_stacked_and_of_a_square_one_side_by_side() -> None:
    wide = pixels(comparison_figure(WIDE, {"truth": np.zeros((6, 30), np.uint8)}, CLASSES))
    square = pixels(comparison_figure(WIDE[:, :60].copy(), {"truth": np.zeros((6, 6), np.uint8)}, CLASSES))
    assert wide.shape[0] > 2 * wide.shape[1] / 5
    assert square.shape[1] > square.shape[0]
    assert 1000 < wide.shape[1] < 2000


def test_comparison_shows_the_colours_of_the_classes_where_they_are() -> None:
    labels = np.zeros((6, 30), np.uint8)
    labels[:, 20:] = 2
    image = pixels(comparison_figure(WIDE, {"truth": labels, "joint": np.ones_like(labels)}, CLASSES))
    for colour in CLASSES.colours:
        assert has_colour(image, colour, least=1000)
    tumour = np.argwhere(np.abs(image.astype(int) - np.array(CLASSES.colours[2])).max(axis=2) <= 3)
    panel = tumour[tumour[:, 0] < image.shape[0] * 0.9]  # the legend is below
    assert panel[:, 1].min() == pytest.approx(image.shape[1] * 2 / 3, abs=3)


def test_unlabelled_is_white() -> None:
    image = pixels(comparison_figure(WIDE, {"truth": np.full((6, 30), 255, np.uint8)}, CLASSES))
    assert (image[image.shape[0] * 3 // 4] == 255).mean() > 0.95


def test_tall_slides_make_no_endless_figure() -> None:
    tall = np.full((400, 20, 3), 200, np.uint8)
    image = pixels(comparison_figure(tall, {"truth": np.zeros((40, 2), np.uint8)}, CLASSES))
    assert image.shape[0] < 1500
    assert image.shape[1] >= 400


def test_curves_have_a_colour_per_run_and_take_runs_without_validation() -> None:
    rows = [
        {"epoch": e, "loss": 1.5 / e, "segmentation_loss": 1 / e, "edge_loss": 0.5 / e}
        for e in (1.0, 2.0, 3.0)
    ]
    validated = [{**row, "val_miou": 0.2 * row["epoch"]} for row in rows]
    image = pixels(loss_figure({"joint": validated, "uniform": rows}))
    assert has_colour(image, (0x00, 0x72, 0xB2))
    assert has_colour(image, (0xD5, 0x5E, 0x00))
    assert pixels(loss_figure({"one epoch": rows[:1]})).shape == image.shape


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_wrong_pictures_are_refused(wrong: NDArray[np.generic]) -> None:
    with pytest.raises(ShapeError, match=r"picture: .* Needed \(H, W, 3\) uint8 RGB"):
        sampling_points_figure(wrong, np.zeros((1, 2)), size=Size(4, 4))  # type: ignore[arg-type]


def test_wrong_points_and_label_maps_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"points_px: shape \(2, 3\)"):
        sampling_points_figure(WIDE, np.zeros((2, 3)), size=Size(4, 4))
    with pytest.raises(ShapeError, match="label map truth: float64"):
        comparison_figure(WIDE, {"truth": np.zeros((2, 3))}, CLASSES)  # type: ignore[dict-item]


def test_frequencies_are_drawn_of_the_classes_that_have_pixels() -> None:
    gland = {"class": "gland", "pixels": 900, "share_of_samples": 0.6, "share_of_pixels": 0.9, "ratio": 2 / 3}
    absent = {"class": "tumour", "pixels": 0, "share_of_samples": 0.0, "share_of_pixels": 0.0, "ratio": None}
    drawn = frequency_figure([gland, absent])
    assert has_colour(pixels(drawn), (0x00, 0x72, 0xB2), least=1000)  # the bar of its samples
    assert drawn == frequency_figure([gland])
