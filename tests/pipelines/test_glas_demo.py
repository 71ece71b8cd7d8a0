"""The demo on real tissue: how its methods are set up, what it leaves, and when `make demo` calls it."""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from glas_folder import glas_folder

from wsi_deform.distribute.outcome import NullWatcher as NullBatchWatcher
from wsi_deform.errors import ManifestError
from wsi_deform.geometry import Size
from wsi_deform.train.watcher import NullWatcher as NullTrainingWatcher

ROOT = Path(__file__).parents[2]
SMALL = {"slides": {"train": 3, "val": 2, "test": 3}, "canvas": Size(900, 300), "per_slide": (2, 3)}
FAST = (
    "sampling.budget=[8, 24]",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 1, validate_every: 1, threads: 1}",
)


@pytest.fixture(scope="module")
def demo() -> ModuleType:
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module("pipelines.glas.demo")
    finally:
        sys.path.remove(str(ROOT))


class Told:
    """Watches nothing, but notes which parts were worked on."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def leaves_out(self, method: str, reason: str) -> None:
        self.parts.append(f"without {method}")

    @contextlib.contextmanager
    def drawing(self, slides: int) -> Iterator[Any]:
        self.parts.append(f"drawing {slides}")
        yield lambda slide_id: None

    @contextlib.contextmanager
    def training(self, method: str) -> Iterator[NullTrainingWatcher]:
        self.parts.append(f"training {method}")
        yield NullTrainingWatcher()

    @contextlib.contextmanager
    def segmenting(self, method: str) -> Iterator[NullBatchWatcher]:
        self.parts.append(f"segmenting {method}")
        yield NullBatchWatcher()


def test_methods_are_those_of_the_study_of_glas_but_shorter(demo: ModuleType) -> None:
    uniform, joint, dense = (demo.glas_config(method, seed=3) for method in ("uniform", "joint", "dense"))
    assert (uniform.sampling.density, joint.sampling.density) == ("uniform", "learned")
    for config in (uniform, joint):
        assert config.sampling.budget == (24, 113)
        assert config.networks.segmentation.name == "monai:DynUNet"
    for config in (uniform, joint, dense):
        assert (config.seed, config.training.threads, config.augmentation.stain_jitter) == (3, 1, 0.05)
    assert dense.networks.pretrained == "efficientnet-lite0"
    assert (dense.blocks.finest_um, dense.blocks.levels, dense.blocks.label_px) == (5.0, 1, 2)


def test_a_folder_of_images_becomes_a_page_that_says_whose_they_are(
    demo: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "METHODS", ["joint"])  # one is enough, and takes half the time
    (tmp_path / "glas").mkdir()
    glas_folder(tmp_path / "glas")
    out, told = tmp_path / "out", Told()
    result = demo.run_glas_demo(tmp_path / "glas", out, changes=FAST, watcher=told, **SMALL)
    assert told.parts == [
        "without dense", "drawing 8", "training joint", "segmenting joint"
    ]  # fmt: skip
    assert result.finished
    assert result.page == out / "report.html"
    page = result.page.read_text()
    assert "GlaS images are for research only. So are this page and its pictures" in page
    assert re.search(r"3 slides of \d patients train each method, 2 slides of 2 patients choose", page)
    assert "research only, no commercial use (GlaS challenge) (8 slides)" in page
    assert "GlaS challenge" in (out / "runs" / "joint" / "best.json").read_text()


def test_a_folder_that_is_none_is_refused_before_anything_is_made(demo: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such folder"):
        demo.run_glas_demo(tmp_path / "glas", tmp_path / "out", watcher=Told())
    assert not (tmp_path / "out").exists()


def test_the_real_images_are_split_by_patient(demo: ModuleType, shared_data: Path) -> None:
    if not (shared_data / "glas" / "grade.csv").is_file():
        pytest.skip(f"no GlaS images in {shared_data}; set WSI_DEFORM_DATA to run this test")
    biopsies = importlib.import_module("pipelines.glas.biopsies")
    planned = biopsies.plan_biopsies(demo.read_glas(shared_data / "glas"), demo.SLIDES, seed=0)
    patients = {split: {each.patient for each in planned if each.split == split} for split in demo.SLIDES}
    assert {split: len(its) for split, its in patients.items()} == {"train": 7, "val": 2, "test": 5}
    assert len(set.union(*patients.values())) == 14


@pytest.mark.skipif(shutil.which("make") is None, reason="no make")
def test_make_demo_goes_on_to_real_tissue_where_a_folder_of_it_is_named() -> None:
    def commands(*given: str) -> list[str]:
        done = subprocess.run(
            ["make", "--dry-run", "--always-make", "--old-file=.venv", "demo", *given],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        return [line for line in done.stdout.splitlines() if "demo" in line]

    drawn = ".venv/bin/wsi-deform demo --out demo"
    assert commands() == [drawn]
    assert commands("GLAS=/data/my glas") == [
        drawn, '.venv/bin/python -m pipelines.glas.demo --images "/data/my glas" --out demo/glas'
    ]  # fmt: skip
