"""Who works on a slide: one living process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from wsi_deform.errors import MaskError
from wsi_deform.mask.folder import MaskFolder


@contextmanager
def claimed(folder: MaskFolder, slide_id: str) -> Iterator[bool]:
    """Take a slide for this process, if no other living process has it.

    Args:
        folder: The mask folder that both write to.
        slide_id: The slide.

    Yields:
        Whether it was taken. It is given back when the block ends, and by the system when the process dies,
        whatever the clock says.

    Raises:
        MaskError: The folder cannot be written.

    Convention:
        Who holds the claim is the only one who writes or removes files of the slide.
    """
    path = folder.claim(slide_id)
    lock = FileLock(path)
    try:
        # Without parents: a folder that has vanished is not made anew.
        path.parent.mkdir(exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise MaskError(
            f"{path}: cannot be written ({error}). Check folder, rights and free space."
        ) from error
    try:
        yield True
    finally:
        # Removed while it is held: who waits for the removed file finds it without a name and takes the new one.
        # Where an open file cannot be removed (Windows) it stays and is taken again.
        with suppress(OSError):
            path.unlink()
        lock.release()
