"""Pages that compare runs and results, what the command takes, and that nobody's name gets where it shall not."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from drawn_evaluation import drawn_evaluation, evaluation_of
from drawn_results import drawn_results
from typer.testing import CliRunner, Result

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cli.main import typer_app
from wsi_deform.config import dump_config, parse_config
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.errors import MaskError, ModelError
from wsi_deform.evaluate.folder import write_all
from wsi_deform.evaluate.masks import Evaluation
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.files import write_json
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.report.compared import names_of
from wsi_deform.report.compared_runs import different_keys
from wsi_deform.report.folder import report_comparison, report_folder
from wsi_deform.report.out import report_out

NASTY = "Miller <script>alert(1)</script> & 'co'"


def evaluated(folder: Path, evaluation: Evaluation, *, slides: tuple[str, ...] = ("s1",)) -> Path:
    """A mask folder with the masks of some slides, and an evaluation of these and others."""
    for slide_id in slides:
        drawn_results(folder, slide_id, maps=False, grey=200)
    write_all(evaluation, folder / "evaluation", provenance={"wsi_deform": "9.9"}, figures=False)
    return folder


def run_folder(folder: Path, name: str, **settings: Any) -> Path:
    folder.mkdir(parents=True)
    config = parse_config({"name": name, **settings}, source="test")
    (folder / "config.yaml").write_text(dump_config(config))
    (folder / "log.csv").write_text(
        "epoch,loss,segmentation_loss,edge_loss,learning_rate,seconds,val_miou\n"
        "1,2,1,1,0.1,30,\n2,1,0.5,0.5,0.1,30,0.625\n"
    )
    write_json(folder / "provenance.json", {"wsi_deform": "9.9", "command": ["train", NASTY]})
    return folder


def asked(*given: str | Path) -> Result:
    return CliRunner().invoke(typer_app, ["report", *(str(each) for each in given)])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The second is right about more of the pixels of each slide."""
    folder = tmp_path_factory.mktemp("two")
    one = drawn_evaluation()
    better = evaluation_of(
        [
            replace(slide, predicted=Confusion(slide.predicted.counts + 900 * np.eye(3, dtype=np.int64)))
            for slide in one.slides
        ]
    )  # fmt: skip
    return evaluated(folder / "a" / "out", one), evaluated(folder / "b" / "out", better)


def test_results_are_compared_on_the_same_slides_with_an_interval_of_the_difference(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    page = report_comparison(two, page=tmp_path / "c.html", figures=tmp_path / "figures")
    text = page.read_text(encoding="utf-8")
    assert "<h1>Comparison of a/out, b/out</h1>" in text
    found = re.search(
        r"b/out less a/out: mIoU \+(0\.\d+) \(95 % interval \+(0\.\d+) to \+(0\.\d+), over 7 slides\), on the 7 slides",
        text,
    )
    assert found is not None
    middle, low, high = map(float, found.groups())
    scores = []
    for each in two:
        data = json.loads((each / "evaluation.json").read_text())
        scores.append(data["pooled"]["predicted"]["miou"])
    assert middle == pytest.approx(scores[1] - scores[0], abs=5e-4)
    assert 0 < low < middle < high
    assert "1 of the 1 slides with measured masks of both are shown" in text
    assert re.search(r"<h3>s1: mIoU 0\.\d{3}, a/out</h3>.*<h3>s1: mIoU 0\.\d{3}, b/out</h3>", text, re.DOTALL)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "classes", "cost-decoded-pixels", "cost-flops", "cost-peak-memory-bytes", "cost-read-pixels", "cost-seconds",
    }  # fmt: skip
    assert "a/out: evaluated: wsi-deform" in text


def test_a_result_compared_with_itself_does_not_differ(two: tuple[Path, Path], tmp_path: Path) -> None:
    first = two[0]
    text = report_comparison([first, first / "evaluation.json"], page=tmp_path / "c.html").read_text()
    assert "mIoU +0.000 (95 % interval +0.000 to +0.000, over 7 slides)" in text


def test_runs_are_compared_by_their_curves_and_by_the_keys_that_differ(tmp_path: Path) -> None:
    one = run_folder(tmp_path / "one", "first", seed=1)
    other = run_folder(tmp_path / "other", "second", seed=2, sampling={"budget": [8, 16]})
    text = report_comparison([one, other], page=tmp_path / "c.html").read_text(encoding="utf-8")
    assert text.count("<figure") == 3
    assert re.search(r">one</th><td>2</td><td>1 min 0 s</td><td>1\.000</td><td>0\.625</td><td>2</td>", text)
    assert re.search(r">sampling\.budget</th><td>\[\d+, \d+\]</td><td>\[8, 16\]</td>", text)
    configs = {
        name: parse_config({"seed": seed}, source="t") for name, seed in (("a", 1), ("b", 2), ("c", 1))
    }
    assert different_keys(configs) == {"seed": ["1", "2", "1"]}


def test_things_are_called_by_as_much_of_their_path_as_tells_them_apart() -> None:
    def called(*paths: str) -> list[str]:
        return names_of([Path(each) for each in paths])

    assert called("/x/a", "/x/b") == ["a", "b"]
    assert called("/x/a/out", "/x/b/out", "/y/b/out") == ["x/a/out", "x/b/out", "y/b/out"]
    assert called("/x/a", "/x/a") == ["a (1)", "a (2)"]


def test_what_cannot_be_compared_is_named_with_what_is_needed(two: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone: no such file or folder\. Needed run folders"):
        report_comparison([two[0], tmp_path / "gone"])
    with pytest.raises(ModelError, match="holds neither config.yaml nor states/"):
        report_comparison([two[0], tmp_path])
    other = replace(drawn_evaluation(2), classes=ClassTable.from_names(["background", "gland", "vessel"]))
    write_all(other, tmp_path / "evaluation", provenance={}, figures=False)
    with pytest.raises(MaskError, match="gland, nerve; .* has background, gland, vessel. Needed evaluations"):
        report_comparison([two[0], tmp_path / "evaluation.json"], page=tmp_path / "c.html")
    assert not (tmp_path / "c.html").exists()


def test_the_command_takes_one_or_several_and_refuses_what_has_no_meaning(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    page = tmp_path / "one.html"
    found = asked(two[0], "--out", page, "--figures", tmp_path / "figures")
    assert (found.exit_code, found.stdout.strip()) == (0, str(page))
    assert (tmp_path / "figures" / "confusion-test.svg").is_file()
    found = asked(*two, "--out", tmp_path / "two.html")
    assert found.exit_code == 0
    assert "Comparison of" in (tmp_path / "two.html").read_text()
    assert "needed a file that ends with .html" in asked(two[0], "--out", tmp_path / "page.txt").output
    assert "labels beside the masks of one folder" in " ".join(
        asked(*two, "--slides", tmp_path / "m.csv").output.replace("│", " ").split()
    )
    with pytest.raises(ModelError, match="a run has no masks to show labels beside"):
        report_folder(run_folder(tmp_path / "run", "r"), manifest=tmp_path / "m.csv")


def test_labels_stand_beside_the_mask_where_a_manifest_has_them(tmp_path: Path) -> None:
    out = drawn_results(tmp_path / "out", "s1", maps=False, grey=200)
    labels = np.zeros((700, 1300), np.uint8)
    labels[:, :650] = 2
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack", tile=(256, 256))
    slide = tmp_path / "slides" / "s1.tif"
    (tmp_path / "m.csv").write_text(f"slide,slide_id,mask,mpp\n{slide},s1,{tmp_path / 'labels.tif'},0.5\n")
    text = report_folder(out.path, manifest=tmp_path / "m.csv").read_text(encoding="utf-8")
    assert "The labels over the slide: what is true." in text
    (tmp_path / "labels.tif").unlink()
    text = report_folder(out.path, manifest=tmp_path / "m.csv").read_text(encoding="utf-8")
    assert "The labels are not shown:" in text


def test_names_are_text_and_an_anonymous_page_has_none_of_them(tmp_path: Path) -> None:
    slides = [
        replace(slide, slide_id=f"{NASTY}{number}", patient=f"Patient {number}")
        for number, slide in enumerate(drawn_evaluation(2).slides)
    ]
    write_all(evaluation_of(slides), tmp_path / "evaluation", provenance={"command": [NASTY]}, figures=False)
    ledger = Ledger(MaskFolder(tmp_path))
    ledger.folder.states.mkdir()
    for number in range(2):
        ledger.write(
            State(slide_id=f"Miller-{number}", status="failed", error=f"slide {NASTY}: gone", traceback=NASTY)
        )
    write_json(
        MaskFolder(tmp_path).run("20260101T000000Z"), {"model": NASTY, "provenance": {"command": [NASTY]}}
    )
    text = report_folder(tmp_path).read_text(encoding="utf-8")
    assert "<script" not in text
    assert text.count("Miller &lt;script&gt;alert(1)&lt;/script&gt; &amp; &#39;co&#39;") > 6
    for page in (
        report_folder(tmp_path, anonymous=True),
        report_comparison([tmp_path, tmp_path / "evaluation.json"], anonymous=True, page=tmp_path / "c.html"),
    ):
        hidden = page.read_text(encoding="utf-8")
        assert "Miller" not in hidden
        assert "Patient" not in hidden
        assert re.search(r"slide-[0-9a-f]{10}", hidden)
        assert str(tmp_path) not in hidden


def test_a_folder_of_2000_slides_has_a_small_page_that_says_what_is_not_in_it(tmp_path: Path) -> None:
    ledger = Ledger(MaskFolder(tmp_path))
    for number in range(2000):
        state = State(
            slide_id=f"s{number:04d}", status="done", width_px=100, height_px=100, samples=9, method="patches"
        )
        failed = State(
            slide_id=f"s{number:04d}", status="failed", error=f"slide {number}: gone", traceback="at x"
        )
        ledger.write(failed if number % 4 == 0 else state)
    page = report_out(tmp_path)
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 100_000
    assert "50 of 500 failures are shown. All are in the folder states." in text
    assert text.count("traceback: ") == 10
    assert "8 of the 1,500 segmented slides are shown" in text
