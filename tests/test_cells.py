"""Text in CSV files that a spreadsheet does not run."""

from __future__ import annotations

import csv
import io

import pytest

from wsi_deform.cells import plain_text, safe_row


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ('=HYPERLINK("x")', '\'=HYPERLINK("x")'),
        ("+1 and more", "'+1 and more"),
        ("-slide", "'-slide"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("'=1", "''=1"),
        ("\uff1d1", "'\uff1d1"),
    ],
)
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe_and_loses_it_again(
    cell: str, written: str
) -> None:
    assert safe_row([cell]) == [written]
    assert plain_text(written) == cell


@pytest.mark.parametrize(
    "cell", ["-1.5", "+3", "-2e-05", "-.5", "12", "a=b", "O'Neill", "'quoted'", "", " =1"]
)
def test_numbers_and_other_text_stay(cell: str) -> None:
    assert safe_row([cell]) == [cell]
    assert plain_text(cell) == cell


def test_what_is_no_text_stays() -> None:
    assert safe_row([-1.5, -3, None, True]) == [-1.5, -3, None, True]


def test_every_text_comes_back_from_a_csv() -> None:
    texts = ["=1", "'=1", "''=1", "-a", "'-a", "-1", "'-1", "'a", "", "\tx", '"=1"', "a,=b"]
    text = io.StringIO()
    csv.writer(text).writerow(safe_row(texts))
    row = next(csv.reader(io.StringIO(text.getvalue(), newline="")))
    assert [plain_text(cell) for cell in row] == texts
