"""Odd names on the command line: shown in escapes, never the end of the work."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from wsi_deform.cli.main import app


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[object, str, str]:
    """Exit code, output and errors of the whole program in a terminal that takes nothing but ASCII."""
    out, errors = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", ["wsi-deform", *map(str, arguments)])
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", errors)
        with pytest.raises(SystemExit) as ended:
            app()
        for stream in (out, errors):
            stream.flush()
    return ended.value.code, out.buffer.getvalue().decode(), errors.buffer.getvalue().decode()


def test_names_that_the_terminal_cannot_show_are_shown_in_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, shown in (("\u4e16.tif", r"\u4e16"), (os.fsdecode(b"caf\xe9.tif"), "caf_")):
        path = tmp_path / name
        Image.new("RGB", (100, 80), (200, 100, 150)).save(path)
        code, output, _ = call(monkeypatch, "inspect", path)
        assert code == 0
        assert output.startswith(shown)
    (tmp_path / os.fsdecode(b"bad\xe9.tif")).touch()
    code, _, errors = call(monkeypatch, "inspect", tmp_path / os.fsdecode(b"bad\xe9.tif"))
    assert code == 2
    assert "error:" in errors
    assert r"bad\udce9.tif" in errors


def test_what_is_no_file_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.svs")
    code, _, errors = call(monkeypatch, "inspect", tmp_path / "pipe.svs")
    assert code == 2
    assert "pipe.svs: is a named pipe. Needed a slide file or folder" in errors


def test_manifest_build_names_what_it_leaves_out_and_writes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.svs", os.fsdecode(b"caf\xe9.svs")):
        (tmp_path / "in" / name).touch()
    code, output, _ = call(
        monkeypatch, "manifest", "build", tmp_path / "in", "--out", tmp_path / "m.csv", "--patient", "(.*)"
    )
    assert code == 0
    assert output.startswith(f"{tmp_path / 'm.csv'}: 1 slide of 1 patient")
    assert r"left out: " in caplog.text
    assert r"caf\xe9.svs: its name is not UTF-8" in caplog.text
