"""What commands print is text: square brackets and colons in names and help mean nothing."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import typer
from tiny_study import SIZE, tiny_model, tiny_study
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.drawn.study import draw_study

GROUP = typer.main.get_command(typer_app)


def commands(group, path=()):
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from commands(command, (*path, name))


def flat(text: str) -> str:
    """Text without line ends, boxes and spaces."""
    return re.sub(r"[\s│╭╮╰╯─]+", "", text)


@pytest.mark.parametrize(
    ("path", "command"), list(commands(GROUP)), ids=lambda value: getattr(value, "name", None)
)
def test_help_shows_every_sign_that_was_written(path, command) -> None:
    shown = (
        CliRunner().invoke(typer_app, [*path, "--help"], terminal_width=400, env={"COLUMNS": "400"}).output
    )
    for parameter in command.params:
        assert getattr(parameter, "hidden", False) or flat(parameter.help or "") in flat(shown)


def test_help_of_export_names_the_extra_to_install() -> None:
    shown = CliRunner().invoke(typer_app, ["export", "--help"], env={"COLUMNS": "200"}).output
    assert "pip install 'wsi-deform[onnx]'" in shown


ODD = "a[red]b :cat: [bold] [7"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    (folder / ODD).mkdir()
    shutil.copy(folder / "slides" / "P001-A.tif", folder / ODD / f"{ODD}.tif")
    return folder


def call(*arguments: object) -> str:
    done = CliRunner().invoke(typer_app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_inspect_and_segment_show_odd_names_as_they_are(study: Path, tmp_path: Path) -> None:
    folder = study / ODD
    slide = next(folder.iterdir())
    picture = tmp_path / f"{slide.stem}.png"
    said = call("inspect", slide, "--thumbnail", picture)
    # A colon, which Windows allows in no file name, is replaced in the slide's name.
    slide_id = slide.stem.replace(":", "_")
    assert said.startswith(f"{slide_id}  ")
    assert f"thumbnail: {picture}" in said
    out = tmp_path / ODD
    said = call("segment", "--slides", folder, "--model", study / "run", "--out", out, "--device", "cpu")
    assert f"{slide_id}: done, " in said
    assert f"{out / 'summary.md'}" in said


def test_train_shows_an_odd_folder_as_it_is(tmp_path: Path) -> None:
    drawn = draw_study(tmp_path / "drawn", train=1, val=1, test=0, size=SIZE, mpp=0.5, slides_per_patient=1)
    settings = (
        "sampling.budget=[12, 48]",
        "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}",
        "training={epochs: 1, validate_every: 1, batch: 2, threads: 1}",
    )
    out = tmp_path / ODD
    changes = ["--config", "joint", *(part for setting in settings for part in ("--set", setting))]
    # So small a study lacks a class.
    said = call("train", "--slides", drawn.manifest, "--out", out, "--allow-empty-classes", *changes)
    assert f"{out}: 1 epochs, " in said


def test_a_usage_error_quotes_an_odd_value_as_it_is(study: Path, tmp_path: Path) -> None:
    arguments = ["segment", "--slides", str(study), "--model", str(study / "run"), "--split", "[red]test"]
    done = CliRunner().invoke(typer_app, arguments)
    assert done.exit_code == 2
    assert "'[red]test' is not one of 'train', 'val', 'test'." in done.output
