"""Tables and record of a call, kept up to date as its slides end: of the whole folder, whoever did which slide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.lease import LeaseWatch, leased
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.measurements import write_measurements
from wsi_deform.distribute.out_folder import OutFolderGoneError, check_folder
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.distribute.summary import BatchReport, write_record, write_summary
from wsi_deform.distribute.unwritable import unwritable
from wsi_deform.errors import MaskError
from wsi_deform.mask.folder import MaskFolder

# Reading all states takes longer the more there are: it gets no more than one part of so many of the time.
SHARE_OF_TIME = 50
EVERY_S = 5.0


class Tables:
    """Writes ``measurements.csv``, ``summary.md`` and the record of a call.

    Args:
        ledger: Of the folder.
        jobs: Of the call, one or more.
        classes: Of the masks.
        about: Provenance of the call.
    """

    def __init__(
        self, ledger: Ledger, jobs: Sequence[SlideJob], classes: ClassTable, about: Mapping[str, Any]
    ) -> None:
        self.ledger, self.jobs, self.classes, self.about = ledger, jobs, classes, about
        self.outcomes: dict[str, Outcome] = {}
        self.record = _new_record(ledger.folder)
        self._next, self._pause, self._seen = 0.0, EVERY_S, self._stamp()
        # Should the call be killed, it is known that there was one.
        self._write_record(is_running=True)

    def settle(self, outcome: Outcome) -> None:
        """Take note of an outcome; the tables follow at once, or some seconds later.

        Raises:
            MaskError: They cannot be written.

        Convention:
            Of calls that share a folder one writes them on the way, whoever comes when they are old enough: fifty that
            all read thousands of states would ask more of the storage than all else together.
        """
        self.outcomes[outcome.slide_id] = outcome
        if outcome.status == "skipped" or monotonic() < self._next:
            return
        if self._stamp() != self._seen and (age_s := self._age_s()) < self._pause:
            self._next = monotonic() + self._pause - age_s
            return
        started = monotonic()
        self._write(is_running=True)
        ended = monotonic()
        self._pause = max(EVERY_S, SHARE_OF_TIME * (ended - started))
        self._seen, self._next = self._stamp(), ended + self._pause

    def _stamp(self) -> tuple[int, ...] | None:
        """What changes whenever the tables are written, by whatever call; None where there are none."""
        try:
            status = self.ledger.folder.measurements.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _age_s(self) -> float:
        """How old the tables are that another call has written, s; the record is written anew on the way.

        Both times are the storage's own: no clocks are compared.
        """
        check_folder(self.ledger.folder, self.jobs[0].folder_identity)
        self._write_record(is_running=True)
        try:
            return max(0.0, self.record.stat().st_mtime - self.ledger.folder.measurements.stat().st_mtime)
        except OSError:
            return inf

    def in_order(self) -> tuple[Outcome, ...]:
        """The outcomes, in the order of the jobs."""
        return tuple(self.outcomes[job.slide_id] for job in self.jobs if job.slide_id in self.outcomes)

    @contextmanager
    def written(self) -> Iterator[None]:
        """Write them when the block ends, however it ends.

        Raises:
            MaskError: They cannot be written; where the block itself raises, that is what is told.
        """
        try:
            yield
        except BaseException:
            with suppress(MaskError):
                self._write(complete=False)
            raise
        with suppress(OutFolderGoneError):
            self._write(complete=True)

    def _write(self, *, complete: bool = False, is_running: bool = False) -> None:
        folder, lease = self.ledger.folder, self.ledger.folder.tables_lease
        check_folder(folder, self.jobs[0].folder_identity)
        # One after the other: who writes last has read what all others wrote. On the way, the next one will do.
        watch, expired = LeaseWatch(), None
        while True:
            with leased(lease, expired=expired) as mine:
                if mine is not None:
                    self._write_now(complete=complete, is_running=is_running)
                    return
            if is_running:
                return
            ((_, _, expired),) = watch.ended({"": lease})

    def _write_now(self, *, complete: bool, is_running: bool) -> None:
        folder = self.ledger.folder
        try:
            states = self.ledger.all()
            known = [state.slide_id for state in states]
            write_measurements(folder, self.ledger.results(states), self.classes, known=known)
            report = self._write_record(complete=complete, is_running=is_running)
            write_summary(folder, report, states, self.record)
        except OSError as error:
            raise unwritable(folder, error, "its tables") from error

    def _write_record(self, *, complete: bool = False, is_running: bool) -> BatchReport:
        report = BatchReport(
            job=self.jobs[0],
            outcomes=self.in_order(),
            left=tuple(job.slide_id for job in self.jobs if job.slide_id not in self.outcomes),
            complete=complete,
            is_running=is_running,
        )
        try:
            write_record(self.record, report, self.about)
        except OSError as error:
            raise unwritable(self.ledger.folder, error, str(self.record)) from error
        return report


def _new_record(folder: MaskFolder) -> Path:
    """A file for the record of a call that no other call has, also one that starts in the same second."""
    stamp, again = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"), 0
    runs = folder.run(stamp).parent
    try:
        # Without parents: a folder that has vanished is not made anew.
        runs.mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error, str(runs)) from error
    while True:
        record = folder.run(f"{stamp}-{again}" if again else stamp)
        try:
            record.open("x").close()
        except FileExistsError:
            again += 1
        except OSError as error:
            raise unwritable(folder, error, str(record)) from error
        else:
            return record
