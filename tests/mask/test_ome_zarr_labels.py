"""Masks as labels of OME-Zarr: the pixels of the TIFF, metadata word for word, few files, flat memory."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from slide_files import picture, write_tiff

from wsi_deform.annotation.classes import class_table_from_data
from wsi_deform.annotation.mask_file import MaskFile
from wsi_deform.errors import AnnotationError, MaskError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.mask.ome_zarr import write_ome_zarr
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.slide.slide import Slide

SIZE = Size(700, 501)
TILE_PX = 64
CLASSES = class_table_from_data(
    [
        {"name": "background", "color": [220, 220, 220]},
        {"name": "gland", "color": [230, 159, 0]},
        {"name": "stroma", "color": [0, 114, 178]},
    ],
    "table",
)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    path = write_tiff(
        tmp_path_factory.mktemp("slide") / "s 1.tif", [picture(*(SIZE.width, SIZE.height))], tile=(64, 64)
    )
    return Slide(path, mpp=Point(0.25, 0.26))


@pytest.fixture(scope="module")
def mask(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask of three classes whose right side is unlabelled."""
    points = np.random.default_rng(0).random((40, 2)) * [SIZE.width, SIZE.height]
    field = FieldSamples(
        kept=Region(0, 0, 600, SIZE.height), points_px=points, labels=np.arange(40, dtype=np.uint8) % 3
    )
    path = tmp_path_factory.mktemp("mask") / "s.ome.tif"
    sampler = ReverseSampler([field], size=SIZE, tile_px=TILE_PX, outside_label=255)
    write_mask(path, sampler.tiles(), size=SIZE, mpp=0.25, tile_px=TILE_PX)
    return path


@pytest.fixture(scope="module")
def written(slide: Slide, mask: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "s.ome.zarr"
    write_ome_zarr(path, mask, slide, CLASSES, shard_px=256)
    return path


def attributes(path: Path) -> dict:
    return json.loads((path / "zarr.json").read_text())["attributes"]


def test_every_level_has_the_labels_of_the_tiff(written: Path, mask: Path):
    with tifffile.TiffFile(mask) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    assert set(np.unique(levels[0])) == {0, 1, 2, 255}
    group = zarr.open_group(written / "labels" / "classes", mode="r")
    assert sorted(group.array_keys()) == [str(number) for number in range(len(levels))] == list("01234")
    for number, expected in enumerate(levels):
        found = group[str(number)]
        assert (found.dtype, found.metadata.dimension_names) == (np.uint8, ("y", "x"))
        np.testing.assert_array_equal(found[...], expected)


def test_metadata_are_those_of_ngff_0_5(written: Path):
    assert json.loads((written / "zarr.json").read_text())["zarr_format"] == 3
    assert attributes(written / "labels") == {"ome": {"version": "0.5", "labels": ["classes"]}}
    said = attributes(written / "labels" / "classes")["ome"]
    (image,) = said["multiscales"]
    assert said["version"] == "0.5"
    assert image["axes"] == [
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
    ]
    assert image["datasets"][0] == {
        "path": "0",
        "coordinateTransformations": [{"type": "scale", "scale": [0.26, 0.25]}],
    }
    # The edges of all levels lie on each other: pixels four times as long are moved by one and a half.
    assert image["datasets"][2] == {
        "path": "2",
        "coordinateTransformations": [
            {"type": "scale", "scale": [1.04, 1.0]},
            {"type": "translation", "translation": [pytest.approx(0.39), 0.375]},
        ],
    }
    assert (image["name"], image["type"]) == ("classes", "nearest")
    assert said["image-label"] == {
        "colors": [
            {"label-value": 0, "rgba": [220, 220, 220, 0]},
            {"label-value": 1, "rgba": [230, 159, 0, 255]},
            {"label-value": 2, "rgba": [0, 114, 178, 255]},
            {"label-value": 255, "rgba": [255, 255, 255, 0]},
        ],
        "properties": [
            {"label-value": 0, "class": "background"},
            {"label-value": 1, "class": "gland"},
            {"label-value": 2, "class": "stroma"},
            {"label-value": 255, "class": "unlabelled"},
        ],
        "source": {"image": "../../"},
    }


def test_the_image_beside_them_is_the_slide_with_as_many_levels_and_the_same_edges(
    written: Path, slide: Slide
):
    (image,) = attributes(written)["ome"]["multiscales"]
    assert [axis["name"] for axis in image["axes"]] == ["c", "y", "x"]
    assert image["name"] == "s 1"
    group = zarr.open_group(written, mode="r")
    assert len(image["datasets"]) == len(list(group["labels/classes"].array_keys())) == 5
    for dataset in image["datasets"]:
        array = group[dataset["path"]]
        scale, *moved = dataset["coordinateTransformations"]
        extent = [length * side for length, side in zip(array.shape[1:], scale["scale"][1:], strict=True)]
        assert extent == pytest.approx([SIZE.height * 0.26, SIZE.width * 0.25])
        corner = moved[0]["translation"][1:] if moved else [0, 0]
        # The corner of the first pixel, half a side before its centre, is that of the slide's first pixel.
        assert [c - s / 2 for c, s in zip(corner, scale["scale"][1:], strict=True)] == pytest.approx(
            [-0.13, -0.125]
        )
    # Pixels of the slide are longer along y: the overview has square ones.
    assert group["0"].shape[1] / group["0"].shape[2] == pytest.approx(501 * 0.26 / (700 * 0.25), rel=0.01)
    assert np.abs(group["4"][...].mean((1, 2)) - picture(SIZE.width, SIZE.height).mean((0, 1))).max() < 2


def test_it_opens_as_a_slide_of_ours(written: Path):
    opened = Slide(written)
    assert opened.mpp_xy is not None
    assert opened.size.width * opened.mpp_xy.x == pytest.approx(SIZE.width * 0.25)


def test_without_mpp_coordinates_are_pixels(mask: Path, tmp_path: Path):
    path = write_tiff(tmp_path / "s.tif", [picture(SIZE.width, SIZE.height)], tile=(64, 64))
    write_ome_zarr(tmp_path / "s.ome.zarr", mask, Slide(path), CLASSES)
    (image,) = attributes(tmp_path / "s.ome.zarr" / "labels" / "classes")["ome"]["multiscales"]
    assert image["axes"] == [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    assert image["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": [2.0, 2.0]},
        {"type": "translation", "translation": [0.5, 0.5]},
    ]


def test_files_are_shards_and_what_is_0_has_none(written: Path, slide: Slide, tmp_path: Path):
    # 3 x 2 shards of 256 px hold 700 x 501 px, where chunks would be 11 x 8 files.
    level = written / "labels" / "classes" / "0" / "c"
    assert len([path for path in level.rglob("*") if path.is_file()]) == 6
    field = FieldSamples(
        kept=Region.whole(SIZE),
        points_px=np.array([[3.0, 3.0], [300.0, 3.0]]),
        labels=np.array([1, 0], np.uint8),
    )
    path = tmp_path / "half.ome.tif"
    write_mask(
        path,
        ReverseSampler([field], size=SIZE, tile_px=TILE_PX).tiles(),
        size=SIZE,
        mpp=0.25,
        tile_px=TILE_PX,
    )
    write_ome_zarr(tmp_path / "half.ome.zarr", path, slide, CLASSES, shard_px=256)
    level = tmp_path / "half.ome.zarr" / "labels" / "classes" / "0" / "c"
    assert sorted(str(each.relative_to(level)) for each in level.rglob("*") if each.is_file()) == [
        "0/0",
        "1/0",
    ]
    found = zarr.open_group(tmp_path / "half.ome.zarr" / "labels" / "classes", mode="r")["0"][...]
    assert (found[:, :151] == 1).all()
    assert (found[:, 152:] == 0).all()


def test_memory_follows_the_shard_and_not_the_mask(slide: Slide, tmp_path: Path):
    peaks = []
    for side in (1024, 3072):
        size = Size(side, side)
        points = np.random.default_rng(1).random((200, 2)) * side
        field = FieldSamples(
            kept=Region.whole(size), points_px=points, labels=np.arange(200, dtype=np.uint8) % 3
        )
        path = tmp_path / f"{side}.ome.tif"
        write_mask(
            path, ReverseSampler([field], size=size, tile_px=128).tiles(), size=size, mpp=0.25, tile_px=128
        )
        write_ome_zarr(tmp_path / "warm.ome.zarr", path, slide, CLASSES, shard_px=512)
        tracemalloc.start()
        write_ome_zarr(tmp_path / f"{side}.ome.zarr", path, slide, CLASSES, shard_px=512)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + (3 << 20)  # the larger mask has 8 MiB more


def test_an_older_one_stays_where_a_new_one_cannot_be_made(
    written: Path, slide: Slide, mask: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    place = tmp_path / "s.ome.zarr"
    write_ome_zarr(place, mask, slide, CLASSES)
    before = sorted(place.rglob("*"))

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("wsi_deform.mask.ome_zarr._array", full)
    with pytest.raises(MaskError, match=r"s\.ome\.zarr: cannot be written \(no space left"):
        write_ome_zarr(place, mask, slide, CLASSES)
    assert sorted(place.rglob("*")) == before
    assert [path.name for path in tmp_path.iterdir()] == ["s.ome.zarr"]


def test_as_labels_the_tiff_is_asked_for(written: Path):
    with pytest.raises(AnnotationError, match=r"labels in OME-Zarr are not read as a mask.*NAME\.ome\.tif"):
        MaskFile(written)
