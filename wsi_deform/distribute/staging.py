"""Where the files of a slide are made: aside, until all of them are whole and take their places."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from wsi_deform.errors import MaskError
from wsi_deform.files import replace_folder
from wsi_deform.mask.folder import MaskFolder

END_BYTES = 1 << 16
ATTEMPTS = 100


@contextmanager
def staging(folder: MaskFolder, slide_id: str) -> Iterator[MaskFolder]:
    """A mask folder of its own for a slide that is being made; gone when the block ends.

    Args:
        folder: The mask folder in which the slide shall lie.
        slide_id: The slide; this process holds its lease, and what others left of it goes.

    Yields:
        An empty mask folder on the same disk.

    Raises:
        OSError: It cannot be made; ``folder`` itself is never made here.
    """
    stem = hashlib.sha256(slide_id.encode()).hexdigest()[:16]
    for left in folder.aside.glob(f"{stem}-*"):
        shutil.rmtree(left, ignore_errors=True)
    place = _made(folder.aside / f"{stem}-{uuid.uuid4().hex[:12]}")
    try:
        yield MaskFolder(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        # The last one takes the folder along.
        with suppress(OSError):
            folder.aside.rmdir()


def _made(place: Path) -> Path:
    """A new folder; another process may remove its empty parent at any moment."""
    for attempt in range(ATTEMPTS):
        place.parent.mkdir(exist_ok=True)
        try:
            place.mkdir()
        except FileNotFoundError:
            if attempt + 1 == ATTEMPTS:
                raise
        else:
            break
    return place


def publish(made: MaskFolder, folder: MaskFolder, slide_id: str) -> dict[str, str]:
    """Move the files of a slide from staging into their places, the mask last.

    Args:
        made: Where they were made.
        folder: Where they shall lie; files of the same names are replaced, others stay.
        slide_id: The slide.

    Returns:
        The signature of each file that was moved.

    Raises:
        MaskError: A file cannot be moved.
    """
    signatures: dict[str, str] = {}
    for kind, place in folder.outputs(slide_id).items():
        source = made.outputs(slide_id)[kind]
        if not source.exists():
            continue
        signatures[kind] = signature(source)
        try:
            # Without parents: a folder that has vanished is not made anew.
            place.parent.mkdir(exist_ok=True)
            if source.is_dir():
                replace_folder(source, place)
            else:
                source.replace(place)
        except OSError as error:
            raise MaskError(
                f"{kind} {place}: cannot be moved into place ({error}). Check folder, rights and free space."
            ) from error
    return signatures


def signature(path: Path) -> str:
    """What tells a file of ours from a cut-off or another one: its bytes, and a hash of both its ends.

    The index of our TIFFs, archives and shards lies at the end. Of a folder it is that of all files in it, with names.

    Raises:
        OSError: It cannot be read.
    """
    if path.is_dir():
        inside = sorted(
            (each.relative_to(path).as_posix(), each) for each in path.rglob("*") if each.is_file()
        )
        signatures = [f"{name} {signature(each)}" for name, each in inside]
        return f"{len(inside)}-{hashlib.sha256(chr(10).join(signatures).encode()).hexdigest()[:24]}"
    with path.open("rb") as file:
        size = path.stat().st_size
        digest = hashlib.sha256(file.read(END_BYTES))
        file.seek(max(0, size - END_BYTES))
        digest.update(file.read(END_BYTES))
    return f"{size}-{digest.hexdigest()[:24]}"


def broken(
    folder: MaskFolder, slide_id: str, signatures: Mapping[str, str], kinds: Iterable[str]
) -> list[str]:
    """Which of a slide's files are missing, cut off or not those that were made.

    Args:
        folder: The mask folder.
        slide_id: The slide.
        signatures: Of the files as they were made.
        kinds: Those that must be there.

    Returns:
        Kinds of files, in the order of ``kinds``.
    """
    places: Mapping[str, Path] = {str(kind): path for kind, path in folder.outputs(slide_id).items()}
    found = []
    for kind in kinds:
        try:
            whole = signature(places[kind]) == signatures.get(kind)
        except OSError:
            whole = False
        if not whole:
            found.append(kind)
    return found
