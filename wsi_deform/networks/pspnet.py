"""PSPNet, the segmentation network of the paper's sanity check: context pooled over regions of four sizes.

Source:
    Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017 (arXiv 1612.01105).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.layers import BatchNorm, he_initialise, require_image, resized
from wsi_deform.networks.resnet import ResNetBackbone

BINS = (1, 2, 3, 6)


class PyramidPooling(nn.Module):
    """The features themselves, and beside them their means over 1, 2 x 2, 3 x 3 and 6 x 6 regions.

    Args:
        channels: Channels of the features; each level of the pyramid gets a quarter of them.

    Convention:
        The regions tile the feature map exactly, edge to edge; a pixel that lies in two of them counts in each
        by the share that lies there. Where all regions hold whole pixels this is adaptive average pooling. Maps of
        fewer pixels than regions work too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels // len(BINS), 1, bias=False),
                BatchNorm(channels // len(BINS)),
                nn.ReLU(inplace=True),
            )
            for _ in BINS
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, 2 C, h, w)."""
        size = features.shape[-2:]
        pooled = [
            resized(level(region_means(features, bins)), size)
            for bins, level in zip(BINS, self.levels, strict=True)
        ]
        return torch.cat([features, *pooled], dim=1)


def region_means(features: Tensor, bins: int) -> Tensor:
    """Means over ``bins`` x ``bins`` regions that tile the map: (B, C, h, w) -> (B, C, bins, bins)."""
    height, width = features.shape[-2:]
    rows, columns = _shares(height, bins, features), _shares(width, bins, features)
    return rows @ features @ columns.T


def _shares(pixels: int, bins: int, like: Tensor) -> Tensor:
    """How much of each region every pixel of an axis is, (bins, pixels); rows sum to 1."""
    # In units of 1 / (pixels * bins) all edges are whole numbers, so that nothing is lost to rounding.
    start = torch.arange(pixels, device=like.device)[None, :] * bins
    region = torch.arange(bins, device=like.device)[:, None] * pixels
    overlap = torch.minimum(start + bins, region + pixels) - torch.maximum(start, region)
    return overlap.clamp(min=0).to(like.dtype) / pixels


class PSPNet(nn.Module):
    """A dilated residual network, pyramid pooling, and a head that scores at an eighth of the input's size.

    Args:
        classes: Classes to score.
        depth: Layers of the residual network: 18, 34, 50 or 101.
        stem_stride: Input pixels per pixel of the first stage: 4 as published, 2 or 1 for sampled images of
            few pixels. The scores are made at half that resolution, and resized. It changes strides only, so
            a checkpoint fits all three; time and memory grow with 1 / stem_stride^2.
        in_channels: Channels of the input.

    Raises:
        ModelError: A depth, stride or number of classes that cannot be.

    Convention:
        Any input size works, in training too. There is no auxiliary classifier and no dropout: one output, and
        training that repeats itself. Published checkpoints were trained with inputs normalised by the ImageNet
        mean and standard deviation; they fit ``backbone``.
    """

    def __init__(self, *, classes: int, depth: int = 50, stem_stride: int = 4, in_channels: int = 3) -> None:
        super().__init__()
        if classes < 1:
            raise ModelError(f"PSPNet with {classes} classes: needed at least 1.")
        self.backbone = ResNetBackbone(depth=depth, stem_stride=stem_stride, in_channels=in_channels)
        channels = self.backbone.channels
        self.pyramid = PyramidPooling(channels)
        self.head = nn.Sequential(
            nn.Conv2d(2 * channels, channels // 4, 3, padding=1, bias=False),
            BatchNorm(channels // 4),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // 4, classes, 1),
        )
        he_initialise(self.pyramid)
        he_initialise(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            (B, classes, H, W), scores before the softmax.
        """
        require_image(image, self.backbone.in_channels, "PSPNet")
        scores = self.head(self.pyramid(self.backbone(image)))
        return resized(scores, image.shape[-2:])
