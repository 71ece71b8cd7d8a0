"""Which device networks are computed on."""

from __future__ import annotations

import torch

from wsi_deform.errors import ModelError


def device_name(name: str) -> str:
    """The device that a name means here.

    Args:
        name: "auto" (CUDA, else MPS, else CPU) or any torch device.

    Raises:
        ModelError: This machine does not have it.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f'device "{name}": {reason}. Needed auto, cpu, cuda or mps, as this machine has.'
        ) from error
    return name
