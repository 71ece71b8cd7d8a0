"""ImageScope XML: layers, negative regions, ellipses and the shapes that are no areas."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from outline_files import SQUARE, TRIANGLE, even_odd_area, region, shoelace

from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.errors import AnnotationError

HOLE = [(12, 22), (20, 22), (20, 30), (12, 30)]


@pytest.fixture
def read(tmp_path: Path):
    def written_and_read(*layers: str) -> OutlineSet:
        (tmp_path / "a.xml").write_text(f"<Annotations>{''.join(layers)}</Annotations>", encoding="utf-8")
        return read_outlines(tmp_path / "a.xml")

    return written_and_read


def layer(*regions: str, name: str = "", colour: object = 255, attributes: str = "") -> str:
    held = f"<Attributes>{attributes}</Attributes><Regions>{''.join(regions)}</Regions>"
    return f'<Annotation Name="{name}" LineColor="{colour}">{held}</Annotation>'


def classes(found: OutlineSet) -> list[str | None]:
    return [each.source_class for each in found.outlines]


def test_convention_the_lowest_byte_of_a_colour_is_red(read):
    found = read(layer(region(SQUARE), colour=255), layer(region(SQUARE), colour=16711680))
    assert [each.colour for each in found.outlines] == [(255, 0, 0), (0, 0, 255)]
    assert read(layer(region(SQUARE), colour="red")).outlines[0].colour is None


def test_a_layer_is_named_by_its_name_its_attributes_or_among_several_its_colour(read):
    attribute = '<Attribute Name="{}" Id="0" Value="{}"/>'.format
    found = read(
        layer(region(SQUARE), name="Tumour", attributes=attribute("CaP", "x")),
        layer(region(SQUARE), attributes=attribute("CaP", "")),
        layer(region(SQUARE), attributes=attribute("Description", "Stroma")),
        layer(region(SQUARE), attributes=attribute("Description", ""), colour=65280),
    )
    assert classes(found) == ["Tumour", "CaP", "Stroma", "#00ff00"]
    assert found.remarks == ("Layers without a name, whose colour was taken for their class: 1",)


def test_the_only_layer_needs_no_name_whatever_its_colour(read):
    found = read(layer(region(SQUARE), colour=8453888), layer(), layer(region(SQUARE, kind="3")))
    assert classes(found) == [None]
    assert found.remarks == ("Arrows, no areas and left out: 1",)


def test_an_attribute_of_a_region_names_no_layer(read):
    named = region(SQUARE).replace(
        "<Attributes/>", '<Attributes><Attribute Name="Score" Value="3"/></Attributes>'
    )
    assert classes(read(layer(named))) == [None]


def test_negative_regions_are_holes_of_their_own_layer_alone(read):
    found = read(layer(region(SQUARE), region(HOLE, negative="1"), name="a"), layer(region(SQUARE), name="b"))
    assert classes(found) == ["a", "b"]
    assert [even_odd_area(each.rings) for each in found.outlines] == [400 - 64, 400]
    assert found.remarks == ("Negative regions, cut out of the regions of their layers: 1",)


def test_a_negative_region_may_come_first_cross_an_edge_and_cut_two_regions(read):
    right = [(x + 25, y) for x, y in SQUARE]  # 35 to 55, beside 10 to 30
    across = [(25, 25), (40, 25), (40, 35), (25, 35)]
    found = read(layer(region(across, negative="1"), region(SQUARE), region(right)))
    assert [even_odd_area(each.rings) for each in found.outlines] == [400 - 5 * 10, 400 - 5 * 10]


def test_negative_regions_over_nothing_or_beside_are_left_out(read):
    beside = [(30, 20), (50, 20), (50, 40), (30, 40)]
    found = read(layer(region(SQUARE), region(beside, negative="1"), region(TRIANGLE, negative="1")))
    np.testing.assert_array_equal(found.outlines[0].rings, [SQUARE])
    assert found.remarks == ("Negative regions that meet no region of their layer, left out: 2",)


@pytest.mark.parametrize("beside", [[], [region(SQUARE)]])
def test_a_layer_of_negative_regions_alone_is_left_out(read, beside):
    found = read(layer(region(HOLE, negative="1")), layer(*beside))
    assert [each.rings[0].tolist() for each in found.outlines] == [
        [list(pair) for pair in SQUARE] for _ in beside
    ]
    assert found.remarks[0] == "Negative regions that meet no region of their layer, left out: 1"


def test_an_ellipse_fills_its_bounding_box(read):
    for vertices in ([(100, 200), (300, 260)], [(100, 200), (300, 200), (300, 260), (100, 260)]):
        found = read(layer(region(vertices, kind="2")))
        (ring,) = found.outlines[0].rings
        assert shoelace(ring) == pytest.approx(math.pi * 100 * 30, rel=1e-12)
        assert ring.min(axis=0).tolist() == pytest.approx([100, 200], abs=0.3)
        assert ring.max(axis=0).tolist() == pytest.approx([300, 260], abs=0.3)
        x, y = (ring - [200, 230]).T
        assert np.abs(np.hypot(x / 100, y / 30) - 1).max() < 0.01
        assert found.remarks == ("Ellipses, drawn into their bounding boxes: 1",)


def test_an_ellipse_that_is_drawn_out_already_keeps_its_vertices(read):
    points = [(50 + 20 * math.cos(k), 50 + 10 * math.sin(k)) for k in range(6)]
    assert len(read(layer(region(points, kind="2"))).outlines[0].rings[0]) >= 6


def test_rectangles_of_two_and_of_four_corners(read):
    found = read(layer(region(SQUARE, kind="1"), region([(10, 20), (30, 40)], kind="1")))
    for each in found.outlines:
        np.testing.assert_array_equal(each.rings[0], SQUARE)


def test_arrows_rulers_and_points_are_counted(read):
    held = [region([(1, 2), (3, 4)], kind=kind) for kind in ("3", "5", "5", "4")]
    assert read(layer(*held)).remarks == (
        "Arrows, no areas and left out: 1",
        "Rulers, no areas and left out: 2",
        "Points, no areas and left out: 1",
    )


def test_the_dialect_of_halo_has_words_for_types_and_v_for_vertices(read):
    vertices = '<Vertices><V X="10" Y="20"/><V X="30" Y="40"/></Vertices>'
    regions = [
        f'<Region Type="{kind}" NegativeROA="0">{vertices}</Region>' for kind in ("Rectangle", "Ruler")
    ]
    found = read(layer(*regions, name="a"))
    np.testing.assert_array_equal(found.outlines[0].rings, [SQUARE])
    assert found.remarks == ("Rulers, no areas and left out: 1",)


def test_a_vertex_without_y_and_a_region_outside_of_a_layer_are_refused(read):
    with pytest.raises(AnnotationError, match="feature 1: a vertex lacks X or Y"):
        read(layer('<Region Type="0"><Vertices><Vertex X="1"/></Vertices></Region>'))
    with pytest.raises(AnnotationError, match="feature 1: a Region outside of any Annotation"):
        read(f"<Attributes/>{region(SQUARE)}")


def test_other_xml_of_the_same_root_is_not_taken_for_it(tmp_path):
    (tmp_path / "a.xml").write_text("<Annotations><Other/></Annotations>")
    with pytest.raises(AnnotationError, match="in no format that is known"):
        read_outlines(tmp_path / "a.xml")
