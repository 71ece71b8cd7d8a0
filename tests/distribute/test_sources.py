"""Which slides a path stands for, and what they are called."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest

from wsi_deform.distribute.sources import SlideSource, distinct_names, slide_sources
from wsi_deform.errors import ManifestError, MaskError, SlideError
from wsi_deform.paths import id_key, id_problem


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


def split_by_problem(sources: tuple[SlideSource, ...]) -> tuple[list[str], dict[str, str]]:
    """Ids of what can be segmented, and id -> problem of what cannot; every id can name a file and is unique."""
    assert [id_problem(source.slide_id) for source in sources] == [""] * len(sources)
    assert len({id_key(source.slide_id) for source in sources}) == len(sources)
    json.dumps([str(source.path) for source in sources]).encode("ascii")
    "".join(f"{source.path}{source.absolute().path}{source.problem}" for source in sources).encode()
    good = [source.slide_id for source in sources if not source.problem]
    return good, {source.slide_id: source.problem for source in sources if source.problem}


def test_each_odd_thing_is_a_source_with_a_problem_and_the_other_slides_are_none_the_worse(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "a.svs", "deep/b.svs", os.fsdecode(b"caf\xe9.svs"), "x\ny.svs", f"{'long' * 60}.svs")
    os.mkfifo(tmp_path / "pipe.tif")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "deep" / "up").symlink_to("..")
    good, bad = split_by_problem(slide_sources(tmp_path, out=tmp_path / "out"))
    assert good == ["a", "b"]
    assert {slide_id: problem.removeprefix(f"{tmp_path}/")[:40] for slide_id, problem in bad.items()} == {
        "caf_xe9": r"caf\xe9.svs: its name is not UTF-8 (byte",
        "x_ny": r"x\ny.svs: its name holds '\\n'. Needed c",
        f"{'long' * 25}...": "longlonglonglonglonglonglonglonglonglong",
        "pipe": "pipe.tif: is a named pipe. Needed a slid",
        "gone": "gone: is a link to nowhere, which does n",
        "deep__up": f"deep/up: is a link back to {tmp_path}"[:40],
    }
    too_long = bad[f"{'long' * 25}..."]
    assert "at most 200 bytes (it has 240)" in too_long
    assert "Rename it, or list it in a manifest CSV with a slide_id of its own" in too_long


def test_a_problem_takes_no_name_from_a_slide(tmp_path: Path) -> None:
    touch(tmp_path, "case.svs", "caf_xe9.svs", os.fsdecode(b"caf\xe9.svs"))
    (tmp_path / "case").symlink_to("nowhere")
    good, bad = split_by_problem(slide_sources(tmp_path, out=tmp_path / "out"))
    assert good == ["caf_xe9", "case"]
    assert [slide_id.rpartition("-")[0] for slide_id in sorted(bad)] == ["caf_xe9", "case"]


def test_a_folder_of_problems_alone_is_told_and_not_called_empty(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    good, bad = split_by_problem(slide_sources(tmp_path, out=tmp_path / "out"))
    assert (good, list(bad)) == ([], ["pipe"])


def test_characters_that_no_id_may_hold_are_replaced_and_names_stay_distinct(tmp_path: Path) -> None:
    touch(tmp_path, "12:30.svs", "con.svs", "sub/12_30.svs", "sub/12_30.tif", "a:.svs", "a_.svs")
    assert names_in(tmp_path) == {
        "12:30.svs": "12_30.svs",
        "con.svs": "_con",
        "a:.svs": "a_.svs-009842d6fd0a",
        "a_.svs": "a_.svs-888ec8574c78",
        "sub/12_30.svs": "sub__12_30.svs",
        "sub/12_30.tif": "12_30.tif",
    }


def test_accents_written_in_two_ways_do_not_make_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/caf\u00e9.svs", "y/cafe\u0301.svs")
    assert list(names_in(tmp_path).values()) == ["x__caf\u00e9.svs", "y__cafe\u0301.svs"]


def test_slides_of_one_name_in_deep_folders_get_a_short_name(tmp_path: Path) -> None:
    deep = "/".join(["a folder with a long name"] * 9)
    touch(tmp_path, f"{deep}/x/a.svs", f"{deep}/y/a.svs")
    good, bad = split_by_problem(slide_sources(tmp_path, out=tmp_path / "out"))
    assert bad == {}
    assert [slide_id[:-12] for slide_id in good] == ["a.svs-", "a.svs-"]


def test_a_slide_or_an_output_folder_that_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    touch(tmp_path, "a.svs", f"{odd}.svs", f"{odd}/a.svs", f"{'x' * 240}.svs")
    for name, part in (
        (f"{odd}.svs", "is not UTF-8"),
        (odd, "is not UTF-8"),
        (f"{'x' * 240}.svs", "200 bytes"),
    ):
        with pytest.raises(SlideError, match=part) as caught:
            slide_sources(tmp_path / name, out=tmp_path / "out")
        str(caught.value).encode()
    with pytest.raises(MaskError, match=r"output folder .*caf.xe9: its name is not UTF-8"):
        slide_sources(tmp_path / "a.svs", out=tmp_path / odd)


def test_slides_inside_the_output_folder_are_told_so(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.svs")
    with pytest.raises(SlideError, match=r"lies in the output folder .* Choose another --out"):
        slide_sources(tmp_path / "in", out=tmp_path)


@pytest.mark.parametrize(
    ("name", "part"),
    [("gone.svs", "gone.svs: does not exist"), ("x" * 300, "File name too long"), ("p.svs", "is a named pipe"),
     ("p.csv", "is a named pipe"), ("loop", "leads back to itself"), ("link", "which does not exist")],
)  # fmt: skip
def test_what_is_no_file_or_folder_is_an_error_at_once(tmp_path: Path, name: str, part: str) -> None:
    for pipe in ("p.svs", "p.csv"):
        os.mkfifo(tmp_path / pipe)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(SlideError, match=part):
        slide_sources(tmp_path / name, out=tmp_path / "out")


def test_a_row_of_a_manifest_that_is_a_pipe_or_cannot_be_written_down_has_a_problem(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.svs")
    rows = 'slide,slide_id,tissue_mask\na.svs,,\np.svs,,\n"b\nc.svs",,\nd.svs,,p.svs\n'
    (tmp_path / "m.csv").write_text(rows)
    good, bad = split_by_problem(slide_sources(tmp_path / "m.csv", out=tmp_path / "out"))
    assert good == ["a"]  # that it is missing is told when its turn comes
    assert list(bad) == ["p", "b_c", "d"]
    assert "p.svs: is a named pipe" in bad["p"]
    assert "p.svs: is a named pipe" in bad["d"]
    assert r"its name holds '\\n'" in bad["b_c"]


@pytest.mark.parametrize("slide_id", ["../x", "a/b", ".hidden", "con", "x" * 201, "a\x7fb"])
def test_ids_that_no_output_can_have_are_refused_with_their_line(tmp_path: Path, slide_id: str) -> None:
    (tmp_path / "m.csv").write_text(f"slide,slide_id\na.svs,{slide_id}\n")
    with pytest.raises(ManifestError, match=r"m.csv line 2, column slide_id: .* Needed .* Rename it"):
        slide_sources(tmp_path / "m.csv", out=tmp_path / "out")
