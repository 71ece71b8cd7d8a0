"""Completion in shells: commands, options and values, without anything heavy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.cli.options import complete_config, complete_device, complete_suffix

HEAVY = ("numpy", "torch", "pydantic_settings", "wsi_deform.config", "rich.console")
PROGRAM = f"""
import sys
from wsi_deform.cli.main import app
try:
    app()
finally:
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert loaded == [], loaded
"""


def completed(line: str) -> list[str]:
    """What bash would offer at the end of a line."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "_WSI_DEFORM_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['wsi-deform']\n{PROGRAM}"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("wsi-deform se", ["segment"]),
        ("wsi-deform segment --on-b", ["--on-bad-tile"]),
        ("wsi-deform segment --on-bad-tile ", ["fail", "blank"]),
        ("wsi-deform segment --method p", ["patches"]),
        ("wsi-deform segment --interpolation n", ["nearest"]),
        ("wsi-deform segment --split t", ["train", "test"]),
        ("wsi-deform segment --device cu", ["cuda", "cuda:1"]),
        ("wsi-deform train --config uni", ["uniform", "uniform_point"]),
        ("wsi-deform config show edge", ["edge_based", "edge_oracle"]),
        ("wsi-deform evaluate --split a", ["all"]),
        ("wsi-deform export run --format torch", ["torchscript", "torch-export"]),
    ],
)
def test_a_shell_is_offered(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_values_come_with_what_they_are() -> None:
    assert dict(complete_device(""))["mps"] == "Apple's GPU"
    assert dict(complete_config("joint")) == {
        "joint": "The paper's sampler, which learns together with the segmentation network (equation 4); needs no "
        "weights."
    }
    assert [*complete_suffix(".nd")] == ["ndpi"]


def test_completion_can_be_shown_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "True")
    done = CliRunner().invoke(typer_app, ["--show-completion", "bash"], prog_name="wsi-deform")
    assert done.exit_code == 0
    assert "_WSI_DEFORM_COMPLETE=complete_bash" in done.output
