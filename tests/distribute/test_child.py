"""Slides in a process of its own: kept between slides, replaced when it dies, ended with the one that started it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import pytest
from PIL import Image
from tiny_study import tiny_model, tiny_study

import wsi_deform.slide_files as outputs_module
from wsi_deform.distribute import child as child_module
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.child import Child
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.models import model_sha256
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.errors import MaskError, ModelError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model_file import find_model
from wsi_deform.networks.device import device_name

# Run by every Python that finds it on its path: what opens pictures of certain names says so, dies, or takes long.
HARM = """
import logging, os, signal, time
import PIL.Image
_open = PIL.Image.open
def harmful_open(file, *args, **options):
    if "loud" in str(file):
        logging.getLogger("wsi_deform.harm").warning("said in process %d", os.getpid())
    if "killer" in str(file):
        os.kill(os.getpid(), signal.SIGKILL)
    if "slow" in str(file):
        for _ in range(1200):
            time.sleep(0.1)
    return _open(file, *args, **options)
PIL.Image.open = harmful_open
"""
pytestmark = pytest.mark.usefixtures("real_spawn")
NAMES = ("a-loud", "b-killer", "c")
CALLER = """
import importlib, sys
from pathlib import Path
from wsi_deform.distribute.child import Child
if __name__ == "__main__":
    slides, model, out = map(Path, sys.argv[1:4])
    for name in sys.argv[4:]:
        importlib.import_module(name)
    with Child() as child:
        child.start()
        print(type(child._process).__name__, flush=True)
        from wsi_deform.distribute.batch import segment_slides
        from wsi_deform.distribute.sources import slide_sources
        segment_slides(slide_sources(slides, out=out, mpp=0.5), model, out, device="cpu", child=child)
"""
COMMAND = """
import sys
from wsi_deform.cli.main import app
if __name__ == "__main__":
    try:
        app()
    except SystemExit as ended:
        print("exit code", ended.code)
    slow = ("torch", "numba", "scipy", "tifffile", "openslide", "imagecodecs", "distributed", "monai")
    print("imported", [name for name in slow if name in sys.modules])
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    drawn = tiny_study(folder)
    tiny_model(folder / "run", drawn.classes)
    (folder / "harm").mkdir()
    (folder / "harm" / "sitecustomize.py").write_text(HARM)
    source = sorted((folder / "slides").iterdir())[0]
    (folder / "three").mkdir()
    for name in NAMES:
        with Image.open(source) as opened:
            opened.convert("RGB").save(folder / "three" / f"{name}.png")
    return folder


@pytest.fixture
def harmful(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(outputs_module.__file__).parents[1]
    places = [str(study / "harm"), str(package), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    return condition()


@pytest.mark.usefixtures("harmful")
def test_one_process_does_slide_after_slide_and_another_one_goes_on_where_it_dies(
    study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in NAMES:
        shutil.copy(study / "three" / f"{name}.png", tmp_path / f"{name}.png")
    shutil.copy(tmp_path / "c.png", tmp_path / "d.png")
    out, pids = tmp_path / "out", []
    with Child() as child, caplog.at_level(logging.WARNING):
        child.start()
        first = child.pid
        batch = segment_slides(
            slide_sources(tmp_path, out=out, mpp=0.5), study / "run", out, device="cpu", child=child
        )
        last = child.pid
        pids = [outcome.state.pid for outcome in batch.outcomes]
    assert [outcome.status for outcome in batch.outcomes] == ["done", "failed", "done", "done"]
    assert "its process died (signal SIGKILL). Most often memory runs out" in batch.outcomes[1].reason
    assert Ledger(MaskFolder(out)).read("b-killer").deaths == 1
    assert (pids[0], pids[2], pids[3]) == (first, last, last)
    assert len({first, last, os.getpid()}) == 3
    assert f"said in process {first}" in caplog.text
    assert not psutil.pid_exists(last)
    alone = tmp_path / "alone"
    here = segment_slides(
        slide_sources(tmp_path / "c.png", out=alone, mpp=0.5), study / "run", alone, device="cpu"
    )
    assert here.outcomes[0].state.pid == os.getpid()
    assert MaskFolder(out).mask("c").read_bytes() == MaskFolder(alone).mask("c").read_bytes()


def test_an_interrupted_slide_is_as_it_was_and_its_process_ends(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = find_model(study / "run")
    out.mkdir()
    (source,) = slide_sources(study / "three" / "c.png", out=out, mpp=0.5)
    job = SlideJob(source=source, model=model, model_sha256=model_sha256(model), out=out)
    told = []

    def interrupted(done: int, total: int) -> None:
        told.append((done, total))
        raise KeyboardInterrupt

    with Child() as child:
        child.start()
        pid = child.pid
        with pytest.raises(KeyboardInterrupt):
            child.segment(job, interrupted)
        assert told == [(1, 1)]
        assert not psutil.pid_exists(pid)
        assert not MaskFolder(out).lease("c").exists()
        # It had one field, and may have ended in the meantime: either way the state is true.
        state = Ledger(MaskFolder(out)).read("c")
        assert (state.status, state.deaths) in [("not_started", 0), ("done", 0)]
        assert (state.status == "done") == MaskFolder(out).mask("c").exists()
        # The next slide starts another one.
        assert child.segment(job).status in ("done", "skipped")
        assert child.pid != pid


@pytest.mark.usefixtures("harmful")
def test_the_process_that_waits_imports_nothing_that_is_slow(study: Path, tmp_path: Path) -> None:
    """Also where a slide kills the child: it is as much as ever a process that may die."""
    (tmp_path / "command.py").write_text(COMMAND)
    out = tmp_path / "out"
    given = [
        "segment",
        study / "three",
        "--model",
        study / "run",
        "--out",
        out,
        "--mpp",
        "0.5",
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        [sys.executable, tmp_path / "command.py", *given], capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("exit code 1\nimported []\n"), done.stdout + done.stderr
    assert "2 done, 0 skipped, 1 failed" in done.stdout
    assert "b-killer: failed, slide" in done.stdout
    assert "its process died (signal SIGKILL)" in done.stdout.replace("\n", " ")
    assert [MaskFolder(out).mask(name).exists() for name in NAMES] == [True, False, True]


def test_a_model_that_cannot_be_used_is_named_by_the_process_that_would_use_it(
    study: Path, tmp_path: Path
) -> None:
    with Child() as child:
        with pytest.raises(ModelError, match=r"none: does not exist. Needed a run folder"):
            child.model(tmp_path / "none", "cpu")
        pid = child.pid
        with pytest.raises(ModelError, match='device "odd"'):
            child.model(study / "run", "odd")
        chosen = child.model(study / "run", "auto")
        assert child.pid == pid != os.getpid()
    assert chosen.path == study / "run" / "best.safetensors"
    assert chosen.sha256 == model_sha256(chosen.path)
    assert (chosen.device, chosen.needs_labels) == (device_name("auto"), False)
    assert not (tmp_path / "out").exists()


def test_a_process_that_dies_over_the_model_is_told_from_a_slides(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "_work", begin_and_die)
    with Child() as child, pytest.raises(MaskError, match=r"as it loaded model .*run \(exit code 3\)"):
        child.model(study / "run", "cpu")


def begin_and_die(connection: Connection, *_: object) -> None:
    connection.recv()
    connection.send(("begun",))
    os._exit(3)


@pytest.mark.skipif(sys.platform != "linux", reason="only there it is known how many threads there are")
@pytest.mark.parametrize(("before", "kind"), [((), "ForkProcess"), (("torch",), "SpawnProcess")])
@pytest.mark.usefixtures("harmful")
def test_a_process_whose_starter_is_killed_puts_its_slide_back_and_ends(
    study: Path, tmp_path: Path, before: tuple[str, ...], kind: str
) -> None:
    (tmp_path / "slides").mkdir()
    shutil.copy(study / "three" / "c.png", tmp_path / "slides" / "slow.png")
    (tmp_path / "caller.py").write_text(CALLER)
    out = MaskFolder(tmp_path / "out")
    caller = subprocess.Popen(
        [sys.executable, tmp_path / "caller.py", tmp_path / "slides", study / "run", out.path, *before],
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout is not None
    assert caller.stdout.readline() == f"{kind}\n"
    ledger = Ledger(out)
    assert within(120, lambda: ledger.read("slow").status == "running")
    pid = ledger.read("slow").pid
    assert pid != caller.pid
    # Signals that a terminal, or a scheduler, sends to all of a job's processes are the starter's business.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    time.sleep(0.5)
    assert psutil.pid_exists(pid)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert within(60, lambda: not psutil.pid_exists(pid))
    state = ledger.read("slow")
    assert (state.status, state.deaths) == ("not_started", 0)
    assert not out.lease("slow").exists()
    assert not out.aside.exists()


def die(*_: object) -> None:
    os._exit(3)


def test_a_process_that_cannot_start_is_no_slides_fault(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_module, "_work", die)
    out = tmp_path / "out"
    sources = slide_sources(study / "three" / "c.png", out=out, mpp=0.5)
    with Child() as child, pytest.raises(MaskError, match=r"ended before it had begun \(exit code 3\)"):
        segment_slides(sources, study / "run", out, device="cpu", child=child)
    assert Ledger(MaskFolder(out)).all() == []
