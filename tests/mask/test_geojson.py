"""Outlines of mask files as GeoJSON: what QuPath needs of them, and that nothing of the mask is lost."""

from __future__ import annotations

import gzip
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
import tifffile
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.bands import mask_bands, open_mask
from wsi_deform.mask.geojson import write_geojson
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.slide.tiff.tiles import TiffTiles

TABLE = class_table_from_data(
    [
        {"name": "background"},
        {"name": "tumour", "color": [200, 0, 10]},
        {"name": "Drüse", "color": "#0080ff"},
    ],
    "test",
)
TILE_PX = 16
SIZE = Size(
    83, 61
)  # 4 levels of 16 px tiles; partial tiles and, from level 1 on, partial pixels on both sides


def written_mask(path: Path, labels: NDArray[np.uint8]) -> Path:
    """A mask file of an array, with tiles of 16 px; level k shows every 2^k-th pixel."""
    height, width = labels.shape
    tiles = []
    for level, size in enumerate(pyramid_sizes(Size(width, height), TILE_PX)):
        pixels = labels[:: 2**level, :: 2**level]
        assert pixels.shape == size.shape
        for row in range(-(-size.height // TILE_PX)):
            for column in range(-(-size.width // TILE_PX)):
                tile = pixels[row * TILE_PX :, column * TILE_PX :][:TILE_PX, :TILE_PX]
                same = int(tile[0, 0]) if (tile == tile[0, 0]).all() else None
                shown = None if same is not None else np.ascontiguousarray(tile)
                tiles.append(MaskTile(level=level, column=column, row=row, label=same, pixels=shown))
    write_mask(path, tiles, size=Size(width, height), mpp=0.5, tile_px=TILE_PX)
    return path


def sampled_labels(size: Size, classes: int = 3, samples: int = 60, seed: int = 0) -> NDArray[np.uint8]:
    """Labels of the nearest of some random samples."""
    rng = np.random.default_rng(seed)
    field = FieldSamples(
        kept=Region.whole(size),
        points_px=rng.random((samples, 2)) * [size.width, size.height],
        labels=rng.integers(0, classes, samples).astype(np.uint8),
    )
    return np.asarray(ReverseSampler([field], size=size).region(Region.whole(size)))


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def filled(found: dict[str, Any], size: Size, table: ClassTable) -> NDArray[np.uint8]:
    """The labels at pixel centres, by how many rings they lie in."""
    centres = np.argwhere(np.ones(size.shape))[:, ::-1] + 0.5
    drawn = np.full(size.shape, table.background, np.uint8)
    for feature in found["features"]:
        parts = feature["geometry"]["coordinates"]
        for rings in [parts] if feature["geometry"]["type"] == "Polygon" else parts:
            inside = np.zeros(len(centres), bool)
            for ring in rings:
                assert ring[0] == ring[-1]
                inside ^= Outline(ring, closed=True).contains_points(centres)
            drawn.ravel()[inside] = table.index(feature["properties"]["classification"]["name"])
    return drawn


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    return written_mask(tmp_path / "a.b.ome.tif", sampled_labels(SIZE))


def test_a_component_is_an_annotation_with_class_and_colour_in_level_0_pixels(tmp_path: Path) -> None:
    labels = np.zeros((40, 50), np.uint8)
    labels[4:8, 2:6] = 2
    labels[20:40, 30:50] = 1
    labels[22:24, 32:34] = 255
    path = tmp_path / "s.geojson.gz"
    summary = write_geojson(path, written_mask(tmp_path / "s.ome.tif", labels), classes=TABLE)
    found = read(path)
    assert found["type"] == "FeatureCollection"
    assert [feature["geometry"] for feature in found["features"]] == [
        {"type": "Polygon", "coordinates": [[[2, 4], [6, 4], [6, 8], [2, 8], [2, 4]]]},
        {
            "type": "Polygon",
            "coordinates": [
                [[30, 20], [50, 20], [50, 40], [30, 40], [30, 20]],
                [[32, 22], [32, 24], [34, 24], [34, 22], [32, 22]],
            ],
        },
    ]
    assert [feature["properties"] for feature in found["features"]] == [
        {"objectType": "annotation", "classification": {"name": "Drüse", "color": [0, 128, 255]}},
        {"objectType": "annotation", "classification": {"name": "tumour", "color": [200, 0, 10]}},
    ]
    assert {feature["type"] for feature in found["features"]} == {"Feature"}
    assert len({uuid.UUID(feature["id"]) for feature in found["features"]}) == 2
    assert (summary.features, summary.polygons, summary.vertices, summary.downsample) == (2, 2, 12, 1)


def test_a_slide_without_anything_is_an_empty_collection(tmp_path: Path) -> None:
    path = tmp_path / "s.geojson.gz"
    mask = written_mask(tmp_path / "s.ome.tif", np.zeros((40, 50), np.uint8))
    assert write_geojson(path, mask, classes=TABLE).features == 0
    assert read(path)["features"] == []


def test_a_slide_of_one_class_is_its_rectangle_at_every_level(tmp_path: Path) -> None:
    mask = written_mask(tmp_path / "s.ome.tif", np.full((61, 83), 1, np.uint8))
    for downsample in (1, 2, 4, 8, 1024):
        write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE, downsample=downsample)
        (feature,) = read(tmp_path / "s.geojson.gz")["features"]
        assert feature["geometry"]["coordinates"] == [[[0, 0], [83, 0], [83, 61], [0, 61], [0, 0]]]


def test_without_a_background_class_every_class_is_outlined(tmp_path: Path) -> None:
    mask = written_mask(tmp_path / "s.ome.tif", np.zeros((4, 4), np.uint8))
    table = ClassTable.from_names(["a", "b"])
    assert write_geojson(tmp_path / "s.geojson.gz", mask, classes=table).features == 1


def test_outlines_of_level_0_filled_by_pixel_centres_are_the_mask(mask: Path, tmp_path: Path) -> None:
    for most in (10_000, 3):
        write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE, max_features=most)
        drawn = filled(read(tmp_path / "s.geojson.gz"), SIZE, TABLE)
        np.testing.assert_array_equal(drawn, tifffile.imread(mask))


@pytest.mark.parametrize(("downsample", "level"), [(1, 0), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (500, 3)])
def test_the_coarsest_level_that_is_fine_enough_is_outlined_and_clipped_to_the_slide(
    mask: Path, tmp_path: Path, downsample: int, level: int
) -> None:
    path = tmp_path / "s.geojson.gz"
    assert write_geojson(path, mask, classes=TABLE, downsample=downsample).downsample == 2**level
    found = read(path)
    assert found["wsi_deform"]["downsample"] == 2**level
    with tifffile.TiffFile(mask) as tiff:
        pixels = tiff.series[0].levels[level].asarray()
    expected = np.kron(pixels, np.ones((2**level, 2**level), np.uint8))[: SIZE.height, : SIZE.width]
    np.testing.assert_array_equal(filled(found, SIZE, TABLE), expected)
    shapes = [shapely.geometry.shape(feature["geometry"]) for feature in found["features"]]
    assert all(shapely.is_valid(each) for each in shapes)
    assert shapely.bounds(shapely.GeometryCollection(shapes)).tolist() == [0, 0, 83, 61]


@pytest.mark.parametrize("downsample", [1, 4])
def test_what_viewers_crop_is_cut_off_and_coordinates_count_from_its_corner(
    mask: Path, tmp_path: Path, downsample: int
) -> None:
    shown, path = Region(10, 21, 50, 30), tmp_path / "s.geojson.gz"
    write_geojson(path, mask, classes=TABLE, downsample=downsample, shown=shown)
    found = read(path)
    assert found["wsi_deform"] == {
        "format": 1, "slide": "a.b", "width_px": 50, "height_px": 30, "offset_px": [10, 21], "downsample": downsample,
    }  # fmt: skip
    with tifffile.TiffFile(mask) as tiff:
        pixels = tiff.series[0].levels[{1: 0, 4: 2}[downsample]].asarray()
    whole = np.kron(pixels, np.ones((downsample, downsample), np.uint8))
    np.testing.assert_array_equal(filled(found, Size(50, 30), TABLE), whole[21:51, 10:60])


def test_with_too_many_components_each_class_is_one_valid_feature(mask: Path, tmp_path: Path) -> None:
    single = write_geojson(tmp_path / "one.geojson.gz", mask, classes=TABLE)
    assert single.features > 4
    classes = write_geojson(tmp_path / "few.geojson.gz", mask, classes=TABLE, max_features=4)
    assert (classes.features, classes.polygons, classes.vertices) == (2, single.polygons, single.vertices)
    found = read(tmp_path / "few.geojson.gz")
    assert [feature["geometry"]["type"] for feature in found["features"]] == ["MultiPolygon"] * 2
    labels = tifffile.imread(mask)
    for label, feature in enumerate(found["features"], start=1):
        shape = shapely.geometry.shape(feature["geometry"])
        assert shapely.is_valid(shape)
        assert shape.area == np.count_nonzero(labels == label)
        assert feature["properties"]["classification"]["name"] == TABLE.names[label]


def test_exactly_as_many_components_as_features_are_wanted_stay_apart(mask: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.geojson.gz"
    count = write_geojson(path, mask, classes=TABLE).features
    assert write_geojson(path, mask, classes=TABLE, max_features=count).features == count
    assert write_geojson(path, mask, classes=TABLE, max_features=count - 1).features == 2


def test_the_file_is_the_same_bytes_whenever_and_under_whatever_name_it_is_written(
    mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_geojson(tmp_path / "t.geojson.gz", mask, classes=TABLE)
    assert (tmp_path / "s.geojson.gz").read_bytes() == (tmp_path / "t.geojson.gz").read_bytes()


def test_a_component_keeps_its_id_where_others_change(tmp_path: Path) -> None:
    ids = []
    for other in (0, 2):
        labels = np.zeros((20, 20), np.uint8)
        labels[2:6, 2:6] = 1
        labels[1, 10:15] = other
        mask = written_mask(tmp_path / "s.ome.tif", labels)
        write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE)
        ids.append([each["id"] for each in read(tmp_path / "s.geojson.gz")["features"]])
    assert ids[0][0] in ids[1]
    assert len(set(ids[1])) == 2


def test_the_file_is_ascii_with_a_feature_per_line_and_the_first_line_says_what_it_is(
    mask: Path, tmp_path: Path
) -> None:
    summary = write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE)
    lines = gzip.decompress((tmp_path / "s.geojson.gz").read_bytes()).decode("ascii").splitlines()
    assert json.loads(lines[0] + "]}")["wsi_deform"]["slide"] == "a.b"
    assert all(json.loads(line.removesuffix(","))["type"] == "Feature" for line in lines[1:-1])
    assert len(lines) == summary.features + 2
    assert lines[-1] == "]}"


def test_only_tiles_of_several_labels_are_decoded_and_no_region_is_ever_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((160, 320), np.uint8)  # 10 x 20 tiles
    labels[30:60, 40:70] = 1  # a square whose border lies in 3 x 4 tiles, of which 2 are whole
    mask = written_mask(tmp_path / "s.ome.tif", labels)
    read_tiles: list[tuple[int, int, int]] = []
    plain = TiffTiles.read_tile

    def counted(self: TiffTiles, level: int, column: int, row: int) -> NDArray[np.uint8]:
        read_tiles.append((level, column, row))
        return np.asarray(plain(self, level, column, row))

    def refused(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(TiffTiles, "read_tile", counted)
    monkeypatch.setattr(TiffTiles, "read_region", refused)
    write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE)
    assert read(tmp_path / "s.geojson.gz")["features"][0]["geometry"]["coordinates"] == [
        [[40, 30], [70, 30], [70, 60], [40, 60], [40, 30]]
    ]
    assert {level for level, _, _ in read_tiles} == {0}
    whole = {0: 1, 1: 1}  # one tile of each label
    assert len(read_tiles) <= 12 - 2 + sum(whole.values())


def test_a_band_holds_one_row_of_tiles(mask: Path) -> None:
    tiles = open_mask(mask)
    bands = list(mask_bands(tiles, 0, Region.whole(SIZE)))
    assert [band.end - band.begin for band in bands] == [16, 16, 16, 13]
    assert all(band.stack.shape[1:] == (TILE_PX, TILE_PX) and len(band.stack) <= 6 for band in bands)


def test_a_label_without_a_class_is_an_error_and_an_older_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "s.geojson.gz"
    path.write_bytes(b"older")
    mask = written_mask(tmp_path / "s.ome.tif", np.full((20, 20), 7, np.uint8))
    with pytest.raises(MaskError, match=r"s\.ome\.tif: label 7, but the class table has 3 classes"):
        write_geojson(path, mask, classes=TABLE)
    assert path.read_bytes() == b"older"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["s.geojson.gz", "s.ome.tif"]


def test_the_first_label_without_a_class_is_told(tmp_path: Path) -> None:
    mask = written_mask(tmp_path / "s.ome.tif", np.full((20, 20), 3, np.uint8))
    with pytest.raises(MaskError, match="label 3, but the class table has 3 classes"):
        write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE)


@pytest.mark.parametrize(("count", "features"), [(10_000, 10_000), (10_001, 2)])
def test_up_to_ten_thousand_components_stay_apart(tmp_path: Path, count: int, features: int) -> None:
    spots = np.where(np.arange(201 * 50) < count, np.uint8(1), np.uint8(0)).reshape(201, 50)
    spots[0, 0] = 2
    labels = np.zeros((402, 100), np.uint8)
    labels[::2, ::2] = spots
    mask = written_mask(tmp_path / "s.ome.tif", labels)
    assert write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE).features == features


def test_a_label_without_a_class_is_told_among_too_many_components_too(tmp_path: Path) -> None:
    labels = np.zeros((20, 20), np.uint8)
    labels[2, 2], labels[4, 4], labels[6, 6], labels[18, 18] = 1, 1, 2, 9
    mask = written_mask(tmp_path / "s.ome.tif", labels)
    with pytest.raises(MaskError, match="label 9"):
        write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE, max_features=1)


def test_what_is_no_mask_of_wsi_deform_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "odd.ome.tif", tmp_path / "s.geojson.gz"
    with pytest.raises(MaskError, match=r"odd\.ome\.tif"):
        write_geojson(out, path, classes=TABLE)
    tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), tile=(16, 16), photometric="rgb")
    with pytest.raises(MaskError, match=r"odd\.ome\.tif: uint8, 3 channels.*Needed an 8-bit, tiled mask"):
        write_geojson(out, path, classes=TABLE)
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16), tile=(16, 16))
    with pytest.raises(MaskError, match="uint16, 1 channels. Needed an 8-bit, tiled mask"):
        write_geojson(out, path, classes=TABLE)
    tifffile.imwrite(path, np.zeros((64, 64), np.uint8), rowsperstrip=64, compression="zlib")
    monkeypatch.setattr("wsi_deform.slide.tiff.level.KEPT_STRIP_BYTES", 1000)
    with pytest.raises(MaskError, match="uint8, 1 channels, in strips. Needed an 8-bit, tiled mask"):
        write_geojson(out, path, classes=TABLE)
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(np.zeros((64, 64), np.uint8), tile=(16, 16), subifds=1)
        tiff.write(np.zeros((21, 21), np.uint8), tile=(16, 16), subfiletype=1)
    with pytest.raises(MaskError, match=r"level 1 has 21 x 21 px. Needed 32 x 32"):
        write_geojson(out, path, classes=TABLE)
    assert not out.exists()


def test_settings_out_of_range_and_folders_that_cannot_be_written_are_told(
    mask: Path, tmp_path: Path
) -> None:
    with pytest.raises(ShapeError, match="downsample 0. Needed 1 or more"):
        write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE, downsample=0)
    with pytest.raises(ShapeError, match="holds nothing of its 83 x 61 px"):
        write_geojson(tmp_path / "s.geojson.gz", mask, classes=TABLE, shown=Region(90, 0, 5, 5))
    (tmp_path / "file").write_text("")
    with pytest.raises(MaskError, match=r"geojson .*cannot be written.*Check folder, rights and free space"):
        write_geojson(tmp_path / "file" / "s.geojson.gz", mask, classes=TABLE)
