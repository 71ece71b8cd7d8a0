"""HRNetV2, the segmentation network of the paper: four resolutions side by side, none of them ever given up.

The parameter names are those of the published ImageNet checkpoints, so ``conv1``, ``layer1``,
``transition1``, ``stage2`` and the rest are given; everything else here is built from the paper.

Source:
    Sun et al., "High-Resolution Representations for Labeling Pixels and Regions", 2019 (arXiv 1904.04514).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.layers import BatchNorm, he_initialise, require_image, resized

Fuse = Literal["bilinear", "nearest"]

STEM_CHANNELS = 64
BLOCKS_PER_BRANCH = 4
#: Multi-resolution modules of the stages with two, three and four branches.
MODULES_PER_STAGE = {2: 1, 3: 4, 4: 3}
#: Strides of the two stem convolutions, by the stride of the whole stem.
STEM_STRIDES = {4: (2, 2), 2: (2, 1), 1: (1, 1)}


def _conv_norm(
    inputs: int, outputs: int, *, kernel: int, stride: int = 1, relu: bool = False
) -> nn.Sequential:
    """Convolution (no bias), batch normalisation and, if wanted, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        BatchNorm(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(features)), inplace=True)
        inner = self.bn2(self.conv2(inner))
        return F.relu(inner + features, inplace=True)


class _Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 to four times ``channels``, around an identity or a projection."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        outputs = 4 * channels
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = BatchNorm(outputs)
        self.downsample = _conv_norm(inputs, outputs, kernel=1) if inputs != outputs else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(features)), inplace=True)
        inner = F.relu(self.bn2(self.conv2(inner)), inplace=True)
        inner = self.bn3(self.conv3(inner))
        return F.relu(inner + self.downsample(features), inplace=True)


def _exchange(source: int, target: int, widths: Sequence[int]) -> nn.Module:
    """What carries branch ``source`` to the width and (going down) the resolution of branch ``target``.

    Up: a 1x1 convolution, resized afterwards to whatever size it joins. Down: one 3x3 convolution of
    stride 2 per step, which changes the width, and ends without ReLU, only at the last.
    """
    if source == target:
        return nn.Identity()
    if source > target:
        return _conv_norm(widths[source], widths[target], kernel=1)
    steps = [
        _conv_norm(widths[source], widths[source], kernel=3, stride=2, relu=True)
        for _ in range(target - source - 1)
    ]
    return nn.Sequential(*steps, _conv_norm(widths[source], widths[target], kernel=3, stride=2))


class _MultiResolutionModule(nn.Module):
    """Residual blocks on every branch, then every branch receives the sum of all of them."""

    def __init__(self, widths: Sequence[int], fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse
        count = len(widths)
        self.branches = nn.ModuleList(
            nn.Sequential(*(_BasicBlock(width) for _ in range(BLOCKS_PER_BRANCH))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_exchange(source, target, widths) for source in range(count))
            for target in range(count)
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        inner = [branch(x) for branch, x in zip(self.branches, features, strict=True)]
        return [self._fused(target, inner) for target in range(len(inner))]

    def _fused(self, target: int, inner: list[Tensor]) -> Tensor:
        """The sum of all branches, at the width and the size of one of them."""
        total = inner[target]
        for source, layer in enumerate(cast(nn.ModuleList, self.fuse_layers[target])):
            if source != target:
                total = total + resized(layer(inner[source]), inner[target].shape[-2:], mode=self.fuse)
        return F.relu(total)


class _Transition(nn.ModuleList):
    """Hands the branches of one stage to the next and opens a coarser one from the coarsest.

    Entry i is the convolution that feeds branch i, or an identity where the branch goes on as it is.
    """

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        last = len(features) - 1
        return [layer(features[min(i, last)]) for i, layer in enumerate(self)]


class HRNetBackbone(nn.Module):
    """The stem, the bottlenecks and the three multi-resolution stages.

    Args:
        width: Channels of the finest branch; the others have 2, 4 and 8 times as many.
        stem_stride: Input pixels per pixel of the finest branch, along each axis: 4, 2 or 1.
        in_channels: Channels of the input.
        fuse: How coarser branches are resized where they join finer ones, see ``HRNetV2``.
    """

    def __init__(
        self, *, width: int, stem_stride: int = 4, in_channels: int = 3, fuse: Fuse = "bilinear"
    ) -> None:
        super().__init__()
        if width < 1:
            raise ModelError(f"HRNetV2 width {width}: needed at least 1; published are 18, 32 and 48.")
        if stem_stride not in STEM_STRIDES:
            raise ModelError(f"HRNetV2 stem_stride {stem_stride}: needed 4, 2 or 1.")
        if fuse not in get_args(Fuse):
            raise ModelError(f"HRNetV2 fuse {fuse!r}: needed {' or '.join(get_args(Fuse))}.")
        self.fuse: Fuse = fuse
        self.in_channels = in_channels
        self.widths = tuple(width * 2**branch for branch in range(4))
        first, second = STEM_STRIDES[stem_stride]
        self.conv1 = nn.Conv2d(in_channels, STEM_CHANNELS, 3, stride=first, padding=1, bias=False)
        self.bn1 = BatchNorm(STEM_CHANNELS)
        self.conv2 = nn.Conv2d(STEM_CHANNELS, STEM_CHANNELS, 3, stride=second, padding=1, bias=False)
        self.bn2 = BatchNorm(STEM_CHANNELS)
        trunk = 4 * STEM_CHANNELS
        self.layer1 = nn.Sequential(
            _Bottleneck(STEM_CHANNELS, STEM_CHANNELS),
            *(_Bottleneck(trunk, STEM_CHANNELS) for _ in range(BLOCKS_PER_BRANCH - 1)),
        )
        self.transition1 = _Transition(
            [
                _conv_norm(trunk, self.widths[0], kernel=3, relu=True),
                nn.Sequential(_conv_norm(trunk, self.widths[1], kernel=3, stride=2, relu=True)),
            ]
        )
        self.stage2 = self._stage(2)
        self.transition2 = self._transition(3)
        self.stage3 = self._stage(3)
        self.transition3 = self._transition(4)
        self.stage4 = self._stage(4)
        he_initialise(self)

    def _stage(self, branches: int) -> nn.Sequential:
        widths = self.widths[:branches]
        return nn.Sequential(
            *(_MultiResolutionModule(widths, self.fuse) for _ in range(MODULES_PER_STAGE[branches]))
        )

    def _transition(self, branches: int) -> _Transition:
        """Keep all branches and open the last one of ``branches``."""
        inputs, outputs = self.widths[branches - 2 : branches]
        opened = nn.Sequential(_conv_norm(inputs, outputs, kernel=3, stride=2, relu=True))
        return _Transition([*(nn.Identity() for _ in range(branches - 1)), opened])

    def forward(self, image: Tensor) -> list[Tensor]:
        """Feature maps at four resolutions.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            Four tensors (B, ``widths[branch]``, h, w), finest first. With n = ceil(H / stem_stride) the heights are n,
            ceil(n / 2), ceil(n / 4) and ceil(n / 8), widths alike.
        """
        require_image(image, self.in_channels, "HRNetV2")
        features = F.relu(self.bn1(self.conv1(image)), inplace=True)
        features = F.relu(self.bn2(self.conv2(features)), inplace=True)
        branches = self.transition1([self.layer1(features)])
        branches = self.transition2(self.stage2(branches))
        branches = self.transition3(self.stage3(branches))
        return cast(list[Tensor], self.stage4(branches))


class HRNetV2(nn.Module):
    """HRNetV2 with the representation head: all four branches, at the finest size, decide together.

    Args:
        width: Channels of the finest branch: 18, 32 or 48 as published, any other works too.
        classes: Classes to score.
        stem_stride: Input pixels per pixel of the finest branch: 4 as published, 2 or 1 for sampled images
            of few pixels. It changes strides only, so a checkpoint fits all three; time and memory grow
            with 1 / stem_stride^2.
        in_channels: Channels of the input.
        fuse: How coarser branches are resized where they join finer ones: "bilinear", as in the segmentation network of
            the paper, or "nearest", as in the network that the published ImageNet checkpoints were trained as. It
            changes no parameter.

    Raises:
        ModelError: A width, stride, way to fuse or number of classes that cannot be.

    Convention:
        Any input size works, in training too: sizes are rounded up on the way down, and what goes up is
        resized to the branch it joins. Published checkpoints were trained with inputs normalised by the
        ImageNet mean and standard deviation. ``network.to(memory_format=torch.channels_last)`` with an
        input of that format is kept through to the scores. On CUDA the backward pass of bilinear resizing
        adds in no fixed order: equal seeds give nearly equal, not equal, runs.

        Weights know nothing of ``fuse``, and do something else under the other one: with equal weights the four
        branches of the two differ by .12 to .18 of their norm. Weights that are *kept* want the one that they were
        trained with, which their batch statistics fit: ImageNet checkpoints "nearest", segmentation checkpoints of Sun
        et al. "bilinear" (theirs corner on corner, which is .07 to .12 from ours, edge on edge). For ImageNet
        checkpoints that are *fine-tuned* to segment the default is "bilinear": Sun et al. change to it when they
        fine-tune the same checkpoints and report 80.9 mIoU on Cityscapes so, fine-tuning makes up for the change, and
        a sum of nearest neighbours puts blocks of up to 8 x 8 pixels on the finest branch, which a mask then shows.
        Which is better was not measured here: no ImageNet checkpoint could be had.
    """

    def __init__(
        self,
        *,
        width: int,
        classes: int,
        stem_stride: int = 4,
        in_channels: int = 3,
        fuse: Fuse = "bilinear",
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ModelError(f"HRNetV2 with {classes} classes: needed at least 1.")
        self.backbone = HRNetBackbone(
            width=width, stem_stride=stem_stride, in_channels=in_channels, fuse=fuse
        )
        channels = sum(self.backbone.widths)
        self.head = nn.Sequential(
            nn.Conv2d(channels, channels, 1),
            BatchNorm(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, classes, 1),
        )
        he_initialise(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            (B, classes, H, W), scores before the softmax.
        """
        branches = self.backbone(image)
        finest = branches[0].shape[-2:]
        scores = self.head(torch.cat([resized(branch, finest) for branch in branches], dim=1))
        return resized(scores, image.shape[-2:])
