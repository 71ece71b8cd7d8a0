"""Segmentation networks by the names that a configuration gives them."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from torch import nn

from wsi_deform.errors import ModelError, PluginError
from wsi_deform.networks.encoders import EncoderNetwork
from wsi_deform.networks.hrnet import HRNetV2
from wsi_deform.networks.monai_nets import MonaiNetwork
from wsi_deform.networks.names import options_of, refuse_misfit_options, require_arguments
from wsi_deform.networks.pspnet import PSPNet
from wsi_deform.plugins import add_named, is_known, plugin_hint

MONAI_PREFIX = "monai:"
GIVEN = ("classes", "in_channels")
"""Arguments of every network that are no options."""
_NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "hrnetv2": HRNetV2,
    "pspnet": PSPNet,
    "efficientnet-lite0": EncoderNetwork,
}


def add_network(name: str, build: Callable[..., nn.Module]) -> None:
    """Let ``networks.segmentation`` name a network.

    Args:
        name: Its name.
        build: A class or function with the named arguments ``classes`` and ``in_channels``; what else it takes are its
            options, refused where their type is another than is written beside them (int, str or bool). It gives
            (B, in_channels, H, W) -> scores (B, classes, H, W), for any H and W of 1 or more.

    Raises:
        PluginError: Another network has the name, or ``build`` lacks an argument.
    """
    if str(name).startswith(MONAI_PREFIX):
        raise PluginError(f"network {name!r}: such names are MONAI's. Needed another, without {MONAI_PREFIX}")
    require_arguments(build, GIVEN, what=f"network {name!r}")
    add_named(_NETWORKS, name, build, kind="network")


def segmentation_network(name: str, *, classes: int, in_channels: int = 3, **options: Any) -> nn.Module:
    """Build a segmentation network: (B, in_channels, H, W) -> scores (B, classes, H, W), for any H and W.

    Args:
        name: ``hrnetv2`` (options ``width``, ``stem_stride``, ``fuse``), ``pspnet`` (``depth``,
            ``stem_stride``), ``efficientnet-lite0`` (``width``, ``frozen``), or ``monai:`` and the name of a
            class in ``monai.networks.nets`` (its arguments, and ``size_multiple``), such as ``monai:BasicUNet``; or
            a name of ``add_network``.
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
    if not is_known(name, _NETWORKS):
        raise ModelError(f"network {name!r} is not known. {_nearest_network(name)}{plugin_hint()}")
    build = _NETWORKS[name]
    refuse_misfit_options(name, options, options_of(build, GIVEN))
    return build(classes=classes, in_channels=in_channels, **options)


def _nearest_network(name: str) -> str:
    # The short list of MONAI names here saves its slow import when a name is merely misspelt.
    common = ("UNet", "BasicUNet", "SegResNet", "AttentionUnet", "DynUNet")
    # Most names lack the prefix, which would make them unlike the one that is meant.
    known = {each.lower(): each for each in _NETWORKS}
    known |= {each.lower(): MONAI_PREFIX + each for each in common}
    bare = name.lower().removeprefix(MONAI_PREFIX.rstrip(":")).strip(":-_. ")
    near = difflib.get_close_matches(bare, known, n=1, cutoff=0.5)
    return f"Did you mean {known[near[0]]!r}?" if near else f"Known: {', '.join(known.values())}."
