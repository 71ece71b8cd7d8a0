"""Segmentation networks by the names that a configuration gives them."""

from __future__ import annotations

import difflib
import inspect
from typing import Any

from torch import nn

from wsi_deform.errors import ModelError
from wsi_deform.networks.encoders import EncoderNetwork
from wsi_deform.networks.hrnet import HRNetV2
from wsi_deform.networks.monai_nets import MonaiNetwork
from wsi_deform.networks.names import refuse_unknown_options
from wsi_deform.networks.pspnet import PSPNet

MONAI_PREFIX = "monai:"
_OWN_NETWORKS: dict[str, type[nn.Module]] = {
    "hrnetv2": HRNetV2,
    "pspnet": PSPNet,
    "efficientnet-lite0": EncoderNetwork,
}


_KINDS: dict[str, type] = {"int": int, "str": str, "bool": bool}
_WORDS = {int: "a whole number", str: "a text", bool: "true or false"}
# No width of a network is beyond: its weights would not fit any memory.
MAX_OPTION = 8192


def segmentation_network(name: str, *, classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """Build a segmentation network: (B, in_channels, H, W) -> scores (B, classes, H, W), for any H and W.

    Args:
        name: ``hrnetv2`` (options ``width``, ``stem_stride``, ``fuse``), ``pspnet`` (``depth``,
            ``stem_stride``), ``efficientnet-lite0`` (``width``, ``frozen``), or ``monai:`` and the name of a
            class in ``monai.networks.nets`` (its arguments, and ``size_multiple``), such as ``monai:BasicUNet``.
        classes: Classes to score.
        in_channels: Channels of the input.
        options: What the network takes beyond these.

    Returns:
        The network, He-initialised, in training mode.

    Raises:
        ModelError: An unknown name or option (the nearest known one is named), a missing option, or a value
            that the network refuses.
    """
    if name.startswith(MONAI_PREFIX):
        return MonaiNetwork(
            name.removeprefix(MONAI_PREFIX), classes=classes, in_channels=in_channels, **options
        )
    network_class = _OWN_NETWORKS.get(name)
    if network_class is None:
        raise ModelError(f"network {name!r} is not known. {_nearest_network(name)}")
    parameters = {
        key: parameter
        for key, parameter in inspect.signature(network_class).parameters.items()
        if key not in ("classes", "in_channels")
    }
    refuse_unknown_options(name, options, parameters)
    for key, parameter in parameters.items():
        if parameter.default is inspect.Parameter.empty and key not in options:
            raise ModelError(f"network {name!r} needs the option {key!r}.")
        # Annotations are text here; what has no entry is checked by the network.
        kind = _KINDS.get(str(parameter.annotation))
        if key in options and kind is not None and type(options[key]) is not kind:
            raise ModelError(f"network {name!r}: {key} {str(options[key])[:60]!r}. Needed {_WORDS[kind]}.")
        if key in options and kind is int and options[key] > MAX_OPTION:
            raise ModelError(f"network {name!r}: {key} {options[key]}. Needed at most {MAX_OPTION:,}.")
    return network_class(classes=classes, in_channels=in_channels, **options)


def _nearest_network(name: str) -> str:
    # The short list of MONAI names here saves its slow import when a name is merely misspelt.
    common = ("UNet", "BasicUNet", "SegResNet", "AttentionUnet", "DynUNet")
    # Most names lack the prefix, which would make them unlike the one that is meant.
    known = {each.lower(): each for each in _OWN_NETWORKS}
    known |= {each.lower(): MONAI_PREFIX + each for each in common}
    bare = name.lower().removeprefix(MONAI_PREFIX.rstrip(":")).strip(":-_. ")
    near = difflib.get_close_matches(bare, known, n=1, cutoff=0.5)
    return f"Did you mean {known[near[0]]!r}?" if near else f"Known: {', '.join(known.values())}."
