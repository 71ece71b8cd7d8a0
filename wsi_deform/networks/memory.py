"""How much memory a network needs for an input, measured on the tensors that it makes."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from wsi_deform.geometry import Size
from wsi_deform.networks.stand_in import own_pass

# Convolutions use scratch memory that no tensor shows: 2.25 was never too little for HRNetV2, BasicUNet and DynUNet.
SCRATCH = 2.25


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that operations return, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {id(leaf) for leaf in tree_leaves((args, kwargs))}
        for tensor in tree_leaves(out):
            # A view shares the memory of its base, and an operation in place returns what it was given.
            if isinstance(tensor, Tensor) and tensor._base is None and id(tensor) not in given:
                self.live += tensor.nbytes
                weakref.finalize(tensor, self._freed, tensor.nbytes)
        self.peak = max(self.peak, self.live)
        return out

    def _freed(self, nbytes: int) -> None:
        self.live -= nbytes


def forward_bytes(network: nn.Module, size: Size, *, channels: int = 3) -> int:
    """Memory that a forward pass of one image needs at its peak, weights not counted.

    Args:
        network: (B, channels, H, W) -> anything, in evaluation mode; run once on the CPU at a smaller size.
        size: Size of the image, px.
        channels: Channels of the image.

    Returns:
        Bytes, with room for the scratch memory of convolutions; extrapolated by area. Where another runtime computes
        its passes, what PyTorch would need.
    """
    probe = Size(min(size.width, 128), min(size.height, 128))
    device = next(network.parameters()).device
    image = torch.zeros(1, channels, *probe.shape, device=device)
    counter = _LiveBytes()
    with torch.no_grad(), counter:
        own_pass(network, image)
    return round(SCRATCH * (counter.peak + image.nbytes) * size.area / probe.area)
