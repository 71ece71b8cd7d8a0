"""`wsi-deform doctor` as a whole: what it prints, how it ends, what it leaves behind."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from wsi_deform.cli.doctor import lines_of
from wsi_deform.cli.main import typer_app
from wsi_deform.doctor import examine
from wsi_deform.doctor.finding import Finding

FOUND = (
    Finding(topic="codecs", subject="tiff jpeg", status="ok", text="read as it was drawn"),
    Finding(topic="codecs", subject="tiff webp", status="remark", text="is missing", remedy="pip install x"),
)
FAULT = Finding(topic="readers", subject="dicom", status="fault", text="is missing", remedy="pip install y")


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """What a whole examination says, with a folder for masks whose name is nobody's business."""
    folder = tmp_path_factory.mktemp("dr_smith") / "ward_7"
    done = subprocess.run(
        [sys.executable, "-m", "wsi_deform", "doctor", "--json", "--out", str(folder / "masks")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return done, folder


def test_a_sound_machine_has_no_fault_and_everything_was_tried(whole):
    done, _ = whole
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert data["counts"]["fault"] == 0
    assert data["versions"]["torch"].startswith(("2.", "3."))
    looked_at = {(each["topic"], each["subject"]): each["text"] for each in data["findings"]}
    for name in ("none", "jpeg", "jpeg2000", "deflate", "lzw", "webp", "zstd", "packbits", "lzma", "jpegxl"):
        assert looked_at["codecs", f"tiff {name}"] == "read as it was drawn"
    for name in ("openslide", "dicom", "ome-zarr", "picture", "address"):
        assert looked_at["readers", name].startswith("read as it was drawn")
    assert looked_at["dask", "scheduler"] == looked_at["devices", "cpu"] == "computes as it should"
    assert looked_at["segment", "tiny slide"].startswith("a slide of 640 x 160 px segmented into ")
    assert looked_at["out", "moves"] == "files are made aside and moved into place in one step"
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    extras = {*pyproject["project"]["optional-dependencies"]} - {"dev"}
    assert {subject for topic, subject in looked_at if topic == "extras"} == extras


def test_nothing_is_left_behind_and_out_is_not_made(whole):
    _, folder = whole
    assert not folder.exists()
    assert [*folder.parent.iterdir()] == []


def test_what_is_printed_names_neither_places_nor_people(whole):
    done, folder = whole
    said = done.stdout + done.stderr
    places = (folder.parent.name, folder.name, str(Path.home()), sys.prefix, str(Path(__file__).parents[2]))
    assert [place for place in places if place in said] == []
    assert getpass.getuser() == "root" or getpass.getuser() not in said


def test_lines_are_at_most_80_columns_wide_and_say_what_to_do():
    found = Finding(
        topic="a", subject="b", status="fault", text="word " * 40, remedy="pip install something " * 5
    )
    lines = [*lines_of(found)]
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("  fault   b: word word")
    assert lines[-1].startswith("          ")
    assert sum(line.count("word") for line in lines) == 40
    assert [*lines_of(FOUND[1])] == ["  remark  tiff webp: is missing", "          pip install x"]


def run(monkeypatch: pytest.MonkeyPatch, found: tuple[Finding, ...], *arguments: str) -> Any:
    monkeypatch.setattr(examine, "findings", lambda out: iter(found))
    return CliRunner().invoke(typer_app, ["doctor", *arguments])


def test_remarks_end_well_and_faults_do_not(monkeypatch):
    done = run(monkeypatch, FOUND)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "codecs",
        "  ok      tiff jpeg: read as it was drawn",
        "  remark  tiff webp: is missing",
        "          pip install x",
        "",
        "1 ok, 1 remark, no faults.",
    ]
    done = run(monkeypatch, (*FOUND, FAULT))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[4:7] == [
        "readers",
        "  fault   dicom: is missing",
        "          pip install y",
    ]
    assert done.stdout.endswith("\n1 ok, 1 remark, 1 fault.\n")


def test_quiet_says_faults_only_and_json_all(monkeypatch):
    done = run(monkeypatch, (*FOUND, FAULT), "-q")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "  fault   readers dicom: is missing\n          pip install y\n"
    done = run(monkeypatch, (*FOUND, FAULT), "--json")
    assert done.exit_code == 1
    data = json.loads(done.stdout)
    assert data["counts"] == {"ok": 1, "remark": 1, "fault": 1}
    assert data["findings"][2] == {
        "topic": "readers",
        "subject": "dicom",
        "status": "fault",
        "text": "is missing",
        "remedy": "pip install y",
    }


def test_the_command_line_loads_nothing_of_it_before_it_is_asked_for():
    asked = "import sys, wsi_deform.cli.main; print([n for n in sys.modules if n.startswith('wsi_deform.doctor')])"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
