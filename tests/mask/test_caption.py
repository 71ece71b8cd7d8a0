"""What is written above and below a picture of classes, pixel by pixel where it has a place."""

from __future__ import annotations

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.geometry import Size
from wsi_deform.mask.caption import LegendEntry, captioned, legend_of, title_rows
from wsi_deform.mask.scale_bar import ScaleBar, scale_bar

CLASSES = class_table_from_data(
    {
        "classes": [
            {"name": "background", "color": [220, 220, 220]},
            {"name": "gland", "color": [230, 159, 0]},
            {"name": "nerve", "color": [0, 114, 178]},
            {"name": "fat", "color": [0, 158, 115]},
        ],
        "background": "background",
    },
    "table",
)
INK = [27, 31, 36]
GREY = np.full((300, 1440, 3), 130, np.uint8)  # letters are 1440 // 72 = 20 px


def labels_of(**counts: int) -> np.ndarray:
    labels = np.zeros(10_000, np.uint8)
    place = 0
    for name, count in counts.items():
        labels[place : place + count] = 255 if name == "unlabelled" else CLASSES.index(name)
        place += count
    return labels.reshape(100, 100)


def texts(labels: np.ndarray, mpp: float | None, size: Size = Size(1000, 1000)) -> list[str]:
    return [each.text for each in legend_of(labels, CLASSES, size=size, mpp=mpp)]


def test_the_legend_has_the_classes_that_occur_with_their_colours_but_not_what_is_left_clear():
    found = legend_of(
        labels_of(nerve=100, gland=2500, unlabelled=9), CLASSES, size=Size(1000, 1000), mpp=None
    )
    assert found == [
        LegendEntry(text="gland: 25 %", colour=(230, 159, 0)),
        LegendEntry(text="nerve: 1.0 %", colour=(0, 114, 178)),
    ]


def test_areas_are_in_square_millimetres_to_two_digits_and_small_ones_in_square_micrometres():
    # A slide of 0.5 mm x 0.5 mm.
    assert texts(labels_of(gland=2560, nerve=39), 0.5) == ["gland: 0.064 mm²", "nerve: 980 µm²"]
    assert texts(labels_of(gland=10_000), 0.5, Size(100_000, 100_000)) == ["gland: 2,500 mm²"]
    assert texts(labels_of(gland=3), None) == ["gland: 0.030 %"]


def test_a_legend_without_classes_says_so():
    assert texts(labels_of(), None) == ["no class but the background"]
    bare = ClassTable.from_names(["gland"])
    found = legend_of(np.full((4, 4), 255, np.uint8), bare, size=Size(8, 8), mpp=None)
    assert found == [LegendEntry(text="no class")]


def test_of_many_classes_the_largest_are_named_in_the_order_of_the_table():
    classes = ClassTable.from_names([f"c{index}" for index in range(40)])
    labels = np.repeat(np.arange(40), np.arange(40) + 10).astype(np.uint8)[None]
    found = [each.text.split(":")[0] for each in legend_of(labels, classes, size=Size(9, 9), mpp=None)]
    assert classes.background is None
    assert found == [*(f"c{index}" for index in range(16, 40)), "and 16 more classes"]


def test_the_picture_stays_as_it_is_between_title_and_legend():
    entries = [LegendEntry(text="gland", colour=(230, 159, 0))]
    drawn = captioned(GREY, title="slide_7", bar=ScaleBar(share=0.1, text="5 mm"), entries=entries)
    assert title_rows(1440) == 32
    assert drawn.shape == (32 + 300 + 32 + 10, 1440, 3)
    np.testing.assert_array_equal(drawn[32:332], GREY)
    assert (drawn[:32, 200:] == 255).all()  # the title is at the left
    assert (drawn[4:28, 10:90] < 60).any()


def test_the_bar_is_as_long_as_it_says_and_swatches_have_the_colours_of_their_classes():
    # 28,800 px of 0.5 um in 1,440 px: 10 um per pixel; 2 mm are 200 px.
    bar = scale_bar(Size(28_800, 6000), 0.5)
    assert bar.text == "2 mm"
    entries = [
        LegendEntry(text="gland", colour=(230, 159, 0)),
        LegendEntry(text="nerve", colour=(0, 114, 178)),
    ]
    drawn = captioned(GREY, title="slide_7", bar=bar, entries=entries)
    middle = drawn[332 + 10 + 16]
    assert (middle[10:210] == INK).all()
    assert (middle[:10] == 255).all()
    assert (middle[210:220] == 255).all()
    for colour in ((230, 159, 0), (0, 114, 178)):
        columns = np.flatnonzero((middle == colour).all(axis=-1))
        assert len(columns) == 18  # letters' 20 px within a frame
        assert columns[-1] - columns[0] == 17
        rows = np.flatnonzero((drawn[332:, columns[0]] == colour).all(axis=-1))
        assert (rows[0], rows[-1]) == (17, 35)


def test_without_um_the_bar_counts_pixels_of_the_slide():
    bar = scale_bar(Size(14_400, 3000), None)
    drawn = captioned(GREY, title="s", bar=bar, entries=[])
    assert bar.text == "2,000 px"
    assert (drawn[358, 10:210] == INK).all()
    assert (drawn[358, 210:220] == 255).all()


@pytest.mark.parametrize("shape", [(900, 30), (5, 4), (1, 1)])
def test_narrow_pictures_get_paper_beside_them_and_long_words_are_cut(shape):
    picture = np.full((*shape, 3), 90, np.uint8)
    entries = [LegendEntry(text="word " * 500, colour=(1, 2, 3)), LegendEntry(text="x", colour=(3, 2, 1))]
    drawn = captioned(picture, title="w" * 5000, bar=ScaleBar(share=1, text="1 px"), entries=entries)
    assert drawn.shape[1] == 20 * 13
    top = title_rows(max(shape))
    np.testing.assert_array_equal(drawn[top : top + shape[0], : shape[1]], picture)
    assert (drawn[top : top + shape[0], shape[1] :] == 255).all()
    assert (drawn[:, -6:] == 255).all()
    assert drawn.shape[0] == top + shape[0] + 3 * 20 + 6  # bar, long words, short ones


def test_entries_go_on_in_a_new_row():
    entries = [LegendEntry(text=f"class number {index}", colour=(9, 9, index)) for index in range(20)]
    drawn = captioned(GREY, title="", bar=ScaleBar(share=0.1, text="1 mm"), entries=entries)
    seen = {tuple(each) for each in drawn[332:].reshape(-1, 3).tolist()}
    assert {(9, 9, index) for index in range(20)} <= seen


def test_names_in_greek_and_with_line_breaks_are_one_line():
    one, two = (
        captioned(GREY, title=title, bar=ScaleBar(share=0.1, text="1 mm"), entries=[])
        for title in ("β\n \ud800", "γ ?")
    )
    assert one.shape == two.shape
    assert (one != two).any()
