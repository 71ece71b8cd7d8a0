"""What a batch tells: while it goes on, and when it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from wsi_deform.distribute.ledger import State
from wsi_deform.slide.path import SlidePath

OutcomeStatus = Literal["done", "skipped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one call did with one slide.

    Attributes:
        slide_id: The slide.
        slide: Its path.
        status: "done" now, "skipped" because it needed no work or another process does it, or "failed".
        reason: Why it was skipped or failed; when it was done, empty or a remark.
        state: What the ledger says of it.
        again: When its turn must come once more, after all others: "taken" by another process, or "suspected" of
            killing its process. Empty when it is settled.
    """

    slide_id: str
    slide: SlidePath
    status: OutcomeStatus
    reason: str
    state: State
    again: Literal["", "taken", "suspected"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one call did.

    Attributes:
        out: The mask folder.
        outcomes: One per slide, in the order of the slides; those that an interrupt left are missing.
        record: The file in ``runs/``.
    """

    out: Path
    outcomes: tuple[Outcome, ...]
    record: Path

    def of(self, status: OutcomeStatus) -> tuple[Outcome, ...]:
        """The outcomes of one kind."""
        return tuple(outcome for outcome in self.outcomes if outcome.status == status)


class Watcher(Protocol):
    """Who is told how the batch goes; the command line draws progress bars with it."""

    def start(self, *, slides: int) -> None:
        """The batch starts."""
        ...

    def slide(self, slide_id: str) -> None:
        """Work on a slide starts here, or in this process's child; its fields are told next."""
        ...

    def started(self, slide_id: str) -> None:
        """Work on a slide starts on a worker, whose fields are not told; called from any thread."""
        ...

    def field(self, done: int, total: int) -> None:
        """A field of that slide is done."""
        ...

    def outcome(self, outcome: Outcome) -> None:
        """A slide is settled."""
        ...


class NullWatcher:
    """Watches nothing."""

    def start(self, *, slides: int) -> None:
        """Ignore."""

    def slide(self, slide_id: str) -> None:
        """Ignore."""

    def started(self, slide_id: str) -> None:
        """Ignore."""

    def field(self, done: int, total: int) -> None:
        """Ignore."""

    def outcome(self, outcome: Outcome) -> None:
        """Ignore."""
