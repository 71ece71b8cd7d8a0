"""Blocks: which parts of a field are read at which level, and where their pixels lie.

A field is first looked at whole, at the coarsest level. Each further level has pixels of half the length, and is read
in square windows of one size in pixels; a window is a *block* of the field. A block is a quarter of one of the level
before, and is read only where that one was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size

STRIDE = 16
"""Px of a level per coarsest feature of an encoder: images are whole multiples of it."""
LABELS_PER_CELL = 2
"""Along each axis, where features of a level have come together."""
LABEL_PX = 4
"""Px of the finest level per label, unless another number is said."""

LEAST_TISSUE = 0.01
"""Share of a block that is tissue from which on the block is not glass.

Of 76 GlaS biopsies (windows of 64 px, 2.5 um per px) this leaves 56 % of the pixels of whole fields to be read, where
any share above 0 left 79 %: shares are differences of sums, and a third of those above 0 were rounding (below 1e-9).
Of the glands' pixels 0.34 % lie in blocks that it leaves out; 0.26 % in blocks without a pixel of tissue.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLayout:
    """The levels of a field, and the blocks of each.

    Attributes:
        root: Size of the first look, which spans the field's region, px of level 0 of these levels.
        levels: How many, the first look among them; 1 is that alone.
        window_px: Side of a window without its margin, px of its level; a multiple of 16.
        margin_px: What is read around it on every side, px of its level; a multiple of 16.
        label_px: Side of what a label is of, px of the finest level: 2, 4 or 8.

    Raises:
        ShapeError: A side that is no such multiple, no level, or labels of another size.

    Convention:
        Here level 0 is the *coarsest*: levels are counted in the order in which they are looked at.
    """

    root: Size
    levels: int
    window_px: int
    margin_px: int = 0
    label_px: int = LABEL_PX

    def __post_init__(self) -> None:
        """Check the numbers once, here."""
        if (
            self.window_px < STRIDE
            or self.window_px % STRIDE
            or self.margin_px < 0
            or self.margin_px % STRIDE
        ):
            raise ShapeError(
                f"windows of {self.window_px} px with a margin of {self.margin_px} px: needed multiples of {STRIDE}."
            )
        if self.levels < 1:
            raise ShapeError(f"{self.levels} levels: needed at least 1.")
        if self.label_px not in (2, 4, 8):
            raise ShapeError(f"labels of {self.label_px} px: needed 2, 4 or 8.")

    @property
    def read_px(self) -> int:
        """Side of a window with its margin, px of its level."""
        return self.window_px + 2 * self.margin_px

    @property
    def cell_px(self) -> int:
        """Side of a cell of the features of a level, once they have come together, px of that level."""
        return LABELS_PER_CELL * self.label_px

    @property
    def labels(self) -> Size:
        """Labels of the field: one for every ``label_px`` x ``label_px`` px of the finest level."""
        scale = 2 ** (self.levels - 1)
        return Size(self.root.width * scale // self.label_px, self.root.height * scale // self.label_px)

    @property
    def dense_px(self) -> int:
        """Pixels of the field at the finest level."""
        return self.root.area << 2 * (self.levels - 1)

    def padded(self, level: int) -> Size:
        """Size of a level, px, filled up so that the first look is a whole number of its encoder's strides."""
        width, height = (-(-side // STRIDE) * STRIDE for side in (self.root.width, self.root.height))
        return Size(width << level, height << level)

    def cells(self, level: int) -> Size:
        """Size of the features of a level, cells."""
        padded = self.padded(level)
        return Size(padded.width // self.cell_px, padded.height // self.cell_px)

    def blocks(self, level: int) -> Size:
        """Columns and rows of the blocks of a level that cover the field."""
        return Size(*(-(-(side << level) // self.window_px) for side in (self.root.width, self.root.height)))

    def counts(self, share: float, split: Sequence[float] | None = None) -> tuple[int, ...]:
        """How many blocks of each level are read.

        Args:
            share: Pixels read, of all levels and with margins, / ``dense_px``.
            split: Of what the first look leaves, the part of each further level; None gives each twice that of the one
                before.

        Returns:
            Blocks of levels 1, 2, ...; at least one of each, so that no part of a network is idle in a step. What a
            level cannot use, since there are no more blocks, goes to the next.

        Raises:
            ShapeError: Another number of parts than of further levels.
        """
        parts = parts_of(self, split)
        window = self.read_px**2
        left = max(0.0, share * self.dense_px - self.padded(0).area)
        found: list[int] = []
        for number, part in enumerate(parts):
            most = self.blocks(number + 1).area
            if found:
                most = min(most, 4 * found[-1])
            wanted = left * part / sum(parts[number:]) if part else 0.0
            found.append(max(1, min(most, round(wanted / window))))
            left = max(0.0, left - found[-1] * window)
        return tuple(found)

    def read_pixels(self, windows: Sequence[int]) -> int:
        """All pixels that enter an encoder.

        Args:
            windows: How many were read of levels 1, 2, ...
        """
        return self.padded(0).area + sum(windows) * self.read_px**2

    def window_points(self, level: int, blocks: Tensor) -> Tensor:
        """Where the pixels of windows lie.

        Args:
            level: 1 or finer.
            blocks: (N, 2) int64, row and column.

        Returns:
            (N, read_px, read_px, 2) float64, last axis (x, y), unit frame of the field's region. Windows that the frame
            cuts lie partly outside [0, 1].
        """
        steps = torch.arange(self.read_px, dtype=torch.float64) + 0.5 - self.margin_px
        width, height = (side << level for side in (self.root.width, self.root.height))
        rows, columns = (blocks[:, axis].double()[:, None] * self.window_px + steps for axis in (0, 1))
        x = (columns / width)[:, None, :].expand(-1, self.read_px, -1)
        y = (rows / height)[:, :, None].expand(-1, -1, self.read_px)
        return torch.stack((x, y), dim=-1)

    def pooled(self, values: Tensor, level: int) -> Tensor:
        """Means over the blocks of a level.

        Args:
            values: (B, C, H, W) of the field, edge to edge of its padded levels or of its root alone.
            level: 1 or finer.

        Returns:
            (B, C, rows, columns) of ``blocks(level)``.
        """
        scale = values.shape[3] / self.root.width
        if values.shape[2:] == self.cells(level - 1).shape:
            scale = 2 ** (level - 1) / self.cell_px
        side = scale * self.window_px / 2**level
        rows, columns = self.blocks(level).shape
        if side >= 1 and float(side).is_integer():
            step = int(side)
            down, across = rows * step - values.shape[2], columns * step - values.shape[3]
            values = values[:, :, : rows * step, : columns * step]
            values = F.pad(values, (0, max(0, across), 0, max(0, down)), mode="replicate")
            return F.avg_pool2d(values, step)
        # Blocks smaller than a cell: the cell that their centre lies in.
        at = [
            ((torch.arange(count, device=values.device) + 0.5) * side).long().clamp_max(most - 1)
            for count, most in ((rows, values.shape[2]), (columns, values.shape[3]))
        ]
        return values[:, :, at[0]][:, :, :, at[1]]

    def children(self, level: int, blocks: Tensor) -> Tensor:
        """Which blocks of a level are quarters of blocks of the one before.

        Args:
            level: 2 or finer.
            blocks: (N, 2) row and column of blocks of ``level - 1``.

        Returns:
            (rows, columns) bool.
        """
        rows, columns = self.blocks(level).shape
        found = torch.zeros(self.blocks(level - 1).shape, dtype=torch.bool)
        found[blocks[:, 0], blocks[:, 1]] = True
        return found.repeat_interleave(2, 0).repeat_interleave(2, 1)[:rows, :columns]


def parts_of(layout: BlockLayout, split: Sequence[float] | None) -> list[float]:
    """What each further level gets of what the first look leaves, as any positive numbers.

    Args:
        layout: The levels.
        split: As for ``BlockLayout.counts``.

    Raises:
        ShapeError: Another number of parts than of further levels.
    """
    further = layout.levels - 1
    parts = [2.0**number for number in range(further)] if split is None else list(split)
    if len(parts) != further:
        raise ShapeError(f"{len(parts)} parts of the budget: needed {further}, one for each further level.")
    return parts


def chosen_blocks(priority: Tensor, allowed: Tensor | None, count: int) -> Tensor:
    """The blocks that are read: those of the highest priority.

    Args:
        priority: (rows, columns), any real numbers.
        allowed: (rows, columns) bool, which may be read; None is all. Where none may, the best of all is read.
        count: How many at most.

    Returns:
        (N, 2) int64, row and column, in the order of the field, N at least 1. Equal priorities go row by row.
    """
    flat = priority.detach().double().cpu().flatten()
    if allowed is not None:
        count = min(count, int(allowed.sum()))
        if count:
            flat = flat.masked_fill(~allowed.cpu().flatten(), -math.inf)
    best = flat.argsort(descending=True, stable=True)[: max(1, count)].sort().values
    columns = priority.shape[1]
    return torch.stack((best // columns, best % columns), dim=1)


def impurity(fractions: Tensor, weights: Tensor | None = None) -> Tensor:
    """How mixed the classes of blocks are: what reading them closer may tell apart.

    Args:
        fractions: (B, C, rows, columns), share of each class of each block; what they lack of 1 is unlabelled.
        weights: (C,), of classes; None is 1 for all.

    Returns:
        (B, 1, rows, columns), the sum over classes of weight x share x (1 - share): Gini's impurity; 0 or more.
    """
    each = fractions * (fractions.sum(dim=1, keepdim=True) - fractions)
    if weights is not None:
        each = each * weights.view(1, -1, 1, 1).to(each)
    return each.sum(dim=1, keepdim=True).clamp_min(0)


def detail(view: Tensor) -> Tensor:
    """How much there is to see: size of the gradient of the brightness.

    Args:
        view: (B, 3, H, W) RGB in [0, 255].

    Returns:
        (B, 1, H, W), grey levels per px.
    """
    grey = view.float().mean(dim=1, keepdim=True)
    down = F.pad(grey[:, :, 1:] - grey[:, :, :-1], (0, 0, 0, 1))
    across = F.pad(grey[:, :, :, 1:] - grey[:, :, :, :-1], (0, 1))
    return torch.hypot(down, across)
