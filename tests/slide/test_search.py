"""Slides of a folder with odd things in it: each slide once, everything else named."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest
from dicom_files import write_dicom, write_other
from slide_files import picture, pyramid, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.slide.dicom.files import dicom_image
from wsi_deform.slide.dicom.header import read_series
from wsi_deform.slide.dicom.kind import Kind
from wsi_deform.slide.dicom.meta import parsed_meta, walked
from wsi_deform.slide.find import is_slide
from wsi_deform.slide.open import find_slides, open_slide
from wsi_deform.slide.search import search_slides


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def unreadable(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to list a folder, also to root, whom rights do not stop."""
    real = os.scandir

    def scandir(path: str | Path = "."):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def found_in(folder: Path) -> tuple[list[str], list[str]]:
    found = search_slides(folder)
    slides = [path.relative_to(folder).as_posix() for path in found.slides]
    return slides, [one.reason.removeprefix(f"{folder}/") for one in found.left_out]


def test_a_subfolder_that_cannot_be_listed_is_named_and_the_rest_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    touch(tmp_path, "a.svs", "closed/b.svs", "open/c.svs")
    unreadable(monkeypatch, tmp_path / "closed")
    slides, left_out = found_in(tmp_path)
    assert slides == ["a.svs", "open/c.svs"]
    assert left_out == [
        "closed: cannot be listed (Permission denied). Needed a folder that you may read. Change its rights, or "
        "move it away."
    ]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    touch(tmp_path, "in/a.svs")
    unreadable(monkeypatch, tmp_path / "in")
    with pytest.raises(SlideError, match=r"in: cannot be listed \(Permission denied\)"):
        find_slides(tmp_path / "in")
    with pytest.raises(SlideError, match="gone: does not exist"):
        find_slides(tmp_path / "gone")
    touch(tmp_path, "notes.txt")
    with pytest.raises(SlideError, match="notes.txt: cannot be listed"):
        find_slides(tmp_path / "notes.txt")


def test_links_back_to_a_folder_above_are_named_and_followed_no_further(tmp_path: Path):
    touch(tmp_path, "in/a.svs", "in/sub/b.svs", "beside.svs")
    (tmp_path / "in" / "sub" / "up").symlink_to("..")
    (tmp_path / "in" / "all").symlink_to("../..")
    (tmp_path / "in" / "here").symlink_to(".")
    slides, left_out = found_in(tmp_path / "in")
    assert slides == ["a.svs", "sub/b.svs"]
    assert [reason.partition(" is a link back to ")[0] for reason in left_out] == ["all:", "here:", "sub/up:"]
    assert "Remove the link" in left_out[0]


def test_two_folders_that_link_to_each_other_are_searched_once(tmp_path: Path):
    touch(tmp_path, "in/a.svs", "other/b.svs")
    (tmp_path / "in" / "there").symlink_to("../other")
    (tmp_path / "other" / "back").symlink_to("../in")
    assert found_in(tmp_path / "in") == (["a.svs", "there/b.svs"], [])


def test_a_slide_that_several_paths_lead_to_counts_once_and_without_links_if_it_can(tmp_path: Path):
    touch(tmp_path, "in/z.svs", "in/real/b.svs", "far/c.svs", "far/d.svs")
    for link, target in (
        ("a.svs", "z.svs"),
        ("linked", "real"),
        ("far1", "../far"),
        ("far2", "../far"),
        ("c.svs", "../far/c.svs"),
    ):
        (tmp_path / "in" / link).symlink_to(target)
    assert found_in(tmp_path / "in") == (["c.svs", "far1/d.svs", "real/b.svs", "z.svs"], [])


def test_files_with_two_names_on_the_disk_are_two_slides(tmp_path: Path):
    touch(tmp_path, "a.svs")
    os.link(tmp_path / "a.svs", tmp_path / "b.svs")
    assert found_in(tmp_path) == (["a.svs", "b.svs"], [])


def test_links_that_lead_nowhere_are_named_unless_they_are_called_as_no_slide_is(tmp_path: Path):
    touch(tmp_path, "a.svs")
    for link in ("b.svs", "cohort2", "2024.11.05", "notes.txt", ".#lock"):
        (tmp_path / link).symlink_to("gone")
    (tmp_path / "loop").symlink_to("loop")
    slides, left_out = found_in(tmp_path)
    assert slides == ["a.svs"]
    gone = "is a link to gone, which does not exist. Needed a slide. Mend or remove it."
    assert left_out == [
        f"2024.11.05: {gone}",
        f"b.svs: {gone}",
        f"cohort2: {gone}",
        "loop: is a link that leads back to itself. Needed a slide. Mend or remove it.",
    ]


def test_pipes_sockets_and_devices_called_as_slides_are_named_and_never_opened(tmp_path: Path):
    touch(tmp_path, "a.svs", "series/1.dcm")
    for pipe in ("b.svs", "c", "series/2.dcm"):
        os.mkfifo(tmp_path / pipe)
    os.mknod(tmp_path / "d.tif", 0o140600)
    (tmp_path / "e.png").symlink_to("/dev/zero")
    slides, left_out = found_in(tmp_path)
    assert slides == ["a.svs", "series/1.dcm"]
    assert [reason.partition(". ")[0] for reason in left_out] == [
        "b.svs: is a named pipe",
        "d.tif: is a socket",
        "e.png: is a device",
        "series/2.dcm: is a named pipe",
    ]


def test_names_that_cannot_be_written_down_are_named_in_escapes(tmp_path: Path):
    touch(tmp_path, "a.svs", os.fsdecode(b"caf\xe9.svs"), "x\ny.svs", os.fsdecode(b"\xff/deep/b.svs"))
    touch(tmp_path, os.fsdecode(b"notes\xe9.txt"))
    slides, left_out = found_in(tmp_path)
    assert slides == ["a.svs"]
    assert [reason.partition(". ")[0] for reason in left_out] == [
        r"caf\xe9.svs: its name is not UTF-8 (byte \xe9)",
        r"x\ny.svs: its name holds '\\n'",
        r"\xff/deep/b.svs: its name is not UTF-8 (byte \xff)",
    ]


def test_a_link_with_another_name_mends_a_name_that_cannot_be_written_down(tmp_path: Path):
    touch(tmp_path, os.fsdecode(b"caf\xe9.svs"), os.fsdecode(b"\xff/b.svs"))
    (tmp_path / "cafe.svs").symlink_to(os.fsdecode(b"caf\xe9.svs"))
    (tmp_path / "y").symlink_to(os.fsdecode(b"\xff"))
    assert found_in(tmp_path) == (["cafe.svs", "y/b.svs"], [])


def test_nothing_in_the_folder_of_the_outputs_is_a_slide_or_named(tmp_path: Path):
    touch(tmp_path, "a.svs", "out/masks/a.ome.tif", "output.svs")
    (tmp_path / "out" / "gone.tif").symlink_to("nowhere")
    (tmp_path / "l.tif").symlink_to("out/masks/a.ome.tif")
    (tmp_path / "masks").symlink_to("out/masks")
    found = search_slides(tmp_path, without=tmp_path / "out")
    assert [path.name for path in found.slides] == ["a.svs", "output.svs"]
    assert (found.left_out, found.files) == ((), 2)


def test_a_dicom_series_with_a_link_that_leads_nowhere_is_no_whole_series(tmp_path: Path):
    touch(tmp_path, "s/1.dcm", "s/2.dcm")
    (tmp_path / "s" / "3.dcm").symlink_to("gone.dcm")
    slides, left_out = found_in(tmp_path)
    assert slides == ["s/1.dcm", "s/2.dcm"]  # without a series in its header each is its own
    assert left_out[0].startswith("s/3.dcm: is a link to gone.dcm")


def test_a_tree_deeper_than_the_stack_of_python_is_searched(tmp_path: Path):
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(1500):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(os.open("a.svs", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        slides, left_out = found_in(tmp_path)
    finally:
        os.close(here)
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)  # too deep for shutil.rmtree
    assert slides == ["d/" * 1500 + "a.svs"]
    assert left_out == []


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_opening_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str):
    path = tmp_path / "a.svs"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    said: list[str] = []

    def try_it() -> None:
        try:
            open_slide(path)
        except SlideError as error:
            said.append(str(error))

    thread = threading.Thread(target=try_it, daemon=True)
    thread.start()
    thread.join(5)
    assert said == [
        f"{path}: is a {'named pipe' if kind == 'pipe' else 'device'}. Needed a slide file or folder. Check the "
        "path."
    ]


def test_a_slide_with_an_odd_name_opens_under_a_clean_id(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", pyramid(count=1), tile=(64, 64), compression="deflate")
    for name, slide_id in (
        (os.fsdecode(b"caf\xe9.tif"), "caf_"),
        ("12:30.tif", "12_30"),
        ("a\nb.tif", "a_b"),
    ):
        path = path.rename(tmp_path / name)
        assert open_slide(path).slide_id == slide_id


def test_slides_are_told_by_content_under_any_name_and_other_files_are_not(tmp_path: Path):
    tiff = write_tiff(tmp_path / "a.tif", pyramid(count=1), tile=(64, 64), compression="deflate").read_bytes()
    for name in ("b.qptiff", "c.ptif", "d", "e.scan", "f.vsi", "notes.txt", "camera.dng"):
        (tmp_path / name).write_bytes(tiff)
    touch(tmp_path, "g.czi", "h.isyntax", "i.xyz", "j")
    (tmp_path / "k.zvi").write_bytes(b"ZISRAWFILE")
    slides, left_out = found_in(tmp_path)
    assert slides == [
        "a.tif", "b.qptiff", "c.ptif", "d", "e.scan", "f.vsi", "g.czi", "h.isyntax", "k.zvi"
    ]  # fmt: skip
    assert left_out == []


def test_dicom_slides_are_told_from_what_lies_beside_them(tmp_path: Path):
    small = picture(60, 50)
    how = {"side": 64}
    for name in ("one/IM0", "one/IM1", "two/a.dcm", "two/b", "alone/a.dcm", "mixed/x.dcm", "mixed/y.dcm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = picture(30, 25) if name == "two/b" else small
        write_dicom(tmp_path / name, pixels, series="1.7" if name == "mixed/y.dcm" else "1.6", **how)
    write_dicom(tmp_path / "two" / "label.dcm", small, kind="LABEL", series="1.8", **how)
    (tmp_path / "labels").mkdir()
    for kind in ("LABEL", "OVERVIEW", "THUMBNAIL"):
        write_dicom(tmp_path / "labels" / f"{kind}.dcm", small, kind=kind, series="1.9", **how)
    write_other(tmp_path / "one" / "ann.dcm", "1.2.840.10008.5.1.4.1.1.91.1")
    write_other(tmp_path / "one" / "DICOMDIR", "1.2.840.10008.1.3.10")
    write_other(tmp_path / "alone" / "sr.dcm", "1.2.840.10008.5.1.4.1.1.88.33")
    write_other(tmp_path / "report.dcm", "1.2.840.10008.5.1.4.1.1.88.33")
    slides, left_out = found_in(tmp_path)
    assert slides == ["alone/a.dcm", "mixed/x.dcm", "mixed/y.dcm", "one", "two"]
    assert left_out == []
    assert [is_slide(tmp_path / name) for name in ("one", "mixed", "labels", "one/IM0", "one/ann.dcm")] == [
        True, False, False, True, False,
    ]  # fmt: skip
    assert open_slide(tmp_path / "two").size.width == 60


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2",
                                    "1.2.840.10008.1.2.1.99"])  # fmt: skip
def test_series_and_kind_are_those_that_pydicom_reads(tmp_path: Path, syntax: str):
    how = {"syntax": syntax, "encode": None, "photometric": "RGB", "side": 64}
    path = write_dicom(tmp_path / "a", picture(60, 50), kind="OVERVIEW", series="1.2.840.7", **how)
    head = path.read_bytes()[:2000]
    walk = walked(head, parsed_meta(head))
    if syntax.endswith((".2.2", ".99")):
        assert walk is None  # these are left to pydicom
    else:
        assert walk == {0x00080008: b"DERIVED\\PRIMARY\\OVERVIEW\\NONE ", 0x0020000E: b"1.2.840.7\0"}
    assert read_series(path, parsed_meta(head)) == ("1.2.840.7", Kind.OVERVIEW)
    found = dicom_image(path, head)
    assert (found.series, found.kind) == ("1.2.840.7", Kind.OVERVIEW)


def test_dicom_names_that_cannot_be_written_down_fail_alone(tmp_path: Path):
    odd = os.fsdecode(b"caf\xe9")
    for folder in ("ok", odd):
        (tmp_path / folder).mkdir()
        for name in ("IM0", "IM1"):
            write_dicom(tmp_path / folder / name, picture(60, 50), side=64, series=f"1.{len(folder)}")
    (tmp_path / "ok" / "loop").symlink_to("..")
    slides, left_out = found_in(tmp_path)
    assert slides == ["ok/IM0"]  # the link beside it may lead to another slide
    assert [reason.partition(". ")[0].partition(" (")[0] for reason in left_out] == [
        r"caf\xe9: its name is not UTF-8",
        f"ok/loop: is a link back to {tmp_path}, in which it lies",
    ]
