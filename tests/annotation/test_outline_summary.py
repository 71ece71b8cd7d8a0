"""Names, numbers and areas of outlines, and the class table that is offered for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from wsi_deform.annotation.classes import class_table_from_data
from wsi_deform.annotation.outlines.outline import Outline, OutlineSet
from wsi_deform.annotation.outlines.summary import (
    alike_names,
    area_px,
    named_lines,
    named_outlines,
    proposed_table,
    proposed_text,
)
from wsi_deform.geometry import Point


def box(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)


def one(name, *rings, colour=None, erases=False):
    return Outline(rings=rings, source_class=name, colour=colour, erases=erases)


def file_of(*outlines):
    return OutlineSet(path=Path("a.xml"), format="drawn", outlines=outlines)


FILES = [
    file_of(
        one("stroma", box(0, 0, 100, 100), box(10, 10, 20, 20), colour=(1, 2, 3)),
        one("tumour", box(0, 0, 30, 10), colour=(9, 9, 9)),
        one(None, box(0, 0, 5, 5), erases=True),
    ),
    file_of(
        one("tumour", box(0, 0, 30, 10), colour=(9, 9, 9)),
        one("tumour", box(0, 0, 30, 20), colour=(7, 7, 7)),
        one(None, box(0, 0, 2, 2)),
        one("ROI", box(0, 0, 1000, 1000)),
        one("Ignore*", box(0, 0, 3, 3)),
    ),
]


@pytest.mark.parametrize(
    ("rings", "area"),
    [
        ([box(0, 0, 10, 10)], 100),
        ([box(0, 0, 10, 10)[::-1]], 100),
        ([box(0, 0, 10, 10), box(2, 2, 4, 4)], 96),
        ([box(0, 0, 10, 10), box(20, 0, 25, 10)], 150),
        ([box(0, 0, 10, 10), box(2, 2, 8, 8), box(3, 3, 5, 5)], 68),
    ],
)
def test_areas_are_even_odd(rings, area):
    assert area_px(one("a", *rings)) == pytest.approx(area)


def test_names_are_counted_over_all_files_the_largest_first():
    named = named_outlines(FILES)
    assert [(each.name, each.count, each.area_px, each.files) for each in named] == [
        ("ROI", 1, 1e6, 1),
        ("stroma", 1, 9900, 1),
        ("tumour", 3, 1200, 2),
        ("Ignore*", 1, 9, 1),
        ("unclassified", 1, 4, 1),
    ]
    assert named[2].colour == (9, 9, 9)
    assert named_lines(named[1:3], mpp=Point(0.5, 2.0)) == [
        "name    outlines  area, px  area, mm2",
        "stroma         1     9,900     0.0099",
        "tumour         3     1,200     0.0012",
    ]
    assert named_lines(named[1:2])[0] == "name    outlines  area, px"


def test_the_proposed_table_has_a_background_regions_and_what_is_left_out():
    table = proposed_table(named_outlines(FILES))
    assert table.names == ("background", "stroma", "tumour", "unclassified")
    assert (table.background, table.regions, table.ignored) == (0, ("ROI",), ("Ignore*",))
    text = proposed_text(table)
    assert class_table_from_data(yaml.safe_load(text), "t") == table
    assert text.startswith("# Every name is a class. Outside every outline is unlabelled:")
    assert text.endswith("\n")


def test_colours_are_those_of_the_files_where_no_two_are_the_same():
    table = proposed_table(named_outlines(FILES[:1]))
    assert table.colours[1:] == ((1, 2, 3), (9, 9, 9))
    same = file_of(one("a", box(0, 0, 9, 9), colour=(1, 2, 3)), one("b", box(0, 0, 5, 5), colour=(1, 2, 3)))
    assert (1, 2, 3) not in proposed_table(named_outlines([same])).colours
    assert proposed_text(table).startswith("# Every name is a class. Outside every outline is background:")


def test_a_background_that_was_drawn_is_the_background():
    table = proposed_table(
        named_outlines([file_of(one("Background", box(0, 0, 9, 9)), one("a", box(0, 0, 1, 1)))])
    )
    assert (table.names, table.background) == (("Background", "a"), 0)


def test_no_outlines_leave_a_background():
    assert proposed_table(named_outlines([file_of()])).names == ("background",)


def test_names_are_alike_up_to_case_spaces_and_a_letter_of_ten():
    names = ["Tumor", "Gland", "tumour", "benign gland", "Benign Gland", "Gleason 3", "Gleason 4", "stroma"]
    assert alike_names(names) == [("Tumor", "tumour"), ("benign gland", "Benign Gland")]
