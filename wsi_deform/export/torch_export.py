"""``torch.export``: one file per network, TorchScript's successor; PyTorch alone runs and compiles it."""

from __future__ import annotations

import inspect
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.export.torchscript import TRACED_SIZE
from wsi_deform.export.verify import Runner, example_input
from wsi_deform.faults import pass_on_own_fault
from wsi_deform.geometry import Size

SIDES = ("rows", "columns")
#: What torch raises for a network that it cannot express, and for a file that does not fit its input.
REFUSALS = (
    RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, OSError, zipfile.BadZipFile,
)  # fmt: skip


def write_torch_export(
    part: nn.Module, path: Path, *, channels: int, size: Size = TRACED_SIZE, step: int = 1
) -> None:
    """Export a network with free batch, height and width.

    Args:
        part: A module of ``export.networks``, on the CPU, in evaluation mode.
        path: Where to; torch wants the suffix ``.pt2``.
        channels: Channels of its input.
        size: Size of the example.
        step: Sides of its images are multiples of it.

    Raises:
        ModelError: torch cannot express the network.
    """
    # A batch of one would be taken for a constant; a network that fixes a size may keep it.
    free = torch.export.Dim.AUTO
    # Said of the sides, sizes behind convolutions that stride stay short terms: a third of the time.
    rows, columns = (step * torch.export.Dim(side) for side in SIDES) if step > 1 else (free, free)
    example = example_input(channels, size, batch=2)
    try:
        with torch.no_grad():
            # By its place: whatever a part calls its input.
            program = torch.export.export(part, (example,), dynamic_shapes=({0: free, 2: rows, 3: columns},))
            torch.export.save(program, path)
    except REFUSALS as error:
        pass_on_own_fault(error, "torch", "monai")
        raise _misfit(path, error) from error


def run_torch_export(path: Path) -> Runner:
    """What runs a written file.

    Raises:
        ModelError: When it cannot; also from what is returned.

    Convention:
        Without torch's guards, which refuse sizes for the memory layout that their intermediate results would have;
        ``verify`` compares what comes out at such sizes.
    """
    try:
        program = torch.export.load(path)
        unguarded = (
            "check_guards" in inspect.signature(program.module).parameters
        )  # older torch has no guards
        module = program.module(check_guards=False) if unguarded else program.module()
    except REFUSALS as error:
        pass_on_own_fault(error, "torch")
        raise _misfit(path, error) from error

    def run(image: Tensor) -> Tensor:
        try:
            output: Tensor = module(image)
        except REFUSALS as error:
            pass_on_own_fault(error, "torch")
            raise _misfit(path, error) from error
        return output

    return run


def _misfit(path: Path, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ModelError(
        f"export {path}: torch.export cannot express this network for images of any size: {reason} "
        "Try --format monai-bundle, which keeps the network as it is."
    )
