"""What stands in for a network's own pass: another runtime computes it, and all else of the network stays."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

FORWARD = "forward"


class StandIn(Protocol):
    """Computes what a network's ``forward`` would."""

    def __call__(self, image: Tensor) -> Any:
        """(B, channels, H, W) float32 -> what ``forward`` gives."""
        ...


def put_in(network: nn.Module, stand_in: StandIn) -> None:
    """Have a stand-in called wherever the network is.

    Args:
        network: In evaluation mode; hooks on it are called as before, and its weights stay.
        stand_in: In place of ``forward``; it takes one image and no gradient.

    Convention:
        The instance gets a ``forward`` of its own, which PyTorch looks up first.
    """
    vars(network)[FORWARD] = stand_in


def take_out(network: nn.Module) -> None:
    """Have the network compute by itself again."""
    vars(network).pop(FORWARD, None)


def has_stand_in(network: nn.Module) -> bool:
    """Whether something else computes its passes."""
    return FORWARD in vars(network)


def own_pass(network: nn.Module, image: Tensor) -> Any:
    """The pass that PyTorch makes, whatever stands in for it; hooks on the network itself are not called."""
    return type(network).forward(network, image)
