"""Any two-dimensional segmentation network of MONAI, by name, for images of any size.

MONAI takes seconds to import, so it is imported when the first such network is built, and of a model that is only to be
run no more than its network.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.faults import pass_on_own_fault
from wsi_deform.networks.layers import he_initialise, require_image
from wsi_deform.networks.monai_alone import nets_class
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
    "AHNet": _Defaults(options={"psp_block_num": 0}, multiple=lambda _: _USUAL_MULTIPLE),
    "FlexibleUNet": _Defaults(options={"backbone": "resnet18"}, multiple=lambda _: _USUAL_MULTIPLE),
}
#: Options by which a network fixes the (height, width) of its input.
_FIXED_SIZES = ("img_size", "input_image_size")
#: What MONAI's networks raise for arguments or inputs that they cannot take; AssertionError is theirs, not ours.
_REFUSALS = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AssertionError,
    NotImplementedError,
    ImportError,
    RuntimeError,
)


class MonaiNetwork(nn.Module):
    """A network of ``monai.networks.nets`` that takes images of any size and returns scores of the same size.

    Args:
        name: The class in ``monai.networks.nets``, such as UNet, BasicUNet, SegResNet, AttentionUnet,
            DynUNet.
        classes: Classes to score.
        in_channels: Channels of the input.
        size_multiple: Input sides are padded to a multiple of this; None takes what the network's strides
            ask for (32 where the adapter does not know the network). A network with an option ``img_size``
            or ``input_image_size`` is padded to that size, and takes no larger image.
        options: Arguments of that class, over the adapter's defaults, which suit small images.

    Raises:
        ModelError: No such network, not a network from (B, C, H, W) to scores (a small image is tried at once), a
            package that it needs is not installed, or arguments that it refuses.

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
        try:
            # First: an option that is missing fails in the call itself, as a wrong call of ours would.
            inspect.signature(network_class).bind(**dict.fromkeys(_SET_HERE), **chosen)
        except TypeError as error:
            raise ModelError(f"monai:{name} refuses the options {chosen}: {_reason(error)}") from error
        try:
            self.network: nn.Module = network_class(
                spatial_dims=2, in_channels=in_channels, out_channels=classes, **chosen
            )
            asked = defaults.multiple(chosen) if defaults else _USUAL_MULTIPLE
        except _REFUSALS as error:
            pass_on_own_fault(error, "monai", "torch")
            raise ModelError(f"monai:{name} refuses the options {chosen}: {_reason(error)}") from error
        self.size_multiple = asked if size_multiple is None else size_multiple
        if self.size_multiple < 1:
            raise ModelError(f"monai:{name} size_multiple {self.size_multiple}: needed at least 1.")
        self.fixed_size = _fixed_size(name, chosen)
        he_initialise(self)
        self._try_out()

    def forward(self, image: Tensor) -> Tensor:
        """Score every class at every pixel.

        Args:
            image: (B, in_channels, H, W), any H and W.

        Returns:
            (B, classes, H, W), scores before the softmax.

        Raises:
            ModelError: The image is larger than the network's fixed size, or the network returned something else
                than scores of its input's size.
        """
        require_image(image, self.in_channels, f"monai:{self.name}")
        height, width = image.shape[-2:]
        padded_height, padded_width = self._padded_sides(height, width)
        top, left = (padded_height - height) // 2, (padded_width - width) // 2
        # Always, by nothing too: an exported network must not depend on whether its example fitted.
        sides = (left, padded_width - width - left, top, padded_height - height - top)
        image = F.pad(image, sides, mode="replicate")
        scores = self.network(image)
        scores = scores[0] if isinstance(scores, (list, tuple)) else scores
        needed = (image.shape[0], self.classes, padded_height, padded_width)
        if not isinstance(scores, Tensor) or scores.shape != needed:
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ModelError(
                f"monai:{self.name} returned {found}, needed scores of shape {needed}. "
                "Turn off deep supervision, or choose another network."
            )
        return scores[..., top : top + height, left : left + width]

    def _padded_sides(self, height: int, width: int) -> tuple[int, int]:
        """The fixed size, or the next multiples; the width once more where the coarsest map would be one pixel."""
        if self.fixed_size is not None:
            if height > self.fixed_size[0] or width > self.fixed_size[1]:
                raise ModelError(
                    f"monai:{self.name}: image of {height} x {width} px (height x width), needed at most the "
                    f"{self.fixed_size[0]} x {self.fixed_size[1]} that it was built for."
                )
            return self.fixed_size
        # No branch and no negative number in here, so that it can be traced and exported. And no 1 // n, of which
        # onnxruntime takes the product with a whole number k for k // n.
        multiple = self.size_multiple
        rows, columns = (height + multiple - 1) // multiple, (width + multiple - 1) // multiple
        columns = columns + 2 // (rows * columns + 1)
        return rows * multiple, columns * multiple

    def _try_out(self) -> None:
        """Refuse a network that cannot score an image now, not in the first step of a training."""
        height, width = self.fixed_size or (self.size_multiple, 2 * self.size_multiple)
        was_training, weight = self.training, next(self.parameters())
        self.eval()
        try:
            # Some networks draw random numbers in evaluation mode; a run's own sequence must not notice.
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                self(torch.zeros(1, self.in_channels, height, width, device=weight.device))
        except _REFUSALS as error:
            pass_on_own_fault(error, "monai", "torch")
            raise ModelError(
                f"monai:{self.name} cannot score an image of {height} x {width} px (height x width): "
                f"{_reason(error)}"
            ) from error
        finally:
            self.train(was_training)


def monai_network_names() -> list[str]:
    """Names of the networks in ``monai.networks.nets`` that have the arguments the adapter sets."""
    from monai.networks import nets

    return sorted(
        {member.__name__ for _, member in inspect.getmembers(nets, inspect.isclass) if _fits(member)}
    )


def _network_class(name: str) -> type[nn.Module]:
    found = nets_class(name)
    if not (inspect.isclass(found) and _fits(found)):
        raise ModelError(
            f"network 'monai:{name}': MONAI has no two-dimensional segmentation network of that name. "
            f"{nearest(name, monai_network_names(), prefix='monai:')}"
        )
    return cast(type[nn.Module], found)


def _fits(candidate: type) -> bool:
    """Whether a class is a network with the arguments that the adapter sets."""
    return issubclass(candidate, nn.Module) and set(_SET_HERE) <= set(inspect.signature(candidate).parameters)


def _fixed_size(name: str, chosen: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of the only input that a network takes, or None where it takes any."""
    given = next((chosen[key] for key in _FIXED_SIZES if chosen.get(key) is not None), None)
    if given is None:
        return None
    sides = (given, given) if isinstance(given, int) else tuple(given)
    if len(sides) != 2:
        raise ModelError(f"monai:{name} image size {given}: needed one side, or height and width.")
    return sides[0], sides[1]


def _reason(error: Exception) -> str:
    """The first line of what MONAI says, and a remedy where a package is missing."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    missing = re.search(r"No module named '(\w+)'", line)
    return f"{line} Install it: pip install {missing[1]}." if missing else line
