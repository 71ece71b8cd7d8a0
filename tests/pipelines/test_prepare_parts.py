"""What public sets are prepared with: splits to counts, run lengths, votes, tables."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.prepare.converted import TILE_PX, bands_of, made_of, write_labels_once
from pipelines.prepare.deal import scaled_counts, split_to_counts
from pipelines.prepare.deepglobe import PUBLISHED as DEEPGLOBE
from pipelines.prepare.folders import read_table
from pipelines.prepare.gleason2019 import majority
from pipelines.prepare.pca_histo import PUBLISHED as PCA_HISTO
from pipelines.prepare.rle import mask_bands, parse_runs
from pipelines.prepare.sicapv2 import encoding_of
from wsi_deform.annotation.mask_file import MaskFile
from wsi_deform.errors import AnnotationError, ManifestError
from wsi_deform.geometry import Size


def slides_of(split_of, slides):
    return {
        split: sum(slides[patient] for patient, own in split_of.items() if own == split)
        for split in ("train", "val", "test")
    }


def test_the_papers_266_slides_are_200_27_and_39_by_patient():
    assert scaled_counts(266, PCA_HISTO) == {"train": 200, "val": 27, "test": 39}
    rng = np.random.default_rng(0)
    drawn = 1 + np.bincount(
        rng.integers(0, 122, 266 - 122), minlength=122
    )  # 122 patients, 1 to 6 slides each
    slides = {f"P{number}": int(count) for number, count in enumerate(drawn)}
    found = [split_to_counts(slides, PCA_HISTO, seed) for seed in (0, 0, 1)]
    assert [slides_of(each, slides) for each in found] == [{"train": 200, "val": 27, "test": 39}] * 3
    assert found[0] == found[1] != found[2]


def test_the_papers_455_207_and_142_do_not_fit_803_images():
    assert sum(DEEPGLOBE.values()) == 804
    counts = scaled_counts(803, DEEPGLOBE)
    assert counts == {"train": 454, "val": 207, "test": 142}
    split_of = split_to_counts({str(number): 1 for number in range(803)}, counts, 0)
    assert Counter(split_of.values()) == counts
    assert scaled_counts(804, DEEPGLOBE) == dict(DEEPGLOBE)


def test_patients_too_large_for_the_counts_come_as_near_as_they_can_and_leave_no_split_empty():
    slides = {"a": 5, "b": 5, "c": 5, "d": 5}
    found = split_to_counts(slides, {"train": 16, "val": 2, "test": 2}, 0)
    assert slides_of(found, slides) == {"train": 10, "val": 5, "test": 5}
    assert split_to_counts({"a": 3}, {"train": 1, "val": 1, "test": 1}, 0) == {"a": "train"}


def test_the_nearest_sum_is_found_where_a_greedy_deal_misses_it():
    slides = {"a": 4, "b": 4, "c": 3, "d": 6}
    for seed in range(8):
        found = split_to_counts(slides, {"val": 7, "test": 6}, seed)
        assert slides_of(found, slides) == {"train": 4, "val": 7, "test": 6}


@pytest.mark.parametrize("band", [1, 2, 3, 5])
def test_runs_go_down_columns_and_on_in_the_next(band):
    size = Size(4, 5)
    runs = parse_runs("1 2 5 3 18 1", size, "s")
    mask = np.concatenate(list(mask_bands(runs, size, band)))
    assert mask.T.tolist() == [[1, 1, 0, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]


def test_runs_of_many_columns_and_none():
    size = Size(3, 4)
    assert np.concatenate(list(mask_bands(parse_runs("3 8", size, "s"), size, 3))).T.tolist() == [
        [0, 0, 1, 1],
        [1, 1, 1, 1],
        [1, 1, 0, 0],
    ]
    assert np.concatenate(list(mask_bands(parse_runs("", size, "s"), size, 2))).sum() == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1 2 3", "3 numbers. Needed pairs"),
        ("1 two", "not whole numbers"),
        ("0 2", "a run outside 3 x 4 px"),
        ("12 2", "a run outside 3 x 4 px"),
        ("5 0", "a run outside 3 x 4 px"),
    ],
)
def test_runs_that_are_none_are_refused_by_the_name_of_their_slide(text, said):
    with pytest.raises(AnnotationError, match=f"run lengths of core: {said}"):
        parse_runs(text, Size(3, 4), "core")


def test_pathologists_vote_and_ties_and_unknown_values_are_unlabelled():
    maps = [
        np.array([row], np.uint8)
        for row in ([0, 3, 3, 4, 2, 7, 5], [1, 3, 4, 4, 2, 3, 4], [6, 5, 5, 3, 1, 2, 5])
    ]
    assert majority(maps).tolist() == [[0, 1, 255, 2, 0, 1, 3]]
    assert majority(maps[:1]).tolist() == [[0, 1, 1, 2, 255, 255, 3]]


def test_labels_are_written_once_and_again_only_for_another_origin(tmp_path):
    labels = (np.indices((TILE_PX + 7, 2 * TILE_PX + 5)).sum(axis=0) % 3).astype(np.uint8)
    size = Size(labels.shape[1], labels.shape[0])
    path = tmp_path / "labels" / "a.tif"
    assert write_labels_once(path, size, made_of("a"), lambda: bands_of(labels))
    assert not write_labels_once(path, size, made_of("a"), lambda: pytest.fail("made again"))
    file = MaskFile(path)
    assert (file.size, file.tile) == (size, Size(TILE_PX, TILE_PX))
    assert (file.read_tile(2, 1) == labels[TILE_PX:, 2 * TILE_PX :]).all()
    assert (file.read_tile(1, 0) == labels[:TILE_PX, TILE_PX : 2 * TILE_PX]).all()
    assert write_labels_once(path, size, made_of("b"), lambda: bands_of(labels))
    assert [each.name for each in path.parent.iterdir()] == ["a.tif"]


def test_labels_that_fail_half_way_leave_the_earlier_file(tmp_path):
    path = tmp_path / "a.tif"
    labels = np.ones((4, 4), np.uint8)
    write_labels_once(path, Size(4, 4), made_of("a"), lambda: bands_of(labels))
    before = path.read_bytes()

    def broken():
        raise AnnotationError("cannot be read")
        yield labels

    with pytest.raises(AnnotationError):
        write_labels_once(path, Size(4, 4), made_of("b"), broken)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize(
    ("values", "found"), [([0, 3, 4], (0, 3, 4, 5)), ([0, 1, 3], (0, 1, 2, 3)), ([0], (0, 3, 4, 5))]
)
def test_numbers_of_sicapv2_are_told_by_those_that_leave_no_doubt(values, found, tmp_path):
    paths = []
    for value in values:
        paths.append(tmp_path / f"{value}.png")
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(paths[-1])
    assert encoding_of(paths) == found


def test_a_3_that_may_mean_two_grades_is_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 3, np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(AnnotationError, match=r"values \[3\]. Needed one of 1, 2, 4 or 5 too"):
        encoding_of([tmp_path / "a.png"])


def test_columns_are_found_whatever_spaces_and_case_and_missing_ones_are_named(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("Slide ; Patient\na.svs;P1\n")
    assert read_table(table, ("slide", "patient")) == [{"slide": "a.svs", "patient": "P1"}]
    with pytest.raises(ManifestError, match="no column grade; found slide, patient"):
        read_table(table, ("slide", "patient", "grade"))


def test_the_first_sheet_of_a_workbook_is_a_table(tmp_path):
    openpyxl = pytest.importorskip(
        "openpyxl", reason="openpyxl reads Excel workbooks; it is in requirements.lock"
    )
    book = openpyxl.Workbook()
    for row in (("slide_id", "patient_id"), ("16B0001851", 7), (None, None), ("16B0001852", 8.0)):
        book.active.append(row)
    book.create_sheet("other").append(["nothing"])
    book.save(tmp_path / "t.xlsx")
    assert read_table(tmp_path / "t.xlsx", ("slide_id", "patient_id")) == [
        {"slide_id": "16B0001851", "patient_id": "7"},
        {"slide_id": "16B0001852", "patient_id": "8"},
    ]


def test_what_is_no_workbook_is_refused(tmp_path):
    pytest.importorskip("openpyxl", reason="openpyxl reads Excel workbooks; it is in requirements.lock")
    (tmp_path / "t.xlsx").write_text("slide,patient")
    with pytest.raises(ManifestError, match=r"workbook .*t.xlsx: cannot be read"):
        read_table(tmp_path / "t.xlsx", ("slide",))


def test_a_workbook_without_openpyxl_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(ManifestError, match=r"openpyxl is not installed.*or save the sheet as t.csv"):
        read_table(Path(tmp_path / "t.xlsx"), ("slide",))
