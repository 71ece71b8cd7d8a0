"""Reruns, two runs on one folder, folders that vanish, slides that kill their process: no good mask is lost."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tifffile
from forked import Forked
from PIL import Image
from tiny_study import tiny_model, tiny_study
from typer.testing import CliRunner

import wsi_deform.slide_files as outputs_module
from wsi_deform.cli.main import typer_app
from wsi_deform.distribute import turn as turn_module
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.lease import leased
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.out_folder import OutFolderGoneError
from wsi_deform.distribute.outcome import Batch
from wsi_deform.distribute.sources import SlideSource, slide_sources
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.slide.registry import READERS
from wsi_deform.slide_results import WantedOutputs

# Started by Python in every process that finds it on its path: pictures of certain names do harm when they are opened.
HARM = """
import os, signal, time
import PIL.Image
_open = PIL.Image.open
def harmful_open(file, *args, **options):
    if "killer" in str(file):
        os.kill(os.getpid(), signal.SIGKILL)
    if "slow" in str(file):
        try:
            time.sleep(120)
        except KeyboardInterrupt:
            open(f"{file}.was-interrupted", "x").close()
            raise
    return _open(file, *args, **options)
PIL.Image.open = harmful_open
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    drawn = tiny_study(folder)
    tiny_model(folder / "run", drawn.classes)
    return folder


@pytest.fixture
def slides(study: Path, tmp_path: Path) -> Path:
    """A folder with two good slides."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for name, source in zip(("a", "b"), sorted((study / "slides").iterdir()), strict=False):
        shutil.copy(source, folder / f"{name}.tif")
    return folder


def run(slides: Path, study: Path, out: Path, **options: Any) -> Batch:
    return segment_slides(slide_sources(slides, out=out), study / "run", out, device="cpu", **options)


def without_um(study: Path, folder: Path) -> Path:
    """A study whose model has no length in um, so that slides without mpp will do."""
    copy = folder / "px" / "run"
    shutil.copytree(study / "run", copy)
    about = json.loads((copy / "best.json").read_text())
    about["config"]["fields"]["side_um"] = about["config"]["sampling"]["coarsest_um"] = None
    (copy / "best.json").write_text(json.dumps(about))
    return copy.parent


def outcomes(batch: Batch) -> dict[str, str]:
    return {outcome.slide_id: outcome.status for outcome in batch.outcomes}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def measured(out: Path) -> set[str]:
    with (out / "measurements.csv").open() as file:
        return {row["slide"] for row in csv.DictReader(file)}


def leave_lease(path: Path) -> None:
    """A lease of a process of this machine that was killed."""
    said = "import os, sys; from pathlib import Path; from wsi_deform.distribute.lease import leased\n"
    said += "with leased(Path(sys.argv[1])): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", said, str(path)], check=False).returncode == 9
    assert path.exists()


def harmful(tmp_path: Path) -> Path:
    """A folder on whose search path pictures of certain names do harm."""
    folder = tmp_path / "harm"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HARM)
    return folder


def test_a_rerun_that_fails_leaves_what_was_there(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    before = {name: data for name, data in contents(out).items() if "a." in name and "states" not in name}
    assert set(before) == {"geojson/a.geojson.gz", "masks/a.ome.tif", "overlays/a.jpg", "samples/a.npz"}
    (slides / "a.tif").write_bytes(b"II*\x00 no longer a slide")
    batch = run(slides, study, out)
    assert outcomes(batch) == {"a": "failed", "b": "skipped"}
    assert {name: data for name, data in contents(out).items() if name in before} == before
    assert measured(out) == {"a", "b"}
    assert "the files of an earlier run are kept" in (out / "summary.md").read_text()
    state = Ledger(MaskFolder(out)).read("a")
    assert state.status == "failed"
    assert state.kept is not None
    assert state.kept.status == "done"


def test_an_error_after_the_new_mask_was_made_leaves_the_old_files(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(slides, study, out, wanted=WantedOutputs(interpolation="nearest"))
    before = contents(out / "masks") | contents(out / "samples")

    def broken(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("wsi_deform.slide_files.write_overlay", broken)
    assert outcomes(run(slides, study, out, overwrite=True)) == {"a": "failed", "b": "failed"}
    assert contents(out / "masks") | contents(out / "samples") == before
    assert not (out / ".aside").exists()


def test_what_an_interrupt_stops_is_as_it_was(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    before = Ledger(MaskFolder(out)).read("a")

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs_module, "write_mask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(slides, study, out, overwrite=True)
    assert Ledger(MaskFolder(out)).read("a") == before
    monkeypatch.undo()
    assert outcomes(run(slides, study, out)) == {"a": "skipped", "b": "skipped"}


def test_the_summary_covers_the_folder_and_not_the_last_call(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(slides / "a.tif", study, out)
    run(slides / "b.tif", study, out)
    assert measured(out) == {"a", "b"}
    summary = (out / "summary.md").read_text()
    assert "In this folder: 2 done, 0 failed." in summary
    assert "Last call: 1 done, 0 skipped, 0 failed." in summary
    assert [line.split(" | ")[0] for line in summary.splitlines() if line.startswith("| ")][2:] == [
        "| a",
        "| b",
    ]


def test_a_slide_without_mpp_gets_its_mask_and_a_remark_instead_of_a_footprint_map(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    image = tifffile.imread(slides / "a.tif")
    tifffile.imwrite(slides / "a.tif", image, tile=(256, 256), photometric="rgb", metadata=None)
    out = tmp_path / "out"
    wanted = WantedOutputs(footprint=True)
    study = without_um(study, tmp_path)
    batch = run(slides, study, out, wanted=wanted)
    assert outcomes(batch) == {"a": "done", "b": "done"}
    assert "no mpp, so no footprint map: set the mpp column" in batch.outcomes[0].reason
    assert [path.name for path in (out / "footprints").iterdir()] == ["b.footprint.ome.tif"]
    assert outcomes(run(slides, study, out, wanted=wanted)) == {"a": "skipped", "b": "skipped"}


def test_a_map_that_is_wanted_later_is_made_and_a_lost_overlay_comes_from_the_mask(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    overlay = (out / "overlays" / "a.jpg").read_bytes()
    outlines = (out / "geojson" / "a.geojson.gz").read_bytes()
    (out / "overlays" / "a.jpg").unlink()
    (out / "geojson" / "a.geojson.gz").write_bytes(b"cut off")
    with monkeypatch.context() as patched:
        patched.setattr(turn_module, "segment_to_files", None)  # the networks are not needed
        batch = run(slides, study, out)
        coloured = run(slides, study, out, wanted=WantedOutputs(coloured=True))
        again = run(slides, study, out, wanted=WantedOutputs(coloured=True))
    assert [o.reason for o in coloured.outcomes] == ["made coloured of a mask that was done"] * 2
    assert [o.status for o in again.outcomes] == ["skipped", "skipped"]
    assert (out / "overlays" / "a.tif").is_file()
    assert [(o.status, o.reason) for o in batch.outcomes] == [
        ("done", "made geojson and overlay of a mask that was done"),
        ("skipped", "already done with this model"),
    ]
    assert (out / "overlays" / "a.jpg").read_bytes() == overlay
    assert (out / "geojson" / "a.geojson.gz").read_bytes() == outlines
    batch = run(slides, study, out, wanted=WantedOutputs(footprint=True))
    assert [o.reason for o in batch.outcomes] == ["done again: footprint missing or not whole"] * 2


def test_labels_in_ome_zarr_are_made_of_a_mask_that_is_done_and_anew_where_a_file_of_them_is_lost(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, wanted = tmp_path / "out", WantedOutputs(ome_zarr=True)
    run(slides, study, out)
    monkeypatch.setattr(turn_module, "segment_to_files", None)  # the networks are not needed
    first = run(slides, study, out, wanted=wanted)
    assert [o.reason for o in first.outcomes] == ["made ome_zarr of a mask that was done"] * 2
    assert outcomes(run(slides, study, out, wanted=wanted)) == {"a": "skipped", "b": "skipped"}
    folder = out / "masks" / "a.ome.zarr"
    files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert Path("labels/classes/0/zarr.json") in files
    (folder / "labels" / "classes" / "zarr.json").unlink()
    again = run(slides, study, out, wanted=wanted)
    assert [(o.status, o.reason) for o in again.outcomes] == [
        ("done", "made ome_zarr of a mask that was done"),
        ("skipped", "already done with this model"),
    ]
    assert files == {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    assert sorted(path.name for path in (out / "masks").iterdir()) == [
        "a.ome.tif", "a.ome.zarr", "b.ome.tif", "b.ome.zarr"
    ]  # fmt: skip


@pytest.mark.parametrize("harm", ["cut", "other", "gone"])
def test_a_mask_that_is_not_whole_is_not_done(slides: Path, study: Path, tmp_path: Path, harm: str) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    mask = out / "masks" / "a.ome.tif"
    whole = mask.read_bytes()
    if harm == "cut":
        mask.write_bytes(whole[:-10])
    elif harm == "other":
        mask.write_bytes(whole[:-10] + bytes(10))
    else:
        mask.unlink()
    batch = run(slides, study, out)
    assert outcomes(batch) == {"a": "done", "b": "skipped"}
    assert batch.outcomes[0].reason == "done again: mask missing or not whole"
    assert mask.read_bytes() == whole


def test_another_slide_of_the_same_name_size_and_time_is_done_again(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    # Uncompressed: every picture has as many bytes.
    for name, source in (("a", "b"), ("b", "a")):
        tifffile.imwrite(tmp_path / f"{name}.raw", tifffile.imread(slides / f"{source}.tif"), tile=(256, 256))
    (slides / "b.tif").unlink()
    place, times = slides / "a.tif", (1_700_000_000, 1_700_000_000)
    place.write_bytes((tmp_path / "a.raw").read_bytes())
    os.utime(place, times)
    out = tmp_path / "out"
    study = without_um(study, tmp_path)
    assert outcomes(run(slides, study, out)) == {"a": "done"}
    first, size = (out / "masks" / "a.ome.tif").read_bytes(), place.stat().st_size
    with place.open("r+b") as file:  # in place: the same inode too
        file.write((tmp_path / "b.raw").read_bytes())
    os.utime(place, times)
    assert place.stat().st_size == size
    READERS.forget()  # a new call is a new process
    batch = run(slides, study, out)
    assert outcomes(batch) == {"a": "done"}
    assert batch.outcomes[0].reason.startswith("done again: another file (content changed)")
    assert (out / "masks" / "a.ome.tif").read_bytes() != first


def test_a_slide_that_is_taken_is_left_to_its_process(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(slides / "b.tif", study, out)
    folder = MaskFolder(out)
    with leased(folder.lease("a")) as mine:
        assert mine is not None
        for when in (0, 4_000_000_000):  # whatever the clock says
            os.utime(folder.lease("a"), (when, when))
            batch = run(slides, study, out)
            assert [(o.slide_id, o.status, o.reason) for o in batch.outcomes] == [
                ("a", "skipped", "another process is working on it"),
                ("b", "skipped", "already done with this model"),
            ]
    assert not folder.lease("a").exists()
    assert outcomes(run(slides, study, out)) == {"a": "done", "b": "skipped"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_runs_on_one_folder_share_the_slides(
    slides: Path, study: Path, tmp_path: Path, overwrite: bool, forked: Callable[..., Forked]
) -> None:
    for name in "cd":
        shutil.copy(slides / "a.tif", slides / f"{name}.tif")
    run(slides, study, tmp_path / "alone")
    out = tmp_path / "out"
    arguments = ["segment", "--slides", slides, "--model", study / "run", "--out", out, "--device", "cpu"]
    if overwrite:
        run(slides, study, out)
        arguments.append("--overwrite")
    both = [forked("wsi_deform", *arguments, said=tmp_path / f"said {number}") for number in range(2)]
    assert [each.wait() for each in both] == [0, 0], [each.said() for each in both]
    assert contents(out / "masks") == contents(tmp_path / "alone" / "masks")
    assert measured(out) == {"a", "b", "c", "d"}
    assert not (out / ".aside").exists()
    assert {path.name for path in (out / "states").iterdir()} == {f"{name}.json" for name in "abcd"}


def test_a_folder_that_vanishes_ends_the_run_with_its_name(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", outputs_module.write_mask

    def moved(path: Path, *args: Any, **options: Any) -> None:
        real(path, *args, **options)
        out.rename(tmp_path / "moved")

    monkeypatch.setattr(outputs_module, "write_mask", moved)
    with pytest.raises(OutFolderGoneError, match=r"output folder .*out: is no longer there \(was it moved"):
        run(slides, study, out)
    assert not out.exists()  # as an unmounted disk's empty place it would fill with files that nobody finds
    monkeypatch.undo()
    assert outcomes(run(slides, study, tmp_path / "moved")) == {"a": "done", "b": "done"}


def test_another_folder_at_the_same_path_is_not_written_to(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", turn_module.publish
    run(slides / "b.tif", study, tmp_path / "other")
    others = contents(tmp_path / "other")

    def exchanged(*args: Any) -> Any:
        found = real(*args)
        out.rename(tmp_path / "moved")
        (tmp_path / "other").rename(out)
        return found

    monkeypatch.setattr(turn_module, "publish", exchanged)
    with pytest.raises(OutFolderGoneError, match=r"output folder .*out: is another folder now"):
        run(slides, study, out)
    assert contents(out) == others


def test_a_mask_that_vanishes_before_the_end_is_not_said_to_be_done(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", outputs_module.write_mask

    def removed(path: Path, *args: Any, **options: Any) -> None:
        real(path, *args, **options)
        (out / "masks" / "a.ome.tif").unlink(missing_ok=True)

    monkeypatch.setattr(outputs_module, "write_mask", removed)
    batch = run(slides, study, out)
    assert outcomes(batch) == {"a": "failed", "b": "done"}
    assert "was made, but is no longer there" in batch.outcomes[0].reason


def test_a_slide_with_a_known_problem_fails_alone_and_nothing_is_named_after_it(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    odd = SlideSource(path=slides / "pipe.tif", slide_id="pipe", problem="slide pipe.tif: is a FIFO.")
    sources = [odd, *slide_sources(slides, out=out)]
    batch = segment_slides(sources, study / "run", out, device="cpu", workers=1)
    assert outcomes(batch) == {"pipe": "failed", "a": "done", "b": "done"}
    assert not [name for name in contents(out) if "pipe" in name]
    summary = (out / "summary.md").read_text()
    assert "In this folder: 2 done, 1 failed." in summary
    assert "slide pipe.tif: is a FIFO." in summary


def test_a_slide_that_kills_its_process_fails_alone_and_is_not_tried_for_ever(
    slides: Path,
    study: Path,
    tmp_path: Path,
    forked: Callable[..., Forked],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Image.new("RGB", (300, 200), "white").save(slides / "a-killer.png")
    out, harm = tmp_path / "out", harmful(tmp_path)
    arguments = [
        *("segment", "--slides", slides, "--model", study / "run", "--out", out),
        *("--device", "cpu", "--mpp", 0.5),
    ]
    # The processes of their own that slides get from now on begin with the harm; this one does not.
    package = str(Path(outputs_module.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(harm), package]))

    def call(*more: str) -> tuple[int, str]:
        done = CliRunner().invoke(typer_app, [*map(str, arguments), *more])
        return done.exit_code, done.output

    # The file is recorded before it is opened: here it is counted twice over two calls, and the others are done.
    for deaths, done in ((1, "2 done, 0 skipped"), (2, "0 done, 2 skipped")):
        code, said = call()
        assert code == 1, said
        assert f"{done}, 1 failed" in said
        assert "a-killer: failed, slide" in said
        assert "its process died (signal SIGKILL)" in said
        assert Ledger(MaskFolder(out)).read("a-killer").deaths == deaths
        assert {path.name for path in (out / "masks").iterdir()} == {"a.ome.tif", "b.ome.tif"}
        assert not list((out / "states").glob(".*"))
    code, said = call()
    assert code == 1, said
    assert "a-killer: failed, not tried again: " in said
    assert Ledger(MaskFolder(out)).read("a-killer").deaths == 2
    # In one process the command dies with it; the next one tries it in a process of its own, and last.
    shutil.rmtree(out)
    killed = forked("wsi_deform", *arguments, "--in-process", said=tmp_path / "said", search=harm)
    assert killed.wait() == -signal.SIGKILL, killed.said()
    code, said = call("--in-process")
    assert code == 1, said
    assert said.splitlines()[-2].startswith("a-killer: failed, slide")
    assert Ledger(MaskFolder(out)).read("a-killer").deaths == 2
    # What killed it is mended.
    monkeypatch.setenv("PYTHONPATH", package)
    code, said = call("--retry-failed")
    assert code == 0, said
    assert Ledger(MaskFolder(out)).read("a-killer").deaths == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_sigterm_and_sighup_end_a_run_as_ctrl_c_does(
    slides: Path,
    study: Path,
    tmp_path: Path,
    forked: Callable[..., Forked],
    number: signal.Signals,
    code: int,
) -> None:
    Image.new("RGB", (300, 200), "white").save(slides / "c-slow.png")
    out = tmp_path / "out"
    arguments = ["segment", "--slides", slides, "--model", study / "run", "--out", out, "--device", "cpu"]
    process = forked("wsi_deform", *arguments, "--mpp", 0.5, said=tmp_path / "said", search=harmful(tmp_path))
    state = MaskFolder(out).state("c-slow")
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(60) == code, process.said()
    assert "The same command goes on" in process.said()
    # A call that waits is interrupted too: nothing had to be killed.
    assert (slides / "c-slow.png.was-interrupted").exists()
    assert "2 done, 0 skipped, 0 failed, 1 not reached" in (out / "summary.md").read_text()
    assert measured(out) == {"a", "b"}
    cut_off = Ledger(MaskFolder(out)).read("c-slow")
    assert (cut_off.status, cut_off.deaths) == ("not_started", 0)
    assert not MaskFolder(out).lease("c-slow").exists()
    assert json.loads(next((out / "runs").iterdir()).read_text())["left"] == ["c-slow"]


def test_a_state_of_a_process_that_was_killed_from_outside_is_done_in_a_process_of_its_own(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    expected = contents(out / "masks")
    ledger = Ledger(MaskFolder(out))
    ledger.write(dataclasses.replace(ledger.read("a"), status="running", attempt="cut off"))
    leave_lease(ledger.folder.lease("a"))
    batch = run(slides, study, out)
    assert outcomes(batch) == {"a": "done", "b": "skipped"}
    assert batch.outcomes[0].state.pid != os.getpid()
    assert contents(out / "masks") == expected
