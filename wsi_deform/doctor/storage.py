"""Folders that are written to: rights, room, and whether the storage keeps what the program counts on."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wsi_deform.doctor.finding import Finding, Remark, tried

GIB = 1 << 30
LEAST_FREE_GIB = 1.0
# What is tried to be written: more than what file systems keep beside the name.
TRIAL_BYTES = 1 << 20
MAX_CLOCK_S = 2.0
# So long a change may take to show, and so long it is waited for.
PROMPT_S, PATIENCE_S = 0.2, 5.0
PAUSE_S = 0.05


def place_findings() -> Iterator[Finding]:
    """Look at the cache folder and at the folder for temporary files."""
    from wsi_deform.slide.levels.cache_folder import CACHE, FOLDER_VARIABLE, MIN_FREE_BYTES

    remedy = f"Set {FOLDER_VARIABLE} to a folder that can be written, with room: levels are built anew else."
    least_gib = MIN_FREE_BYTES / GIB
    cache = CACHE.folder

    def check_cache() -> str:
        with _trial_folder(_nearest(cache)) as folder:
            _write(folder / "a", os.urandom(TRIAL_BYTES))
        return f"{_room(cache, least_gib)}, at most {CACHE.limit_bytes / GIB:g} GiB used"

    def check_temporary() -> str:
        folder = Path(tempfile.gettempdir())
        with _trial_folder(folder) as trial:
            _write(trial / "a", os.urandom(TRIAL_BYTES))
        return _room(folder, 0.1)

    yield tried("places", "cache", check_cache, remedy=remedy, otherwise="remark")
    yield tried("places", "temporary", check_temporary, remedy="Set TMPDIR to a folder with room.")


def out_findings(out: Path) -> Iterator[Finding]:
    """Do in a folder for masks what `segment` does there, with files of its own, which are removed again.

    Args:
        out: The folder; where it does not exist yet, the nearest one above it is looked at.
    """
    topic, nearest = "out", _nearest(out)

    def writes() -> str:
        if not nearest.is_dir():
            raise NotADirectoryError("OUT is a file, or lies in one")
        with _trial_folder(nearest) as folder:
            path = folder / "a"
            _write(path, b"a")
            mode = stat.S_IMODE(path.stat().st_mode)
        where = "can be written" if out.exists() else "can be made (the nearest folder above it was tried)"
        return f"{where}; new files get the rights {mode:03o}"

    remedy = "Choose another folder with --out, or ask who may write there."
    found = tried(topic, "rights", writes, remedy=remedy)
    yield found
    if found.status == "fault":
        return
    checks: dict[str, tuple[Callable[[Path], str], str]] = {
        "room": (_writes_much, "Make room, or choose another folder with --out."),
        "moves": (_moves, "Masks could be lost here: choose other storage with --out."),
        "claims": (
            _claims,
            "Two runs could take one slide here: choose other storage, or let one run at a time.",
        ),
        "links": (_links, "Works without; taking over what a dead machine left is a little less sure."),
        "attributes": (_attributes, "Choose other storage with --out, or let one run at a time write here."),
        "clock": (_clock, "Set the clocks of this machine and of the storage (NTP)."),
        "names": (_names, "Give slides names that differ by more than upper and lower case."),
    }
    remarks = ("links", "clock", "names")
    with _trial_folder(nearest) as folder:
        for name, (check, remedy) in checks.items():
            place = folder / name
            place.mkdir()
            yield tried(
                topic,
                name,
                lambda check=check, place=place: check(place),  # type: ignore[misc]
                remedy=remedy,
                otherwise="remark" if name in remarks else "fault",
            )


def _room(folder: Path, least_gib: float) -> str:
    free_gib = shutil.disk_usage(_nearest(folder)).free / GIB
    text = f"can be written, {free_gib:.1f} GiB free"
    if free_gib < least_gib:
        raise Remark(f"{text}, which is little")
    return text


def _writes_much(folder: Path) -> str:
    _write(folder / "a", os.urandom(TRIAL_BYTES))
    return _room(folder, LEAST_FREE_GIB)


def _moves(folder: Path) -> str:
    """A file made aside takes the place of another one, which is there or whole at any moment."""
    place, aside = folder / "mask", folder / ".aside-mask"
    _write(place, b"old")
    with place.open("rb") as old:
        _write(aside, b"new")
        aside.replace(place)
        # Who reads it keeps what was opened.
        if old.read() != b"old":
            raise ValueError("a file that is read changes when another one takes its place")
    if place.read_bytes() != b"new" or aside.exists():
        raise ValueError("a file that was moved into place is not there, or is there twice")
    return "files are made aside and moved into place in one step"


def _claims(folder: Path) -> str:
    """Of all who make a file of one name, one can; and what it writes into it anew can be read."""
    path = folder / "claim"
    with path.open("xb") as file:
        file.write(b"1")
    with suppress(FileExistsError):
        path.open("xb").close()
        raise ValueError("a file that is there can be made a second time")
    with path.open("r+b") as file:
        file.write(b"2")
    if path.read_bytes() != b"2":
        raise ValueError("what was written into a file that was there cannot be read")
    return "a file of one name is made once"


def _links(folder: Path) -> str:
    path, other = folder / "a", folder / "b"
    _write(path, b"a")
    os.link(path, other)
    if not other.samefile(path):
        raise ValueError("a link to a file is another file")
    return "a file can have two names"


def _attributes(folder: Path) -> str:
    """How soon sizes, names and their ends show that were changed: some storage remembers what was."""
    path, late = folder / "a", 0.0
    _write(path, b"1")
    late = max(late, _shown(lambda: path.stat().st_size == 1, "the size of a new file"))
    with path.open("ab") as file:
        file.write(b"2")
    late = max(late, _shown(lambda: path.stat().st_size == 2, "the size of a file that grew"))
    path.replace(folder / "b")
    late = max(late, _shown(lambda: [each.name for each in folder.iterdir()] == ["b"], "a new name"))
    (folder / "b").unlink()
    late = max(late, _shown(lambda: not (folder / "b").exists(), "that a file was removed"))
    if late > PROMPT_S:
        raise Remark(
            f"changes show {late:.1f} s late, to this machine itself",
            "Runs that share OUT may do a slide twice, and lose nothing; let one run at a time write here if that "
            "costs too much.",
        )
    return "sizes and names show at once to this machine; others may see them later"


def _shown(is_so: Callable[[], bool], what: str) -> float:
    """Seconds until a change shows.

    Raises:
        TimeoutError: It does not.
    """
    started = time.monotonic()
    while True:
        late = time.monotonic() - started
        with suppress(OSError):
            if is_so():
                return late
        if late > PATIENCE_S:
            raise TimeoutError(f"{what} does not show within {PATIENCE_S:g} s")
        time.sleep(PAUSE_S)


def _clock(folder: Path) -> str:
    path, before = folder / "a", time.time()
    _write(path, b"a")
    off = path.stat().st_mtime - (before + time.time()) / 2
    text = f"the storage's is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} this machine's"
    if abs(off) > MAX_CLOCK_S:
        raise Remark(text)
    return text


def _names(folder: Path) -> str:
    _write(folder / "a", b"a")
    if (folder / "A").exists():
        raise Remark("names that differ by case alone are one name here")
    return "upper and lower case are told apart"


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


@contextmanager
def _trial_folder(parent: Path) -> Iterator[Path]:
    """A hidden folder of our own; gone when the block ends."""
    folder = parent / f".wsi-deform-doctor-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
