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
from wsi_deform.cli.start import imported_at_once
from wsi_deform.config import parse_config
from wsi_deform.model import Model
from wsi_deform.model_file import save_model

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
