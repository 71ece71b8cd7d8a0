"""Annotation files that real programs wrote: counts, classes, vertices and areas that were found without this one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from outline_files import even_odd_area, shoelace

from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.outlines.outline import OutlineSet
from wsi_deform.errors import AnnotationError


@pytest.fixture
def sample(shared_data: Path) -> Callable[[str], Path]:
    """A file of shared/data by its name; skips where it is not there."""

    def found(name: str) -> Path:
        if not (shared_data / name).exists():
            pytest.skip(f"{name} is not in {shared_data}")
        return shared_data / name

    return found


def area(found: OutlineSet, number: int) -> float:
    return even_odd_area(found.outlines[number].rings)


# File, format, outlines of each class, and of one outline: its place, first vertex and area. Areas are sums over the
# file's own vertices, or what the file says itself.
FILES = [
    ("camelyon16/tumor_076.xml", "ASAP XML", {"metastasis": 39}, (38, (37491.2031, 24315.2969), 81040.638)),
    ("camelyon16/tumor_085.xml", "ASAP XML", {"metastasis": 50}, (49, (69603.7969, 54501.0), 10205.4678)),
    ("iciar2018_hinet/A10.xml", "ASAP XML", {"metastases_org": 3, None: 6}, (0, (15626, 22303), 1342441.5)),
    ("dplabtools/asap1.xml", "ASAP XML", {None: 3}, (0, (5954.99219, 24058.1719), 5484778.4443)),
    ("geojson_xml/xml_example.xml", "ASAP XML", {"aberrant_positive_columnar": 1, "unsure": 1},
     (1, (51099.332, 25871.2734), 646.58877)),
    ("geojson_xml/geojson_example.geojson", "QuPath GeoJSON", {"artifact": 1, "unsure": 1},
     (0, (42800, 2800), 160000.0)),
    ("histoqc/TCGA-EJ-5518-01Z-00-DX1.xml", "ImageScope XML", {"CaP": 2, "#ff0000": 1, "#00ffff": 1},
     (0, (40265.344427, 13434.053525), 29046449.62)),
    ("histoqc/geojson_example.json", "QuPath GeoJSON", {"Tumor": 1, "Invborder": 1}, (0, (33149, 54671), 2265677914.4)),
    ("histoqc/holed.geojson", "QuPath GeoJSON", {None: 1}, (0, (10098, 16763), 7827735.3053)),
    ("qupath/polygon.geojson", "QuPath GeoJSON", {None: 1}, (0, (7053.47, 53.42), 54694789.602)),
    ("dlup/qupath05.geojson", "QuPath GeoJSON", {"UT": 1, "I": 2}, (2, None, 46151.5)),
    ("dlup/103S.json", "Darwin JSON",
     {"ROI (segmentation)": 1, "stroma (area)": 2, "tumor (cell)": 7, "tumor (area)": 2},
     (0, (15291.49, 18094.48), 23552768.1)),
    ("dplabtools/sedeen1.xml", "Sedeen XML", {f"Region {n}": 1 for n in range(4)}, (1, (10709, 24842), 5812224.0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "written_by", "classes", "one"), FILES, ids=[each[0] for each in FILES])
def test_a_real_file_has_the_outlines_classes_and_areas_that_were_counted_in_it(
    sample, name, written_by, classes, one
):
    found = read_outlines(sample(f"annotations/{name}"))
    assert found.format == written_by
    assert Counter(each.source_class for each in found.outlines) == classes
    number, vertex, expected = one
    assert area(found, number) == pytest.approx(expected, rel=1e-6)
    if vertex is not None:
        assert tuple(found.outlines[number].rings[0][0].tolist()) == vertex


def test_every_vertex_of_qupaths_own_test_polygon_is_kept(sample):
    found = read_outlines(sample("annotations/qupath/polygon.geojson"))
    assert [len(ring) for ring in found.outlines[0].rings][:3] == [1385, 3, 3]
    assert sum(len(ring) for ring in found.outlines[0].rings) == 1524
    assert found.remarks == ()


def test_points_alone_are_no_outlines(sample):
    found = read_outlines(sample("annotations/historoi/BRACS_1888.geojson"))
    assert found.outlines == ()
    assert found.remarks == ("Points, no areas and left out: 16,017",)


def test_what_real_files_hold_besides_areas_is_counted(sample):
    asap = read_outlines(sample("annotations/dplabtools/asap1.xml")).remarks
    assert asap == (
        "Splines, taken for the polygons of their control points: 1",
        "Points, no areas and left out: 1",
        "Measurements, no areas and left out: 1",
    )
    assert (
        "Points, no areas and left out: 3"
        in read_outlines(sample("annotations/dplabtools/sedeen1.xml")).remarks
    )
    darwin = read_outlines(sample("annotations/dlup/103S.json")).remarks
    assert darwin == (
        "Bounding boxes without a polygon, taken for rectangles: 8",
        "Points, no areas and left out: 5",
    )


def test_a_table_of_classes_beside_annotations_is_refused(sample):
    with pytest.raises(AnnotationError, match=r"metadata\.json: in no format that is known"):
        read_outlines(sample("annotations/dlup/.v7/metadata.json"))


def test_holes_of_darwins_paths_are_by_the_even_odd_rule(sample):
    found = read_outlines(sample("annotations/dlup/103S.json"))
    (stroma, _) = (each for each in found.outlines if each.source_class == "stroma (area)")
    assert [len(ring) for ring in stroma.rings] == [108, 12, 81, 16, 33, 67]  # three are closed
    rings = sorted((shoelace(ring) for ring in stroma.rings), reverse=True)
    assert rings == pytest.approx([3633878.91, 988170.6, 437601.09, 228271.76, 39316.55, 5124.67], abs=0.01)
    assert even_odd_area(stroma.rings) < sum(rings)


# Regions, and the sum of the areas that ImageScope itself wrote into the file.
NUCLEI = [
    ("TCGA-AO-A0J2-01A-01-BSA", 356, 227467.2),
    ("TCGA-HC-7209-01A-01-TS1", 325, 145227.5),
    ("TCGA-HT-8564-01Z-00-DX1", 249, 93074.6),
    ("TCGA-ZF-A9R5-01A-01-TS1", 475, 194579.3),
]


@pytest.mark.parametrize(("name", "regions", "pixels"), NUCLEI)
def test_nuclei_of_monuseg_have_the_areas_that_imagescope_measured(sample, name, regions, pixels):
    found = read_outlines(sample(f"monuseg/{name}.xml"))
    assert len(found.outlines) == regions
    assert {each.source_class for each in found.outlines} == {None}
    areas = [even_odd_area(each.rings) for each in found.outlines]
    assert sum(areas) == pytest.approx(pixels, rel=1e-4)


@pytest.mark.parametrize(
    "name", [f"annotations/{each[0]}" for each in FILES] + [f"monuseg/{n[0]}.xml" for n in NUCLEI]
)
def test_the_area_that_geos_finds_is_that_of_the_even_odd_rule(sample, name):
    import shapely

    for outline in read_outlines(sample(name)).outlines:
        by_geos = shapely.Polygon()
        for ring in outline.rings:
            polygon = shapely.Polygon(ring)
            assert polygon.is_valid
            by_geos = by_geos.symmetric_difference(polygon)
        assert by_geos.area == pytest.approx(even_odd_area(outline.rings), rel=1e-9)
        assert all(np.isfinite(ring).all() and len(ring) >= 3 for ring in outline.rings)
