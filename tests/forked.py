"""Processes of their own that begin where the heavy imports end.

They are forked from a server that did nothing but import (``multiprocessing`` calls it forkserver), so each has its
own environment, signals, files and death as any other, and starts in a moment instead of seconds. ``Forked`` is
``python -m`` of a module; what the program, or a test, spawns by ``multiprocessing`` comes from the server too, see
``serve_spawned``. What a program loads and says from the very start is tested with ``subprocess``.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import context as contexts
from multiprocessing import forkserver
from pathlib import Path

import dask

from wsi_deform.cli.interrupts import ending_signals

CAN_FORK = "forkserver" in multiprocessing.get_all_start_methods()
PRELOADED = (
    "distributed.cli.dask_scheduler",
    "distributed.cli.dask_worker",
    "matplotlib.figure",
    "monai.networks.nets",
    "torch.utils.tensorboard",
    "wsi_deform.distribute.batch",
    "wsi_deform.train.loop",
)
# The server's environment, whatever a test has changed when the first process is started.
_AT_FIRST: dict[str, str] = {}


if CAN_FORK:
    SERVER = forkserver._forkserver

    class ServedProcess(contexts.ForkServerProcess):
        """A process of the server that has what a spawned one would: the environment of whoever starts it.

        What has read the environment as it was imported reads it again, and a ``sitecustomize`` on the path, which
        Python would have run as it began, runs before all else.
        """

        def start(self) -> None:
            self._environment = dict(os.environ)
            with environment(_AT_FIRST):
                SERVER.ensure_running()
            super().start()

        def run(self) -> None:
            # Of a server's own children each would start a server of its own.
            SERVER.ensure_running = _is_running
            os.environ.clear()
            os.environ.update(self._environment)
            serve_spawned()
            _hear_signals()
            dask.config.refresh()
            for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep):
                if (found := Path(folder) / "sitecustomize.py").is_file():
                    runpy.run_path(str(found))
            super().run()

    class ServedContext(contexts.ForkServerContext):
        """What ``get_context("spawn")`` gives: to whoever asks, processes are spawned."""

        _name = "spawn"
        Process = ServedProcess


def serve_spawned() -> None:
    """Have all that is spawned in this process and in its processes come from the server from now on."""
    if CAN_FORK:
        context = ServedContext()
        context.set_forkserver_preload(list(PRELOADED))
        contexts._concrete_contexts["spawn"] = context
        _AT_FIRST.update(os.environ)


@contextmanager
def spawned_anew() -> Iterator[None]:
    """Spawn as without tests: for what is held of the very start of a process, or of its parent's end."""
    before = contexts._concrete_contexts["spawn"]
    contexts._concrete_contexts["spawn"] = contexts.SpawnContext()
    try:
        yield
    finally:
        contexts._concrete_contexts["spawn"] = before


class Forked:
    """A program that runs; its standard output and error go to one file."""

    def __init__(
        self,
        module: str | Path,
        *arguments: object,
        said: Path,
        variables: Mapping[str, str] | None = None,
        search: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        """Start ``python -m module arguments``.

        Args:
            module: Name of a module that can be run, or a script.
            arguments: Of its command line.
            said: File that gets what it says.
            variables: Added to the environment of this process.
            search: Folder where its ``sitecustomize`` lies, for it and its children.
            folder: Where it runs; None is the folder of this process.
        """
        self._said = said
        path = [] if search is None else [str(search), os.environ.get("PYTHONPATH", "")]
        wanted = {
            **os.environ,
            **({"PYTHONPATH": os.pathsep.join(path)} if path else {}),
            **(variables or {}),
        }
        words = [str(each) for each in arguments]
        self._process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(module, words, said, folder)
        )
        with environment(wanted):
            self._process.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code, minus the number of the signal that killed it, or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        self._process.kill()
        self._process.join()

    def wait(self, timeout_s: float = 300) -> int:
        """Wait for its end.

        Returns:
            The exit code.

        Raises:
            TimeoutError: It did not end in time; it is killed, and what it said is shown.
        """
        self._process.join(timeout_s)
        code = self._process.exitcode
        if code is None:
            self.kill()
            raise TimeoutError(f"still running after {timeout_s:g} s, and said: {self.said()}")
        return code

    def said(self) -> str:
        """What it has said so far."""
        return self._said.read_text(encoding="utf-8")


@contextmanager
def environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """With these variables alone."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _hear_signals() -> None:
    """As in a terminal.

    Signals are ignored where all tests run in the background (SIGINT) or under nohup (SIGHUP), and blocked where the
    server was begun by a test that starts a ``Child``, which holds them while its process starts: whichever is first.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ending_signals())
    for number in ending_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


def _is_running() -> None:
    """Nothing is to be done."""


def _run(module: str | Path, arguments: list[str], said: Path, folder: Path | None) -> None:
    for number in (1, 2):
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", encoding="utf-8", buffering=1, closefd=False) for number in (1, 2)
    )
    if folder is not None:
        os.chdir(folder)
    sys.argv = [str(module), *arguments]
    if isinstance(module, Path):
        runpy.run_path(str(module), run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
