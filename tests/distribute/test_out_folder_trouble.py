"""OUT fills up, becomes read-only, is unmounted or mounted anew: a call ends at once and names it; nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tiny_study import tiny_model, tiny_study
from typer.testing import CliRunner

import wsi_deform.slide_files as outputs_module
from wsi_deform.cli.main import typer_app
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.unwritable import OutFolderUnwritableError, refuse_unwritable, unwritable
from wsi_deform.errors import MaskError, SlideError
from wsi_deform.mask.folder import MaskFolder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    drawn = tiny_study(folder)
    tiny_model(folder / "run", drawn.classes)
    (folder / "two").mkdir()
    for name, source in zip(("a", "b"), sorted((folder / "slides").iterdir()), strict=False):
        shutil.copy(source, folder / "two" / f"{name}.tif")
    return folder


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, empty."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or mounted(place):
        pytest.skip("no disk can be mounted here: it takes Linux and its administrator")
    yield place
    for _ in range(2):
        subprocess.run(["umount", "-l", place], capture_output=True, check=False)


def mounted(place: Path, *options: str) -> int:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(["size=4m", *options]), "tmpfs", place]
    return subprocess.run(command, capture_output=True, check=False).returncode


def fill(place: Path) -> None:
    with suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def call(study: Path, out: Path) -> Any:
    given = [
        "segment",
        study / "two",
        "--model",
        study / "run",
        "--out",
        out,
        "--device",
        "cpu",
        "--in-process",
    ]
    return CliRunner().invoke(typer_app, [str(each) for each in given])


def when_the_first_mask_is_written(
    monkeypatch: pytest.MonkeyPatch, harm: Callable[[], object], writer: str = "write_mask"
) -> list[str]:
    """Do harm once a mask is to be written, or what another writer writes; the slides that were begun."""
    real, begun = getattr(outputs_module, writer), []

    def harmful(path: Path, *args: Any, **options: Any) -> None:
        begun.append(path.name.partition(".")[0])
        if len(begun) == 1:
            harm()
        real(path, *args, **options)

    monkeypatch.setattr(outputs_module, writer, harmful)
    return begun


def assert_ended_at_once(done: Any, begun: list[str], out: Path, said: str) -> None:
    assert done.exit_code == 2, done.output
    assert begun == ["a"]
    (line,) = [each for each in done.stderr.splitlines() if each]
    assert line.startswith(f"wsi-deform: error: output folder {out}: ")
    assert said in line
    assert " done" not in done.stdout


def test_a_disk_that_fills_up_ends_the_call_and_once_there_is_space_it_goes_on(
    study: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = disk / "out"
    with monkeypatch.context() as patched:
        begun = when_the_first_mask_is_written(patched, lambda: fill(disk))
        assert_ended_at_once(call(study, out), begun, out, "No space left on device). Free some space (")
    folder = MaskFolder(out)
    assert not folder.mask("a").exists()
    assert not folder.lease("a").exists()
    assert Ledger(folder).read("a").status != "done"
    (disk / "ballast").unlink()
    done = call(study, out)
    assert done.stdout.splitlines()[-1].startswith("2 done, 0 skipped, 0 failed")
    # What the disk did is no slide's fault.
    assert [state.deaths for state in Ledger(folder).all()] == [0, 0]


def test_a_disk_that_becomes_read_only_ends_the_call(
    study: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = disk / "out"
    # The overlay comes when all other files are whole and closed: one that is open for writing keeps its disk so.
    begun = when_the_first_mask_is_written(
        monkeypatch, lambda: mounted(disk, "remount", "ro"), "write_overlay"
    )
    assert_ended_at_once(call(study, out), begun, out, "Its disk is read-only: make it writable")
    assert Ledger(MaskFolder(out)).read("a").status == "running"  # as nothing could be written
    # Neither a call that begins so.
    done = call(study, out)
    assert (done.exit_code, f"output folder {out}: cannot be written" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("other", "said"), [(False, "is no longer there"), (True, "is no longer there (was it")]
)
def test_a_disk_that_is_unmounted_or_mounted_anew_ends_the_call_and_gets_nothing(
    study: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, other: bool, said: str
) -> None:
    out = disk / "out"

    def harm() -> None:
        subprocess.run(["umount", "-l", disk], check=True)
        if other:
            mounted(disk)

    begun = when_the_first_mask_is_written(monkeypatch, harm)
    assert_ended_at_once(call(study, out), begun, out, said)
    # A mask's folder may be made on the way to its place under .aside: no more than that.
    assert [path.name for path in disk.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_what_a_system_says_of_a_disk_is_never_a_slides_fault(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    begun = []

    def broken(path: Path, *_: object, **__: object) -> None:
        begun.append(path.name)
        raise MaskError("cannot be written") from OSError(number, os.strerror(number))

    monkeypatch.setattr(outputs_module, "write_overlay", broken)
    done = call(study, tmp_path / "out")
    assert (done.exit_code, begun) == (2, ["a.jpg"])
    assert os.strerror(number) in done.stderr
    ledger = Ledger(MaskFolder(tmp_path / "out"))
    assert [state.status for state in ledger.all()] == ["not_started"]
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "0 done, 0 skipped, 0 failed, 2 not reached" in summary


def test_other_disks_and_unreadable_slides_are_a_slides_fault(tmp_path: Path) -> None:
    folder = MaskFolder(tmp_path)
    full = OSError(errno.ENOSPC, "No space left on device")
    for error in (
        OSError(errno.ENOSPC, "No space left on device", str(tmp_path.parent / "cache" / "x")),
        OSError(errno.EIO, "Input/output error"),
        ValueError("no disk at all"),
    ):
        refuse_unwritable(folder, error)
    slide = SlideError("its sidecar cannot be built")
    slide.__cause__ = full
    refuse_unwritable(folder, slide)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutFolderUnwritableError, match="No space left on device.*Free some space"):
        refuse_unwritable(folder, OSError(errno.ENOSPC, full.strerror, str(tmp_path / "masks" / "x")))
    # Whatever a slide failed of: where nothing can be written none can be done.
    with pytest.raises(OutFolderUnwritableError, match="gone: cannot be written"):
        refuse_unwritable(MaskFolder(tmp_path / "gone"), ValueError("no disk at all"))


def test_an_error_says_what_was_to_be_written_and_what_to_do(tmp_path: Path) -> None:
    error = unwritable(MaskFolder(Path("/out")), OSError(errno.EACCES, "Permission denied"), "state a.json")
    assert str(error) == (
        "output folder /out: cannot be written (state a.json: cannot be written: Permission denied). Check the "
        "folder, its disk and its rights; then give the same command again. What was done is kept."
    )
