"""What `segment` loads before it can start."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_study import tiny_model, tiny_study

from wsi_deform.cli.start import imported_at_once

NOT_NEEDED = (
    "aiohttp",
    "dask",
    "distributed",
    "matplotlib",
    "monai",
    "onnx",
    "pandas",
    "scipy.signal",
    "scipy.stats",
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


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    return folder


def test_segmenting_a_small_slide_loads_no_package_that_it_does_not_use(study: Path, tmp_path: Path) -> None:
    slide = sorted((study / "slides").iterdir())[0]
    arguments = ("segment", "--slides", slide, "--model", study / "run", "--out", tmp_path, "--device", "cpu")
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
    assert [path.name for path in (tmp_path / "masks").iterdir()] == [f"{slide.stem}.ome.tif"]


def test_garbage_is_collected_again_after_the_imports() -> None:
    assert gc.isenabled()
    try:
        with imported_at_once():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_garbage_is_collected_again_after_an_import_that_fails() -> None:
    try:
        with pytest.raises(ImportError), imported_at_once():
            raise ImportError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
