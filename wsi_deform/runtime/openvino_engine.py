"""OpenVINO behind a few lines: a network written as its IR (two files), and what runs such files on the processor."""

from __future__ import annotations

import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wsi_deform.errors import ModelError
from wsi_deform.export.torchscript import tracing
from wsi_deform.export.verify import example_input
from wsi_deform.geometry import Size
from wsi_deform.runtime.parts import Outputs

SUFFIX = ".xml"
TELEMETRY = "openvino_telemetry"
COARSEST_STRIDE, LEAST_PLACES = 32, 16


def quiet_openvino() -> Any:
    """The package, imported so that it tells nobody.

    Convention:
        As it is imported it sends an event to its maker, unasked, unless the package that does so is missing. Here it
        is as if it were; where somebody else in this process imported it before, that is their business.
    """
    sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]
    import openvino

    return openvino


def written(part: Outputs, path: Path, *, channels: int, size: Size) -> None:
    """Write a network with free batch, height and width.

    Args:
        part: The network.
        path: Where to, ``.xml``; its weights lie beside it as ``.bin``.
        channels: Channels of its input.
        size: Of the example that it is traced with, px.

    Raises:
        ModelError: OpenVINO cannot express it.
    """
    openvino = quiet_openvino()
    try:
        with tracing(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            example = example_input(channels, size, batch=1)
            traced = torch.jit.trace(part, example, check_trace=False)  # type: ignore[no-untyped-call]
            # Constants are folded by torch: OpenVINO takes three times as long for it.
            frozen = torch.jit.freeze(traced)
            given = (openvino.PartialShape([-1, channels, -1, -1]), openvino.Type.f32)
            converted = openvino.convert_model(frozen, input=[given])
        openvino.save_model(converted, str(path), compress_to_fp16=False)
    except Exception as error:  # its own, of whatever type; all are said in one way
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"runtime openvino: cannot express this network: {reason} Use --runtime torch."
        ) from error


class Engine:
    """Runs written networks on the processor; any thread may call it.

    Args:
        path: The ``.xml``.
        threads: Threads of one pass.
        blobs: Folder in which what is compiled is kept for the next process; None keeps nothing.

    Raises:
        ModelError: The files cannot be read.
    """

    def __init__(self, path: Path, *, threads: int, blobs: Path | None = None) -> None:
        openvino = quiet_openvino()
        settings: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            # Half floats, where a processor has them, are not what was asked for.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if blobs is not None:
            settings["CACHE_DIR"] = str(blobs)
        try:
            core = openvino.Core()
            # Compiled once for all sizes: a pass of a size that is new takes a few hundredths of a second more.
            self._compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise ModelError(f"runtime openvino, {path}: cannot be run ({reason[0]}). Remove it.") from error
        self._of_thread = threading.local()

    def __call__(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(B, channels, H, W), C-contiguous -> the outputs, which are the caller's."""
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = self._compiled.create_infer_request()
        found = request.infer([repeated(image)], share_inputs=True, share_outputs=False)
        return [found[output][: len(image)] for output in self._compiled.outputs]


def repeated(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, channels, H, W), and again until the coarsest features have a few places.

    OpenVINO 2026.4 ends the process where int8 features have four places or fewer in all: one look of 32 x 32 px, or
    four windows of 16 x 16. Images of a batch know nothing of each other.
    """
    coarsest = [max(1, side // COARSEST_STRIDE) for side in image.shape[2:]]
    places = len(image) * coarsest[0] * coarsest[1]
    if places == 0 or places >= LEAST_PLACES:
        return image
    return np.tile(image, (-(-LEAST_PLACES // places), 1, 1, 1))
