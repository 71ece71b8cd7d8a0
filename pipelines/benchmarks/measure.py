"""Measure cases side by side: each in a process of its own, their runs interleaved, A B C A B C.

A *case* names a factory ``module:function``. Its process imports it, calls it with the case's parameters (which
prepares everything that is not to be timed and warms it up, so that nothing is compiled in a run), and then does
one run whenever it is told to. Idle cases wait and cost nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

ROOT = Path(__file__).parents[2]
POLL_S = 0.02
MIB = 2**20
MIN_RUN_S = 0.3  # of the clock: shorter work is repeated within a run

Facts = dict[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to be measured.

    Attributes:
        name: What tables call it.
        factory: ``module:function`` relative to ``pipelines.benchmarks``; called with ``params``.
        params: Plain data; they are columns of the results too.
        runs: Number of runs, where it is not everybody's.
        python: The Python that runs it, where it is not this one: that of a rival with an environment of its own.
    """

    name: str
    factory: str
    params: Mapping[str, Any] = field(default_factory=dict)
    runs: int | None = None
    python: str = sys.executable


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a factory returns.

    Attributes:
        run: Does the measured work; the argument is the number of the run. Returns facts about it: numbers become
            medians over the runs. ``seconds`` and ``cpu_seconds`` in them replace what was measured: that is how a
            run over a part of the work says what all of it would cost.
        finish: Called once after all runs, not measured; its facts are added.
        facts: Known beforehand.
    """

    run: Callable[[int], Facts]
    finish: Callable[[], Facts] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Pool:
    """Processes by the names of cases; a context manager. A case of the same name gets the same process again."""

    def __init__(self, threads: int, say: Callable[[str], None] = print) -> None:
        """Every library in every process gets so many threads; ``say`` gets progress."""
        self.threads = threads
        self.say = say
        self._workers: dict[tuple[str, str], _Worker] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def measure(self, cases: Sequence[Case], *, runs: int) -> list[Row]:
        """Measure cases against each other.

        Args:
            cases: What stands side by side; all processes are alive together.
            runs: Runs of each case that does not say it itself.

        Returns:
            One row per case: its name and parameters, medians of ``seconds`` and ``cpu_seconds``, their spread,
            ``peak_mib`` (the most that the process tree held in any run), ``base_mib`` (what it held before the
            first), and its facts. A case that could not be measured has ``failed`` instead.
        """
        workers = [self._prepared(case) for case in cases]
        for number in range(max((case.runs or runs) for case in cases)):
            for worker in workers:
                if worker.failed is None and number < (worker.case.runs or runs):
                    worker.run(number)
                    said = f"{worker.taken[-1]['seconds']:.4f} s" if worker.failed is None else worker.failed
                    self.say(f"  {worker.case.name}: run {number + 1}: {said}")
        return [worker.row() for worker in workers]

    def _prepared(self, case: Case) -> _Worker:
        key = (case.factory, case.name)
        if key in self._workers and self._workers[key].failed is not None:
            self._workers.pop(key).close()
        if key not in self._workers:
            self._workers[key] = _Worker(case.factory, self.threads, case.python)
        worker = self._workers[key]
        worker.prepare(case)
        if worker.failed is not None:
            self.say(f"  {case.name}: FAILED: {worker.failed}")
        return worker


class _Worker:
    """The parent's side of one process."""

    def __init__(self, factory: str, threads: int, python: str) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close
        self.failed: str | None = None
        self.case: Case
        self.taken: list[Facts] = []
        self.facts: Facts = {}
        self.base_mib = 0.0
        count = str(threads)
        names = ("OMP", "MKL", "OPENBLAS", "NUMBA", "NUMEXPR")
        environment = {**os.environ, **{f"{name}_NUM_THREADS": count for name in names}}
        environment |= {"VIPS_CONCURRENCY": count, "BENCHMARK_THREADS": count}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        self.process = subprocess.Popen(
            [python, "-m", "pipelines.benchmarks.measure", factory],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.errors.close()

    def prepare(self, case: Case) -> None:
        """Let it prepare a case and warm up."""
        self.case, self.taken = case, []
        answer, _ = self._ask({"prepare": dict(case.params)})
        self.facts = answer.get("facts", {})
        self.base_mib = float(answer.get("base_mib", 0.0))

    def run(self, number: int) -> None:
        """Let it do one run."""
        answer, polled = self._ask({"run": number})
        if self.failed is None:
            answer["peak_mib"] = max(answer["peak_mib"], polled)
            self.taken.append(answer)

    def row(self) -> Row:
        """What came out."""
        if self.failed is None:
            self.facts |= self._ask({"finish": True})[0].get("facts", {})
        row: Row = {"case": self.case.name, **self.case.params}
        if self.failed is not None:
            return {**row, **self.facts, "failed": self.failed}
        seconds = [run["seconds"] for run in self.taken]
        row |= {
            "seconds": statistics.median(seconds),
            "cpu_seconds": statistics.median(run["cpu_seconds"] for run in self.taken),
            "peak_mib": round(max(run["peak_mib"] for run in self.taken)),
            "base_mib": round(self.base_mib),
            "runs": len(seconds),
            "least_seconds": min(seconds),
            "most_seconds": max(seconds),
        }
        for name in dict.fromkeys(name for run in self.taken for name in run["facts"]):
            values = [run["facts"][name] for run in self.taken if name in run["facts"]]
            row[name] = statistics.median(values) if isinstance(values[0], int | float) else values[-1]
        return {**row, **self.facts}

    def _ask(self, question: Facts) -> tuple[Facts, float]:
        """Send a line, wait for the answer and watch the process tree; the answer, and most MiB seen."""
        peak = 0.0
        to_worker, from_worker = self.process.stdin, self.process.stdout
        if to_worker is None or from_worker is None:
            raise RuntimeError("a worker without pipes")
        try:
            to_worker.write(json.dumps(question).encode() + b"\n")
            to_worker.flush()
            while not select.select([from_worker], [], [], POLL_S)[0]:
                peak = max(peak, _tree_mib(self.process.pid))
            line = from_worker.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            self.process.wait()
            self.errors.seek(0)
            last = self.errors.read().decode(errors="replace").strip().splitlines()[-1:]
            self.failed = f"exit code {self.process.returncode}: {' '.join(last)}"
            return {}, peak
        answer: Facts = json.loads(line)
        return answer, peak


def _tree_mib(pid: int) -> float:
    """Resident memory of a process and all its children, MiB."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total / MIB


def _cpu_seconds() -> float:
    """User and system time of this process, all its threads and its finished children."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def _reset_peak() -> None:
    """Let the kernel forget the peak of resident memory where it can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _give_back_memory() -> None:
    """Hand freed memory back to the system where the C library can, so that one case does not count for the next."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _peak_mib() -> float:
    """Peak of resident memory since the last reset, MiB; since the start of the process without /proc."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (MIB if sys.platform == "darwin" else 1024)


def _timed(work: Work, number: int) -> tuple[float, float, Facts]:
    """One run: seconds, CPU seconds, facts. What is over in milliseconds is repeated, and the mean is told."""
    cpu, start, repeats = _cpu_seconds(), time.perf_counter(), 0
    while True:
        facts = work.run(number)
        repeats += 1
        seconds = time.perf_counter() - start
        if seconds >= MIN_RUN_S:
            return seconds / repeats, (_cpu_seconds() - cpu) / repeats, facts


def serve(factory: str, lines: Iterable[str], answer: Callable[[Facts], None]) -> None:
    """The child's side: prepare, then run whenever told to.

    Args:
        factory: ``module:function``.
        lines: The parent's lines of JSON.
        answer: Sends plain data back.
    """
    threads = int(os.environ.get("BENCHMARK_THREADS", "1"))
    module, function = factory.split(":")
    make = getattr(importlib.import_module(f"pipelines.benchmarks.{module}"), function)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "dask" in sys.modules:
        sys.modules["dask"].config.set(num_workers=threads)
    work: Work | None = None
    for line in lines:
        told = json.loads(line)
        if "prepare" in told or work is None:
            work = None  # let go of the last case first
            _give_back_memory()
            work = make(**told["prepare"])
            _give_back_memory()
            answer({"facts": dict(work.facts), "base_mib": _tree_mib(os.getpid())})
            continue
        if "finish" in told:
            answer({"facts": work.finish() if work.finish is not None else {}})
            continue
        _reset_peak()
        seconds, cpu_seconds, facts = _timed(work, told["run"])
        answer(
            {
                "seconds": facts.pop("seconds", seconds),
                "cpu_seconds": facts.pop("cpu_seconds", cpu_seconds),
                "peak_mib": _peak_mib(),
                "facts": facts,
            }
        )


def _main() -> None:
    # Answers go out by a descriptor of their own: what libraries print must not look like one.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb"), line_buffering=True)

    def answer(data: Facts) -> None:
        answers.write(json.dumps(data) + "\n")
        answers.flush()

    serve(sys.argv[1], sys.stdin, answer)


if __name__ == "__main__":
    _main()
