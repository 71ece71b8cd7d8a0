"""Starting quickly."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

# Python's own 700 are over in a moment where modules load.
OBJECTS_PER_COLLECTION = 10_000


def let_idle_threads_sleep() -> None:
    """Let threads of OpenBLAS and PyTorch sleep soon after they have nothing to do; call it before either is loaded.

    Convention:
        NumPy and SciPy each start a thread of OpenBLAS per core, which spins for 2^26 cycles before it sleeps: .2 s for
        nothing on two cores. Two to the 14th is still longer than from one call to the next in a loop of them.
        PyTorch's threads (libgomp) spin 300,000 times, some milliseconds, wherever one waits for another: where other
        programs share the cores that is most of what a forward pass takes, in CPU seconds and by the clock. 4,000
        times outlast what lies between two operations of a network. Who set ``OPENBLAS_THREAD_TIMEOUT``,
        ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY`` keeps it.
    """
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "14")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "4000")


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
