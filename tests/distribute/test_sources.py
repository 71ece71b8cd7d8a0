"""Which slides a path stands for, and what they are called."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from wsi_deform.distribute.sources import distinct_names, slide_sources
from wsi_deform.errors import SlideError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names_in(folder: Path) -> dict[str, str]:
    found = slide_sources(folder, out=folder / "out")
    return {source.path.relative_to(folder).as_posix(): source.slide_id for source in found}


def test_slides_of_a_folder_are_named_after_their_files_and_other_files_are_ignored(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.svs", "case.7.tiff", "notes.txt", "labels.xml", "areas.csv", "deep/b.ome.tif", ".c.svs"
    )
    assert names_in(tmp_path) == {"a.svs": "a", "case.7.tiff": "case.7", "deep/b.ome.tif": "b"}


def test_slides_of_one_stem_keep_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "a.tiff", "b.svs")
    assert names_in(tmp_path) == {"a.svs": "a.svs", "a.tiff": "a.tiff", "b.svs": "b"}


def test_slides_of_one_name_in_two_folders_are_named_by_folder(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.svs", "y/a.svs", "a.ndpi")
    assert names_in(tmp_path) == {"x/a.svs": "x__a.svs", "y/a.svs": "y__a.svs", "a.ndpi": "a.ndpi"}


def test_names_that_differ_only_in_letter_case_count_as_one(tmp_path: Path) -> None:
    names = distinct_names([tmp_path / "A.svs", tmp_path / "a.tiff"], tmp_path)
    assert names == ["A.svs", "a.tiff"]


def test_names_are_distinct_and_do_not_depend_on_the_order(tmp_path: Path) -> None:
    nasty = ["a.svs", "a.tiff", "a.svs.tiff", "x/a.svs", "x__a.svs", "X/a.svs", "x/a.svs.tiff", "b/x__a.svs"]
    paths = [tmp_path / name for name in nasty]
    expected = dict(zip(paths, distinct_names(paths, tmp_path), strict=True))
    assert len({name.casefold() for name in expected.values()}) == len(paths)
    for order in itertools.islice(itertools.permutations(paths), 0, 5000, 500):
        assert dict(zip(order, distinct_names(order, tmp_path), strict=True)) == expected


def test_masks_of_an_output_folder_inside_the_slides_are_no_slides(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs", "out/masks/a.ome.tif", "out/overlays/a.jpg")
    assert names_in(tmp_path) == {"a.svs": "a"}


def test_a_manifest_gives_ids_and_mpp_and_the_flag_wins(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("slide,slide_id,mpp,split\na.svs,one,0.25,test\nb.svs,,,train\n")
    found = slide_sources(tmp_path / "m.csv", out=tmp_path / "out")
    assert [(s.path, s.slide_id, s.mpp) for s in found] == [
        (tmp_path / "a.svs", "one", 0.25),
        (tmp_path / "b.svs", "b", None),
    ]
    assert [s.mpp for s in slide_sources(tmp_path / "m.csv", out=tmp_path / "out", mpp=0.5)] == [0.5, 0.5]
    assert [s.slide_id for s in slide_sources(tmp_path / "m.csv", out=tmp_path / "o", split="train")] == ["b"]


def test_a_folder_without_slides_is_an_error_with_folder_and_remedy(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(SlideError, match=r"no slide among its 1 files.*\.svs.*manifest CSV") as caught:
        slide_sources(tmp_path, out=tmp_path / "out")
    assert str(tmp_path) in str(caught.value)


def test_a_path_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="does not exist"):
        slide_sources(tmp_path / "none", out=tmp_path)


def test_a_split_needs_a_manifest_that_has_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.svs")
    with pytest.raises(SlideError, match="needs a manifest"):
        slide_sources(tmp_path, out=tmp_path / "out", split="test")
    (tmp_path / "m.csv").write_text("slide,split\na.svs,test\n")
    with pytest.raises(SlideError, match="no row of split val"):
        slide_sources(tmp_path / "m.csv", out=tmp_path / "out", split="val")
