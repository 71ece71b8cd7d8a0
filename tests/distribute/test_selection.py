"""Slides of several paths together: each once, each with a name of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_deform.distribute.selection import selected_sources
from wsi_deform.errors import SlideError
from wsi_deform.slide.path import SlidePath, slide_path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("p/a.svs", "p/b.ndpi", "q/a.svs", "q/c.ome.tif", "q/a.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def named(*paths: SlidePath, out: Path, **options: object) -> list[str]:
    return [each.slide_id for each in selected_sources(paths, out=out, **options)]  # type: ignore[arg-type]


def test_slides_of_one_path_are_named_as_they_are_alone(folders: Path) -> None:
    out = folders / "out"
    assert named(folders / "q", out=out) == ["a.svs", "a.tif", "c"]
    assert named(folders / "p" / "b.ndpi", folders / "q", out=out) == ["b", "a.svs", "a.tif", "c"]


def test_slides_that_would_share_a_name_are_told_apart_by_their_folders_in_any_order(folders: Path) -> None:
    one, two = folders / "p" / "a.svs", folders / "q" / "a.svs"
    assert named(one, two, out=folders / "out") == ["p__a.svs", "q__a.svs"]
    assert named(two, one, out=folders / "out") == ["q__a.svs", "p__a.svs"]
    assert named(one, folders / "q" / "a.tif", out=folders / "out") == ["a.svs", "a.tif"]


def test_a_slide_that_two_paths_stand_for_comes_once(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folders)
    assert named(Path("p"), folders / "p" / "a.svs", out=folders / "out") == ["a", "b"]


def test_suffixes_are_told_in_any_case_and_leave_names_as_they_are(folders: Path) -> None:
    out = folders / "out"
    assert named(folders / "q", out=out, suffixes=["SVS"]) == ["a.svs"]
    assert named(folders / "q", out=out, suffixes=[".ome.tif"]) == ["c"]
    assert named(folders / "q", out=out, suffixes=["tif", "svs"]) == ["a.svs", "a.tif", "c"]
    assert named(slide_path("s3://b/x.svs"), out=out, suffixes=["svs"]) == ["x"]
    with pytest.raises(SlideError, match=r"none of 3 has a name that ends in mrxs, ndpi\. .*--ext"):
        named(folders / "q", out=out, suffixes=["ndpi", "mrxs"])


def test_a_folder_that_cannot_be_used_is_never_left_out_by_its_suffix(folders: Path) -> None:
    (folders / "p" / "lost").symlink_to(folders / "nowhere")
    (folders / "p" / "lost.tif").symlink_to(folders / "nowhere.tif")
    found = selected_sources([folders / "p"], out=folders / "out", suffixes=["svs"])
    assert "lost_tif" not in {each.slide_id for each in found}
    assert [each.path.name for each in found if not each.problem] == ["a.svs"]


@pytest.mark.parametrize("other", ["n.csv", "p/a.svs"])
def test_a_name_that_a_manifest_gave_is_never_changed(folders: Path, other: str) -> None:
    (folders / "m.csv").write_text("slide,slide_id,mpp\nq/c.ome.tif,a,0.5\n")
    found = selected_sources([folders / "m.csv", folders / "p" / "b.ndpi"], out=folders / "out")
    assert [(each.slide_id, each.mpp) for each in found] == [("a", 0.5), ("b", None)]
    (folders / "n.csv").write_text("slide,slide_id\nq/a.svs,a\n")
    with pytest.raises(SlideError, match=r"both are named a\. .*slide_id"):
        selected_sources([folders / "m.csv", folders / other], out=folders / "out")
