"""What can say which blocks are read closer, by the names that a configuration gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from wsi_deform.deform.blocks import detail
from wsi_deform.errors import ConfigError, PluginError
from wsi_deform.plugins import add_named, is_known, plugin_hint

Worth = Callable[[Tensor], Tensor]
"""A view, (B, 3, H, W) RGB in [0, 255] -> (B, 1, H, W) of 0 or more: what reading each pixel closer is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockChoice:
    """A choice of blocks.

    Attributes:
        words: Where the next level is read, in words that end a sentence.
        worth: What each pixel of a view is worth; None where more than the view decides (``block_choice``).
    """

    words: str
    worth: Worth | None = None


_CHOICES: dict[str, BlockChoice] = {
    "learned": BlockChoice(
        words="where a scorer, which learns from labels, says that reading closer tells classes apart"
    ),
    "detail": BlockChoice(
        words="where there is most detail, by the gradient of the brightness and nothing learned",
        worth=detail,
    ),
    "features": BlockChoice(
        words="where the encoder's features differ most from those around, and nothing learned from labels"
    ),
    "tissue": BlockChoice(words="where there is tissue, by a mask and nothing learned"),
    "random": BlockChoice(words="at random places"),
    "labels": BlockChoice(
        words="where classes meet in the labels, which must be known of every slide that it segments: an oracle for "
        "comparison, not for use"
    ),
}


def add_choice(name: str, worth: Worth, *, words: str) -> None:
    """Let ``blocks.choice`` name a choice.

    Args:
        name: Its name.
        worth: What reading each pixel of a view closer is worth; of a block its mean counts. It sees the first look,
            and of each level what was read of the one before.
        words: Where blocks are read, for model cards: "where the view is bluest".

    Raises:
        PluginError: Another choice has the name, ``worth`` cannot be called, or there are no words.
    """
    if not callable(worth) or not words.strip():
        raise PluginError(
            f"choice of blocks {name!r}: worth {worth!r}, words {words!r}. Needed a function of a view, and words for "
            "model cards."
        )
    add_named(_CHOICES, name, BlockChoice(words=words, worth=worth), kind="choice of blocks")


def block_choice(name: str) -> BlockChoice:
    """A choice by its name.

    Raises:
        ConfigError: There is none of that name.
    """
    if not is_known(name, _CHOICES):
        raise ConfigError(
            f"choice {name!r} is not known. Needed one of {', '.join(_CHOICES)}.{plugin_hint()}"
        )
    return _CHOICES[name]


def words_of(name: str) -> str:
    """Where a choice reads, also of a plug-in that is not installed here."""
    return block_choice(name).words if is_known(name, _CHOICES) else f"by the choice {name} of a plug-in"
