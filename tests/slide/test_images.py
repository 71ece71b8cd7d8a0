"""Which picture: of several images in a file or folder the slide, and by name any other."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
import zarr
from PIL import Image
from range_server import serving
from slide_files import halved, picture, pyramid, write_ome_zarr, write_svs, write_tiff

from wsi_deform.distribute.sources import slide_sources
from wsi_deform.errors import ManifestError, SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import slide_id_from_path
from wsi_deform.paths import split_image
from wsi_deform.slide.choice import Candidate, choose, is_named_beside
from wsi_deform.slide.find import slide_id_of
from wsi_deform.slide.identity import slide_identity, slide_key
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.path import SlideUrl, slide_path
from wsi_deform.slide.slide import Slide

MACRO = np.full((150, 400, 3), (200, 220, 250), np.uint8)
UM = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}


def whole(slide: Slide, level: int = 0) -> np.ndarray:
    return slide.read_region(level, Region.whole(slide.levels[level].size))


def chosen(slide: Slide) -> list[tuple[str, str, bool]]:
    return [(image.name, str(image.size), image.is_chosen) for image in slide.info.images]


def ome_with_macro(path: Path) -> list[np.ndarray]:
    """The macro, the slide with a level, and another scan; returns the slide's levels."""
    levels = pyramid(800, 600, 2)
    how = {"photometric": "rgb", "compression": "deflate", "tile": (128, 128)}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(
            MACRO, metadata={"axes": "YXS", "Name": "macro image", "PhysicalSizeX": 9.0, **UM}, **how
        )
        mpp = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, **UM}
        writer.write(levels[0], subifds=1, metadata={"axes": "YXS", "Name": "scan: 1/2", **mpp}, **how)
        writer.write(levels[1], subfiletype=1, **how)
        mpp = {"PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0, **UM}
        writer.write(picture(300, 200, 7), metadata={"axes": "YXS", "Name": "scan 2", **mpp}, **how)
    return levels


def test_ome_tiff_gives_the_slide_with_its_mpp_and_lists_the_others(tmp_path: Path):
    levels = ome_with_macro(tmp_path / "a.ome.tif")
    slide = open_slide(tmp_path / "a.ome.tif")
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(slide, number), level)
    assert (slide.mpp, slide.stored_levels, slide.slide_id) == (0.5, 2, "a")
    assert chosen(slide) == [
        ("macro image", "400 x 150", False),
        ("scan_ 1_2", "800 x 600", True),
        ("scan 2", "300 x 200", False),
    ]
    said = (
        "the file holds 2 images that may be the slide; scan_ 1_2 is read, FILE::NAME picks another: scan 2"
    )
    assert slide.info.remarks == (said,)


def test_a_name_after_the_file_picks_another_image_everywhere(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    ome_with_macro(path)
    for asked in ("scan 2", "SCAN 2", "2"):
        slide = pickle.loads(pickle.dumps(open_slide(f"{path}::{asked}")))
        np.testing.assert_array_equal(whole(slide), picture(300, 200, 7))
        assert (slide.mpp, slide.slide_id, slide.info.remarks) == (1.0, f"a__{asked}", ())
        assert [one for one in chosen(slide) if one[2]] == [("scan 2", "300 x 200", True)]
    # The text of the name in the file picks it as well.
    assert open_slide(f"{path}::scan: 1/2").size == Size(800, 600)
    assert open_slide(f"{path}::macro image").mpp == 9.0
    with pytest.raises(
        SlideError, match=r"no image 'gone' in it\. Needed one of: macro image \(400 x 150 px\), scan_ 1_2"
    ):
        open_slide(f"{path}::gone")
    # The same file, and its images are not each other: caches and states of work are kept under these.
    names = [path, Path(f"{path}::scan 2"), Path(f"{path}::macro image")]
    assert len({str(slide_identity(name)) for name in names}) == 3
    assert slide_identity(names[1]) == slide_identity(path) | {"image": "scan 2"}
    assert len({slide_key(name, open_slide(name)._reader()[1].reader) for name in names}) == 3


def test_images_are_named_on_the_command_line_and_in_manifests(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    ome_with_macro(path)
    out = tmp_path / "out"
    source = slide_sources(Path(f"{path}::scan 2"), out=out)[0]
    assert (source.path, source.slide_id) == (Path(f"{path}::scan 2"), "a__scan 2")
    with pytest.raises(SlideError, match=r"gone\.tif::x: does not exist"):
        slide_sources(tmp_path / "gone.tif::x", out=out)
    (tmp_path / "m.csv").write_text("slide,split\na.ome.tif,train\na.ome.tif::scan 2,train\n")
    manifest = read_manifest(tmp_path / "m.csv")
    assert [row.slide_id for row in manifest.rows] == ["a", "a__scan 2"]
    assert open_slide(manifest.rows[1].slide).size == Size(300, 200)
    assert [one.slide_id for one in slide_sources(tmp_path / "m.csv", out=out)] == ["a", "a__scan 2"]
    (tmp_path / "m.csv").write_text("slide\nb.ome.tif::scan 2\n")
    with pytest.raises(
        ManifestError, match=r"'b\.ome\.tif::scan 2' does not exist; did you mean 'a\.ome\.tif'"
    ):
        read_manifest(tmp_path / "m.csv")


def test_a_file_whose_name_holds_the_mark_is_that_file(tmp_path: Path):
    path = tmp_path / "p::1.png"
    Image.fromarray(picture(40, 30)).save(path)
    assert split_image(path) == (path, "")
    assert open_slide(path).slide_id == "p__1"
    assert split_image(Path(f"{path}::macro")) == (path, "macro")
    assert split_image(tmp_path / "none.tif::a::b") == (tmp_path / "none.tif", "a::b")
    with pytest.raises(SlideError, match="no image .macro. in it: it holds one image"):
        open_slide(f"{path}::macro")


@pytest.mark.parametrize(
    ("text", "url", "image"),
    [
        ("https://host/a.ome.tif::macro", "https://host/a.ome.tif", "macro"),
        ("https://host/a.ome.tif::scan%201?sig=x::y", "https://host/a.ome.tif?sig=x::y", "scan 1"),
        ("simplecache::https://host/a.tif::2", "simplecache::https://host/a.tif", "2"),
        ("zip://a.tif::https://host/b.zip", "zip://a.tif::https://host/b.zip", ""),
        ("https://host/a.tif?x=5ec::5ec", "https://host/a.tif?x=5ec::5ec", ""),
    ],
)
def test_image_of_a_url_stands_behind_its_file_and_never_holds_a_secret(text: str, url: str, image: str):
    found = slide_path(text)
    assert found == SlideUrl(url, image)
    assert str(found) == str(SlideUrl(url)) + (f"::{image}" if image else "")
    assert "5ec" not in str(found)
    assert "sig" not in str(found)


def test_image_of_a_remote_slide_and_of_a_file_url(tmp_path: Path):
    ome_with_macro(tmp_path / "a.ome.tif")
    with serving(tmp_path) as server:
        slides = [open_slide(server.url("a.ome.tif::scan 2")), open_slide(server.url("a.ome.tif"))]
        local = open_slide(f"file://{tmp_path}/a.ome.tif::scan 2")
        assert [slide.size for slide in (*slides, local)] == [Size(300, 200), Size(800, 600), Size(300, 200)]
        assert [slide.slide_id for slide in (*slides, local)] == ["a__scan 2", "a", "a__scan 2"]
        np.testing.assert_array_equal(whole(slides[0]), whole(local))


@pytest.mark.parametrize(
    "name", ["a.ome.tif::he", "a.zarr::images/he", "a.svs::label", "b.ozx", "c.ome.zarr.zip"]
)
def test_manifests_and_slides_agree_on_ids(name: str):
    assert slide_id_from_path(name) == slide_id_of(Path(name))


@pytest.mark.parametrize(
    ("name", "is_beside"),
    [("macro", True), ("Label image", True), ("slide_thumbnail", True), ("Overview #1", True), ("thumb", True),
     ("macrophages", False), ("unlabelled", False), ("HE 20x", False), ("", False)],
)  # fmt: skip
def test_pictures_beside_the_slide_are_known_by_their_names(name: str, is_beside: bool):
    assert is_named_beside(name) == is_beside


def test_the_largest_image_that_is_not_beside_the_slide_is_chosen():
    small, large = Size(10, 10), Size(40, 30)

    def number(*candidates: Candidate) -> int:
        return choose(candidates, "", Path("a")).number

    assert number(Candidate(name="macro", size=large), Candidate(name="x", size=small)) == 1
    assert number(Candidate(name="x", size=large, is_beside=True), Candidate(name="y", size=small)) == 1
    assert number(Candidate(name="x", size=small), Candidate(name="y", size=large)) == 1
    assert number(Candidate(name="x", size=large), Candidate(name="y", size=large)) == 0
    assert number(Candidate(name="label", size=small), Candidate(name="macro", size=large)) == 1
    names = choose([Candidate(name=name, size=small) for name in ("a", "a", "", "a/b")], "", Path("a")).images
    assert [image.name for image in names] == ["a", "a_1", "2", "a_b"]


def converted(path: Path, *, version: str, series: list[str] | None, xml: bool) -> np.ndarray:
    """What bioformats2raw makes of a file with a macro, a slide and a label."""
    slide = picture(700, 500)
    images = [np.full((900, 800, 3), 230, np.uint8), slide, MACRO]
    for number, pixels in enumerate(images):
        write_ome_zarr(path / str(number), [pixels], version=version, mpp=0.5 if number == 1 else 20.0)
    group = zarr.open_group(str(path), mode="a", zarr_format=3 if version == "0.5" else 2)
    said = {"bioformats2raw.layout": 3}
    group.attrs.update({"ome": {"version": version, **said}} if version == "0.5" else said)
    ome = group.create_group("OME")
    if series is not None:
        ome.attrs.update({"ome": {"series": series}} if version == "0.5" else {"series": series})
    names = dict(enumerate(["macro image", "a.svs", "label image"]))
    order = [int(key) for key in series or ["0", "1", "2"]]
    text = "".join(
        f'<Image ID="Image:{at}" Name="{names[number]}"><Pixels SizeX="{images[number].shape[1]}" '
        f'SizeY="{images[number].shape[0]}"/></Image>'
        for at, number in enumerate(order)
    )
    if xml:
        (path / "OME" / "METADATA.ome.xml").write_text(f'<OME xmlns="http://x">{text}</OME>')
    return slide


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("series", [None, ["1", "0", "2"]])
def test_images_of_bioformats2raw_have_the_names_of_their_xml(
    tmp_path: Path, version: str, series: list[str] | None
):
    slide = converted(tmp_path / "a.zarr", version=version, series=series, xml=True)
    opened = open_slide(tmp_path / "a.zarr")
    np.testing.assert_array_equal(whole(opened), slide)
    assert opened.mpp == 0.5
    sizes = {"macro image": "800 x 900", "a.svs": "700 x 500", "label image": "400 x 150"}
    order = ["a.svs", "macro image", "label image"] if series else list(sizes)
    assert chosen(opened) == [(name, sizes[name], name == "a.svs") for name in order]
    assert open_slide(f"{tmp_path}/a.zarr::label image").size == Size(400, 150)
    assert open_slide(f"{tmp_path}/a.zarr::0").size == Size(800, 900)  # its group


def test_images_of_a_converted_folder_are_found_on_a_server_that_does_not_list_it(tmp_path: Path):
    slide = converted(tmp_path / "a.zarr", version="0.4", series=None, xml=True)
    with serving(tmp_path) as server:
        opened = open_slide(server.url("a.zarr"))
        np.testing.assert_array_equal(whole(opened), slide)
        assert [image.name for image in opened.info.images] == ["macro image", "a.svs", "label image"]


def test_images_without_names_are_told_by_size_and_numbered(tmp_path: Path):
    converted(tmp_path / "a.zarr", version="0.5", series=["2", "1"], xml=False)
    opened = open_slide(tmp_path / "a.zarr")
    assert chosen(opened) == [("2", "400 x 150", False), ("1", "700 x 500", True)]


def test_spatialdata_stores_give_their_largest_image(tmp_path: Path):
    path = tmp_path / "s.zarr"
    for name, pixels in (
        ("he", picture(500, 400)),
        ("crop", picture(120, 90)),
        ("he_thumbnail", picture(600, 500)),
    ):
        write_ome_zarr(path / "images" / name, [pixels])
    write_ome_zarr(path / "labels" / "cells", [picture(900, 800)])
    zarr.open_group(str(path), mode="a", zarr_format=3).attrs["spatialdata_attrs"] = {"version": "0.2"}
    for name in ("images", "labels"):
        zarr.open_group(str(path / name), mode="a", zarr_format=3)
    slide = open_slide(path)
    np.testing.assert_array_equal(whole(slide), picture(500, 400))
    assert [one[0] for one in chosen(slide)] == ["crop", "he", "he_thumbnail"]
    for name in ("crop", "images/crop"):
        np.testing.assert_array_equal(whole(open_slide(f"{path}::{name}")), picture(120, 90))


def test_a_refusal_of_the_largest_image_names_the_others(tmp_path: Path):
    write_ome_zarr(tmp_path / "s.zarr" / "images" / "he", [picture(120, 90)])
    write_ome_zarr(tmp_path / "s.zarr" / "images" / "if", [picture(500, 400)])
    replace_array(
        zarr.open_group(str(tmp_path / "s.zarr" / "images" / "if"), mode="a"),
        np.zeros((5, 400, 500), np.uint16),
    )
    for name in ("", "images"):
        zarr.open_group(str(tmp_path / "s.zarr" / name), mode="a", zarr_format=3)
    with pytest.raises(
        SlideError, match=r"5 channels\. .* Others in the file: he \(120 x 90 px\); FILE::NAME reads"
    ):
        open_slide(tmp_path / "s.zarr")
    assert open_slide(f"{tmp_path}/s.zarr::he").size == Size(120, 90)


def test_a_chunk_of_an_image_in_a_folder_of_several_changes_its_identity(tmp_path: Path):
    path = tmp_path / "s.zarr"
    write_ome_zarr(path / "images" / "he", [picture(500, 400)], version="0.4")
    zarr.open_group(str(path), mode="a", zarr_format=2)
    zarr.open_group(str(path / "images"), mode="a", zarr_format=2)
    before = slide_identity(path)
    chunk = path / "images" / "he" / "0" / "0.0.0"
    chunk.rename(chunk.with_name("x"))
    chunk.with_name("x").rename(chunk)
    assert slide_identity(path) != before


def test_pages_of_a_plain_tiff_are_listed_and_the_first_of_the_largest_is_read(tmp_path: Path):
    path = tmp_path / "a.tif"
    how = {"photometric": "rgb", "metadata": None, "tile": (64, 64)}
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture(90, 200, 3), extratags=[(285, 2, 0, "Label", True)], **how)
        writer.write(picture(300, 200, 1), **how)
        writer.write(picture(300, 200, 2), **how)
        writer.write(halved(picture(300, 200, 1)), **how)
        writer.write(picture(80, 90), photometric="rgb", metadata=None, subfiletype=1)
    slide = open_slide(path)
    np.testing.assert_array_equal(whole(slide), picture(300, 200, 1))
    np.testing.assert_array_equal(whole(slide, 1), halved(picture(300, 200, 1)))
    assert chosen(slide) == [
        ("Label", "90 x 200", False), ("1", "300 x 200", True), ("2", "300 x 200", False), ("3", "80 x 90", False),
    ]  # fmt: skip
    assert "2 images that may be the slide; 1 is read" in slide.info.remarks[0]
    np.testing.assert_array_equal(whole(open_slide(f"{path}::2")), picture(300, 200, 2))


def test_svs_lists_label_macro_and_thumbnail_under_the_names_of_openslide(tmp_path: Path):
    path = write_svs(tmp_path / "a.svs", pyramid())
    slide = open_slide(path)
    found = {name: size for name, size, _ in chosen(slide)}
    with openslide.OpenSlide(path) as other:
        sizes = {
            name: f"{image.size[0]} x {image.size[1]}" for name, image in other.associated_images.items()
        }
    assert found == {"slide": "453 x 331"} | sizes
    assert slide.info.remarks == ()
    label = open_slide(f"{path}::label")
    assert (label.size, label.mpp_or_none, label.slide_id) == (Size(80, 60), None, "a__label")


def test_the_scale_of_a_stack_of_imagej_stands_in_its_first_plane(tmp_path: Path):
    planes = np.stack([picture(150, 100, seed) for seed in range(3)])
    tifffile.imwrite(
        tmp_path / "a.tif", planes, imagej=True, resolution=(4, 2), metadata={"unit": "um", "axes": "ZYXS"}
    )
    slide = open_slide(tmp_path / "a.tif")
    assert (slide.mpp_xy.x, slide.mpp_xy.y) == (0.25, 0.5)
    assert slide.mpp_source == "unit=um in ImageJ's unit and the resolution tags"
    np.testing.assert_array_equal(slide.read_region(0, slide.region), planes[1])


@pytest.mark.parametrize("axes", ["YXC", "YXS"])
def test_rgb_in_one_page_is_no_stack_whatever_its_description_calls_the_colours(tmp_path: Path, axes: str):
    pixels = picture(150, 100)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(64, 64), metadata={"axes": axes})
    slide = open_slide(tmp_path / "a.tif")
    np.testing.assert_array_equal(slide.read_region(0, slide.region), pixels)


def test_a_slide_of_openslide_lists_its_pictures_and_they_are_not_read(shared_data: Path):
    path = shared_data / "slides" / "test3-DAPI-2-387.ndpi"
    slide = open_slide(path)
    assert [(image.name, image.is_chosen) for image in slide.info.images] == [
        ("slide", True),
        ("macro", False),
    ]
    assert open_slide(f"{path}::slide").size == slide.size
    with pytest.raises(SlideError, match="'macro' is a picture beside the slide"):
        open_slide(f"{path}::macro")


def write_qptiff(path: Path, baseline: list[np.ndarray], names: list[str]) -> Path:
    """PerkinElmer's pages: those of the finest level, a thumbnail, coarse levels, macro, label."""
    how = {"software": "PerkinElmer-QPI", "metadata": None, "compression": "lzw"}
    with tifffile.TiffWriter(path) as writer:
        for scale in (1, 2, 4):
            for pixels, name in zip(baseline, names, strict=True):
                said = f"<PerkinElmer-QPI-ImageDescription><Name>{name}</Name></PerkinElmer-QPI-ImageDescription>"
                small = np.ascontiguousarray(pixels[::scale, ::scale])
                kind = "rgb" if pixels.ndim == 3 else "minisblack"
                writer.write(small, tile=(64, 64), photometric=kind, description=said, **how)
            if scale == 1:
                writer.write(picture(60, 40), photometric="rgb", description="<x/>", **how)
        for size in ((300, 120), (50, 50)):
            writer.write(picture(*size), photometric="rgb", description="<x/>", **how)
    return path


def test_qptiff_gives_its_slide_and_refuses_fluorescence_by_name(tmp_path: Path):
    slide = open_slide(write_qptiff(tmp_path / "a.qptiff", [picture(256, 192)], ["H&E"]))
    np.testing.assert_array_equal(whole(slide), picture(256, 192))
    assert slide.stored_levels == 3
    assert [one[0] for one in chosen(slide)] == ["Baseline", "Thumbnail", "Macro", "Label"]
    stains = [picture(256, 192, seed)[..., 0] for seed in range(3)]
    path = write_qptiff(tmp_path / "b.qptiff", stains, ["DAPI", "Opal 520", "Autofluorescence"])
    with pytest.raises(
        SlideError, match=r"fluorescence slide of 3 channels \(DAPI, Opal 520, Autofluorescence\)"
    ):
        open_slide(path)
    path = write_qptiff(tmp_path / "c.qptiff", stains[:1], ["DAPI"])
    with pytest.raises(SlideError, match=r"fluorescence slide of 1 channel \(DAPI\)"):
        open_slide(path)


def test_focal_planes_and_time_points_are_chosen_alike_in_every_format(tmp_path: Path):
    for planes, middle in ((3, 1), (4, 2)):
        stack = np.stack([picture(90, 60, seed) for seed in range(planes)])
        how = {"photometric": "rgb", "tile": (64, 64)}
        tifffile.imwrite(tmp_path / "z.ome.tif", stack, ome=True, metadata={"axes": "ZYXS"}, **how)
        tifffile.imwrite(tmp_path / "t.ome.tif", stack, ome=True, metadata={"axes": "TYXS"}, **how)
        tifffile.imwrite(tmp_path / "z.tif", stack, imagej=True, metadata={"axes": "ZYXS"})
        svs = {
            "tile": (64, 64),
            "photometric": "rgb",
            "metadata": None,
            "description": "Aperio Image |MPP = 0.5",
        }
        with tifffile.TiffWriter(tmp_path / "z.svs") as writer:
            for plane in stack:
                writer.write(plane, **svs)
        for axis in "tz":
            path = tmp_path / f"{axis}.zarr"
            write_ome_zarr(path, [stack[0]], axes=f"{axis}cyx", version="0.4")
            group = zarr.open_group(str(path), mode="a")
            replace_array(group, stack.transpose(0, 3, 1, 2))
        remark = f"{planes} focal planes; the middle one, number {middle} from 0, is read"
        for name in ("z.ome.tif", "z.tif", "z.svs", "z.zarr"):
            slide = open_slide(tmp_path / name)
            np.testing.assert_array_equal(whole(slide), stack[middle])
            assert slide.info.remarks == (remark,)
        for name in ("t.ome.tif", "t.zarr"):
            slide = open_slide(tmp_path / name)
            np.testing.assert_array_equal(whole(slide), stack[0])
            assert slide.info.remarks == (f"{planes} time points; the first is read",)


def test_coarse_levels_of_a_zarr_may_have_fewer_focal_planes_but_no_other_channels(tmp_path: Path):
    levels = pyramid(200, 160, 2)
    write_ome_zarr(tmp_path / "a.zarr", levels, axes="zcyx", version="0.4")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="a")
    for name, planes, middle in (("0", 5, 2), ("1", 3, 1)):
        stack = np.zeros((planes, 3, *levels[int(name)].shape[:2]), np.uint8)
        stack[middle] = levels[int(name)].transpose(2, 0, 1)
        replace_array(group, stack, name)
    slide = open_slide(tmp_path / "a.zarr")
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(slide, number), level)
    write_ome_zarr(tmp_path / "b.zarr", levels)
    group = zarr.open_group(str(tmp_path / "b.zarr"), mode="a")
    replace_array(group, np.zeros((1, 80, 100), np.uint8), "1")
    slide = open_slide(tmp_path / "b.zarr")
    assert slide.stored_levels == 1
    assert "the level in 1 cannot be read (its shape is (1, 80, 100)" in slide.info.remarks[0]


def replace_array(group: zarr.Group, pixels: np.ndarray, name: str = "0") -> None:
    del group[name]
    group.create_array(name, shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype)[...] = pixels


def test_planes_of_an_axis_that_means_something_else_are_refused(tmp_path: Path):
    stack = np.stack([picture(90, 60, seed) for seed in range(3)])
    write_ome_zarr(tmp_path / "a.zarr", [stack[0]], axes="zcyx", version="0.4")
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="a")
    replace_array(group, stack.transpose(0, 3, 1, 2))
    described = group.attrs["multiscales"]
    described[0]["axes"][0] = {"name": "r", "type": "space"}
    group.attrs["multiscales"] = described
    with pytest.raises(SlideError, match="3 planes along axis r of rcyx"):
        open_slide(tmp_path / "a.zarr")


def companions(folder: Path) -> tuple[Path, np.ndarray]:
    """An OME-TIFF of three planes, each in a file of its own; the first has the metadata of all."""
    pixels = picture(128, 96)
    names = ["a_R.ome.tif", "a_G.ome.tif", "a_B.ome.tif"]
    for name, plane in zip(names, pixels.transpose(2, 0, 1), strict=True):
        tifffile.imwrite(folder / name, plane, photometric="minisblack", tile=(64, 64), metadata=None)
    planes = "".join(
        f'<TiffData FirstC="{at}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{at}</UUID></TiffData>'
        for at, name in enumerate(names)
    )
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    text = (
        f'<OME xmlns="{space}" UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" '
        f'Type="uint8" SizeX="128" SizeY="96" SizeC="3" SizeZ="1" SizeT="1">{planes}</Pixels></Image></OME>'
    )
    tifffile.tiffcomment(folder / names[0], text)
    for at, name in enumerate(names[1:], start=1):
        only = f'<BinaryOnly MetadataFile="{names[0]}" UUID="urn:uuid:0"/>'
        tifffile.tiffcomment(folder / name, f'<OME xmlns="{space}" UUID="urn:uuid:{at}">{only}</OME>')
    return folder / names[0], pixels


@pytest.mark.filterwarnings("ignore")
def test_planes_in_companion_files_are_refused_and_the_remedy_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, pixels = companions(tmp_path)
    with pytest.raises(SlideError, match=r"a_R\.ome\.tif: plane 1 of .* is not in this file") as caught:
        open_slide(path)
    with pytest.raises(
        SlideError, match=r"a_B\.ome\.tif: a part of an OME-TIFF of several files.*in a_R\.ome\.tif"
    ):
        open_slide(tmp_path / "a_B.ome.tif")
    _, _, command = str(caught.value).partition('python -c "')
    monkeypatch.chdir(tmp_path)
    path.rename(tmp_path / "FILE.ome.tif")
    exec(command.partition('"')[0].replace("'FILE'", "'FILE.ome.tif'"))
    np.testing.assert_array_equal(whole(open_slide(tmp_path / "SLIDE.ome.tif")), pixels)


def test_images_are_read_by_many_threads_at_once(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    levels = ome_with_macro(path)
    found: dict[str, np.ndarray] = {}
    names = [str(path), f"{path}::scan 2", f"{path}::macro image"]
    threads = [
        threading.Thread(target=lambda one=one: found.update({one: whole(open_slide(one))})) for one in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, right in zip(names, (levels[0], picture(300, 200, 7), MACRO), strict=True):
        np.testing.assert_array_equal(found[name], right)


def test_ome_levels_behind_the_image_are_found_and_other_images_are_no_levels(tmp_path: Path):
    levels = pyramid(400, 300, 3)
    path = tmp_path / "a.ome.tif"
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYCZT" Type="uint8" SizeX="400" SizeY="300" SizeC="3" SizeZ="1" SizeT="1"><Channel '
        'ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )
    how = {"photometric": "rgb", "tile": (128, 128), "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        for at, level in enumerate((levels[0], levels[2], levels[1])):
            writer.write(level, description=None if at else text, subfiletype=int(at > 0), **how)
    slide = open_slide(path)
    assert slide.stored_levels == 3
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(slide, number), level)
    plain = write_tiff(tmp_path / "b.tif", [levels[0], picture(150, 150)], tile=(64, 64), flagged=False)
    assert open_slide(plain).stored_levels == 1
