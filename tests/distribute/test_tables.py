"""Tables and record of a call while it goes on, and states that are broken: named, set aside, never in the way."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_study import tiny_model, tiny_study

from wsi_deform.distribute import lease as lease_module
from wsi_deform.distribute import tables as tables_module
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.outcome import Batch, NullWatcher, Outcome
from wsi_deform.distribute.plan import planned_slides
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.mask.folder import MaskFolder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    drawn = tiny_study(folder, test=3)
    tiny_model(folder / "run", drawn.classes)
    (folder / "three").mkdir()
    for name, source in zip("abc", sorted((folder / "slides").iterdir()), strict=False):
        shutil.copy(source, folder / "three" / f"{name}.tif")
    return folder


def run(study: Path, out: Path, **options: Any) -> Batch:
    return segment_slides(
        slide_sources(study / "three", out=out), study / "run", out, device="cpu", **options
    )


class Reader(NullWatcher):
    """Reads what lies in the folder whenever a slide has ended."""

    def __init__(self, out: Path) -> None:
        self.folder = MaskFolder(out)
        self.measured: list[list[str]] = []
        self.said: list[str] = []
        self.records: list[tuple[bool, list[str]]] = []

    def outcome(self, outcome: Outcome) -> None:
        with self.folder.measurements.open() as file:
            self.measured.append(sorted({row["slide"] for row in csv.DictReader(file)}))
        self.said.append(self.folder.summary.read_text().splitlines()[4])
        (record,) = (self.folder.path / "runs").iterdir()
        about = json.loads(record.read_text())
        self.records.append((about["complete"], about["left"]))


def test_tables_and_record_follow_each_slide(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables_module, "EVERY_S", 0.0)
    monkeypatch.setattr(tables_module, "SHARE_OF_TIME", 0)
    watcher = Reader(tmp_path / "out")
    run(study, tmp_path / "out", watcher=watcher)
    assert watcher.measured == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert watcher.said == [
        "A call goes on: 1 done, 0 skipped, 0 failed, 2 to go.",
        "A call goes on: 2 done, 0 skipped, 0 failed, 1 to go.",
        "A call goes on: 3 done, 0 skipped, 0 failed.",
    ]
    assert watcher.records == [(False, ["b", "c"]), (False, ["c"]), (False, [])]
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "Last call: 3 done, 0 skipped, 0 failed." in summary
    assert "Stopped before" not in summary


def test_tables_are_written_at_once_and_then_no_more_often_than_they_may(study: Path, tmp_path: Path) -> None:
    # Three small slides take less than EVERY_S: after the first one come all others at the end.
    watcher = Reader(tmp_path / "out")
    run(study, tmp_path / "out", watcher=watcher)
    assert watcher.measured[0] == ["a"]
    assert watcher.measured[1:] in ([["a"], ["a"]], [["a"], ["a", "b", "c"]], [["a", "b"], ["a", "b"]])
    with (tmp_path / "out" / "measurements.csv").open() as file:
        assert {row["slide"] for row in csv.DictReader(file)} == {"a", "b", "c"}


def test_who_writes_tables_is_not_waited_for_on_the_way_but_at_the_end(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "EXPIRE_S", 0.5)
    out = MaskFolder(tmp_path / "out")
    out.path.mkdir()
    # Of a machine that was cut off while it wrote them.
    out.tables_lease.write_text('{"lease": "x", "place": "another", "pid": 1}')
    there: list[bool] = []

    class Looker(NullWatcher):
        def outcome(self, outcome: Outcome) -> None:
            there.append(out.measurements.exists())

    run(study, out.path, watcher=Looker())
    assert there == [False, False, False]
    assert out.measurements.exists()
    assert not out.tables_lease.exists()


@pytest.mark.parametrize(("age_s", "on_the_way"), [(0, 0), (2000, 1)])
def test_of_calls_that_share_a_folder_one_writes_the_tables_on_the_way_and_each_at_its_end(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: int, on_the_way: int
) -> None:
    monkeypatch.setattr(tables_module, "EVERY_S", 1000.0)
    monkeypatch.setattr(tables_module, "SHARE_OF_TIME", 0)
    out = MaskFolder(tmp_path / "out")
    run(study, out.path)
    written: list[bool] = []
    write = tables_module.write_measurements

    def counted(*given: Any, **named: Any) -> Any:
        written.append(True)
        return write(*given, **named)

    monkeypatch.setattr(tables_module, "write_measurements", counted)
    so_far: list[int] = []

    class OtherCall(NullWatcher):
        """Another call has written them, so long ago."""

        def start(self, *, slides: int) -> None:
            then = time.time_ns() - age_s * 10**9
            os.utime(out.measurements, ns=(then, then))

        def outcome(self, outcome: Outcome) -> None:
            so_far.append(len(written))

    batch = run(study, out.path, overwrite=True, watcher=OtherCall())
    assert so_far == [on_the_way] * 3
    assert len(written) == on_the_way + 1
    assert json.loads(batch.record.read_text())["left"] == []


def test_a_broken_state_is_named_and_set_aside_and_its_slide_is_done(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(study, out)
    state = MaskFolder(out).state("a")
    mask = MaskFolder(out).mask("a").read_bytes()
    state.write_text('{"slide_id": "a", "status": ')
    planned = planned_slides(slide_sources(study / "three", out=out), study / "run", out)
    assert planned[0].reason.startswith(f"broken state {state}: it is no JSON: ")
    assert [each.action for each in planned] == ["segment", "skip", "skip"]
    batch = run(study, out)
    assert [each.status for each in batch.outcomes] == ["done", "skipped", "skipped"]
    assert batch.outcomes[0].reason.startswith(f"broken state {state}: it is no JSON: ")
    assert batch.outcomes[0].reason.endswith("It was set aside as a.json.broken")
    assert state.with_name("a.json.broken").read_text() == '{"slide_id": "a", "status": '
    assert "It was set aside as a.json.broken" in (out / "summary.md").read_text()
    assert MaskFolder(out).mask("a").read_bytes() == mask
    assert [each.slide_id for each in Ledger(MaskFolder(out)).all()] == ["a", "b", "c"]
