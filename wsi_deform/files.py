"""Files that are whole or absent: written aside, brought to the disk, moved into place. All modules write this way."""

from __future__ import annotations

import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def write_aside(path: Path | str) -> Iterator[Path]:
    """Write a file beside its place and move it there when it is whole.

    Args:
        path: Where the file shall be; missing folders are made.

    Yields:
        A path in the same folder with the same suffixes, to be written. It takes the place of ``path``
        when the block ends and its bytes are on the disk, and vanishes when the block raises: nothing half-written
        stays behind, not even after a power cut. Its rights are those of any new file in that folder.

    Raises:
        FileNotFoundError: The block wrote no file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = name_aside(path)
    try:
        yield aside
        _share(aside)
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def write_folder_aside(folder: Path | str) -> Iterator[Path]:
    """Write a folder beside its place and move it there when it is whole.

    Args:
        folder: Where the folder shall be; missing parents are made. One that is there is replaced.

    Yields:
        A new folder in the same parent. It takes the place of ``folder`` when the block ends and the bytes of its files
        are on the disk, and vanishes when the block raises.

    Convention:
        A folder with files cannot be replaced in one step, unlike a file: killed between two renames, a process leaves
        the old one as ``.old-...`` and nothing in its place, never a half-written one.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = name_aside(folder)
    aside.mkdir()
    try:
        yield aside
        for path in aside.rglob("*"):
            if path.is_file():
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
        replace_folder(aside, folder)
    finally:
        if aside.exists():
            shutil.rmtree(aside)


def replace_folder(source: Path, folder: Path) -> None:
    """Move a folder to a place on the same disk where another one may be, which is then removed.

    Raises:
        OSError: It cannot be moved; the older one stays.
    """
    old = folder.with_name(f".old-{uuid.uuid4().hex[:12]}-{folder.name}")
    if folder.exists():
        folder.replace(old)
    try:
        source.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    if old.exists():
        shutil.rmtree(old)


def name_aside(path: Path) -> Path:
    """A hidden name beside a file or folder that nobody else has; same suffixes, by which writers choose."""
    return path.with_name(f".aside-{uuid.uuid4().hex[:12]}-{path.name}")


def _share(path: Path) -> None:
    """Give a file that its writer made for its owner alone the rights that new files have here.

    safetensors writes through a temporary file of mode 0600: a colleague could not read a model.
    """
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        return
    # A new file knows what umask and folder say; asking for the umask changes it for all threads.
    usual = path.with_name(f"{path.name}.rights")
    try:
        usual.touch(exist_ok=False)
        path.chmod(stat.S_IMODE(usual.stat().st_mode))
    finally:
        usual.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a UTF-8 text file; it is whole or absent."""
    with write_aside(path) as aside:
        # A path may hold bytes that are not UTF-8; as escapes they are what JSON wants, and are read back.
        aside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path | str, data: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write JSON with two spaces and a final newline; the file is whole or absent."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
