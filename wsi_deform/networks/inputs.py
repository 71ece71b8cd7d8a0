"""What networks see of images and of what goes with them: centred and scaled."""

from __future__ import annotations

import torch
from torch import Tensor

from wsi_deform.networks.layers import CHANNEL_MEAN, CHANNEL_STD

# A fold of the grid has a cell of no area.
MIN_RELATIVE_AREA = 1e-4


def network_input(rgb: Tensor) -> Tensor:
    """Centre and scale RGB in [0, 255], (B, 3, H, W), per channel as ImageNet networks expect."""
    mean = torch.tensor(CHANNEL_MEAN, device=rgb.device).view(1, 3, 1, 1)
    std = torch.tensor(CHANNEL_STD, device=rgb.device).view(1, 3, 1, 1)
    return (rgb.float() / 255 - mean) / std


def rgb_of_input(seen: Tensor) -> Tensor:
    """``network_input`` backwards: (B, 3, H, W) to RGB, of which [0, 255] is what images hold; float32."""
    mean = torch.tensor(CHANNEL_MEAN, device=seen.device).view(1, 3, 1, 1)
    std = torch.tensor(CHANNEL_STD, device=seen.device).view(1, 3, 1, 1)
    return (seen.float() * std + mean) * 255


def view_input(view: Tensor) -> Tensor:
    """A low-res view, (B, 3 or 4, H, W), RGB in [0, 255] and the share of tissue, as networks see it."""
    seen = network_input(view[:, :3])
    # Centred like the colours: half tissue is 0.
    return torch.cat((seen, 2 * view[:, 3:] - 1), dim=1) if view.shape[1] > 3 else seen


def area_input(relative: Tensor) -> Tensor:
    """Cell areas / their mean, (B, 1, h, w), as a channel: 0 for a cell of mean size, 1 for one e^2 = 7.4 times it."""
    return relative.float().clamp_min(MIN_RELATIVE_AREA).log() / 2
