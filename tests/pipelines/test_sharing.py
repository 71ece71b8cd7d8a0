"""Processes that share one OUT and are killed at random: a short trial, and what would be noticed."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from wsi_deform.config import read_config
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.mask.folder import MaskFolder

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from pipelines import sharing
    from pipelines.benchmarks import batch, measure, tables
    from pipelines.benchmarks.results import Settings
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


def test_a_child_is_compared_by_both_clocks_and_two_workers_with_one() -> None:
    def row(case: str, seconds: float, cpu_seconds: float) -> dict[str, str]:
        return {"case": case, "slides": "50", "seconds": str(seconds), "cpu_seconds": str(cpu_seconds)}

    rows = [
        row("child", 10.2, 10.4),
        row("in process", 10, 10),
        row("workers 1", 120, 119),
        row("workers 2", 70, 130),
    ]
    shown = tables.batch_table(rows)
    assert "- seconds with a child / in process, at most 1.03: 1.02 \u2013 **met**" in shown
    assert "- CPU seconds with a child / in process, at most 1.03: 1.04 \u2013 **not met**" in shown
    assert "- workers 2, 50 slides of 2 s: 70.0 s, 130.0 CPU s" in shown
    assert "- slides per second of two workers / of one, at least 1.6: 1.71 \u2013 **met**" in shown
    rows[-1] = row("workers 2", 80, 130)
    assert "at least 1.6: 1.50 \u2013 **not met**" in tables.batch_table(rows)


def test_slides_that_take_long_have_the_samples_of_two_seconds() -> None:
    cases: list[measure.Case] = []

    class Pool:
        def __init__(self, threads: int) -> None:
            assert threads == 1

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None: ...

        def measure(self, given: list[measure.Case], *, runs: int) -> list[dict[str, object]]:
            cases.extend(given)
            return []

    settings = Settings(
        out=Path("out"), cache=Path("cache"), quick=False, threads=1, runs=5, only=("workers 1", "workers 2")
    )
    with patch("pipelines.benchmarks.batch.Pool", Pool):
        batch.benchmark(settings)
    assert [(case.name, case.params["slides"], case.params["options"]) for case in cases] == [
        ("workers 1", 50, "--workers 1"),
        ("workers 2", 50, "--workers 2"),
    ]
    assert all(case.params["is_long"] for case in cases)
    assert read_config(changes=batch.LONG_SETTINGS).sampling.budget == (256, 512)
    assert batch.LONG_SIZE.area > 256 * 512
