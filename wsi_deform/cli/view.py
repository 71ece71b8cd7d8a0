"""`wsi-deform view`: a page to look at slides and masks."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from wsi_deform.cli.console import plain_console
from wsi_deform.cli.interrupts import interrupted_by_signals
from wsi_deform.cli.start import imported_at_once

EXAMPLES = ("wsi-deform view out", "wsi-deform view slide.svs --no-browser --port 8000")


def view(
    path: Annotated[
        str,
        typer.Argument(
            metavar="OUT|SLIDE",
            help="The --out of `segment`, also while it runs; a slide or its URL (FILE::NAME: one of its images); or a "
            "folder of slides.",
        ),
    ],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Where to listen on this machine; 0 takes a free port.")
    ] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser of this machine.")] = True,
) -> None:
    """Show slides, masks and samples in a browser; only this machine can see them. Ctrl-C ends it."""
    with imported_at_once():
        from wsi_deform.slide.registry import READERS
        from wsi_deform.viewer.catalogue import catalogue_of
        from wsi_deform.viewer.opened import MAX_OPEN
        from wsi_deform.viewer.server import Viewer

    READERS.keep_at_most(MAX_OPEN)
    console = plain_console()
    with Viewer(catalogue_of(path), port=port) as viewer, interrupted_by_signals():
        console.print(f"{viewer.url}\nOpen this address in a browser. Ctrl-C ends it.", soft_wrap=True)
        if browser and has_screen():
            import webbrowser

            webbrowser.open(viewer.once_url())
        try:
            viewer.serve_forever()
        except KeyboardInterrupt:
            console.print("Ended.")


def has_screen() -> bool:
    """Whether a browser that is started here has somewhere to show itself; a text browser would take the terminal."""
    if sys.platform in ("win32", "darwin"):
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
