"""`wsi-deform view`: what it prints, when it opens a browser, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path

import pytest
from drawn_results import drawn_slide
from typer.testing import CliRunner

from wsi_deform.cli import main
from wsi_deform.cli.view import has_screen
from wsi_deform.slide.registry import MAX_IDLE_READERS, READERS
from wsi_deform.viewer.server import Viewer


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT that can be sent to one process")
def test_view_prints_an_address_that_answers_until_ctrl_c(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "wsi_deform",
        "view",
        str(drawn_slide(tmp_path / "s.tif")),
        "--no-browser",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            url, how = process.stdout.readline().strip(), process.stdout.readline().strip()
            assert how == "Open this address in a browser. Ctrl-C ends it."
            with urllib.request.urlopen(f"{url}slides.json", timeout=60) as answer:
                assert b'"id": "s"' in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=60)[0] == "Ended.\n"
            assert process.returncode == 0
        finally:
            process.kill()


@pytest.mark.parametrize(("given", "opened"), [([], 1), (["--no-browser"], 0)])
def test_browser_is_started_with_an_address_that_works_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], opened: int
) -> None:
    started: list[str] = []
    served: list[Viewer] = []

    def serve(viewer: Viewer) -> None:
        served.append(viewer)
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", started.append)
    monkeypatch.setattr("wsi_deform.cli.view.has_screen", lambda: True)
    monkeypatch.setattr(Viewer, "serve_forever", serve)
    try:
        result = CliRunner().invoke(main.typer_app, ["view", str(drawn_slide(tmp_path / "s.tif")), *given])
    finally:
        READERS.keep_at_most(MAX_IDLE_READERS)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == served[0].url
    assert len(started) == opened
    assert not any(served[0].token in url for url in started)


def test_view_of_nothing_is_refused_in_words(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wsi_deform", "view", str(tmp_path / "missing"), "--no-browser"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 2
    assert "missing: does not exist. Needed a folder of masks, or a slide." in done.stderr
    assert "Traceback" not in done.stderr


def test_no_text_browser_takes_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    assert not has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_screen()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert has_screen()
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")
    assert not has_screen()
