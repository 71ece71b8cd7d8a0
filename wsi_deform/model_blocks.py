"""The part of a model that only models have which read fields in blocks."""

from __future__ import annotations

from torch import nn

from wsi_deform.config_blocks import Blocks
from wsi_deform.config_sections import Config
from wsi_deform.deform.blocks import LABEL, BlockLayout
from wsi_deform.errors import ModelError
from wsi_deform.geometry import Size
from wsi_deform.networks.blocks import BlockNetwork
from wsi_deform.networks.groups import GroupNetwork
from wsi_deform.networks.names import refuse_unknown_options

NO_BLOCKS = "sampling.geometry warp: this model has no blocks. Needed sampling.geometry: blocks."
BLOCK_OPTIONS = ("width", "frozen", "head")
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
        return LABEL if self.has_blocks else 1

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
        multiple = max(1, LABEL // scale)
        width, height = (
            multiple * max(1, round(side / root_px / multiple)) * scale // LABEL
            for side in (region.width, region.height)
        )
        return Size(width, height)

    def layout(self, labels: Size) -> BlockLayout:
        """The blocks of a field with so many labels, where ``has_blocks``."""
        settings = self.block_settings
        scale = 2 ** (settings.levels - 1)
        return BlockLayout(
            root=Size(labels.width * LABEL // scale, labels.height * LABEL // scale),
            levels=settings.levels,
            window_px=settings.window_px,
            margin_px=settings.margin_px,
        )


def block_network(config: Config, classes: int) -> BlockNetwork:
    """The networks of blocks that a configuration asks for.

    Raises:
        ModelError: Another encoder, or an option that it does not have.
    """
    settings, options = config.blocks, config.networks.segmentation.options
    if settings is None:
        raise ModelError(NO_BLOCKS)
    refuse_unknown_options(f"{config.networks.segmentation.name} in blocks", options, BLOCK_OPTIONS)
    head = options.pop("head", HEADS[0])
    if head not in HEADS:
        raise ModelError(f"networks.segmentation.head {head!r}: needed one of {', '.join(HEADS)}.")
    if head == "groups":
        return GroupNetwork(
            classes=classes, levels=settings.levels, encoder=config.networks.segmentation.name, **options
        )
    return BlockNetwork(
        classes=classes,
        levels=settings.levels,
        encoder=config.networks.segmentation.name,
        scores=settings.choice == "learned",
        **options,
    )
