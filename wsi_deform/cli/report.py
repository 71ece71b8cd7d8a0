"""`wsi-deform report`: a page about a run or about masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsi_deform.cli.console import say
from wsi_deform.cli.options import Anonymous, Key, refuse_key_alone

EXAMPLES = ("wsi-deform report run", "wsi-deform report out --anonymous --key names.csv")


def report(
    path: Annotated[
        Path, typer.Argument(metavar="RUN|OUT", help="Run folder of `train`, or the --out of `segment`.")
    ],
    anonymous: Anonymous = False,
    key: Key = None,
) -> None:
    """Write report.html into a run folder or a folder of masks."""
    from wsi_deform.report.folder import report_folder

    refuse_key_alone(key, anonymous=anonymous)
    say(str(report_folder(path, anonymous=anonymous, key_file=key)))
