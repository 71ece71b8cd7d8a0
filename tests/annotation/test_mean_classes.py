"""In words: which classes a mean IoU is over."""

from __future__ import annotations

import pytest

from wsi_deform.annotation.mean_classes import MeanClasses


def classes(labelled, over, absent):
    return MeanClasses(labelled=tuple(labelled), over=tuple(over), absent=tuple(absent))


@pytest.mark.parametrize(
    ("found", "text", "without_a"),
    [
        (classes("abc", "abc", ""), "", ""),
        (
            classes("ab", "ab", "cd"),
            "over 2 of 4 classes (absent: c, d)",
            "over 1 of 3 classes (absent: c, d)",
        ),
        (
            classes("ab", "abc", ""),
            "over 3 of 3 classes (in no label and counted as 0: c)",
            "over 2 of 2 classes (in no label and counted as 0: c)",
        ),
        (
            classes("ab", "abd", "c"),
            "over 3 of 4 classes (absent: c; in no label and counted as 0: d)",
            "over 2 of 3 classes (absent: c; in no label and counted as 0: d)",
        ),
        (classes("bc", "bc", "a"), "over 2 of 3 classes (absent: a)", ""),
        (
            classes("a", "", "bc"),
            "cannot be measured: the labels hold only class 'a'",
            "cannot be measured: the labels hold only class 'a'",
        ),
        (classes("", "", "ab"), *["cannot be measured: no pixel is labelled"] * 2),
    ],
)
def test_a_mean_says_which_classes_it_is_over(found, text, without_a):
    assert found.text() == text
    assert found.text(without="a") == without_a
    assert found.is_whole == (text == "")
    assert MeanClasses.from_data(found.to_data()) == found


@pytest.mark.parametrize("data", [None, 3, {}, {"labelled": []}])
def test_files_of_older_versions_say_nothing(data):
    assert MeanClasses.from_data(data) is None
