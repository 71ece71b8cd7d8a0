"""ASAP XML: groups, exclusion, drawing order, and the shapes that are no polygons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from outline_files import SQUARE, TRIANGLE

from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.errors import AnnotationError


@pytest.fixture
def read(tmp_path: Path):
    def written_and_read(*annotations: str, head: str = "") -> OutlineSet:
        text = f"{head}<ASAP_Annotations><Annotations>{''.join(annotations)}</Annotations></ASAP_Annotations>"
        (tmp_path / "a.xml").write_text(text, encoding="utf-8")
        return read_outlines(tmp_path / "a.xml")

    return written_and_read


def annotation(group: str, *, kind: str = "Polygon", ring=SQUARE, orders=None) -> str:
    places = orders or range(len(ring))
    held = "".join(
        f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in zip(places, ring, strict=True)
    )
    head = f'<Annotation Name="a" Type="{kind}" PartOfGroup="{group}" Color="#F4FA58">'
    return f"{head}<Coordinates>{held}</Coordinates></Annotation>"


def drawn(found: OutlineSet) -> list[tuple[str | None, bool, int]]:
    return [(each.source_class, each.erases, each.number) for each in found.outlines]


def test_group_2_of_camelyon16_takes_away_what_0_and_1_drew_and_comes_last(read):
    found = read(annotation("_2"), annotation("_0"), annotation("_1"), annotation("_2"))
    assert drawn(found) == [("_0", False, 2), ("_1", False, 3), ("_2", True, 1), ("_2", True, 4)]
    assert found.remarks == ("Outlines of exclusion groups, which take away what the others drew: 2",)


def test_group_2_among_other_numbers_is_a_class(read):
    found = read(annotation("_2"), annotation("_3"))
    assert drawn(found) == [("_2", False, 1), ("_3", False, 2)]


@pytest.mark.parametrize("name", ["Exclusion", "exclusion"])
def test_exclusion_takes_away(read, name):
    assert drawn(read(annotation(name), annotation("Tumor"))) == [("Tumor", False, 2), (name, True, 1)]


def test_normal_of_camelyon17_is_a_class_drawn_over_metastases(read):
    found = read(annotation("normal"), annotation("metastases"), annotation("normal"))
    assert drawn(found) == [("metastases", False, 2), ("normal", False, 1), ("normal", False, 3)]
    assert found.remarks == ('Outlines of the group "normal", drawn over the others as in CAMELYON17: 2',)


def test_normal_without_metastases_stays_in_its_place(read):
    assert drawn(read(annotation("normal"), annotation("Tumor"))) == [
        ("normal", False, 1),
        ("Tumor", False, 2),
    ]


def test_vertices_are_taken_in_their_order(read):
    found = read(annotation("a", ring=[TRIANGLE[2], TRIANGLE[0], TRIANGLE[1]], orders=[2, 0, 1]))
    np.testing.assert_array_equal(found.outlines[0].rings[0], TRIANGLE)
    found = read(annotation("a", ring=TRIANGLE, orders=["x", "y", "z"]))
    np.testing.assert_array_equal(found.outlines[0].rings[0], TRIANGLE)


def test_a_spline_is_the_polygon_of_its_control_points_with_a_remark(read):
    found = read(annotation("a", kind="Spline"))
    np.testing.assert_array_equal(found.outlines[0].rings[0], SQUARE)
    assert found.remarks == ("Splines, taken for the polygons of their control points: 1",)


def test_a_rectangle_of_two_corners_is_the_box_between_them(read):
    found = read(
        annotation("a", kind="Rectangle", ring=[(30, 20), (10, 40)]), annotation("a", kind="Rectangle")
    )
    for each in found.outlines:
        np.testing.assert_array_equal(each.rings[0], SQUARE)


def test_dots_point_sets_and_measurements_are_counted(read):
    found = read(
        annotation("a", kind="Dot", ring=[(1, 2)]),
        annotation("a", kind="PointSet", ring=[(1, 2), (3, 4), (5, 6)]),
        annotation("a", kind="Measurement", ring=[(1, 2), (3, 4)]),
    )
    assert found.outlines == ()
    assert found.remarks == ("Points, no areas and left out: 4", "Measurements, no areas and left out: 1")


def test_an_unknown_type_and_a_vertex_without_y_are_refused_by_number(read):
    with pytest.raises(AnnotationError, match="feature 2: Type is 'Blob', needed one of Polygon"):
        read(annotation("a"), annotation("a", kind="Blob"))
    with pytest.raises(AnnotationError, match="feature 1: a Coordinate lacks X or Y"):
        read(
            '<Annotation Type="Polygon"><Coordinates><Coordinate Order="0" X="1"/></Coordinates></Annotation>'
        )


def test_entities_are_refused_before_they_grow(read):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    head = f'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]>'
    with pytest.raises(AnnotationError, match="it declares entities or parts outside of it"):
        read(annotation("&l9;"), head=head)


def test_parts_outside_of_the_file_are_refused(read, tmp_path):
    (tmp_path / "secret").write_text("secret")
    head = f'<!DOCTYPE a [<!ENTITY x SYSTEM "{(tmp_path / "secret").as_uri()}">]>'
    with pytest.raises(AnnotationError, match="it declares entities or parts outside of it"):
        read(annotation("a"), head=head)


def test_deep_nesting_and_an_unknown_encoding_are_refused(read):
    with pytest.raises(AnnotationError, match="nested more than 64 deep"):
        read("<a>" * 100 + "</a>" * 100)
    with pytest.raises(AnnotationError, match="no sound XML"):
        read(annotation("a"), head='<?xml version="1.0" encoding="klingon"?>')
