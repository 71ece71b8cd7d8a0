"""A child process that does one case after the other, with limits of time and memory for each."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO, Any, Self

import psutil

from pipelines.fuzz.cases import Case

SECONDS = 10.0
MIB = 2048
# Drawing a case takes a moment, importing everything some more.
STARTING_S = 120.0
LOOK_EVERY_S = 0.02


class WatchedChild:
    """A child that is started again when a case has killed it; a context manager."""

    def __init__(self, seconds: float = SECONDS, mib: int = MIB) -> None:
        self._seconds, self._mib = seconds, mib
        self._process: subprocess.Popen[str] | None = None
        self._said: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._listener: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def outcome(self, case: Case) -> dict[str, Any]:
        """What became of a case: ``ok`` ("used", "refused" or, where it fails, ""), ``said``, ``seconds``, ``mib``."""
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps(list(case)) + "\n")
        process.stdin.flush()
        if self._answer(STARTING_S, mib=None)[0] is None:
            self._stop()
            return {"ok": "", "said": "the file could not be drawn", "seconds": 0.0, "mib": 0}
        started = time.monotonic()
        answer, mib, why = self._answer(self._seconds, mib=self._mib)
        if answer is not None:
            return {**answer, "mib": mib}
        self._stop()
        return {"ok": "", "said": why, "seconds": round(time.monotonic() - started, 1), "mib": mib}

    def _answer(self, seconds: float, *, mib: int | None) -> tuple[dict[str, Any] | None, int, str]:
        """The next thing that the child says, the most memory it had meanwhile, and why it says nothing."""
        process, most = self._process, 0
        assert process is not None
        watched = psutil.Process(process.pid)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer, has_answered = None, False
            with suppress(queue.Empty):
                answer, has_answered = self._said.get(timeout=LOOK_EVERY_S), True
            with suppress(psutil.Error):
                most = max(most, watched.memory_info().rss >> 20)
            if mib is not None and most > mib:
                return None, most, f"{most} MiB of memory, {mib} at most"
            if has_answered:
                return answer, most, "" if answer else f"its process died with status {process.wait()}"
        return None, most, f"more than {seconds:g} s"

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.fuzz.child"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
            )  # fmt: skip
            self._said = queue.Queue()
            assert self._process.stdout is not None
            told = self._process.stdout, self._said
            self._listener = threading.Thread(target=_listen, args=told, daemon=True)
            self._listener.start()
            if self._answer(STARTING_S, mib=None)[0] is None:
                raise RuntimeError(
                    "the child process does not start; run python -m pipelines.fuzz.child to see why"
                )
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._listener is not None:
                self._listener.join()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process = None


def _listen(stream: IO[str], said: queue.Queue[dict[str, Any] | None]) -> None:
    """Hand on what a child says, and None at its end."""
    for line in stream:
        with suppress(ValueError):
            said.put(json.loads(line))
    said.put(None)
