"""ONNX Runtime behind the same few lines: a network written as ONNX, and what runs such a file on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ModelError
from wsi_deform.export.onnx import INPUT, ONLY_FATAL, OUTPUT, write_onnx
from wsi_deform.geometry import Size
from wsi_deform.runtime.parts import Outputs

SUFFIX = ".onnx"


def written(part: Outputs, path: Path, *, channels: int, size: Size) -> None:
    """Write a network with free batch, height and width.

    Args:
        part: The network.
        path: Where to, ``.onnx``.
        channels: Channels of its input.
        size: Of the example, px.

    Raises:
        ModelError: torch cannot express it in ONNX.
    """
    names = tuple(f"{OUTPUT}{number}" for number in range(max(1, len(part.strides))))
    write_onnx(part, path, channels=channels, size=size, outputs=names)


class Engine:
    """Runs a written network on the processor; any thread may call it.

    Args:
        path: The ``.onnx``.
        threads: Threads of one pass.
        blobs: Not used: nothing is compiled.

    Raises:
        ModelError: The file cannot be read.
    """

    def __init__(self, path: Path, *, threads: int, blobs: Path | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = ONLY_FATAL
        options.intra_op_num_threads = threads
        # Threads that wait burn the time of those that read.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own, of many types
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"runtime onnx, {path}: cannot be run ({reason}). Remove it.") from error

    def __call__(self, image: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """(B, channels, H, W) -> the outputs."""
        found: list[NDArray[np.float32]] = self._session.run(None, {INPUT: image})
        return found
