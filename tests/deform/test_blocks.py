"""Which blocks are read, where they lie, and how many."""

import numpy as np
import pytest
import torch

from wsi_deform.deform.blocks import BlockLayout, chosen_blocks, detail, impurity
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size


def layout(width=40, height=20, *, levels=3, window=32, margin=0, **more):
    return BlockLayout(root=Size(width, height), levels=levels, window_px=window, margin_px=margin, **more)


def test_levels_double_and_the_first_look_is_filled_up_to_whole_strides():
    field = layout()
    assert field.padded(0) == Size(48, 32)
    assert field.padded(2) == Size(192, 128)
    assert [field.cells(level) for level in (0, 1, 2)] == [Size(6, 4), Size(12, 8), Size(24, 16)]
    # 80 x 40 px of level 1 and 160 x 80 of level 2 in windows of 32.
    assert (field.blocks(1), field.blocks(2)) == (Size(3, 2), Size(5, 3))
    # One label for 4 x 4 px of 160 x 80.
    assert field.labels == Size(40, 20)
    assert field.dense_px == 160 * 80


@pytest.mark.parametrize(
    ("label_px", "labels", "cells"), [(2, Size(80, 40), Size(48, 32)), (8, Size(20, 10), Size(12, 8))]
)
def test_labels_of_another_size_make_cells_of_twice_that(label_px, labels, cells):
    field = layout(label_px=label_px)
    # 160 x 80 px of the finest level, filled up to 192 x 128.
    assert (field.labels, field.cells(2)) == (labels, cells)
    # What is read does not depend on it.
    assert field.counts(0.5) == (2, 3)


def test_labels_of_a_size_that_windows_are_no_multiple_of_are_refused():
    with pytest.raises(ShapeError, match="labels of 3 px: needed 2, 4 or 8"):
        layout(label_px=3)


def test_values_of_finer_cells_are_pooled_over_the_blocks_that_hold_them():
    field = layout(64, 32, levels=2, label_px=2)
    # Cells of 4 px of the first look, 16 x 8; a block of 32 px of level 1 is 16 px of that, so 4 x 4 cells.
    values = torch.zeros(1, 1, 8, 16)
    values[0, 0, 4:8, 0:2] = 1.0
    assert field.pooled(values, 1)[0, 0].tolist() == [[0.0] * 4, [0.5, 0.0, 0.0, 0.0]]


def test_the_budget_counts_every_look_and_margins():
    # 12,800 px at the finest; the first look takes 48 x 32 = 1,536. Half is 6,400, so 4,864 are left: a third of them,
    # 1,621, is 2 windows of 1,024 px; what then is left, 2,816, is 3.
    assert layout().counts(0.5) == (2, 3)
    assert layout().read_pixels((2, 3)) == 1536 + 5 * 1024
    # With a margin of 16 a window reads 64 x 64 = 4,096 px: one of level 1 is more than its third, one of level 2 too.
    assert layout(margin=16).counts(0.5) == (1, 1)
    assert layout(margin=16).read_pixels((1, 1)) == 1536 + 2 * 4096


def test_no_more_blocks_are_counted_than_there_are_and_what_is_left_goes_on():
    # All 6 blocks of level 1; of level 2 all 15.
    assert layout().counts(8.0) == (6, 15)
    # A first level that wants more than there is leaves the rest to the second.
    assert layout(levels=2).counts(8.0) == (6,)
    assert layout().counts(0.9, split=(100.0, 1.0))[0] == 6


def test_a_block_is_read_only_inside_one_of_the_level_before():
    # Nearly all of the budget is the finest level's, but one block of level 1 has four parts.
    assert layout().counts(0.6, split=(0.001, 1.0)) == (1, 4)


def test_even_a_budget_that_the_first_look_uses_up_leaves_one_block_of_each_level():
    assert layout().counts(0.01) == (1, 1)


def test_a_split_of_another_length_is_refused():
    with pytest.raises(ShapeError, match="2 parts of the budget: needed 1"):
        layout(levels=2).counts(0.5, split=(1.0, 1.0))


@pytest.mark.parametrize(("window", "margin"), [(24, 0), (0, 0), (32, 8), (32, -16)])
def test_windows_that_are_not_whole_strides_are_refused(window, margin):
    with pytest.raises(ShapeError, match="needed multiples of 16"):
        layout(window=window, margin=margin)


def test_pixels_of_windows_lie_at_the_centres_of_their_level():
    points = layout().window_points(1, torch.tensor([[0, 0], [1, 2]]))
    assert points.shape == (2, 32, 32, 2)
    # Level 1 is 80 x 40 px: the first centre is half a pixel from the corner.
    assert points[0, 0, 0].tolist() == pytest.approx([0.5 / 80, 0.5 / 40])
    assert points[0, 0, 1].tolist() == pytest.approx([1.5 / 80, 0.5 / 40])
    # Row 1, column 2 begins at (64, 32); its last pixel lies outside of the field.
    assert points[1, 0, 0].tolist() == pytest.approx([64.5 / 80, 32.5 / 40])
    assert points[1, 31, 31].tolist() == pytest.approx([95.5 / 80, 63.5 / 40])


def test_a_margin_begins_before_the_block():
    points = layout(margin=16).window_points(2, torch.tensor([[0, 1]]))
    assert points.shape == (1, 64, 64, 2)
    assert points[0, 0, 0].tolist() == pytest.approx([(32 - 16 + 0.5) / 160, (-16 + 0.5) / 80])


def test_values_are_pooled_over_blocks():
    field = layout(32, 16, levels=3, window=32)
    values = torch.arange(32.0)[None, None, None].expand(1, 1, 16, 32)
    # A block of level 1 spans 16 px of the first look, one of level 2 spans 8.
    assert field.pooled(values, 1).tolist() == [[[[7.5, 23.5]]]]
    assert field.pooled(values, 2)[0, 0, 0].tolist() == [3.5, 11.5, 19.5, 27.5]
    # Of the features of level 1, 4 cells to a block of level 1 and 2 to one of level 2.
    cells = torch.arange(8.0)[None, None, None].expand(1, 1, 4, 8)
    assert field.pooled(cells, 2)[0, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]


def test_blocks_smaller_than_a_cell_take_the_cell_they_lie_in():
    field = layout(32, 16, levels=4, window=16)
    values = torch.arange(4.0)[None, None, None].expand(1, 1, 2, 4)  # cells of the first look: 8 px
    # A block of level 1 spans 8 px of the first look, which is one cell.
    assert field.pooled(values, 1)[0, 0, 0].tolist() == [0, 1, 2, 3]


def test_blocks_that_the_frame_cuts_are_means_of_what_there_is():
    field = layout(24, 16, levels=2, window=32)
    values = torch.tensor([1.0] * 16 + [3.0] * 8)[None, None, None].expand(1, 1, 16, 24)
    assert field.pooled(values, 1).tolist() == [[[[1.0, 3.0]]]]


def test_children_are_the_quarters_of_a_block():
    found = layout().children(2, torch.tensor([[0, 1]]))
    expected = torch.zeros(3, 5, dtype=torch.bool)
    expected[0:2, 2:4] = True
    assert torch.equal(found, expected)


def test_the_best_blocks_are_chosen_in_the_order_of_the_field():
    priority = torch.tensor([[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]])
    assert chosen_blocks(priority, None, 3).tolist() == [[0, 1], [1, 0], [1, 2]]
    allowed = torch.tensor([[True, False, True], [True, True, False]])
    assert chosen_blocks(priority, allowed, 2).tolist() == [[0, 2], [1, 0]]
    # Of four that may be read no more than four are.
    assert len(chosen_blocks(priority, allowed, 6)) == 4


def test_where_no_block_may_be_read_one_is_all_the_same():
    priority = torch.tensor([[0.1, 0.9]])
    assert chosen_blocks(priority, torch.zeros(1, 2, dtype=torch.bool), 2).tolist() == [[0, 1]]


def test_equal_priorities_go_row_by_row():
    assert chosen_blocks(torch.zeros(2, 2), None, 3).tolist() == [[0, 0], [0, 1], [1, 0]]


def test_impurity_is_ginis():
    fractions = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.5, 0.0, 0.0]]).T[
        None, :, None
    ]
    # The last is half unlabelled, and what is labelled of it is of one class.
    assert impurity(fractions)[0, 0, 0].tolist() == pytest.approx([0.0, 0.5, 0.625, 0.0])
    weights = torch.tensor([1.0, 3.0, 0.0])
    assert impurity(fractions, weights)[0, 0, 0].tolist() == pytest.approx([0.0, 1.0, 0.75, 0.0])


def test_detail_is_the_gradient_of_the_brightness():
    view = torch.zeros(1, 3, 2, 3)
    view[:, :, :, 1:] = 30.0
    assert detail(view)[0, 0].tolist() == [[30.0, 0.0, 0.0], [30.0, 0.0, 0.0]]
    view = torch.zeros(1, 3, 2, 2)
    view[:, :, 1] = torch.tensor([30.0, 40.0])
    found = detail(view)[0, 0].numpy()
    np.testing.assert_allclose(found, [[30.0, 40.0], [10.0, 0.0]])
