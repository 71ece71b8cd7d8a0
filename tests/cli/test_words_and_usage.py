"""What commands print word for word, what they take when nothing is said, and what they refuse."""

from __future__ import annotations

import inspect as signatures
import io
import logging
import re
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from drawn_reader import AddressReader
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.cli import demo as demo_command
from wsi_deform.cli import evaluate as evaluate_command
from wsi_deform.cli import inspect as inspect_command
from wsi_deform.cli import main
from wsi_deform.cli import manifest as manifest_command
from wsi_deform.cli import segment as segment_command
from wsi_deform.cli import train as train_command
from wsi_deform.cli.classes import find_class_table
from wsi_deform.cli.interrupts import Asked, ending_signals, interrupted_by_signals, stop_on_signals
from wsi_deform.cli.segment import checked_patches
from wsi_deform.cli.segment_bars import SegmentBars
from wsi_deform.distribute.ledger import State
from wsi_deform.distribute.outcome import Outcome
from wsi_deform.drawn.study import write_slide
from wsi_deform.errors import AnnotationError
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.geometry import Point, Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest, ManifestRow
from wsi_deform.slide.reader import Level, StoredImage
from wsi_deform.slide.slide import Slide
from wsi_deform.train.loop import TrainingResult


def console_of(width: int = 200) -> Console:
    return Console(file=io.StringIO(), width=width, markup=False, emoji=False, highlight=False)


def lines_of(console: Console) -> list[str]:
    """Printed lines without boxes, cells joined by "|"."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    lines = [re.sub(r"[│┃]", "|", line).strip() for line in text.splitlines()]
    return [re.sub(r"\s*\|\s*", "|", line) for line in lines if re.search(r"[\w]", line)]


def invoke(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(main.typer_app, [str(each) for each in arguments], env={"COLUMNS": "200"})
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return done.exit_code, done.output


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            segment_command.segment,
            dict.fromkeys(
                ("mpp", "split", "limit", "scheduler", "patch_px", "overlap", "patch_mpp", "patch_level")
                + ("interpolation", "limit_to_tissue", "memory_gib")
            )
            | {"out": Path("out"), "device": "auto", "overwrite": False, "retry_failed": False, "workers": 1}
            | {"method": "sampled", "probabilities": False, "footprint": False, "geojson": True, "fields": 1},
        ),
        (
            evaluate_command.evaluate,
            {"split": None, "classes": None, "out": None, "allow_empty_classes": False, "measures": "all"},
        ),
        (
            train_command.train,
            dict.fromkeys(("config", "classes", "device", "changes"))
            | {"out": Path("run"), "allow_empty_classes": False},
        ),
        (demo_command.demo, {"out": Path("demo"), "seed": 0, "changes": None, "blocks": None}),
        (manifest_command.check, {"classes": None, "shallow": False, "allow_empty_classes": False}),
    ],
)
def test_what_commands_do_when_nothing_is_said(command, expected):
    parameters = signatures.signature(command).parameters
    assert {name: parameters[name].default for name in expected} == expected


@pytest.mark.parametrize(
    "wrong",
    [
        ("--limit", 0),
        ("--workers", 0),
        ("--fields", 0),
        ("--memory-gib", 0.05),
        ("--patch-level", -1),
        ("--interpolation", "cubic"),
        ("--split", "all"),
        ("--method", "patch"),
        ("--on-bad-tile", "skip"),
        ("--patch-mpp", 0.5),
    ],
)
def test_options_of_segment_that_mean_nothing_are_usage_errors(tmp_path, wrong):
    code, said = invoke("segment", "--slides", tmp_path, "--model", tmp_path, *wrong)
    assert (code, str(wrong[0]) in said) == (2, True)


def test_least_numbers_and_a_level_are_handed_on(tmp_path, monkeypatch):
    found = {}

    def segment_slides(sources, model, out, **options):
        found.update(options, sources=sources)
        raise KeyboardInterrupt

    monkeypatch.setattr("wsi_deform.distribute.batch.segment_slides", segment_slides)
    for name in "abc":
        (tmp_path / f"{name}.svs").write_bytes(b"")
    least = (
        "--limit",
        1,
        "--workers",
        1,
        "--fields",
        1,
        "--memory-gib",
        0.1,
        "--method",
        "patches",
        "--patch-level",
        0,
    )
    code, said = invoke("segment", "--slides", tmp_path, "--model", tmp_path, "--out", tmp_path / "o", *least)
    assert (code, [source.slide_id for source in found["sources"]]) == (130, ["a"])
    assert f"Stopped; {tmp_path / 'o'} keeps what is done." in said
    assert (found["workers"], found["fields"], found["memory_gib"]) == (1, 1, 0.1)
    assert (found["wanted"].patches.level, found["wanted"].patches.patch_px) == (0, None)
    assert found["wanted"].geojson
    assert not found["overwrite"]
    assert checked_patches("sampled", patch_px=None) is None


def outcome_of(state: State, reason: str = "") -> Outcome:
    return Outcome(slide_id="a[red]", slide=Path("a.svs"), status=state.status, reason=reason, state=state)


def test_a_line_says_how_a_slide_went():
    console = console_of()
    with SegmentBars(console) as bars:
        bars.start(slides=4)
        bars.slide("a[red]")
        bars.field(1, 3)
        assert [(task.description, task.completed, task.total) for task in bars.progress.tasks] == [
            ("slides", 0, 4),
            ("a[red]: fields", 1, 3),
        ]
        done = State(slide_id="a[red]", status="done", samples=512, seconds=12.345, tiles=9, fields=2)
        bars.outcome(outcome_of(done))
        bars.slide("b")
        bars.slide("c")
        assert [task.description for task in bars.progress.tasks] == ["slides", "c: fields"]
        bars.outcome(
            outcome_of(State(slide_id="a[red]", status="done", method="patches", fields=2), "remark")
        )
        bars.outcome(outcome_of(State(slide_id="a[red]", status="failed"), "no slide"))
        assert [(task.description, task.completed) for task in bars.progress.tasks] == [("slides", 3)]
    said = [line for line in lines_of(console) if line.startswith("a[red]: ") and "fields" not in line]
    assert said == [
        "a[red]: done, 12.3 s, 512 samples, 9 tiles read",
        "a[red]: done, 0.0 s, 2 patches, 0 tiles read, remark",
        "a[red]: failed, no slide",
    ]


def counts(*rows: list[int]) -> Confusion:
    return Confusion(np.array(rows, np.int64))


@pytest.mark.parametrize(
    ("names", "sampled", "expected"),
    [
        (
            ["background", "gland"],
            counts([990, 10], [20, 180]),
            [
                "2 slides, split test, pooled over all pixels",
                "||IoU(Y^, Y)|IoU(Y', Y)|Dice|",
                "|background|0.8571|0.9706|0.9231|",
                "|gland|0.5000|0.8571|0.6667|",
                "|mean|0.6786|0.9139|0.7949|",
                "|mean without background|0.5000|0.8571||",
                "|pixel accuracy|0.8750|0.9750||",
            ],
        ),
        (
            ["stroma", "gland"],
            None,
            [
                "1 slide, split test, pooled over all pixels",
                "||IoU(Y^, Y)|IoU(Y', Y)|Dice|",
                "|stroma|0.8571|-|0.9231|",
                "|gland|0.5000|-|0.6667|",
                "|mean|0.6786|-|0.7949|",
                "|pixel accuracy|0.8750|-||",
            ],
        ),
    ],
)
def test_evaluate_shows_the_pooled_measures(names, sampled, expected):
    slides = [
        SlideEvaluation(
            slide_id="a", size=Size(40, 30), predicted=counts([900, 100], [50, 150]), sampled=sampled
        )
    ]
    if sampled is not None:
        slides.append(
            SlideEvaluation(slide_id="b", size=Size(1, 1), predicted=counts([0, 0], [0, 0]), sampled=None)
        )
    evaluation = Evaluation(
        masks=Path("out"),
        split="test",
        classes=ClassTable.from_names(names),
        slides=tuple(slides),
        unmeasured=(),
    )
    console = console_of(100)
    evaluate_command.show(evaluation, console)
    legend = "IoU(Y^, Y) is of the masks, IoU(Y', Y) what they would have if each sample had its true label."
    assert lines_of(console) == [*expected, legend]


def test_endings_of_evaluate_may_be_named_in_capitals(tmp_path, monkeypatch):
    (tmp_path / "m.csv").write_text("slide,mask\na.svs,a.png\n")
    wrong = invoke(
        "evaluate", "--slides", tmp_path / "m.csv", "--masks", tmp_path, "--out", tmp_path / "a.txt"
    )
    assert (wrong[0], "needed .json or .csv; both are written" in wrong[1]) == (2, True)
    for out in ("a.JSON", "a.csv", "a"):
        given = ("evaluate", "--slides", tmp_path / "m.csv", "--masks", tmp_path, "--out", tmp_path / out)
        assert invoke(*given)[0] == 2
        assert "a.svs" in invoke(*given)[1]  # what comes after the options: no such slide


@pytest.mark.parametrize("size", ["1024", "10x0", "0x10", "10x", "axb", "-4x4", "10x10x10", "1.5x2"])
def test_sizes_of_crops_that_are_none_are_usage_errors(tmp_path, size):
    (tmp_path / "m.csv").write_text("slide\na.svs\n")
    code, said = invoke("manifest", "crop", tmp_path / "m.csv", f"--size={size}", "--out", tmp_path / "c.csv")
    assert (code, "needed width x height, such as 1024x1024" in said) == (2, True)


def test_a_crop_may_be_one_pixel_and_its_size_in_capitals(tmp_path):
    write_slide(tmp_path / "a.tif", np.zeros((16, 16, 3), np.uint8), mpp=0.5)
    (tmp_path / "m.csv").write_text("slide\na.tif\n")
    code, said = invoke("manifest", "crop", tmp_path / "m.csv", "--size", "4X1", "--out", tmp_path / "c.csv")
    assert (code, said.strip()) == (0, f"{tmp_path / 'c.csv'}: 1 slides, the central 4 x 1 px of each.")
    assert read_manifest(tmp_path / "c.csv").rows[0].region.size == Size(4, 1)


@pytest.mark.parametrize(
    ("options", "source", "shares", "seed"),
    [
        (("--each-slide-a-patient",), "each slide is taken for a patient of its own", (0.7, 0.15, 0.15), 0),
        (("--val", 0.5, "--test", 0, "--seed", 4), "by the TCGA barcodes in slide ids", (0.5, 0.5, 0), 4),
        (("--patient", "^P"), "by the pattern ^P in slide ids", (0.7, 0.15, 0.15), 0),
        (("--patients", "p.csv"), "by p.csv", (0.7, 0.15, 0.15), 0),
    ],
)
def test_manifest_build_deals_patients_as_asked_for(tmp_path, monkeypatch, options, source, shares, seed):
    asked = {}

    def built(slides, **given):
        asked.update(given)
        row = ManifestRow(slide=Path("a.svs"), slide_id="a", split="train", patient="a")
        return Manifest(rows=(row,), folder=tmp_path)

    monkeypatch.setattr("wsi_deform.annotation.folder.manifest_from_folder", built)
    code, said = invoke("manifest", "build", tmp_path, "--out", tmp_path / "m.csv", *options)
    assert code == 0, said
    assert f"({source})" in said
    assert asked["shares"] == pytest.approx(dict(zip(("train", "val", "test"), shares, strict=True)))
    assert asked["seed"] == seed
    for wrong in (("--val", 1.5), ("--val", -0.5), ("--test", 1.5), ("--test", -0.5)):
        assert invoke("manifest", "build", tmp_path, *wrong)[0] == 2


def test_inspect_says_what_is_in_a_file(tmp_path, monkeypatch):
    console = console_of()
    monkeypatch.setattr(inspect_command, "plain_console", lambda: console)
    pixels = np.full((600, 1000, 3), 245, np.uint8)
    pixels[:, :300] = (150, 60, 140)
    tifffile.imwrite(tmp_path / "a.tif", pixels, tile=(64, 64), photometric="rgb")
    inspect_command.inspect(str(tmp_path / "a.tif"), thumbnail=tmp_path / "small.png", mpp=0.25)
    found = lines_of(console)
    assert found[0].startswith("a  ")
    assert found[0].endswith(", 1000 x 600 px")
    assert "mpp: 0.25 um per pixel, from the mpp that was given; 0.25 x 0.15 mm" in found
    assert "|level|size, px|downsample|tile, px|stored|" in found
    assert "|0|1000 x 600|1|64 x 64|yes|" in found
    assert "|1|500 x 300|2|256 x 256|made when read|" in found
    share = float(next(line for line in found if line.startswith("tissue: ")).split()[1])
    assert 28 < share < 36
    with Image.open(tmp_path / "small.png") as small:
        assert small.size == (1000, 600)


def test_inspect_says_where_an_mpp_or_a_whole_downsample_is_missing(tmp_path, monkeypatch):
    console = console_of()
    reader = AddressReader(Size(1000, 601), downsamples=(1, 2), mpp=None)
    images = (
        StoredImage(name="series 0", size=Size(10, 20), is_chosen=False),
        StoredImage(name="series 1", size=Size(1000, 601), is_chosen=True),
    )
    levels = (
        reader.info.levels[0],
        Level(size=Size(500, 200), downsample=Point(2, 3.005), tile=Size(256, 256)),
    )
    reader.info = replace(reader.info, images=images, levels=levels, remarks=("was odd",))
    monkeypatch.setattr(
        "wsi_deform.slide.open.open_slide", lambda path, mpp: Slide.from_reader(reader, slide_id=path)
    )
    monkeypatch.setattr(inspect_command, "plain_console", lambda: console)
    inspect_command.inspect("a[b]", thumbnail=tmp_path / "small.jpg")
    found = lines_of(console)
    assert found[:5] == [
        "a[b]  drawn, 1000 x 601 px",
        "mpp: not in the file; set the mpp column in its manifest row, or pass --mpp",
        "image: series 0, 10 x 20 px",
        "image: series 1, 1000 x 601 px (read)",
        "remark: was odd",
    ]
    assert "|0|1000 x 601|1|256 x 256|yes|" in found
    assert "|1|500 x 200|2.0000, 3.0050|256 x 256|yes|" in found
    with Image.open(tmp_path / "small.jpg") as small:
        assert max(small.size) == 1000


def test_a_thumbnail_has_1024_px_at_most(tmp_path, monkeypatch):
    reader = AddressReader(Size(3000, 1500), downsamples=(1, 2))
    monkeypatch.setattr(
        "wsi_deform.slide.open.open_slide", lambda path, mpp: Slide.from_reader(reader, slide_id=path)
    )
    inspect_command.inspect("a", thumbnail=tmp_path / "small.png")
    with Image.open(tmp_path / "small.png") as small:
        assert small.size == (1024, 512)


def test_signals_that_end_a_process_have_their_exit_codes():
    assert [number.name for number in ending_signals()] == ["SIGINT", "SIGTERM", "SIGHUP"]
    asked = Asked()
    assert (asked(), asked.exit_code) == (False, 130)
    asked.number = signal.SIGTERM
    assert (asked(), asked.exit_code) == (True, 143)


def test_a_first_signal_asks_and_a_second_interrupts():
    # A shell starts what runs in its background with SIGINT ignored, nohup with SIGHUP, and so they would stay.
    usual = {number: signal.signal(number, signal.default_int_handler) for number in ending_signals()}
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        assert stop.exit_code == 143
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    with interrupted_by_signals() as asked:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        assert asked.exit_code == 129
    for number, handler in usual.items():
        signal.signal(number, handler)


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
            assert not stop()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("result", "said", "code"),
    [
        (
            {"epochs": 3, "best": 0.25, "best_epoch": 2},
            "run: 3 epochs, best validation mIoU 0.250 in epoch 2.",
            0,
        ),
        (
            {
                "epochs": 3,
                "best": 0.25,
                "best_epoch": 2,
                "stopped_early": True,
                "miou_classes": MeanClasses(labelled=("a", "b"), over=("a", "b"), absent=("c",)),
            },
            "run: 3 epochs, best validation mIoU 0.250 over 2 of 3 classes (absent: c) in epoch 2; stopped early: "
            "training.patience=7.",
            0,
        ),
        ({"epochs": 1}, "run: 1 epochs, no validation slides.", 0),
        (
            {"epochs": 1, "miou_classes": MeanClasses(labelled=("a",), over=(), absent=("b",))},
            "run: 1 epochs, validation mIoU cannot be measured: the labels hold only class 'a'.",
            0,
        ),
        (
            {"epochs": 3, "finished": False},
            "Stopped in epoch 4; run holds a checkpoint. The same command goes on.",
            130,
        ),
    ],
)
def test_train_says_how_it_ended(tmp_path, monkeypatch, result, said, code):
    facts = {"finished": True, "best": None, "best_epoch": None, "stopped_early": False, "miou_classes": None}
    given = {}

    def run_training(config, manifest, classes, out, **options):
        given.update(config=config, out=out)
        return TrainingResult(run=out, **facts | result)

    monkeypatch.setattr("wsi_deform.train.loop.train", run_training)
    monkeypatch.setattr("wsi_deform.annotation.check.check_manifest", lambda *_, **__: [])
    monkeypatch.chdir(tmp_path)
    Path("a.svs").touch()
    Path("m.csv").write_text("slide,split\na.svs,train\n")
    Path("classes.yaml").write_text("[background, gland]\n")
    options = ("--config", "joint", "--set", "training.patience=7", "--set", "seed=3", "--device", "cpu")
    assert invoke("train", "--slides", "m.csv", *options) == (code, f"{said}\n")
    assert (given["out"], given["config"].seed, given["config"].device) == (Path("run"), 3, "cpu")


@pytest.mark.parametrize(
    ("rank", "scans", "says"), [(None, True, True), ("0", True, True), ("1", False, False)]
)
def test_one_of_several_processes_counts_and_speaks(tmp_path, monkeypatch, rank, scans, says):
    given = {}

    def check_manifest(manifest, classes, *, scan, for_training, on_remark, **_):
        given.update(scan=scan, for_training=for_training)
        on_remark("mind this")
        return []

    result = TrainingResult(
        run=tmp_path, finished=True, epochs=1, best=None, best_epoch=None, stopped_early=False
    )
    monkeypatch.setattr("wsi_deform.annotation.check.check_manifest", check_manifest)
    monkeypatch.setattr("wsi_deform.train.loop.train", lambda *_, **__: result)
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    (tmp_path / "a.svs").touch()
    (tmp_path / "m.csv").write_text("slide,split\na.svs,train\n")
    (tmp_path / "classes.yaml").write_text("[background, gland]\n")
    code, said = invoke("train", "--slides", tmp_path / "m.csv", "--out", tmp_path, "--config", "joint")
    assert (code, given) == (0, {"scan": scans, "for_training": True})
    assert (said != "") == says
    assert not says or said.startswith("warning: mind this.\n")


@pytest.mark.parametrize("name", ["classes.yaml", "classes.yml", "classes.json"])
def test_a_class_table_lies_beside_the_manifest(tmp_path, name):
    manifest = Manifest(rows=(), folder=tmp_path)
    assert find_class_table(manifest, None, required=False) is None
    with pytest.raises(AnnotationError, match=r"none of classes\.yaml, classes\.yml, classes\.json in"):
        find_class_table(manifest, None)
    (tmp_path / name).write_text('["background", "gland"]')
    assert find_class_table(manifest, None).names == ("background", "gland")
    (tmp_path / "other.json").write_text('["a", "b", "c"]')
    assert find_class_table(manifest, tmp_path / "other.json").count == 3


def test_the_demo_ends_with_a_table_and_its_page_or_says_that_it_goes_on(tmp_path, monkeypatch):
    evaluation = Evaluation(
        masks=Path("out"),
        split="test",
        classes=ClassTable.from_names(["background", "gland"]),
        slides=(
            SlideEvaluation(
                slide_id="a",
                size=Size(1, 1),
                predicted=counts([900, 100], [50, 150]),
                sampled=counts([990, 10], [20, 180]),
            ),
        ),
        unmeasured=(),
    )
    given = {}

    def run_demo(out, *, seed, changes, blocks, watcher, stop):
        given.update(out=out, seed=seed, changes=list(changes), blocks=blocks)
        watcher.leaves_out("blocks", 'not installed: pip install "wsi-deform[pretrained]"')
        with watcher.drawing(2) as drawn:
            drawn("a")
        with watcher.segmenting("joint"):
            pass
        assert watcher.training("joint").title == "training joint"
        return SimpleNamespace(
            finished=given.get("finished", True), evaluations={"joint": evaluation}, page=out / "report.html"
        )

    now = iter([100.0, 163.6, 0.0, 0.0])
    monkeypatch.setattr("wsi_deform.demo.run_demo", run_demo)
    monkeypatch.setattr(demo_command, "time", SimpleNamespace(monotonic=lambda: next(now)))
    code, said = invoke("demo", "--out", tmp_path, "--set", "a=1")
    assert (code, given["seed"], given["changes"], given["blocks"]) == (0, 0, ["a=1"], None)
    assert said.splitlines()[0] == 'Without blocks: not installed: pip install "wsi-deform[pretrained]"'
    assert "segmenting with joint" in said
    cells = [
        re.sub(r"\s*[│┃]\s*", "|", line) for line in said.splitlines() if "joint" in line and "│" in line
    ]
    assert cells == ["|joint|0.679|0.500|0.914|"]
    assert said.splitlines()[-1] == f"64 s. Open {tmp_path / 'report.html'} in a browser."
    given["finished"] = False
    code, said = invoke("demo", "--out", tmp_path, "--seed", 4, "--no-blocks")
    assert (code, given["seed"], given["changes"], given["blocks"]) == (130, 4, [], False)
    assert said.splitlines()[-1] == f"Stopped; {tmp_path} keeps what is done. The same command goes on."


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ((), logging.WARNING),
        (("--verbose",), logging.INFO),
        (("-v",), logging.INFO),
        (("--debug",), logging.INFO),
        (("-q",), logging.ERROR),
    ],
)
def test_what_happens_inside_is_said_on_request(monkeypatch, options, level):
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", root.level)
    assert invoke(*options, "config", "list")[0] == 0
    assert root.level == level
    assert invoke("config", "list", *options)[0] == 0
    assert root.level == level
