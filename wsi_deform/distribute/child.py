"""Slides in a process of its own, one after the other, which may die without taking this one along.

Nothing that is slow is imported here, so that the process can start, and import all that is, while this one does.
"""

from __future__ import annotations

import _thread
import gc
import logging
import logging.handlers
import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from wsi_deform.errors import MaskError, WsiDeformError

if TYPE_CHECKING:
    from wsi_deform.distribute.job import SlideJob
    from wsi_deform.distribute.outcome import Outcome

# So long it may take to abandon a slide in good order; then it is killed.
PATIENCE_S = 20.0
STARTS = 2
END = b"end"

OnField = Callable[[int, int], None]


class Child:
    """A process that segments slides; it is replaced when it dies. A context manager.

    Convention:
        Log records of the process go to this one's handlers, and so does how far coarse levels are built. Signals that
        end a program are this process's business: it tells the other one to abandon its slide, which then is as it was
        before. Where this process dies, the other one does the same by itself and ends.
    """

    def __init__(self) -> None:
        self._process: Any = None
        self._connection: Connection | None = None
        self._is_ready = False

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        """Its number, 0 where there is none now."""
        return 0 if self._process is None else int(self._process.pid or 0)

    def segment(self, job: SlideJob, on_field: OnField | None = None) -> Outcome:
        """Segment a slide and wait for it.

        Args:
            job: The slide.
            on_field: Called after each field with how many are done and how many there are.

        Returns:
            What was done with it; "failed", with the signal, where the process died.

        Raises:
            OutFolderGoneError: The mask folder is not the one in which the work began.
            MaskError: The ledger cannot be written, or the process cannot be started.
        """
        try:
            answer = self._answer(job, on_field)
        except EOFError:
            return self._record_death(job)
        except BaseException:
            self._abandon(job)
            raise
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def end(self) -> None:
        """End the process; one that works on a slide abandons it."""
        if self._connection is None:
            return
        if self._is_ready:
            with suppress(OSError):
                self._connection.send_bytes(END)
            self._drop(PATIENCE_S)
        else:
            self._drop()

    def start(self) -> None:
        """Start the process, which else the first slide does: it imports what is slow, and waits."""
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, logging.getLogger().getEffectiveLevel()), daemon=True
        )
        with _ending_signals_held():
            self._process.start()
        theirs.close()
        self._connection, self._is_ready = mine, False

    def _begin(self, job: SlideJob) -> Connection:
        """Hand a slide over, to a new process where the last one died while it had none."""
        for _ in range(STARTS):
            if self._connection is None:
                self.start()
            connection = self._connection
            assert connection is not None
            with suppress(EOFError, OSError):
                connection.send(replace(job, is_isolated=True))
                while (message := _received(connection))[0] != "begun":
                    self._hear(*message)
                return connection
            how = _how(self._drop(1.0))
        raise MaskError(
            f"the process that segments ended before it had begun ({how}). Look at what it said above, or use "
            "--in-process."
        )

    def _answer(self, job: SlideJob, on_field: OnField | None) -> Outcome | BaseException:
        connection = self._begin(job)
        while True:
            kind, *said = _received(connection)
            if kind == "field" and on_field is not None:
                on_field(*said)
            elif kind == "end":
                answer: Outcome | BaseException = said[0]
                return answer
            else:
                self._hear(kind, *said)

    def _hear(self, kind: str, *said: Any) -> None:
        """What the process tells at any time."""
        if kind == "ready":
            self._is_ready = True
        elif kind == "build":
            from wsi_deform.slide.levels.sidecar import tell_build_progress

            tell_build_progress(*said)
        elif kind == "log":
            logging.getLogger(said[0].name).handle(said[0])

    def _record_death(self, job: SlideJob) -> Outcome:
        from wsi_deform.distribute.turn import record_death

        return record_death(job, f"its process died ({_how(self._drop(1.0))})")

    def _abandon(self, job: SlideJob) -> None:
        """Let the process put the slide back as it was; one that does not answer is killed, which is no fault of it."""
        from wsi_deform.distribute.turn import forget_attempt

        try:
            self.end()
        finally:
            self._drop()
            with suppress(WsiDeformError):
                forget_attempt(job)

    def _drop(self, wait_s: float = 0.0) -> int | None:
        """End the process, which is given some time to do so by itself; its exit code."""
        process, connection = self._process, self._connection
        self._process = self._connection = None
        if process is None:
            return None
        if connection is not None:
            connection.close()
        try:
            process.join(wait_s)
        finally:
            if process.is_alive():
                process.kill()
        process.join()
        code: int | None = process.exitcode
        process.close()
        return code


def _received(connection: Connection) -> tuple[Any, ...]:
    """What the process tells next, or EOFError where it is no longer there."""
    try:
        message: tuple[Any, ...] = connection.recv()
    except OSError as error:
        raise EOFError from error
    return message


def _work(connection: Connection, level: int) -> None:
    """What the process does: slides, until it is told to end or nobody is there to tell it."""
    interrupts = _Interrupts()
    lock = threading.Lock()

    def tell(*message: Any) -> None:
        with lock, suppress(OSError):
            connection.send(message)

    root = logging.getLogger()
    root.handlers[:] = [_Told(tell)]
    root.setLevel(level)
    jobs: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs, interrupts), daemon=True).start()
    with suppress(KeyboardInterrupt):
        # What is imported stays: looking through it for garbage is a fifth of the time that it takes.
        gc.disable()
        from wsi_deform.distribute.turn import segment_to_folder
        from wsi_deform.slide.levels.sidecar import set_build_progress

        gc.freeze()
        gc.enable()
        set_build_progress(lambda name, done, total: tell("build", name, done, total))
        tell("ready")
        while (job := jobs.get()) != END:
            interrupts.is_busy = True
            tell("begun")
            try:
                answer: Outcome | BaseException = segment_to_folder(
                    pickle.loads(job), lambda done, total: tell("field", done, total)
                )
            except Exception as error:  # noqa: BLE001  told to the process that waits
                answer = error
            interrupts.is_busy = False
            tell("end", answer)
    # Nothing is left to be done, and what was imported takes its time to go.
    os._exit(0)


class _Interrupts:
    """Lets only the other process interrupt this one."""

    def __init__(self) -> None:
        self.is_busy = self.is_asked = False
        signal.signal(signal.SIGINT, self._interrupt)
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ending_signals())

    def ask(self) -> None:
        """Interrupt the work of the main thread, if there is any."""
        self.is_asked = True
        if self.is_busy:
            _thread.interrupt_main()

    def _interrupt(self, *_: object) -> None:
        if self.is_asked:
            raise KeyboardInterrupt


class _Told(logging.handlers.QueueHandler):
    """Sends log records to the other process."""

    def __init__(self, tell: Callable[..., None]) -> None:
        super().__init__(queue.SimpleQueue())
        self.tell = tell

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record that pickles."""
        self.tell("log", record)


def _listen(connection: Connection, jobs: queue.SimpleQueue[bytes], interrupts: _Interrupts) -> None:
    """Take jobs until there is none, or the other process is gone; as bytes, since only one thread shall import."""
    with suppress(EOFError, OSError):
        while (job := connection.recv_bytes()) != END:
            jobs.put(job)
    interrupts.ask()
    jobs.put(END)


@contextmanager
def _ending_signals_held() -> Iterator[None]:
    """Let a process that starts meanwhile begin deaf to Ctrl-C, until it has said what to do about it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ending_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending_signals() -> set[signal.Signals]:
    return {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}


def _how(exitcode: int | None) -> str:
    """How a process ended, in words."""
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    try:
        return f"signal {signal.Signals(-exitcode).name}"
    except ValueError:
        return f"signal {-exitcode}"
