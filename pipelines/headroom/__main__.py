"""What looking could gain at all, before anyone trains: ``python -m pipelines.headroom MANIFEST``.

Every number is a ceiling: mean IoU at full resolution if the network said the true class of everything that it is
asked. Where the oracles gain little over even samples, no way of choosing samples can gain more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.headroom.counts import count_cells
from pipelines.headroom.tree import block_confusion, class_weights, dense_confusion, tree_confusion
from pipelines.headroom.warp import Ask, warp_confusion
from wsi_deform.annotation.classes import read_class_table
from wsi_deform.errors import WsiDeformError
from wsi_deform.evaluate.means import measured_miou
from wsi_deform.evaluate.measures import Confusion

MOST_CELLS = 2048
"""Along a slide's long side: finer cells than this leave a tree of the budgets here as it is."""
SHARES = (0.0625, 0.125, 0.25, 0.5)
"""Of the finest level's pixels, for blocks."""
LABEL_PX = 2
"""Px of a level per label, as ``configs/blocks.yaml`` has it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.headroom", description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--classes", type=Path, help="default: classes.yaml beside the manifest")
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--budgets", nargs="+", default=["24x96", "48x192"], help="short x long, e.g. 24x113")
    parser.add_argument("--levels", nargs="+", type=int, default=[4, 8, 16], help="downsamples, finest first")
    parser.add_argument("--block", type=int, default=512, help="side of a block, level-0 px")
    parser.add_argument(
        "--label-px",
        type=int,
        default=LABEL_PX,
        help="side of a label, px of its level; default: %(default)s",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="e.g. fields.side_um=null and sampling.coarsest_um=null for images without mpp",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    try:
        classes = read_class_table(given.classes or given.manifest.parent / "classes.yaml")
        ask = Ask(manifest=given.manifest, classes=classes, split=given.split, settings=tuple(given.changes))
        budgets = [_budget(text) for text in given.budgets]
        print(
            headroom(ask, budgets, levels=given.levels, block_px=given.block, label_px=given.label_px),
        )
    except (WsiDeformError, ValueError) as error:
        sys.exit(f"headroom: {error}")


def headroom(
    ask: Ask,
    budgets: Sequence[tuple[int, int]],
    *,
    levels: Sequence[int],
    block_px: int,
    label_px: int = LABEL_PX,
) -> str:
    """Both tables, as Markdown.

    Args:
        ask: Of what.
        budgets: (short, long) sides of sampled images.
        levels: Level-0 px per px of the levels that blocks are read at, finest first, each twice the one before.
        block_px: Side of a block, level-0 px; a power of two, at least a label of the coarsest level.
        label_px: Side of what gets a label, px of the level that it is read at; a power of two.
    """
    _check(levels, block_px, label_px)
    uniform = [warp_confusion(ask, "uniform", budget) for budget in budgets]
    oracle = [warp_confusion(ask, "edge oracle", budget) for budget in budgets]
    weights = class_weights(uniform[0].counts.sum(1))
    empty = np.zeros((ask.classes.count, ask.classes.count), np.int64)
    trees = [empty.copy() for _ in budgets]
    dense = [empty.copy() for _ in levels]
    blocks = [empty.copy() for _ in SHARES]
    read = np.zeros(len(SHARES))
    area, slides = 0, ask.slides()
    for _, labels in slides:
        longest = max(labels.slide_size.width, labels.slide_size.height)
        finest = 1
        while longest / finest > MOST_CELLS and finest < label_px * levels[0]:
            finest *= 2
        counts = count_cells(labels, cell_px=finest)
        area += counts.area_px
        for number, (short, long) in enumerate(budgets):
            trees[number] += tree_confusion(counts, short * long, weights)
        for number, level in enumerate(levels):
            dense[number] += dense_confusion(counts, level, stride=label_px)
        for number, share in enumerate(SHARES):
            confusion, pixels = block_confusion(
                counts,
                share * counts.area_px / levels[0] ** 2,
                weights,
                downsamples=levels,
                block_px=block_px,
                stride=label_px,
            )
            blocks[number] += confusion
            read[number] += pixels
    lines = [
        f"{len(slides)} slides of {area / len(slides) / 1e6:.2f} Mpx. Mean IoU x 100 if all that is read is known.",
        "",
        "| samples | one per ... px | uniform | warp, edge oracle | tree, oracle |",
        "| --: | --: | --: | --: | --: |",
        *(
            f"| {short}x{long} | {area / len(slides) / (short * long):,.0f} | {_points(even)} | {_points(warp)} | "
            f"{_points(Confusion(tree))} |"
            for (short, long), even, warp, tree in zip(budgets, uniform, oracle, trees, strict=True)
        ),
        "",
        "| read | Mpx a slide | share of the finest level | mIoU |",
        "| :-- | --: | --: | --: |",
        *(
            f"| all at 1/{level} | {area / len(slides) / level**2 / 1e6:.3f} | {(levels[0] / level) ** 2:.3f} | "
            f"{_points(Confusion(found))} |"
            for level, found in zip(levels, dense, strict=True)
        ),
        *(
            f"| blocks, oracle | {pixels / len(slides) / 1e6:.3f} | {pixels * levels[0] ** 2 / area:.3f} | "
            f"{_points(Confusion(found))} |"
            for pixels, found in zip(read, blocks, strict=True)
        ),
    ]
    return "\n".join(lines)


def _budget(text: str) -> tuple[int, int]:
    short, times, long = text.partition("x")
    if not times or not short.isdigit() or not long.isdigit():
        raise ValueError(f"--budgets {text}: needed short x long, e.g. 24x96.")
    return int(short), int(long)


def _check(levels: Sequence[int], block_px: int, label_px: int) -> None:
    if label_px < 1 or label_px & (label_px - 1):
        raise ValueError(f"--label-px {label_px}: needed a power of two.")
    doubled = all(coarse == 2 * fine for fine, coarse in zip(levels, levels[1:], strict=False))
    if not levels or levels[0] < 1 or levels[0] & (levels[0] - 1) or not doubled:
        raise ValueError(
            f"--levels {' '.join(map(str, levels))}: needed powers of two, each twice the one before."
        )
    if block_px & (block_px - 1) or block_px < label_px * levels[-1]:
        raise ValueError(f"--block {block_px}: needed a power of two, {label_px * levels[-1]} or more.")


def _points(confusion: Confusion) -> str:
    found = measured_miou(confusion)
    return "-" if found is None else f"{100 * found:.1f}"


if __name__ == "__main__":
    main()
