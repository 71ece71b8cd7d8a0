from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from slide_files import picture, pyramid, write_ome_tiff, write_ome_zarr, write_svs, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region
from wsi_deform.slide.find import slide_id_of
from wsi_deform.slide.open import find_slides, is_slide, open_slide
from wsi_deform.slide.tiff.ndpi import ndpi_remarks


def test_every_container_opens_by_its_path(tmp_path: Path):
    levels = pyramid()
    write_svs(tmp_path / "a.svs", levels)
    write_tiff(tmp_path / "b.tif", levels, tile=(128, 128), compression="deflate")
    write_ome_tiff(tmp_path / "c.ome.tiff", levels)
    write_ome_zarr(tmp_path / "d.ome.zarr", levels)
    Image.fromarray(levels[0]).save(tmp_path / "e.png")
    opened = [open_slide(path) for path in find_slides(tmp_path)]
    assert [slide.slide_id for slide in opened] == ["a", "b", "c", "d", "e"]
    assert [slide.info.vendor for slide in opened] == [
        "aperio",
        "generic-tiff",
        "ome",
        "ome-zarr",
        "png-image",
    ]
    for slide in opened[1:]:
        np.testing.assert_array_equal(slide.read_region(0, Region.whole(slide.size)), levels[0])


def test_file_with_a_wrong_suffix_is_opened_by_its_content(tmp_path: Path):
    Image.fromarray(picture(40, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    assert open_slide(tmp_path / "a.tif").info.vendor == "png-image"


@pytest.mark.parametrize(
    ("name", "slide_id"),
    [("a.svs", "a"), ("a.ome.tif", "a"), ("A.OME.TIFF", "A"), ("p.1.tiff", "p.1"), ("p.1", "p.1"),
     ("z.ome.zarr", "z"), ("1.2.dcm", "1.2")],
)  # fmt: skip
def test_slide_is_named_by_its_file_without_suffixes(name: str, slide_id: str):
    assert slide_id_of(Path(name)) == slide_id


def test_unreadable_files_say_what_each_reader_said(tmp_path: Path):
    path = tmp_path / "broken.svs"
    path.write_bytes(b"no slide at all")
    with pytest.raises(
        SlideError, match=r"broken\.svs: no reader can open it.*tiff:.*openslide:.*image:.*convert it"
    ) as caught:
        open_slide(path)
    assert str(caught.value).lower().count("copy") == 1
    with pytest.raises(SlideError, match=r"gone\.svs.*Check the path"):
        open_slide(tmp_path / "gone.svs")
    with pytest.raises(SlideError, match="a folder"):
        open_slide(tmp_path)
    (tmp_path / "empty.tif").touch()
    with pytest.raises(SlideError, match=r"empty\.tif"):
        open_slide(tmp_path / "empty.tif")


@pytest.mark.parametrize("levels", [1, 3])
def test_truncated_slide_is_refused_and_not_read_by_another_reader(tmp_path: Path, levels: int):
    path = tmp_path / "whole.svs"
    if levels == 1:  # index before pixels: OpenSlide opens what is left of it
        write_tiff(path, pyramid(count=1), tile=(64, 64), compression="jpeg")
    else:
        write_svs(path, pyramid(count=levels))
    whole = path.read_bytes()
    for keep in (0.2, 0.5, 0.8):
        path = tmp_path / f"cut_{keep}.svs"
        path.write_bytes(whole[: int(len(whole) * keep)])
        with pytest.raises(SlideError, match=r"cut_.*\.svs"):
            open_slide(path)


def test_zarr_folders_without_an_image_are_refused(tmp_path: Path):
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(SlideError, match=r"a\.zarr: not a readable OME-Zarr"):
        open_slide(tmp_path / "a.zarr")
    path = write_ome_zarr(tmp_path / "b.zarr", pyramid(count=1))
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(SlideError, match="multiscales"):
        open_slide(path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"multiscales": 3}, "multiscales is int, needed a list"),
        ({"multiscales": [3]}, "multiscales: input should be a valid dictionary"),
        ({"multiscales": [{"axes": ["y", "x"]}]}, "multiscales.datasets: field required"),
        ({"datasets": []}, "multiscales.datasets: tuple should have at least 1 item"),
        ({"datasets": [{"path": None}]}, "multiscales.datasets.0.path: input should be a valid string"),
        ({"datasets": [{"path": "9"}]}, "9"),
        ({"axes": ["c", "y"]}, "axes 'cy', needed letters with x and y once each"),
        ({"axes": ["c", "yy", "x"]}, "axes 'cyyx', needed letters with x and y once each"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}, "a scale of 2 numbers, needed one"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [1, "a", 1]}]}, "unable to parse string as a"),
        ({"axes": ["y", "x"], "datasets": [{"path": "0"}]}, r"axes yx, shape \(3, 80, 100\)"),
    ],
)  # fmt: skip
def test_damaged_ngff_says_what_is_wrong_and_where(tmp_path: Path, damage: dict[str, object], said: str):
    path = write_ome_zarr(tmp_path / "a.zarr", pyramid(100, 80, 1))
    stored = json.loads((path / "zarr.json").read_text())
    ngff = stored["attributes"]["ome"]
    (ngff if "multiscales" in damage else ngff["multiscales"][0]).update(damage)
    (path / "zarr.json").write_text(json.dumps(stored))
    with pytest.raises(SlideError, match=rf"a\.zarr: .*{said}"):
        open_slide(path)


def test_a_level_that_is_a_group_is_refused(tmp_path: Path):
    path = write_ome_zarr(tmp_path / "a.zarr", pyramid(100, 80, 1))
    (path / "0" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(SlideError, match=r"a\.zarr: /0 is a group\. Needed an array for every level"):
        open_slide(path)


def test_damaged_zarr_chunk_is_an_error(tmp_path: Path):
    path = write_ome_zarr(tmp_path / "a.zarr", pyramid(count=1))
    chunk = next(one for one in (path / "0" / "c").rglob("*") if one.is_file())
    chunk.write_bytes(b"rubbish")
    slide = open_slide(path)
    with pytest.raises(SlideError, match="damaged"):
        slide.read_region(0, Region.whole(slide.size))


def test_zarr_units_are_converted_and_missing_units_give_no_mpp(tmp_path: Path):
    found = []
    for number, (unit, scale) in enumerate([("nanometer", 250.0), ("millimeter", 0.001), (None, 1.0)]):
        path = write_ome_zarr(tmp_path / f"{number}.zarr", pyramid(100, 80, 1), unit=unit, mpp=scale)
        found.append(open_slide(path).mpp_or_none)
    assert found == [pytest.approx(0.25), pytest.approx(1.0), None]


def test_images_that_decode_to_more_than_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("WSI_DEFORM_MAX_PICTURE_MIB", "0.01")
    Image.fromarray(picture(100, 80)).save(tmp_path / "a.png")
    with pytest.raises(
        SlideError, match=r"a\.png: declares 100 x 80 px.*WSI_DEFORM_MAX_PICTURE_MIB.*--tile --pyramid"
    ):
        open_slide(tmp_path / "a.png")


def dicom(path: Path, series: str, length: int = 10) -> None:
    uid = series.encode() + b"\0" * (len(series) % 2)
    element = struct.pack("<HH2sH", 0x20, 0x0E, b"UI", len(uid)) + uid
    path.write_bytes(b"\0" * 128 + b"DICM" + element + b"\1" * length)


def test_find_slides_counts_series_once_and_skips_companions(tmp_path: Path):
    for name in ("b.svs", "a.TIF", "notes.txt", ".hidden.svs", "m.mrxs", "sub/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "Data0001.png").touch()
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "d.svs").touch()
    (tmp_path / "series").mkdir()
    dicom(tmp_path / "series" / "1.dcm", "1.2.3")
    dicom(tmp_path / "series" / "2.dcm", "1.2.3", 100)
    (tmp_path / "mixed").mkdir()
    dicom(tmp_path / "mixed" / "1.dcm", "1.2.3")
    dicom(tmp_path / "mixed" / "2.dcm", "1.2.3", 100)
    dicom(tmp_path / "mixed" / "3.dcm", "1.2.4")
    write_ome_zarr(tmp_path / "z.zarr", pyramid(100, 80, 1))
    found = [str(path.relative_to(tmp_path)) for path in find_slides(tmp_path)]
    assert found == [
        "a.TIF",
        "b.svs",
        "m.mrxs",
        "mixed/2.dcm",
        "mixed/3.dcm",
        "series",
        "sub/c.png",
        "z.zarr",
    ]
    assert is_slide(tmp_path / "series")
    assert not is_slide(tmp_path / "mixed")
    assert not is_slide(tmp_path / "notes.txt")


MPP = {
    "CMU-1-Small-Region.svs": 0.499,
    "CMU-1-Small-Region.jpeg.tiff": None,  # its tags say 0.00499, which no microscope has
    "CMU-1-Small-Region.jp2.tiff": None,
    "CMU-1-Small-Region.webp.tiff": None,
    "boxes.tiff": None,  # 72 dpi
    "test3-DAPI-2-387.ndpi": 0.228175,
    "multi_frame_jpeg2000_camelyon_challenge_image.dcm": 28.9685,
}


@pytest.mark.parametrize("name", MPP)
def test_real_slides_open_with_the_right_mpp(shared_data: Path, name: str):
    slide = open_slide(shared_data / "slides" / name)
    assert slide.mpp_or_none == (None if MPP[name] is None else pytest.approx(MPP[name], rel=1e-4))
    for level in range(len(slide.levels)):
        assert slide.read_tile(level, 0, 0).std() > 0


def test_real_folder_opens_but_for_the_files_that_must_fail(shared_data: Path):
    opened, refused = [], {}
    for path in find_slides(shared_data / "slides"):
        try:
            opened.append(open_slide(path))
        except SlideError as error:
            refused[path.name] = str(error)
    assert len(opened) == 11
    assert "not a TIFF file" in refused["broken.svs"]
    assert "52479" in refused["unopenable.tiff"]
    assert len(refused) == 2


@pytest.mark.parametrize("name", ["CMU-1-Small-Region.svs", "CMU-1-Small-Region.jpeg.tiff", "boxes.tiff"])
def test_direct_reader_equals_openslide_bit_for_bit_on_real_slides(shared_data: Path, name: str):
    path = shared_data / "slides" / name
    slide = open_slide(path)
    with openslide.OpenSlide(path) as other:
        expected = np.asarray(other.read_region((0, 0), 0, other.dimensions))[..., :3]
    np.testing.assert_array_equal(slide.read_region(0, Region.whole(slide.size)), expected)


def test_direct_reader_equals_openslide_on_a_drawn_jpeg_pyramid(tmp_path: Path):
    path = write_svs(tmp_path / "a.svs", pyramid(512, 768))
    slide = open_slide(path)
    with openslide.OpenSlide(path) as other:
        for level, size in enumerate(other.level_dimensions):
            expected = np.asarray(other.read_region((0, 0), level, size))[..., :3]
            np.testing.assert_array_equal(slide.read_region(level, Region(0, 0, *size)), expected)


def test_real_ndpi_equals_openslide_away_from_the_origin(shared_data: Path):
    path = shared_data / "slides" / "test3-DAPI-2-387.ndpi"
    slide = open_slide(path)
    with openslide.OpenSlide(path) as other:
        expected = np.asarray(other.read_region((1000, 2000), 1, (600, 500)))[..., :3]
    np.testing.assert_array_equal(slide.read_region(1, Region(500, 1000, 600, 500)), expected)


def test_an_ndpi_of_fluorescence_is_remarked_upon_with_its_filter(shared_data: Path, tmp_path: Path):
    path = shared_data / "slides" / "test3-DAPI-2-387.ndpi"
    assert open_slide(path).remarks == (
        "fluorescence (DAPI 2 (387), 455 nm), stored as a picture; models have seen stained tissue in "
        "transmitted light",
    )
    # Of transmitted light: the tag with the wavelength holds 0, under another suffix too.
    data = bytearray(path.read_bytes())
    entry = data.index(struct.pack("<HH", 65451, 11))
    data[entry + 8 : entry + 12] = struct.pack("<f", 0)
    (tmp_path / "a.ndpi").write_bytes(data)
    assert open_slide(tmp_path / "a.ndpi").remarks == ()
    assert ndpi_remarks(tmp_path / "a.ndpi") == ndpi_remarks(shared_data / "slides" / "boxes.tiff") == ()


def test_real_ome_tiffs_agree_with_tifffile(shared_data: Path):
    for path in find_slides(shared_data / "slides" / "ometiff_synthetic"):
        slide = open_slide(path)
        np.testing.assert_array_equal(slide.read_region(0, Region.whole(slide.size)), tifffile.imread(path))
