"""ONNX: one file per network for onnxruntime, OpenVINO, TensorRT and others."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.export.torchscript import TRACED_SIZE
from wsi_deform.export.verify import Runner, example_input
from wsi_deform.geometry import Size

NEEDED = ("onnx", "onnxscript", "onnxruntime")
#: What onnxruntime prints by itself; its errors arrive as exceptions too.
ONLY_FATAL = 4
INPUT, OUTPUT = "image", "output"


def require_onnx() -> None:
    """Refuse to start without the packages that writing and verifying ONNX take.

    Raises:
        ModelError: It names those that are missing.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelError(
            f"export to onnx: {', '.join(missing)} not installed. Needed {', '.join(NEEDED)}. "
            "Install them: pip install wsi-deform[onnx]."
        )


def write_onnx(
    part: nn.Module,
    path: Path,
    *,
    channels: int,
    size: Size = TRACED_SIZE,
    outputs: Sequence[str] = (OUTPUT,),
) -> None:
    """Export a network with free batch, height and width.

    Args:
        part: A module of ``export.networks``, on the CPU, in evaluation mode.
        path: Where to.
        channels: Channels of its input.
        size: Size of the example.
        outputs: Names of what it gives.

    Raises:
        ModelError: torch cannot express the network in ONNX.
    """
    # A batch of one would be taken for a constant.
    example = example_input(channels, size, batch=2)
    free = {"image": {0: "batch", 2: "height", 3: "width"}}
    try:
        with _exporting(), torch.no_grad():
            program = torch.onnx.export(
                part,
                (example,),
                dynamo=True,
                dynamic_shapes=free,
                input_names=[INPUT],
                output_names=list(outputs),
                verbose=False,
            )
            if program is None:
                raise ModelError(f"export {path}: torch returned no ONNX program.")
            program.save(str(path))
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        # The exporter wraps what went wrong into advice on itself.
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ModelError(
            f"export {path}: torch cannot write this network as ONNX for images of any size: {reason} "
            "Try --format torch-export, torchscript or monai-bundle."
        ) from error


def run_onnx(path: Path) -> Runner:
    """What runs a written file, with onnxruntime on the CPU as its users have it.

    Raises:
        ModelError: When it cannot; also from what is returned.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    failures = (ort.Fail, ort.InvalidGraph, ort.InvalidArgument, ort.NotImplemented, ort.RuntimeException)

    def misfit(error: Exception) -> ModelError:
        reason = str(error).strip().partition("\n")[0]
        return ModelError(f"export {path}: onnxruntime cannot run it: {reason} Try another --format.")

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ONLY_FATAL
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise misfit(error) from error

    def run(image: Tensor) -> Tensor:
        try:
            (output,) = session.run([OUTPUT], {INPUT: image.numpy()})
        except failures as error:
            raise misfit(error) from error
        return torch.from_numpy(output)

    return run


@contextmanager
def _exporting() -> Iterator[None]:
    """The one place where the exporter's remarks are silenced: on its own insides, and on torchvision's absence."""
    remarks = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning
            )
            yield
    finally:
        remarks.setLevel(level)
