"""EfficientNet-Lite0: features that have seen the world, in few operations.

The names of parameters are those of the published PyTorch checkpoint (``_conv_stem``, ``_blocks.0._depthwise_conv``,
...), so that a user's file loads; what it holds behind the last block used here (the classifier) is not needed.

Source:
    Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019
    (arXiv 1905.11946), without squeeze-and-excitation and with ReLU6, as in its Lite variants.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.networks.layers import BatchNorm, he_initialise, normed, require_image

EXPANSION = 6
STEM_CHANNELS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Blocks of one width; the first of them strides.

    Attributes:
        blocks: How many.
        kernel: Side of the depthwise kernel.
        stride: Of the first block.
        channels: That leave.
        expansion: Channels inside a block, per channel that enters.
    """

    blocks: int
    kernel: int
    stride: int
    channels: int
    expansion: int = EXPANSION


#: The stages up to stride 16. Those behind them make up two thirds of the weights and see 32 pixels as one.
STAGES = (
    _Stage(blocks=1, kernel=3, stride=1, channels=16, expansion=1),
    _Stage(blocks=2, kernel=3, stride=2, channels=24),
    _Stage(blocks=2, kernel=5, stride=2, channels=40),
    _Stage(blocks=3, kernel=3, stride=2, channels=80),
    _Stage(blocks=3, kernel=5, stride=1, channels=112),
)
#: Blocks behind which features leave, as stride -> block.
LEVELS = {2: 0, 4: 2, 8: 4, 16: 10}
#: What the published weights were trained on: (pixel - 127) / 128.
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0


class _Conv(nn.Conv2d):
    """A convolution whose output has ``ceil(side / stride)`` pixels; what is odd of its padding goes right and below.

    Args:
        inputs: Channels that enter.
        outputs: Channels that leave.
        kernel: Side of the kernel, odd.
        stride: 1 or 2.
        groups: As in ``torch.nn.Conv2d``.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int, groups: int = 1) -> None:
        # With stride 1 the padding is the same on all sides, and no copy of the image has to be made for it.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups, bias=False)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # What `forward` calls, and `normed` with weights that normalise too.
        if self.stride[0] == 1:
            return super()._conv_forward(input, weight, bias)  # type: ignore[no-any-return]
        # In terms of a side's last bit alone: torch.export nests the sizes of all convolutions before this one.
        less, more = self.kernel_size[0] // 2 - 1, self.kernel_size[0] // 2
        rows, columns = (less + side % 2 for side in input.shape[2:])
        filled = F.pad(input, (columns, more, rows, more))
        return super()._conv_forward(filled, weight, bias)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """An inverted residual: wide by a 1x1, one depthwise convolution, narrow by a 1x1 without an activation."""

    def __init__(self, inputs: int, stage: _Stage, *, stride: int) -> None:
        super().__init__()
        wide = inputs * stage.expansion
        self.expands = stage.expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(inputs, wide, 1, bias=False)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _Conv(wide, wide, stage.kernel, stride=stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = nn.Conv2d(wide, stage.channels, 1, bias=False)
        self._bn2 = _norm(stage.channels)
        self.adds = stride == 1 and inputs == stage.channels

    def forward(self, features: Tensor) -> Tensor:
        inner = features
        if self.expands:
            inner = F.relu6(normed(self._expand_conv, self._bn0, inner), inplace=True)
        inner = F.relu6(normed(self._depthwise_conv, self._bn1, inner), inplace=True)
        narrow: Tensor = normed(self._project_conv, self._bn2, inner)
        return narrow + features if self.adds else narrow


def _norm(channels: int) -> BatchNorm:
    return BatchNorm(channels, eps=1e-3, momentum=0.01)


class EfficientNetLite0(nn.Module):
    """Image -> feature maps at strides 2, 4, 8 and 16, with 16, 24, 40 and 112 channels.

    Args:
        in_channels: Channels of the image; those behind RGB are further inputs, such as cell areas.

    Attributes:
        channels: Stride -> channels of its feature map.
    """

    channels = {2: 16, 4: 24, 8: 40, 16: 112}

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels = in_channels
        self._conv_stem = _Conv(in_channels, STEM_CHANNELS, 3, stride=2)
        self._bn0 = _norm(STEM_CHANNELS)
        blocks, inputs = [], STEM_CHANNELS
        for stage in STAGES:
            for number in range(stage.blocks):
                blocks.append(_Block(inputs, stage, stride=stage.stride if number == 0 else 1))
                inputs = stage.channels
        self._blocks = nn.ModuleList(blocks)
        he_initialise(self)

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Feature maps by stride.

        Args:
            image: (B, in_channels, H, W), pixels as (value - 127) / 128 with values in [0, 255].

        Returns:
            Stride s -> (B, ``channels[s]``, ceil(H / s), ceil(W / s)).
        """
        require_image(image, self.in_channels, "EfficientNet-Lite0")
        features = F.relu6(normed(self._conv_stem, self._bn0, image), inplace=True)
        leaving = {block: stride for stride, block in LEVELS.items()}
        maps = {}
        for number, block in enumerate(self._blocks):
            features = block(features)
            if number in leaving:
                maps[leaving[number]] = features
        return maps
