"""The class table: every form it may be written in, and what is said of those it may not."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import yaml

from wsi_deform.annotation.class_colours import PALETTE
from wsi_deform.annotation.classes import (
    ClassTable,
    class_table_from_data,
    read_class_table,
    write_class_table,
)
from wsi_deform.errors import AnnotationError


def refusal(data):
    with pytest.raises(AnnotationError) as caught:
        class_table_from_data(data, "class table c.yaml")
    return str(caught.value)


def test_convention_raw_values_are_indices_and_255_is_unlabelled():
    table = ClassTable.from_names(["background", "gland"])
    assert table.mapping == {0: 0, 1: 1, 255: 255}
    assert (table.background, table.count, table.index("gland")) == (0, 2, 1)
    lookup = table.lookup()
    assert (lookup[0], lookup[1], lookup[255], lookup[2], lookup[65535]) == (0, 1, 255, -1, -1)
    assert lookup.dtype == np.int16


@pytest.mark.parametrize(
    "data",
    [
        ["background", "gland"],
        [{"name": "background"}, {"name": "gland", "value": 1}],
        {"background": 0, "gland": 1},
        {"background": [0], "gland": [1]},
        {"classes": ["background", "gland"]},
        {"classes": {"background": 0, "gland": 1}, "background": "background", "unlabelled": 255},
        {"classes": ["background", {"name": "gland", "values": [1]}], "background": 0, "unlabelled": [255]},
    ],
)
@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_all_forms_say_the_same(tmp_path, data, kind):
    path = tmp_path / f"classes.{kind}"
    path.write_text(json.dumps(data) if kind == "json" else yaml.safe_dump(data))
    assert read_class_table(path) == ClassTable.from_names(["background", "gland"])


@pytest.mark.parametrize("name", ["classes.json", "classes.yaml"])
def test_written_table_reads_the_same(tmp_path, name):
    table = class_table_from_data(
        {
            "classes": [
                {"name": "Stroma µ", "color": "#0a0B0c", "values": [1, 300]},
                {"name": "tumour", "colour": [1, 2, 3], "value": 7},
            ],
            "background": None,
            "unlabelled": [0, 255],
        },
        "test",
    )
    assert table.colours == ((10, 11, 12), (1, 2, 3))
    assert table.mapping == {0: 255, 255: 255, 1: 0, 300: 0, 7: 1}
    write_class_table(table, tmp_path / name)
    assert read_class_table(tmp_path / name) == table


def test_tables_are_hashable_and_pickle():
    table = ClassTable.from_names(["a", "b"])
    assert {table: 1}[pickle.loads(pickle.dumps(table))] == 1


def test_table_from_values_names_each_value():
    table = ClassTable.from_values([255, 5, 0, 5])
    assert (table.names, table.values, table.background) == (("background", "class 5"), ((0,), (5,)), 0)
    with pytest.raises(AnnotationError, match="no value besides 255"):
        ClassTable.from_values([255])


def test_a_class_may_use_value_255_and_then_it_is_labelled():
    table = class_table_from_data({"background": 0, "tumour": 255}, "test")
    assert table.mapping == {0: 0, 255: 1}
    assert table.unlabelled_values == ()


def test_default_colours_differ_and_background_is_grey():
    table = ClassTable.from_names(["background", *(f"c{i}" for i in range(30))])
    assert table.colours[0] == (220, 220, 220)
    assert table.colours[1] == tuple(bytes.fromhex(PALETTE[0]))
    assert len(set(table.colours)) == 31


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ([{"name": "a", "colr": "#ffffff"}], ["class 0", "unknown key 'colr'", "Did you mean 'color'?"]),
        ({"classes": ["a"], "backgrund": "a"}, ["unknown key 'backgrund'", "Did you mean 'background'?"]),
        ({"classes": ["a", "b"], "background": "c"}, ["background 'c' is no class", "a, b"]),
        ({"classes": ["glands"], "background": "gland"}, ["Did you mean 'glands'?"]),
        (["a", "a"], ["class name 'a' stands twice", "name of its own"]),
        ({"a": 1, "b": [2, 1]}, ["mask value 1 stands twice", "Let every value mean one class"]),
        ({"classes": {"a": 255}, "unlabelled": 255}, ["value 255 is both unlabelled and a class"]),
        ({"a": -1}, ["class 0 (a)", "-1", "from 0 to 65535"]),
        ({"a": "red"}, ["'red'", "whole numbers"]),
        ({"a": True}, ["True", "whole numbers"]),
        ([{"name": "a", "color": [0, 0, 256]}], ["[0, 0, 256]", "#rrggbb"]),
        ([{"name": "a", "color": "blue"}], ["'blue'", "#rrggbb"]),
        ([{"name": "a", "value": 1, "values": [2]}], ["class 0", "both value and values"]),
        ([{"name": "a", "color": [0, 0, 0], "colour": None}], ["class 0", "both color and colour"]),
        ([{"name": "a", "values": None}], ["class 0 (a): values None", "whole numbers"]),
        ([{"name": "a", "values": [3, 65536]}], ["class 0 (a): values 65536. Needed", "from 0 to 65535"]),
        ([{"name": "a", "value": 1.0}], ["class 0 (a): value 1.0. Needed whole numbers"]),
        (
            [{"name": "a", 7: 1}],
            [
                "class 0: unknown key '7'. Known: name, color, colour, value, values, label_rgb, source_names. "
                "Remove it."
            ],
        ),
        ({"classes": ["a"], "unlabelled": [0.5]}, ["unlabelled: 0.5. Needed whole numbers"]),
        (
            {"classes": ["a"], 255: "x"},
            [
                "unknown key '255'. Known: classes, background, unlabelled, unlabelled_rgb, unlabelled_names, regions,"
            ],
        ),
        ([{"name": "  "}], ["class 0: name '  '. Needed a text"]),
        ([False], ["name False", "quote yes, no, on, off"]),
        ([{"color": "#ffffff"}], ["name None"]),
        ([], ["0 classes", "1 to 255"]),
        ([f"c{i}" for i in range(256)], ["256 classes"]),
        ("gland", ["found str 'gland'", "list of names"]),
        (None, ["found NoneType"]),
    ],
)
def test_bad_tables_name_value_and_remedy(data, parts):
    text = refusal(data)
    assert text.startswith("class table c.yaml")
    for part in parts:
        assert part in text


def test_all_problems_are_told_at_once():
    data = {"classes": [{"name": "a", "value": -1}, {"nam": "b", "color": "#12"}, "c"], "unlabeled": 0}
    assert refusal(data).splitlines() == [
        "class table c.yaml:",
        "  - class 0 (a): value -1. Needed whole numbers from 0 to 65535. Write the values that the masks hold.",
        "  - class 1: name None. Needed a text. Write e.g. name: tumour (quote yes, no, on, off).",
        "  - class 1 (None): color '#12'. Needed [red, green, blue] from 0 to 255, or \"#rrggbb\".",
        "  - class 1: unknown key 'nam'. Known: name, color, colour, value, values, label_rgb, source_names. Did "
        "you mean 'name'?",
        "  - unknown key 'unlabeled'. Known: classes, background, unlabelled, unlabelled_rgb, "
        "unlabelled_names, regions, ignored, groups, outline_order, outside_outlines. Did you mean 'unlabelled'?",
    ]
    data = {"classes": {"a": [1, 2], "b": [2, 3]}, "unlabelled": [3], "background": "A"}
    assert [line.split(". Needed")[0] for line in refusal(data).splitlines()[1:]] == [
        "  - mask value 2 stands twice",
        "  - value 3 is both unlabelled and a class",
        "  - background 'A' is no class",
    ]


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(AnnotationError, match=r"none.yaml: cannot be read .* Check the path"):
        read_class_table(tmp_path / "none.yaml")
    (tmp_path / "bad.json").write_text("[1,")
    with pytest.raises(AnnotationError, match=r"bad.json: not valid YAML or JSON"):
        read_class_table(tmp_path / "bad.json")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(AnnotationError, match=r"bad.yaml: not valid YAML or JSON"):
        read_class_table(tmp_path / "bad.yaml")


def test_unknown_class_names_the_nearest():
    with pytest.raises(AnnotationError, match=r"class 'tumor'.*Did you mean 'tumour'"):
        ClassTable.from_names(["tumour", "stroma"]).index("tumor")
