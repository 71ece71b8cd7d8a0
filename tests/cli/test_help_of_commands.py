"""What commands say of themselves: readable at 80 columns, grouped, the same names everywhere, the same as the docs."""

from __future__ import annotations

import re

import pytest
import typer
from typer.testing import CliRunner

from pipelines.commands_page import PAGE, commands, page_text
from wsi_deform.cli.help import about_of, entry_of, groups_of
from wsi_deform.cli.main import typer_app

GROUP = typer.main.get_command(typer_app)
COMMANDS = dict(commands(GROUP))
SHARED = {"quiet": ["-q", "--quiet"], "verbose": ["-v", "--verbose"], "debug": ["--debug"]}
# One meaning, one name: what a value is -> the options that may take it.
ONE_NAME = {
    "out": "--out",
    "split": "--split",
    "seed": "--seed",
    "device": "--device",
    "classes": "--classes",
}
ONE_NAME |= {"changes": "--set", "config": "--config", "mpp": "--mpp", "overwrite": "--overwrite"}


def helped(name: str, *, width: int = 80, flag: str = "-h") -> str:
    words = [*name.split()[1:], flag]
    done = CliRunner().invoke(typer_app, words, prog_name="wsi-deform", env={"COLUMNS": str(width)})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_80_columns_and_has_examples_and_exit_codes(name: str) -> None:
    said = helped(name)
    assert [line for line in said.splitlines() if len(line) > 80] == []
    assert said == helped(name, flag="--help")
    assert f"\nExamples:\n  wsi-deform {name.split()[1]}" in said
    assert re.search(r"\nExit codes:\n  0 +all is done\n", said)
    assert "  2 " in said.partition("Exit codes:")[2]
    assert "╭" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_names_options_that_the_command_has(name: str) -> None:
    command = COMMANDS[name]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    for example in about_of(command).examples:
        own = example.partition("wsi_deform ")[2] if example.startswith("torchrun") else example
        assert name.split()[1] in own.split()
        assert {word for word in own.split() if word.startswith("--")} <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_and_has_the_name_that_it_has_elsewhere(name: str) -> None:
    for parameter in COMMANDS[name].params:
        assert parameter.help, parameter.name
        if parameter.param_type_name == "option" and parameter.name in ONE_NAME:
            assert parameter.opts == [ONE_NAME[parameter.name]]
        if parameter.name in SHARED:
            assert sorted(parameter.opts, key=len) == SHARED[parameter.name]
    assert SHARED.keys() <= {parameter.name for parameter in COMMANDS[name].params}


def test_segment_shows_its_options_in_groups() -> None:
    titles = re.findall(r"^(\S.*):$", helped("wsi-deform segment"), re.MULTILINE)
    assert titles[-3:] == ["Messages", "Examples", "Exit codes"]
    assert {"Which slides", "How masks are made", "What is written", "Patches, a baseline"} <= set(titles)
    assert max(len(entries) for entries in groups_of(COMMANDS["wsi-deform segment"].params).values()) <= 6


def test_an_option_says_its_value_its_default_and_whether_it_is_needed() -> None:
    said = {each.name: entry_of(each) for each in COMMANDS["wsi-deform segment"].params}
    assert (said["out"].names, said["out"].text[-14:]) == ("--out FOLDER", "[default: out]")
    assert said["model"].text.endswith("its https URL. [required]")
    # The way to turn off what is off anyway is not shown; it is there all the same.
    assert said["overwrite"].names == "--overwrite"
    assert said["geojson"].names == "--geojson / --no-geojson"
    assert said["limit_to_tissue"].names == "--limit-to-tissue / --no-limit-to-tissue"
    assert (said["quiet"].names, said["quiet"].text) == ("-q, --quiet", "Say errors only.")
    built = {each.name: entry_of(each).names for each in COMMANDS["wsi-deform manifest build"].params}
    assert (built["out"], built["seed"], built["val"]) == ("--out PATH", "--seed N", "--val NUMBER")
    (order,) = (each for each in COMMANDS["wsi-deform annotation to-mask"].params if each.name == "order")
    assert entry_of(order).names == "--order drawing|classes"


def test_square_brackets_in_help_are_signs() -> None:
    assert "pip install 'wsi-deform[onnx]'" in helped("wsi-deform export")


def test_all_commands_are_named_with_a_sentence_each() -> None:
    said = helped("wsi-deform")
    assert re.search(r"^  train +Train a model on labelled slides\.$", said, re.MULTILINE)
    assert re.search(r"^  config +List and show the configurations", said, re.MULTILINE)
    assert [line for line in said.splitlines() if len(line) > 80] == []


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_text(), (
        "write it again: python -m pipelines.commands_page"
    )


def test_a_hidden_option_is_an_older_name() -> None:
    hidden = {
        (name, each.opts[0]) for name, command in COMMANDS.items() for each in command.params if each.hidden
    }
    assert hidden == {("wsi-deform export", "--model")}
