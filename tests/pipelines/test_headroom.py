"""The ceilings of ``pipelines.headroom``, on label maps whose numbers can be counted by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipelines.headroom.__main__ import main
from pipelines.headroom.counts import confusion_of, count_cells
from pipelines.headroom.tree import (
    block_confusion,
    class_weights,
    dense_confusion,
    tree_confusion,
    weighted_errors,
)
from wsi_deform.drawn.study import draw_study
from wsi_deform.geometry import Size


@dataclass
class Table:
    count: int


class Drawn:
    """Labels that are an array."""

    def __init__(self, labels: np.ndarray, classes: int = 2) -> None:
        self.labels, self.classes = labels.astype(np.uint8), Table(classes)
        self.slide_size = Size(labels.shape[1], labels.shape[0])

    def read_region(self, region):
        return self.labels[region.y : region.y + region.height, region.x : region.x + region.width]


def corner(side: int, of: int) -> np.ndarray:
    """A square of class 1 in the top-left corner of class 0."""
    labels = np.zeros((of, of), np.uint8)
    labels[:side, :side] = 1
    return labels


def test_cells_are_counted_on_every_grid_and_unlabelled_pixels_are_not():
    labels = np.array([[0, 1, 1, 255, 0], [0, 0, 1, 1, 1], [1, 1, 255, 255, 0]])
    counts = count_cells(Drawn(labels), cell_px=2)
    assert counts.area_px == 15
    assert [grid.shape for grid in counts.grids] == [(4, 4, 2), (2, 2, 2), (1, 1, 2)]
    assert counts.of_cells(2)[0].tolist() == [[3, 1], [0, 3], [1, 1], [0, 0]]
    assert counts.of_cells(2)[1].tolist() == [[0, 2], [0, 0], [1, 0], [0, 0]]
    assert counts.of_cells(4).tolist() == [[[3, 6], [2, 1]], [[0, 0], [0, 0]]]
    assert counts.of_cells(8).tolist() == [[[5, 7]]]
    with pytest.raises(ValueError, match="no grid of cells of 16 px; finest 2 px, 3 grids"):
        counts.of_cells(16)


def test_a_slide_is_read_in_bands():
    tall = np.arange(1100)[:, None] // 600 * np.ones((1, 3))
    counts = count_cells(Drawn(tall), cell_px=4)
    assert counts.grids[-1].tolist() == [[[1800, 1500]]]


@pytest.mark.parametrize("cell_px", [0, 3, 1024])
def test_cells_that_do_not_fit_bands_are_refused(cell_px):
    with pytest.raises(ValueError, match=f"cells of {cell_px} px; needed a power of two, at most 512"):
        count_cells(Drawn(np.zeros((2, 2))), cell_px=cell_px)


def test_a_cell_is_what_most_of_it_is():
    # The third cell is a tie: the lower class.
    assert confusion_of(np.array([[3, 1], [0, 4], [2, 2]])).tolist() == [[5, 0], [3, 4]]


def test_errors_weigh_as_their_class_does():
    weights = class_weights(np.array([100, 4, 0]))
    assert weights.tolist() == [0.01, 0.25, 0.0]
    assert weighted_errors(np.array([[3, 1, 0], [0, 4, 5]]), weights) == pytest.approx([0.25, 1.0])


@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        (1, [[60, 0], [4, 0]]),
        (3, [[60, 0], [4, 0]]),  # four parts are more
        (4, [[60, 0], [4, 0]]),  # 4 of the 16 px of a quarter
        (7, [[60, 0], [0, 4]]),  # the quarter of that quarter
        (64, [[60, 0], [0, 4]]),
    ],
)
def test_a_tree_is_split_where_something_is_wrong(leaves, expected):
    counts = count_cells(Drawn(corner(2, of=8)), cell_px=1)
    assert tree_confusion(counts, leaves, np.ones(2)).tolist() == expected


def test_parts_outside_the_slide_are_no_leaves():
    # 8 x 2 px: two of the first four parts hold nothing, and so on.
    labels = np.zeros((2, 8), np.uint8)
    labels[:, 6:] = 1
    counts = count_cells(Drawn(labels), cell_px=1)
    assert tree_confusion(counts, 2, np.ones(2)).tolist() == [[12, 0], [4, 0]]
    assert tree_confusion(counts, 3, np.ones(2)).tolist() == [[12, 0], [0, 4]]


def test_a_level_says_cells_of_its_own_pixels():
    counts = count_cells(Drawn(corner(3, of=8)), cell_px=1)
    assert dense_confusion(counts, 1, stride=1).tolist() == [[55, 0], [0, 9]]
    # Cells of 2 px: one of them is whole, two are halves, and the last holds one of four.
    assert dense_confusion(counts, 2, stride=1).tolist() == [[55, 0], [5, 4]]


def test_blocks_are_read_finer_where_that_mends_most_per_pixel():
    # Blocks of 8 px; 5 x 5 px of class 1 at (0, 0) in the first, 1 x 1 in the last.
    labels = np.zeros((16, 16), np.uint8)
    labels[:5, :5] = 1
    labels[8, 8] = 1
    counts = count_cells(Drawn(labels), cell_px=1)
    settings = {"downsamples": (1, 2, 4), "block_px": 8, "stride": 1}

    def read(most: float) -> tuple[list, float]:
        confusion, pixels = block_confusion(counts, most, np.ones(2), **settings)
        return confusion.tolist(), pixels

    # The coarsest level alone: 4 px in each of four blocks, of which one cell is class 1.
    assert read(0) == ([[230, 0], [10, 16]], 16.0)
    # A block of 2 px more is 16 px; the 4 cells of 1 px at right and below, halves, stay class 0.
    assert read(32) == ([[230, 0], [10, 16]], 16.0)
    # Full resolution of the first block: 16 + 64 px more.
    assert read(96) == ([[230, 0], [1, 25]], 96.0)
    # The last block's pixel is worth the least per pixel read.
    assert read(1000) == ([[230, 0], [0, 26]], 176.0)


def test_the_command_prints_ceilings_that_agree_with_each_other(tmp_path: Path, capsys):
    study = draw_study(tmp_path, train=1, val=1, test=0, seed=4, size=Size(512, 256))
    options = [
        "--classes",
        str(study.classes),
        "--budgets",
        "8x16",
        "16x32",
        "--levels",
        "1",
        "2",
        "--block",
        "64",
    ]
    main([str(study.manifest), *options])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 slides of 0.13 Mpx. Mean IoU x 100 if all that is read is known."
    samples = [[float(each.replace(",", "")) for each in line.split("|")[2:-1]] for line in lines[4:6]]
    assert [row[0] for row in samples] == [1024, 256]
    for _, even, _, tree in samples:
        assert even < tree <= 100
    assert samples[0][1] < samples[1][1]
    levels = [line.split("|") for line in lines[9:]]
    assert [row[1].strip() for row in levels] == ["all at 1/1", "all at 1/2", *["blocks, oracle"] * 4]
    finest, half, *blocks = (float(row[4]) for row in levels)
    assert finest > half
    assert blocks == sorted(blocks)
    assert blocks[0] >= half
    assert finest >= blocks[-1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--budgets", "24"], "headroom: --budgets 24: needed short x long, e.g. 24x96."),
        (
            ["--levels", "4", "16"],
            "headroom: --levels 4 16: needed powers of two, each twice the one before.",
        ),
        (["--block", "16"], "headroom: --block 16: needed a power of two, 32 or more."),
        (
            ["--block", "64", "--label-px", "8"],
            "headroom: --block 64: needed a power of two, 128 or more.",
        ),
        (["--label-px", "3"], "headroom: --label-px 3: needed a power of two."),
        (["--classes", "none.yaml"], "headroom: class table none.yaml"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, options, said):
    study = draw_study(tmp_path, train=1, val=1, test=0, seed=4, size=Size(512, 256))
    with pytest.raises(SystemExit, match="^" + said.replace(".", r"\.")):
        main([str(study.manifest), "--classes", str(study.classes), *options])
