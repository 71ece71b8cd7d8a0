"""What happens while slides are segmented, for programs: a line of JSON for each event."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from wsi_deform.errors import MaskError
from wsi_deform.redact import redacted_data

if TYPE_CHECKING:
    from wsi_deform.distribute.outcome import Outcome, Watcher


class EventLog:
    """Appends events to a file; a context manager and a ``distribute.outcome.Watcher``.

    Args:
        path: The file; what stands in it stays.
        slides: Slide id -> path, for its events.
        about: What the first event says of the call.

    Convention:
        Events are ``started``, ``slide started``, ``slide done``, ``slide skipped``, ``slide failed`` and ``ended``,
        each with ``time_utc``. A slide that a worker died over is started once more on another one.
        ``slide done`` has ``started_utc`` and ``seconds``. ``ended`` has ``complete``, and ``error`` where that
        is false. Paths of slides are absolute. Lines are whole whenever the file is read.
    """

    def __init__(self, path: Path, *, slides: Mapping[str, str], about: Mapping[str, Any]) -> None:
        self.path, self.slides_by_id, self.about = path, slides, dict(about)
        self.counts = {"done": 0, "skipped": 0, "failed": 0}
        self.began = time.monotonic()
        self.file: IO[str] | None = None
        # Slides that workers start are told from another thread.
        self.lock = threading.Lock()

    def __enter__(self) -> EventLog:
        try:
            self.file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise MaskError(
                f"log {self.path}: cannot be written ({error}). Needed a file that can, in a folder that exists. "
                "Choose another --log-json."
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        how = {} if error is None else {"error": str(error) or type(error).__name__}
        self._write(
            "ended",
            **self.counts,
            seconds=round(time.monotonic() - self.began, 3),
            complete=error is None,
            **how,
        )
        if self.file is not None:
            self.file.close()

    def start(self, *, slides: int) -> None:
        """Log that the batch starts."""
        self._write("started", slides=slides, **self.about)

    def slide(self, slide_id: str) -> None:
        """Log that work on a slide starts."""
        self._write("slide started", slide_id=slide_id, slide=self.slides_by_id.get(slide_id, ""))

    def started(self, slide_id: str) -> None:
        """Log that work on a slide starts on a worker."""
        self.slide(slide_id)

    def field(self, done: int, total: int) -> None:
        """Log nothing: fields are many."""

    def outcome(self, outcome: Outcome) -> None:
        """Log how a slide went."""
        self.counts[outcome.status] += 1
        state = outcome.state
        facts: dict[str, Any] = {
            "slide_id": outcome.slide_id,
            "slide": str(outcome.slide),
            "reason": outcome.reason,
        }
        if outcome.status != "skipped":
            facts |= {"seconds": state.seconds, "started_utc": state.started_utc}
        if outcome.status == "done":
            facts |= {"method": state.method, "fields": state.fields, "samples": state.samples}
            facts |= {"tiles": state.tiles, "blank_tiles": state.blank_tiles}
        self._write(f"slide {outcome.status}", **facts)

    def _write(self, event: str, **facts: Any) -> None:
        with self.lock:
            if self.file is None or self.file.closed:
                return
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self.file.write(json.dumps({"time_utc": now, "event": event, **redacted_data(facts)}) + "\n")
            self.file.flush()


class Watchers:
    """Several watchers in place of one.

    Args:
        each: They are told one after the other.
    """

    def __init__(self, *each: Watcher) -> None:
        self.each = each

    def start(self, *, slides: int) -> None:
        """Tell that the batch starts."""
        for one in self.each:
            one.start(slides=slides)

    def slide(self, slide_id: str) -> None:
        """Tell that work on a slide starts."""
        for one in self.each:
            one.slide(slide_id)

    def started(self, slide_id: str) -> None:
        """Tell that work on a slide starts on a worker."""
        for one in self.each:
            one.started(slide_id)

    def field(self, done: int, total: int) -> None:
        """Tell that a field is done."""
        for one in self.each:
            one.field(done, total)

    def outcome(self, outcome: Outcome) -> None:
        """Tell how a slide went."""
        for one in self.each:
            one.outcome(outcome)
