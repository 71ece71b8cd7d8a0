"""Encoders that blocks can have, by name, and what their weights were trained on.

An encoder is a network, (N, 3, H, W) with sides that are multiples of 16 -> feature maps by stride (2, 4, 8 or 16),
whose attribute ``channels`` says how many channels the map of each stride has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor, nn

from wsi_deform.errors import ModelError, PluginError
from wsi_deform.networks.efficientnet import PIXEL_MEAN, PIXEL_SCALE, EfficientNetLite0
from wsi_deform.networks.layers import CHANNEL_MEAN, CHANNEL_STD
from wsi_deform.networks.names import nearest, options_of, require_arguments
from wsi_deform.networks.resnet import ResNetBackbone
from wsi_deform.networks.vit import VisionTransformer
from wsi_deform.plugins import add_named, is_known, plugin_hint

STRIDES = (2, 4, 8, 16)
"""Of the feature maps that are used."""
RGB = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixels:
    """What an encoder is given of RGB in [0, 255]: (value - mean) / scale, for each channel."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 255] -> the same, float32."""
        if len({*self.mean}) == len({*self.scale}) == 1:
            return (images.float() - self.mean[0]) / self.scale[0]
        mean, scale = (images.new_tensor(each).float().view(1, RGB, 1, 1) for each in (self.mean, self.scale))
        return (images.float() - mean) / scale

    @classmethod
    def of_unit(cls, mean: Sequence[float], std: Sequence[float]) -> Pixels:
        """From means and standard deviations of RGB in [0, 1], as encoders are published with.

        Raises:
            ModelError: No three numbers each, or a deviation that is not above 0.
        """
        for name, values in (("pixel_mean", mean), ("pixel_std", std)):
            is_fit = isinstance(values, (list, tuple)) and len(values) == RGB
            if not is_fit or not all(
                isinstance(each, (int, float)) and 0 <= each <= 1 and (each or name == "pixel_mean")
                for each in values
            ):
                raise ModelError(
                    f"{name} {values!r}: needed three numbers, of RGB in [0, 1], such as [0.485, 0.456, 0.406]."
                )
        return cls(mean=tuple(255.0 * each for each in mean), scale=tuple(255.0 * each for each in std))


IMAGENET = Pixels.of_unit(CHANNEL_MEAN, CHANNEL_STD)
LITE = Pixels(mean=(PIXEL_MEAN,) * RGB, scale=(PIXEL_SCALE,) * RGB)


class ResNetEncoder(nn.Module):
    """A residual network up to stride 16, with the names of torchvision's published weights.

    Args:
        depth: Layers, 18, 34, 50 or 101.

    Attributes:
        channels: Stride -> channels of its feature map.
    """

    def __init__(self, *, depth: int) -> None:
        super().__init__()
        whole = ResNetBackbone(depth=depth, dilated=False)
        self.conv1, self.bn1, self.maxpool = whole.conv1, whole.bn1, whole.maxpool
        # The stage behind, of stride 32, has most of the weights and is not used.
        self.layer1, self.layer2, self.layer3 = (
            whole.get_submodule(f"layer{number}") for number in (1, 2, 3)
        )
        inner = whole.channels // 8
        self.channels = {4: inner, 8: 2 * inner, 16: 4 * inner}

    def forward(self, image: Tensor) -> dict[int, Tensor]:
        """Feature maps by stride.

        Args:
            image: (B, 3, H, W).

        Returns:
            Stride s -> (B, ``channels[s]``, H / s, W / s), rounded up.
        """
        first = self.layer1(self.maxpool(self.bn1(self.conv1(image)).relu()))
        second = self.layer2(first)
        return {4: first, 8: second, 16: self.layer3(second)}


ENCODERS: dict[str, tuple[Callable[..., nn.Module], Pixels]] = {
    "efficientnet-lite0": (EfficientNetLite0, LITE),
    "resnet18": (partial(ResNetEncoder, depth=18), IMAGENET),
    "resnet34": (partial(ResNetEncoder, depth=34), IMAGENET),
    "resnet50": (partial(ResNetEncoder, depth=50), IMAGENET),
    "resnet101": (partial(ResNetEncoder, depth=101), IMAGENET),
    "vit": (VisionTransformer, IMAGENET),
}
"""Name -> what builds it, and what its published weights were trained on."""
HEAD_OPTIONS = ("width", "frozen", "head", "trained_um", "pixel_mean", "pixel_std")
"""Options of networks of blocks that are not their encoder's."""
OPTIONS_OF: dict[str, tuple[str, ...]] = {"vit": tuple(options_of(VisionTransformer))}
"""Name -> options of the encoder itself."""


def add_encoder(name: str, build: Callable[..., nn.Module], pixels: Pixels = IMAGENET) -> None:
    """Let ``networks.segmentation`` name an encoder, for ``sampling.geometry: blocks``.

    Args:
        name: Its name.
        build: A class or function that gives (N, 3, H, W), sides multiples of 16 -> feature maps by stride, 2, 4, 8 or
            16 or several of them; its attribute ``channels`` says the channels of each. Its named arguments are
            options, whole numbers or, where ``bool`` is written beside them, true or false.
        pixels: What its weights were trained on, ``Pixels.of_unit(mean, std)``; ImageNet's where nothing is said.

    Raises:
        PluginError: Another encoder has the name, or an option is called as one of blocks is.
    """
    require_arguments(build, (), what=f"encoder {name!r}")
    if taken := [key for key in options_of(build) if key in HEAD_OPTIONS]:
        raise PluginError(
            f"encoder {name!r}: its argument {taken[0]} is an option of all networks of blocks. Needed another name "
            "for it. Rename it."
        )
    add_named(ENCODERS, name, (build, pixels), kind="encoder")
    OPTIONS_OF[name] = tuple(options_of(build))


def encoder_options(name: str) -> tuple[str, ...]:
    """Names of the options of an encoder itself; none of one that is not known, which ``block_encoder`` refuses."""
    return OPTIONS_OF.get(name, ()) if is_known(name, ENCODERS) else ()


def block_encoder(name: str, options: Mapping[str, Any]) -> tuple[nn.Module, Pixels]:
    """Build an encoder.

    Args:
        name: A key of ``ENCODERS``, to which plug-ins may add.
        options: Its own.

    Returns:
        The encoder, from scratch, and what its published weights were trained on.

    Raises:
        ModelError: Another name, or options that cannot be; or it does not say its channels.
    """
    if not is_known(name, ENCODERS):
        raise ModelError(
            f"networks.segmentation.name {name!r} with sampling.geometry blocks: needed an encoder. "
            f"{nearest(name, ENCODERS)}{plugin_hint()}"
        )
    build, pixels = ENCODERS[name]
    accepted = options_of(build)
    for key, value in options.items():
        is_flag = key in accepted and accepted[key].annotation in ("bool", bool)
        if type(value) not in (int, bool) or isinstance(value, bool) != is_flag:
            kind = "true or false" if is_flag else "a whole number"
            raise ModelError(f"encoder {name}: {key} {value!r}. Needed {kind}.")
    encoder = build(**options)
    channels = getattr(encoder, "channels", None)
    if not isinstance(channels, Mapping) or not set(channels) & set(STRIDES):
        raise ModelError(
            f"encoder {name}: its attribute channels is {str(channels)[:60]}. Needed channels by stride, one or more "
            f"of {', '.join(map(str, STRIDES))}, such as {{8: 32}}. Set it in what builds the encoder."
        )
    return encoder, pixels


def trained_on(path: Path) -> tuple[Pixels | None, float | None]:
    """What a file of weights says of the images that they were trained on.

    Args:
        path: A file of weights; only ``.safetensors`` can say it, in its metadata.

    Returns:
        Of the keys ``pixel_mean`` and ``pixel_std`` (three numbers with commas, of RGB in [0, 1]), and ``um_per_px``;
        None each where it does not say.

    Raises:
        ModelError: They are no numbers.
    """
    if path.suffix != ".safetensors":
        return None, None
    with safe_open(path, "pt") as file:
        said = file.metadata() or {}
    try:
        pixels = None
        if "pixel_mean" in said and "pixel_std" in said:
            mean, std = (
                [float(each) for each in said[key].split(",")] for key in ("pixel_mean", "pixel_std")
            )
            pixels = Pixels.of_unit(mean, std)
        um = float(said["um_per_px"]) if "um_per_px" in said else None
    except ValueError as error:
        raise ModelError(
            f"weights {path}: its metadata says pixel_mean, pixel_std or um_per_px otherwise than as numbers "
            f"({error}). Write the file anew: docs/extending.md, An encoder."
        ) from error
    return pixels, um
