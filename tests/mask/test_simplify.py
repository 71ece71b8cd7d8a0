"""Simpler outlines: valid, within the tolerance, without gaps or overlaps between neighbours."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from java_tools import STAND_INS, JavaLoop, compile_java, need_jars
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import zoom

from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.annotation.outlines.labels import open_outline_labels
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.geojson import write_geojson
from wsi_deform.mask.polygons import Polygon, label_band, polygons
from wsi_deform.mask.simplify import Simplifier
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

TABLE = ClassTable.from_names(["background", "gland", "stroma"])
GLAS = Path(__file__).resolve().parents[4] / "shared" / "data" / "glas"


def nearest(size: Size, samples: int, classes: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    points = rng.random((samples, 2)) * [size.width, size.height]
    field = FieldSamples(
        kept=Region.whole(size), points_px=points, labels=rng.integers(0, classes, samples).astype(np.uint8)
    )
    return np.asarray(ReverseSampler([field], size=size).region(Region.whole(size)))


def maps() -> list[tuple[NDArray[np.uint8], float]]:
    """Label maps of all kinds, with a tolerance in px: noise, chequers, blocks, cells, unlabelled holes, thin lines."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(24):
        height, width = rng.integers(2, 30, 2)
        labels = rng.integers(0, rng.integers(2, 5), (height, width)).astype(np.uint8)
        if number % 2:
            labels = np.kron(labels, np.ones((5, 4), np.uint8))
        if number % 3 == 0:
            labels[rng.random(labels.shape) < 0.05] = 255
        found.append((labels, (0.7, 1.0, 2.0, 5.0, 20.0)[number % 5]))
    found += [(nearest(Size(300, 200), 80), 2.0), (nearest(Size(300, 200), 400, seed=1), 8.0)]
    stripes = np.zeros((60, 90), np.uint8)
    for row in range(60):  # lines of one px beside each other, which nothing coarse can keep apart
        stripes[row, row : row + 9] = [1, 0, 2, 0, 1, 0, 2, 1, 0]
    return [*found, (stripes, 4.0), (np.zeros((3, 3), np.uint8), 1.0)]


def simplified(labels: NDArray[np.uint8], tolerance: float) -> tuple[list[Polygon], list[shapely.Polygon]]:
    simplifier = Simplifier(tolerance, (1.0, 1.0))
    exact = list(polygons([label_band(labels)], (0, labels.shape[1]), pinned=True))
    rounds = 0
    while simplifier.settle(exact):
        rounds += 1
        assert rounds < 50
    shapes = []
    for polygon in exact:
        rings = simplifier.rings(polygon)
        shapes.append(shapely.Polygon(rings[0], rings[1:]))
    return exact, shapes


@pytest.mark.parametrize(("labels", "tolerance"), maps())
def test_all_labels_together_cover_the_map_once_and_each_polygon_is_valid(
    labels: NDArray[np.uint8], tolerance: float
) -> None:
    exact, shapes = simplified(labels, tolerance)
    assert shapely.is_valid(shapes).all()
    assert shapely.area(shapes).sum() == pytest.approx(labels.size, abs=1e-6)
    assert shapely.union_all(shapes).area == pytest.approx(labels.size, abs=1e-6)
    for polygon, shape in zip(exact, shapes, strict=True):
        corners = shapely.points(np.concatenate(polygon.rings))
        assert shapely.distance(corners, shape.boundary).max() <= tolerance + 0.01  # and rounded


def test_cells_need_few_vertices() -> None:
    exact, shapes = simplified(nearest(Size(800, 800), 200), 2.0)
    before = sum(len(ring) for polygon in exact for ring in polygon.rings)
    assert shapely.get_num_coordinates(shapes).sum() < before / 15


def test_pins_are_where_three_labels_meet_at_chequers_and_at_the_corners_of_the_map() -> None:
    for labels, _ in maps():
        known = np.where(labels == 255, 254, labels).astype(int)
        around = np.pad(known, 1, constant_values=-1)
        a, b, c, d = around[:-1, :-1], around[:-1, 1:], around[1:, :-1], around[1:, 1:]
        borders = (a != b) * 1 + (c != d) + (a != c) + (b != d)
        height, width = labels.shape
        wanted = {(int(x), int(y)) for y, x in np.argwhere(borders >= 3)}
        wanted |= {(0, 0), (width, 0), (0, height), (width, height)}
        met = set()
        for polygon in polygons([label_band(labels)], (0, width), pinned=True):
            for ring, pins in zip(polygon.rings, polygon.pins, strict=True):
                for vertex, pinned in zip(map(tuple, ring.tolist()), pins.tolist(), strict=True):
                    assert pinned == (vertex in wanted)
                    met.add(vertex)
                for (x, y), (to_x, to_y) in zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True):
                    assert (x == to_x) != (y == to_y)
                    way = max(abs(to_x - x), abs(to_y - y))
                    step = ((to_x - x) // way, (to_y - y) // way)
                    assert not any((x + step[0] * i, y + step[1] * i) in wanted for i in range(1, way))
        assert wanted <= met


def test_outlines_with_pins_enclose_what_those_without_do() -> None:
    for labels, _ in maps():
        known = np.where(labels == 255, 254, labels).astype(np.uint8)
        sides = (0, labels.shape[1])
        plain = sorted(shape_text(polygon) for polygon in polygons([label_band(known)], sides))
        assert (
            sorted(shape_text(each) for each in polygons([label_band(labels)], sides, pinned=True)) == plain
        )


def shape_text(polygon: Polygon) -> str:
    shape = shapely.simplify(shapely.Polygon(polygon.rings[0], polygon.rings[1:]), 0).normalize()
    # Which vertex of a hole that touches the ring comes first is nobody's business.
    return f"{polygon.label} {shape.area} {shape.length} {shape.bounds} {shape.representative_point().within(shape)}"


def written_mask(path: Path, labels: NDArray[np.uint8], tile_px: int = 512) -> Path:
    height, width = labels.shape
    tiles = []
    for level, size in enumerate(pyramid_sizes(Size(width, height), tile_px)):
        pixels = labels[:: 2**level, :: 2**level]
        for row in range(-(-size.height // tile_px)):
            for column in range(-(-size.width // tile_px)):
                tile = pixels[row * tile_px :, column * tile_px :][:tile_px, :tile_px]
                same = int(tile[0, 0]) if (tile == tile[0, 0]).all() else None
                shown = None if same is not None else np.ascontiguousarray(tile)
                tiles.append(MaskTile(level=level, column=column, row=row, label=same, pixels=shown))
    write_mask(path, tiles, size=Size(width, height), mpp=0.5, tile_px=tile_px)
    return path


def read_back(path: Path, size: Size, table: ClassTable = TABLE) -> NDArray[np.uint8]:
    """The label map that our reader makes of outlines."""
    labels = open_outline_labels(path, slide_size=size, classes=table, outside="background")
    return np.asarray(labels.read_region(Region.whole(size)))


def least_iou(one: NDArray[np.uint8], other: NDArray[np.uint8], classes: int = 3) -> float:
    return min(
        np.count_nonzero((one == label) & (other == label))
        / np.count_nonzero((one == label) | (other == label))
        for label in range(classes)
    )


@pytest.mark.parametrize("max_features", [10_000, 1])
@pytest.mark.parametrize("shown", [None, Region(37, 20, 700, 500)])
def test_exact_outlines_come_back_pixel_for_pixel(
    tmp_path: Path, max_features: int, shown: Region | None
) -> None:
    size = Size(900, 700)
    labels = nearest(size, 300)
    mask = written_mask(tmp_path / "s.ome.tif", labels, 64)
    path = tmp_path / "s.geojson.gz"
    write_geojson(path, mask, classes=TABLE, shown=shown, max_features=max_features)
    if shown is not None:  # outside of what is shown nobody drew anything
        outside = np.ones(labels.shape, bool)
        outside[shown.y : shown.bottom, shown.x : shown.right] = False
        labels = np.where(outside, np.uint8(0), labels)
    np.testing.assert_array_equal(read_back(path, size), labels)


def test_simpler_outlines_come_back_nearly_the_same(tmp_path: Path) -> None:
    size = Size(6000, 4000)
    labels = nearest(size, 60)
    mask, path = written_mask(tmp_path / "s.ome.tif", labels), tmp_path / "s.geojson.gz"
    exact = write_geojson(path, mask, classes=TABLE)
    simpler = write_geojson(path, mask, classes=TABLE, mpp=0.5, tolerance_um=1.0)
    assert (simpler.polygons, simpler.features) == (exact.polygons, exact.features)
    assert simpler.vertices < exact.vertices / 200
    assert least_iou(read_back(path, size), labels) >= 0.999


def glas_masks() -> list[Path]:
    """Labels of GlaS as images; empty where there are none."""
    return sorted(GLAS.glob("*_anno.png"))


def test_outlines_of_real_glands_come_back(tmp_path: Path) -> None:
    found = glas_masks()[:3]
    if not found:
        pytest.skip(f"needs the labels of GlaS in {GLAS}")
    table = ClassTable.from_names(["background", "gland"])
    worst, before, after = 1.0, 0, 0
    for number, file in enumerate(found):
        # Of 0.62 um per px; at 0.155 with smooth borders, as a mask of a slide has them.
        given = (np.asarray(Image.open(file).convert("I")) > 0).astype(np.float32)
        labels = (zoom(given, 4, order=1, grid_mode=True, mode="nearest") > 0.5).astype(np.uint8)
        size = Size(labels.shape[1], labels.shape[0])
        mask, path = written_mask(tmp_path / f"{number}.ome.tif", labels), tmp_path / f"{number}.geojson.gz"
        before += write_geojson(path, mask, classes=table).vertices
        np.testing.assert_array_equal(read_back(path, size, table), labels)
        after += write_geojson(path, mask, classes=table, mpp=0.155, tolerance_um=0.155).vertices
        worst = min(worst, least_iou(read_back(path, size, table), labels, 2))
    assert worst >= 0.999
    assert after < before / 2.5


def test_small_areas_are_left_out_and_small_holes_filled(tmp_path: Path) -> None:
    labels = np.zeros((64, 64), np.uint8)
    labels[8:56, 8:56] = 1
    labels[16:20, 16:20] = 0  # a hole of 16 px, 4 um^2
    labels[30:40, 30:40] = 2  # an island of 100 px in a hole of its size
    labels[2:5, 2:5] = 2  # 9 px
    mask, path = written_mask(tmp_path / "s.ome.tif", labels, 16), tmp_path / "s.geojson.gz"
    write_geojson(path, mask, classes=TABLE, mpp=0.5, min_area_um2=5.0)
    found = json.loads(gzip.decompress(path.read_bytes()))
    assert found["wsi_deform"]["min_area_um2"] == 5.0
    filled = labels.copy()
    filled[16:20, 16:20], filled[2:5, 2:5] = 1, 0
    np.testing.assert_array_equal(read_back(path, Size(64, 64)), filled)
    write_geojson(path, mask, classes=TABLE, mpp=0.5, min_area_um2=4.0)
    filled[16:20, 16:20] = 0
    np.testing.assert_array_equal(read_back(path, Size(64, 64)), filled)


@pytest.fixture(scope="module")
def jts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JavaLoop]:
    """Reads a GeoJSON file and says how many features it has, or what JTS finds wrong with one."""
    jars = need_jars("groovy-all|groovy", "gson", "jts-core")
    classes = tmp_path_factory.mktemp("jts")
    compile_java(sorted(STAND_INS.rglob("*.java")), jars, classes)
    loop = JavaLoop("Valid", [classes, *jars])
    yield loop
    loop.close()


@pytest.mark.parametrize(("tolerance_um", "downsample"), [(0.0, 1), (1.0, 1), (6.0, 4)])
@pytest.mark.parametrize("kind", ["cells", "noise"])
def test_jts_finds_every_feature_valid(
    jts: JavaLoop, tmp_path: Path, kind: str, tolerance_um: float, downsample: int
) -> None:
    noise = np.random.default_rng(1).integers(0, 3, (90, 120)).astype(np.uint8)
    labels = nearest(Size(400, 300), 300) if kind == "cells" else noise
    labels[50:60, 20:30] = 255
    mask, path = written_mask(tmp_path / "s.ome.tif", labels, 64), tmp_path / "s.geojson.gz"
    for max_features in (10_000, 1):
        done = write_geojson(
            path, mask, classes=TABLE, mpp=0.5, tolerance_um=tolerance_um, downsample=downsample,
            max_features=max_features,
        )  # fmt: skip
        assert jts.ask(path) == f"{done.features} features\n"


def test_jts_is_asked_in_earnest(jts: JavaLoop, tmp_path: Path) -> None:
    mask, path = (
        written_mask(tmp_path / "s.ome.tif", np.ones((20, 20), np.uint8), 16),
        tmp_path / "s.geojson.gz",
    )
    write_geojson(path, mask, classes=TABLE)
    text = gzip.decompress(path.read_bytes()).decode()
    crossed = text.replace("[20,0],[20,20],[0,20]", "[20,0],[0,20],[20,20]")
    assert crossed != text
    path.write_bytes(gzip.compress(crossed.encode()))
    assert jts.ask(path).startswith("not valid: Self-intersection at or near point (10.0, 10.0")


def test_the_same_mask_gives_the_same_bytes_and_ids_that_do_not_depend_on_the_tolerance(
    tmp_path: Path,
) -> None:
    mask = written_mask(tmp_path / "s.ome.tif", nearest(Size(300, 200), 60), 64)
    ids, held = [], []
    for number, tolerance in enumerate((0.0, 1.0, 1.0)):
        path = tmp_path / f"{number}.geojson.gz"
        write_geojson(path, mask, classes=TABLE, mpp=0.5, tolerance_um=tolerance)
        held.append(path.read_bytes())
        ids.append([each["id"] for each in json.loads(gzip.decompress(held[-1]))["features"]])
    assert held[1] == held[2] != held[0]
    assert ids[0] == ids[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tolerance_um": 1.0}, r"tolerance 1.0 um without mpp. Needed 0 or more, and um per pixel"),
        ({"min_area_um2": 1.0}, r"min area 1.0 um without mpp"),
        ({"tolerance_um": -1.0, "mpp": 0.5}, r"tolerance -1.0. Needed 0 or more"),
        ({"min_area_um2": float("nan"), "mpp": 0.5}, r"min area nan. Needed 0 or more"),
    ],
)
def test_what_is_no_tolerance_or_area_is_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    mask = written_mask(tmp_path / "s.ome.tif", np.zeros((20, 20), np.uint8), 16)
    with pytest.raises(ShapeError, match=message):
        write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE, **given)


def test_a_table_of_255_classes_leaves_no_label_for_the_unlabelled(tmp_path: Path) -> None:
    table = class_table_from_data([{"name": f"c{index}"} for index in range(255)], "test")
    mask = written_mask(tmp_path / "s.ome.tif", np.zeros((20, 20), np.uint8), 16)
    write_geojson(tmp_path / "s.geojson.gz", mask, classes=table)
    with pytest.raises(ShapeError, match="255 classes. Needed at most 254"):
        write_geojson(tmp_path / "t.geojson.gz", mask, classes=table, mpp=0.5, tolerance_um=1.0)


def test_outlines_keep_anisotropic_pixels_within_the_tolerance(tmp_path: Path) -> None:
    labels = nearest(Size(300, 300), 40)
    exact = list(polygons([label_band(labels)], (0, 300), pinned=True))
    simplifier = Simplifier(2.0, (0.25, 1.0))
    while simplifier.settle(exact):
        pass
    for polygon in exact:
        shape = shapely.Polygon(simplifier.rings(polygon)[0] * [0.25, 1.0])
        corners = shapely.points(polygon.rings[0] * [0.25, 1.0])
        assert shapely.distance(corners, shape.boundary).max() <= 2.0 + 0.01
