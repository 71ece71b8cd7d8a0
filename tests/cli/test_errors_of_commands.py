"""Errors of commands: one format, one block, nothing taken for markup, a suggestion where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsi_deform.cli import main
from wsi_deform.cli.console import TALK, plain_console

PREFIX = "wsi-deform: error: "


def refused(*arguments: object) -> list[str]:
    """Lines on stderr of a call that ends with exit code 2 and prints nothing else."""
    done = CliRunner().invoke(
        main.typer_app, [str(each) for each in arguments], prog_name="wsi-deform", env={"COLUMNS": "40"}
    )
    assert done.exit_code == 2
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("arguments", "said", "of"),
    [
        (["segmet"], "no such command 'segmet'. Did you mean segment?", ""),
        (["xyzzy"], "no such command 'xyzzy'. Needed one of demo, inspect, explore, train, ", ""),
        (["segment", "--modle", "x"], "no such option: --modle. Did you mean --model?", " segment"),
        (
            ["--slides", "x"],
            "no such option: --slides. It is an option of train, segment, evaluate, report, quantise: ",
            "",
        ),
        (["config", "shw"], "no such command 'shw'. Did you mean show?", " config"),
        (["segment", "--slides", "x"], "missing option '--model'.", " segment"),
        (
            ["segment", "--slides", "x", "--model", "x", "--split", "[red]x"],
            "invalid value for '--split': '[red]x' is not one of 'train', 'val', 'test'.",
            " segment",
        ),
        (
            ["segment", "--slides", "x", "--model", "x", "--limit", "0"],
            "invalid value for '--limit'",
            " segment",
        ),
        (
            ["report", "x", "--key", "k.csv"],
            "invalid value for --key: needed --anonymous beside it.",
            " report",
        ),
    ],
)
def test_what_is_not_understood_is_one_line_and_where_to_read_on(arguments, said, of) -> None:
    first, second = refused(*arguments)
    assert first.startswith(PREFIX + said)
    assert second == f"Try 'wsi-deform{of} --help'."


def test_a_long_path_with_brackets_stays_whole_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / ("very-" * 20 + "long[1]:cat:.svs")
    (line,) = refused("inspect", path)
    assert line.startswith(f"{PREFIX}{path}: ")


def test_a_secret_of_a_url_is_not_shown() -> None:
    (line, _) = refused(
        "segment", "--slides", "x", "--model", "x", "--device", "cpu", "--limit", "s3://a:pass@b/c"
    )
    assert "pass" not in line


def test_errors_of_ours_show_a_traceback_only_on_request(tmp_path: Path) -> None:
    assert len(refused("inspect", tmp_path / "none.svs")) == 1
    for arguments in (
        ("--debug", "inspect", tmp_path / "none.svs"),
        ("inspect", tmp_path / "none.svs", "--debug"),
    ):
        lines = refused(*arguments)
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-1].startswith(PREFIX)
    assert len(refused("inspect", tmp_path / "none.svs")) == 1


def test_quiet_before_or_after_the_name_of_a_command_holds_for_this_call_alone(tmp_path: Path) -> None:
    for arguments, quiet in (
        (["-q", "config", "list"], True),
        (["config", "list", "-q"], True),
        (["config", "list"], False),
    ):
        assert CliRunner().invoke(main.typer_app, arguments).exit_code == 0
        assert TALK.quiet is quiet
        assert plain_console().quiet is quiet
        assert not plain_console(stderr=True).quiet


def test_a_quiet_command_writes_its_file_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.svs").touch()
    arguments = ["manifest", "build", tmp_path / "in", "--out", tmp_path / "m.csv", "--patient", "(.*)"]
    done = CliRunner().invoke(main.typer_app, [*map(str, arguments), "-q"])
    assert (done.exit_code, done.output) == (0, "")
    assert (tmp_path / "m.csv").is_file()
    # What was asked to be printed is printed all the same.
    assert CliRunner().invoke(main.typer_app, ["config", "list", "-q"]).stdout.startswith("blocks ")


def test_pipes_get_no_colours_and_no_boxes(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm-256color"}
    done = subprocess.run(
        [sys.executable, "-m", "wsi_deform", "inspect", str(tmp_path / "a[1].svs")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{PREFIX}{tmp_path / 'a[1].svs'}: ")
    assert "\x1b" not in done.stderr


def test_no_command_is_help_and_exit_code_2() -> None:
    done = CliRunner().invoke(main.typer_app, [], prog_name="wsi-deform")
    assert done.exit_code == 2
    assert "Usage: wsi-deform [OPTIONS] COMMAND" in done.output
