"""Names that other people gave do not stop a figure, and are shown letter by letter."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from wsi_deform.annotation.classes import class_table_from_data
from wsi_deform.drawing.figures import comparison_figure, png_bytes
from wsi_deform.drawing.names import one_line, plain
from wsi_deform.drawing.panels import with_legend

ODD = [
    "$x_{2$",
    r"$\frac$",
    "_0",
    "a\nb",
    "a\x85b",
    "a\u2029b",
    "very " * 40,
    "日本",
    "<b>&",
    "\u202eRTL",
    "50 $",
]


def test_a_name_is_one_line_and_keeps_both_ends():
    assert one_line(" a\nb\x85c\u2028d ") == "a b c d"
    assert one_line("x" * 60) == "x" * 60
    assert one_line("begin " + "x" * 60 + ": 1,234") == "begin " + "x" * 36 + "..." + "x" * 8 + ": 1,234"


@pytest.mark.parametrize(
    ("name", "shown"), [("$x_{2$", "$x_{2$"), ("_0", " _0"), ("50 $", "50 $"), ("$a$ and $b$", "$a$ and $b$")]
)
def test_matplotlib_shows_a_name_letter_by_letter_in_legends_too(name, shown):
    figure = Figure()
    legend = figure.legend(handles=[Patch(label=plain(name))])
    (text,) = legend.get_texts()
    assert text._preprocess_math(text.get_text()) == (shown, False)
    assert png_bytes(figure).startswith(b"\x89PNG")


def test_figures_and_pictures_of_odd_class_names_are_drawn():
    table = class_table_from_data(["background", *(name.strip() for name in ODD)], "classes")
    labels = np.zeros((40, 60), np.uint8)
    picture = np.full((40, 60, 3), 200, np.uint8)
    maps = dict.fromkeys(table.names, labels)
    assert comparison_figure(picture, maps, table).startswith(b"\x89PNG")
    entries = list(zip(table.names, table.colours, strict=True))
    page = with_legend(np.full((40, 300, 3), 200, np.uint8), entries)
    assert page.shape[0] > 40
