from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from pipelines.page_tables import filled
finally:
    sys.path.remove(str(ROOT))

PAGE = "# A\n<!-- table: one -->\nold\nold\n<!-- end -->\nbetween\n<!-- table: two b -->\n<!-- end -->\nlast"


def test_blocks_are_replaced_and_the_rest_of_the_page_stays() -> None:
    found = filled(PAGE, lambda *words: f"new {'+'.join(words)}\n")
    assert found == (
        "# A\n<!-- table: one -->\nnew one\n<!-- end -->\nbetween\n"
        "<!-- table: two b -->\nnew two+b\n<!-- end -->\nlast"
    )


def test_filling_twice_is_filling_once() -> None:
    once = filled(PAGE, lambda *_: "new\n")
    assert filled(once, lambda *_: "new\n") == once


def test_table_is_text_and_not_a_pattern() -> None:
    assert "a \\1 \\g<2>\n" in filled(PAGE, lambda *_: "a \\1 \\g<2>\n")


def test_block_without_an_end_of_its_own_is_refused_so_that_nothing_after_it_is_lost() -> None:
    with pytest.raises(ValueError, match="table one: no <!-- end --> before the next table"):
        filled(PAGE.replace("old\n<!-- end -->", "old", 1), lambda *_: "new\n")
    with pytest.raises(ValueError, match="table two b: no <!-- end --> after it"):
        filled(PAGE.replace("<!-- end -->\nlast", "last"), lambda *_: "new\n")
