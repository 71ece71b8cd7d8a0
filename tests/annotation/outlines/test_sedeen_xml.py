"""Sedeen sessions: graphics, images and their transforms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from outline_files import SQUARE, shoelace

from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.errors import AnnotationError


@pytest.fixture
def read(tmp_path: Path):
    def written_and_read(*images: str, image: str | None = None):
        (tmp_path / "a.session.xml").write_text(f"<session>{''.join(images)}</session>", encoding="utf-8")
        return read_outlines(tmp_path / "a.session.xml", image=image)

    return written_and_read


def image(*graphics: str, name: str = "a.svs", transform: str = "") -> str:
    held = f"<transform>{transform}</transform><overlays>{''.join(graphics)}</overlays>"
    return f'<image identifier="{name}">{held}</image>'


def graphic(kind: str, points=SQUARE, name: str = "tumour") -> str:
    held = "".join(f"<point>{x:.6f},{y:.6f}</point>" for x, y in points)
    pen = '<pen color="#00ff00ff" width="3" style="Solid"/>'
    return f'<graphic type="{kind}" name="{name}">{pen}<point-list>{held}</point-list></graphic>'


def test_rectangles_and_ellipses_are_given_by_the_corners_of_their_box(read):
    found = read(image(graphic("rectangle"), graphic("ellipse"), graphic("rectangle", [(10, 20), (30, 40)])))
    rectangle, ellipse, two = found.outlines
    np.testing.assert_array_equal(rectangle.rings[0], SQUARE)
    np.testing.assert_array_equal(two.rings[0], SQUARE)
    assert shoelace(ellipse.rings[0]) == pytest.approx(math.pi * 100)
    assert [each.colour for each in found.outlines] == [(0, 255, 0)] * 3
    assert found.remarks == ("Ellipses, drawn into their bounding boxes: 1",)


def test_a_turned_rectangle_keeps_its_corners_and_a_turned_ellipse_is_refused(read):
    turned = [(20.0, 10.0), (30.0, 20.0), (20.0, 30.0), (10.0, 20.0)]
    np.testing.assert_array_equal(read(image(graphic("rectangle", turned))).outlines[0].rings[0], turned)
    with pytest.raises(AnnotationError, match="feature 1: a turned ellipse, needed one along the axes"):
        read(image(graphic("ellipse", turned)))


def test_what_is_no_area_is_counted(read):
    kinds = ("polyline", "text", "point", "ruler", "arrow")
    assert read(image(*map(graphic, kinds))).remarks == (
        "Lines, no areas and left out: 1",
        "Texts, no areas and left out: 1",
        "Points, no areas and left out: 4",
        "Rulers, no areas and left out: 1",
        "Arrows, no areas and left out: 1",
    )


def test_an_image_that_was_moved_turned_or_scaled_is_refused(read):
    still = '<translation units="um">0.0,0.0</translation><center units="um">35.0,39.0</center><rotation>0.0</rotation>'
    assert len(read(image(graphic("polygon"), transform=still)).outlines) == 1
    for name, text, needed in (
        ("translation", "5.0,0.0", 0),
        ("rotation", "90.0", 0),
        ("scale", "1.0,2.0", 1),
    ):
        with pytest.raises(
            AnnotationError, match=f"image 'a.svs' has the {name} '{text}', needed {needed}. Reset"
        ):
            read(image(graphic("polygon"), transform=f"<{name}>{text}</{name}>"))


def test_of_several_images_the_one_of_the_slides_name_is_taken(read):
    images = [image(graphic("polygon", name=name), name=f"C:\\slides\\{name}.svs") for name in ("one", "two")]
    assert [each.source_class for each in read(*images, image="/data/TWO.tiff").outlines] == ["two"]
    with pytest.raises(AnnotationError, match="it holds 2 images .*, and no slide was named"):
        read(*images)
    with pytest.raises(AnnotationError, match="and 0 of them are called 'three'"):
        read(*images, image="three.svs")


def test_unknown_graphics_and_points_that_are_no_pairs_are_refused(read):
    with pytest.raises(AnnotationError, match="feature 1: type is 'blob', needed one of polygon, rectangle"):
        read(image(graphic("blob")))
    bad = '<graphic type="polygon"><point-list><point>1,2</point><point>3</point></point-list></graphic>'
    with pytest.raises(AnnotationError, match="feature 1: a point is '3', needed x,y"):
        read(image(bad))
    commas = '<graphic type="polygon"><point-list><point>10,5,20,5</point></point-list></graphic>'
    with pytest.raises(AnnotationError, match="feature 1: a point is '10,5,20,5', needed x,y"):
        read(image(commas))
    bad = '<graphic type="ellipse"><point-list><point>1,2</point><point>3,inf</point></point-list></graphic>'
    with pytest.raises(AnnotationError, match="feature 1: a point is inf"):
        read(image(bad))
