from __future__ import annotations

import argparse
import csv
import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.config import read_config
from wsi_deform.drawn.study import write_labels, write_slide
from wsi_deform.manifest.rows import Manifest, ManifestRow, write_manifest

ROOT = Path(__file__).parents[2]
SMALL = (
    "networks.segmentation={name: hrnetv2, width: 18, stem_stride: 2}",
    "networks.deformation.widths=[4]",
    "training.threads=1",
    "device=cpu",
)


@pytest.fixture(scope="module")
def study() -> ModuleType:
    folder = str(ROOT / "pipelines" / "glas")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("study")
    finally:
        sys.path.remove(folder)


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    folder = tmp_path / "glas"
    rng = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(("train", "train", "val", "test")):
        labels = np.zeros((128, 512), np.uint8)
        labels[30:90, 100:220], labels[40:100, 300:420] = 1, 2
        colours = np.array([(240, 240, 240), (200, 120, 170), (120, 60, 150)], np.uint8)
        image = colours[labels] - rng.integers(0, 12, (*labels.shape, 3), np.uint8)
        files = {"slide": folder / "slides" / f"s{number}.tif", "mask": folder / "labels" / f"s{number}.tif"}
        write_slide(files["slide"], image, mpp=0.62)
        write_labels(files["mask"], labels, mpp=0.62)
        rows.append(ManifestRow(slide_id=f"s{number}", patient=f"p{number}", split=split, **files))
    write_class_table(
        ClassTable.from_names(["background", "benign gland", "malignant gland"]), folder / "classes.yaml"
    )
    write_manifest(Manifest(rows=tuple(rows), folder=folder), folder / "manifest.csv")
    return folder


def row(density: str, seed: int, miou: float, budget: str = "24x113") -> dict[str, object]:
    return {
        "budget": budget,
        "density": density,
        "seed": seed,
        "pixels_per_sample": 6932,
        "miou": miou,
        "miou_without_background": miou - 0.1,
        "gland_iou": 0.5,
        "sampled_miou": None,
        "training_seconds": 90.0,
    }


def test_study_runs_writes_its_table_and_goes_on_where_it_was(
    study: ModuleType, slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    command = [
        "--slides",
        str(slides),
        "--out",
        str(out),
        "--budgets",
        "8x32",
        "--seeds",
        "0",
        "--epochs",
        "1",
    ]
    for change in SMALL:
        command += ["--set", change]
    assert study.main([*command, "--densities", "uniform"]) == 0
    assert study.main(command) == 0
    said = capsys.readouterr().out
    assert said.count("uniform-8x32-seed0: segmenting") == 1
    assert "uniform-8x32-seed0: done before" in said
    with (out / "results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [each["density"] for each in rows] == ["uniform", "learned"]
    assert {each["pixels_per_sample"] for each in rows} == {"256"}
    assert all(0 <= float(each["miou"]) <= 1 and float(each["sampled_miou"]) > 0.3 for each in rows)
    table = (out / "results.md").read_text(encoding="utf-8")
    assert f"| 8x32 | 256 | uniform | {float(rows[0]['miou']):.3f} |" in table
    gain = 100 * (float(rows[1]["miou"]) - float(rows[0]["miou"]))
    assert f"| {gain:+.1f} |" in table


def test_table_averages_over_seeds_and_pairs_them_for_the_gain(study: ModuleType) -> None:
    rows = [
        row("uniform", 0, 0.40),
        row("uniform", 1, 0.44),
        row("learned", 0, 0.45),
        row("learned", 1, 0.47),
    ]
    rows.append(row("learned", 2, 0.9))
    table = study.results_table(rows)
    assert table.rows[0][:4] == ("24x113", "6,932", "uniform", "0.420 ± 0.020 (2)")
    assert table.rows[0][5:] == ("0.500 ± 0.000 (2)", "–", "1 min 30 s", "")
    assert table.rows[1][-1] == "+4.0 (+5.0, +3.0)"


def test_budgets_are_short_by_long(study: ModuleType) -> None:
    assert study.budget_of("24x113") == (24, 113)
    for wrong in ("24", "113x24", "0x3", "axb"):
        with pytest.raises(argparse.ArgumentTypeError, match="needed SHORTxLONG"):
            study.budget_of(wrong)


def test_folder_without_a_manifest_is_named(
    study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.main(["--slides", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert f"--slides {tmp_path}: no manifest.csv in it" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_configuration_of_the_study_is_complete_and_takes_one_field_per_slide(study: ModuleType) -> None:
    config = read_config(ROOT / "configs" / "glas.yaml")
    assert config.fields.side_um is None
    own = study.Combination(budget=(48, 226), density="uniform", seed=3).config(
        study.CONFIG, ["training.epochs=7"]
    )
    assert own.sampling.budget == (48, 226)
    assert (own.sampling.density, own.seed, own.training.epochs) == ("uniform", 3, 7)
    assert own.augmentation == config.augmentation
