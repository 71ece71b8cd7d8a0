"""`wsi-deform report`: a page about a run or about masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    path: Annotated[Path, typer.Argument(help="Run folder of `train`, or the --out of `segment`.")],
) -> None:
    """Write report.html into a run folder or a folder of masks."""
    from wsi_deform.report.folder import report_folder

    typer.echo(str(report_folder(path)))
