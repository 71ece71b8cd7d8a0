"""`wsi-deform export`: a model's networks for use elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """What ``export`` writes."""

    monai_bundle = "monai-bundle"
    torchscript = "torchscript"
    torch_export = "torch-export"
    onnx = "onnx"


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `train`, or a model's .safetensors or .json.")],
    format: Annotated[Format, typer.Option(help="onnx needs: pip install wsi-deform\\[onnx].")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: export/FORMAT in the run folder.")
    ] = None,
) -> None:
    """Write the networks (view to map, sampled image to scores) for other programs, and check what was written."""
    from wsi_deform.export.folder import export_model

    typer.echo(str(export_model(run, format=format.value, out=out)))
