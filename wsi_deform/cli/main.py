"""The command `wsi-deform`: parse, call, print. Heavy imports happen inside the commands."""

from __future__ import annotations

import gc
import io
import logging
import sys
import traceback
from types import TracebackType
from typing import Annotated, Any, cast

import typer
import typer.core

from wsi_deform.cli.annotation import app as annotation_app
from wsi_deform.cli.demo import demo
from wsi_deform.cli.evaluate import evaluate
from wsi_deform.cli.export import export
from wsi_deform.cli.inspect import inspect
from wsi_deform.cli.manifest import app as manifest_app
from wsi_deform.cli.report import report
from wsi_deform.cli.segment import segment
from wsi_deform.cli.start import let_idle_threads_sleep
from wsi_deform.cli.train import train
from wsi_deform.cli.view import view
from wsi_deform.errors import WsiDeformError
from wsi_deform.redact import redacted

USAGE_ERROR = 2

# Whatever command is not understood; typer has no name of its own for it.
UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])


class RedactingGroup(typer.core.TyperGroup):
    """The command line; what it says of arguments that it cannot use does not quote the secrets of URLs."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            error.message = redacted(error.message)
            raise


class RedactingFormatter(logging.Formatter):
    """Log lines, tracebacks too, without the secrets of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return redacted(super().format(record))


typer_app = typer.Typer(
    name="wsi-deform",
    cls=RedactingGroup,
    help="Segment gigapixel whole-slide images by learning where to look.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)
typer_app.command()(demo)
typer_app.command()(inspect)
typer_app.add_typer(manifest_app, name="manifest")
typer_app.add_typer(annotation_app, name="annotation")
typer_app.command()(train)
typer_app.command()(segment)
typer_app.command()(evaluate)
typer_app.command()(report)
typer_app.command()(view)
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def show_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show the traceback of an error that was not foreseen, without the secrets of URLs; an ``excepthook``."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def app() -> None:
    """Run the command line; errors that a user can mend are one message, not a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal cannot show never ends the work.
            stream.reconfigure(errors="backslashreplace")
    let_idle_threads_sleep()
    try:
        typer_app()
    except WsiDeformError as error:
        typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
        typer.echo(str(error), err=True)
        sys.exit(USAGE_ERROR)
    finally:
        # After typer, which shows an error that nobody foresaw with all that it quotes.
        sys.excepthook = show_redacted
        # The process ends and gives its memory back anyway: a last look for garbage in all of torch takes .2 s.
        gc.freeze()
