"""Ctrl-C, and the signals with which schedulers and services end a program: all end the work in good order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def ending_signals() -> tuple[signal.Signals, ...]:
    """The signals that ask a program to end; Windows has no SIGHUP."""
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


class Asked:
    """Which signal has asked this process to end.

    Attributes:
        number: The signal, 0 before one came.
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> bool:
        """Whether one came."""
        return self.number > 0

    @property
    def exit_code(self) -> int:
        """Of a process that ends because of it."""
        return 128 + (self.number or signal.SIGINT)


@contextmanager
def interrupted_by_signals() -> Iterator[Asked]:
    """Turn each ending signal into a KeyboardInterrupt at once.

    Yields:
        Which signal it was.
    """
    asked = Asked()

    def interrupt(number: int, frame: FrameType | None) -> None:
        asked.number = number
        raise KeyboardInterrupt

    with _handled(interrupt):
        yield asked


@contextmanager
def stop_on_signals() -> Iterator[Asked]:
    """Turn the first ending signal into a polite request; a second one interrupts at once.

    Yields:
        Says whether one came, when called.
    """
    asked = Asked()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.number:
            raise KeyboardInterrupt
        asked.number = number

    with _handled(ask):
        yield asked


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Within, the ending signals go to a handler; those that are ignored (nohup) stay ignored."""
    before = {number: signal.getsignal(number) for number in ending_signals()}
    taken = [number for number, old in before.items() if old is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])
