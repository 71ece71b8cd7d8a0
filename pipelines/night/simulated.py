"""A night of many slides on many machines, from the storage's point of view: a simulation of discrete events.

Each call goes through the slides in their order, as ``distribute/rounds.py`` does: it passes what is done and what
another call has, takes the first free slide, works on it, and goes on. Tables are written as ``distribute/tables.py``
does. Storage answers every call after the same time, however many there are; how many come in the busiest minute is
told.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.night.visits import Visit
from wsi_deform.distribute.lease import EXPIRE_S, RENEWALS
from wsi_deform.distribute.tables import EVERY_S, SHARE_OF_TIME

# A renewal opens the lease, and writes it; who waits for an owner looks so often before it is renewed.
RENEWAL_CALLS, LOOKS_PER_RENEWAL = 1, 10
SPREAD = 0.5
MINUTE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What is simulated.

    Attributes:
        slides: How many.
        callers: Calls on one OUT, each on a machine of its own.
        workers: Workers of each call: more than one are a scheduler's.
        slide_s: Seconds that a slide takes on a worker, on average; they lie between half and one and a half of it.
        latency_s: Seconds that storage takes to answer a call.
    """

    slides: int
    callers: int
    workers: int
    slide_s: float
    latency_s: float


@dataclass(slots=True)
class Told:
    """What came of it.

    Attributes:
        seconds: Until the last call ended.
        calls: What for -> calls on files of OUT; "slide files" are those on the slides.
        read_bytes: Read from OUT, without the slides' own outputs.
        written_bytes: Written to it.
        locks: Exclusive creations.
        storage_s: Seconds that calls waited for storage, of all callers and workers together.
        busiest_minute: Calls in it, of any kind.
        done: How often slides were segmented.
    """

    seconds: float
    calls: Counter[str]
    read_bytes: float
    written_bytes: float
    locks: float
    storage_s: float
    busiest_minute: float
    done: int


def simulated(night: Night, visits: Mapping[str, Visit], *, seed: int = 0) -> Told:
    """Simulate a night.

    Args:
        night: What.
        visits: See ``visits.counted_visits``.
        seed: Decides how long each slide takes.
    """
    return _Storage(night, visits, random.Random(seed)).told()


class _Storage:
    """The slides, who has them, and what was asked of the files so far."""

    def __init__(self, night: Night, visits: Mapping[str, Visit], rng: random.Random) -> None:
        self.night, self.visits = night, visits
        self.seconds = [night.slide_s * rng.uniform(1 - SPREAD, 1 + SPREAD) for _ in range(night.slides)]
        # When each slide will be done; None while nobody has it.
        self.until: list[float | None] = [None] * night.slides
        self.ended: list[float] = []
        self.calls: Counter[str] = Counter()
        self.per_minute: Counter[int] = Counter()
        self.read = self.written = self.locks = self.waited = 0.0
        self.next_tables, self.pause = [0.0] * night.callers, [EVERY_S] * night.callers
        # When a call last saw that tables were written, and when they were.
        self.seen, self.written_at = [0.0] * night.callers, 0.0
        self.done = 0

    def told(self) -> Told:
        night = self.night
        # Who is free when, and the slide that it looks at next. Workers of one call share a queue: none of them passes.
        free = []
        for caller in range(night.callers):
            begun = self._ask(0.0, "looks before the first turn", "look", times=night.slides)
            free += [(begun, caller, 0)] * night.workers
        heapq.heapify(free)
        queue = [0] * night.callers
        ends = [0.0] * night.callers
        while free:
            now, caller, at = heapq.heappop(free)
            if night.workers > 1:
                at, queue[caller] = queue[caller], queue[caller] + 1
            if at >= night.slides:
                ends[caller] = max(ends[caller], now)
            else:
                heapq.heappush(free, (self._visited(now, caller, at), caller, at + 1))
        return Told(
            seconds=max(self._ended(caller, end) for caller, end in enumerate(ends)),
            calls=self.calls,
            read_bytes=self.read,
            written_bytes=self.written,
            locks=self.locks,
            storage_s=self.waited,
            busiest_minute=max(self.per_minute.values()),
            done=self.done,
        )

    def _visited(self, now: float, caller: int, slide: int) -> float:
        """A slide's turn in a call; when it is over."""
        until = self.until[slide]
        if until is not None:
            kind = "pass done" if until <= now else "pass taken"
            return self._ask(now, "turns of slides that others do", kind)
        worked = self.seconds[slide] + self.night.latency_s * self.visits["work"].calls
        self.until[slide] = now + worked
        self._ask(now, "turns of slides", "work")
        renewals = int(worked / (EXPIRE_S / RENEWALS))
        for renewal in range(renewals):
            self._note(now + renewal * EXPIRE_S / RENEWALS, "renewals of leases", RENEWAL_CALLS)
        self.done += 1
        end = self._tables(now + worked, caller)
        self.ended.append(now + worked)
        return end if self.night.workers == 1 else now + worked

    def _tables(self, now: float, caller: int) -> float:
        """The tables, if it is time for them; when they are written."""
        if now < self.next_tables[caller]:
            return now
        if self.written_at > self.seen[caller]:
            now = self._ask(now, "tables", "record")
            if (age := now - self.written_at) < self.pause[caller]:
                self.next_tables[caller] = now + self.pause[caller] - age
                return now
        end = self._write_tables(now)
        self.pause[caller] = max(EVERY_S, SHARE_OF_TIME * (end - now))
        self.seen[caller], self.next_tables[caller] = self.written_at, end + self.pause[caller]
        return end

    def _write_tables(self, now: float) -> float:
        begun = self._ask(now, "tables", "tables")
        states = sum(end <= now for end in self.ended)
        self.written_at = max(self.written_at, now)
        return self._ask(begun, "tables", "tables per state", times=states)

    def _ended(self, caller: int, now: float) -> float:
        """A call's end: it waits to see that others renew the slides they have, and writes the tables once more."""
        taken = sum(until is not None and until > now for until in self.until)
        if taken:
            self._note(now, "looks at others' leases", taken * LOOKS_PER_RENEWAL)
            now += EXPIRE_S / RENEWALS
        return self._write_tables(now)

    def _ask(self, now: float, what: str, kind: str, *, times: int = 1) -> float:
        """Ask something of storage; when it has answered."""
        visit = self.visits[kind]
        self._note(now, what, times * visit.calls)
        self.calls["slide files"] += round(times * visit.slide_calls)
        self.read += times * visit.read_bytes
        self.written += times * visit.written_bytes
        self.locks += times * visit.locks
        took = times * (visit.calls + visit.slide_calls) * self.night.latency_s
        self.waited += took
        return now + took

    def _note(self, now: float, what: str, calls: float) -> None:
        self.calls[what] += round(calls)
        self.per_minute[int(now / MINUTE_S)] += round(calls)
