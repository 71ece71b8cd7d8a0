"""The few layers that every network here is built from, and the one way they are initialised."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ShapeError

#: Mean and standard deviation of ImageNet's channels, of RGB in [0, 1]: what most published weights expect.
CHANNEL_MEAN = (0.485, 0.456, 0.406)
CHANNEL_STD = (0.229, 0.224, 0.225)


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that also trains on a feature map of one pixel and a batch of one.

    The variance of one value is 0, and torch refuses it. Here such a feature map is normalised by the running
    statistics instead, which it does not update. Names and shapes of parameters are those of torch.

    Convention:
        ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` replaces this layer; the exception for one
        pixel is then lost, and is not needed where the processes together hold more than one.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W) per channel."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(
                input,
                self.running_mean,
                self.running_var,
                self.weight,
                self.bias,
                training=False,
                eps=self.eps,
            )
        return super().forward(input)


class Chain(nn.Sequential):
    """Layers one after the other; convolutions and the normalisation behind them as one, see ``normed``."""

    def forward(self, input: Tensor) -> Tensor:
        """Pass it on from layer to layer."""
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            if layers and isinstance(layer, nn.Conv2d) and isinstance(layers[0], BatchNorm):
                input = normed(layer, layers.pop(0), input)
            else:
                input = layer(input)
        return input


def normed(convolution: nn.Conv2d, norm: nn.Module, image: Tensor) -> Tensor:
    """``norm(convolution(image))``; on a processor, where nothing is learned, in one step.

    Normalising by running statistics multiplies and shifts each channel, which the convolution's weights can do too:
    one pass less over the features, .69 of the time of EfficientNet-Lite0. The weights are made anew each time, so
    that they are always those of the layers. For many weights and few features (HRNetV2) that takes what it saves.

    Args:
        convolution: Without activation behind it.
        norm: What normalises its channels.
        image: (B, C, H, W).

    Returns:
        (B, C', H', W'), equal to rounding.

    Convention:
        Exported and compiled networks keep both layers: what runs them joins them itself. So do GPUs, where making the
        weights is many small kernels.
    """
    plain = (
        norm.training
        or torch.is_grad_enabled()
        or image.device.type != "cpu"
        or torch.jit.is_tracing()  # type: ignore[no-untyped-call, attr-defined]
        or torch.compiler.is_compiling()
    )
    joined: Tensor
    if plain or not isinstance(norm, BatchNorm) or norm.running_mean is None or norm.running_var is None:
        joined = norm(convolution(image))
        return joined
    scale = torch.rsqrt(norm.running_var + norm.eps) * norm.weight
    shift = norm.running_mean if convolution.bias is None else norm.running_mean - convolution.bias
    bias = torch.addcmul(norm.bias, shift, scale, value=-1)
    joined = convolution._conv_forward(image, convolution.weight * scale.view(-1, 1, 1, 1), bias)
    return joined


def he_initialise(network: nn.Module) -> None:
    """Initialise every convolution and linear layer as He et al. do; biases and shifts 0, scales 1.

    The standard deviation is ``sqrt(2 / fan_in)``, with the fan-in that one output pixel really has: a
    transposed convolution with stride s spreads its kernel, so that an output pixel sees 1 / s^2 of it.

    Args:
        network: Changed in place.

    Source:
        He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            inputs, kernel = layer.in_channels // layer.groups, math.prod(layer.kernel_size)
            seen = max(1.0, kernel / math.prod(layer.stride))
            nn.init.normal_(layer.weight, std=math.sqrt(2.0 / (inputs * seen)))
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm):
            if layer.weight is not None:
                nn.init.ones_(layer.weight)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def resized(
    features: Tensor, size: tuple[int, int] | torch.Size, *, mode: Literal["bilinear", "nearest"] = "bilinear"
) -> Tensor:
    """Feature maps resized edge on edge; the same tensor where the size already fits.

    Args:
        features: (B, C, H, W).
        size: (height, width) wanted.
        mode: "bilinear"; or "nearest", the value of the pixel that a new pixel's centre lies in.

    Returns:
        (B, C, height, width).
    """
    if features.shape[-2:] == torch.Size(size):
        return features
    if mode == "nearest":
        # Plain "nearest" takes the pixel under a new pixel's top-left corner, which is another where sizes are odd.
        return F.interpolate(features, size=tuple(size), mode="nearest-exact")
    return F.interpolate(features, size=tuple(size), mode="bilinear", align_corners=False)


def require_image(image: Tensor, channels: int, what: str) -> None:
    """Refuse what a network cannot read.

    Raises:
        ShapeError: Not (B, channels, H, W).
    """
    if image.dim() != 4 or image.shape[1] != channels:
        raise ShapeError(f"{what}: input of shape {tuple(image.shape)}, needed (B, {channels}, H, W).")
