"""`wsi-deform model`: a model as one file to pass on, and whether such a file may be used."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from wsi_deform.cli.app import App
from wsi_deform.cli.console import plain_console

app = App(help="Pack a model into one file to share, or check one that was shared.")


@app.command(
    examples=[
        "wsi-deform model pack run --out glands.zip --licence 'CC BY 4.0'",
        "wsi-deform model pack run --out glands.zip --licence CC0 --example slide.svs",
    ]
)
def pack(
    run: Annotated[
        Path,
        typer.Argument(metavar="RUN", help="Run folder of `train`, or a model's .safetensors or .json."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file, NAME.zip.")],
    licence: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Of the training data; asked for where it is not given."),
    ] = None,
    example: Annotated[
        str | None,
        typer.Option(metavar="SLIDE", help="A slide whose tissue is shown; never its label or macro image."),
    ] = None,
) -> None:
    """Write weights, card, licence and checksums of a model as one file; it runs no code."""
    from wsi_deform.sharing import check_text, pack_model
    from wsi_deform.slide.open import open_slide

    if licence is None:
        # Nobody answers a script.
        licence = typer.prompt("Licence of the data that it learned from") if sys.stdin.isatty() else ""
    slide = None if example is None else open_slide(example)
    plain_console().print(check_text(pack_model(run, out, licence=licence, example=slide)), soft_wrap=True)


@app.command(examples=["wsi-deform model check glands.zip", "wsi-deform model check run"])
def check(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|FOLDER", help="What `model pack` wrote, or a run folder.")
    ],
) -> None:
    """Check a shared model, every byte of it, and that it can be loaded; print its checksums."""
    from wsi_deform.sharing import check_model, check_text

    plain_console().print(check_text(check_model(path)), soft_wrap=True)
