"""Who works on a slide: the owner of its lease, a small file that changes as long as the owner lives.

It needs no locks of the storage, and never compares clocks: whoever finds a lease looks at it twice, and by its own
clock it has expired when it stayed the same for ``EXPIRE_S``. Of a process of the same machine it is also known at once
that it is dead.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from wsi_deform.errors import MaskError

# Storage may show a change this much later to other machines: NFS keeps attributes for up to 60 s.
EXPIRE_S = float(os.environ.get("WSI_DEFORM_LEASE_S") or 120.0)
RENEWALS = 10
ATTEMPTS = 5
DEAD = frozenset("ZX")
# Leases of this process: one of its own that is not among them it could not give back, as its folder had vanished.
_held: set[str] = set()


class LeaseLostError(MaskError):
    """Another process has taken the slide over: this one was silent for too long, and may no longer write."""


class Lease:
    """A lease that this process holds; renewed by a thread of its own.

    Args:
        path: The file, which was made.
        token: What tells it from any other lease.
        took_over: Whether its former owner died, or was silent for too long, while it had the slide.
    """

    def __init__(self, path: Path, token: str, *, took_over: bool) -> None:
        self.path, self.token, self.took_over = path, token, took_over
        self._renewals = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease {path.name}", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Refuse to go on where another process has taken the lease over.

        Raises:
            LeaseLostError: It has.
        """
        with self._lock:
            mine = self._is_mine()
        if not mine:
            raise LeaseLostError(
                f"{self.path}: another process has taken the slide over, since this one was silent for "
                f"{EXPIRE_S:.0f} s or more. It was left to the other one. Where storage is that slow, set "
                "WSI_DEFORM_LEASE_S to more seconds for all of them."
            )

    def release(self) -> None:
        """Give it back; of another process's lease nothing is touched."""
        self._ended.set()
        self._thread.join()
        # A folder that has vanished, or can no longer be written, keeps it: it expires.
        with suppress(OSError):
            # Opened, as it is to be renewed: storage looks again at what is opened.
            with self.path.open("r+b") as file:
                is_mine = _token_of(file.read()) == self.token
            if is_mine:
                self.path.unlink()
        _held.discard(self.token)

    def _keep(self) -> None:
        while not self._ended.wait(EXPIRE_S / RENEWALS):
            # Storage that does not answer may do so the next time.
            with suppress(OSError), self._lock:
                self._is_mine(renew=True)

    def _is_mine(self, *, renew: bool = False) -> bool:
        """Whether the file is still this lease; where it is no longer there it is made anew."""
        try:
            with self.path.open("r+b" if renew else "rb") as file:
                if _token_of(file.read()) != self.token:
                    return False
                if renew:
                    self._renewals += 1
                    file.seek(0)
                    # Into the file that was looked at, whatever has its name now; always as many bytes.
                    file.write(_text(self.token, self._renewals))
        except FileNotFoundError:
            # Its former owner, taken for dead by mistake, may have given it back as its own.
            with suppress(OSError):
                return _made(self.path, _text(self.token, self._renewals))
        return True


@contextmanager
def leased(path: Path, *, expired: bytes | None = None) -> Iterator[Lease | None]:
    """Take a lease, if no living process has it; give it back when the block ends.

    Args:
        path: The file; its folder is made, but not that one's parents.
        expired: What ``LeaseWatch`` has seen to be expired, or None: where the file still says so it is taken over.

    Yields:
        The lease, or None where another process has it.

    Raises:
        MaskError: The file cannot be written.

    Convention:
        Who holds the lease of a slide is the only one who writes or removes its files. A process that was taken for
        dead finds that out by ``check``, before it moves anything into place.
    """
    try:
        # Without parents: a folder that has vanished is not made anew.
        path.parent.mkdir(exist_ok=True)
        lease = _taken(path, expired)
    except OSError as error:
        raise MaskError(
            f"{path}: cannot be written ({error}). Check folder, rights and free space."
        ) from error
    try:
        yield lease
    finally:
        if lease is not None:
            lease.release()


class LeaseWatch:
    """Looks at the leases of others, for as long as it takes to know whether their owners live."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[bytes, float]] = {}

    def look(self, path: Path) -> bytes | None:
        """What a lease says now, None where nobody has it; it is remembered since when it says so.

        Raises:
            MaskError: It cannot be read.
        """
        now, found = monotonic(), _read(path)
        if found is None:
            self._seen.pop(path, None)
        elif path not in self._seen or self._seen[path][0] != found:
            self._seen[path] = (found, now)
        return found

    def ended(self, leases: Mapping[str, Path]) -> Iterator[tuple[str, bool, bytes | None]]:
        """Wait until each lease is given back, has expired, or is renewed.

        Args:
            leases: What is waited for -> its lease.

        Yields:
            Each name, as it is known, whether it can be taken, and what its lease says, None where it was given back.

        Raises:
            MaskError: A lease cannot be read.
        """
        before = {name: self.look(path) for name, path in leases.items()}
        waiting = dict(leases)
        while waiting:
            for name, path in tuple(waiting.items()):
                found = self.look(path)
                lives = None if found is None else _lives(found)
                if found is None or lives is False or monotonic() - self._seen[path][1] >= EXPIRE_S:
                    yield name, True, found
                elif lives or found != before[name]:
                    yield name, False, found
                else:
                    continue
                del waiting[name]
            if waiting:
                sleep(EXPIRE_S / RENEWALS / 10)


def is_left(path: Path) -> bool:
    """Whether a lease is of a process that is known to be dead; nothing is written."""
    found = _read(path)
    return found is not None and _lives(found) is False


def _taken(path: Path, expired: bytes | None) -> Lease | None:
    token, lease = uuid.uuid4().hex, None
    # Before others can read it: what this process does not know of is taken for abandoned.
    _held.add(token)
    try:
        for _ in range(ATTEMPTS):
            if _made(path, _text(token, 0)):
                lease = Lease(path, token, took_over=False)
                break
            found = _read(path)
            if found is None:
                continue
            if found != expired and _lives(found) is not False:
                break
            if _taken_over(path, found, token):
                lease = Lease(path, token, took_over=True)
                break
    finally:
        if lease is None:
            _held.discard(token)
    return lease


def _made(path: Path, text: bytes) -> bool:
    """Make a file that nobody else has made; False where somebody has."""
    try:
        file = path.open("xb")
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


def _taken_over(path: Path, expired: bytes, token: str) -> bool:
    """Put a lease of one's own in the place of an expired one: of all who try, one can.

    The right to do so is a file that only one can make, named by what the expired lease says. It holds the new lease,
    and is moved over the old one, so that there is a lease at every moment.
    """
    right = path.with_name(f"{path.name}-{hashlib.sha256(expired).hexdigest()[:12]}")
    if not _made(right, _text(token, 0)):
        if _is_abandoned(right):
            right.unlink(missing_ok=True)
        return False
    is_used = False
    try:
        # Whoever had the right before may have used it.
        if _read_anew(path) != expired:
            return False
        right.replace(path)
        is_used = True
    except FileNotFoundError:
        return False
    finally:
        if not is_used:
            right.unlink(missing_ok=True)
    # Somebody may have taken the right for abandoned.
    return _token_of(_read_anew(path) or b"") == token


def _is_abandoned(right: Path) -> bool:
    """Whether who had the right to take a lease over died before it was used."""
    found = _read(right)
    if found is None or (lives := _lives(found)) is not None:
        return found is not None and lives is False
    # Both times are the storage's own: no clocks are compared.
    now = right.with_name(f"{right.name}-{uuid.uuid4().hex[:12]}")
    with suppress(FileNotFoundError):
        try:
            now.touch()
            return now.stat().st_mtime - right.stat().st_mtime >= EXPIRE_S
        finally:
            now.unlink(missing_ok=True)
    return False


def _read_anew(path: Path) -> bytes | None:
    """Read a file under a name that no cache knows: what was read before may be what storage remembered."""
    aside = path.with_name(f"{path.name}-{uuid.uuid4().hex[:12]}")
    try:
        os.link(path, aside)
    except FileNotFoundError:
        return None
    except OSError:  # no links here
        return _read(path)
    try:
        return _read(aside)
    finally:
        aside.unlink(missing_ok=True)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MaskError(f"{path}: cannot be read ({error}). Check the folder and its rights.") from error


def _text(token: str, renewals: int) -> bytes:
    said = {
        "lease": token,
        "host": socket.gethostname(),
        "place": _place(),
        "pid": os.getpid(),
        "started": _life_of(os.getpid())[1],
        "renewals": f"{renewals:010d}",
    }
    return (json.dumps(said) + "\n").encode()


def _said(text: bytes) -> Mapping[str, Any]:
    """What a lease says; nothing where its owner died as it was writing."""
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _token_of(text: bytes) -> object:
    return _said(text).get("lease")


def _lives(text: bytes) -> bool | None:
    """Whether the owner, a process of this machine, is there; None where that is not known."""
    said = _said(text)
    pid, started = said.get("pid"), said.get("started")
    if said.get("place") != _place() or not isinstance(pid, int) or pid <= 0:
        return None
    if pid == os.getpid():
        return said.get("lease") in _held
    if not psutil.pid_exists(pid):
        return False
    state, since = _life_of(pid)
    if state in DEAD:
        return False
    # Where the system does not say since when, another process may have the number by now.
    return since == started if since and started else None


@lru_cache(maxsize=1)
def _place() -> str:
    """Where process numbers mean the same: this machine since it started, and this container."""
    parts = [socket.gethostname(), str(uuid.getnode())]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _life_of(pid: int) -> tuple[str, str]:
    """State of a process, and its start in ticks since the machine's, which no clock that is set changes; or empty."""
    try:
        # Its name, in brackets, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""
