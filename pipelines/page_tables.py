"""Markdown pages whose tables are filled from results.

A block of a page begins with ``<!-- table: WORDS -->`` and ends with ``<!-- end -->``; what is between them is
replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_START = "<!-- table: "
_BLOCK = re.compile(r"(<!-- table: ([^\n]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str, table_of: Callable[..., str]) -> str:
    """A page with its marked blocks filled; the rest of it stays as it is.

    Args:
        text: The page.
        table_of: Takes the words of a block's mark, returns what goes between its marks, with a final newline.

    Raises:
        ValueError: A block has no end of its own: filling it would take away what follows.
    """

    def block(found: re.Match[str]) -> str:
        start, words, old, end = found.groups()
        if _START in old:
            raise ValueError(f"table {words}: no <!-- end --> before the next table. Add it.")
        return f"{start}{table_of(*words.split())}{end}"

    last = text.rpartition(_START)[2] if _START in text else ""
    if _START in text and "<!-- end -->" not in last:
        raise ValueError(f"table {last.partition(' -->')[0]}: no <!-- end --> after it. Add it.")
    return _BLOCK.sub(block, text)
