"""`python -m` in a process of its own that begins where the heavy imports end.

Such a process is forked from a server that did nothing but import (``multiprocessing`` calls it forkserver), so it has
its own environment, signals, files and death as any other, and starts in a moment instead of seconds. What a program
loads and says from the very start is tested with ``subprocess``.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

PRELOADED = (
    "matplotlib.figure",
    "monai.networks.nets",
    "torch.utils.tensorboard",
    "wsi_deform.distribute.batch",
    "wsi_deform.train.loop",
)


class Forked:
    """A program that runs; its standard output and error go to one file."""

    def __init__(
        self,
        module: str,
        *arguments: object,
        said: Path,
        environment: Mapping[str, str] | None = None,
        search: Path | None = None,
    ) -> None:
        """Start ``python -m module arguments``.

        Args:
            module: Name of a module that can be run.
            arguments: Of its command line.
            said: File that gets what it says.
            environment: Added to that of this process.
            search: Folder where its ``sitecustomize`` lies, for it and its children.
        """
        fork = "forkserver" in multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if fork else "spawn")
        if fork:
            context.set_forkserver_preload(list(PRELOADED))
        self._said = said
        self._process = context.Process(
            target=_run,
            args=(
                module,
                [str(each) for each in arguments],
                said,
                {**os.environ, **(environment or {})},
                search,
            ),
        )
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


def _run(
    module: str, arguments: list[str], said: Path, environment: dict[str, str], search: Path | None
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number in (1, 2):
        file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", encoding="utf-8", buffering=1, closefd=False) for number in (1, 2)
    )
    if search is not None:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(search), os.environ.get("PYTHONPATH", "")])
        runpy.run_path(str(search / "sitecustomize.py"))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
