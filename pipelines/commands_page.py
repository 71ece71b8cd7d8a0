"""Writes docs/commands.md from the commands themselves: ``python -m pipelines.commands_page``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from wsi_deform.cli.help import MESSAGES, about_of, groups_of
from wsi_deform.cli.main import typer_app

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
HEAD = """\
# Commands

Written from the program by `python -m pipelines.commands_page`; a test compares the two. `wsi-deform COMMAND --help`
is the same in a terminal.

- **Same names everywhere**: `--slides` what is read, `--out` where results go, `--model` a run folder or either file
  of a model (`run`, `run/best.json`, `run/best.safetensors`), `--config` a packaged configuration or a YAML file,
  `--set KEY=VALUE` over it, `--classes` a class table, `--split`, `--seed`, `--device`. An option that takes several
  values is given several times.
- **Every command** has `-h`, `-q` (errors only), `-v` (what happens inside) and `--debug` (the traceback of every
  error), after its name or before it.
- **Errors** are one block on stderr that starts with `wsi-deform: error:`. Exit code 2: the command line, or what it
  names, cannot be used. 130 and 143: interrupted by Ctrl-C and by SIGTERM; the same command goes on.
- **Output** goes to stdout. Colours and bars are shown in terminals only, colours not where `NO_COLOR` is set.
- **Completion** of commands, options and values: `wsi-deform --install-completion`, then a new shell (bash, zsh,
  fish, PowerShell).
- `wsi-deform --version` prints the version alone in its first line, then commit, Python, torch and platform.
"""


def page_text() -> str:
    """The whole page."""
    parts = [HEAD]
    for name, command in commands(typer.main.get_command(typer_app)):
        parts += [*_section(name, command)]
    return "\n".join(parts).rstrip() + "\n"


def commands(group: Any, above: str = "wsi-deform") -> Iterator[tuple[str, Any]]:
    """Each command by its whole name, in the order of the help."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        whole = f"{above} {name}"
        if hasattr(command, "commands"):
            yield from commands(command, whole)
        else:
            yield whole, command


def _section(name: str, command: Any) -> Iterator[str]:
    about = about_of(command)
    yield f"## {name}\n"
    yield f"{command.help.strip()}\n"
    for example in about.examples:
        yield f"    {example}"
    yield ""
    for title, entries in groups_of(command.params).items():
        own = [
            each
            for each in entries
            if title != MESSAGES or not each.names.startswith(("-q", "-v", "--debug", "-h"))
        ]
        if own:
            yield f"| {title} | |\n|---|---|"
            yield from (f"| `{_cell(each.names)}` | {_cell(each.text)} |" for each in own)
            yield ""
    exits = "; ".join(f"{code}: {text}" for code, text in sorted(about.exits.items()))
    yield f"Exit codes: {exits}.\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page_text(), encoding="utf-8")
