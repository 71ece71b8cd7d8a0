"""The command `wsi-deform`: parse, call, print. Heavy imports happen inside the commands."""

from __future__ import annotations

import gc
import io
import logging
import sys
from typing import Annotated

import typer

from wsi_deform.cli.demo import demo
from wsi_deform.cli.evaluate import evaluate
from wsi_deform.cli.export import export
from wsi_deform.cli.inspect import inspect
from wsi_deform.cli.manifest import app as manifest_app
from wsi_deform.cli.report import report
from wsi_deform.cli.segment import segment
from wsi_deform.cli.train import train
from wsi_deform.errors import WsiDeformError

USAGE_ERROR = 2

typer_app = typer.Typer(
    name="wsi-deform",
    help="Segment gigapixel whole-slide images by learning where to look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
typer_app.command()(demo)
typer_app.command()(inspect)
typer_app.add_typer(manifest_app, name="manifest")
typer_app.command()(train)
typer_app.command()(segment)
typer_app.command()(evaluate)
typer_app.command()(report)
typer_app.command()(export)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"wsi-deform {version('wsi-deform')}")
        raise typer.Exit


@typer_app.callback()
def common(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say what happens inside.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Set up what all commands share."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )


def app() -> None:
    """Run the command line; errors that a user can mend are one message, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot show never ends the work.
            stream.reconfigure(errors="backslashreplace")
    try:
        typer_app()
    except WsiDeformError as error:
        typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
        typer.echo(str(error), err=True)
        sys.exit(USAGE_ERROR)
    finally:
        # The process ends and gives its memory back anyway: a last look for garbage in all of torch takes .2 s.
        gc.freeze()
