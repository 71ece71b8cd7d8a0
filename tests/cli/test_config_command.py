"""`wsi-deform config` and `--version`: what an installation brings along and is."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wsi_deform import config_files
from wsi_deform.cli import version as version_module
from wsi_deform.cli.main import typer_app
from wsi_deform.config import read_config
from wsi_deform.config_files import packaged_configs


def call(*arguments: object) -> str:
    done = CliRunner().invoke(typer_app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_list_has_every_configuration_and_what_it_is() -> None:
    lines = call("config", "list").splitlines()
    assert [line.split()[0] for line in lines] == [*packaged_configs()]
    assert [line.split()[0] for line in lines if "he default" in line] == ["dense"]
    assert (
        "dense          The default: tissue is read whole, at 5 um per px, by an encoder that was trained on ImageNet; "
        "nothing chooses where to look." in lines
    )


@pytest.mark.parametrize("name", packaged_configs())
def test_what_is_shown_is_the_file_with_its_comments_and_trains_the_same(name: str, tmp_path: Path) -> None:
    said = call("config", "show", name)
    assert said == packaged_configs()[name].read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(said, encoding="utf-8")
    assert read_config(tmp_path / "mine.yaml") == read_config(packaged_configs()[name])


def test_a_change_is_shown_in_the_whole_configuration(tmp_path: Path) -> None:
    (tmp_path / "few.yaml").write_text("seed: 7\n")
    said = call("config", "show", tmp_path / "few.yaml", "--set", "sampling.budget=[40, 400]")
    assert "\n  budget: [40, 400]  # " in said
    assert "\nseed: 7" in said
    assert "\noptimiser:\n" in said


def test_a_name_that_is_none_is_refused_with_the_nearest() -> None:
    done = CliRunner().invoke(typer_app, ["config", "show", "unifrom"])
    assert done.exit_code == 2
    assert "Did you mean uniform?" in done.stderr


def test_an_installation_without_configurations_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_files, "CONFIG_FOLDERS", (tmp_path,))
    done = CliRunner().invoke(typer_app, ["config", "list"])
    assert done.exit_code == 2
    assert "lacks its folder of configurations" in done.stderr


@pytest.mark.parametrize(
    ("git", "line"),
    [
        ({"commit": "0123abc", "changed": False}, ["commit 0123abc"]),
        ({"commit": "0123abc", "changed": True}, ["commit 0123abc (changed)"]),
        (None, []),
    ],
)
def test_the_version_alone_is_the_first_line(
    monkeypatch: pytest.MonkeyPatch, git: object, line: list[str]
) -> None:
    monkeypatch.setattr(version_module, "git_state", lambda: git)
    assert call("--version").splitlines() == [
        f"wsi-deform {version('wsi-deform')}",
        *line,
        f"Python {platform.python_version()}",
        f"torch {version('torch')}",
        f"platform {platform.platform()}",
    ]
