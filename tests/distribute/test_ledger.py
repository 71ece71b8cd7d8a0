"""The state of each slide."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from wsi_deform.distribute.ledger import Ledger, State, is_being_done, this_process
from wsi_deform.errors import MaskError
from wsi_deform.mask.folder import MaskFolder


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(MaskFolder(tmp_path))


def test_a_state_is_read_as_it_was_written(ledger: Ledger) -> None:
    state = State(
        slide_id="a", status="done", mpp=0.25, class_pixels=(3, 4), versions={"torch": "2"}, **this_process()
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


def test_done_needs_the_state_the_fingerprint_and_the_mask(ledger: Ledger) -> None:
    state = State(slide_id="a", status="done", fingerprint="f")
    assert not ledger.is_done(state, "f")
    ledger.folder.mask("a").parent.mkdir()
    ledger.folder.mask("a").write_bytes(b"")
    assert ledger.is_done(state, "f")
    assert not ledger.is_done(state, "g")
    assert not ledger.is_done(dataclasses.replace(state, status="failed"), "f")


def test_only_a_living_process_of_the_same_start_is_at_work() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        host = this_process()["host"]
        started = psutil.Process(process.pid).create_time()
        state = State(slide_id="a", status="running", host=host, pid=process.pid, process_started=started)
        assert is_being_done(state)
        assert not is_being_done(dataclasses.replace(state, status="done"))
        assert not is_being_done(dataclasses.replace(state, process_started=started - 100))
        assert not is_being_done(dataclasses.replace(state, host="elsewhere"))
        assert not is_being_done(dataclasses.replace(state, pid=os.getpid()))
        process.communicate(b"\n")
    assert not is_being_done(state)


def test_a_ledger_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MaskError, match=r"state .*a\.json: cannot be written"):
        Ledger(MaskFolder(tmp_path / "file")).write(State(slide_id="a"))
