"""Slides in a process of its own, one after the other, which may die without taking this one along.

Nothing that is slow is imported here: the process imports it, and the one that waits for it never does.
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
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wsi_deform.errors import MaskError, WsiDeformError
from wsi_deform.runtime.choice import Asked

if TYPE_CHECKING:
    from wsi_deform.distribute.chosen import ChosenModel
    from wsi_deform.distribute.job import SlideJob
    from wsi_deform.distribute.outcome import Outcome

# So long it may take to abandon a slide in good order; then it is killed.
PATIENCE_S = 20.0
WAIT_S = 0.5
STARTS = 2
END = b"end"
# What starts threads or talks to a device as it is imported or used: no process is forked that has it.
UNFORKABLE = frozenset({"torch", "numba", "distributed"})

OnField = Callable[[int, int], None]


class Child:
    """A process that segments slides; it is replaced when it dies. A context manager.

    Convention:
        Log records of the process go to this one's handlers, and so does how far coarse levels are built. Signals that
        end a program are this process's business: it tells the other one to abandon its slide, which then is as it was
        before. Where this process dies, the other one does the same by itself and ends. Torch and a GPU are that one's
        alone: this one only reads and writes small files.
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

    def model(self, run: Path, device: str, asked: Asked = Asked()) -> ChosenModel:
        """Have the process load a model, with which it then segments.

        Args:
            run: A run folder or a file of a model, see ``model_file.find_model``.
            device: "auto", or a torch device.
            asked: The runtime that was asked for.

        Returns:
            What a call must know of it.

        Raises:
            ModelError: See ``models.chosen_model``.
            ConfigError: See ``models.chosen_model``.
            MaskError: The process cannot be started, or died as it loaded the model.
        """
        try:
            connection = self._begin((run, device, asked))
            while (message := _received(connection))[0] != "end":
                self._hear(*message)
        except EOFError:
            how = _how(self._drop(1.0))
            raise MaskError(
                f"the process that segments ended as it loaded model {run} ({how}). Most often memory runs out: use a "
                "machine with more of it, or look at what it says with --in-process."
            ) from None
        if isinstance(message[1], BaseException):
            raise message[1]
        chosen: ChosenModel = message[1]
        return chosen

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
        """Start the process, which else the first slide does: it imports what is slow, and waits.

        Convention:
            It is forked where that is safe, which spares it what this process has imported before; the earlier in a
            program, the likelier that is.
        """
        context: Any = multiprocessing.get_context("fork" if _can_fork() else "spawn")
        mine, theirs = context.Pipe()
        # A forked process has all that is open here. While it holds this end, it would never see it closed.
        inherited = mine if context.get_start_method() == "fork" else None
        self._process = context.Process(
            target=_work, args=(theirs, logging.getLogger().getEffectiveLevel(), inherited), daemon=True
        )
        with _ending_signals_held():
            self._process.start()
        theirs.close()
        self._connection, self._is_ready = mine, False

    def _begin(self, asked: SlideJob | tuple[Path, str, Asked]) -> Connection:
        """Hand a slide or a model over, to a new process where the last one died while it had nothing to do."""
        for _ in range(STARTS):
            if self._connection is None:
                self.start()
            connection = self._connection
            assert connection is not None
            with suppress(EOFError, OSError):
                connection.send(asked)
                while (message := _received(connection))[0] != "begun":
                    self._hear(*message)
                return connection
            how = _how(self._drop(1.0))
        raise MaskError(
            f"the process that segments ended before it had begun ({how}). Look at what it said above, or use "
            "--in-process."
        )

    def _answer(self, job: SlideJob, on_field: OnField | None) -> Outcome | BaseException:
        connection = self._begin(replace(job, is_isolated=True))
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
            from wsi_deform.slide.levels.build_progress import tell_build_progress

            tell_build_progress(*said)
        elif kind == "log":
            logging.getLogger(said[0].name).handle(said[0])

    def _record_death(self, job: SlideJob) -> Outcome:
        from wsi_deform.distribute.attempts import record_death

        return record_death(job, f"its process died ({_how(self._drop(1.0))})")

    def _abandon(self, job: SlideJob) -> None:
        """Let the process put the slide back as it was; one that does not answer is killed, which is no fault of it."""
        from wsi_deform.distribute.attempts import forget_attempt

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
    """What the process tells next, or EOFError where it is no longer there.

    Convention:
        A signal that comes in the moment before a wait is heard of when that ends: no wait is a long one.
    """
    try:
        while not connection.poll(WAIT_S):
            pass
        message: tuple[Any, ...] = connection.recv()
    except OSError as error:
        raise EOFError from error
    return message


def _can_fork() -> bool:
    """Whether a fork of this process is one that works: it has one thread, and nothing that is to be its child's alone.

    Convention:
        Threads of libraries count, which Python does not know of; where nobody says how many there are, it is no.
    """
    if sys.platform != "linux" or UNFORKABLE & sys.modules.keys():
        return False
    try:
        return len([*Path("/proc/self/task").iterdir()]) == 1
    except OSError:
        return False


def _work(connection: Connection, level: int, inherited: Connection | None) -> None:
    """What the process does: slides, until it is told to end or nobody is there to tell it.

    Args:
        connection: To the process that started it.
        level: Of log records that are sent there.
        inherited: The other end of it, where a fork has that open too.
    """
    interrupts = _Interrupts()
    if inherited is not None:
        inherited.close()
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
        from wsi_deform.distribute.models import chosen_model
        from wsi_deform.distribute.turn import segment_to_folder
        from wsi_deform.slide.levels.build_progress import set_build_progress

        gc.freeze()
        gc.enable()
        set_build_progress(lambda name, done, total: tell("build", name, done, total))
        tell("ready")
        while (job := jobs.get()) != END:
            interrupts.is_busy = True
            tell("begun")
            try:
                asked = pickle.loads(job)
                answer: ChosenModel | Outcome | BaseException = (
                    chosen_model(*asked, is_here=True)
                    if isinstance(asked, tuple)
                    else segment_to_folder(asked, lambda done, total: tell("field", done, total))
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
        """Interrupt the work of the main thread, if there is any; also where it waits for a disk or a server."""
        self.is_asked = True
        if not self.is_busy:
            return
        if hasattr(signal, "pthread_kill"):
            # Python alone would only make a note, which is read when the call that the thread is in has ended.
            main = threading.main_thread().ident
            assert main is not None  # this is another thread of a process that runs
            signal.pthread_kill(main, signal.SIGINT)
        else:
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
