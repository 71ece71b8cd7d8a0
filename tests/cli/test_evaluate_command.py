"""The command `wsi-deform evaluate`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from tiny_study import tiny_model, tiny_study
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.cli.evaluate import evaluate
from wsi_deform.cli.segment import segment
from wsi_deform.errors import AnnotationError, WsiDeformError
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.manifest.read import read_manifest

app = typer.Typer()
app.command()(segment)
app.command()(evaluate)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    call("segment", "--slides", folder / "manifest.csv", "--model", folder / "run", "--out", folder / "out")
    return folder


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, WsiDeformError):
        raise done.exception
    return done.exit_code, done.output


def test_masks_of_the_test_split_are_measured_from_their_files(study: Path) -> None:
    code, output = call("evaluate", "--slides", study / "manifest.csv", "--masks", study / "out")
    assert code == 0
    assert "2 slides, split test" in output
    held = json.loads((study / "out" / "evaluation.json").read_text())
    assert (study / "out" / "evaluation.csv").is_file()
    classes = len(held["classes"])
    counts = Confusion.empty(classes)
    for row in read_manifest(study / "manifest.csv").of_split("test"):
        mask = tifffile.imread(study / "out" / "masks" / f"{row.slide_id}.ome.tif")
        assert row.mask is not None
        counts = counts + Confusion.of(tifffile.imread(row.mask), mask, classes)
    np.testing.assert_array_equal(held["pooled"]["predicted"]["confusion"], counts.counts)
    assert f"{counts.miou():.4f}" in output
    for slide in held["slides"]:
        cost = slide["cost"]
        assert cost["samples"] == 12 * 48
        assert cost["read_pixels"] == 2 * 12 * 48
        assert cost["decoded_bytes"] == 3 * cost["decoded_pixels"] > 0
        assert cost["flops"] > 2 * 12 * 48 * 27
        assert cost["peak_memory_bytes"] > 50 << 20
        assert cost["seconds"] > 0
    assert held["measured"]["trimap"]
    assert "objects not touched" in output
    summary = study / "out" / "evaluation" / "test" / "summary.md"
    assert str(summary) in output.replace("\n", "")
    assert "GFLOPs" in summary.read_text(encoding="utf-8")
    # What sampling alone loses is less than what an untrained network loses.
    assert held["pooled"]["sampled"]["miou"] > held["pooled"]["predicted"]["miou"]


def test_a_missing_mask_is_exit_code_1_and_the_rest_is_measured(study: Path, tmp_path: Path) -> None:
    row = read_manifest(study / "manifest.csv").rows[0]
    mask = study / "out" / "masks" / f"{row.slide_id}.ome.tif"
    mask.rename(tmp_path / "moved")
    try:
        code, output = call(
            "evaluate", "--slides", study / "manifest.csv", "--masks", study / "out", "--split", "all",
            "--out", tmp_path / "kept.json", "--measures", "basic",
        )  # fmt: skip
    finally:
        (tmp_path / "moved").rename(mask)
    assert code == 1
    assert f"not measured: {row.slide_id}: mask" in output
    held = json.loads((tmp_path / "kept.json").read_text())
    assert len(held["slides"]) == 2
    assert [each["slide_id"] for each in held["unmeasured"]] == [row.slide_id]
    assert (tmp_path / "kept.csv").is_file()
    assert (tmp_path / "kept" / "all" / "summary.md").is_file()


def test_a_class_table_of_other_classes_is_refused(study: Path, tmp_path: Path) -> None:
    write_class_table(ClassTable.from_names(["background", "tumour"]), tmp_path / "classes.yaml")
    with pytest.raises(AnnotationError, match=r"the labels 2 \(background, tumour\)"):
        call(
            "evaluate", "--slides", study / "manifest.csv", "--masks", study / "out",
            "--classes", tmp_path / "classes.yaml",
        )  # fmt: skip


def test_without_a_table_beside_the_manifest_the_masks_own_is_used(study: Path) -> None:
    (study / "classes.yaml").rename(study / "hidden")
    try:
        code, _ = call("evaluate", "--slides", study / "manifest.csv", "--masks", study / "out")
    finally:
        (study / "hidden").rename(study / "classes.yaml")
    assert code == 0


def test_usage_errors(study: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "--slides", study / "manifest.csv", "--masks", study / "out")
    assert call(*arguments, "--split", "tset")[0] == 2
    assert call(*arguments, "--measures", "some")[0] == 2
    assert call(*arguments, "--out", tmp_path / "a.xlsx")[0] == 2
    with pytest.raises(WsiDeformError, match="no such folder"):
        call("evaluate", "--slides", study / "manifest.csv", "--masks", tmp_path / "none")
