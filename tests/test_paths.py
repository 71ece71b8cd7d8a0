"""Odd names and odd files: what is shown, what is refused, what an id may be."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from wsi_deform.files import name_aside, write_json
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.paths import (
    LONGEST_ID_BYTES,
    clean_id,
    id_key,
    id_problem,
    path_problem,
    printable,
    trouble_at,
)

NOT_UTF8 = os.fsdecode(b"caf\xe9.svs")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("slides/Gewebe 1 \u00e9\u4e16.svs", "slides/Gewebe 1 \u00e9\u4e16.svs"),
        ("narrow\u202fspace.svs", "narrow\u202fspace.svs"),
        (NOT_UTF8, r"caf\xe9.svs"),
        ("two\nlines.svs", r"two\nlines.svs"),
        ("red\x1b[31m.svs", r"red\x1b[31m.svs"),
        ("c1\x9b.svs", r"c1\x9b.svs"),
        ("lone\ud800.svs", r"lone\ud800.svs"),
        ("lone\udd00.svs", r"lone\udd00.svs"),
        (os.fsdecode(b"\xff.svs"), r"\xff.svs"),
        ("par\u2029.svs", r"par\u2029.svs"),
        ("none\uffff.svs", r"none\uffff.svs"),
    ],
)
def test_a_path_is_shown_with_escapes_for_what_cannot_be_written(path: str, shown: str):
    assert printable(Path(path)) == shown
    assert shown.encode()
    assert (path_problem(Path(path)) == "") == (shown == path)


def test_what_is_wrong_with_a_name_is_said_with_the_remedy():
    assert path_problem(NOT_UTF8).startswith(r"its name is not UTF-8 (byte \xe9). Needed")
    assert path_problem("a\nb").startswith(r"its name holds '\\n'. Needed")
    assert "Rename it" in path_problem(NOT_UTF8)


@pytest.mark.parametrize(
    ("slide_id", "needed"),
    [
        ("case.7 (HE)", ""),
        ("console", ""),
        ("x" * 200, ""),
        ("x" * 201, "at most 200 bytes (it has 201)"),
        ("\u4e16" * 67, "at most 200 bytes (it has 201)"),
        ("../x", "a name without /"),
        ("a/b", "a name without /"),
        ("a\\b", "a name without /"),
        ("a:b", "a name without /"),
        (".hidden", "no leading dot"),
        ("", "a name without /"),
        (" ", "a name without /"),
        ("a\x85b", "printable"),
        (NOT_UTF8, "printable"),
        ("con", "Windows"),
        ("NUL.1", "Windows"),
        ("lpt9", "Windows"),
        ("com\u00b2", "Windows"),
    ],
)
def test_what_an_id_must_be_is_said(slide_id: str, needed: str):
    found = id_problem(slide_id)
    assert needed in found
    assert (found == "") == (needed == "")


@pytest.mark.parametrize(
    ("name", "slide_id"),
    [
        ("case.7 (HE)", "case.7 (HE)"),
        ("12:30", "12_30"),
        ('a<b>|"?*\\', "a_b______"),
        ("..", "_."),
        (".hidden", "_hidden"),
        ("", "_"),
        ("con.1", "_con.1"),
        ("a\tb", "a_b"),
        (os.fsdecode(b"caf\xe9"), "caf_"),
    ],
)
def test_convention_an_id_has_an_underscore_for_what_no_id_may_hold(name: str, slide_id: str):
    assert clean_id(name) == slide_id
    assert id_problem(slide_id) == ""


def test_accents_written_in_two_ways_and_letter_case_are_one_id():
    assert id_key("Caf\u00e9") == id_key("cafe\u0301")
    assert id_key("a") != id_key("b")


def test_every_output_of_the_longest_id_fits_a_disk(tmp_path: Path):
    folder, slide_id = MaskFolder(tmp_path), "x" * LONGEST_ID_BYTES
    paths = (*folder.outputs(slide_id).values(), folder.state(slide_id), folder.lease(slide_id))
    assert len(paths) == 10
    for path in paths:
        assert len(f".aside-{'0' * 12}-{path.name}") <= 255


def test_what_lies_at_a_path_is_said(tmp_path: Path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    os.mknod(tmp_path / "socket", 0o140600)
    for link, target in (("gone", "nowhere"), ("self", "self"), ("null", "/dev/null"), ("good", "file")):
        (tmp_path / link).symlink_to(target)
    names = ("file", "good", "", "none", "gone", "self", "pipe", "socket", "null", "x" * 256, "a\0b")
    assert [trouble_at(tmp_path / name) for name in names] == [
        "",
        "",
        "",
        "does not exist",
        "is a link to nowhere, which does not exist",
        "is a link that leads back to itself",
        "is a named pipe",
        "is a socket",
        "is a device",
        "cannot be looked at (File name too long)",
        "does not exist",
    ]


def test_json_with_a_name_that_is_not_utf8_is_written_and_reads_back_exactly(tmp_path: Path):
    write_json(tmp_path / "a.json", {"slide": NOT_UTF8, "é": "世"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "世" in text
    assert os.fsencode(json.loads(text)["slide"]) == b"caf\xe9.svs"


def test_what_is_no_character_is_no_name():
    assert printable("a\ufffe") == r"a\ufffe"
    assert id_problem("a\ufffe") == "a name of printable characters"
    assert clean_id("a\ufffeb") == "a_b"


@pytest.mark.parametrize(
    ("slide_id", "right"),
    [("com0", False), ("com10", True), ("aux.a.b", False), ("lpt\u00b9", False), ("...", False)],
)
def test_names_of_devices_and_dots_are_no_ids(slide_id: str, right: bool):
    assert (id_problem(slide_id) == "") == right
    assert (clean_id(slide_id) == slide_id) == right


def test_a_file_written_aside_has_a_name_of_its_own():
    first, second = (name_aside(Path("folder/a.ome.tif")) for _ in range(2))
    assert first != second
    assert re.fullmatch(r"folder/\.aside-[0-9a-f]{12}-a\.ome\.tif", str(first))
