"""Whether an error is of one slide or of the folder that all are written to: full, read-only, no longer answering."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from wsi_deform.errors import MaskError, SlideError
from wsi_deform.mask.folder import MaskFolder

# Said of a disk, whichever file met it. Names that a system lacks are left out.
OF_THE_DISK = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EROFS") if hasattr(errno, name)
)
FULL = OF_THE_DISK - {errno.EROFS}
PROBE_BYTES = 1 << 16


class OutFolderUnwritableError(MaskError):
    """Nothing more can be written to the mask folder; no slide can be done."""


def unwritable(folder: MaskFolder, error: OSError, what: str = "") -> OutFolderUnwritableError:
    """The error that ends a batch.

    Args:
        folder: The mask folder.
        error: What the system said.
        what: What could not be written, if that is known.
    """
    remedy = "Check the folder, its disk and its rights"
    if error.errno in FULL:
        remedy = f"Free some space{_free(folder.path)}, or choose another --out"
    elif error.errno == errno.EROFS:
        remedy = "Its disk is read-only: make it writable, or choose another --out"
    said = error.strerror or str(error)
    return OutFolderUnwritableError(
        f"output folder {folder.path}: cannot be written ({f'{what}: cannot be written: ' if what else ''}{said}). "
        f"{remedy}; then give the same command again. What was done is kept."
    )


def refuse_unwritable(folder: MaskFolder, error: BaseException) -> None:
    """Raise, where a slide failed because nothing more can be written to the folder, or nothing can be now.

    Args:
        folder: The mask folder.
        error: Why the slide failed.

    Raises:
        OutFolderUnwritableError: It is the folder's fault, not the slide's.
    """
    # A slide that cannot be read may tell of the disk of the cache.
    for each in () if isinstance(error, SlideError) else _chain(error):
        if isinstance(each, OSError) and each.errno in OF_THE_DISK and _may_be_in(folder.path, each.filename):
            raise unwritable(folder, each) from error
    try:
        _write_something(folder.path)
    except OSError as own:
        raise unwritable(folder, own) from error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _may_be_in(folder: Path, name: object) -> bool:
    """Whether a file of that name lies in the folder; what has no name was open already, as the outputs are."""
    return not isinstance(name, str | os.PathLike) or Path(name).absolute().is_relative_to(folder)


def _write_something(folder: Path) -> None:
    path = folder / f".probe-{uuid.uuid4().hex[:12]}"
    try:
        with path.open("xb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


def _free(folder: Path) -> str:
    try:
        return f" ({shutil.disk_usage(folder).free / 1e6:.0f} MB are free)"
    except OSError:
        return ""
