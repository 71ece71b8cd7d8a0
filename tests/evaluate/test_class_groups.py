"""Groups of classes: measured as one class each, and told wherever an evaluation is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from rich.console import Console

from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.cli.evaluate import show
from wsi_deform.evaluate.class_groups import group_measures, group_notes
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.slide_measures import Measured
from wsi_deform.evaluate.summary import summary_text
from wsi_deform.evaluate.tables import evaluation_data
from wsi_deform.geometry import Size
from wsi_deform.report.evaluated import evaluated_sections

TABLE = class_table_from_data(
    {
        "classes": ["background", "invasive", "in situ", "stroma"],
        "groups": {"tumour": ["invasive", "in situ"], "none seen": ["stroma"]},
    },
    "test",
)
# Rows are true: of 60 px of tumour 50 are tumour in the mask, 15 of them of the other kind; 10 are not, 20 px too many.
COUNTS = Confusion(np.array([[80, 15, 5, 0], [4, 20, 10, 0], [6, 5, 15, 0], [0, 0, 0, 0]], np.int64))
SAID = "Group tumour (invasive, in situ): IoU 0.6250, Dice 0.7692, precision 0.7143, recall 0.8333."


def evaluation_of(table):
    slide = SlideEvaluation(
        slide_id="a",
        size=Size(16, 10),
        predicted=COUNTS,
        sampled=None,
        patient=None,
        mpp=0.5,
        measured=Measured(),
    )
    return Evaluation(masks="masks", split="test", classes=table, slides=(slide,), unmeasured=())


def test_within_a_group_one_class_taken_for_another_is_no_error():
    found = group_measures(COUNTS, TABLE)["tumour"]
    assert found["classes"] == ["invasive", "in situ"]
    assert found["iou"] == 50 / 80
    assert found["dice"] == 100 / 130
    assert found["precision"] == 50 / 70
    assert found["recall"] == 50 / 60


def test_a_group_that_is_nowhere_is_not_measured():
    found = group_measures(COUNTS, TABLE)["none seen"]
    assert [found[key] for key in ("iou", "dice", "precision", "recall")] == [None] * 4


def test_summary_and_json_tell_of_groups():
    data = evaluation_data(evaluation_of(TABLE))
    assert data["pooled"]["predicted"]["groups"]["tumour"]["iou"] == 0.625
    assert data["slides"][0]["predicted"]["groups"]["tumour"]["iou"] == 0.625
    none = "precision not measured, recall not measured."
    assert group_notes(data) == [
        SAID,
        f"Group none seen (stroma): IoU not measured, Dice not measured, {none}",
    ]
    assert f"\n\n{SAID}\n\n" in summary_text(data, {})


def test_command_prints_groups():
    console = Console(record=True, width=120)
    show(evaluation_of(TABLE), console)
    assert SAID in console.export_text()


def test_report_tells_of_groups(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(evaluation_data(evaluation_of(TABLE))))
    sections, _ = evaluated_sections(path)
    rows = [row for section in sections if section.table for row in section.table.rows]
    measures = ("0.625", "0.769", "0.714", "0.833")
    assert ("group tumour (invasive, in situ)", *measures, "–", "–") in [tuple(row) for row in rows]


def test_groups_are_in_no_mean_and_a_table_without_has_no_word_of_them():
    plain = replace(TABLE, groups=())
    with_groups, without = (evaluation_data(evaluation_of(table)) for table in (TABLE, plain))
    assert with_groups["pooled"]["predicted"]["miou"] == without["pooled"]["predicted"]["miou"]
    assert "groups" not in without["pooled"]["predicted"]
    assert "Group" not in summary_text(without, {})
    assert group_notes(evaluation_data(evaluation_of(ClassTable.from_names(TABLE.names)))) == []
