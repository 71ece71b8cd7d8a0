"""What pages tell to type exists: commands with their options, keys of configurations, modules, targets of make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from test_links import PAGES, ROOT

from pipelines.commands_page import commands
from wsi_deform.cli.main import typer_app
from wsi_deform.config_blocks import Blocks
from wsi_deform.config_sections import Config, ResizerNetwork

GROUP = typer.main.get_command(typer_app)
COMMANDS = dict(commands(GROUP))
OPTIONS = {
    name: {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
    for name, command in COMMANDS.items()
}
TOP = {option for each in GROUP.params for option in each.opts} | {"--help"}
GROUPS = {name.rpartition(" ")[0] for name in COMMANDS if name.count(" ") == 2}
# What was, in the words of then.
HISTORY = {"CHANGELOG.md"}
PAGES_OF_TODAY = [page for page in PAGES if page.name not in HISTORY]

FENCED = re.compile(r"^ *```[^\n]*\n(.*?)^ *``` *$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^ {4,}(.+)$", re.MULTILINE)
SPAN = re.compile(r"`([^`]+)`")
# How pages write any key.
ANY_KEY = "section.key"
# Sections that are null by default, and those whose other keys are a network's or a loss's own.
OPTIONAL = {"blocks": Blocks, "resizer": ResizerNetwork}


def code_of(text: str) -> list[str]:
    """Lines of code and code in lines, with continued lines as one."""
    joined = re.sub(r" *\\\n\s*", " ", text)
    spans = [re.sub(r"\s+", " ", each) for each in SPAN.findall(FENCED.sub("", joined))]
    lines = [line for block in FENCED.findall(joined) for line in block.splitlines()]
    return [*spans, *lines, *INDENTED.findall(joined)]


def problems(code: str) -> list[str]:
    """What a piece of code asks of ``wsi-deform`` that it has not."""
    found = []
    for typed in re.findall(
        r"(?:^|[\s(;\"'=])(?:wsi-deform|python -m wsi_deform|-m wsi_deform)(?= )([^|;&#]*)", code
    ):
        words = typed.split()
        if not words or words[0][0].isupper() or words[0][0] in "<.{[*":
            continue
        if words[0].startswith("-"):
            name, known = "wsi-deform", TOP
        else:
            name = next(
                (each for end in (2, 1) if (each := " ".join(["wsi-deform", *words[:end]])) in COMMANDS), ""
            )
            if not name:
                if f"wsi-deform {words[0]}" not in GROUPS or len(words) > 1:
                    found.append(f"no command: wsi-deform {typed.strip()}")
                continue
            known = OPTIONS[name]
        asked = re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", re.sub(r"'[^']*'|\"[^\"]*\"", "", typed))
        found += [f"{name} has no {option}" for option in asked if option not in known]
    return found


def is_key(dotted: str) -> bool:
    """Whether a configuration has a key."""
    model: type[BaseModel] = Config
    *sections, last = dotted.split(".")
    for section in sections:
        if section not in model.model_fields:
            return False
        kind = OPTIONAL.get(section, model.model_fields[section].annotation)
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return False
        model = kind
    return last in model.model_fields or model.model_config.get("extra") == "allow"


def read(page: Path) -> list[str]:
    return code_of(page.read_text(encoding="utf-8"))


def each_page(check: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "page", PAGES_OF_TODAY, ids=lambda page: page.relative_to(ROOT).as_posix()
    )(check)


@each_page
def test_commands_and_their_options_exist(page: Path) -> None:
    assert [problem for code in read(page) for problem in problems(code)] == []


@each_page
def test_keys_after_set_exist(page: Path) -> None:
    keys = [key for code in read(page) for key in re.findall(r"--set [\"']?([a-z_.]+)=", code)]
    assert [key for key in keys if key != ANY_KEY and not is_key(key)] == []


@each_page
def test_modules_and_targets_exist(page: Path) -> None:
    code = read(page)
    modules = {name for each in code for name in re.findall(r"python -m (pipelines(?:\.\w+)*)", each)}
    places = {name: ROOT.joinpath(*name.split(".")) for name in modules}
    runnable = {
        n for n, p in places.items() if p.with_suffix(".py").is_file() or (p / "__main__.py").is_file()
    }
    assert modules - runnable == set()
    targets = {name for each in code for name in re.findall(r"^make ([a-z.-]+)", each)}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [name for name in targets if not re.search(rf"^{re.escape(name)}:", makefile, re.MULTILINE)] == []


def test_what_does_not_exist_is_found() -> None:
    text = "`wsi-deform train\n--slides m.csv --sldies`, `wsi-deform trian`\n\n    wsi-deform manifest \\\n     chek a"
    assert [problem for code in code_of(text) for problem in problems(code)] == [
        "wsi-deform train has no --sldies",
        "no command: wsi-deform trian",
        "no command: wsi-deform manifest chek a",
    ]
    assert problems("wsi-deform segment a --set x=1 --out b | wsi-deform view b --mpp 2") == [
        "wsi-deform segment has no --set",
        "wsi-deform view has no --mpp",
    ]
    assert [is_key(key) for key in ("sampling.budget", "blocks.share", "networks.segmentation.width")] == [
        True
    ] * 3
    assert [is_key(key) for key in ("sampling.budgets", "sampling.budget.x", "trainign.epochs")] == [
        False
    ] * 3
