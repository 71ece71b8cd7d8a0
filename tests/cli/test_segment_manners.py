"""`wsi-deform segment` among people and programs: which slides, what would be done, what is said, when it stops."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from rich.console import Console
from tiny_study import tiny_model, tiny_study
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.cli.segment_bars import SegmentBars
from wsi_deform.distribute import models as models_module
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.mask.folder import MaskFolder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    drawn = tiny_study(folder)
    tiny_model(folder / "run", drawn.classes)
    tiny_model(folder / "other", drawn.classes, seed=1)
    return folder


@pytest.fixture
def slides(study: Path, tmp_path: Path) -> Path:
    """Two folders with a slide each of one name, and in the first one that is none."""
    drawn = sorted((study / "slides").iterdir())
    for folder, source in zip(("one", "two"), drawn, strict=False):
        (tmp_path / folder).mkdir()
        shutil.copy(source, tmp_path / folder / "s.tif")
    (tmp_path / "one" / "bad[1].svs").write_text("no slide")
    return tmp_path


def call(study: Path, *arguments: object, model: str = "run") -> Any:
    # A process of its own is what tests/distribute/test_child.py is about, and takes seconds to start.
    given = ["segment", *arguments, "--model", study / model, "--device", "cpu", "--in-process"]
    done = CliRunner().invoke(typer_app, [str(each) for each in given])
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done


def masks(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "masks").iterdir())


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_slides_are_arguments_or_options_and_each_is_done_once(study: Path, slides: Path) -> None:
    out, one = slides / "out", slides / "one" / "s.tif"
    done = call(study, one, slides / "two", "--slides", one, "--slides", slides / "two", "--out", out)
    assert done.exit_code == 0, done.output
    assert masks(out) == ["one__s.tif.ome.tif", "two__s.tif.ome.tif"]
    assert done.stdout.splitlines()[-1] == f"2 done, 0 skipped, 0 failed. {out / 'summary.md'}"


def test_no_slide_is_a_usage_error(study: Path) -> None:
    done = call(study)
    assert (done.exit_code, "needed one or more slides" in done.stderr) == (2, True)


def test_processes_here_and_a_scheduler_s_workers_are_not_both_taken(study: Path, slides: Path) -> None:
    done = call(
        study, slides / "two", "--out", slides / "out", "--workers", 2, "--scheduler", "tcp://127.0.0.1:9"
    )
    assert done.exit_code == 2
    assert "leave --workers out" in " ".join(done.stderr.split())
    assert not (slides / "out").exists()


def test_only_names_that_end_as_wanted_are_taken(study: Path, slides: Path) -> None:
    done = call(study, slides / "one", "--ext", ".TIF", "--out", slides / "out")
    assert done.exit_code == 0
    assert masks(slides / "out") == ["s.ome.tif"]
    done = call(study, slides / "one", "--ext", "ndpi", "--out", slides / "out")
    assert done.exit_code == 2
    assert "none of 2 has a name that ends in ndpi" in done.stderr


def planned(done: Any) -> dict[str, str]:
    lines = [line.split(": ", 1) for line in done.stdout.splitlines()[:-1]]
    return dict(lines)


def test_a_dry_run_says_what_would_be_done_and_why_and_writes_nothing(
    study: Path, slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = slides / "out"
    dry = (slides / "one", slides / "two", "--out", out, "--dry-run")
    with monkeypatch.context() as patched:
        patched.setattr(models_module, "load_model", lambda *_, **__: pytest.fail("weights were read"))
        done = call(study, *dry)
        assert planned(done) == {
            "bad[1]": "segment, new",
            "one__s.tif": "segment, new",
            "two__s.tif": "segment, new",
        }
        assert done.stdout.splitlines()[-1] == "3 to segment. Nothing was written."
    assert not out.exists()
    assert call(study, *dry[:-1]).exit_code == 1
    before = files(out)
    said = planned(call(study, *dry))
    assert said["bad[1]"].startswith("segment, failed before: ")
    assert "bad[1].svs" in said["bad[1]"]
    assert said["one__s.tif"] == "skip, already done with this model"
    assert planned(call(study, *dry, model="other"))["one__s.tif"] == "segment, another model"
    assert planned(call(study, *dry, "--interpolation", "nearest"))["one__s.tif"] == "segment, other settings"
    assert planned(call(study, *dry, "--overwrite"))["two__s.tif"] == "segment, done, and to be overwritten"
    assert files(out) == before
    shutil.copy(slides / "two" / "s.tif", slides / "one" / "s.tif")
    MaskFolder(out).overlay("two__s.tif").unlink()
    (slides / "one" / "bad[1].svs").unlink()
    (slides / "one" / "gone.svs").symlink_to(slides / "nowhere.svs")
    done = call(study, *dry)
    said = planned(done)
    assert said["one__s.tif"].startswith("segment, another file (")
    assert said["two__s.tif"] == "complete, overlay missing or not whole"
    assert said["gone"].startswith("fail, ")
    assert done.stdout.splitlines()[-1] == "1 to segment, 1 to complete, 1 to fail. Nothing was written."
    assert done.exit_code == 1


def test_a_dry_run_into_masks_of_other_classes_is_refused_as_the_run_would_be(
    study: Path, slides: Path
) -> None:
    (slides / "out").mkdir()
    (slides / "out" / "classes.json").write_text('["background", "x"]')
    done = call(study, slides / "two", "--out", slides / "out", "--dry-run")
    assert done.exit_code == 2
    assert "Needed the same for all masks of a folder" in done.stderr


def test_with_fail_fast_no_slide_is_begun_after_one_has_failed(study: Path, slides: Path) -> None:
    out = slides / "out"
    done = call(study, slides / "one", slides / "two", "--out", out, "--fail-fast")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == (
        f"0 done, 0 skipped, 1 failed, 2 not begun (--fail-fast). {out / 'summary.md'}"
    )
    assert "Stopped before: one__s.tif, two__s.tif." in (out / "summary.md").read_text()
    assert call(study, slides / "one", slides / "two", "--out", out).exit_code == 1
    assert masks(out) == ["one__s.tif.ome.tif", "two__s.tif.ome.tif"]


def test_events_name_a_slide_by_one_path_also_where_it_was_given_by_a_relative_one(
    study: Path, slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(slides)
    call(study, "two", "--out", "out", "--log-json", "log.jsonl")
    events = [json.loads(line) for line in (slides / "log.jsonl").read_text().splitlines()]
    assert [(each["event"], each["slide"]) for each in events[1:-1]] == [
        ("slide started", str(slides / "two" / "s.tif")),
        ("slide done", str(slides / "two" / "s.tif")),
    ]


def test_every_event_is_a_line_of_json_in_a_log_that_is_appended_to(study: Path, slides: Path) -> None:
    out, log = slides / "out", slides / "log.jsonl"
    for _ in range(2):
        call(study, slides / "one", "--out", out, "--log-json", log)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(each["event"], each.get("slide_id", "")) for each in events] == [
        ("started", ""),
        ("slide started", "bad[1]"),
        ("slide failed", "bad[1]"),
        ("slide started", "s"),
        ("slide done", "s"),
        ("ended", ""),
        ("started", ""),
        ("slide skipped", "s"),
        ("slide started", "bad[1]"),
        ("slide failed", "bad[1]"),
        ("ended", ""),
    ]
    first, _, failed, started, done, ended = events[:6]
    assert (first["slides"], first["model"], first["out"]) == (2, str(study / "run"), str(out))
    assert started["slide"] == done["slide"] == str(slides / "one" / "s.tif")
    assert "bad[1].svs" in failed["reason"]
    assert done["seconds"] > 0
    assert done["started_utc"] <= done["time_utc"]
    assert (done["samples"], done["blank_tiles"]) == (576, 0)
    assert (ended["done"], ended["skipped"], ended["failed"], ended["complete"]) == (1, 0, 1, True)
    assert events[7]["reason"] == "already done with this model"


def test_a_log_that_cannot_be_written_is_refused_before_the_work(study: Path, slides: Path) -> None:
    done = call(study, slides / "two", "--out", slides / "out", "--log-json", slides / "none" / "log.jsonl")
    assert done.exit_code == 2
    assert "Choose another --log-json" in done.stderr
    assert not (slides / "out").exists()


def test_an_interrupt_is_an_event_too(study: Path, slides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsi_deform.distribute.batch.segment_slides", interrupted)
    done = call(study, slides / "two", "--out", slides / "out", "--log-json", slides / "log.jsonl")
    assert done.exit_code == 130
    (ended,) = [json.loads(line) for line in (slides / "log.jsonl").read_text().splitlines()]
    assert (ended["event"], ended["complete"], ended["error"]) == ("ended", False, "KeyboardInterrupt")


def test_quiet_says_what_failed_and_nothing_else(study: Path, slides: Path) -> None:
    done = call(study, slides / "one", "--out", slides / "out", "-q")
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("bad[1]: failed, ")


def test_where_there_is_no_terminal_each_slide_has_a_line_and_no_bar(study: Path, slides: Path) -> None:
    done = call(study, slides / "two", "--out", slides / "out")
    first, last = done.stdout.splitlines()
    assert first.startswith("s: done, ")
    assert last.startswith("1 done, 0 skipped, 0 failed. ")


def test_bars_of_slides_and_fields_say_how_long_it_will_take() -> None:
    with (Path(os.devnull)).open("w") as nowhere:
        console = Console(file=nowhere, force_terminal=True, width=100)
        with SegmentBars(console) as bars:
            assert not bars.progress.disable
            bars.start(slides=2)
            bars.slide("a")
            bars.field(1, 4)
            plain = Console(file=io.StringIO(), width=100)
            plain.print(bars.progress.get_renderable())
    slides, fields = plain.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert (slides.startswith("slides "), "0/2" in slides, " ETA " in slides) == (True, True, True)
    assert (fields.startswith("a: fields "), "1/4" in fields, " ETA " in fields) == (True, True, True)


def test_slides_of_an_hour_each_have_an_eta_too() -> None:
    now = 0.0
    bars = SegmentBars(Console(file=io.StringIO(), force_terminal=True))
    bars.progress.get_time = lambda: now
    bars.start(slides=4)
    for _ in range(2):
        now += 3600
        bars.progress.advance(bars.slides)
    assert bars.progress.tasks[0].time_remaining == 7200


def test_workers_say_no_more_than_one_process_does(
    study: Path, slides: Path, forked: Callable[..., Forked]
) -> None:
    (slides / "one" / "bad[1].svs").unlink()
    arguments = ["segment", slides / "one", slides / "two", "--model", study / "run", "--out", slides / "out"]
    done = forked("wsi_deform", *arguments, "--workers", 2, "--device", "cpu", said=slides / "said")
    assert done.wait() == 0, done.said()
    # Its standard error and its workers' is in the same file.
    lines = sorted(done.said().splitlines())
    assert [line.split(", ")[0] for line in lines] == ["2 done", "one__s.tif: done", "two__s.tif: done"]


def test_with_fail_fast_workers_finish_what_they_have_and_begin_no_more(study: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "0.svs").write_text("no slide")
    source = next((study / "slides").iterdir())
    for number in range(1, 13):
        shutil.copy(source, tmp_path / "slides" / f"{number:02}.tif")
    out = tmp_path / "out"
    done = call(study, tmp_path / "slides", "--out", out, "--fail-fast", "--workers", 2)
    assert done.exit_code == 1
    counted = re.fullmatch(
        r"(\d+) done, 0 skipped, 1 failed, (\d+) not begun \(--fail-fast\)\. .*", done.stdout.splitlines()[-1]
    )
    assert counted
    finished, left = map(int, counted.groups())
    assert finished + left == 12
    assert left > 0
    # None was cut off, which would count as a death of its process.
    states = Ledger(MaskFolder(out)).all()
    assert sorted(state.status for state in states) == ["done"] * finished + ["failed"]
