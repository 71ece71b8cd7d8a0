"""Scale bars: round lengths that are as long as they say."""

from __future__ import annotations

import pytest

from wsi_deform.geometry import Point, Size
from wsi_deform.mask.scale_bar import scale_bar


@pytest.mark.parametrize(
    ("size", "mpp", "share", "text"),
    [
        (Size(100_000, 80_000), 0.25, 5000 / 25_000, "5 mm"),  # exactly a fifth
        (Size(99_999, 80_000), 0.25, 2000 / 24_999.75, "2 mm"),  # 5 mm would be more
        (Size(2048, 512), 0.5, 200 / 1024, "200 \N{MICRO SIGN}m"),
        (Size(2048, 512), None, 200 / 2048, "200 px"),
        (Size(20_000, 512), None, 2000 / 20_000, "2,000 px"),
        (
            Size(1000, 20_000),
            0.5,
            500 / 500,
            "500 \N{MICRO SIGN}m",
        ),  # a fifth of the height, not beyond the width
        (Size(900, 20_000), 0.5, 200 / 450, "200 \N{MICRO SIGN}m"),
        (Size(10, 10), 0.25, 0.5 / 2.5, "0.5 \N{MICRO SIGN}m"),
        (Size(3, 3), None, 1 / 3, "1 px"),
        (Size(1, 1), None, 1, "1 px"),
    ],
)
def test_a_bar_is_1_2_or_5_times_a_power_of_ten_and_at_most_a_fifth_of_the_longer_side(
    size, mpp, share, text
):
    bar = scale_bar(size, mpp)
    assert bar.share == pytest.approx(share)
    assert bar.text == text


def test_pixels_that_are_not_square_are_measured_along_the_bar():
    bar = scale_bar(Size(1000, 1000), Point(0.5, 0.25))
    assert (bar.share, bar.text) == (pytest.approx(100 / 500), "100 \N{MICRO SIGN}m")
