"""Processes that share one OUT and are killed at random: a short trial, and what would be noticed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.mask.folder import MaskFolder

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from pipelines import sharing
    from pipelines.benchmarks import batch, tables
finally:
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharing")
    sharing.prepare(folder, 4)
    sharing.segment(folder, folder / "alone")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="forked processes are killed")
def test_three_processes_on_one_folder_of_which_some_are_killed_do_what_one_does(
    study: Path, tmp_path: Path
) -> None:
    found = sharing.trial(study, tmp_path / "out", study / "alone", processes=3, over_s=3.0, seed=1)
    assert found.problems == ()
    assert len(found.killed) == 3
    masks = sorted(path.name for path in (tmp_path / "out" / "masks").iterdir())
    assert masks == [f"{path.stem}.ome.tif" for path in sorted((study / "slides").iterdir())]


def test_what_is_lost_left_or_other_is_named(study: Path, tmp_path: Path) -> None:
    out = MaskFolder(tmp_path / "out")
    shutil.copytree(study / "alone", out.path)
    assert sharing.differences(study / "alone", out.path) == []
    first, second, third, _ = (path.stem for path in sorted((study / "slides").iterdir()))
    out.mask(first).unlink()
    out.overlay(second).write_bytes(b"other")
    (out.aside / "x").mkdir(parents=True)
    (out.aside / "x" / "left").touch()
    out.lease(third).touch()
    Ledger(out).write(State(slide_id=third, status="running"))
    assert sharing.differences(study / "alone", out.path) == [
        f"masks/{first}.ome.tif is missing",
        ".aside/x/left was left",
        f"overlays/{second}.jpg differs",
        f"{third} is running",
        f".{third}.lease was left",
    ]


def test_the_cost_of_a_call_itself_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    work = batch.ledger(slides=10)
    facts = work.run(0)
    assert work.finish is not None
    work.finish()
    assert list(tmp_path.iterdir()) == []
    assert facts["last_by_first"] == facts["last_ms"] / facts["first_ms"] > 0
    row = {
        "case": "ledger",
        "slides": "10",
        "seconds": "2",
        **{name: str(value) for name, value in facts.items()},
    }
    row |= {"first_ms": "10", "last_ms": "13", "cpu_first_ms": "5", "cpu_last_ms": "5"}
    shown = tables.batch_table([row])
    assert "ms per slide in the first tenth of them 10.0, in the last 13.0" in shown
    assert "- ms per slide of the last tenth / of the first, at most 1.2: 1.30 \u2013 **not met**" in shown
    assert "- CPU ms per slide of the last tenth / of the first, at most 1.2: 1.00 \u2013 **met**" in shown
    json.dumps(facts)
