"""What kind of model a stored configuration makes: known before its networks are, and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsi_deform.errors import NOT_ONE_IMAGE, ModelError

# Densities of oracles, whose samples lie where the labels of the slide that they segment say.
ORACLES = ("edges", "edge_positions")


def is_oracle(config: Mapping[str, Any]) -> bool:
    """Whether what a model reads lies where the labels of the slide that it segments say.

    Args:
        config: Its configuration as a model file holds it.
    """
    if config["sampling"].get("geometry") == "blocks":
        return bool(config["blocks"]["choice"] == "labels")
    return config["sampling"]["density"] in ORACLES


def refuse_patches(config: Mapping[str, Any], name: str = "this model") -> None:
    """Refuse a model that cannot label one image by itself.

    Args:
        config: Its configuration as a model file holds it.
        name: What the message calls it.

    Raises:
        ModelError: It reads fields in blocks.
    """
    if config["sampling"].get("geometry") == "blocks":
        raise ModelError(NOT_ONE_IMAGE.format(name=name))
