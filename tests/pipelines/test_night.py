"""A night on paper: what is counted of the real ledger, and what is simulated from it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from pipelines.night import __main__ as night_module
    from pipelines.night.counted import counted
    from pipelines.night.simulated import Night, simulated
    from pipelines.night.visits import Visit, counted_visits
finally:
    sys.path.remove(str(ROOT))

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="what is counted are POSIX calls")
KINDS = ("look", "look done", "work", "pass done", "pass taken", "tables", "tables per state", "record")


def test_calls_on_files_are_counted_under_the_folder_alone(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with counted(here) as found:
        (here / "a").write_text("12345")
        (there / "a").write_text("1")
        assert (here / "a").read_text() == "12345"
        (here / "lock").open("x").close()
        (here / "a").replace(here / "b")
        (here / "b").stat()
        (there / "a").stat()
        list(here.iterdir())
        (here / "lock").unlink()
        (here / "c").mkdir()
        (here / "c").rmdir()
    assert found.calls == {
        "open": 2,
        "create": 1,
        "rename": 1,
        "look": 1,
        "list": 1,
        "remove": 1,
        "mkdir": 1,
        "rmdir": 1,
    }
    assert (found.read_bytes, found.written_bytes, found.total) == (5, 5, 9)
    assert found.files == {str(here / "a"), str(here / "lock")}
    (here / "b").read_text()
    assert found.total == 9  # no longer


def test_the_real_ledger_takes_one_lock_for_a_slide_and_reads_states_for_its_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    visits = counted_visits()
    assert set(visits) == set(KINDS)
    assert {kind: visits[kind].locks for kind in KINDS} == {
        "look": 0,
        "look done": 0,
        "work": 1,
        "pass done": 1,
        "pass taken": 1,
        "tables": 1,
        "tables per state": 0,
        "record": 0,
    }
    assert visits["look"].files == 1  # its state, which is not there
    assert visits["look done"].files == 5  # its state, and both ends of four outputs
    assert visits["work"].calls > visits["pass done"].calls > visits["look done"].calls > 0
    assert visits["work"].written_bytes > 1000
    assert 1 <= visits["tables per state"].calls <= 4
    assert 0 < visits["record"].calls < visits["tables"].calls
    assert list(tmp_path.iterdir()) == []


def test_one_worker_does_slide_after_slide_and_fifty_share_them() -> None:
    free = dict.fromkeys(KINDS, Visit(calls=0))
    visits = free | {"work": Visit(calls=10, locks=1, written_bytes=100)}
    one = Night(slides=20, callers=1, workers=1, slide_s=100, latency_s=0.1)
    told = simulated(one, visits, seed=3)
    # 20 slides of 50 to 150 s, and a second of storage for each.
    assert 20 * 51 < told.seconds < 20 * 151
    assert (told.done, told.locks, told.written_bytes) == (20, 20, 2000)
    assert told.calls["turns of slides"] == 200
    # A lease is renewed every 12 s of its slide's time.
    assert told.calls["renewals of leases"] == pytest.approx(told.seconds / 12, abs=20)
    many = simulated(Night(slides=20, callers=1, workers=20, slide_s=100, latency_s=0.1), visits, seed=3)
    assert (many.done, many.seconds < 151) == (20, True)


def test_calls_that_share_a_folder_do_each_slide_once_and_pass_those_of_others() -> None:
    visits = dict.fromkeys(KINDS, Visit(calls=1))
    night = Night(slides=40, callers=4, workers=1, slide_s=10, latency_s=1e-6)
    told = simulated(night, visits, seed=1)
    assert told.done == 40
    assert told.calls["turns of slides"] == 40
    assert told.calls["turns of slides that others do"] == 3 * 40
    assert told.calls["looks before the first turn"] == 4 * 40
    assert 40 * 10 / 4 * 0.8 < told.seconds < 40 * 10 / 4 * 1.2 + 12


def test_of_calls_that_share_a_folder_one_writes_the_tables_on_the_way() -> None:
    visits = dict.fromkeys(KINDS, Visit(calls=0)) | {"tables": Visit(calls=1)}
    told = [
        simulated(Night(slides=2000, callers=callers, workers=1, slide_s=40, latency_s=1e-6), visits)
        for callers in (1, 8)
    ]
    # Tables take no time here, and each slide takes longer than the 5 s for which they are left alone. Eight calls end
    # 2,000 slides in 10,000 s, and many of these find tables that are younger.
    assert told[0].calls["tables"] == 2001
    assert 400 < told[1].calls["tables"] < 1500


def test_the_cost_of_a_slide_is_what_was_measured_by_its_area() -> None:
    seconds, side = night_module.cpu_seconds(2 * 61_440, "ours x2")
    assert side == 61_440
    assert seconds == pytest.approx(4 * 188.74)
