"""Which level was read where: its colours, and what a field in blocks looks like."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawing.levels import CLEAR, level_colours, levels_of
from wsi_deform.drawing.panels import Stages, _panels, field_picture
from wsi_deform.geometry import Size

CLASSES = ClassTable.from_names(["background", "gland"])
YELLOW, GREEN, BLUE = (255, 196, 46), (0, 158, 115), (0, 84, 166)


def test_the_finest_level_is_blue_and_the_coarsest_clear():
    assert level_colours(1) == [CLEAR]
    assert level_colours(2) == [CLEAR, BLUE]
    assert level_colours(3) == [CLEAR, YELLOW, BLUE]
    assert level_colours(4) == [CLEAR, YELLOW, GREEN, BLUE]


def test_levels_are_octaves_above_the_finest():
    sides = np.array([[16.0, 15.2], [4.1, 8.0], [4.0, 3.9]], np.float32)
    levels, usual = levels_of(sides)
    assert levels.tolist() == [[0, 0], [2, 1], [2, 2]]
    assert usual == pytest.approx((15.6, 8.0, 4.0))
    # Of the level between nothing is the closest.
    levels, usual = levels_of(np.array([20.0, 5.0]))
    assert levels.tolist() == [0, 2]
    assert usual == (20.0, 10.0, 5.0)


def blocks(read: np.ndarray) -> Stages:
    zeros = np.zeros(read.shape, np.uint8)
    return Stages(
        title="field",
        aspect=1.0,
        view=np.full((8, 8, 3), 200, np.uint8),
        points=np.zeros((*read.shape, 2)),
        density=None,
        image=np.full((*read.shape, 3), 99, np.uint8),
        labels=zeros,
        predicted=zeros,
        read=read,
        levels=("8 um per px", "4 um per px", "2 um per px"),
    )


def test_a_field_in_blocks_shows_the_level_that_was_read_at_each_place():
    read = np.zeros((16, 16), np.uint8)
    read[:8, :8], read[:8, 8:12] = 2, 1
    panels = _panels(blocks(read), CLASSES, Size(480, 480))
    assert [title for title, _ in panels] == [
        "first look, 8 um per px",
        "levels read: 25% of it at 2 um per px",
        "what was read",
        "labels: 100% labelled",
        "prediction",
        "wrong: 0% of labelled",
    ]
    shown = np.asarray(panels[1][1])
    assert shown.shape == (480, 480, 3)
    # What was read at no finer level is the view; borders are drawn inside what is finer.
    assert (shown[240:] == 200).all()
    inside, border, middle = (shown[place].astype(int) for place in ((100, 100), (238, 100), (100, 300)))
    assert inside[2] > inside[0]
    assert middle[0] > middle[2]
    assert np.abs(border - BLUE).sum() < np.abs(inside - BLUE).sum()
    page = field_picture(blocks(read), CLASSES)
    colours = {tuple(each) for each in page.reshape(-1, 3).tolist()}
    assert {CLEAR, YELLOW, BLUE} <= colours
