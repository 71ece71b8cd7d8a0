"""Whose slides: by a pattern, a list, barcodes, or each for itself; never by silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_deform.annotation.patients import patients_of
from wsi_deform.errors import ManifestError

SLIDES = {name: Path("s") / f"{name}.svs" for name in ("a_1", "a_2", "b_1")}


def listed(folder, text):
    (folder / "patients.csv").write_text(text)
    return folder / "patients.csv"


def refused(*args, **kwargs):
    with pytest.raises(ManifestError) as caught:
        patients_of(*args, **kwargs)
    return str(caught.value)


def test_nothing_said_is_refused_with_the_three_ways():
    assert refused(SLIDES) == (
        "patients: nothing says whose the 3 slides are (3 without a TCGA barcode: a_1, a_2, b_1). Needed to keep all "
        "slides of a patient in one split: otherwise measures on val and test are better than on new patients. Pass "
        "--patient REGEX (its first group in a slide's id is the patient), --patients CSV (columns slide or slide_id, "
        "and patient), or --each-slide-a-patient (no two slides are of one patient)."
    )


def test_barcodes_count_only_where_all_slides_have_one():
    both = {"TCGA-AA-0001-01Z-00-DX1": Path("1"), "TCGA-AA-0001-01Z-00-DX2": Path("2")}
    assert patients_of(both) == dict.fromkeys(both, "TCGA-AA-0001")
    assert "(1 without a TCGA barcode: other)" in refused({**both, "other": Path("3")})


def test_several_ways_are_refused(tmp_path):
    for ways in ({"pattern": "a", "each_slide": True}, {"pattern": "a", "listed": tmp_path / "p.csv"}):
        assert "asked for in several ways. Needed one of --patient REGEX" in refused(SLIDES, **ways)


def test_each_slide_may_be_a_patient():
    assert patients_of(SLIDES, each_slide=True) == {"a_1": "a_1", "a_2": "a_2", "b_1": "b_1"}


def test_the_first_group_of_a_pattern_is_the_patient():
    expected = {"a_1": "a", "a_2": "a", "b_1": "b"}
    assert patients_of(SLIDES, pattern="^(.)_") == expected
    assert patients_of(SLIDES, pattern="^[ab]") == expected


def test_a_pattern_that_finds_no_patient_is_refused_for_every_slide():
    said = refused(SLIDES, pattern="^(a?)")
    assert "b_1.svs: an empty match of '^(a?)'. Needed a patient" in said
    said = refused(SLIDES, pattern="^b")
    assert said.startswith("patients: 2 problems.")
    assert "a_2.svs: no match of '^b'" in said


@pytest.mark.parametrize(
    "text",
    [
        "slide_id,patient\na_1,P1\na_2,P1\nb_1,P2\nc_9,P3\n",
        "Slide;Patient ID;age\nscans/a_1.svs;P1;3\nC:\\x\\a_2.svs;P1;4\nb_1;P2;5\nc_9;;6\n",
        "patient,image\nP1,a_1.svs\nP1,a_2.svs\nP1,a_2.svs\nP2,b_1.svs\n",
    ],
)
def test_a_list_says_whose_the_slides_are(tmp_path, text):
    assert patients_of(SLIDES, listed=listed(tmp_path, text)) == {"a_1": "P1", "a_2": "P1", "b_1": "P2"}


def test_all_problems_of_a_list_are_told_at_once(tmp_path):
    path = listed(tmp_path, "slide_id,patient\na_1,P1\na_1,P2\na_2x,P1\nb_1,\n,P7\n")
    said = refused(SLIDES, listed=path)
    assert said.splitlines()[0] == f"list of patients {path}: 4 problems."
    for part in (
        "patients.csv line 3: slide a_1 is of patient 'P2', and of 'P1' in line 2. Needed one patient for a slide",
        "patients.csv line 5: no patient. Needed one beside its slide. Fill in patient or remove the line",
        "patients.csv line 6: no slide. Needed one beside its patient. Fill in slide_id or remove the line",
        "a_2.svs: no line with 'a_2' in column slide_id of patients.csv; did you mean 'a_2x' (line 4)?",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("name,who\na_1,P1\n", "no column slide or slide_id and no column patient; found 'name', 'who'"),
        ("slide_id,who\na_1,P1\n", "no column patient; found 'slide_id', 'who'"),
        ("slide,wsi,patient\na_1,a_1,P1\n", "columns 'slide' and 'wsi' both mean slide"),
        ("slide_id,patient\n", "holds a header and no rows"),
    ],
)
def test_a_list_of_another_form_is_refused(tmp_path, text, part):
    path = listed(tmp_path, text)
    assert f"list of patients {path}: {part}" in refused(SLIDES, listed=path)


def test_a_list_that_is_missing_is_named(tmp_path):
    assert "none.csv: cannot be read" in refused(SLIDES, listed=tmp_path / "none.csv")
