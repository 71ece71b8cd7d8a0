"""`wsi-deform qupath-scripts`: scripts that show results in QuPath."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsi_deform.cli.console import say

EXAMPLES = ("wsi-deform qupath-scripts out",)


def qupath_scripts(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The --out of `segment`, which the scripts then look in; in any other folder they ask for it.",
        ),
    ],
) -> None:
    """Write two scripts for QuPath: outlines as annotations, and the mask in colours over the slide."""
    from wsi_deform.mask.qupath_scripts import write_qupath_scripts

    for path in write_qupath_scripts(out):
        say(str(path))
