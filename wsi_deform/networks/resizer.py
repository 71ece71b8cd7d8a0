"""The learned resizer: makes a small image out of a larger one, by the loss of the network that sees it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.geometry import Size
from wsi_deform.networks.layers import BatchNorm, he_initialise, require_image

SLOPE = 0.2
CHANNELS = 3


class Resizer(nn.Module):
    """A bilinearly resized image, and what a small network adds to it.

    Args:
        blocks: Residual blocks at the size of the result, 1 or more (r in Table 6 of Jin et al.).
        filters: Channels of every convolution but the last (n there).

    Raises:
        ModelError: Fewer than 1 block or filter.

    Convention:
        Both resizings, of the image and of features, are bilinear with antialiasing: without it 4 pixels make each
        pixel of the result however much smaller that is, and the baseline would start worse than area means do. The
        last convolution starts at zero: training starts from the resized image.

    Source:
        Talebi and Milanfar, ICCV 2021 (arXiv 2103.09950), section 3 and figure 2; the zeros are ours, and so is the
        antialiasing, of which the paper says nothing.
    """

    def __init__(self, *, blocks: int = 1, filters: int = 16) -> None:
        super().__init__()
        if blocks < 1 or filters < 1:
            raise ModelError(f"resizer of {blocks} blocks, {filters} filters: needed 1 or more of both.")
        self.features = nn.Sequential(
            nn.Conv2d(CHANNELS, filters, 7, padding=3),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(filters, filters, 1),
            nn.LeakyReLU(SLOPE, inplace=True),
            BatchNorm(filters),
        )
        self.blocks = nn.Sequential(*(_Residual(filters) for _ in range(blocks)))
        self.joined = nn.Sequential(nn.Conv2d(filters, filters, 3, padding=1, bias=False), BatchNorm(filters))
        self.head = nn.Conv2d(filters, CHANNELS, 7, padding=3)
        he_initialise(self)
        nn.init.zeros_(self.head.weight)

    def forward(self, image: Tensor, size: Size) -> Tensor:
        """Resize images.

        Args:
            image: (B, 3, H, W), channels around 0 with a standard deviation of about 1.
            size: Size of the result, px; larger than the image will do too.

        Returns:
            (B, 3, size.height, size.width).
        """
        require_image(image, CHANNELS, "resizer")
        features = _resized(self.features(image), size)
        resized: Tensor = _resized(image, size) + self.head(features + self.joined(self.blocks(features)))
        return resized


class _Residual(nn.Module):
    """Two convolutions beside what they change."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.changes = nn.Sequential(
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            BatchNorm(filters),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            BatchNorm(filters),
        )

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = features + self.changes(features)
        return changed


def _resized(image: Tensor, size: Size) -> Tensor:
    if image.shape[-2:] == size.shape:
        return image
    # Antialiased kernels know no half precision on CPUs.
    return F.interpolate(
        image.float(), size=size.shape, mode="bilinear", align_corners=False, antialias=True
    ).to(image.dtype)
