"""A residual network whose last two stages are dilated: wide context without giving up more resolution.

The parameter names are those of the ImageNet checkpoints that torchvision publishes (``conv1``, ``bn1``,
``layer1.0.conv1``, ``layer1.0.downsample.0``, ...), so a user's file loads. Checkpoints of variants with three
convolutions in the stem (deep stem) are other networks and do not fit.

Source:
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; dilated as in Yu and Koltun,
    "Multi-Scale Context Aggregation by Dilated Convolutions", ICLR 2016.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.layers import BatchNorm, he_initialise, require_image

#: Blocks of each stage, and whether they are bottlenecks, by the number of layers.
DEPTHS: dict[int, tuple[tuple[int, int, int, int], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}
STAGE_CHANNELS = (64, 128, 256, 512)
#: Strides of the first convolution and of the pooling behind it, by the stride of both together.
STEM_STRIDES = {4: (2, 2), 2: (2, 1), 1: (1, 1)}


class _Block(nn.Module):
    """Convolutions with BatchNorm around an identity or a projection; the channels that leave are ``outputs``."""

    outputs: int

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), BatchNorm(outputs)
            )


class _BasicBlock(_Block):
    """Two 3x3 convolutions; the first may stride, and sees pixels ``before`` apart."""

    def __init__(self, inputs: int, channels: int, *, stride: int, before: int, dilation: int) -> None:
        super().__init__(inputs, channels, stride)
        self.conv1 = _conv3(inputs, channels, stride=stride, dilation=before)
        self.bn1 = BatchNorm(channels)
        self.conv2 = _conv3(channels, channels, dilation=dilation)
        self.bn2 = BatchNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(features)), inplace=True)
        inner = self.bn2(self.conv2(inner))
        return F.relu(inner + self.downsample(features), inplace=True)


class _Bottleneck(_Block):
    """Convolutions 1x1, 3x3 and 1x1 to four times ``channels``; the 3x3 may stride, as torchvision's does."""

    def __init__(self, inputs: int, channels: int, *, stride: int, before: int, dilation: int) -> None:
        super().__init__(inputs, 4 * channels, stride)
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = _conv3(channels, channels, stride=stride, dilation=before)
        self.bn2 = BatchNorm(channels)
        self.conv3 = nn.Conv2d(channels, self.outputs, 1, bias=False)
        self.bn3 = BatchNorm(self.outputs)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(features)), inplace=True)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        inner = self.bn3(self.conv3(inner))
        return F.relu(inner + self.downsample(features), inplace=True)


def _conv3(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)


class ResNetBackbone(nn.Module):
    """Stem and four stages; the last two keep the resolution of the second.

    Args:
        depth: Layers, 18, 34, 50 or 101.
        stem_stride: Input pixels per pixel of the first stage, along each axis: 4 as published, 2 or 1.
        in_channels: Channels of the input.
        dilated: Whether the last two stages dilate instead of striding; False is the network that
            classifies ImageNet.

    Attributes:
        channels: Channels of the output.

    Raises:
        ModelError: Another depth or stride.

    Convention:
        Dilating changes no parameter and computes what the strided network computes, at every pixel instead
        of every second or fourth: a stage that no longer strides hands its stride to the convolutions
        behind it as dilation.
    """

    def __init__(
        self, *, depth: int, stem_stride: int = 4, in_channels: int = 3, dilated: bool = True
    ) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ModelError(f"ResNet depth {depth}: needed one of {', '.join(map(str, DEPTHS))}.")
        if stem_stride not in STEM_STRIDES:
            raise ModelError(f"ResNet stem_stride {stem_stride}: needed 4, 2 or 1.")
        blocks, bottleneck = DEPTHS[depth]
        kind = _Bottleneck if bottleneck else _BasicBlock
        first, pooled = STEM_STRIDES[stem_stride]
        self.in_channels = in_channels
        self.conv1 = nn.Conv2d(in_channels, STAGE_CHANNELS[0], 7, stride=first, padding=3, bias=False)
        self.bn1 = BatchNorm(STAGE_CHANNELS[0])
        self.maxpool = nn.MaxPool2d(3, stride=pooled, padding=1)
        channels, dilation = STAGE_CHANNELS[0], 1
        for number, (count, inner) in enumerate(zip(blocks, STAGE_CHANNELS, strict=True), start=1):
            stride, before = (1 if number == 1 else 2), dilation
            if dilated and number > 2:
                stride, dilation = 1, 2 * dilation
            stage: list[_Block] = []
            for place in range(count):
                block = kind(
                    channels,
                    inner,
                    stride=stride if place == 0 else 1,
                    before=before if place == 0 else dilation,
                    dilation=dilation,
                )
                stage.append(block)
                channels = block.outputs
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.channels = channels
        he_initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """The last feature map.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            (B, channels, h, w) at 1 / (2 stem_stride) of the input's size, rounded up at each step (at 1 / 8 of
            the first stage's where not dilated).
        """
        require_image(image, self.in_channels, "ResNet")
        features: Tensor = self.maxpool(F.relu(self.bn1(self.conv1(image)), inplace=True))
        for number in range(1, 5):
            features = self.get_submodule(f"layer{number}")(features)
        return features
