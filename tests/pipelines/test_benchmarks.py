from __future__ import annotations

import csv
import json
import resource
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from pipelines.benchmarks import (
        drawn_slides,
        gather,
        geojson,
        mask,
        measure,
        memory,
        opening,
        parts,
        start,
        tables,
        view,
        whole_slide,
    )
    from pipelines.benchmarks.__main__ import main
    from wsi_deform.drawn.study import draw_study
    from wsi_deform.geometry import Region, Size
    from wsi_deform.model_file import save_model
    from wsi_deform.slide.open import open_slide
finally:
    sys.path.remove(str(ROOT))


def written(path: Path, rows: Sequence[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_quick_gather_measures_writes_its_files_and_fills_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [
        "--quick",
        "--out",
        str(tmp_path / "out"),
        "--cache",
        str(tmp_path / "cache"),
        "--threads",
        "1",
    ]
    assert main(["gather", "tables", *settings, "--only", "mip"]) == 0
    assert "mip: run 1" in capsys.readouterr().out
    with (tmp_path / "out" / "gather.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} == {"file", "drawn"}
    assert all(float(row["seconds"]) > 0 and 0 < int(row["tiles"]) < 20 for row in rows)
    assert all(float(row["peak_mib"]) >= float(row["base_mib"]) * 0.5 > 0 for row in rows)
    machine = json.loads((tmp_path / "out" / "machine.json").read_text(encoding="utf-8"))
    assert machine["gather"]["quick"]
    assert machine["gather"]["cores"] >= 1
    assert machine["gather"]["versions"]["torch"]
    assert (tmp_path / "out" / "gather.png").stat().st_size < 50_000
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "| mip |" in readme
    assert "Quick sizes: not to be quoted" in readme
    assert "Not measured yet: `python -m pipelines.benchmarks mask`" in readme


def test_rivals_of_gather_read_the_same_tiles(tmp_path: Path) -> None:
    mosaic = drawn_slides.Mosaic(side_px=1024, block_px=512, scale=1.0, kinds=2)
    path = str(drawn_slides.drawn_file(mosaic, tmp_path, say=lambda _: None).slide)
    facts = {
        method: gather.work(side=1024, samples=1024, path=path, method=method).run(0)
        for method in ("exact", "zarr exact", "openslide exact", "vindex exact")
    }
    assert {each["tiles"] for each in facts.values()} == {16}


def test_drawn_slide_shows_its_truth_at_every_level(tmp_path: Path) -> None:
    mosaic = drawn_slides.Mosaic(side_px=1536, block_px=512, scale=1.0, kinds=2, seed=3)
    file = drawn_slides.drawn_file(mosaic, tmp_path, say=lambda _: None)
    slide = open_slide(file.slide)
    assert slide.size == Size(1536, 1536)
    assert [level.size.width for level in slide.levels[: slide.stored_levels]] == [1536, 768, 384]
    labels = file.truth().read_region(Region.whole(slide.size))
    image = slide.read_region(0, Region.whole(slide.size))
    assert 0 < (labels > 0).mean() < 0.3
    # Glands are violet, so darker in green than the glass around.
    assert image[labels > 0][:, 1].mean() < image[labels == 0][:, 1].mean() - 30
    coarse = slide.read_region(1, Region.whole(slide.levels[1].size)).astype(float)
    mean = image.reshape(768, 2, 768, 2, 3).mean(axis=(1, 3))
    assert np.abs(coarse - mean).mean() < 4


def test_windows_are_seen_by_a_network_that_costs_nothing(tmp_path: Path) -> None:
    mosaic = drawn_slides.Mosaic(side_px=1024, block_px=512, scale=1.0, kinds=2)
    file = drawn_slides.drawn_file(mosaic, tmp_path, say=lambda _: None)
    model = whole_slide.load_untrained()
    save_model(model, tmp_path / "model.safetensors", facts={})
    given = {"side": 1024, "slide": str(file.slide), "labels": str(file.labels), "folder": str(tmp_path)}
    work = whole_slide.patches(
        **given, threads=1, model=str(tmp_path / "model.safetensors"), level=0, part=1.0, zero=True
    )
    assert work.run(0)["windows"] == 3


def test_windows_that_were_looked_at_stand_for_all_and_the_rest_counts_as_background(tmp_path: Path) -> None:
    mosaic = drawn_slides.Mosaic(side_px=1024, block_px=512, scale=1.0, kinds=2)
    file = drawn_slides.drawn_file(mosaic, tmp_path, say=lambda _: None)
    truth = file.truth()
    windows = [Region(x, y, 256, 256) for y in range(0, 1024, 256) for x in range(0, 1024, 256)]
    glands = [window for window in windows if truth.read_region(window).any()]
    perfect = parts.sampled_confusion(truth, [(file.labels, tuple(glands))], glands)
    assert perfect.miou() == 1
    assert perfect.counts.sum() == 1024 * 1024
    # Two runs of a quarter each stand for both of their halves.
    seen, missed = glands[: len(glands) // 2], glands[len(glands) // 2 :]
    runs = [(file.labels, tuple(seen[::2])), (file.labels, tuple(seen[1::2]))]
    halved = parts.sampled_confusion(truth, runs, seen)
    lost = sum(int((truth.read_region(window) > 0).sum()) for window in missed)
    assert halved.counts[1:, 0].sum() == lost > 0
    assert parts.part_of(windows, 0.25, 0) != parts.part_of(windows, 0.25, 1)
    assert sorted(w for n in range(4) for w in parts.part_of(windows, 0.25, n)) == sorted(windows)


def test_reader_without_a_file_has_levels_of_any_size_and_clips_its_edge() -> None:
    reader = drawn_slides.DrawnReader(200_001)
    assert reader.info.size == Size(200_001, 200_001)
    assert reader.info.levels[-1].size.width <= 512
    assert reader.read_tile(0, 0, 0).shape == (256, 256, 3)
    assert reader.read_tile(0, 781, 781).shape == (65, 65, 3)


def test_reader_without_a_file_is_glass_beyond_its_tissue() -> None:
    reader = drawn_slides.DrawnReader(4096, tissue_px=1024)
    assert reader.read_tile(0, 3, 3).std() > 5
    for level, column, row in ((0, 4, 0), (0, 0, 4), (1, 2, 1)):
        assert (reader.read_tile(level, column, row) == 244).all()
    assert reader.read_tile(1, 1, 1).std() > 5


def test_case_that_fails_is_a_row_with_its_reason_and_the_others_go_on() -> None:
    cases = [
        measure.Case(name="lost", factory="start:imports", params={"what": "import nowhere"}),
        measure.Case(name="kept", factory="start:imports", params={"what": "import the command line"}),
    ]
    with measure.Pool(1, say=lambda _: None) as pool:
        lost, kept = pool.measure(cases, runs=2)
    assert "import nowhere" in lost["failed"]
    assert kept["runs"] == 2
    assert 0 < kept["least_seconds"] <= kept["seconds"] <= kept["most_seconds"]


def test_short_work_is_repeated_within_a_run_and_the_run_is_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.2, 0.3, 0.5])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(measure, "_cpu_seconds", iter([10.0, 11.0]).__next__)
    calls: list[int] = []

    def once(number: int) -> measure.Facts:
        calls.append(number)
        return {"tiles": 7}

    seconds, cpu_seconds, facts = measure._timed(measure.Work(run=once), 4)
    assert calls == [4, 4]
    assert (seconds, cpu_seconds, facts) == (0.15, 0.5, {"tiles": 7})


def test_bars_that_are_not_met_are_said(tmp_path: Path) -> None:
    row = {"side": 100_000, "samples": 64_000, "peak_mib": 200, "base_mib": 100, "file_mb": 3, "runs": 5}
    rows = [
        {"case": "ours, 1 thread", "seconds": 1.5, "cpu_seconds": 2.5, **row},
        {"case": "libvips", "seconds": 40, "cpu_seconds": 35, **row},
    ]
    written(tmp_path / "mask.csv", rows)
    machine = {"cpu": "one", "cores": 2, "memory_gib": 8, "threads": 2, "quick": False}
    machine |= {"date_utc": "2026-01-01T00:00:00", "load_1_5_15_min": [0.5, 0.5, 0.5]}
    (tmp_path / "machine.json").write_text(json.dumps({"mask": machine}), encoding="utf-8")
    text = tables.with_tables("a\n<!-- table: mask -->\nold\n<!-- end -->\nb\n", tmp_path)
    assert "old" not in text
    assert "CPU seconds, under 2: 2.50 – **not met**" in text
    assert "peak MiB, under 400: 200 – **met**" in text
    assert "at least 10: 14.0 – **met**" in text


@pytest.mark.parametrize(("peak", "said"), [(540, "1.08 – **met**"), (600, "1.20 – **not met**")])
def test_memory_is_compared_between_the_smallest_and_the_largest_slide(
    tmp_path: Path, peak: int, said: str
) -> None:
    common = {"fields": 9, "samples": 1000, "tiles": 16, "base_mib": 400}
    sides = {61_440: 510, 204_800: peak, 20_480: 500}
    rows = [
        {"case": f"{side:,} px", "side": side, "peak_mib": most, **common} for side, most in sides.items()
    ]
    written(tmp_path / "memory.csv", rows)
    text = tables.memory_table(tables.read_results("memory", tmp_path))
    assert f"peak at 204,800 px / at 20,480 px, at most 1.1: {said}" in text
    assert "blocks, peak at" not in text
    blocks = [
        {**row, "case": f"blocks, {row['case']}", "geometry": "blocks, ", "read_mpx": 5} for row in rows
    ]
    for row in blocks:
        row["peak_mib"] = 600
    written(tmp_path / "memory.csv", [*({"geometry": "", "read_mpx": 1, **row} for row in rows), *blocks])
    text = tables.memory_table(tables.read_results("memory", tmp_path))
    assert f"- peak at 204,800 px / at 20,480 px, at most 1.1: {said}" in text
    assert "- blocks, peak at 204,800 px / at 20,480 px, at most 1.1: 1.00 – **met**" in text


@pytest.mark.parametrize(("cpu", "said"), [(1.2, "0.400 – **met**"), (2.4, "0.800 – **not met**")])
def test_a_start_is_compared_with_that_of_the_earlier_commit(tmp_path: Path, cpu: float, said: str) -> None:
    common = {"seconds": 1, "peak_mib": 300, "runs": 7}
    rows = [
        {"case": "segment, DynUNet", "cpu_seconds": cpu, **common},
        {"case": "segment, DynUNet, abc", "cpu_seconds": 3, **common},
        {"case": "import torch", "cpu_seconds": 1, **common},
    ]
    written(tmp_path / "start.csv", rows)
    text = tables.start_table(tables.read_results("start", tmp_path))
    assert f"- segment, DynUNet, CPU seconds / those of abc, at most 0.6: {said}" in text
    assert text.count("at most") == 1


def test_a_start_segments_the_slide_in_a_process_of_its_own(tmp_path: Path) -> None:
    study = draw_study(tmp_path, train=0, val=0, test=1, size=start.SLIDE, mpp=0.5)
    params = {"network": "MONAI's DynUNet", "tree": str(ROOT), "study": str(study.manifest.parent)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert start.segment(**params).run(0) == {"masks": 1}
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before > 0.5


@pytest.mark.parametrize(("cpu", "said"), [(0.00104, "1.04 – **met**"), (0.00106, "1.06 – **not met**")])
def test_an_opening_is_compared_with_that_of_the_earlier_commit(
    tmp_path: Path, cpu: float, said: str
) -> None:
    rows = [{"case": "SVS, ours", "cpu_seconds": cpu}, {"case": "SVS, abc", "cpu_seconds": 0.001}]
    written(tmp_path / "opening.csv", rows)
    text = tables.opening_table(tables.read_results("opening", tmp_path))
    assert f"- SVS, CPU time / that of abc, at most 1.05: {said}" in text
    assert "| SVS | abc | 1.00 |" in text


def test_every_slide_that_is_opened_for_a_benchmark_is_the_same_picture(tmp_path: Path) -> None:
    pixels = {}
    for name, path in opening.slides(tmp_path).items():
        slide = open_slide(path)
        if name in ("TIFF", "OME-TIFF", "OME-Zarr"):
            assert (slide.size, slide.mpp, slide.stored_levels) == (opening.SIZE, pytest.approx(0.5), 4)
            pixels[name] = slide.read_region(0, slide.region).astype(int)
    assert np.abs(pixels["TIFF"] - pixels["OME-Zarr"]).mean() < 5
    assert np.array_equal(pixels["TIFF"], pixels["OME-TIFF"])


def test_opening_says_the_time_of_one_slide(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    picture = np.full((64, 64, 3), 200, np.uint8)
    for number in range(30):
        Image.fromarray(picture).save(tmp_path / "files" / f"{number}.png")
    params = {"script": opening.OPEN, "tree": str(ROOT), "files": str(tmp_path / "files")}
    assert 0 < opening.work(**params).run(0)["cpu_seconds"] < 1


def test_both_sides_of_view_make_the_same_tiles(tmp_path: Path) -> None:
    mosaic = drawn_slides.Mosaic(side_px=1536, block_px=512, scale=1.0, kinds=2)
    path = str(drawn_slides.drawn_file(mosaic, tmp_path, say=lambda _: None).slide)
    ours, rival = (view.work(slide="TIFF", path=path, rival=each).run(0) for each in (False, True))
    assert ours["tiles"] == rival["tiles"] == 9 + 4 + 1
    assert ours["file_mb"] == pytest.approx(rival["file_mb"], rel=0.1)


def test_outlines_of_a_mask_are_those_that_were_asked_for(tmp_path: Path) -> None:
    points, labels = mask.labelled_samples(2048)
    np.savez(tmp_path / "samples-plain.npz", points=points, labels=labels)
    given = {"side": 2048, "folder": str(tmp_path), "kind": "plain"}
    exact = geojson.ours(**given, what="level 0").run(0)
    simpler = geojson.ours(**given, what="2 um").run(0)
    assert geojson.ours(**given, what="level 2").run(0)["vertices"] < exact["vertices"] / 3
    assert simpler["polygons"] == exact["polygons"] > 10
    assert simpler["vertices"] < exact["vertices"] / 3
    assert simpler["file_mb"] < exact["file_mb"]


@pytest.mark.parametrize(("cpu", "said"), [(4.9, "4.90 – **met**"), (5.1, "5.10 – **not met**")])
def test_the_slowest_outlines_are_held_against_the_bar_and_rivals_against_the_same_level(
    tmp_path: Path, cpu: float, said: str
) -> None:
    common = {
        "side": 100_000,
        "samples": 64_000,
        "seconds": 1,
        "base_mib": 1,
        "polygons": 4,
        "vertices": 9,
        "file_mb": 1,
    }
    rows = [("ours, 2 um", cpu, 280), ("ours, level 2", 0.5, 200), ("rasterio, level 2", 6.0, 2000)]
    written(
        tmp_path / "geojson.csv",
        [
            {"case": case, "cpu_seconds": seconds, "peak_mib": mib, "runs": 2, **common}
            for case, seconds, mib in rows
        ],
    )
    text = tables.geojson_table(tables.read_results("geojson", tmp_path))
    assert f"- ours, CPU seconds, at most 5: {said}" in text
    assert "- ours, peak MiB, at most 500: 280 – **met**" in text
    assert "- level 2, CPU s of rasterio / ours: 12.0" in text


@pytest.mark.parametrize(("seconds", "said"), [(1.2, "1.20 – **met**"), (1.6, "1.60 – **not met**")])
def test_a_tile_is_compared_with_that_of_the_same_slide(tmp_path: Path, seconds: float, said: str) -> None:
    common = {"slide": "SVS", "tiles": 100, "cpu_seconds": 1, "file_mb": 3}
    written(
        tmp_path / "view.csv",
        [
            {"case": "ours", "seconds": seconds, **common},
            {"case": "DeepZoomGenerator", "seconds": 1, **common},
        ],
    )
    text = tables.view_table(tables.read_results("view", tmp_path))
    assert f"| SVS | ours | 100 | {1000 * seconds / 100:.1f} | 10.0 | 3.00 |" in text
    assert f"- SVS, time of a tile / that of DeepZoomGenerator, at most 1.5: {said}" in text


def test_memory_segments_every_field_of_a_slide() -> None:
    found = memory.work(side=4096, threads=2).run(0)
    assert found["fields"] == 1
    assert found["samples"] > 15_000
    assert found["tiles"] > 0


def test_memory_of_blocks_is_of_what_they_read() -> None:
    found = memory.work(side=4096, threads=1, geometry="blocks, ").run(0)
    # 1.024 mm are 410 px of 2.5 um: a field of 416 px, of which half are read.
    assert found["fields"] == 1
    assert 0.05 < found["read_mpx"] <= 0.5 * 0.416**2 + 0.005


@pytest.mark.parametrize("quick", [True, False])
def test_equal_accuracy_is_asked_for_before_cost_is_compared(tmp_path: Path, quick: bool) -> None:
    common = {"side": 20_480, "part": 1, "runs": 3}
    rows = [
        {"case": "ours x0.5", "cpu_seconds": 5, "miou": 0.5, **common},
        {"case": "ours x1", "cpu_seconds": 10, "miou": 0.71, **common},
        {"case": "patches, level 0", "cpu_seconds": 500, "miou": 0.7, **common},
        {"case": "patches, level 2", "cpu_seconds": 40, "miou": 0.72 if quick else 0.6, **common},
    ]
    written(tmp_path / "whole_slide.csv", rows)
    text = tables.whole_slide_table(tables.read_results("whole_slide", tmp_path))
    assert "full-resolution patches: ours x1 costs 1/50.0, mIoU 0.710 against 0.700 – **met**" in text
    assert ("**not met**" in text) == quick
