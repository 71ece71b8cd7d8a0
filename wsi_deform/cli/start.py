"""Starting quickly."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# Python's own 700 are over in a moment where modules load.
OBJECTS_PER_COLLECTION = 10_000


@contextmanager
def imported_at_once() -> Iterator[None]:
    """Import heavy packages without garbage collection, and leave what they made out of later ones.

    Convention:
        torch and numba make hundreds of thousands of objects that live as long as the process: looking through them
        again and again for garbage is a fifth of the time that importing them takes.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        # numba loads more of itself with the first kernel.
        gc.set_threshold(OBJECTS_PER_COLLECTION, *gc.get_threshold()[1:])
        if enabled:
            gc.enable()
