"""`wsi-deform export`: a model's networks for use elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from wsi_deform.cli.console import say


class Format(StrEnum):
    """What ``export`` writes."""

    monai_bundle = "monai-bundle"
    torchscript = "torchscript"
    torch_export = "torch-export"
    onnx = "onnx"


EXAMPLES = (
    "wsi-deform export run --format torch-export",
    "wsi-deform export run/best.json --format onnx --out networks",
)


def export(
    format: Annotated[
        Format,
        typer.Option(
            metavar="|".join(Format), help="onnx needs: pip install 'wsi-deform[onnx]'.", show_choices=False
        ),
    ],
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Run folder of `train`, or a model's .safetensors or .json."),
    ] = None,
    model: Annotated[Path | None, typer.Option(hidden=True, help="The same as RUN.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where to; default: export/FORMAT in the run folder."),
    ] = None,
) -> None:
    """Write the networks (view to map, sampled image to scores) for other programs, and check what was written."""
    from wsi_deform.export.folder import export_model

    chosen = run or model
    if chosen is None or (run is not None and model is not None):
        raise typer.BadParameter("needed one model.", param_hint="RUN")
    say(str(export_model(chosen, format=format.value, out=out)))
