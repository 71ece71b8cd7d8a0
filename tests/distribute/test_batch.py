"""Many slides: good ones, bad ones, done ones, and what is left behind."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from distributed import LocalCluster
from PIL import Image
from tiny_study import MPP, SIZE, tiny_model, tiny_study

import wsi_deform.slide_files as outputs_module
from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.distribute import turn as turn_module
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.models import model_sha256
from wsi_deform.distribute.outcome import Batch, NullWatcher
from wsi_deform.distribute.sources import SlideSource, slide_sources
from wsi_deform.distribute.staging import staging
from wsi_deform.distribute.workers import segmented_by_workers
from wsi_deform.errors import ModelError, SlideError
from wsi_deform.geometry import Region
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import read_samples
from wsi_deform.model_file import find_model, load_model
from wsi_deform.segment import segment_slide
from wsi_deform.slide.open import open_slide
from wsi_deform.slide_results import WantedOutputs


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


class Log(NullWatcher):
    """Notes which slides were worked on."""

    def __init__(self) -> None:
        self.worked: list[str] = []
        self.begun: list[str] = []
        self.fields: list[tuple[int, int]] = []

    def slide(self, slide_id: str) -> None:
        self.worked.append(slide_id)

    def started(self, slide_id: str) -> None:
        self.begun.append(slide_id)

    def field(self, done: int, total: int) -> None:
        self.fields.append((done, total))


def run(slides: Path, study: Path, out: Path, **options: Any) -> tuple[Batch, Log]:
    log = Log()
    mpp = options.pop("mpp", None)
    model = options.pop("model", study / "run")
    batch = segment_slides(
        slide_sources(slides, out=out, mpp=mpp), model, out, device="cpu", watcher=log, **options
    )
    return batch, log


def without_um(run: Path, copy: Path) -> Path:
    """A copy of a run whose model has no length in um, so that slides without mpp will do."""
    shutil.copytree(run, copy)
    about = json.loads((copy / "best.json").read_text())
    about["config"]["fields"]["side_um"] = about["config"]["sampling"]["coarsest_um"] = None
    (copy / "best.json").write_text(json.dumps(about))
    return copy


def outcomes(batch: Batch) -> dict[str, str]:
    return {outcome.slide_id: outcome.status for outcome in batch.outcomes}


def files(out: Path) -> set[str]:
    return {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}


def test_every_slide_gets_its_outputs_and_nothing_else_is_left(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    batch, log = run(slides, study, out)
    assert outcomes(batch) == {"a": "done", "b": "done"}
    assert log.worked == ["a", "b"]
    assert log.fields == [(1, 1), (1, 1)]
    record = batch.record.relative_to(out.absolute()).as_posix()
    per_slide = {
        pattern.format(name)
        for name in "ab"
        for pattern in (
            "masks/{}.ome.tif",
            "overlays/{}.jpg",
            "samples/{}.npz",
            "states/{}.json",
            "geojson/{}.geojson.gz",
        )
    }
    assert files(out) == per_slide | {
        ".folder.json",
        "classes.json",
        "measurements.csv",
        "summary.md",
        record,
    }
    assert read_class_table(out / "classes.json") == load_model(study / "run").classes
    with Image.open(out / "overlays" / "a.jpg") as overlay:
        # A title of 32 rows; bar and legend in rows of 20 px and a margin.
        assert overlay.size == (SIZE.width, 32 + SIZE.height + 2 * 20 + 6)
    about = json.loads(batch.record.read_text())
    assert about["complete"] is True
    assert [each["outcome"] for each in about["slides"]] == ["done", "done"]
    assert about["provenance"]["packages"]["torch"]


def test_seconds_are_those_from_start_to_end_of_each_slide(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 5000.0
    real = outputs_module.write_mask

    def slow(path: Path, *args: Any, **options: Any) -> None:
        nonlocal now
        now += 7.5 if path.name == "a.ome.tif" else 2.25
        real(path, *args, **options)

    monkeypatch.setattr(outputs_module, "write_mask", slow)
    monkeypatch.setattr(turn_module, "time", SimpleNamespace(monotonic=lambda: now))
    out = tmp_path / "out"
    batch, _ = run(slides, study, out)
    assert [state.seconds for state in Ledger(MaskFolder(out)).all()] == [7.5, 2.25]
    assert [each["seconds"] for each in json.loads(batch.record.read_text())["slides"]] == [7.5, 2.25]


def test_mask_and_samples_are_what_the_method_says(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    segmented = segment_slide(open_slide(slides / "a.tif"), load_model(study / "run"))
    expected = segmented.reverse().region(Region.whole(SIZE))
    assert len(np.unique(expected)) > 1
    with tifffile.TiffFile(out / "masks" / "a.ome.tif") as tif:
        np.testing.assert_array_equal(tif.pages[0].asarray(), expected)
        found = re.search(r'PhysicalSizeX="([0-9.]+)"', str(tif.pages[0].description))
        assert found is not None
        assert float(found[1]) == pytest.approx(MPP, rel=1e-3)
    samples = read_samples(out / "samples" / "a.npz")
    np.testing.assert_array_equal(samples.reverse().region(Region.whole(SIZE)), expected)
    assert np.abs(samples.points_px - segmented.fields[0].points_px).max() <= 1 / 512
    np.testing.assert_array_equal(samples.labels, segmented.fields[0].labels)


def test_measurements_add_up_to_the_slide(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    names = load_model(study / "run").classes.names
    with (out / "measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["slide"], row["class"]) for row in rows] == [(s, n) for s in "ab" for n in names]
    for slide_id in "ab":
        own = [row for row in rows if row["slide"] == slide_id]
        mask = tifffile.imread(out / "masks" / f"{slide_id}.ome.tif")
        assert [int(row["pixels"]) for row in own] == np.bincount(mask.ravel(), minlength=len(names)).tolist()
        assert sum(float(row["mm2"]) for row in own) == pytest.approx(SIZE.area * MPP**2 / 1e6, rel=1e-3)
        assert sum(float(row["share_of_slide"]) for row in own) == pytest.approx(1)


def test_a_slide_without_mpp_has_no_area(study: Path, slides: Path, tmp_path: Path) -> None:
    image = tifffile.imread(slides / "a.tif")
    tifffile.imwrite(slides / "a.tif", image, tile=(256, 256), photometric="rgb", metadata=None)
    (slides / "b.tif").unlink()
    out = tmp_path / "out"
    batch, _ = run(slides, study, out)
    assert outcomes(batch) == {"a": "failed"}
    assert "fields.side_um 2048 and sampling.coarsest_um 16" in batch.outcomes[0].reason
    batch, _ = run(slides, study, out, model=without_um(study / "run", tmp_path / "px"))
    assert outcomes(batch) == {"a": "done"}
    assert "no mpp in file or manifest: nothing tells" in (out / "summary.md").read_text()
    with (out / "measurements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["mm2"] for row in rows} == {""}
    assert sum(int(row["pixels"]) for row in rows) == SIZE.area
    run(slides, study, out, mpp=0.4)
    with (out / "measurements.csv").open() as file:
        total = sum(float(row["mm2"]) for row in csv.DictReader(file))
    assert total == pytest.approx(SIZE.area * 0.16 / 1e6)


def test_bad_slides_fail_with_a_reason_and_the_rest_is_done(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    whole = (slides / "a.tif").read_bytes()
    (slides / "0-cut.tif").write_bytes(whole[: len(whole) // 2])
    (slides / "0-text.svs").write_text("not a slide")
    (slides / "0-empty.ndpi").write_bytes(b"")
    (slides / "notes.txt").write_text("ignored")
    out = tmp_path / "out"
    batch, _ = run(slides, study, out)
    assert outcomes(batch) == {
        "0-cut": "failed",
        "0-empty": "failed",
        "0-text": "failed",
        "a": "done",
        "b": "done",
    }
    assert {path.name for path in (out / "masks").iterdir()} == {"a.ome.tif", "b.ome.tif"}
    assert {path.name for path in (out / "samples").iterdir()} == {"a.npz", "b.npz"}
    summary = (out / "summary.md").read_text()
    assert "2 done, 0 skipped, 3 failed" in summary
    for outcome in batch.of("failed"):
        assert outcome.slide.name in outcome.reason
        assert " ".join(outcome.reason.split()).replace("|", "\\|") in summary
        state = Ledger(MaskFolder(out)).read(outcome.slide_id)
        assert state.status == "failed"
        assert state.error == outcome.reason
        assert not state.traceback  # a SlideError is foreseen


def test_a_slide_of_far_too_other_mpp_is_remarked_upon(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    batch, _ = run(slides, study, out, mpp=8.0)
    assert outcomes(batch) == {"a": "done", "b": "done"}
    assert "8 um per pixel, but the model was trained at 0.5" in batch.outcomes[0].reason
    assert "do not trust the mask" in (out / "summary.md").read_text()


def test_an_error_that_nobody_foresaw_is_recorded_with_its_traceback(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = outputs_module.write_mask

    def broken(path: Path, *args: Any, **options: Any) -> None:
        if path.name == "a.ome.tif":
            raise ZeroDivisionError("oops")
        real(path, *args, **options)

    monkeypatch.setattr(outputs_module, "write_mask", broken)
    out = tmp_path / "out"
    batch, _ = run(slides, study, out)
    assert outcomes(batch) == {"a": "failed", "b": "done"}
    state = Ledger(MaskFolder(out)).read("a")
    assert "ZeroDivisionError: oops" in state.error
    assert "in broken" in state.traceback
    assert not (out / "samples" / "a.npz").exists()


def test_what_is_done_is_skipped_and_what_failed_is_tried_again(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    whole = (slides / "b.tif").read_bytes()
    (slides / "b.tif").write_bytes(b"")
    out = tmp_path / "out"
    batch, _ = run(slides, study, out)
    assert outcomes(batch) == {"a": "done", "b": "failed"}
    written = (out / "masks" / "a.ome.tif").stat().st_mtime_ns
    (slides / "b.tif").write_bytes(whole)
    batch, log = run(slides, study, out)
    assert outcomes(batch) == {"a": "skipped", "b": "done"}
    assert log.worked == ["b"]
    assert (out / "masks" / "a.ome.tif").stat().st_mtime_ns == written
    assert len(list((out / "runs").iterdir())) == 2
    with (out / "measurements.csv").open() as file:
        assert {row["slide"] for row in csv.DictReader(file)} == {"a", "b"}
    _, log = run(slides, study, out, overwrite=True)
    assert log.worked == ["a", "b"]


def test_another_model_or_a_missing_mask_is_done_again(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    (out / "masks" / "b.ome.tif").unlink()
    _, log = run(slides, study, out)
    assert log.worked == ["b"]
    other = tiny_model(tmp_path / "other", study / "classes.yaml", seed=1)
    _, log = run(slides, study, out, model=other)
    assert log.worked == ["a", "b"]
    _, log = run(slides, study, out, model=other)
    assert log.worked == []


def test_masks_of_another_model_are_named_in_the_summary(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    other = tiny_model(tmp_path / "other", study / "classes.yaml", seed=1)
    run(slides / "a.tif", study, out, model=other)
    assert "Masks of another model lie in this folder: b." in (out / "summary.md").read_text()


def test_a_slide_that_was_cut_off_is_done_again(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    ledger = Ledger(MaskFolder(out))
    before = files(out)
    # The process of this state is long gone, and the masks of its run are not whole.
    done = ledger.read("a")
    ledger.write(dataclasses.replace(done, status="running", pid=2**22 + 1, deaths=0))
    with staging(MaskFolder(out), "a") as made:
        left = MaskFolder(out).aside / made.path.name
    (left / "masks").mkdir(parents=True)
    (left / "masks" / "a.ome.tif").write_bytes(b"half")
    _, log = run(slides, study, out)
    assert log.worked == ["a"]
    assert ledger.read("a").status == "done"
    assert {name for name in files(out) if not name.startswith("runs/")} == {
        name for name in before if not name.startswith("runs/")
    }


def test_an_interrupt_leaves_consistent_states(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = outputs_module.write_mask

    def interrupted(path: Path, *args: Any, **options: Any) -> None:
        real(path, *args, **options)
        if path.name == "b.ome.tif":
            raise KeyboardInterrupt

    monkeypatch.setattr(outputs_module, "write_mask", interrupted)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(slides, study, out)
    ledger = Ledger(MaskFolder(out))
    assert [ledger.read(name).status for name in "ab"] == ["done", "not_started"]
    assert {path.name for path in (out / "masks").iterdir()} == {"a.ome.tif"}
    about = json.loads(next((out / "runs").iterdir()).read_text())
    assert about["complete"] is False
    assert about["left"] == ["b"]
    assert "The same command goes on" in (out / "summary.md").read_text()
    monkeypatch.setattr(outputs_module, "write_mask", real)
    _, log = run(slides, study, out)
    assert log.worked == ["b"]


def test_slides_of_one_stem_do_not_overwrite_each_other(slides: Path, study: Path, tmp_path: Path) -> None:
    (slides / "b.tif").rename(slides / "a.tiff")
    out = tmp_path / "out"
    batch, _ = run(slides, study, out)
    assert outcomes(batch) == {"a.tif": "done", "a.tiff": "done"}
    assert {path.name for path in (out / "masks").iterdir()} == {"a.tif.ome.tif", "a.tiff.ome.tif"}
    masks = [tifffile.imread(path) for path in sorted((out / "masks").iterdir())]
    assert (masks[0] != masks[1]).any()


def test_masks_of_other_classes_must_not_lie_in_one_folder(slides: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(slides, study, out)
    other = tiny_model(tmp_path / "other", ClassTable.from_names(["background", "tumour"]))
    with pytest.raises(
        ModelError, match=r"classes background, .*the model has background, tumour.*another --out"
    ):
        run(slides, study, out, model=other, overwrite=True)
    assert Ledger(MaskFolder(out)).read("a").status == "done"


def test_a_bad_model_is_refused_before_anything_is_written(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ModelError, match="does not exist"):
        run(slides, slides, out, model=tmp_path / "none")
    assert not out.exists()


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match='device "nonsense"'):
        segment_slides(
            [SlideSource(path=slides, slide_id="a")], study / "run", tmp_path / "out", device="nonsense"
        )
    assert not (tmp_path / "out").exists()


def test_a_worker_process_does_the_same_as_the_loop(slides: Path, study: Path, tmp_path: Path) -> None:
    (slides / "b.tif").write_text("not a slide")
    run(slides, study, tmp_path / "here")
    model = find_model(study / "run")
    (tmp_path / "there").mkdir()
    jobs = [
        SlideJob(source=source, model=model, model_sha256=model_sha256(model), out=tmp_path / "there")
        for source in slide_sources(slides, out=tmp_path / "there")
    ]
    states = {
        job.slide_id: outcome.state for job, outcome in segmented_by_workers(jobs, workers=1, scheduler=None)
    }
    assert {name: state.status for name, state in states.items()} == {"a": "done", "b": "failed"}
    assert states["a"].pid != os.getpid()
    assert states["a"] == Ledger(MaskFolder(tmp_path / "there")).read("a")
    mask = MaskFolder(tmp_path / "here").mask("a").read_bytes()
    assert mask == MaskFolder(tmp_path / "there").mask("a").read_bytes()


def test_a_scheduler_s_workers_do_the_slides(slides: Path, study: Path, tmp_path: Path) -> None:
    (slides / "c.svs").write_text("not a slide")
    cluster = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", protocol="tcp"
    )
    with cluster:
        batch, log = run(slides, study, tmp_path / "out", scheduler=cluster.scheduler_address)
    assert outcomes(batch) == {"a": "done", "b": "done", "c": "failed"}
    assert log.worked == []
    assert sorted(log.begun) == ["a", "b", "c"]
    assert {path.name for path in (tmp_path / "out" / "masks").iterdir()} == {"a.ome.tif", "b.ome.tif"}


def test_a_scheduler_that_is_not_there_is_an_error(
    slides: Path, study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsi_deform.distribute.workers.CONNECT_TIMEOUT_S", 0.5)
    with pytest.raises(SlideError, match=r"scheduler tcp://127\.0\.0\.1:9: cannot be reached"):
        run(slides, study, tmp_path / "out", scheduler="tcp://127.0.0.1:9")


def test_linear_masks_probability_and_footprint_maps_on_demand(
    slides: Path, study: Path, tmp_path: Path
) -> None:
    plain, more = tmp_path / "plain", tmp_path / "more"
    run(slides, study, plain, wanted=WantedOutputs(interpolation="nearest"))
    wanted = WantedOutputs(interpolation="linear", probabilities=True, footprint=True)
    batch, _ = run(slides, study, more, wanted=wanted)
    folder = MaskFolder(more)
    for outcome in batch.of("done"):
        with tifffile.TiffFile(folder.probabilities(outcome.slide_id)) as opened:
            sums = opened.series[0].asarray().astype(int).sum(axis=0)
            assert abs(sums - 255).max() <= 5
        with tifffile.TiffFile(folder.footprint(outcome.slide_id)) as opened:
            assert opened.series[0].asarray().min() > 0
        near = tifffile.imread(MaskFolder(plain).mask(outcome.slide_id))
        linear = tifffile.imread(folder.mask(outcome.slide_id))
        assert near.shape == linear.shape
        assert (near != linear).any()
        # The samples on disk know how they were put back.
        back = read_samples(folder.samples(outcome.slide_id)).reverse()
        assert (back.region(Region.whole(back.size)) == linear).all()
    assert not (plain / "probabilities").exists()
    again, _ = run(slides, study, more, wanted=wanted)
    assert not again.of("done")
    # A call that wants fewer maps finds all that it wants; the others stay.
    fewer, _ = run(slides, study, more, wanted=WantedOutputs(interpolation="linear"))
    assert not fewer.of("done")
    assert folder.probabilities("a").is_file()
    nearest, _ = run(slides, study, more, wanted=WantedOutputs(interpolation="nearest"))
    assert [outcome.reason for outcome in nearest.of("done")] == ["done again: other settings"] * 2
    assert folder.probabilities("a").is_file()
    assert "footprint, probabilities kept from an earlier run" in folder.summary.read_text()
