"""The um per pixel of all slides of a manifest together."""

from __future__ import annotations

from wsi_deform.annotation.scales import unit_remarks


def test_slides_off_by_what_confused_units_make_are_named():
    scales = [("a", 0.25), ("b", 0.2525), ("c", 2.5), ("d", 6.4), ("e", 0.25), ("f", 0.00025), ("g", 0.5)]
    ten, inches, thousand = unit_remarks(scales)
    assert ten.startswith(
        "1 of 7 slides are 10 times off the others' 0.2525 um per pixel, as if a unit was mistaken"
    )
    assert "(c 2.5)" in ten
    assert "are 25.4 times off" in inches
    assert "(d 6.4)" in inches
    assert "are 1000 times off" in thousand
    assert "(f 0.00025)" in thousand


def test_three_examples_are_named_of_many():
    scales = [*[(f"s{number}", 0.5) for number in range(9)], *[(f"t{number}", 5.0) for number in range(4)]]
    assert unit_remarks(scales) == [
        "4 of 13 slides are 10 times off the others' 0.5 um per pixel, as if a unit was mistaken (t0 5, t1 5, t2 5, "
        "...): look at column mpp and at what inspect says of these files"
    ]


def test_powers_of_scanners_are_no_confused_units():
    assert unit_remarks([("a", 0.25), ("b", 0.5), ("c", 1.0), ("d", 0.1), ("e", 0.625)]) == []
    assert unit_remarks([("a", 0.25)]) == []
