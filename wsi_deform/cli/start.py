"""Starting and ending quickly."""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def is_own_program() -> bool:
    """Whether this process is the command, and not a program of somebody that calls it."""
    # Never by sys.argv, which any program may write.
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None) or ""
    return getattr(spec, "name", None) == "wsi_deform.__main__" or Path(file).stem == "wsi-deform"


def end_at_once(code: int) -> None:
    """End the process as Python does, but without freeing piece by piece what it holds: of torch .2 s.

    Args:
        code: Its exit code.

    Convention:
        What was registered with ``atexit`` is called, and what was printed is written. Where another thread is still to
        be waited for, nothing is done: Python ends by itself.
    """
    # CPython's own, which no document promises.
    run_exit_functions = getattr(atexit, "_run_exitfuncs", None)
    waits = any(not one.daemon for one in threading.enumerate() if one is not threading.main_thread())
    if run_exit_functions is None or waits or threading.current_thread() is not threading.main_thread():
        return
    run_exit_functions()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            return  # closed, or nobody reads it: Python says so
    os._exit(code)
