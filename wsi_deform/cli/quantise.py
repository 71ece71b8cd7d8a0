"""`wsi-deform quantise`: a model's segmentation network in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wsi_deform.cli.console import say

EXAMPLES = (
    "wsi-deform quantise run --slides manifest.csv",
    "wsi-deform quantise run/best.json --slides manifest.csv --fields 128",
)


def quantise(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder of `train`, or a model's .safetensors or .json.")
    ],
    slides: Annotated[
        Path,
        typer.Option(
            metavar="MANIFEST", help="What it was trained with: train calibrates, val measures the cost."
        ),
    ],
    fields: Annotated[
        int, typer.Option(min=1, metavar="N", help="Training fields whose activations are looked at.")
    ] = 64,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the draw of these fields.")] = 0,
    allow_loss: Annotated[
        bool,
        typer.Option("--allow-loss", help="Keep it though it costs more than .5 points of mIoU."),
    ] = False,
) -> None:
    """Store the segmentation network in int8 beside the model, with what it costs; `segment --precision int8` uses it.

    Needs: pip install 'wsi-deform[quantise]'.
    """
    from wsi_deform.manifest.read import read_manifest
    from wsi_deform.runtime.quantise import quantise as run_quantise
    from wsi_deform.runtime.quantise import require_nncf

    require_nncf()
    found = run_quantise(
        run,
        read_manifest(slides),
        fields=fields,
        seed=seed,
        allow_loss=allow_loss,
        on_step=lambda said: say(f"{said} ..."),
    )
    say(f"{found.folder}: {found.cost}.")
