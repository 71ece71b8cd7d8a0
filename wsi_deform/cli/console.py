"""Where commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def plain_console(*, quiet: bool = False) -> Console:
    """A console that shows text as it is.

    Args:
        quiet: Whether it prints nothing.

    Convention:
        What is printed holds names of files and classes: ``a[red].svs`` is no markup, ``a:cat:.svs`` no emoji.
    """
    from rich.console import Console

    return Console(quiet=quiet, markup=False, emoji=False, highlight=False)
