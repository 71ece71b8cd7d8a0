"""The state of each slide."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from wsi_deform.distribute.ledger import Ledger, State, is_broken, this_process
from wsi_deform.errors import MaskError
from wsi_deform.mask.folder import MaskFolder


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(MaskFolder(tmp_path))


def test_a_state_is_read_as_it_was_written(ledger: Ledger) -> None:
    kept = State(slide_id="a", status="done", fingerprint="old", outputs={"mask": "3-ab"}, class_pixels=(1,))
    state = State(
        slide_id="a",
        status="failed",
        mpp=0.25,
        class_pixels=(3, 4),
        identity={"bytes": "7"},
        versions={"torch": "2"},
        kept=kept,
        **this_process(),
    )
    ledger.write(state)
    assert ledger.read("a") == state
    assert ledger.all() == [state]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"slide_id": "a", "status": "odd"}',
        '{"slide_id": "a", "status": "done", "class_pixels": null}',
        '{"slide_id": "a", "status": []}',
        '{"status": "done"}',
    ],
)
def test_a_broken_state_is_told_from_none_and_set_aside(ledger: Ledger, text: str) -> None:
    assert ledger.read("a") == State(slide_id="a")
    path = ledger.folder.state("a")
    path.parent.mkdir()
    for aside in ("a.json.broken", "a.json.broken-1"):
        path.write_text(text)
        broken = ledger.read("a")
        assert (broken.status, is_broken(broken)) == ("not_started", True)
        assert broken.error.startswith(f"broken state {path}: it is no ")
        assert path.read_text() == text  # who only looks changes nothing
        mended = ledger.mend(broken)
        assert mended.error == f"{broken.error}. It was set aside as {aside}"
        assert path.with_name(aside).read_text() == text
        assert not path.exists()
    assert ledger.all() == []
    assert ledger.mend(State(slide_id="a", status="failed", error="broken state of mind")).error


def test_a_state_of_another_slide_is_broken_and_one_that_cannot_be_read_is_an_error(ledger: Ledger) -> None:
    ledger.write(State(slide_id="b", status="done"))
    ledger.folder.state("b").rename(ledger.folder.state("a"))
    assert ledger.read("a").error.endswith("a.json: it is of the slide b")
    ledger.folder.state("a").unlink()
    ledger.folder.states.rmdir()
    ledger.folder.states.write_text("")
    with pytest.raises(MaskError, match=r"state .*a\.json: cannot be read \(.*Check the folder"):
        ledger.read("a")


def test_what_no_text_holds_and_a_folder_in_the_place_of_a_state_are_set_aside(ledger: Ledger) -> None:
    path = ledger.folder.state("a")
    path.parent.mkdir()
    path.write_bytes(b"\x89PNG\xff\xfe")
    assert "a.json: it is no JSON: 'utf-8' codec can't decode byte" in ledger.read("a").error
    ledger.mend(ledger.read("a"))
    path.mkdir()
    (path / "file").write_text("kept")
    assert ledger.read("a").error == f"broken state {path}: it is a folder"
    assert [is_broken(state) for state in ledger.all()] == [True]
    assert ledger.mend(ledger.read("a")).error.endswith("It was set aside as a.json.broken-1")
    assert (path.with_name("a.json.broken-1") / "file").read_text() == "kept"
    ledger.write(State(slide_id="a", status="done"))
    assert ledger.read("a").status == "done"


def test_a_state_of_another_version_is_read_as_far_as_it_is_known(ledger: Ledger) -> None:
    path = ledger.folder.state("a")
    path.parent.mkdir()
    path.write_text(json.dumps({"slide_id": "a", "status": "done", "process_started": 1.5, "later": [1]}))
    assert ledger.read("a") == State(slide_id="a", status="done")


def test_the_result_is_what_lies_in_the_folder(ledger: Ledger) -> None:
    done = State(slide_id="a", status="done", fingerprint="1")
    failed = State(slide_id="a", status="failed", fingerprint="2", kept=done)
    assert done.result == done
    assert failed.result == done
    assert dataclasses.replace(failed, kept=None).result is None
    ledger.write(failed)
    assert ledger.results() == []  # without its mask it is none
    ledger.folder.mask("a").parent.mkdir()
    ledger.folder.mask("a").write_bytes(b"")
    assert ledger.results() == [done]


def test_a_ledger_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        MaskError,
        match=r"output folder .*\(state .*a\.json: cannot be written: ",
    ):
        Ledger(MaskFolder(tmp_path / "file")).write(State(slide_id="a"))


def test_a_ledger_never_makes_its_folder_anew(tmp_path: Path) -> None:
    with pytest.raises(
        MaskError,
        match=r"output folder .*\(state .*a\.json: cannot be written: ",
    ):
        Ledger(MaskFolder(tmp_path / "unmounted")).write(State(slide_id="a"))
    assert not (tmp_path / "unmounted").exists()
