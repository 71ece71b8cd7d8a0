"""Labels as colours, read by the class table that says what they mean."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image

from wsi_deform.annotation.check import check_manifest
from wsi_deform.annotation.classes import class_table_from_data, read_class_table, write_class_table
from wsi_deform.annotation.mask_file import raw_value_counts
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.annotation.value_counts import counted_values
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.read import read_manifest

TABLE = {
    "classes": [
        {"name": "urban", "label_rgb": [0, 255, 255]},
        {"name": "water", "label_rgb": ["#0000ff", [0, 0, 200]]},
        {"name": "forest", "values": [7], "label_rgb": "#00ff00"},
    ],
    "unlabelled_rgb": [[0, 0, 0]],
}
CLASSES = class_table_from_data(TABLE, "t")
SIZE = Size(40, 30)
COLOURS = {0: (0, 255, 255), 1: (0, 0, 255), 2: (0, 255, 0), 255: (0, 0, 0)}


def labels() -> np.ndarray:
    found = np.full((30, 40), 255, np.uint8)
    found[:10], found[10:20], found[20:, :20] = 0, 1, 2
    return found


def colours() -> np.ndarray:
    out = np.zeros((30, 40, 3), np.uint8)
    for label, colour in COLOURS.items():
        out[labels() == label] = colour
    out[12, 3] = (0, 0, 200)
    return out


@pytest.fixture(params=["rgb.png", "rgba.png", "tiles.tif"])
def path(request, tmp_path):
    path = tmp_path / request.param
    if request.param == "tiles.tif":
        tifffile.imwrite(path, colours(), tile=(16, 16), photometric="rgb", compression="zlib")
    else:
        image = Image.fromarray(colours())
        (image if request.param == "rgb.png" else image.convert("RGBA")).save(path)
    return path


def test_colours_become_classes(path):
    mask = open_label_mask(path, slide_size=SIZE, classes=CLASSES)
    assert (mask.read_region(Region(0, 0, 40, 30)) == labels()).all()
    assert mask.at_points(np.array([[0.5, 0.5], [3.5, 12.5], [5, 25], [30, 25]])).tolist() == [0, 1, 2, 255]
    assert mask.class_counts().tolist() == [400, 400, 200, 200]


def test_colours_of_tiles_that_are_read_alone_become_classes(path, monkeypatch):
    monkeypatch.setattr("wsi_deform.annotation.raster.WHOLE_MASK_BYTES", 0)
    mask = open_label_mask(path, slide_size=SIZE, classes=CLASSES)
    assert (mask.read_region(Region(5, 5, 30, 20)) == labels()[5:25, 5:35]).all()


def test_an_unknown_colour_is_refused_with_its_place_and_count(tmp_path):
    pixels = colours()
    pixels[21, 33:36] = (10, 11, 12)
    for name in ("a.png", "a.tif"):
        if name == "a.tif":
            tifffile.imwrite(tmp_path / name, pixels, tile=(16, 16), photometric="rgb")
        else:
            Image.fromarray(pixels).save(tmp_path / name)
        mask = open_label_mask(tmp_path / name, slide_size=SIZE, classes=CLASSES)
        said = rf"{name}: colour #0a0b0c at \(33, 21\), in 3 of its pixels.*#00ffff.*unlabelled_rgb"
        with pytest.raises(AnnotationError, match=said):
            mask.class_counts()


def test_counts_are_of_colours_and_no_value_is_taken_for_one(path):
    found = counted_values(path, colours=True)
    assert found == {(1 << 24) + 0x00FFFF: 400, (1 << 24) + 0x0000FF: 399, (1 << 24) + 0x0000C8: 1,
                     (1 << 24) + 0x00FF00: 200, 1 << 24: 200}  # fmt: skip
    with pytest.raises(AnnotationError, match="label_rgb"):
        raw_value_counts(path)


def test_one_channel_is_read_by_values_also_with_such_a_table(tmp_path):
    Image.fromarray(np.full((30, 40), 7, np.uint8)).save(tmp_path / "m.png")
    mask = open_label_mask(tmp_path / "m.png", slide_size=SIZE, classes=CLASSES)
    assert mask.class_counts().tolist() == [0, 0, 1200, 0]


def test_a_channel_that_is_named_is_no_colour(tmp_path):
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[..., 0] = 7
    Image.fromarray(pixels).save(tmp_path / "m.png")
    mask = open_label_mask(tmp_path / "m.png", slide_size=SIZE, classes=CLASSES, channel=0)
    assert mask.class_counts().tolist() == [0, 0, 1200, 0]


def test_the_table_is_written_and_read_as_it_was(tmp_path):
    for name in ("classes.yaml", "classes.json"):
        write_class_table(CLASSES, tmp_path / name)
        assert read_class_table(tmp_path / name) == CLASSES
    assert CLASSES.label_rgb == (((0, 255, 255),), ((0, 0, 255), (0, 0, 200)), ((0, 255, 0),))
    plain = class_table_from_data(["a", "b"], "t")
    assert plain.to_data().keys() == {"classes", "background", "unlabelled"}
    assert not plain.has_label_colours


@pytest.mark.parametrize(
    ("classes", "more", "said"),
    [
        (
            [{"name": "a", "label_rgb": [1, 2, 3]}, {"name": "b", "label_rgb": "#010203"}],
            {},
            "label_rgb '#010203' stands",
        ),
        (
            [{"name": "a", "label_rgb": [1, 2, 3]}],
            {"unlabelled_rgb": [[1, 2, 3]]},
            "label_rgb #010203 is both",
        ),
        ([{"name": "a", "label_rgb": [1, 2, 300]}], {}, "class 0 .a.: label_rgb .*Needed a colour"),
        (["a"], {"unlabelled_rgb": "black"}, "unlabelled_rgb: 'black'. Needed a colour"),
    ],
)
def test_contradictions_and_wrong_colours_are_refused(classes, more, said):
    with pytest.raises(AnnotationError, match=said):
        class_table_from_data({"classes": classes, **more}, "t")


def test_a_manifest_of_colour_masks_is_checked(tmp_path):
    Image.fromarray(colours()).save(tmp_path / "m.png")
    Image.fromarray(colours()).save(tmp_path / "a.jpg")
    (tmp_path / "manifest.csv").write_text("slide,mask\na.jpg,m.png\n")
    manifest = read_manifest(tmp_path / "manifest.csv")
    assert check_manifest(manifest, CLASSES) == []
    pixels = colours()
    pixels[0, :4] = (1, 1, 1)
    pixels[1, :2] = (10, 250, 20)
    Image.fromarray(pixels).save(tmp_path / "m.png")
    (problem,) = check_manifest(manifest, CLASSES)
    assert problem.found == (
        "2 colours of the masks that no class has, in 1 row (slide a (line 2)): #010101 (4 px, nearest unlabelled "
        "#000000), #0afa14 (2 px, nearest 'forest' #00ff00)"
    )
    assert problem.remedy.startswith(
        "Add each to label_rgb of its class or to unlabelled_rgb in the class table"
    )
