"""What `segment` loads before it can start."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_study import MPP, tiny_study

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.cli.start import imported_at_once, let_idle_threads_sleep
from wsi_deform.config import parse_config
from wsi_deform.model import Model
from wsi_deform.model_file import save_model

NOT_NEEDED = (
    "aiohttp",
    "dask",
    "distributed",
    "fsspec",
    "matplotlib",
    "monai",
    "onnx",
    "pandas",
    "scipy.ndimage",
    "scipy.signal",
    "scipy.stats",
    "shapely",
    "skimage",
    "tensorboard",
    "torch.utils.tensorboard",
    "zarr",
)
SEGMENT = """
import json, sys
from wsi_deform.cli.main import app
try:
    app()
finally:
    print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize(
    "network", [{"name": "hrnetv2", "width": 4, "stem_stride": 1}, {"name": "monai:DynUNet"}]
)
def test_segmenting_a_small_slide_loads_no_package_that_it_does_not_use(
    tmp_path: Path, network: dict[str, Any]
) -> None:
    classes = read_class_table(tiny_study(tmp_path).classes)
    config = parse_config(
        {"sampling": {"budget": [16, 64]}, "networks": {"segmentation": network}}, source="test"
    )
    save_model(
        Model(config=config, classes=classes, mpp=MPP), tmp_path / "run" / "best.safetensors", facts={}
    )
    slide, out = tmp_path / "slides" / "P001-A.tif", tmp_path / "out"
    arguments = ("segment", "--slides", slide, "--model", tmp_path / "run", "--out", out, "--device", "cpu")
    done = subprocess.run(
        [sys.executable, "-c", SEGMENT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert "torch" in loaded
    assert [name for name in NOT_NEEDED if name in loaded] == []
    assert [path.name for path in (out / "masks").iterdir()] == ["P001-A.ome.tif"]


def test_threads_of_numpy_sleep_soon_unless_the_user_says_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_THREAD_TIMEOUT", "26")
    let_idle_threads_sleep()
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "26"
    monkeypatch.delenv("OPENBLAS_THREAD_TIMEOUT")
    let_idle_threads_sleep()
    assert os.environ["OPENBLAS_THREAD_TIMEOUT"] == "14"


@pytest.mark.parametrize(
    ("said", "expected"),
    [({}, "4000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_of_torch_sleep_soon_unless_the_user_says_when(
    monkeypatch: pytest.MonkeyPatch, said: dict[str, str], expected: str | None
) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.setenv(name, "")  # so that what is set below does not stay
        monkeypatch.delenv(name)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    let_idle_threads_sleep()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_the_command_line_is_loaded_without_numpy_whose_threads_are_set_when_it_starts() -> None:
    asked = "import sys, wsi_deform.cli.main; print('numpy' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert said == "False\n"


@pytest.fixture
def usual_threshold() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("usual_threshold")
def test_garbage_is_collected_again_after_the_imports() -> None:
    assert gc.isenabled()
    try:
        with imported_at_once():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.usefixtures("usual_threshold")
def test_garbage_is_collected_again_after_an_import_that_fails() -> None:
    try:
        with pytest.raises(ImportError), imported_at_once():
            raise ImportError
        assert gc.isenabled()
    finally:
        gc.unfreeze()


PROGRAM = """
import atexit, os, sys, threading
class Left:
    def __del__(self, write=os.write):
        write(1, b"freed\\n")
sys.left = Left()
atexit.register(print, "handled")
if sys.argv.pop(1) == "thread":
    threading.Thread(target=lambda: [threading.main_thread().join(), print("waited")]).start()
from wsi_deform.cli.main import app
app()
"""


@pytest.mark.parametrize(
    ("name", "given", "code", "expected"),
    [
        ("wsi-deform", "alone", 0, ["handled"]),
        ("wsi-deform", "thread", 0, ["waited", "handled", "freed"]),
        ("somebodys", "alone", 0, ["handled", "freed"]),
        ("wsi-deform", "alone", 2, ["handled"]),
    ],
)
def test_the_program_ends_with_its_code_and_handlers_but_frees_nothing(
    tmp_path: Path, name: str, given: str, code: int, expected: list[str]
) -> None:
    (tmp_path / name).write_text(PROGRAM)
    arguments = ["config", "--help"] if code == 0 else ["config", "--what"]
    done = subprocess.run(
        [sys.executable, tmp_path / name, given, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == code, done.stderr
    assert [line for line in done.stdout.splitlines() if line in ("handled", "waited", "freed")] == expected
