"""Any two-dimensional segmentation network of MONAI, by name, for images of any size.

MONAI takes seconds to import, so it is imported when the first such network is built.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.layers import he_initialise, require_image
from wsi_deform.networks.names import nearest, refuse_unknown_options

#: What the adapter sets itself; an option of that name would contradict it.
_SET_HERE = ("spatial_dims", "in_channels", "out_channels")
#: Sides of the input that a network without an entry below is padded to multiples of.
_USUAL_MULTIPLE = 32


def _product_of_strides(options: Mapping[str, Any]) -> int:
    strides = options["strides"]
    return math.prod(max(s) if isinstance(s, Sequence) else s for s in strides)


def _halvings_of_blocks(options: Mapping[str, Any]) -> int:
    return int(2 ** (len(options["blocks_down"]) - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Defaults:
    """Options that suit small two-dimensional images, and the multiple that input sides must have."""

    options: Mapping[str, Any]
    multiple: Callable[[Mapping[str, Any]], int]


_DEFAULTS: Mapping[str, _Defaults] = {
    "UNet": _Defaults(
        options={
            "channels": (16, 32, 64, 128),
            "strides": (2, 2, 2),
            "num_res_units": 2,
            "norm": "batch",
        },
        multiple=_product_of_strides,
    ),
    "AttentionUnet": _Defaults(
        options={"channels": (16, 32, 64, 128), "strides": (2, 2, 2)},
        multiple=_product_of_strides,
    ),
    "BasicUNet": _Defaults(
        options={"features": (16, 32, 64, 96, 96, 16), "norm": "batch"}, multiple=lambda _: 16
    ),
    "BasicUNetPlusPlus": _Defaults(
        options={"features": (16, 32, 64, 96, 96, 16), "norm": "batch", "deep_supervision": False},
        multiple=lambda _: 16,
    ),
    "SegResNet": _Defaults(
        options={"init_filters": 16, "blocks_down": (1, 1, 1, 2), "blocks_up": (1, 1, 1)},
        multiple=_halvings_of_blocks,
    ),
    "DynUNet": _Defaults(
        options={
            "kernel_size": (3, 3, 3, 3),
            "strides": (1, 2, 2, 2),
            "upsample_kernel_size": (2, 2, 2),
            "filters": (16, 32, 64, 96),
            "norm_name": "batch",
            "deep_supervision": False,
        },
        multiple=_product_of_strides,
    ),
}


class MonaiNetwork(nn.Module):
    """A network of ``monai.networks.nets`` that takes images of any size and returns scores of the same size.

    Args:
        name: The class in ``monai.networks.nets``, such as UNet, BasicUNet, SegResNet, AttentionUnet,
            DynUNet.
        classes: Classes to score.
        in_channels: Channels of the input.
        size_multiple: Input sides are padded to a multiple of this; None takes what the network's strides
            ask for (32 where the adapter does not know the network).
        options: Arguments of that class, over the adapter's defaults, which suit small images.

    Raises:
        ModelError: No such network, not a network from (B, C, H, W) to scores, or arguments that it refuses.

    Convention:
        Padding repeats the border pixels, on both sides alike (one more at the bottom or right where the
        number is odd), and is cropped off the scores. The coarsest feature map gets at least 2 pixels,
        which normalisation needs in training. He initialisation replaces MONAI's, so that networks compare
        alike. Where a network returns several scores (deep supervision), the first is taken. MONAI's UNet
        halves the image in its first convolution, which costs fine texture in small images; DynUNet and
        BasicUNet look at full resolution first.
    """

    def __init__(
        self,
        name: str,
        *,
        classes: int,
        in_channels: int = 3,
        size_multiple: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ModelError(f"monai:{name} with {classes} classes: needed at least 1.")
        network_class = _network_class(name)
        accepted = set(inspect.signature(network_class).parameters) - set(_SET_HERE)
        refuse_unknown_options(f"monai:{name}", options, {*accepted, "size_multiple"})
        defaults = _DEFAULTS.get(network_class.__name__)
        chosen = {**(defaults.options if defaults else {}), **options}
        self.name, self.classes, self.in_channels = name, classes, in_channels
        # MONAI checks its arguments with all of these; AssertionError is its, not ours.
        try:
            self.network: nn.Module = network_class(
                spatial_dims=2, in_channels=in_channels, out_channels=classes, **chosen
            )
            asked = defaults.multiple(chosen) if defaults else _USUAL_MULTIPLE
        except (TypeError, ValueError, KeyError, AssertionError, NotImplementedError, ImportError) as error:
            raise ModelError(f"monai:{name} refuses the options {chosen}: {error}") from error
        self.size_multiple = asked if size_multiple is None else size_multiple
        if self.size_multiple < 1:
            raise ModelError(f"monai:{name} size_multiple {self.size_multiple}: needed at least 1.")
        he_initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            image: (B, in_channels, H, W), any H and W.

        Returns:
            (B, classes, H, W), scores before the softmax.

        Raises:
            ModelError: The network returned something else than scores of its input's size.
        """
        require_image(image, self.in_channels, f"monai:{self.name}")
        height, width = image.shape[-2:]
        padded_height, padded_width = _padded_sides(height, width, self.size_multiple)
        top, left = (padded_height - height) // 2, (padded_width - width) // 2
        if (padded_height, padded_width) != (height, width):
            sides = (left, padded_width - width - left, top, padded_height - height - top)
            image = F.pad(image, sides, mode="replicate")
        scores = self.network(image)
        scores = scores[0] if isinstance(scores, list | tuple) else scores
        needed = (image.shape[0], self.classes, padded_height, padded_width)
        if not isinstance(scores, Tensor) or scores.shape != needed:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ModelError(
                f"monai:{self.name} returned {found}, needed scores of shape {needed}. "
                "Turn off deep supervision, or choose another network."
            )
        return scores[..., top : top + height, left : left + width]


def monai_network_names() -> list[str]:
    """Names of the networks in ``monai.networks.nets`` that have the arguments the adapter sets."""
    from monai.networks import nets

    return sorted(
        {member.__name__ for _, member in inspect.getmembers(nets, inspect.isclass) if _fits(member)}
    )


def _network_class(name: str) -> type[nn.Module]:
    from monai.networks import nets

    found = getattr(nets, name, None)
    if not (inspect.isclass(found) and _fits(found)):
        raise ModelError(
            f"network 'monai:{name}': MONAI has no two-dimensional segmentation network of that name. "
            f"{nearest(name, monai_network_names(), prefix='monai:')}"
        )
    return cast(type[nn.Module], found)


def _fits(candidate: type) -> bool:
    """Whether a class is a network with the arguments that the adapter sets."""
    return issubclass(candidate, nn.Module) and set(_SET_HERE) <= set(inspect.signature(candidate).parameters)


def _padded_sides(height: int, width: int, multiple: int) -> tuple[int, int]:
    """The next multiples; the width once more where the coarsest feature map would be one pixel."""
    rows, columns = -(-height // multiple), -(-width // multiple)
    return rows * multiple, max(columns, 2 if rows == 1 else 1) * multiple
