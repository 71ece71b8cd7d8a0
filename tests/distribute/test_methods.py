"""Patches and oracles through the whole command: what is written, what is said, and what is done again."""

from __future__ import annotations

import csv
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import typer
from PIL import Image
from tiny_study import MPP, SIZE, tiny_study
from typer.testing import CliRunner

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.cli.segment import segment
from wsi_deform.config import parse_config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.outcome import Batch
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.errors import ConfigError, ManifestError
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import read_samples
from wsi_deform.model import Model
from wsi_deform.model_card import model_card
from wsi_deform.model_file import find_model, load_model, read_model_facts, save_model
from wsi_deform.report.out import report_out
from wsi_deform.segment import segment_slide
from wsi_deform.slide_results import WantedOutputs

PATCHES = PatchSettings(patch_px=64, level=0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn slides with labels, and two untrained models."""
    folder = tmp_path_factory.mktemp("study")
    classes = read_class_table(tiny_study(folder).classes)
    for name, density in (("run", "learned"), ("oracle", "edges")):
        raw = {
            "sampling": {"budget": [12, 48], "density": density},
            "networks": {"segmentation": {"name": "monai:BasicUNet", "features": [4, 4, 4, 4, 4, 4]}},
        }
        torch.manual_seed(1)
        model = Model(config=parse_config(raw, source=name), classes=classes, mpp=MPP)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            save_model(model, folder / name / "best.safetensors", facts={"epoch": 0})
    return folder


def run(study: Path, out: Path, *, model: str, slides: Path | None = None, **options: Any) -> Batch:
    sources = slide_sources(slides or study / "manifest.csv", out=out)
    return segment_slides(sources, study / model, out, device="cpu", **options)


def manifest_with(study: Path, path: Path, change: Any) -> Path:
    """The study's manifest with absolute paths and rows changed."""
    with (study / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["slide"], row["mask"] = str(study / row["slide"]), str(study / row["mask"])
    rows = change(rows)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def ome_of(path: Path) -> str:
    with tifffile.TiffFile(path) as file:
        return str(file.ome_metadata)


def test_patches_are_written_and_said_and_each_method_does_the_folder_again(
    study: Path, tmp_path: Path
) -> None:
    wanted = WantedOutputs(patches=PATCHES, probabilities=True)
    first = run(study, tmp_path, model="run", wanted=wanted)
    folder = MaskFolder(tmp_path)
    assert [outcome.status for outcome in first.outcomes] == ["done"] * 3
    slide_id = first.outcomes[0].slide_id
    assert tifffile.imread(folder.mask(slide_id), level=0).shape == SIZE.shape
    for written in (folder.geojson, folder.overlay, folder.probabilities):
        assert written(slide_id).is_file()
    assert not folder.samples(slide_id).exists()
    state = Ledger(folder).read(slide_id)
    # 640 x 160 px: 13 x 3 patches of 64 px with 48 px steps, fewer where there is glass.
    assert state.method == "patches"
    assert 1 <= state.fields <= 39
    assert state.samples == state.fields * 64 * 64
    assert "Patches, all of whose pixels the network saw" in folder.summary.read_text()
    assert json.loads(first.record.read_text())["slides"][0]["method"] == "patches"
    assert "seen in patches of 64 px at level 0 (1/1), overlap 0.25, gaussian" in first.outcomes[0].reason
    again = run(study, tmp_path, model="run", wanted=wanted)
    assert [outcome.status for outcome in again.outcomes] == ["skipped"] * 3
    for other in (
        WantedOutputs(patches=PatchSettings(patch_px=64, level=0, overlap=0.5)),
        WantedOutputs(),
        wanted,
    ):
        changed = run(study, tmp_path, model="run", wanted=other)
        assert [outcome.status for outcome in changed.outcomes] == ["done"] * 3
        assert changed.outcomes[0].reason.startswith("done again: other settings")
    report = report_out(tmp_path).read_text()
    assert "patches that cover the tissue (the baseline)" in report
    assert "sampling points are not shown" not in report


def test_outlines_of_patches_are_made_again_from_the_mask(study: Path, tmp_path: Path) -> None:
    wanted = WantedOutputs(patches=PATCHES)
    slide_id = run(study, tmp_path, model="run", wanted=wanted).outcomes[0].slide_id
    path = MaskFolder(tmp_path).geojson(slide_id)
    before = path.read_bytes()
    path.unlink()
    outcome = run(study, tmp_path, model="run", wanted=wanted).outcomes[0]
    assert outcome.reason == "made geojson of a mask that was done"
    assert path.read_bytes() == before


def test_patches_have_no_footprint_and_are_not_put_back() -> None:
    with pytest.raises(ConfigError, match="a footprint map of patches"):
        WantedOutputs(patches=PATCHES, footprint=True)
    with pytest.raises(ConfigError, match="interpolation linear of patches"):
        WantedOutputs(patches=PATCHES, interpolation="linear")


def test_the_command_line_of_patches(study: Path, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(segment)
    call = ["--slides", study / "manifest.csv", "--model", study / "run", "--device", "cpu"]

    def done(*more: object) -> Any:
        return CliRunner().invoke(app, [str(each) for each in (*call, "--out", tmp_path, *more)])

    found = done("--method", "patches", "--patch-px", 64, "--patch-mpp", MPP, "--overlap", 0.5, "--limit", 1)
    assert found.exit_code == 0, found.output
    assert "patches of 64 px at level 0 (1/1), overlap 0.5, gaussian" in " ".join(found.output.split())
    assert done("--method", "pach").exit_code == 2
    assert done("--patch-px", 64).exit_code == 2
    assert done("--overlap", 0.5).exit_code == 2
    assert done("--patch-level", 1, "--method", "sampled").exit_code == 2


def test_an_oracle_is_shown_the_labels_and_called_one_everywhere(study: Path, tmp_path: Path) -> None:
    batch = run(study, tmp_path, model="oracle")
    folder = MaskFolder(tmp_path)
    assert [outcome.status for outcome in batch.outcomes] == ["done"] * 3
    assert all("oracle: sampled where its own labels have borders" in each.reason for each in batch.outcomes)
    slide_id = batch.outcomes[0].slide_id
    state = Ledger(folder).read(slide_id)
    assert state.method == "edge oracle"
    assert state.remark.startswith("oracle: ")
    summary = folder.summary.read_text()
    assert "Edge oracle, sampled where the labels of the slide itself have borders" in summary
    assert "edge oracle: oracle: sampled where its own labels have borders" in ome_of(folder.mask(slide_id))
    report = report_out(tmp_path).read_text()
    assert "an oracle, for comparison and not for use" in report
    assert "placed by the labels of the slide itself" in report
    assert json.loads(batch.record.read_text())["slides"][0]["method"] == "edge oracle"
    card = model_card(read_model_facts(find_model(study / "oracle")))
    assert "an oracle for comparison, not for use" in card
    # The samples are those that the method places by these very labels.
    from wsi_deform.data.study import open_labelled
    from wsi_deform.manifest.read import read_manifest

    row = read_manifest(study / "manifest.csv").rows[0]
    model = load_model(find_model(study / "oracle"))
    slide, labels = open_labelled(row, model.classes)
    points = segment_slide(slide, model, labels=labels).fields[0].points_px
    stored = read_samples(folder.samples(row.slide_id)).points_px
    np.testing.assert_allclose(np.sort(stored, axis=0), np.sort(points, axis=0), atol=0.01)


def test_changed_labels_of_an_oracle_are_done_again_and_of_others_not(study: Path, tmp_path: Path) -> None:
    def own(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        shutil.copy(rows[0]["mask"], tmp_path / "labels.tif")
        rows[0]["mask"] = str(tmp_path / "labels.tif")
        return rows[:1]

    slides = manifest_with(study, tmp_path / "m.csv", own)
    for model in ("oracle", "run"):
        assert run(study, tmp_path / model, model=model, slides=slides).outcomes[0].status == "done"
        assert run(study, tmp_path / model, model=model, slides=slides).outcomes[0].status == "skipped"
    labels = tifffile.imread(tmp_path / "labels.tif")
    tifffile.imwrite(tmp_path / "labels.tif", labels[:, ::-1])
    again = run(study, tmp_path / "oracle", model="oracle", slides=slides).outcomes[0]
    assert again.status == "done"
    assert again.reason.startswith("done again: another file (labels ")
    assert run(study, tmp_path / "run", model="run", slides=slides).outcomes[0].status == "skipped"


def test_a_row_without_labels_fails_alone(study: Path, tmp_path: Path) -> None:
    def without(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        rows[1]["mask"] = ""
        rows[2]["mask"] = str(tmp_path / "gone.tif")
        for row in rows:
            row["split"] = ""
        return rows

    batch = run(
        study, tmp_path / "out", model="oracle", slides=manifest_with(study, tmp_path / "m.csv", without)
    )
    assert [outcome.status for outcome in batch.outcomes] == ["done", "failed", "failed"]
    assert "no labels: the column mask of its manifest row is empty" in batch.outcomes[1].reason
    assert "gone.tif: cannot be read" in batch.outcomes[2].reason
    assert "labels" in batch.outcomes[2].reason


def test_a_folder_without_labels_is_refused_at_once_but_not_for_patches(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"an oracle.*Found 3 slides without labels.*column mask"):
        run(study, tmp_path / "out", model="oracle", slides=study / "slides")
    assert not (tmp_path / "out").exists()
    wanted = WantedOutputs(patches=PATCHES)
    batch = run(study, tmp_path / "out", model="oracle", slides=study / "slides", wanted=wanted)
    assert [outcome.status for outcome in batch.outcomes] == ["done"] * 3
    assert Ledger(MaskFolder(tmp_path / "out")).read(batch.outcomes[0].slide_id).method == "patches"


def test_workers_carry_labels_and_method(study: Path, tmp_path: Path) -> None:
    batch = run(study, tmp_path / "oracle", model="oracle", workers=2)
    assert [outcome.state.method for outcome in batch.outcomes] == ["edge oracle"] * 3
    alone = run(study, tmp_path / "alone", model="oracle")
    for one, two in zip(batch.outcomes, alone.outcomes, strict=True):
        masks = [
            tifffile.imread(MaskFolder(tmp_path / name).mask(each.slide_id))
            for name, each in (("oracle", one), ("alone", two))
        ]
        assert (masks[0] == masks[1]).all()


def test_labels_of_another_size_fail_alone_and_name_the_mask(study: Path, tmp_path: Path) -> None:
    def wrong(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "small.png")
        rows[0]["mask"] = str(tmp_path / "small.png")
        return rows[:2]

    batch = run(
        study, tmp_path / "out", model="oracle", slides=manifest_with(study, tmp_path / "m.csv", wrong)
    )
    assert [outcome.status for outcome in batch.outcomes] == ["failed", "done"]
    assert "small.png" in batch.outcomes[0].reason
