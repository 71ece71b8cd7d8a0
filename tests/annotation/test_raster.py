"""Label masks: one truth, whatever the file, the tiling, the dtype or the way of asking."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image

from wsi_deform.annotation import raster
from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.annotation.mask_file import MaskFile, raw_value_counts
from wsi_deform.annotation.raster import LABEL_CACHE, open_label_mask
from wsi_deform.errors import AnnotationError, ShapeError
from wsi_deform.geometry import Point, Region, Size, tile_grid, tile_region

SIZE = Size(150, 70)
CLASSES = ClassTable.from_names(["background", "a", "b"])


def truth():
    values = np.random.default_rng(0).integers(0, 4, (14, 15)).astype(np.uint8).repeat(5, 0).repeat(10, 1)
    values[values == 3] = 255
    return values


def write_pyramid(path, values):
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(values, tile=(32, 48), compression="deflate")
        tiff.write(values[::2, ::2], tile=(32, 48), subfiletype=1)


WRITERS = {
    "tiled.tif": lambda path, values: tifffile.imwrite(path, values, tile=(32, 16), compression="deflate"),
    "stripped.tif": lambda path, values: tifffile.imwrite(path, values, rowsperstrip=8, compression="lzw"),
    "raw.tiff": lambda path, values: tifffile.imwrite(path, values),
    "pyramid.ome.tif": write_pyramid,
    "wide.tif": lambda path, values: tifffile.imwrite(path, values.astype(np.uint16), tile=(64, 64)),
    "plain.png": lambda path, values: Image.fromarray(values).save(path),
    "wide.png": lambda path, values: Image.fromarray(values.astype(np.uint16)).save(path),
}


@pytest.fixture(params=["kept whole", "read by tiles"])
def way(request, monkeypatch):
    LABEL_CACHE.forget()
    if request.param == "read by tiles":
        monkeypatch.setattr(raster, "WHOLE_MASK_BYTES", 0)


@pytest.fixture(params=sorted(WRITERS))
def mask(request, way, tmp_path):
    WRITERS[request.param](tmp_path / request.param, truth())
    return open_label_mask(tmp_path / request.param, slide_size=SIZE, classes=CLASSES)


def test_regions_hold_the_labels_and_255_outside(mask):
    assert np.array_equal(mask.read_region(Region.whole(SIZE)), truth())
    found = mask.read_region(Region(-5, 60, 40, 20))
    assert found.shape == (20, 40)
    assert found.dtype == np.uint8
    assert np.array_equal(found[:10, 5:], truth()[60:, :35])
    assert (found[10:] == 255).all()
    assert (found[:, :5] == 255).all()
    assert (mask.read_region(Region(500, 500, 3, 2)) == 255).all()


def test_convention_points_take_the_pixel_they_lie_in(mask):
    x, y = np.meshgrid(np.arange(SIZE.width), np.arange(SIZE.height))
    centres = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float64)
    shuffle = np.random.default_rng(1).permutation(len(centres))
    for shift in (0.0, 0.5, 0.999):
        assert np.array_equal(mask.at_points(centres[shuffle] + shift), truth().ravel()[shuffle])
    outside = np.array([[-9.0, -0.1], [150.0, 70.0], [1e9, 3.0]])
    assert mask.at_points(outside).tolist() == [truth()[0, 0], truth()[-1, -1], truth()[3, -1]]
    assert mask.at_points(np.empty((0, 2))).shape == (0,)


def test_cell_fractions_are_exact_when_subsamples_meet_every_pixel(mask):
    fractions = mask.cell_fractions(Region(10, 5, 120, 60), Size(24, 12), subsamples=5)
    part = truth()[5:65, 10:130].reshape(12, 5, 24, 5)
    expected = np.stack([(part == label).mean((1, 3)) for label in range(3)])
    assert fractions.dtype == np.float32
    np.testing.assert_allclose(fractions, expected, atol=1e-6)
    np.testing.assert_allclose(fractions.sum(0), (part != 255).mean((1, 3)), atol=1e-6)


def test_class_counts_count_every_pixel(mask):
    expected = np.bincount(truth().ravel(), minlength=256)
    assert mask.class_counts().tolist() == [*expected[:3], expected[255]]


def test_masks_pickle_as_their_path_and_serve_threads(mask):
    copy = pickle.loads(pickle.dumps(mask))
    assert len(pickle.dumps(mask)) < 1000
    LABEL_CACHE.forget()
    points = np.random.default_rng(2).uniform(0, (150, 70), (500, 2))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: copy.at_points(points), range(16)))
    assert all(np.array_equal(one, mask.at_points(points)) for one in found)


def test_only_tiles_with_points_are_read(tmp_path, monkeypatch):
    LABEL_CACHE.forget()
    monkeypatch.setattr(raster, "WHOLE_MASK_BYTES", 0)
    path = tmp_path / "m.tif"
    WRITERS["tiled.tif"](path, truth())
    mask = open_label_mask(path, slide_size=SIZE, classes=CLASSES)
    read, read_tile = [], mask._file.read_tile
    monkeypatch.setattr(mask._file, "read_tile", lambda *place: read.append(place) or read_tile(*place))
    points = np.array([[0, 0], [15.9, 31.9], [16, 0], [1, 1], [149, 69]], np.float64)
    mask.at_points(points)
    mask.at_points(points)
    assert sorted(read) == [(0, 0), (1, 0), (9, 2)]


def test_a_small_mask_is_decoded_once_for_all_who_open_it(tmp_path, monkeypatch):
    LABEL_CACHE.forget()
    WRITERS["tiled.tif"](tmp_path / "m.tif", truth())
    first, second = (open_label_mask(tmp_path / "m.tif", slide_size=SIZE, classes=CLASSES) for _ in range(2))
    first.at_points(np.zeros((1, 2)))
    monkeypatch.setattr(second._file, "read_tile", None)
    assert np.array_equal(second.read_region(Region.whole(SIZE)), truth())
    assert LABEL_CACHE.held_bytes == SIZE.area


def test_a_mask_that_is_written_again_is_read_again(tmp_path):
    path = tmp_path / "m.png"
    for label in (1, 2):
        Image.fromarray(np.full(SIZE.shape, label, np.uint8)).save(path)
        stamp = 1_700_000_000 + label
        os.utime(path, (stamp, stamp))
        assert open_label_mask(path, slide_size=SIZE, classes=CLASSES).at_points(np.zeros((1, 2))) == label


@pytest.mark.parametrize("mask_size", [Size(75, 35), Size(74, 35)])
def test_smaller_masks_are_read_at_their_downsample(tmp_path, way, mask_size):
    slide_size = SIZE if mask_size.width == 75 else Size(149, 70)
    values = np.random.default_rng(3).integers(0, 3, mask_size.shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "half.tif", values, tile=(16, 16))
    mask = open_label_mask(tmp_path / "half.tif", slide_size=slide_size, classes=CLASSES)
    full = np.pad(values.repeat(2, 0).repeat(2, 1), ((0, 0), (0, 1)), mode="edge")[:, : slide_size.width]
    assert (mask.frame.is_whole, mask.frame.downsample) == (True, Point(2, 2))
    assert np.array_equal(mask.read_region(Region.whole(slide_size)), full)
    assert np.array_equal(mask.read_region(Region(33, 7, 50, 21)), full[7:28, 33:83])
    points = np.random.default_rng(4).uniform(0, (slide_size.width, slide_size.height), (300, 2))
    index = points.astype(int)
    assert np.array_equal(mask.at_points(points), full[index[:, 1], index[:, 0]])


@pytest.mark.parametrize("size", [Size(151, 70), Size(100, 45), Size(75, 70), Size(300, 140)])
def test_mask_of_another_size_names_both_sizes_and_the_remedy(tmp_path, size):
    tifffile.imwrite(tmp_path / "other.tif", np.zeros(size.shape, np.uint8))
    with pytest.raises(AnnotationError) as caught:
        open_label_mask(tmp_path / "other.tif", slide_size=SIZE, classes=CLASSES)
    for part in (
        "other.tif",
        f"{size} px",
        "its slide is 150 x 70 px",
        "Check that the mask belongs to this slide",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("slide_size", "mask_size"),
    [(SIZE, Size(97, 45)), (SIZE, Size(97, 46)), (Size(1000, 700), Size(127, 89)), (SIZE, Size(149, 70))],
)
def test_masks_of_any_ratio_lie_edge_to_edge_as_pillow_resizes_them(tmp_path, way, slide_size, mask_size):
    values = np.random.default_rng(3).integers(0, 3, mask_size.shape).astype(np.uint8)
    tifffile.imwrite(tmp_path / "other.tif", values, tile=(16, 16))
    mask = open_label_mask(tmp_path / "other.tif", slide_size=slide_size, classes=CLASSES)
    picture = Image.fromarray(values).resize((slide_size.width, slide_size.height), Image.Resampling.NEAREST)
    full = np.asarray(picture)
    assert np.array_equal(mask.read_region(Region.whole(slide_size)), full)
    assert np.array_equal(mask.read_region(Region(33, 7, 50, 21)), full[7:28, 33:83])
    points = np.random.default_rng(4).uniform(0, (slide_size.width, slide_size.height), (300, 2))
    index = points.astype(int)
    assert np.array_equal(mask.at_points(points), full[index[:, 1], index[:, 0]])


def test_masks_of_another_shape_and_larger_ones_say_which_they_are(tmp_path):
    for size, said in (
        (Size(100, 45), "its shape is another one. Needed a mask of the whole slide, of its size or smaller by one "
         "factor for both axes, which to 100 px of width is 47 px of height"),
        (Size(300, 140), "it is larger. Needed a mask of the slide's size"),
    ):  # fmt: skip
        tifffile.imwrite(tmp_path / "other.tif", np.zeros(size.shape, np.uint8))
        with pytest.raises(AnnotationError) as caught:
            open_label_mask(tmp_path / "other.tif", slide_size=SIZE, classes=CLASSES)
        assert f"other.tif: {size} px, but its slide is 150 x 70 px: {said}" in str(caught.value)


def test_unknown_value_names_value_file_and_known_values(tmp_path, way):
    values = truth()
    values[40, 77] = 17
    tifffile.imwrite(tmp_path / "odd.tif", values, tile=(32, 32))
    mask = open_label_mask(tmp_path / "odd.tif", slide_size=SIZE, classes=CLASSES)
    with pytest.raises(AnnotationError) as caught:
        mask.at_points(np.array([[77.0, 40.0]]))
    for part in ("odd.tif: value 17", "Known values: 0, 1, 2, 255", "Add the value to a class"):
        assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_values_are_mapped_by_the_class_table(tmp_path, kind):
    values = np.array([[0, 7, 300, 9]], np.uint16).repeat(20, 0)
    path = tmp_path / f"m.{kind}"
    tifffile.imwrite(path, values) if kind == "tif" else Image.fromarray(values).save(path)
    classes = class_table_from_data({"classes": {"x": [7, 300], "y": 9}, "unlabelled": 0}, "test")
    mask = open_label_mask(path, slide_size=Size(4, 20), classes=classes)
    assert mask.read_region(Region(0, 3, 4, 1)).tolist() == [[255, 0, 0, 1]]
    assert raw_value_counts(path) == {0: 20, 7: 20, 9: 20, 300: 20}


@pytest.mark.parametrize("kind", ["tif", "png"])
def test_channel_of_panda_like_masks_is_chosen(tmp_path, way, kind):
    values = np.stack([truth(), np.full_like(truth(), 9), truth() * 0], axis=-1)
    path = tmp_path / f"panda.{kind}"
    if kind == "tif":
        tifffile.imwrite(path, values, tile=(32, 32), photometric="rgb", compression="lzw")
    else:
        Image.fromarray(values).save(path)
    red = open_label_mask(path, slide_size=SIZE, classes=CLASSES, channel=0)
    assert np.array_equal(red.read_region(Region.whole(SIZE)), truth())
    with pytest.raises(AnnotationError, match=rf"panda.{kind}: 3 channels.*Set mask_channel in the manifest"):
        open_label_mask(path, slide_size=SIZE, classes=CLASSES)
    with pytest.raises(AnnotationError, match=r"mask_channel 3, but it has 3 channels. Needed 0 to 2"):
        open_label_mask(path, slide_size=SIZE, classes=CLASSES, channel=3)


@pytest.mark.parametrize("how", ["8 bits", "1 bit", "16 bits"])
def test_labels_in_a_tiff_whose_0_is_white_are_the_values_that_libvips_and_pillow_give(tmp_path, how):
    labels = np.random.default_rng(0).integers(0, 2 if how == "1 bit" else 4, (SIZE.height, SIZE.width))
    path = tmp_path / "m.tif"
    if how == "16 bits":
        stored = (65535 - labels).astype(np.uint16)
        tifffile.imwrite(path, stored, photometric="miniswhite", tile=(32, 32), metadata=None)
    else:
        image = pyvips.Image.new_from_array((labels * (255 if how == "1 bit" else 1)).astype(np.uint8))
        image.tiffsave(str(path), miniswhite=True, bitdepth=1 if how == "1 bit" else 8)
        with Image.open(path) as other:
            np.testing.assert_array_equal(np.asarray(other).astype(int), labels)
    file = MaskFile(path)
    found = np.zeros(labels.shape, int)
    grid = tile_grid(file.size, file.tile)
    for row in range(grid.height):
        for column in range(grid.width):
            place = tile_region(column, row, file.tile, file.size)
            found[place.y : place.bottom, place.x : place.right] = file.read_tile(column, row)
    np.testing.assert_array_equal(found, labels)


def test_palette_pictures_give_their_indices(tmp_path):
    picture = Image.fromarray(np.where(truth() == 255, 0, truth()).astype(np.uint8), mode=None)
    picture.putpalette([255, 255, 255, 200, 0, 0, 0, 0, 200])
    picture.save(tmp_path / "palette.png")
    mask = open_label_mask(tmp_path / "palette.png", slide_size=SIZE, classes=CLASSES)
    assert mask.class_counts()[:3].sum() == SIZE.area


def test_transparency_of_grey_masks_is_ignored(tmp_path):
    picture = Image.fromarray(truth())
    picture.putalpha(7)
    picture.save(tmp_path / "grey.png")
    mask = open_label_mask(tmp_path / "grey.png", slide_size=SIZE, classes=CLASSES)
    assert np.array_equal(mask.read_region(Region.whole(SIZE)), truth())


def test_bilevel_masks_are_0_and_1(tmp_path):
    Image.fromarray(truth() == 1).save(tmp_path / "bits.png")
    mask = open_label_mask(tmp_path / "bits.png", slide_size=SIZE, classes=CLASSES)
    assert np.array_equal(mask.read_region(Region.whole(SIZE)), truth() == 1)


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("m.jpg", b"", "lossy"),
        ("m.geojson", b"{}", "outlines"),
        ("m.tif", b"II*\0nonsense", "cannot be opened as TIFF"),
        ("m.png", b"nonsense", "not a readable picture"),
    ],
)
def test_files_that_are_no_masks_are_refused(tmp_path, name, content, part):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AnnotationError, match=part) as caught:
        open_label_mask(tmp_path / name, slide_size=SIZE, classes=CLASSES)
    assert name in str(caught.value)
    with pytest.raises(AnnotationError):
        open_label_mask(tmp_path / "none.png", slide_size=SIZE, classes=CLASSES)


def test_a_mask_that_is_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "m.png")
    with pytest.raises(AnnotationError, match=r"m.png: is a named pipe. Needed a TIFF or PNG"):
        open_label_mask(tmp_path / "m.png", slide_size=SIZE, classes=CLASSES)


def test_truncated_files_are_refused(tmp_path):
    noise = np.random.default_rng(0).integers(0, 3, SIZE.shape).astype(np.uint8)
    for name in ("cut.png", "cut.tif"):
        WRITERS["plain.png" if name == "cut.png" else "tiled.tif"](tmp_path / name, noise)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(AnnotationError, match=name):
            open_label_mask(tmp_path / name, slide_size=SIZE, classes=CLASSES).class_counts()


def test_float_masks_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "f.tif", truth().astype(np.float32))
    with pytest.raises(AnnotationError, match=r"pixel type float32. Needed whole numbers"):
        open_label_mask(tmp_path / "f.tif", slide_size=SIZE, classes=CLASSES)


@pytest.mark.parametrize("points", [np.zeros((3, 3)), np.zeros(2), np.array([[np.nan, 1.0]])])
def test_points_of_another_shape_are_refused(tmp_path, points):
    WRITERS["plain.png"](tmp_path / "m.png", truth())
    with pytest.raises(ShapeError, match=r"Needed \(N, 2\) finite"):
        open_label_mask(tmp_path / "m.png", slide_size=SIZE, classes=CLASSES).at_points(points)


def test_points_that_were_read_before_are_answered_from_memory(tmp_path, monkeypatch):
    size = Size(2048, 512)
    labels = np.random.default_rng(1).integers(0, 3, (8, 32)).astype(np.uint8).repeat(64, 0).repeat(64, 1)
    tifffile.imwrite(tmp_path / "m.tif", labels, tile=(256, 256), compression="deflate")
    mask = open_label_mask(tmp_path / "m.tif", slide_size=size, classes=CLASSES)
    points = np.random.default_rng(0).uniform(0, (2048, 512), (2304, 2))
    first = mask.at_points(points)
    np.testing.assert_array_equal(first, labels[points[:, 1].astype(int), points[:, 0].astype(int)])

    def refused(*_):
        raise AssertionError("the file was read again")

    monkeypatch.setattr(MaskFile, "read_tile", refused)
    np.testing.assert_array_equal(mask.at_points(points), first)


LOSSY_IN_TIFF = {
    "jpeg": lambda path: tifffile.imwrite(path, truth(), tile=(32, 32), compression="jpeg"),
    "webp": lambda path: tifffile.imwrite(
        path, np.dstack([truth()] * 3), tile=(32, 32), compression="webp", compressionargs={"lossless": False}
    ),
    "jpeg 2000": lambda path: tifffile.imwrite(
        path,
        truth(),
        tile=(32, 32),
        compression="jpeg2000",
        compressionargs={"level": 50, "reversible": False},
    ),
}


@pytest.mark.parametrize("how", LOSSY_IN_TIFF)
def test_a_tiff_in_a_lossy_compression_is_no_mask(tmp_path, how):
    """JPEG turns labels of 0 and 1 into one of both here and there, and no value is unknown."""
    LOSSY_IN_TIFF[how](tmp_path / "m.tif")
    with pytest.raises(AnnotationError, match=r"m\.tif: its compression is lossy.*Export the labels anew"):
        MaskFile(tmp_path / "m.tif", 0)


def test_lossless_jpeg_2000_is_a_mask_and_lossy_is_none(tmp_path):
    values = truth()
    tifffile.imwrite(
        tmp_path / "m.tif",
        values,
        tile=(32, 32),
        compression="jpeg2000",
        compressionargs={"reversible": True},
    )
    Image.fromarray(values).save(tmp_path / "m.jp2", irreversible=False)
    for name in ("m.tif", "m.jp2"):
        mask = open_label_mask(tmp_path / name, slide_size=SIZE, classes=CLASSES)
        assert (mask.read_region(Region.whole(SIZE)) == values).all()
    Image.fromarray(values).save(tmp_path / "l.jp2", irreversible=True)
    with pytest.raises(AnnotationError, match="its compression is lossy"):
        MaskFile(tmp_path / "l.jp2")


SEVERAL = {
    "pages.tif": (
        lambda path: tifffile.imwrite(path, np.stack([truth()] * 2), photometric="minisblack"),
        "2 pic",
    ),
    "focus.ome.tif": (
        lambda path: tifffile.imwrite(
            path, np.stack([truth()] * 3), photometric="minisblack", metadata={"axes": "ZYX"}
        ),
        "3 planes",
    ),
    "frames.png": (
        lambda path: Image.fromarray(truth()).save(
            path, save_all=True, append_images=[Image.fromarray(255 - truth())]
        ),
        "2 pic",
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_pictures_or_planes_are_no_mask(tmp_path, name):
    write, said = SEVERAL[name]
    write(tmp_path / name)
    with pytest.raises(AnnotationError, match=rf"{said}.* Needed one with a value per class\. Save the one"):
        MaskFile(tmp_path / name)
