"""Otsu's threshold, against scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.filters import threshold_otsu

from wsi_deform.look.tissue import _otsu


def test_two_modes_are_parted():
    values = np.repeat(np.array([0.0, 1.0], np.float32), [30, 70])
    assert _otsu(values) == pytest.approx(1 / 512)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("count", [2, 300, 200_000])
def test_thresholds_are_to_the_bit_those_of_skimage(seed: int, count: int):
    random = np.random.default_rng(seed)
    modes = np.where(random.random(count) < 0.3, random.normal(0.7, 0.1, count), random.gamma(2, 0.05, count))
    values = modes.astype(np.float32)
    assert _otsu(values) == float(threshold_otsu(values))


def test_many_values_are_summed_as_skimage_sums_them():
    # Sums of float32 lose whole numbers above 2**24.
    values = np.concatenate([np.zeros(2**24 + 3, np.float32), np.linspace(0, 1, 999, dtype=np.float32)])
    assert _otsu(values) == float(threshold_otsu(values))
