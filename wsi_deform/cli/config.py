"""`wsi-deform config`: the configurations that come with the program."""

from __future__ import annotations

from typing import Annotated

import typer

from wsi_deform.cli.app import App
from wsi_deform.cli.options import Changes, complete_config, first_comment
from wsi_deform.config_files import packaged_configs
from wsi_deform.errors import ConfigError

app = App(help="List and show the configurations that come with the program.")


@app.command("list", examples=["wsi-deform config list"])
def list_configs() -> None:
    """List the packaged configurations: name and what it is."""
    found = packaged_configs()
    if not found:
        raise ConfigError(
            "configs: this installation lacks its folder of configurations. Needed it. Install wsi-deform again."
        )
    width = max(map(len, found))
    for name, path in found.items():
        typer.echo(f"{name:{width}}  {first_comment(path)}")


@app.command(
    examples=[
        "wsi-deform config show joint",
        "wsi-deform config show joint > mine.yaml",
        "wsi-deform config show uniform --set 'sampling.budget=[40, 400]'",
    ]
)
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE",
            autocompletion=complete_config,
            help="A packaged configuration, such as joint, or a YAML file.",
        ),
    ],
    changes: Changes = None,
) -> None:
    """Print a configuration as YAML, each setting with its comment.

    With --set it is printed complete, with today's default of every setting that the file leaves out.
    """
    from wsi_deform.config import dump_config, find_config, read_config
    from wsi_deform.texts import read_text

    path = find_config(name)
    text = dump_config(read_config(path, changes=changes)) if changes else read_text(path)
    typer.echo(text.rstrip("\n"))
