"""Where commands print, and how much."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from wsi_deform.redact import redacted

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "wsi-deform"


@dataclass(slots=True)
class Talk:
    """How much the command that runs says.

    Attributes:
        quiet: Errors only.
        verbose: Also what happens inside.
        debug: The same, and the traceback of every error.
    """

    quiet: bool = False
    verbose: bool = False
    debug: bool = False


TALK = Talk()


class RedactingFormatter(logging.Formatter):
    """Log lines, tracebacks too, without the secrets of URLs."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record."""
        return redacted(super().format(record))


def set_talk(*, quiet: bool, verbose: bool, debug: bool) -> None:
    """Set how much the command that runs says, and which log lines are shown on stderr."""
    TALK.quiet, TALK.verbose, TALK.debug = quiet, verbose, debug
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    level = logging.INFO if verbose or debug else logging.ERROR if quiet else logging.WARNING
    logging.getLogger().setLevel(level)


def say(text: str) -> None:
    """Print a line on stdout, unless the user wants errors only."""
    if not TALK.quiet:
        typer.echo(text)


def plain_console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """A console that shows text as it is; colours and bars are for terminals, and colours not where NO_COLOR is set.

    Args:
        quiet: Whether it prints nothing; on stdout it also prints nothing where the user wants errors only.
        stderr: Whether it prints on stderr.

    Convention:
        What is printed holds names of files and classes: ``a[red].svs`` is no markup, ``a:cat:.svs`` no emoji.
    """
    from rich.console import Console

    silent = quiet or (TALK.quiet and not stderr)
    return Console(quiet=silent, stderr=stderr, markup=False, emoji=False, highlight=False)


def show_error(message: str) -> None:
    """Print an error on stderr, in one block that breaks no line: ``wsi-deform: error: ...``."""
    from rich.text import Text

    text = Text.assemble((f"{PROGRAM}: error:", "bold red"), " ", redacted(message).strip())
    plain_console(stderr=True).print(text, soft_wrap=True)
