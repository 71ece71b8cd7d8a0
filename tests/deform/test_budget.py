import numpy as np
import pytest

from wsi_deform.deform.budget import STEPS_PER_OCTAVE, allocate_samples
from wsi_deform.errors import ShapeError


def test_equal_masses_give_equal_shares():
    assert allocate_samples([2.0, 2.0, 2.0], [100, 100, 100], max_ratio=4).tolist() == [100, 100, 100]


@pytest.mark.parametrize("ratio", [1, 1.2, 3, 4, 5])
def test_the_total_is_kept_and_nearly_used_and_the_ratio_holds(ratio):
    rng = np.random.default_rng(0)
    for _ in range(200):
        fields = int(rng.integers(2, 60))
        masses, equal = rng.exponential(size=fields) ** 3, rng.integers(500, 4000, fields)
        given = allocate_samples(masses, equal, max_ratio=ratio)
        assert given.sum() <= equal.sum() * (1 + 1e-9)
        assert given.sum() > 0.8 * equal.sum()
        assert (given >= equal / ratio * (1 - 1e-9)).all()
        assert (given <= equal * ratio * (1 + 1e-9)).all()


def test_denser_fields_get_more_in_few_sizes():
    given = allocate_samples([1, 2, 4, 9], [1000] * 4, max_ratio=4)
    assert (np.diff(given) >= 0).all()
    assert given[-1] > 2 * given[0]
    steps = STEPS_PER_OCTAVE * np.log2(given / 1000)
    assert np.allclose(steps, np.round(steps))


@pytest.mark.parametrize("masses", [[0, 0, 0], [5.0]])
def test_nothing_to_choose_by_means_equal_shares(masses):
    assert allocate_samples(masses, [64] * len(masses), max_ratio=4).tolist() == [64] * len(masses)


@pytest.mark.parametrize(
    ("masses", "ratio"), [([1, 2], 4), ([1, -1, 1], 4), ([1, np.nan, 1], 4), ([1, 1, 1], 0.5)]
)
def test_nonsense_is_refused(masses, ratio):
    with pytest.raises(ShapeError, match="needed"):
        allocate_samples(masses, [10, 10, 10], max_ratio=ratio)


def test_samples_are_shared_out_as_by_hand():
    step = 2**0.25
    # Wanted: 250, 500, 1,000 and 2,250; 2,250 is rounded down to 2,000, and the 250 left over lift the two smallest.
    given = allocate_samples([1, 2, 4, 9], [1000] * 4, max_ratio=4)
    np.testing.assert_allclose(given, [250 * step, 500 * step, 1000, 2000])
    # The first is held at a half; 125 are left to each of the others, of which 1.19 x 100 is the step below.
    np.testing.assert_allclose(
        allocate_samples([0, 1, 1], [100] * 3, max_ratio=2), [50 * step, 100 * step, 100 * step]
    )
    # One at most four times its share, the others take what it may not.
    np.testing.assert_allclose(allocate_samples([98, 1, 1], [100] * 3, max_ratio=2), [200, 50, 50])


def test_infinite_masses_and_shares_of_nothing_are_refused():
    for masses, equal in (([1, np.inf], [10, 10]), ([1, 1], [10, 0]), ([[1, 1]], [[10, 10]])):
        with pytest.raises(ShapeError, match="needed"):
            allocate_samples(masses, equal, max_ratio=2)
