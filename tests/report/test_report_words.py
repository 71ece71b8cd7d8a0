"""What reports say in words of evaluations, runs and mask folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wsi_deform.anonymous import AS_THEY_ARE
from wsi_deform.config import parse_config
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.errors import MaskError
from wsi_deform.files import write_json
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.report import out as out_module
from wsi_deform.report.evaluated import evaluated_sections
from wsi_deform.report.out import _by, _costs, _measurements, out_provenance, report_out
from wsi_deform.report.run import _stopped_early, describe_config
from wsi_deform.report.shown_slides import Shown, _blank, _looked_at, choose, evenly


def evaluation_of(**measured: Any) -> dict[str, Any]:
    iou = {"background": 0.9, "gland": 0.5, "nerve": None}
    predicted = {
        "miou": 0.7, "miou_without_background": 0.5, "iou": iou, "accuracy": 0.91,
        "dice": {"background": 0.95, "gland": 0.6667, "nerve": None},
        "precision": {"background": 0.9, "gland": 0.8, "nerve": None},
        "recall": {"background": 1.0, "gland": 0.25, "nerve": None},
    }  # fmt: skip
    data = {
        "split": "val",
        "background": "background",
        "classes": ["background", "gland", "nerve"],
        "pooled": {"predicted": predicted, "sampled": None},
        "slides": [{"slide_id": "s", "mpp": 0.5, "predicted": predicted, "sampled": None}],
    }
    return data | measured


def test_an_evaluation_is_told_with_its_intervals(tmp_path: Path) -> None:
    def border(name: str, unit: str, mean: float | None) -> dict[str, Any]:
        return {"class": name, "unit": unit, "mean": mean, "percentile_95": 12.5}

    rows = [border("gland", "px", 9.0), border("gland", "um", 4.5), border("nerve", "um", None)]
    held = {
        "miou": [0.61, 0.78], "groups": 9, "of": "patients", "iou": {"gland": [0.4, 0.625]},
        "boundary": [{}, {"mean": [3.5, 6.0]}, {"mean": None}],
    }  # fmt: skip
    data = evaluation_of(intervals=held, measured={"boundary": rows})
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(data))
    sections, fact = evaluated_sections(path)
    assert (fact.value, fact.what) == ("0.700", 'mIoU, split "val"')
    assert fact.more == "95 % interval 0.610 to 0.780, over 9 patients"
    assert sections[0].table is not None
    assert sections[0].table.header == (
        "class", "IoU", "Dice", "precision", "recall", "mean boundary distance, µm",
    )  # fmt: skip
    assert sections[0].table.rows == (
        ("background", "0.900", "0.950", "0.900", "1.000", "–"),
        ("gland", "0.500\n0.400 to 0.625", "0.667", "0.800", "0.250", "4.50\n3.50 to 6.00"),
        ("nerve", "–", "–", "–", "–", "–"),
        ("mean", "0.700\n0.610 to 0.780", "–", "–", "–", "–"),
        ("mean without background", "0.500", "–", "–", "–", "–"),
    )
    borders = next(section for section in sections if section.title == "Boundary distance")
    assert borders.table is not None
    assert borders.table.rows[1] == ("gland", "µm", "4.50\n3.50 to 6.00", "12.50", "–", "–", "–")
    # Older versions measured less, and few groups have no interval.
    for less in ({}, {"intervals": None}):
        path.write_text(json.dumps(evaluation_of(**less)))
        older, fact = evaluated_sections(path)
        assert [section.title for section in older] == [
            'Against the labels, split "val"', "Every slide, the worst first",
        ]  # fmt: skip
        assert fact.more == ""
        assert older[0].notes == ["No intervals: fewer than 5 patients or slides say nothing of others."]
    path.write_text(json.dumps(evaluation_of(measured={"boundary": [{"class": "gland"}]})))
    with pytest.raises(MaskError, match=r"evaluation\.json: not an evaluation .*Evaluate again"):
        evaluated_sections(path)


def test_a_run_stopped_early_when_as_many_validations_as_its_patience_brought_nothing() -> None:
    config = parse_config({"training": {"patience": 2}}, source="test")
    for scores, stopped in (([0.3, 0.5, 0.5, 0.4], True), ([0.3, 0.4, 0.5, 0.4], False), ([], False)):
        assert _stopped_early([{"val_miou": score} for score in scores], config) is stopped
    assert not _stopped_early(
        [{"val_miou": 1.0}] * 99, parse_config({"training": {"patience": None}}, source="t")
    )


def test_a_configuration_in_words_has_its_numbers() -> None:
    config = parse_config({"sampling": {"budget": [32, 128], "density": "uniform"}}, source="test")
    assert describe_config(config)[0].startswith(
        "Each field is sampled evenly with 4,096 samples (a sampled image of about 32 x 128 px). The network "
    )


def state(**given: Any) -> State:
    usual: dict[str, Any] = {
        "slide_id": "s",
        "status": "done",
        "width_px": 1000,
        "height_px": 200,
        "samples": 400,
    }
    return State(**{**usual, "tiles": 12, "seconds": 8.0, "fields": 1, "class_pixels": (1,), **given})


def test_the_cost_of_masks_is_per_slide_and_as_a_share_of_all_pixels() -> None:
    facts = _costs([state(), state(width_px=3000, samples=1600, tiles=3000, seconds=12.0)])
    assert [(fact.value, fact.what) for fact in facts] == [
        ("1 / 400", "samples taken / pixels of the slides"),
        ("1,000", "samples per slide"),
        ("1,506", "tiles read per slide"),
        ("10 s", "per slide"),
    ]
    assert _costs([]) == []
    # 200,000 pixels: more than two thirds of them are told as a number.
    for samples, said in ((133_333, "1 / 2"), (133_334, "0.67"), (250_000, "1.25")):
        assert _costs([state(samples=samples)])[0].value == said


def test_slides_that_are_shown_are_spread_evenly_from_first_to_last() -> None:
    states = [state(slide_id=str(each)) for each in range(9)]
    assert [each.slide_id for each in evenly(states, 3)] == ["0", "4", "8"]
    assert [each.slide_id for each in evenly(states, 4)] == ["0", "3", "5", "8"]
    assert evenly(states, 9) == states


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"samples": 4000}, "4,000 samples in 1 field"),
        ({"fields": 2}, "400 samples in 2 fields"),
        ({"method": "patches", "samples": 4096}, "1 patch of 4,096 pixels in all"),
        ({"method": "patches", "fields": 1200}, "1,200 patches of 400 pixels in all"),
        (
            {"method": "edge oracle"},
            "edge oracle: 400 samples in 1 field, placed by the labels of the slide itself",
        ),
    ],
)
def test_how_a_slide_was_looked_at_is_said(given: dict[str, Any], said: str) -> None:
    assert _looked_at(state(**given)) == said


def test_how_masks_were_made_is_said_once_a_method() -> None:
    assert _by([]) == _by([state()]) == "from a few samples per slide"
    assert _by([state(method="patches"), state(), state()]) == (
        "from a few samples per slide, or from patches that cover the tissue (the baseline)"
    )


def test_a_slide_that_is_gone_is_paper_of_its_shape() -> None:
    assert _blank(Size(48_000, 24_000)).shape == (600, 1200, 3)
    assert _blank(Size(10, 100_000)).shape == (1200, 1, 3)
    assert (_blank(Size(3, 3)) == 255).all()


def test_areas_are_told_where_they_are_known(tmp_path: Path) -> None:
    path = tmp_path / "measurements.csv"
    path.write_text(
        "slide,class,pixels,mm2,tissue_mm2,share_of_tissue,share_of_slide,remarks\n"
        "a,gland,1,1234.56,,,0.12345,\na,nerve,1,0.0012,,,1,\nb,gland,1,,,,0.5,\n"
    )
    section = _measurements(path, AS_THEY_ARE)
    table = section.table
    assert table is not None
    assert (section.folded, section.notes) == (False, [])
    assert table.header == ("slide", "gland", "nerve")
    assert table.rows == (
        ("a", "1.23e+03 mm²\n12.3 %", "0.0012 mm²\n100.0 %"),
        ("b", "50.0 %", ""),
    )


def test_the_newest_record_of_a_folder_says_how_it_was_made(tmp_path: Path) -> None:
    folder = MaskFolder(tmp_path)
    assert out_provenance(folder, AS_THEY_ARE) == {}
    for stamp, device in (("20260101T000000Z", "cpu"), ("20260301T000000Z", "cuda"), (".20260401", "none")):
        write_json(folder.run(stamp), {"device": device, "other": 3, "provenance": {"seed": 7}})
    assert out_provenance(folder, AS_THEY_ARE) == {
        "record": "runs/20260301T000000Z.json",
        "device": "cuda",
        "seed": 7,
    }


def test_eight_slides_are_shown_and_every_state_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, Any] = {}
    monkeypatch.setattr(out_module, "write_report", lambda path, **given: shown.update(given) or path)
    ledger = Ledger(MaskFolder(tmp_path))
    for each in range(13):
        ledger.write(state(slide_id=f"s{each:02d}", method="patches", mpp=0.25 if each else None))
    ledger.write(state(slide_id="bad", status="failed", error="no\n  way", class_pixels=()))
    for each in range(2):
        ledger.write(state(slide_id=f"x{each}", status="not_started"))
    report_out(tmp_path)
    assert [(fact.value, fact.what) for fact in shown["facts"][:3]] == [
        ("13", "slides segmented"),
        ("1", "slides failed"),
        ("2", "slides not finished"),
    ]
    assert shown["lead"] == [
        "Masks of 16 slides, made by wsi-deform from patches that cover the tissue (the baseline)."
    ]
    failed = shown["sections"][0].table
    assert (failed.header, failed.rows, failed.is_text) == (("slide", "reason"), (("bad", "no way"),), True)
    about, *slides = shown["sections"][1:]
    assert about.text == [
        "8 of the 13 segmented slides are shown, evenly spread over the list: none has measures that would tell the "
        "worst."
    ]
    assert [slide.title for slide in slides][::7] == ["s00", "s12"]
    assert slides[0].text == ["1,000 x 200 px; 1 patch of 400 pixels in all, 12 tiles read, 8.0 s."]
    assert slides[-1].text == [
        "1,000 x 200 px at 0.25 µm per pixel; 1 patch of 400 pixels in all, 12 tiles read, 8.0 s."
    ]


def test_the_worst_and_the_best_slides_are_shown_where_they_were_measured() -> None:
    done = [state(slide_id=each) for each in "abcdefg"]
    scores = dict(zip("abcdef", (0.5, 0.25, None, 0.75, 0.125, 0.625), strict=True))
    evaluation = {
        "slides": [{"slide_id": name, "predicted": {"miou": miou}} for name, miou in scores.items()]
    }
    chosen, why = choose(done, evaluation, 3)
    assert [(each.state.slide_id, each.why) for each in chosen] == [
        ("e", "mIoU 0.125, the lowest of 5"),
        ("b", "mIoU 0.250, the 2nd lowest of 5"),
        ("d", "mIoU 0.750, the highest of 5"),
    ]
    assert why == (
        "3 of the 7 segmented slides are shown: the 2 with the lowest mean IoU, the lowest first, then the 1 with the "
        "highest, the highest first."
    )
    chosen, why = choose(done, evaluation, 5)
    assert [each.why for each in chosen][2:4] == [
        "mIoU 0.500, the 3rd lowest of 5",
        "mIoU 0.625, the 2nd highest of 5",
    ]
    assert why == "5 of the 7 segmented slides are shown, the worst first: those with measures."
    assert choose(done[:2], None, 2) == ([Shown(state=each) for each in done[:2]], "")
