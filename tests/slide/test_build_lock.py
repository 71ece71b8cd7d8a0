"""The lock of what is built once: whoever holds it holds the file that all others see."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsi_deform.slide.levels.sidecar import BuildLock

fcntl = pytest.importorskip("fcntl", reason="needs flock")


def is_locked(path: Path) -> bool:
    """Whether a process that opens the file now would have to wait."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def test_a_lock_file_that_was_removed_between_opening_and_locking_is_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its holder has just ended, and a third process already makes a lock file of its own."""
    flock, removed = fcntl.flock, []

    def removed_first(descriptor: int, operation: int) -> None:
        if not removed:
            removed.extend(tmp_path.iterdir())
            for path in removed:
                path.unlink()
                path.touch()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with BuildLock(tmp_path / "x.sidecar", "slide"):
        (seen,) = tmp_path.iterdir()
        assert removed == [seen]
        assert is_locked(seen)
    assert not list(tmp_path.iterdir())


def test_a_lock_file_that_is_gone_after_locking_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flock, calls = fcntl.flock, []

    def removed_after(descriptor: int, operation: int) -> None:
        flock(descriptor, operation)
        calls.append(operation)
        if len(calls) == 1:
            for path in tmp_path.iterdir():
                path.unlink()

    monkeypatch.setattr(fcntl, "flock", removed_after)
    with BuildLock(tmp_path / "x.sidecar", "slide"):
        assert len(calls) == 2
        (seen,) = tmp_path.iterdir()
        assert is_locked(seen)
