"""What a folder of masks says of itself, and the numbers that decide: made by hand, without a model."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import dask
import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.distribute import out_folder, staging, tables
from wsi_deform.distribute.attempts import forget_attempt, record_death
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.child import _how
from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.lease import leased
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.models import model_sha256
from wsi_deform.distribute.out_folder import check_folder, prepare_folder
from wsi_deform.distribute.outcome import Batch, Outcome
from wsi_deform.distribute.sources import SlideSource, distinct_names, slide_sources
from wsi_deform.distribute.standing import why_again
from wsi_deform.distribute.summary import BatchReport, write_record, write_summary
from wsi_deform.distribute.tables import Tables
from wsi_deform.distribute.turn import segment_to_folder
from wsi_deform.distribute.workers import KEEP_MEMORY
from wsi_deform.errors import MaskError, SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model_file import CHECKSUM
from wsi_deform.slide_results import WantedOutputs, blank_remark, tissue_remark

CLASSES = ClassTable.from_names(["background", "gland"])
DONE = State(
    slide_id="a",
    status="done",
    slide="a.svs",
    model="m1",
    seconds=12.34,
    width_px=1000,
    height_px=800,
    mpp=0.25123456,
    fields=2,
    samples=512,
    tiles=9,
)


def job_of(out: Path, slide_id: str = "a", path: Path | None = None, **changes) -> SlideJob:
    source = SlideSource(path=path or Path(f"{slide_id}.svs"), slide_id=slide_id)
    return SlideJob(source=source, model=Path("best.safetensors"), model_sha256="m1", out=out, **changes)


def outcome_of(state: State, status: str, reason: str = "") -> Outcome:
    return Outcome(
        slide_id=state.slide_id, slide=Path(state.slide), status=status, reason=reason, state=state
    )


def test_a_summary_says_how_far_each_slide_is_with_failures_first(tmp_path):
    folder = MaskFolder(tmp_path)
    kept = replace(DONE, slide_id="d", model="m0", mpp=None, method="patches")
    states = [
        replace(DONE, remark="odd\n colours | of b", earlier={"footprint": "f", "probabilities": "f"}),
        State(slide_id="b", status="not_started"),
        State(slide_id="c", status="running"),
        State(slide_id="d", status="failed", error="slide d: gone", seconds=1.0, kept=kept),
        replace(DONE, slide_id="e", method="edge oracle", model="m0", blank_tiles=3, blank_pixels=12345),
    ]
    for slide_id in "de":
        folder.mask(slide_id).parent.mkdir(exist_ok=True)
        folder.mask(slide_id).touch()
    pipe = State(slide_id="pipe", status="failed", slide="pipe.tif", error="is a pipe")
    outcomes = (
        outcome_of(DONE, "done"),
        outcome_of(states[3], "failed", "slide d: gone"),
        outcome_of(states[4], "skipped", "already done with this model"),
        outcome_of(pipe, "failed", "is a pipe"),
    )
    report = BatchReport(job=job_of(tmp_path), outcomes=outcomes, left=("b", "c"), complete=False)
    write_summary(folder, report, states, Path("runs/20260101.json"))
    assert folder.summary.read_text().splitlines() == [
        "# Segmented slides",
        "",
        "In this folder: 2 done (1 with remarks), 2 failed, 2 not finished.",
        "",
        "Last call: 1 done, 1 skipped, 2 failed, 2 not reached.",
        "",
        "Model: `best.safetensors`. Details: `runs/20260101.json`.",
        "",
        "Stopped before: b, c. The same command goes on.",
        "",
        "Masks of another model lie in this folder: d, e.",
        "",
        "Tiles that could not be decoded were left out, and are unlabelled (255), of: e (3 tiles, 12,345 level-0 px).",
        "",
        "Edge oracle, sampled where the labels of the slide itself have borders (for comparison, not for use): e.",
        "",
        "Patches, all of whose pixels the network saw (the samples below are their pixels): d.",
        "",
        "| slide | state | seconds | size, px | um/px | fields | samples | tiles read | remark |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| d | **failed** | 12.3 | 1000 x 800 | unknown | 2 | 512 | 9 | slide d: gone; the files of an earlier run are "
        "kept |",
        "| pipe | **failed** | 0.0 |  |  |  |  |  | is a pipe |",
        "| a | done | 12.3 | 1000 x 800 | 0.2512 | 2 | 512 | 9 | footprint, probabilities kept from an earlier run, "
        "not made with this mask |",
        "| b | not started | 0.0 |  |  |  |  |  |  |",
        "| c | running | 0.0 |  |  |  |  |  |  |",
        "| e | done | 12.3 | 1000 x 800 | 0.2512 | 2 | 512 | 9 | already done with this model |",
    ]
    write_summary(folder, replace(report, outcomes=(), left=()), states[:1], Path("runs/2.json"))
    assert folder.summary.read_text().splitlines()[2:10] == [
        "In this folder: 1 done (1 with remarks), 0 failed.",
        "",
        "Last call: 0 done, 0 skipped, 0 failed.",
        "",
        "Model: `best.safetensors`. Details: `runs/2.json`.",
        "",
        "| slide | state | seconds | size, px | um/px | fields | samples | tiles read | remark |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    assert (
        folder.summary.read_text()
        .splitlines()[-1]
        .endswith(
            "| odd colours \\| of b; footprint, probabilities kept from an earlier run, not made with this mask |"
        )
    )


def test_a_record_says_what_a_call_did(tmp_path):
    report = BatchReport(
        job=job_of(tmp_path), outcomes=(outcome_of(DONE, "done", "why"),), left=("b",), complete=True
    )
    write_record(tmp_path / "r.json", report, {"seed": 3})
    assert json.loads((tmp_path / "r.json").read_text()) == {
        "provenance": {"seed": 3},
        "complete": True,
        "model": "best.safetensors",
        "model_sha256": "m1",
        "device": "cpu",
        "slides": [
            {
                "slide_id": "a",
                "slide": "a.svs",
                "outcome": "done",
                "reason": "why",
                "method": "sampled",
                "seconds": 12.34,
                "fields": 2,
                "samples": 512,
                "tiles": 9,
                "blank_tiles": 0,
                "blank_pixels": 0,
            }
        ],
        "left": ["b"],
    }
    done = Batch(out=tmp_path, outcomes=report.outcomes, record=tmp_path)
    assert (len(done.of("done")), len(done.of("failed"))) == (1, 0)


def test_records_of_one_second_have_names_of_their_own(tmp_path, monkeypatch):
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    monkeypatch.setattr(tables, "datetime", SimpleNamespace(now=lambda zone: now.astimezone(zone)))
    folder = MaskFolder(tmp_path)
    job = job_of(tmp_path, folder_identity=prepare_folder(folder, CLASSES))
    names = []
    for _ in range(3):
        outcomes = {"a": outcome_of(DONE, "done")}
        written = Tables(Ledger(folder), [job, job_of(tmp_path, "b")], CLASSES, {})
        written.outcomes |= outcomes
        with written.written():
            names.append(written.record.name)
            assert json.loads(written.record.read_text())["left"] == ["a", "b"]
        assert json.loads(written.record.read_text())["left"] == ["b"]
    assert names == ["20260102T030405Z.json", "20260102T030405Z-1.json", "20260102T030405Z-2.json"]


@pytest.mark.parametrize(
    ("code", "said"), [(None, "exit code None"), (0, "exit code 0"), (3, "exit code 3"), (-9, "signal SIGKILL"),
                       (-15, "signal SIGTERM"), (-99, "signal 99")],
)  # fmt: skip
def test_how_a_process_ended_in_words(code, said):
    assert _how(code) == said


def test_a_death_counts_while_slide_and_model_are_the_same(tmp_path):
    ledger, job = Ledger(MaskFolder(tmp_path)), job_of(tmp_path)
    ledger.write(replace(DONE, status="running", fingerprint="f", deaths=1, kept=DONE))
    outcome = record_death(job, "its process died (signal SIGKILL)")
    assert (outcome.status, outcome.state.deaths, outcome.state.kept) == ("failed", 2, DONE)
    assert outcome.reason == (
        "slide a.svs: its process died (signal SIGKILL). Most often memory runs out: use --memory-gib or fewer "
        "--workers, or look at the file. --retry-failed tries it again."
    )
    assert ledger.read("a") == outcome.state
    # Told twice of one death: it is one.
    assert record_death(job, "again").state.deaths == 2
    with leased(ledger.folder.lease("a")):
        taken = record_death(job, "again")
    assert (taken.status, taken.again, taken.reason) == (
        "skipped",
        "taken",
        "another process is working on it",
    )


def test_an_attempt_that_was_ended_from_outside_is_no_death(tmp_path):
    ledger, job = Ledger(MaskFolder(tmp_path)), job_of(tmp_path)
    for status, then in (("running", "not_started"), ("failed", "failed"), ("done", "done")):
        ledger.write(replace(DONE, status=status, deaths=1))
        forget_attempt(job)
        assert (ledger.read("a").status, ledger.read("a").deaths) == (then, 1)
    ledger.write(replace(DONE, status="running"))
    with leased(ledger.folder.lease("a")):
        forget_attempt(job)
    assert ledger.read("a").status == "running"


@pytest.mark.parametrize(
    ("deaths", "changes", "status", "again"),
    [
        # One death: tried again where a process may die.
        (1, {}, "skipped", "suspected"),
        (2, {}, "failed", ""),
        (2, {"retry_failed": True}, "skipped", "suspected"),
        (2, {"overwrite": True}, "skipped", "suspected"),
        (3, {"is_isolated": True}, "failed", ""),
    ],
)
def test_a_slide_that_killed_two_processes_is_not_tried_again_by_itself(
    tmp_path, deaths, changes, status, again
):
    slide = tmp_path / "a.svs"
    slide.write_bytes(b"not read")
    job = job_of(tmp_path, path=slide, **changes)
    Ledger(MaskFolder(tmp_path)).write(State(slide_id="a", fingerprint=job.fingerprint(), deaths=deaths))
    outcome = segment_to_folder(job)
    assert (outcome.status, outcome.again) == (status, again)
    if status == "failed":
        assert outcome.state.deaths == deaths
        assert outcome.reason == (
            f"not tried again: slide {slide}: its process died {deaths} times while it was segmented. "
            "--retry-failed tries it again."
        )


def test_who_works_on_a_slide_is_said_where_it_is_known(tmp_path):
    job, folder = job_of(tmp_path), MaskFolder(tmp_path)
    with leased(folder.lease("a")):
        assert segment_to_folder(job).reason == "another process is working on it"
        Ledger(folder).write(State(slide_id="a", status="running", host="node7", pid=41))
        outcome = segment_to_folder(job)
    assert (outcome.reason, outcome.again) == ("process 41 on node7 is working on it", "taken")


def test_a_folder_for_files_is_tried_a_hundred_times(tmp_path, monkeypatch):
    tries = []

    def vanishing(place, *given, **options):
        if place.name == "place":
            tries.append(place)
            if len(tries) < 100:
                raise FileNotFoundError
        return made(place, *given, **options)

    made = Path.mkdir
    monkeypatch.setattr(Path, "mkdir", vanishing)
    assert staging._made(tmp_path / "aside" / "place").is_dir()
    tries[:] = []
    shutil.rmtree(tmp_path / "aside")
    monkeypatch.setattr(staging, "ATTEMPTS", 99)
    with pytest.raises(FileNotFoundError):
        staging._made(tmp_path / "aside" / "place")
    assert len(tries) == 99


def test_a_small_file_has_a_signature_of_all_of_it(tmp_path):
    for length in (0, 5, 65536, 70000):
        data = bytes(range(256)) * 300
        (tmp_path / "f").write_bytes(data[:length])
        ends = data[:length][:65536] + data[:length][max(0, length - 65536) :]
        assert staging.signature(tmp_path / "f") == f"{length}-{hashlib.sha256(ends).hexdigest()[:24]}"


def test_files_without_a_place_to_go_are_named(tmp_path):
    made, folder = MaskFolder(tmp_path / "made"), MaskFolder(tmp_path / "gone" / "out")
    made.mask("a").parent.mkdir(parents=True)
    made.mask("a").write_bytes(b"mask")
    with pytest.raises(MaskError, match=r"mask .*a\.ome\.tif: cannot be moved into place"):
        staging.publish(made, folder, "a")
    assert staging.broken(made, "a", {"mask": staging.signature(made.mask("a"))}, ["overlay", "mask"]) == [
        "overlay"
    ]
    assert staging.broken(made, "a", {"mask": "4-another"}, ["mask"]) == ["mask"]


def test_an_identity_that_was_cut_off_is_made_anew_after_two_seconds(tmp_path, monkeypatch):
    now, slept = 100.0, []

    def sleep(seconds):
        nonlocal now
        slept.append(seconds)
        now += 0.5

    monkeypatch.setattr(out_folder, "time", SimpleNamespace(monotonic=lambda: now, sleep=sleep))
    folder = MaskFolder(tmp_path)
    folder.identity.write_text("{")
    identity = prepare_folder(folder, CLASSES)
    # Asked after 0, .5, 1, 1.5, 2 and 2.5 s, and once it is written.
    assert len(slept) == 6
    assert identity == json.loads(folder.identity.read_text())["folder"]
    check_folder(folder, identity)
    with pytest.raises(MaskError, match="is another folder now"):
        check_folder(folder, "other")
    folder.identity.unlink()
    with pytest.raises(MaskError, match="is no longer there"):
        check_folder(folder, identity)


def test_no_slides_are_an_error():
    with pytest.raises(SlideError, match="no slides were given"):
        segment_slides([], Path("run"), Path("out"))


def test_the_hash_of_a_model_is_of_all_its_bytes_and_of_what_its_masks_depend_on(tmp_path, monkeypatch):
    facts = {"mpp": 0.5, "classes": [], "config": {"sampling": 1, "fields": 1, "networks": 1, "seed": 1}}
    monkeypatch.setattr("wsi_deform.runtime.identity.read_model_facts", lambda path: facts)
    used = json.dumps([0.5, [], {"sampling": 1, "fields": 1, "networks": 1}], sort_keys=True).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"x" * (1 << 20) + b"end")
    assert model_sha256(path) == hashlib.sha256(used + path.read_bytes()).hexdigest()
    facts[CHECKSUM] = "abc"
    assert model_sha256(path) == hashlib.sha256(used + b"abc").hexdigest()


def test_a_fingerprint_is_of_model_file_mpp_and_settings(tmp_path):
    def of(job: SlideJob) -> str:
        return job.fingerprint({"bytes": "3"})

    base, region = job_of(tmp_path), Region(1, 2, 3, 4)
    source = base.source
    settings = {"interpolation": None, "limit_to_tissue": None}
    parts = ["m1", {"bytes": "3"}, None, settings]
    assert of(base) == hashlib.sha256(json.dumps([*parts, {"masks": 3}], sort_keys=True).encode()).hexdigest()
    parts += [{"label_channel": 2}, {"region": [1, 2, 3, 4]}, {"masks": 3}]
    oracle = replace(base, needs_labels=True, source=replace(source, label_channel=2, region=region))
    assert of(oracle) == hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    # Labels are nothing to a model that is not shown them, nor what is written besides.
    assert of(replace(base, source=replace(source, label_channel=2))) == of(base)
    assert of(replace(base, wanted=WantedOutputs(probabilities=True), batch=4)) == of(base)
    assert of(replace(base, source=replace(source, mpp=0.5))) != of(base)


def test_the_files_that_are_wanted_of_a_slide():
    assert WantedOutputs().kinds(has_mpp=True) == ("samples", "geojson", "overlay", "mask")
    everything = WantedOutputs(probabilities=True, footprint=True)
    assert everything.kinds(has_mpp=True) == (
        "samples", "probabilities", "footprint", "geojson", "overlay", "mask"
    )  # fmt: skip
    assert everything.kinds(has_mpp=False) == ("samples", "probabilities", "geojson", "overlay", "mask")
    in_colours = WantedOutputs(coloured=True)
    assert in_colours.kinds(has_mpp=True) == ("samples", "geojson", "coloured", "overlay", "mask")
    assert in_colours.settings() == WantedOutputs().settings()
    twice = WantedOutputs(geojson=False, ome_zarr=True)
    assert twice.kinds(has_mpp=True) == ("samples", "ome_zarr", "overlay", "mask")
    assert twice.settings() == WantedOutputs().settings()
    patches = WantedOutputs(geojson=False, patches=PatchSettings(patch_px=64))
    assert patches.kinds(has_mpp=True) == ("overlay", "mask")
    assert patches.settings()["patches"]["patch_px"] == 64
    assert WantedOutputs(limit_to_tissue=True).settings() == {"interpolation": None, "limit_to_tissue": True}


@pytest.mark.parametrize(
    ("removed", "kept", "said"),
    [
        # Of 100,000 px, all but 300 of them tissue: more than half of a class, and more than a thousandth of the slide.
        (101, 100, "50% of gland lay outside the tissue and became background"),
        (101, 101, ""),
        (100, 0, ""),
        (101, 0, "100% of gland lay outside"),
    ],
)
def test_a_class_that_loses_more_than_half_to_the_limit_is_remarked_upon(removed, kept, said):
    pixels, lost = np.zeros(256, np.int64), np.zeros(256, np.int64)
    pixels[1], lost[1] = kept, removed
    counts = SimpleNamespace(tissue_pixels=99_700, pixels=pixels, removed=lost)
    found = tissue_remark(counts, Size(1000, 100), CLASSES)
    assert found.startswith(said)
    assert bool(found) == bool(said)


def test_tiles_that_were_left_out_are_named_up_to_some():
    def blank(n):
        return SimpleNamespace(tile=(n, 0, 0), region=Region(10 * n, 5, 8, 8))

    def slide(blanks, remade=0):
        return SimpleNamespace(
            blanks=[blank(n) for n in range(blanks)], remade_tiles=remade, size=Size(100, 50)
        )

    assert blank_remark(slide(0), 0) == ""
    assert blank_remark(slide(1), 1250) == (
        "1 tile could not be decoded and was left out: level 0 at level-0 px (0, 5); 1,250 level-0 px (25.00% of the "
        "slide) are unlabelled"
    )
    assert (
        blank_remark(slide(0, 1), 0)
        == "1 tile of coarse levels could not be decoded and was made anew of finer ones"
    )
    both = blank_remark(slide(2, 3), 10)
    assert both.startswith(
        "2 tiles could not be decoded and were left out: level 0 at level-0 px (0, 5), level 1 at "
    )
    assert both.endswith("; 3 tiles of coarse levels could not be decoded and were made anew of finer ones")
    for count, more in ((3, ""), (5, " and 2 more")):
        said = blank_remark(slide(count), 10)
        assert (
            f"(0, 5), level 1 at level-0 px (10, 5), level 2 at level-0 px (20, 5){more}; 10 level-0 px (0.20%"
            in said
        )


@pytest.mark.parametrize(
    ("missing", "result", "said"),
    [
        (["mask", "overlay"], {}, "mask, overlay missing or not whole"),
        ([], {"model": "m0", "blank_tiles": 2}, "another model"),
        (
            [],
            {"mask_version": 1, "versions": {"wsi_deform": "0.1.0"}},
            "made by wsi-deform 0.1.0, whose masks differ",
        ),
        ([], {"mask_version": 1}, "made by wsi-deform of unknown version, whose masks differ"),
        ([], {"blank_tiles": 2}, "2 tiles had been left out"),
        ([], {"identity": {"bytes": "4", "content": "a"}}, "another file (bytes changed)"),
        ([], {"identity": {}}, "other settings"),
        ([], {}, "other settings"),
    ],
)
def test_why_a_slide_is_done_again_is_said(tmp_path, missing, result, said):
    identity = {"bytes": "3", "content": "a"}
    before = replace(DONE, **{"identity": identity, "mask_version": 3} | result)
    assert why_again(job_of(tmp_path), before, identity, missing) == said
    lenient = job_of(tmp_path, on_bad_tile="blank")
    assert "left out" not in why_again(lenient, before, identity, missing)


def test_names_get_longer_only_as_far_as_they_must(tmp_path):
    # The folders make 200 bytes: one more, and a hash says which it is.
    for length, kept in ((200, True), (201, False)):
        folder = "d" * (length - len("__a.svs"))
        paths = [tmp_path / folder / "a.svs", tmp_path / "e" / "a.svs"]
        found = distinct_names(paths, tmp_path)
        assert (found[0] == f"{folder}__a.svs") == kept
        assert found[0].startswith("a.svs-") != kept
        assert found[1] == "e__a.svs"


def test_a_name_with_a_hash_keeps_its_folders_where_they_fit(tmp_path):
    # Both are called the same in all steps but the last, which adds 13 bytes.
    for length, kept in ((187, True), (188, False)):
        folder = "d" * (length - len("__a_.svs"))
        paths = [tmp_path / folder / "a:.svs", tmp_path / folder / "a_.svs"]
        for name, path in zip(distinct_names(paths, tmp_path), paths, strict=True):
            digest = hashlib.sha256(path.relative_to(tmp_path).as_posix().encode()).hexdigest()[:12]
            assert name == (f"{folder}__a_.svs-{digest}" if kept else f"a_.svs-{digest}")


def test_a_long_name_that_cannot_be_used_is_shown_by_its_beginning(tmp_path):
    (tmp_path / f"{'x' * 230}.svs").write_bytes(b"")
    (source,) = slide_sources(tmp_path, out=tmp_path / "out")
    assert source.slide_id == "x" * 100 + "..."
    assert f"its name {'x' * 40}... cannot name outputs" in source.problem


def test_dask_is_told_not_to_have_workers_give_memory_back_at_once():
    import distributed  # noqa: F401 - its defaults

    name = "distributed.nanny.pre-spawn-environ"
    assert dask.config.get(name)["MALLOC_TRIM_THRESHOLD_"] == 65536
    with dask.config.set(KEEP_MEMORY):
        # None is what its processes do not get.
        assert dask.config.get(name)["MALLOC_TRIM_THRESHOLD_"] is None
        assert dask.config.get(name)["OMP_NUM_THREADS"] == 1
