"""Who has a slide: by the lease alone, on storage that is late, without locks, whatever any clock says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from wsi_deform.distribute import lease as lease_module
from wsi_deform.distribute.lease import Lease, LeaseLostError, LeaseWatch, is_left, leased
from wsi_deform.errors import MaskError

ELSEWHERE = (
    b'{"lease": "x1", "host": "node7", "place": "another", "pid": 7, "started": "", "renewals": "1"}\n'
)
LATE_S = 0.25


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> float:
    """Leases that expire after a second."""
    monkeypatch.setattr(lease_module, "EXPIRE_S", 1.0)
    return 1.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "states").mkdir()
    return tmp_path / "states" / ".a.lease"


def ended(path: Path, watch: LeaseWatch | None = None) -> tuple[bool, bytes | None]:
    ((name, is_free, found),) = (watch or LeaseWatch()).ended({"a": path})
    assert name == "a"
    return is_free, found


def left_by_the_dead(path: Path) -> None:
    said = "import os, sys; from pathlib import Path; from wsi_deform.distribute.lease import leased\n"
    said += "with leased(Path(sys.argv[1])): os._exit(9)"
    package = str(Path(lease_module.__file__).parents[2])
    environ = {**os.environ, "PYTHONPATH": package}
    done = subprocess.run([sys.executable, "-c", said, str(path)], env=environ, check=False)
    assert (done.returncode, path.exists()) == (9, True)


def test_a_lease_is_of_one_and_goes_with_its_block(path: Path) -> None:
    with leased(path) as mine, leased(path) as theirs:
        assert mine is not None
        assert theirs is None
        assert not mine.took_over
        assert json.loads(path.read_bytes())["pid"] == os.getpid()
    assert list(path.parent.iterdir()) == []


def test_one_of_a_dead_process_of_this_machine_is_taken_over_at_once(path: Path) -> None:
    left_by_the_dead(path)
    assert is_left(path)
    with leased(path) as mine:
        assert mine is not None
        assert mine.took_over
        assert not is_left(path)
    assert list(path.parent.iterdir()) == []


def test_another_process_with_the_number_of_the_dead_one_is_not_its_owner(path: Path) -> None:
    with leased(path) as mine:
        assert mine is not None
        said = json.loads(path.read_bytes())
    path.write_text(json.dumps({**said, "lease": "another", "pid": os.getppid(), "started": "1"}))
    assert is_left(path)
    path.write_text(json.dumps({**said, "lease": "could not be given back"}))
    assert is_left(path)


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b"null", b'{"pid": "1"}', ELSEWHERE])
def test_one_of_another_machine_or_cut_off_expires_by_its_own_age(
    path: Path, quick: float, said: bytes
) -> None:
    path.write_bytes(said)
    for when in (0, 4_000_000_000):  # whatever the clocks of machines and storage say
        os.utime(path, (when, when))
        with leased(path) as mine:
            assert mine is None
    started = time.monotonic()
    assert ended(path) == (True, said)
    assert time.monotonic() - started >= quick
    with leased(path, expired=said + b" ") as mine:
        assert mine is None
    with leased(path, expired=said) as mine:
        assert mine is not None
        assert mine.took_over


def test_what_was_seen_long_ago_is_not_waited_for(path: Path, quick: float) -> None:
    path.write_bytes(ELSEWHERE)
    watch = LeaseWatch()
    watch.look(path)
    time.sleep(quick)
    started = time.monotonic()
    assert ended(path, watch) == (True, ELSEWHERE)
    assert time.monotonic() - started < quick / 2


def test_a_renewed_lease_is_of_a_living_one_and_one_that_was_given_back_is_free(
    path: Path, quick: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "_lives", lambda text: None)  # of another machine
    mine = Lease(path, "t", took_over=False)
    assert lease_module._made(path, lease_module._text("t", 0))
    first = path.read_bytes()
    is_free, found = ended(path)
    assert not is_free
    assert found != first
    assert len(found or b"") == len(first)
    time.sleep(1.5 * quick)
    assert not ended(path)[0]
    mine.release()
    assert not path.exists()
    assert ended(path) == (True, None)


def test_who_was_silent_for_too_long_may_not_go_on_and_leaves_the_new_owner_alone(path: Path) -> None:
    with leased(path) as mine:
        assert mine is not None
        mine.check()
        path.write_bytes(ELSEWHERE)  # while it was suspended
        with pytest.raises(LeaseLostError, match="another process has taken the slide over"):
            mine.check()
    assert path.read_bytes() == ELSEWHERE


def test_a_lease_that_was_taken_away_by_mistake_is_made_anew(path: Path) -> None:
    with leased(path) as mine:
        assert mine is not None
        path.unlink()
        mine.check()
        assert json.loads(path.read_bytes())["lease"] == mine.token


def test_of_two_who_see_an_expired_lease_the_slower_one_leaves_the_new_owners(path: Path) -> None:
    path.write_bytes(ELSEWHERE)
    with leased(path, expired=ELSEWHERE) as mine:
        assert mine is not None
        assert mine.took_over
        assert not lease_module._taken_over(path, ELSEWHERE, "0" * 32)
        assert json.loads(path.read_bytes())["lease"] == mine.token
        assert [each.name for each in path.parent.iterdir()] == [".a.lease"]


def test_while_one_takes_a_lease_over_no_other_one_can(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(ELSEWHERE)
    read, second = lease_module._read_anew, []

    def read_while_another_one_tries(path: Path) -> bytes | None:
        monkeypatch.setattr(lease_module, "_read_anew", read)
        with leased(path, expired=ELSEWHERE) as other:
            second.append(other)
        return read(path)

    monkeypatch.setattr(lease_module, "_read_anew", read_while_another_one_tries)
    with leased(path, expired=ELSEWHERE) as mine:
        assert mine is not None
        mine.check()
    assert second == [None]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("lives", "age_s", "taken"), [(None, 1e6, True), (None, 0, False), (False, 0, True), (True, 1e6, False)]
)
def test_who_died_while_taking_a_lease_over_does_not_hold_it_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch, lives: bool | None, age_s: float, taken: bool
) -> None:
    path.write_bytes(ELSEWHERE)
    monkeypatch.setattr(lease_module, "_lives", lambda text: lives)
    with monkeypatch.context() as patch:
        patch.setattr(lease_module, "_read_anew", lambda path: 1 / 0)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with pytest.raises(ZeroDivisionError), leased(path, expired=ELSEWHERE):
            pass
    (right,) = (each for each in path.parent.iterdir() if each != path)
    os.utime(right, (right.stat().st_mtime - age_s,) * 2)
    with leased(path, expired=ELSEWHERE) as mine:
        assert (mine is not None) == taken
    if taken:
        assert list(path.parent.iterdir()) == []


class Room:
    """Counts who is in it."""

    def __init__(self) -> None:
        self.inside = self.most = self.visits = 0
        self.lock = threading.Lock()

    def visit(self, lease: Lease) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(0.05)
        with self.lock:
            self.inside -= 1
        # On the busiest machine one may be too late to renew: it then finds that out, and has not been here.
        with suppress(LeaseLostError):
            lease.check()
            with self.lock:
                self.visits += 1


def all_of(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_of_many_who_see_an_expired_lease_one_gets_it(path: Path) -> None:
    for _ in range(10):
        path.write_bytes(ELSEWHERE)
        room, barrier = Room(), threading.Barrier(8)

        def take(room: Room, barrier: threading.Barrier) -> None:
            barrier.wait()
            with leased(path, expired=ELSEWHERE) as mine:
                if mine is not None:
                    room.visit(mine)

        all_of([threading.Thread(target=take, args=(room, barrier)) for _ in range(8)])
        assert room.most == 1
        assert room.visits >= 1
        assert list(path.parent.iterdir()) == []


def test_a_folder_that_vanished_is_not_made_anew(tmp_path: Path) -> None:
    with (
        pytest.raises(MaskError, match=r"\.a\.lease: cannot be written"),
        leased(tmp_path / "gone" / "states" / ".a.lease"),
    ):
        pass
    assert not (tmp_path / "gone").exists()


class LateStorage:
    """File calls as a client of network storage has them: what others wrote is seen later, and there are no locks.

    A file that was read is known for ``LATE_S``, whatever others do to it meanwhile; exclusive creation, renaming and
    removing are the server's, and at once.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[int, str], tuple[float, bytes]] = {}

    def read(self, path: Path) -> bytes:
        key, now = (threading.get_ident(), str(path)), time.monotonic()
        if key not in self.known or now - self.known[key][0] > LATE_S:
            with path.open("rb") as file:
                self.known[key] = (now, file.read())
        return self.known[key][1]


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    storage = LateStorage()
    monkeypatch.setattr(Path, "read_bytes", lambda path: storage.read(path))
    monkeypatch.setattr(fcntl, "flock", no_locks)
    monkeypatch.setattr(fcntl, "lockf", no_locks)
    # Machines of their own: nobody knows of a process of another one.
    monkeypatch.setattr(lease_module, "_lives", lambda text: None)


@pytest.mark.usefixtures("late")
def test_on_storage_that_is_late_and_has_no_locks_nobody_has_what_another_one_has(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "EXPIRE_S", 3.0)
    room = Room()

    def work() -> None:
        watch, expired = LeaseWatch(), None
        for _ in range(6):
            with leased(path, expired=expired) as mine:
                if mine is not None:
                    room.visit(mine)
                    expired = None
                    continue
            _, is_free, found = next(watch.ended({"a": path}))
            expired = found if is_free else None

    # One machine was cut off while it had the slide.
    path.write_bytes(ELSEWHERE)
    all_of([threading.Thread(target=work) for _ in range(3)])
    assert (room.most, room.visits > 0) == (1, True)
    assert list(path.parent.iterdir()) == []
