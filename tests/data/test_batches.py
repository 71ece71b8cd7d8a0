"""Which fields meet in a batch, and how a batch is split over processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from wsi_deform.data.batches import shares_of, shuffled_batches
from wsi_deform.errors import TrainingError
from wsi_deform.geometry import Size


@dataclass(frozen=True)
class Shaped:
    """Of a field, what batches look at."""

    size: Size

    @property
    def shape(self) -> tuple[Size, Size, None]:
        return self.size, self.size, None


def of_sizes(*widths: int) -> list[Shaped]:
    return [Shaped(Size(width, 16)) for width in widths]


MANY = of_sizes(*np.random.default_rng(0).choice([16, 24, 40], 50))


def test_mixed_batches_are_full_but_one_and_hold_every_field_once():
    for epoch in range(5):
        batches = shuffled_batches(MANY, 4, seed=1, epoch=epoch, mixed=True)
        assert sorted(index for batch in batches for index in batch) == list(range(50))
        assert sorted(len(batch) for batch in batches) == [2] + [4] * 12
    orders = {str(shuffled_batches(MANY, 4, seed=1, epoch=epoch, mixed=True)) for epoch in range(5)}
    assert len(orders) == 5
    assert shuffled_batches(MANY, 4, seed=1, epoch=3, mixed=True) == shuffled_batches(
        MANY, 4, seed=1, epoch=3, mixed=True
    )


def test_mixed_batches_have_few_shapes():
    def shapes(batches):
        return np.mean([len({MANY[index].size for index in batch}) for batch in batches])

    sorted_by_shape = shapes(shuffled_batches(MANY, 4, seed=1, epoch=0, mixed=True))
    order = np.random.default_rng(0).permutation(50).tolist()
    assert sorted_by_shape < 1.5 < 2 < shapes([order[start : start + 4] for start in range(0, 48, 4)])


def test_weights_say_how_often_a_field_is_drawn():
    weights = [0.0, *[1.0] * 48, 48.0]
    drawn = np.zeros(50)
    for epoch in range(40):
        batches = shuffled_batches(MANY, 4, seed=1, epoch=epoch, weights=weights)
        indices = [index for batch in batches for index in batch]
        assert len(indices) == 50
        np.add.at(drawn, indices, 1)
    assert drawn[0] == 0
    assert drawn[49] / drawn.sum() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("weights", [[1.0], [-1.0] + [1.0] * 49, [0.0] * 50, [float("nan")] * 50])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(TrainingError, match="needed 50 finite numbers"):
        shuffled_batches(MANY, 4, seed=1, epoch=0, weights=weights)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_of_all_processes_are_the_batch_with_none_empty(world):
    items = of_sizes(16, 24, 16, 16, 24, 40)
    batch = [5, 2, 1, 0, 4, 3]
    shares = [shares_of(items, batch, rank=rank, world=world) for rank in range(world)]
    assert {len(each) for each in shares} == {3}
    for together in zip(*shares, strict=True):
        assert len({items[index].size for share in together for index in share.indices}) == 1
        assert all(share.indices for share in together)
    counted = [share for each in shares for share in each if share.counted]
    assert sorted(place for share in counted for place in share.places) == list(range(6))
    for share in (share for each in shares for share in each):
        assert [batch[place] for place in share.places] == list(share.indices)
