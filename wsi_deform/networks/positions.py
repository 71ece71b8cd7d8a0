"""The auxiliary network of edge-based sampling: looks at the low-res view and says where samples lie."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.geometry import Size
from wsi_deform.networks.layers import BatchNorm, he_initialise, require_image

PX_PER_CELL = 4
"""Pixels of what the network sees along each axis of a cell of its lattice."""


class PositionNetwork(nn.Module):
    """Convolutions down to a lattice, then dilated ones that see across it, then an offset for each position.

    Args:
        in_channels: Channels of the low-res view.
        width: Channels of every convolution.
        dilations: Of the convolutions on the lattice. (1, 2, 4) see 7 positions to every side.

    Convention:
        The view is resized to ``PX_PER_CELL`` pixels per cell of the lattice, so that two convolutions of stride 2
        lead to its cells and keep where in a cell a border lies. The last convolution starts at zero: training starts
        from the uniform grid.

    Source:
        Marin et al., ICCV 2019, predict a small tensor of positions from a small image and enlarge it bilinearly. The
        layers here are ours: of the width of the deformation network of Jin et al., ICLR 2022, appendix A.7, with
        29,000 weights and about half of its multiplications at 64 x 64 px.
    """

    def __init__(
        self, *, in_channels: int = 3, width: int = 24, dilations: tuple[int, ...] = (1, 2, 4)
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.cells = nn.Sequential(
            *_layer(in_channels, width), *_layer(width, width, stride=2), *_layer(width, width, stride=2)
        )
        # 2 x 2 cells meet at a position inside; on the frame the border's cells are repeated.
        self.corners = nn.Sequential(nn.ReplicationPad2d(1), *_layer(width, width, kernel=2, padding=0))
        self.across = nn.Sequential(
            *(
                part
                for dilation in dilations
                for part in _layer(width, width, padding=dilation, dilation=dilation)
            )
        )
        self.head = nn.Conv2d(width, 2, 1)
        he_initialise(self)
        nn.init.zeros_(self.head.weight)

    def forward(self, view: Tensor, lattice: Size) -> Tensor:
        """Say how far positions lie from their undeformed places.

        Args:
            view: (B, in_channels, H, W), the low-res view.
            lattice: Columns and rows of positions, 2 or more each.

        Returns:
            (B, lattice.height, lattice.width, 2) offsets (x, y), unit frame of the field, float32 at least. Exactly 0
            across the frame for positions on it: they stay on it.
        """
        require_image(view, self.in_channels, "position network")
        seen = ((lattice.height - 1) * PX_PER_CELL, (lattice.width - 1) * PX_PER_CELL)
        if view.shape[-2:] != seen:
            view = F.interpolate(view, size=seen, mode="bilinear", align_corners=False, antialias=True)
        offsets: Tensor = self.head(self.across(self.corners(self.cells(view))))
        offsets = offsets.permute(0, 2, 3, 1).to(torch.promote_types(offsets.dtype, torch.float32))
        return offsets * _inside(lattice).to(offsets)


def _inside(lattice: Size) -> Tensor:
    """(height, width, 2): 0 for the coordinate (x, y) across the frame of what lies on it, and 1."""
    free = torch.ones(*lattice.shape, 2)
    free[:, [0, -1], 0] = 0
    free[[0, -1], :, 1] = 0
    return free


def _layer(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, padding: int = 1, dilation: int = 1
) -> list[nn.Module]:
    convolution = nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False
    )
    return [convolution, BatchNorm(outputs), nn.ReLU(inplace=True)]
