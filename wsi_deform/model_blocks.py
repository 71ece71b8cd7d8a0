"""The part of a model that only models have which read fields in blocks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from wsi_deform.config_blocks import Blocks
from wsi_deform.config_sections import Config
from wsi_deform.deform.blocks import BlockLayout
from wsi_deform.errors import ModelError
from wsi_deform.geometry import Size
from wsi_deform.networks.block_encoders import HEAD_OPTIONS, encoder_options, trained_on
from wsi_deform.networks.blocks import BlockNetwork
from wsi_deform.networks.groups import GroupNetwork
from wsi_deform.networks.names import refuse_unknown_options

NO_BLOCKS = "sampling.geometry warp: this model has no blocks. Needed sampling.geometry: blocks."
FURTHEST_SCALE = 4.0
"""Most that um per px of the finest level may be of those that an encoder was trained at, or these of it."""
# Of labels, by training; or of look-alike tissue, by `wsi-deform explore`.
HEADS = ("classes", "groups")


class BlockModel(nn.Module):
    """What ``model.Model`` knows of blocks; most of it raises where ``has_blocks`` is not so.

    Attributes:
        config: The configuration.
        segmentation: The network, which is a ``BlockNetwork`` where ``has_blocks``.
    """

    config: Config
    segmentation: nn.Module

    @property
    def has_blocks(self) -> bool:
        """Whether fields are read in blocks, see ``deform.blocks``, and not as one warped image."""
        return self.config.sampling.geometry == "blocks"

    @property
    def block_settings(self) -> Blocks:
        """The section ``blocks`` of its configuration, where ``has_blocks``."""
        settings = self.config.blocks
        if settings is None:
            raise ModelError(NO_BLOCKS)
        return settings

    @property
    def label_px(self) -> int:
        """Side of what a label is of, px of the finest level that is read: 1 of the warp's samples."""
        return self.block_settings.label_px if self.has_blocks else 1

    @property
    def makes_groups(self) -> bool:
        """Whether its classes are groups of look-alike tissue that nobody labelled, see ``explore``."""
        return isinstance(self.segmentation, GroupNetwork)

    @property
    def has_scorers(self) -> bool:
        """Whether it learns which blocks to read."""
        return self.has_blocks and len(self.blocks.scorers) > 0

    @property
    def blocks(self) -> BlockNetwork:
        """The networks of blocks, where ``has_blocks``.

        Raises:
            ModelError: It has none.
        """
        if not isinstance(self.segmentation, BlockNetwork):
            raise ModelError(NO_BLOCKS)
        return self.segmentation

    def labelled_size(self, region: Size, root_px: float) -> Size:
        """Size of the labels of a field, where ``has_blocks``.

        Args:
            region: Of the field, square level-0 px.
            root_px: Level-0 px per px of the first look.

        Returns:
            As many labels as ``layout`` turns into the nearest whole size of the first look.
        """
        scale = 2 ** (self.block_settings.levels - 1)
        multiple = max(1, self.label_px // scale)
        width, height = (
            multiple * max(1, round(side / root_px / multiple)) * scale // self.label_px
            for side in (region.width, region.height)
        )
        return Size(width, height)

    def layout(self, labels: Size) -> BlockLayout:
        """The blocks of a field with so many labels, where ``has_blocks``."""
        settings = self.block_settings
        scale = 2 ** (settings.levels - 1)
        return BlockLayout(
            root=Size(labels.width * self.label_px // scale, labels.height * self.label_px // scale),
            levels=settings.levels,
            window_px=settings.window_px,
            margin_px=settings.margin_px,
            label_px=settings.label_px,
        )


def block_network(config: Config, classes: int) -> BlockNetwork:
    """The networks of blocks that a configuration asks for.

    Raises:
        ModelError: Another encoder, or an option that it does not have.
    """
    settings, options = config.blocks, config.networks.segmentation.options
    if settings is None:
        raise ModelError(NO_BLOCKS)
    name = config.networks.segmentation.name
    accepted = (*HEAD_OPTIONS, *encoder_options(name))
    refuse_unknown_options(f"{name} in blocks", options, accepted)
    refuse_scale(config, options.pop("trained_um", None))
    own = encoder_arguments(config)
    options = {key: value for key, value in options.items() if key in ("width", "frozen", "head")}
    head = options.pop("head", HEADS[0])
    if head not in HEADS:
        raise ModelError(f"networks.segmentation.head {head!r}: needed one of {', '.join(HEADS)}.")
    if head == "groups":
        return GroupNetwork(
            classes=classes, levels=settings.levels, encoder=name, label_px=settings.label_px, **options
        )
    return BlockNetwork(
        classes=classes,
        levels=settings.levels,
        encoder=name,
        scores=settings.choice == "learned",
        label_px=settings.label_px,
        **options,
        **own,
    )


def encoder_arguments(config: Config) -> dict[str, Any]:
    """Arguments of ``BlockNetwork`` that say more of its encoder than its name; none where there is no more to say."""
    segmentation = config.networks.segmentation
    options, own = segmentation.options, encoder_options(segmentation.name)
    found = {key: options[key] for key in ("pixel_mean", "pixel_std") if options.get(key) is not None}
    if inner := {key: value for key, value in options.items() if key in own}:
        found["encoder_options"] = inner
    return found


def refuse_scale(config: Config, trained_um: float | None, source: str = "trained_um") -> None:
    """Refuse an encoder that sees tissue at quite another scale than it was trained at.

    Args:
        config: The configuration; has blocks.
        trained_um: um per px that it was trained at; None where nobody knows.
        source: Where that is said, for the error.

    Raises:
        ModelError: The finest level has more than 4 times these um per px, or less than a fourth; or has none.
    """
    if trained_um is None or config.blocks is None:
        return
    if isinstance(trained_um, bool) or not isinstance(trained_um, (int, float)) or trained_um <= 0:
        raise ModelError(f"{source} {trained_um!r}: needed um per px, a number above 0.")
    finest = config.blocks.finest_um
    if finest is None or not 1 / FURTHEST_SCALE <= finest / trained_um <= FURTHEST_SCALE:
        found = "has no um per px (finest_px)" if finest is None else f"has {finest:g}"
        raise ModelError(
            f"encoder {config.networks.segmentation.name}: trained at {trained_um:g} um per px ({source}), and the "
            f"finest level {found}. Needed blocks.finest_um from {trained_um / FURTHEST_SCALE:g} to "
            f"{trained_um * FURTHEST_SCALE:g}, or an encoder that was trained at such a scale."
        )


def check_weights(config: Config, network: BlockNetwork, path: Path) -> None:
    """Refuse weights that say of themselves that they were trained on images otherwise scaled.

    Args:
        config: The configuration.
        network: The network that they are for.
        path: The file.

    Raises:
        ModelError: Its metadata (``block_encoders.trained_on``) and the settings differ.
    """
    pixels, um = trained_on(path)
    refuse_scale(config, um, f"metadata of {path}")
    if pixels is not None and not np.allclose(
        (*pixels.mean, *pixels.scale), (*network.pixels.mean, *network.pixels.scale), atol=0.5
    ):
        mean, std = ([round(each / 255, 4) for each in part] for part in (pixels.mean, pixels.scale))
        raise ModelError(
            f"weights {path}: trained with pixel_mean {mean} and pixel_std {std}, says its metadata; "
            f"networks.segmentation has others. Needed pixel_mean: {mean}, pixel_std: {std} there."
        )
