"""Who may read what the program writes: as the umask says, like any new file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_study import SIZE, tiny_model

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.config import read_config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.drawn.study import draw_study
from wsi_deform.evaluate.masks import evaluate_masks
from wsi_deform.evaluate.tables import write_evaluation
from wsi_deform.export.folder import export_model
from wsi_deform.files import write_aside
from wsi_deform.manifest.read import read_manifest
from wsi_deform.report.folder import report_folder
from wsi_deform.slide_results import WantedOutputs
from wsi_deform.train.loop import train

TINY = (
    "sampling.budget=[12, 48]",
    "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}",
    "training={epochs: 1, validate_every: 1, batch: 2, threads: 1, keep: 1, pictures: 1}",
)


pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def rights_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("mask", "rights"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_a_model_has_the_rights_of_any_new_file(tmp_path: Path, mask: int, rights: int) -> None:
    with umask(mask):
        tiny_model(tmp_path / "run", ClassTable.from_names(["background", "gland"]))
    assert {path.name: rights_of(path) for path in (tmp_path / "run").iterdir()} == {
        "best.safetensors": rights,
        "best.json": rights,
    }


def test_all_files_of_a_run_of_masks_and_of_an_export_follow_the_umask(tmp_path: Path) -> None:
    with umask(0o027):
        written_by_everything(tmp_path / "all")
    found = {path: rights_of(path) for path in (tmp_path / "all").rglob("*")}
    wrong = [
        f"{path.relative_to(tmp_path)} {rights:o}"
        for path, rights in found.items()
        if rights != (0o750 if path.is_dir() else 0o640)
    ]
    assert wrong == []
    names = {path.name for path in found}
    assert names >= {"best.safetensors", "last.json", "last.md", "checkpoint.safetensors", "log.csv"}
    assert names >= {"epoch-0001.safetensors", "measurements.csv", "summary.md", "report.html"}
    assert not [name for name in names if "aside" in name]


def written_by_everything(folder: Path) -> None:
    drawn = draw_study(folder, train=2, val=1, test=1, size=SIZE, mpp=0.5, slides_per_patient=1)
    manifest, classes = read_manifest(drawn.manifest), read_class_table(drawn.classes)
    run, out = folder / "run", folder / "out"
    train(read_config(changes=TINY), manifest, classes, run)
    sources = slide_sources(drawn.manifest, out=out, split="test")
    batch = segment_slides(
        sources, run, out, device="cpu", wanted=WantedOutputs(probabilities=True, footprint=True)
    )
    assert len(batch.of("done")) == 1
    write_evaluation(
        evaluate_masks(manifest.of_split("test"), out, classes), out / "evaluation", provenance={}
    )
    export_model(run, format="torchscript")
    report_folder(run)
    report_folder(out)


def test_rights_that_a_writer_chose_to_share_are_kept(tmp_path: Path) -> None:
    with write_aside(tmp_path / "a.txt") as aside:
        aside.write_text("a")
        aside.chmod(0o640)
    assert rights_of(tmp_path / "a.txt") == 0o640
