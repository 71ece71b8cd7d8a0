"""OME-Zarr of all versions, in folders and in zip files, on this machine and behind a URL."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from range_server import serving
from slide_files import picture, pyramid, write_ome_zarr

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region
from wsi_deform.slide.find import is_slide
from wsi_deform.slide.open import find_slides, open_slide
from wsi_deform.slide.slide import Slide
from wsi_deform.slide.zarr_store import zarr_place


def whole(slide: Slide, level: int = 0) -> np.ndarray:
    return slide.read_region(level, Region.whole(slide.levels[level].size))


def check(slide: Slide, levels: list[np.ndarray], mpp: float = 0.5) -> None:
    assert slide.stored_levels == len(levels)
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(slide, number), level)
    assert slide.mpp == mpp


def write_0_6(path: Path, levels: list[np.ndarray], *, systems: str = "one") -> Path:
    """As ngff-zarr 0.50 writes version 0.6: axes in a coordinate system, scale and translation in a sequence."""
    write_ome_zarr(path, levels)
    stored = json.loads((path / "zarr.json").read_text())
    ngff = stored["attributes"]["ome"]
    image = ngff["multiscales"][0]
    ngff["version"] = image["version"] = "0.6"
    intrinsic = {"name": "intrinsic", "axes": image.pop("axes")}
    world = {"name": "world", "axes": [{"name": name, "unit": "meter"} for name in "xyc"]}
    image["coordinateSystems"] = [intrinsic] if systems == "one" else [world, intrinsic]
    for number, dataset in enumerate(image["datasets"]):
        shift = {"type": "translation", "translation": [0.0, 0.25 * number, 0.25 * number]}
        dataset["coordinateTransformations"] = [
            {
                "type": "sequence", "input": {"path": dataset["path"]}, "output": {"name": "intrinsic"},
                "transformations": [*dataset["coordinateTransformations"], shift],
            }
        ]  # fmt: skip
    image["coordinateTransformations"] = [
        {"type": "scale", "scale": [2.0, 2.0, 2.0], "input": "intrinsic", "output": "world"}
    ]
    (path / "zarr.json").write_text(json.dumps(stored))
    return path


@pytest.mark.parametrize("systems", ["one", "two"])
def test_version_0_6_has_its_axes_and_scale_in_coordinate_systems(tmp_path: Path, systems: str):
    levels = pyramid()
    check(open_slide(write_0_6(tmp_path / "a.zarr", levels, systems=systems)), levels)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"coordinateSystems": []}, "coordinateSystems is empty"),
        ({"coordinateSystems": [{"name": "intrinsic"}]}, "axes"),
        ({"coordinateSystems": 5}, "valid tuple"),
        ({"coordinateSystems": [{"name": "intrinsic", "axes": [{"name": "y"}]}]}, "axes 'y', needed letters"),
        ({"datasets": [5]}, "valid dictionary"),
        ({"datasets": [{"path": "0", "coordinateTransformations": [7]}]}, "valid dictionary"),
    ],
)  # fmt: skip
def test_damaged_version_0_6_says_what_is_wrong(tmp_path: Path, damage: dict[str, object], said: str):
    path = write_0_6(tmp_path / "a.zarr", pyramid(100, 80, 1))
    stored = json.loads((path / "zarr.json").read_text())
    stored["attributes"]["ome"]["multiscales"][0].update(damage)
    (path / "zarr.json").write_text(json.dumps(stored))
    with pytest.raises(SlideError, match=rf"(?s)a\.zarr: not a readable OME-Zarr .*{said}"):
        open_slide(path)


def zipped(folder: Path, path: Path, *, compression: int = zipfile.ZIP_STORED, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for one in sorted(folder.rglob("*")):
            if one.is_file():
                file.write(one, f"{top}{one.relative_to(folder)}")
    return path


@pytest.mark.parametrize("name", ["a.ozx", "a.zarr.zip", "a.ome.zarr.zip", "a.OME.ozx"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_files_are_read_like_their_folders_near_and_far(tmp_path: Path, name: str, compression: int):
    levels = pyramid()
    folder = write_0_6(tmp_path / "folder" / "a.zarr", levels)
    slides = tmp_path / "slides"
    slides.mkdir()
    path = zipped(folder, slides / name, compression=compression)
    assert is_slide(path)
    assert find_slides(slides) == [path]
    check(open_slide(path), levels)
    assert open_slide(path).slide_id == "a"
    fsspec.filesystem("memory").put(str(path), "/zips/x.zip")
    with serving(slides) as server:
        for url in (server.url(name), "memory://zips/x.zip"):
            check(open_slide(url), levels)


def test_shards_in_a_zip_file_and_a_folder_above_the_group(tmp_path: Path):
    pixels = picture(700, 500)
    folder = write_ome_zarr(tmp_path / "a.zarr", [pixels])
    group = zarr.open_group(str(folder), mode="a")
    del group["0"]
    how = {"shape": (3, 500, 700), "chunks": (1, 128, 128), "shards": (1, 512, 512), "dtype": "u1"}
    group.create_array("0", **how)[:] = pixels.transpose(2, 0, 1)
    for top in ("", "a.zarr/", "x/a.zarr/"):
        check(open_slide(zipped(folder, tmp_path / "b.ozx", top=top)), [pixels])


def test_several_images_in_a_zip_file(tmp_path: Path):
    for number, pixels in enumerate((picture(90, 80), picture(300, 200))):
        write_ome_zarr(tmp_path / "a.zarr" / str(number), [pixels])
    zarr.open_group(str(tmp_path / "a.zarr"), mode="a", zarr_format=3)
    (tmp_path / "a.zarr" / "OME").mkdir()
    xml = '<OME><Image Name="small"><Pixels SizeX="90"/></Image><Image Name="large"><Pixels SizeX="300"/></Image></OME>'
    (tmp_path / "a.zarr" / "OME" / "METADATA.ome.xml").write_text(xml)
    path = zipped(tmp_path / "a.zarr", tmp_path / "a.ozx")
    check(open_slide(path), [picture(300, 200)])
    check(open_slide(f"{path}::small"), [picture(90, 80)])
    assert open_slide(f"{path}::small").slide_id == "a__small"


def test_zip_files_that_hold_no_slide_or_are_damaged_are_refused(tmp_path: Path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no slide")
    with pytest.raises(SlideError, match=r"a\.ozx: a zip file without a Zarr.*Unpack it"):
        open_slide(zipped(tmp_path / "notes", tmp_path / "a.ozx"))
    whole_file = zipped(write_ome_zarr(tmp_path / "b.zarr", pyramid()), tmp_path / "b.ozx").read_bytes()
    (tmp_path / "c.ozx").write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(SlideError, match=r"c\.ozx: a damaged zip file.*Copy or download it again"):
        open_slide(tmp_path / "c.ozx")


def test_members_of_a_zip_file_that_declare_too_much_are_refused_before_they_are_inflated(tmp_path: Path):
    folder = write_ome_zarr(tmp_path / "a.zarr", pyramid(600, 500, 1))
    chunk = next(one for one in (folder / "0" / "c").rglob("*") if one.is_file())
    chunk.write_bytes(bytes(300 << 20))
    path = zipped(folder, tmp_path / "a.ozx", compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2 << 20
    slide = open_slide(path)
    tracemalloc.start()
    with pytest.raises(SlideError, match="a chunk of more than"):
        whole(slide)
    assert tracemalloc.get_traced_memory()[1] < 60 << 20
    tracemalloc.stop()
    (folder / "zarr.json").write_bytes((folder / "zarr.json").read_bytes() + b" " * (65 << 20))
    with pytest.raises(SlideError, match=r"declares zarr\.json of [0-9,]* bytes\. Needed at most 67,108,864"):
        open_slide(zipped(folder, tmp_path / "b.ozx", compression=zipfile.ZIP_DEFLATED))


def described_anew(path: Path, change) -> Path:
    stored = json.loads((path / "zarr.json").read_text())
    change(stored["attributes"]["ome"]["multiscales"][0])
    (path / "zarr.json").write_text(json.dumps(stored))
    return path


def test_levels_that_are_listed_coarse_first_have_the_scale_of_the_finest(tmp_path: Path):
    levels = pyramid()
    path = write_ome_zarr(tmp_path / "a.zarr", levels)
    check(open_slide(described_anew(path, lambda image: image["datasets"].reverse())), levels)


@pytest.mark.parametrize(
    "steps",
    [[], [{"type": "scale", "path": "scales"}], [{"type": "affine", "affine": [[1, 0, 0, 0]]}],
     [{"type": "sequence", "transformations": [{"type": "scale", "scale": [1, 0.5, 0.5]}, {"type": "rotation"}]}]],
)  # fmt: skip
def test_steps_that_are_no_scales_give_no_mpp(tmp_path: Path, steps: list[dict[str, object]]):
    path = write_ome_zarr(tmp_path / "a.zarr", pyramid())

    def change(image: dict[str, list[dict[str, object]]]) -> None:
        for dataset in image["datasets"]:
            dataset["coordinateTransformations"] = steps

    with pytest.raises(SlideError, match="no believable microns-per-pixel"):
        _ = open_slide(described_anew(path, change)).mpp


def test_a_coarse_level_of_which_no_chunk_is_stored_is_left_out(tmp_path: Path):
    levels = pyramid()
    path = write_ome_zarr(tmp_path / "a.zarr", levels)
    datasets = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"]
    shutil.rmtree(path / datasets[1]["path"] / "c")
    slide = open_slide(path)
    assert slide.remarks == (
        f"the level in {datasets[1]['path']} cannot be read (none of its chunks is stored); finer ones are read in its "
        "place",
    )
    assert slide.stored_levels == 2


def test_descriptions_of_very_many_levels_or_images_are_refused_before_any_is_opened(tmp_path: Path):
    path = described_anew(
        write_ome_zarr(tmp_path / "a.zarr", pyramid()),
        lambda image: image.update(datasets=image["datasets"][:1] * 65),
    )
    with pytest.raises(SlideError, match=r"multiscales\.datasets: tuple should have at most 64 items"):
        open_slide(path)
    stored = json.loads((path / "zarr.json").read_text())
    stored["attributes"]["ome"]["multiscales"] *= 1001
    (path / "zarr.json").write_text(json.dumps(stored))
    with pytest.raises(SlideError, match="multiscales describes 1,001 images, needed at most 1,000"):
        open_slide(path)


def test_parts_of_members_that_are_not_compressed_are_read_where_they_lie(tmp_path: Path, monkeypatch):
    """Not through ``zipfile``, which in some versions of Python gives threads the bytes of other members."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("zarr.json", "{}")
        extra = zipfile.ZipInfo("s/0")
        extra.extra = b"\x99\x99\x04\x00abcd"  # in front of its bytes
        file.writestr(extra, b"0123456789")
        file.writestr("s/1", b"abcdefghij", compress_type=zipfile.ZIP_DEFLATED)
    files = zarr_place(path).files
    assert files.cat_file("s/1", 2, 5) == b"cde"
    assert files.cat_file("s/0") == b"0123456789"  # a whole one, with its checksum
    monkeypatch.setattr(files.zip, "open", None)
    given = [
        ((2, 5), b"234"),
        ((7, None), b"789"),
        ((-4, None), b"6789"),
        ((None, 3), b"012"),
        ((8, 30), b"89"),
    ]
    for (start, end), expected in given:
        assert files.cat_file("s/0", start, end) == expected
    assert files.cat_file("/s/0", 10, 12) == b""
    with pytest.raises(TypeError):  # to show that compressed ones are
        files.cat_file("s/1", 2, 5)


def test_a_zip_file_that_ends_within_a_member_is_not_read_as_if_it_were_whole(tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("zarr.json", "{}")
        file.writestr("0", b"0123456789")
    files = zarr_place(path).files
    member = files.zip.getinfo("0")
    member.file_size = 10_000
    with pytest.raises(EOFError, match="^0: the zip file ends within it$"):
        files.cat_file("0", 4, 9000)
    files = zarr_place(path).files
    files.zip.getinfo("0").header_offset += 1
    with pytest.raises(zipfile.BadZipFile, match="no header of 0"):
        files.cat_file("0", 4, 9)
