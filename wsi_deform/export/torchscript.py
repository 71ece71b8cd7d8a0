"""TorchScript: one file per network that libtorch (C++, Java, Python) runs without this package."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.export.verify import Runner, example_input
from wsi_deform.geometry import Size

#: Odd on purpose: at a size that divides by everything a network skips the resizing that other sizes need.
TRACED_SIZE = Size(91, 37)


def require_torchscript() -> None:
    """Refuse to start where PyTorch has given TorchScript up.

    Raises:
        ModelError: It names what to use instead.
    """
    jit = getattr(torch, "jit", None)
    missing = [name for name in ("trace", "save", "load") if not hasattr(jit, name)]
    if missing:
        raise ModelError(
            f"export to torchscript: PyTorch {torch.__version__} has no torch.jit.{missing[0]} any more. "
            "Use --format torch-export, its successor, or onnx."
        )


def write_torchscript(part: nn.Module, path: Path, *, channels: int, size: Size = TRACED_SIZE) -> None:
    """Trace a network and write it.

    Args:
        part: A module of ``export.networks``, on the CPU, in evaluation mode.
        path: Where to.
        channels: Channels of its input.
        size: Size of the example.

    Raises:
        ModelError: The network cannot be traced.
    """
    with tracing(), torch.no_grad(), _explained(path):
        # What the trace computes is compared by `verify`, from the file and at other sizes.
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            part, example_input(channels, size, batch=1), check_trace=False
        )
        torch.jit.save(traced, str(path))


def run_torchscript(path: Path) -> Runner:
    """What runs a written file.

    Raises:
        ModelError: When it fails; only from what is returned.
    """
    with tracing():
        loaded = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]

    def run(image: Tensor) -> Tensor:
        with _explained(path):
            output: Tensor = loaded(image)
        return output

    return run


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say of which file torch speaks, and what else there is; its last line tells what went wrong."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ModelError(
            f"export {path}: TorchScript cannot express this network for images of any size: {reason[0]} "
            "Try --format torch-export, or monai-bundle, which keeps the network as it is."
        ) from error


@contextmanager
def tracing() -> Iterator[None]:
    """The one place where torch's remarks on TorchScript are silenced.

    Newer torch calls all of ``torch.jit`` deprecated (a DeprecationWarning in 2.13, a FutureWarning in 2.15), from
    Python 3.14 on even not supported, but still writes and reads it, and no other format runs in libtorch without a
    compiler. The tracer remarks on every comparison of sizes; ``verify`` answers whether it mattered.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", category)
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
