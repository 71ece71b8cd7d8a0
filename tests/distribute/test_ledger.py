"""The state of each slide."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from wsi_deform.distribute.ledger import Ledger, State, this_process
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
def test_a_slide_without_a_readable_state_was_not_started(ledger: Ledger, text: str) -> None:
    assert ledger.read("a").status == "not_started"
    path = ledger.folder.state("a")
    path.parent.mkdir()
    path.write_text(text)
    assert ledger.read("a") == State(slide_id="a")


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
    with pytest.raises(MaskError, match=r"state .*a\.json: cannot be written"):
        Ledger(MaskFolder(tmp_path / "file")).write(State(slide_id="a"))


def test_a_ledger_never_makes_its_folder_anew(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"state .*a\.json: cannot be written"):
        Ledger(MaskFolder(tmp_path / "unmounted")).write(State(slide_id="a"))
    assert not (tmp_path / "unmounted").exists()
