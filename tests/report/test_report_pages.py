from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_study import tiny_model
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.anonymous import AnonymousNames
from wsi_deform.cli.main import typer_app
from wsi_deform.config import dump_config, parse_config
from wsi_deform.config_sections import Config
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.measurements import write_measurements
from wsi_deform.drawn.study import write_slide
from wsi_deform.errors import MaskError, ModelError
from wsi_deform.files import write_json
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.caption import captioned, title_strip
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import write_samples
from wsi_deform.mask.scale_bar import ScaleBar
from wsi_deform.provenance import provenance
from wsi_deform.report import run as run_module
from wsi_deform.report.folder import report_folder
from wsi_deform.report.out import report_out
from wsi_deform.report.page import Fact, Picture, Section, write_report
from wsi_deform.report.run import read_log, report_run
from wsi_deform.report.tables import Table, comparison_table
from wsi_deform.reverse.samples import FieldSamples

CLASSES = ClassTable.from_names(["background", "gland"])
LOG = (
    "epoch,loss,segmentation_loss,edge_loss,learning_rate,seconds,val_miou,val_miou_without_background\n"
    "1,1.5,1.0,0.5,0.002,30.0,,\n2,0.9,0.6,0.3,0.001,31.0,0.4321,0.25\n3,0.8,0.5,0.3,0.001,31.0,0.41,0.2\n"
)


class Balance(HTMLParser):
    """Checks that every tag is closed in order, and collects what it names."""

    VOID = ("meta", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.alts: list[str | None] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.alts += [value for name, value in attrs if name == "alt"]
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(path: Path) -> Balance:
    page = Balance()
    page.feed(path.read_text(encoding="utf-8"))
    assert page.open == []
    # Nothing is loaded from elsewhere: pictures are in the page, and links lead to its parts.
    assert all(link.startswith(("data:image/", "#part-")) for link in page.links)
    page.links = [link for link in page.links if not link.startswith("#")]
    return page


def png(side: int = 8) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "log.csv").write_text(LOG)
    (folder / "config.yaml").write_text(dump_config(Config(name="a <b> & c")))
    write_json(folder / "provenance.json", provenance(command=["train", "--out", "<run>"], seed=7))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = MaskFolder(tmp_path / "out")
    write_class_table(CLASSES, folder.classes)
    slide = tmp_path / "good.tif"
    write_slide(slide, np.full((100, 400, 3), 230, np.uint8), mpp=0.5)
    write_slide(tmp_path / "gone.tif", np.full((100, 400, 3), 230, np.uint8), mpp=0.5)
    points = np.random.default_rng(0).random((40, 2)) * [400, 100]
    field = FieldSamples(kept=Region(0, 0, 400, 100), points_px=points, labels=np.zeros(40, np.uint8))
    ledger = Ledger(folder)
    for name in ("good", "gone"):
        write_samples(folder.samples(name), [field], size=Size(400, 100), outside_label=0)
        folder.overlay(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 10), (10, 200, 30)).save(folder.overlay(name))
        ledger.write(
            State(
                slide_id=name,
                status="done",
                slide=str(tmp_path / f"{name}.tif"),
                seconds=4.2,
                width_px=400,
                height_px=100,
                mpp=0.5,
                fields=1,
                samples=40,
                tiles=3,
                class_pixels=(30_000, 10_000),
            )
        )
    (tmp_path / "gone.tif").unlink()
    ledger.write(
        State(slide_id="bad", status="failed", error="slide bad.svs: <truncated>", traceback="at & in")
    )
    write_measurements(folder, [state for state in ledger.all() if state.result], CLASSES)
    write_json(folder.run("20260101T000000Z"), {"model": "m.safetensors", "provenance": provenance(seed=3)})
    return folder.path


def test_page_shows_text_as_text_and_numbers_as_numbers(tmp_path: Path) -> None:
    path = write_report(
        tmp_path / "page.html",
        title="<script>alert(1)</script>",
        lead=["a < b & c"],
        facts=[Fact(value="1 / 1,024", what="<samples>")],
        sections=[
            Section(
                title="Measures",
                table=comparison_table({"joint <x>": {"mIoU": 0.6464}, "uniform": {"mIoU": 0.4261}}),
                pictures=[Picture(image=png(), caption='"quoted" <caption>')],
                quote={"log": "x <y>"},
            )
        ],
        provenance={"command": ["a", "<b>"], "packages": {"torch": "2.13"}, "nothing": None},
    )
    text = path.read_text(encoding="utf-8")
    page = parsed(path)
    assert "<script" not in text
    for shown in (
        "0.646",
        "0.426",
        "1 / 1,024",
        "a < b & c",
        "joint <x>",
        "a <b>",
        "packages: torch",
        "x <y>",
    ):
        assert shown in page.texts
    assert "nothing" not in page.texts
    assert "http" not in text


def test_cells_are_where_the_table_has_them_and_the_best_stand_out(tmp_path: Path) -> None:
    numbers = comparison_table({"joint": {"mIoU": 0.64, "x": 0.5}, "uniform": {"mIoU": 0.42, "x": 0.5004}})
    words = Table(header=("slide", "reason"), rows=(("<b>a", "one | two"),), is_text=True)
    sections = [Section(title="numbers", table=numbers), Section(title="words", table=words)]
    text = write_report(tmp_path / "p.html", title="t", sections=sections).read_text()
    rows = re.findall("<tr>.*?</tr>", text, re.DOTALL)
    assert rows == [
        '<tr><th scope="col">method</th><th scope="col">mIoU</th><th scope="col">x</th></tr>',
        '<tr><th scope="row">joint</th><td class="best">0.640</td><td class="best">0.500</td></tr>',
        '<tr><th scope="row">uniform</th><td>0.420</td><td class="best">0.500</td></tr>',
        '<tr><th scope="col">slide</th><th scope="col">reason</th></tr>',
        '<tr><th scope="row">&lt;b&gt;a</th><td>one | two</td></tr>',
    ]
    assert re.findall("<table.*?>", text) == ["<table>", '<table class="text">']


def test_quoted_text_keeps_its_lines_and_a_quote_in_a_caption_its_place(tmp_path: Path) -> None:
    section = Section(
        title="s",
        quote={"log": "  one\n\n    two {{ 3 }}\n"},
        pictures=[Picture(image=png(), caption='a "b" <c>')],
    )
    page = Balance()
    page.feed(write_report(tmp_path / "p.html", title="t", sections=[section]).read_text())
    assert "  one\n\n    two {{ 3 }}\n" in page.texts
    assert page.alts == ['a "b" <c>']


def test_pictures_are_inlined_and_large_ones_become_jpeg(tmp_path: Path) -> None:
    pictures = [Picture(image=png(8), caption="small"), Picture(image=png(400), caption="large")]
    path = write_report(tmp_path / "p.html", title="t", sections=[Section(title="s", pictures=pictures)])
    small, large = parsed(path).links
    assert small.startswith("data:image/png;base64,")
    assert base64.b64decode(small.split(",")[1]) == png(8)
    assert large.startswith("data:image/jpeg;base64,")
    with Image.open(io.BytesIO(base64.b64decode(large.split(",")[1]))) as opened:
        assert opened.size == (400, 400)


def test_page_is_moved_into_place(tmp_path: Path) -> None:
    write_report(tmp_path / "p.html", title="old")
    write_report(tmp_path / "p.html", title="new")
    assert [path.name for path in tmp_path.iterdir()] == ["p.html"]
    assert "new" in parsed(tmp_path / "p.html").texts


def test_report_of_a_run_shows_its_best_epoch_curves_and_provenance(run: Path) -> None:
    page = parsed(report_run(run))
    assert "0.432" in page.texts
    assert "best validation mIoU, epoch 2" in page.texts
    assert "3 of 250" in page.texts
    assert "1 min 32 s" in page.texts
    assert "Training run: a <b> & c" in page.texts
    assert "train --out <run>" in page.texts
    assert any("warp_steps: 2" in text for text in page.texts)
    assert len(page.links) == 3  # loss, validation, learning rate


def test_report_of_a_run_sets_its_best_epoch_beside_the_last_validated_one(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, Any] = {}
    monkeypatch.setattr(run_module, "write_report", lambda path, **given: shown.update(given) or path)
    assert report_run(run) == run / "report.html"
    assert [(fact.value, fact.what) for fact in shown["facts"]] == [
        ("0.432", "best validation mIoU, epoch 2"),
        ("3 of 250", "epochs"),
        ("1 min 32 s", "in training epochs"),
        ("0.800", "training loss, last epoch"),
    ]
    assert shown["facts"][0].more == "Chosen on these slides: it flatters. Evaluate on others."
    assert [section.title for section in shown["sections"]] == [
        "Best epoch",
        "Learning curves",
        "Configuration",
    ]
    best = shown["sections"][0]
    assert best.table.header == (
        "epoch", "val mIoU", "val mIoU without background", "loss", "segmentation loss", "edge loss",
    )  # fmt: skip
    assert best.table.rows == (
        ("best, epoch 2", "0.432", "0.250", "0.900", "0.600", "0.300"),
        ("last validated, epoch 3", "0.410", "0.200", "0.800", "0.500", "0.300"),
    )
    assert (best.text, best.table.best) == ([], frozenset())
    (run / "best.json").write_text('{"metrics": {}}')
    over = {"labelled": ["gland"], "over": [], "absent": ["background"]}
    (run / "last.json").write_text(json.dumps({"metrics": {"miou_classes": over}}))
    (run / "config.yaml").write_text(dump_config(parse_config({"training": {"epochs": 3}}, source="test")))
    report_run(run)
    assert shown["facts"][1].value == "3"
    # Of one class alone there is no mean, whatever the log says.
    assert [(section.title, list(section.text)) for section in shown["sections"][:2]] == [
        ("Best epoch", []),
        ("Validation", ["The mean IoU cannot be measured: the labels hold only class 'gland'."]),
    ]


def test_report_of_a_run_names_the_licences_of_the_slides_that_its_model_saw(run: Path) -> None:
    stored = tiny_model(run, CLASSES) / "best.json"
    assert not any("data_licences" in text for text in parsed(report_run(run)).texts)
    data = {"data_licences": {"CC BY 4.0": 2, "not stated": 1}}
    stored.write_text(json.dumps(json.loads(stored.read_text()) | {"data": data}))
    page = parsed(report_run(run))
    assert any("CC BY 4.0 (2 slides), not stated (1 slide)" in text for text in page.texts)


def test_run_without_validation_has_a_report_too(run: Path) -> None:
    (run / "log.csv").write_text("\n".join(line.split(",0.4")[0] for line in LOG.splitlines()[:3]))
    assert "Best epoch" not in parsed(report_run(run)).texts


def test_report_of_masks_shows_failures_first_and_every_finished_slide(out: Path) -> None:
    path = report_folder(out)
    assert path == out / "report.html"
    page = parsed(path)
    texts = page.texts
    assert "slide bad.svs: <truncated>" in texts
    assert texts.index("What failed") < texts.index("Measurements")
    assert "at & in" in texts
    assert "1 / 1,000" in texts
    assert "0.0075 mm²" in [text.strip() for text in texts]
    assert "75.0 %" in texts
    assert {"good", "gone"} <= set(texts)
    # An overlay and a figure of the points for each, although one slide was moved away since.
    assert len(page.links) == 4
    assert any(text.startswith("The slide itself is not shown: ") for text in texts)


def test_an_anonymous_report_shows_overlays_without_the_names_in_them(out: Path) -> None:
    folder = MaskFolder(out)
    # One of this version with its name, and one whose name nobody can find.
    grey = np.full((200, 800, 3), 120, np.uint8)
    named = captioned(grey, title="Miller", bar=ScaleBar(share=0.1, text="9 mm"), entries=[])
    comment = b"wsi-deform picture 800 x 200 px below its title"
    Image.fromarray(named).save(folder.overlay("good"), quality=95, comment=comment)
    Image.fromarray(named).save(folder.overlay("gone"), quality=95)
    page = parsed(report_out(out, names=AnonymousNames(out)))
    assert "The overlay is not shown: left out of an anonymous report: it names files" in page.texts
    jpegs = [each for each in page.links if each.startswith("data:image/jpeg")]
    assert len(jpegs) == 1
    with Image.open(io.BytesIO(base64.b64decode(jpegs[0].partition(",")[2]))) as opened:
        shown = np.asarray(opened)
    strip = title_strip(AnonymousNames(out).slide("good"), Size(800, 200), 800)
    assert np.abs(shown[:32].astype(int) - np.asarray(strip)).mean() < 1
    assert np.abs(shown[:32].astype(int) - named[:32]).mean() > 2
    assert len([each for each in parsed(report_out(out)).links if each.startswith("data:image/jpeg")]) == 2


def test_report_of_masks_shows_measures_where_they_were_evaluated(out: Path) -> None:
    iou = {"background": 0.9, "gland": 0.5}
    predicted = {"miou": 0.7, "miou_without_background": 0.5, "iou": iou, "accuracy": 0.91}
    data = {
        "split": "test",
        "background": "background",
        "pooled": {"predicted": predicted, "sampled": None},
        "slides": [{"slide_id": "good", "predicted": {**predicted, "miou": 0.123}, "sampled": None}],
    }
    (out / "evaluation.json").write_text(json.dumps(data))
    texts = parsed(report_out(out)).texts
    assert "0.700" in texts
    assert "0.123" in texts
    assert 'mIoU, split "test"' in texts


def test_report_of_masks_says_which_classes_the_mean_is_over(out: Path) -> None:
    over = {"labelled": ["background", "gland"], "over": ["background", "gland"], "absent": ["nerve"]}
    none = {"labelled": ["background"], "over": [], "absent": ["gland", "nerve"]}
    iou = {"background": 0.9, "gland": 0.5, "nerve": None}
    predicted = {
        "miou": 0.7,
        "miou_without_background": 0.5,
        "miou_classes": over,
        "iou": iou,
        "accuracy": 0.91,
    }
    sampled = {**predicted, "miou": None, "miou_without_background": None, "miou_classes": none}
    data = {
        "split": "test",
        "background": "background",
        "pooled": {"predicted": predicted, "sampled": sampled},
        "slides": [],
    }
    (out / "evaluation.json").write_text(json.dumps(data))
    texts = parsed(report_out(out)).texts
    assert 'mIoU, split "test", over 2 of 3 classes (absent: nerve)' in texts
    assert "The mean IoU is over 2 of 3 classes (absent: nerve)." in texts
    assert "The mean IoU(Y', Y) cannot be measured: the labels hold only class 'background'." in texts


def test_report_of_a_run_says_which_classes_the_mean_is_over(run: Path) -> None:
    over = {"labelled": ["background", "gland"], "over": ["background", "gland"], "absent": ["nerve"]}
    lines = LOG.replace("without_background\n", "without_background,val_classes,val_classes_absent\n")
    lines = lines.replace(",,\n", ",,,,\n").replace("0.25\n", "0.25,2,1\n").replace("0.2\n", "0.2,2,1\n")
    (run / "log.csv").write_text(lines)
    (run / "best.json").write_text(json.dumps({"metrics": {"miou_classes": over}}))
    texts = parsed(report_run(run)).texts
    assert "best validation mIoU, epoch 2, over 2 of 3 classes" in texts
    assert "The mean IoU is over 2 of 3 classes (absent: nerve)." in texts


def test_only_some_of_many_slides_are_shown(out: Path) -> None:
    page = parsed(report_out(out, max_slides=1))
    assert len(page.links) == 2
    assert any("1 of the 2 segmented slides are shown" in text for text in page.texts)


@pytest.mark.parametrize("name", ["none", "empty"])
def test_missing_folders_are_named_with_what_is_needed(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    folder = tmp_path / name
    for report, error in ((report_folder, ModelError), (report_run, ModelError), (report_out, MaskError)):
        with pytest.raises(error, match=rf"{re.escape(str(folder))}.*Needed") as raised:
            report(folder)
        assert "wsi-deform" in str(raised.value)
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("epoch,loss\n1,2\n", "no segmentation_loss"),
        (LOG.splitlines()[0], "no epoch"),
        ("epoch\nx\n", "could not"),
        ("epoch\n1,2\n", "a row has more cells than the first"),
    ],
)
def test_damaged_logs_are_refused(run: Path, text: str, found: str) -> None:
    (run / "log.csv").write_text(text)
    with pytest.raises(ModelError, match=f"log.csv: .*{found}.*Needed"):
        read_log(run)


def test_report_command_prints_the_page(out: Path) -> None:
    result = CliRunner().invoke(typer_app, ["report", str(out)])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(out / "report.html")
