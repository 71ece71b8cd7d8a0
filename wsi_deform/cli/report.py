"""`wsi-deform report`: a page about a run or about masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    path: Annotated[Path, typer.Argument(help="Run folder of `train`, or the --out of `segment`.")],
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Ids in place of slide names, and nothing that names files.")
    ] = False,
    key: Annotated[
        Path | None,
        typer.Option(help="With --anonymous: a CSV that says which id is whose; ids in it are kept."),
    ] = None,
) -> None:
    """Write report.html into a run folder or a folder of masks."""
    from wsi_deform.report.folder import report_folder

    if key is not None and not anonymous:
        raise typer.BadParameter("needed --anonymous beside it.", param_hint="--key")
    typer.echo(str(report_folder(path, anonymous=anonymous, key_file=key)))
