"""Time of some calls within a run; imports nothing that a rival's Python might lack."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from pipelines.benchmarks.measure import Facts


class Stopwatch:
    """Adds up what calls of some functions take."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def call(*arguments: Any, **named: Any) -> Any:
            start, cpu = time.perf_counter(), time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - start
                self.cpu_seconds += time.process_time() - cpu

        return call

    def extrapolated(self, times: float) -> Facts:
        """What has to be added to the measured time."""
        return {
            "more_seconds": (times - 1) * self.seconds,
            "more_cpu_seconds": (times - 1) * self.cpu_seconds,
        }
