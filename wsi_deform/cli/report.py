"""`wsi-deform report`: a page about a run, about masks, or about several of them side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsi_deform.cli.console import say
from wsi_deform.cli.options import Anonymous, Key, refuse_key_alone

EXAMPLES = (
    "wsi-deform report run",
    "wsi-deform report out --slides manifest.csv --figures figures",
    "wsi-deform report out-a out-b --out comparison.html",
    "wsi-deform report out --anonymous --key names.csv",
)


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|OUT...",
            help="Run folder of `train`, or the --out of `segment`; several are compared, also JSON files of "
            "`evaluate`.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE",
            help="Where to write; default: report.html in the folder, for several comparison.html here.",
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write the figures, each as PNG and SVG."),
    ] = None,
    slides: Annotated[
        Path | None,
        typer.Option(
            metavar="MANIFEST", help="Manifest CSV with labels, to show them beside the masks of OUT."
        ),
    ] = None,
    anonymous: Anonymous = False,
    key: Key = None,
) -> None:
    """Write one HTML page about a run or a folder of masks, or compare several."""
    from wsi_deform.report.folder import report_comparison, report_folder

    refuse_key_alone(key, anonymous=anonymous)
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{out}: needed a file that ends with .html.", param_hint="--out")
    if len(paths) == 1:
        page = report_folder(
            paths[0], anonymous=anonymous, key_file=key, page=out, figures=figures, manifest=slides
        )
    elif slides is not None:
        raise typer.BadParameter(
            "shows labels beside the masks of one folder. Give one, or leave --slides out.",
            param_hint="--slides",
        )
    else:
        page = report_comparison(paths, anonymous=anonymous, key_file=key, page=out, figures=figures)
    say(str(page))
