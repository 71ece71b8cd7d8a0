"""Augmentation by sampling: flips and small displacements of where the slide is sampled, never of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_deform.geometry import Size

CELLS_PER_KNOT = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridChange:
    """One random change of a batch: use ``of_view`` on what lies in map order, call it on sampling grids.

    Attributes:
        flip_x: (B,) bool, left-right.
        flip_y: (B,) bool, top-bottom.
        displacement: (B, h, w, 2), added to the grid, unit frame.
    """

    flip_x: Tensor
    flip_y: Tensor
    displacement: Tensor

    def of_view(self, view: Tensor) -> Tensor:
        """(B, C, H, W) as the networks see it: flipped."""
        view = torch.where(self.flip_x.view(-1, 1, 1, 1), view.flip(3), view)
        return torch.where(self.flip_y.view(-1, 1, 1, 1), view.flip(2), view)

    def __call__(self, grid: Tensor) -> Tensor:
        """(B, h, w, 2) of the flipped view -> where to sample on the slide, displaced, still inside."""
        displaced = (grid + self.displacement.to(grid)).clamp(0, 1)
        flipped = torch.stack((self.flip_x, self.flip_y), dim=1).view(-1, 1, 1, 2).to(grid.device)
        return torch.where(flipped, 1 - displaced, displaced)


def random_change(
    batch: int,
    size: Size,
    *,
    flip_x: bool,
    flip_y: bool,
    shift_cells: float,
    warp_cells: float,
    generator: torch.Generator,
) -> GridChange:
    """Draw a change.

    Args:
        batch: Number of fields.
        size: Size of the sampled images.
        flip_x: Whether fields are flipped left-right, half of the time.
        flip_y: Whether fields are flipped top-bottom, half of the time.
        shift_cells: The whole grid moves by up to this many undeformed cells along each axis.
        warp_cells: Standard deviation of a smooth random displacement, in undeformed cells.
        generator: Source of chance, on the CPU.

    Returns:
        The change.
    """

    def coin(wanted: bool) -> Tensor:
        return (torch.rand(batch, generator=generator) < 0.5) & wanted

    flips_x, flips_y = coin(flip_x), coin(flip_y)
    shift = (torch.rand(batch, 2, 1, 1, generator=generator) * 2 - 1) * shift_cells
    knots = (max(2, size.height // CELLS_PER_KNOT), max(2, size.width // CELLS_PER_KNOT))
    smooth = F.interpolate(
        torch.randn(batch, 2, *knots, generator=generator),
        size=size.shape,
        mode="bilinear",
        align_corners=True,
    )
    cells = (shift + smooth * warp_cells).permute(0, 2, 3, 1)
    return GridChange(
        flip_x=flips_x, flip_y=flips_y, displacement=cells / torch.tensor([size.width, size.height])
    )
