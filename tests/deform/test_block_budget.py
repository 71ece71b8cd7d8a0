"""One budget for the blocks of all fields of a slide."""

import numpy as np
import pytest

from wsi_deform.deform.block_budget import FieldWorth, proportional, shared_counts
from wsi_deform.deform.blocks import BlockLayout
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size

# A first look of 64 x 64 px; windows of 1,024 px: 16 blocks of level 1, 64 of level 2.
LAYOUT = BlockLayout(root=Size(64, 64), levels=3, window_px=32)
LOOK, WINDOW = 64 * 64, 32 * 32


def field(priority, *, worth=1.0, quarters=4, looked=LOOK):
    count = len(priority)
    within = (np.ones(count, np.int64), np.full(count, quarters))
    return FieldWorth(
        layout=LAYOUT,
        priority=np.array(priority, float),
        worth=np.full(count, float(worth)),
        within=within,
        looked_px=looked,
    )


def test_blocks_of_all_fields_compete_and_finer_ones_follow_what_those_are_worth():
    fields = [field([9, 8, 7, 6], worth=3), field([1, 2, 1, 1], worth=1)]
    # 4 blocks of level 1 and 8 of level 2: masses 9 and 1 are 7.2 and .8 of them, of which none gets less than 1.
    found = shared_counts(fields, budget_px=2 * LOOK + 12 * WINDOW)
    assert found == [(3, 7), (1, 1)]
    # The first looks that told it are paid for.
    dear = [field([9, 8, 7, 6], worth=3, looked=2 * LOOK), field([1, 2, 1, 1], worth=1, looked=2 * LOOK)]
    assert shared_counts(dear, budget_px=4 * LOOK + 12 * WINDOW) == found
    assert shared_counts(dear, budget_px=2 * LOOK + 12 * WINDOW) == [(1, 1), (1, 1)]


def test_what_glass_below_a_block_cannot_use_goes_to_other_fields():
    fields = [field([9, 8, 7, 6], worth=3, quarters=1), field([1, 2, 1, 1], worth=1)]
    assert shared_counts(fields, budget_px=2 * LOOK + 12 * WINDOW) == [(3, 3), (1, 4)]


def test_a_field_of_glass_reads_one_block_of_each_level():
    fields = [field([5, 4]), field([])]
    assert shared_counts(fields, budget_px=2 * LOOK + 12 * WINDOW) == [(2, 8), (1, 1)]


def test_the_split_of_the_levels_is_that_of_a_field_alone():
    fields = [field(range(16)), field(range(16))]
    # 24 blocks, three quarters of them of level 1.
    assert shared_counts(fields, budget_px=2 * LOOK + 24 * WINDOW, split=(3, 1)) == [(9, 3), (9, 3)]
    assert LAYOUT.counts((LOOK + 12 * WINDOW) / LAYOUT.dense_px, (3, 1)) == (9, 3)
    with pytest.raises(ShapeError, match="1 parts of the budget: needed 2"):
        shared_counts(fields, budget_px=1e6, split=(1,))
    with pytest.raises(ShapeError, match="no fields"):
        shared_counts([], budget_px=1e6)


def test_shares_are_whole_and_between_1_and_their_limit():
    limit = np.array([10, 10, 3])
    assert proportional(np.array([1.0, 1.0, 8.0]), limit, 9).tolist() == [3, 3, 3]
    assert proportional(np.array([5.0, 3.0, 0.0]), limit, 9).tolist() == [5, 3, 1]
    assert proportional(np.zeros(3), limit, 7).tolist() == [3, 2, 2]
    assert proportional(np.ones(3), limit, 99).tolist() == [10, 10, 3]
    assert proportional(np.ones(3), limit, 0).tolist() == [1, 1, 1]
