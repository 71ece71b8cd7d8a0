"""Passwords and signatures of URLs are never written and never printed."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from range_server import RangeServer, serving
from tiny_study import tiny_model, tiny_study

from wsi_deform.cli import main
from wsi_deform.cli.console import RedactingFormatter
from wsi_deform.distribute.ledger import State
from wsi_deform.errors import ManifestError, SlideError
from wsi_deform.manifest.read import read_manifest
from wsi_deform.provenance import provenance
from wsi_deform.slide.path import SlideUrl

pytest.importorskip("aiohttp", reason="http URLs need aiohttp")

SECRETS = ("PASSW0RD", "SIGNATURE0", "CREDENTIAL0", "FRAGMENT0")


def secret_url(server: RangeServer, name: str, chain: str = "") -> str:
    place = server.url(name).replace("http://", "http://me:PASSW0RD@")
    return f"{chain}{place}?X-Amz-Signature=SIGNATURE0&sig=CREDENTIAL0#FRAGMENT0"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    (folder / "slides" / "broken.tif").write_bytes((folder / "slides" / "P001-A.tif").read_bytes()[:3000])
    return folder


@pytest.fixture
def server(study: Path) -> Iterator[RangeServer]:
    with serving(study / "slides") as running:
        yield running


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and all that a command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "wsi_deform", "--verbose", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "400"},
    )
    return done.returncode, done.stdout


def leaks(folder: Path, printed: str) -> list[str]:
    """Where a secret stands: in a file, in its name, or in what was printed."""
    found = [f"printed {secret}" for secret in SECRETS if secret in printed]
    for path in sorted(folder.rglob("*")):
        held = str(path).encode() + (path.read_bytes() if path.is_file() else b"")
        found += [f"{path} {secret}" for secret in SECRETS if secret.encode() in held]
    return found


@pytest.mark.parametrize("chain", ["", "simplecache::"])
def test_a_slide_with_a_signed_url_is_segmented_and_nothing_says_its_secrets(
    study: Path, server: RangeServer, tmp_path: Path, chain: str
) -> None:
    url = secret_url(server, "P001-A.tif", chain)
    code, printed = run(
        "segment", "--slides", url, "--model", study / "run", "--out", tmp_path, "--device", "cpu"
    )
    assert code == 0, printed
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["P001-A.ome.tif"]
    shown = chain + server.url("P001-A.tif")
    record = json.loads(next((tmp_path / "runs").iterdir()).read_text())
    command = record["provenance"]["command"]
    assert command[command.index("--slides") + 1] == shown
    assert json.loads((tmp_path / "states" / "P001-A.json").read_text())["slide"] == shown
    code, more = run("report", tmp_path)
    assert code == 0
    assert shown in (tmp_path / "report.html").read_text()
    assert leaks(tmp_path, printed + more) == []


@pytest.mark.parametrize("name", ["broken.tif", "missing.tif"])
def test_a_signed_url_that_fails_is_told_without_its_secrets(
    study: Path, server: RangeServer, tmp_path: Path, name: str
) -> None:
    url = secret_url(server, name)
    code, printed = run(
        "segment", "--slides", url, "--model", study / "run", "--out", tmp_path, "--device", "cpu"
    )
    assert code == 1, printed
    assert server.url(name) in printed
    code, more = run("inspect", url)
    assert code == 2
    assert server.url(name) in more
    assert leaks(tmp_path, printed + more) == []


def test_a_command_that_is_not_understood_is_quoted_without_secrets(
    server: RangeServer, tmp_path: Path
) -> None:
    url = secret_url(server, "a.tif")
    code, printed = run("inspect", url, url)
    assert code == 2
    assert "unexpected extra argument" in printed
    assert leaks(tmp_path, printed) == []


def test_a_log_line_and_an_error_that_nobody_foresaw_are_told_without_secrets(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import logging

    url = "https://me:PASSW0RD@host/a.tif?sig=SIGNATURE0"
    try:
        raise RuntimeError(f"no answer from {url}")
    except RuntimeError as error:
        main.show_redacted(type(error), error, error.__traceback__)
        record = logging.LogRecord("x", logging.INFO, "f", 1, "asked %s", (url,), sys.exc_info())
        printed = capsys.readouterr().err + RedactingFormatter("%(message)s").format(record)
    assert "RuntimeError: no answer from https://host/a.tif" in printed
    assert "asked https://host/a.tif" in printed
    assert leaks(tmp_path, printed) == []


def test_states_errors_and_provenance_hold_no_secrets(tmp_path: Path) -> None:
    url = "az://me:PASSW0RD@host/a.tif?sv=1&sig=SIGNATURE0"
    state = State(slide_id="a", slide=url, error=f"x {url}", traceback=f"y {url}", remark=f"z {url}")
    assert (state.slide, state.error, state.traceback, state.remark) == (
        "az://host/a.tif",
        "x az://host/a.tif",
        "y az://host/a.tif",
        "z az://host/a.tif",
    )
    assert str(SlideError(f"slide {url}: gone.")) == "slide az://host/a.tif: gone."
    assert provenance(command=["segment", url])["command"] == ["segment", "az://host/a.tif"]
    assert provenance(command=f"segment {url} --mpp 1")["command"] == "segment az://host/a.tif --mpp 1"


def test_a_url_keeps_its_secrets_for_the_worker_that_opens_it_and_shows_them_to_nobody() -> None:
    url = SlideUrl("zip://a.tif::https://me:PASSW0RD@host/b.zip?sig=SIGNATURE0")
    assert pickle.loads(pickle.dumps(url)).url == url.url
    assert repr(url) == "SlideUrl('zip://a.tif::https://host/b.zip')"
    assert str(url) == "zip://a.tif::https://host/b.zip"
    assert url.name == "a.tif"
    assert SlideUrl("simplecache::https://me:PASSW0RD@host/f/b.tif?sig=SIGNATURE0").parts == ("f", "b.tif")


def test_a_manifest_with_a_url_is_refused_without_its_secrets(tmp_path: Path) -> None:
    url = "https://me:PASSW0RD@host/a.tif?X-Amz-Signature=SIGNATURE0"
    (tmp_path / "manifest.csv").write_text(f"slide,mask\n{url},{url}\n")
    with pytest.raises(ManifestError) as error:
        read_manifest(tmp_path / "manifest.csv", check_files=False)
    said = str(error.value)
    assert "2 problems" in said
    assert "line 2, column slide: the URL https://host/a.tif. Needed the path of a file" in said
    assert [secret for secret in SECRETS if secret in said + repr(error.value)] == []
