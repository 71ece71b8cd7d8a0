"""Names in annotation files: what each means, which are refused, and that every file of a table carries them."""

from __future__ import annotations

import pytest

from wsi_deform.annotation.classes import (
    IGNORED,
    REGION,
    UNLABELLED,
    ClassTable,
    class_table_from_data,
    read_class_table,
    write_class_table,
)
from wsi_deform.annotation.suggested_classes import class_table_text, suggested_classes
from wsi_deform.errors import AnnotationError

DATA = {
    "classes": [
        "background",
        {"name": "invasive", "source_names": ["Tumor", "IDC"]},
        {"name": "in situ", "source_names": "DCIS"},
        "stroma",
    ],
    "unlabelled_names": ["unsure"],
    "regions": ["ROI", "annotated"],
    "ignored": ["ruler"],
    "groups": {"tumour": ["in situ", "invasive"]},
}
TABLE = class_table_from_data(DATA, "class table c.yaml")


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("Tumor", 1),
        ("IDC", 1),
        ("DCIS", 2),
        ("stroma", 3),
        ("unsure", UNLABELLED),
        ("ROI", REGION),
        ("annotated", REGION),
        ("ruler", IGNORED),
    ],
)
def test_a_name_means_a_class_or_unlabelled_or_a_region_or_nothing(name, meaning):
    assert TABLE.index_of_source(name) == meaning


def test_convention_a_class_is_also_meant_by_its_own_name():
    assert (TABLE.index_of_source("invasive"), TABLE.index_of_source("in situ")) == (1, 2)


def test_convention_a_name_given_to_another_class_means_that_one():
    table = class_table_from_data(["tumour", {"name": "rest", "source_names": ["tumour"]}], "t")
    assert table.index_of_source("tumour") == 1
    table = class_table_from_data({"classes": ["tumour", "rest"], "ignored": "rest"}, "t")
    assert table.index_of_source("rest") == IGNORED


@pytest.mark.parametrize("name", ["TUMOR", " tumor ", "dcis", "IN  SITU", "roi"])
def test_convention_case_and_spaces_do_not_matter_where_one_meaning_fits(name):
    wanted = {"TUMOR": 1, " tumor ": 1, "dcis": 2, "IN  SITU": 2, "roi": REGION}
    assert TABLE.index_of_source(name) == wanted[name]


def test_convention_exact_comes_first_and_case_that_may_be_two_is_refused():
    table = class_table_from_data(["T", {"name": "other", "source_names": ["t"]}], "t")
    assert (table.index_of_source("T"), table.index_of_source("t")) == (0, 1)
    with pytest.raises(AnnotationError, match=r"class name ' T' \(may be 'T' or 't'\) is not in"):
        table.index_of_source(" T")


def test_every_unknown_name_is_listed_with_its_nearest():
    with pytest.raises(AnnotationError) as caught:
        TABLE.indices_of_sources(["Stromma", "IDC", "Necrosis", "Stromma"], source="annotation a.xml")
    assert str(caught.value) == (
        "annotation a.xml: 2 class names are not in the class table: 'Stromma' (nearest 'stroma'), 'Necrosis'. Needed "
        "a meaning for every name; the table knows 'background', 'invasive', 'in situ', 'stroma', 'Tumor', 'IDC', "
        "'DCIS', 'unsure', 'ROI', 'annotated', 'ruler'. Add each to source_names of its class, or to unlabelled_names, "
        "regions or ignored of the class table."
    )


def test_a_thousand_unknown_names_are_not_all_said():
    with pytest.raises(AnnotationError) as caught:
        TABLE.indices_of_sources([f"#{number}" for number in range(1000)], source="annotation a.xml")
    assert "1000 class names" in str(caught.value)
    assert "'#49' and 950 more." in str(caught.value)


def test_all_names_are_looked_up_at_once():
    assert TABLE.indices_of_sources(iter(["DCIS", "ROI"])) == {"DCIS": 2, "ROI": REGION}


def test_groups_are_indices_in_rising_order():
    assert TABLE.groups == (("tumour", (1, 2)),)


@pytest.mark.parametrize("name", ["classes.yaml", "classes.json"])
def test_a_written_table_keeps_names_and_groups(tmp_path, name):
    write_class_table(TABLE, tmp_path / name)
    assert read_class_table(tmp_path / name) == TABLE
    assert class_table_from_data(TABLE.to_data(), "t") == TABLE


def test_a_table_without_such_names_is_written_as_before_they_were():
    assert ClassTable.from_names(["a"]).to_data() == {
        "classes": [{"name": "a", "color": [230, 159, 0], "values": [0]}],
        "background": None,
        "unlabelled": [255],
    }


def test_a_suggested_table_keeps_names_and_groups():
    suggested = suggested_classes([0, 1, 2, 3, 4], TABLE)
    assert suggested is not None
    assert suggested.table.names == (*TABLE.names, "class 4")
    assert suggested.table.source_mapping == {**TABLE.source_mapping, "class 4": 4}
    assert suggested.table.groups == TABLE.groups
    assert "groups:" in class_table_text(TABLE)
    # Without the class in situ, of which there is no value, the group has one class left.
    fewer = suggested_classes(
        [0, 1, 3, 9], class_table_from_data(DATA | {"classes": DATA["classes"][:3]}, "t")
    )
    assert fewer is not None
    assert fewer.table.groups == (("tumour", (1, 2)),)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            {"ignored": ["ROI"]},
            "name in annotation files 'ROI' stands twice. Needed once. Let every name mean one",
        ),
        ({"regions": ["IDC"]}, "name in annotation files 'IDC' stands twice"),
        (
            {"groups": {"tumour": ["invasiv"]}},
            "group 'tumour': 'invasiv' is no class. Needed one of background, inv",
        ),
        ({"groups": {"tumour": ["invasiv"]}}, "Did you mean 'invasive'?"),
        ({"groups": {"stroma": ["invasive"]}}, "group 'stroma' is also a class. Needed another name"),
        ({"groups": {"tumour": []}}, "group 'tumour' has no class. Needed one or more"),
        ({"groups": ["tumour"]}, "groups: ['tumour']. Needed name: [class, class] pairs."),
        ({"regions": [True]}, "regions: True. Needed a name, or a list of names"),
        (
            {"region": ["ROI"]},
            "unknown key 'region'. Known: classes, background, unlabelled, unlabelled_rgb, ",
        ),
        (
            {"classes": [{"name": "a", "source_names": [False]}]},
            "class 0 (a): source_names False. Needed a name, or",
        ),
    ],
)
def test_contradictions_name_value_and_remedy(change, part):
    with pytest.raises(AnnotationError) as caught:
        class_table_from_data(DATA | change, "class table c.yaml")
    assert str(caught.value).startswith("class table c.yaml:")
    assert part in str(caught.value)


def test_a_name_that_one_entry_says_twice_is_said_once():
    table = class_table_from_data([{"name": "a", "source_names": ["x", "x"]}], "t")
    assert table.source_names == (("x",),)


def test_an_umlaut_is_the_same_name_whether_it_is_one_character_or_two():
    table = class_table_from_data(["background", "N\u00e9crose"], "classes")
    assert table.indices_of_sources(["Ne\u0301crose", "n\u00e9crose"]) == {
        "Ne\u0301crose": 1,
        "n\u00e9crose": 1,
    }
