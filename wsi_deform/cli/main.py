"""The command `wsi-deform`: parse, call, print. Heavy imports happen inside the commands."""

from __future__ import annotations

import gc
import io
import sys
import traceback
from types import TracebackType
from typing import Annotated

import typer

from wsi_deform.cli import (
    annotation,
    config,
    demo,
    doctor,
    evaluate,
    explore,
    export,
    inspect,
    manifest,
    model,
    quantise,
    qupath_scripts,
    report,
    segment,
    submission,
    train,
    view,
)
from wsi_deform.cli.app import App, Debug, Quiet, Verbose
from wsi_deform.cli.console import set_talk
from wsi_deform.cli.help import INTERRUPTED
from wsi_deform.cli.start import end_at_once, is_own_program, let_idle_threads_sleep
from wsi_deform.redact import redacted

typer_app = App(
    name="wsi-deform",
    help="Segment gigapixel whole-slide images by learning where to look.\n\n"
    "`wsi-deform COMMAND --help` has options, examples and exit codes; docs/commands.md is the same as a page.",
)
SLIDES_FAILED = {1: "at least one slide failed; the others are done"}

typer_app.command(examples=demo.EXAMPLES, exits=INTERRUPTED)(demo.demo)
typer_app.command(examples=inspect.EXAMPLES)(inspect.inspect)
typer_app.command(examples=explore.EXAMPLES, exits=SLIDES_FAILED | INTERRUPTED)(explore.explore)
typer_app.add_typer(manifest.app, name="manifest")
typer_app.add_typer(annotation.app, name="annotation")
typer_app.command(examples=train.EXAMPLES, exits=INTERRUPTED)(train.train)
typer_app.command(examples=segment.EXAMPLES, exits=SLIDES_FAILED | INTERRUPTED)(segment.segment)
typer_app.command(
    examples=evaluate.EXAMPLES, exits={1: "at least one slide could not be measured; the others are"}
)(evaluate.evaluate)
typer_app.command(examples=view.EXAMPLES)(view.view)
typer_app.command(name="qupath-scripts", examples=qupath_scripts.EXAMPLES)(qupath_scripts.qupath_scripts)
typer_app.command(examples=report.EXAMPLES)(report.report)
typer_app.command(examples=export.EXAMPLES)(export.export)
typer_app.add_typer(model.app, name="model")
typer_app.command(examples=quantise.EXAMPLES)(quantise.quantise)
typer_app.command(examples=submission.EXAMPLES)(submission.submission)
typer_app.add_typer(config.app, name="config")
typer_app.command(examples=doctor.EXAMPLES, exits=doctor.EXITS)(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from wsi_deform.cli.version import version_text

        typer.echo(version_text())
        raise typer.Exit


@typer_app.callback()
def common(
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Say which program this is: its version in the first line, then commit, Python, torch, platform.",
        ),
    ] = False,
) -> None:
    """Set up what all commands share."""
    set_talk(quiet=quiet, verbose=verbose, debug=debug)


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
    except SystemExit as ended:
        if isinstance(ended.code, int) and is_own_program():
            end_at_once(ended.code)
        raise
    finally:
        # After typer, which shows an error that nobody foresaw with all that it quotes.
        sys.excepthook = show_redacted
        # The process ends and gives its memory back anyway: a last look for garbage in all of torch takes .2 s.
        gc.freeze()
