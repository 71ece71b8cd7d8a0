"""Manifests: what is read, and that every problem is named with value and remedy, all at once."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from wsi_deform.errors import ManifestError
from wsi_deform.manifest.licences import licences_of, licences_text
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest, ManifestRow, slide_id_from_path, write_manifest
from wsi_deform.paths import SLIDE_SUFFIXES, ZARR_SUFFIX
from wsi_deform.slide.find import slide_id_of


@pytest.fixture
def write(tmp_path):
    for name in ("a.svs", "b.ome.tif", "c.svs", "a_mask.png", "t.png"):
        (tmp_path / name).touch()

    def write_text(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "manifest.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write_text


def message(path):
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    return str(caught.value)


def test_all_columns_are_read(write, tmp_path):
    path = write(
        "slide_id,slide,patient,split,mask,mask_channel,tissue_mask,mpp,Stain batch\n"
        "one,a.svs,P1,Train,a_mask.png,red,t.png,0.25,7\n"
        "two,b.ome.tif,P2,test,,,,,\n"
    )
    manifest = read_manifest(path)
    one, two = manifest.rows
    assert (one.slide, one.slide_id, one.patient, one.split) == (tmp_path / "a.svs", "one", "P1", "train")
    assert (one.mask, one.mask_channel, one.tissue_mask, one.mpp) == (
        tmp_path / "a_mask.png",
        0,
        tmp_path / "t.png",
        0.25,
    )
    assert (one.extra, one.line) == ({"Stain batch": "7"}, 2)
    assert (two.mask, two.mask_channel, two.mpp, two.annotation) == (None, None, None, None)
    assert (manifest.folder, manifest.extra_columns) == (tmp_path, ("Stain batch",))
    assert [row.slide_id for row in manifest.of_split("test")] == ["two"]


@pytest.mark.parametrize("header", ["wsi,case_id", "image,patient_id", "path,patient", "Slide,Patient ID"])
def test_aliases_name_the_same_columns(write, header):
    row = read_manifest(write(f"{header}\na.svs,P1\n")).rows[0]
    assert (row.slide.name, row.patient, row.slide_id) == ("a.svs", "P1", "a")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_spreadsheet_dialects_are_accepted(write, delimiter, encoding):
    text = f"slide{delimiter}patient\r\na.svs{delimiter}Müller\r\n\r\nc.svs{delimiter}O\r\n"
    assert [row.patient for row in read_manifest(write(text, encoding)).rows] == ["Müller", "O"]


def test_slide_ids_agree_with_those_of_the_readers():
    ids = {
        "a.svs": "a",
        "case.7.svs": "case.7",
        "b.ome.tif": "b",
        "b.OME.TIFF": "b",
        "z.ome.zarr": "z",
        "z.ome.zarr.zip": "z",
        "x.jp2.tiff": "x.jp2",
        "folder.7": "folder.7",
        "a.npy": "a.npy",
        "noext": "noext",
        ".svs": "_svs",
    }
    ids |= {f"n.m{suffix}": "n.m" for suffix in (*SLIDE_SUFFIXES, ZARR_SUFFIX)}
    assert {name: slide_id_from_path(name) for name in ids} == ids
    assert {name: slide_id_of(Path(name)) for name in ids} == ids


def test_absolute_paths_stay(write, tmp_path):
    assert read_manifest(write(f"slide\n{tmp_path / 'a.svs'}\n")).rows[0].slide == tmp_path / "a.svs"


def test_rows_validate_themselves():
    with pytest.raises(ValidationError):
        ManifestRow(slide=Path("a.svs"), slide_id="a", mpp=250.0)


def test_written_manifest_reads_the_same(write, tmp_path):
    manifest = read_manifest(
        write(
            "slide,patient,split,mask,mask_channel,mpp,note\n"
            'a.svs,P,train,a_mask.png,2,0.5,"x, y"\nc.svs,Q,val,,,,\n'
        )
    )
    again = tmp_path / "again.csv"
    write_manifest(manifest, again)
    assert read_manifest(again).rows == manifest.rows
    assert again.read_text().splitlines()[0] == "slide_id,slide,patient,split,mask,mask_channel,mpp,note"
    assert not list(tmp_path.glob(".aside*"))


@pytest.mark.parametrize("column", ["data_licence", "Data License"])
def test_the_licence_of_the_data_is_a_column_that_is_known(write, tmp_path, column):
    manifest = read_manifest(write(f"slide,{column}\na.svs,CC BY 4.0\nc.svs,\n"))
    assert [row.data_licence for row in manifest.rows] == ["CC BY 4.0", None]
    assert manifest.extra_columns == ()
    write_manifest(manifest, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_text().splitlines()[:2] == [
        "slide_id,slide,data_licence",
        "a,a.svs,CC BY 4.0",
    ]


def test_licences_are_counted_by_name_and_what_says_none_comes_last():
    rows = [
        ManifestRow(slide=Path(f"{n}.svs"), slide_id=str(n), data_licence=said)
        for n, said in enumerate([None, "zlib", "CC0", "zlib"])
    ]
    assert licences_text(licences_of(rows)) == "CC0 (1 slide), zlib (2 slides), not stated (1 slide)"


def test_paths_outside_the_folder_are_written_absolute(tmp_path):
    manifest = Manifest(rows=(ManifestRow(slide=Path("/data/x.svs"), slide_id="x"),), folder=tmp_path)
    write_manifest(manifest, tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text() == "slide_id,slide\nx,/data/x.svs\n"


def test_all_problems_are_listed_at_once(write):
    text = message(
        write(
            "slide,slide_id,patient,split,mask,annotation,mpp\n"
            "a.svs,a,P1,train,,,0.25\n"
            "gone.svs,b,P2,train,,,\n"
            "c.svs,a,P1,test,,,\n"
            ",d,P3,val,,,\n"
            "b.ome.tif,e,P4,validation,a_mask.png,t.png,250\n"
        )
    )
    for part in (
        "7 problems",
        "line 3, column slide",
        "line 5",
        "line 6, column mpp",
        "column split",
        "'a' again",
    ):
        assert part in text, part
    assert "patient 'P1' is in train (line 2) and test (line 4)" in text
    assert "Needed one source of labels per slide" in text


def test_missing_slide_column_names_what_is_there_and_the_remedy(write):
    text = message(write("file,patient\na.svs,P\n"))
    assert "manifest.csv: no column slide; found 'file', 'patient'" in text
    assert "Rename the column that holds the paths to slide" in text


def test_patient_in_two_splits_names_lines_and_remedy(write):
    text = message(write("slide,patient,split\na.svs,P1,train\nb.ome.tif,P1,test\nc.svs,P1,train\n"))
    assert (
        "manifest.csv line 3, column patient: patient 'P1' is in train (lines 2, 4) and test (line 3)" in text
    )
    assert "Give all slides of this patient the same split" in text


@pytest.mark.parametrize("value", ["0", "-1", "250", "nan", "inf", "forty", '"0,25"'])
def test_wrong_mpp_names_value_range_and_remedy(write, value):
    text = message(write(f"slide,mpp\na.svs,{value}\n"))
    assert f"manifest.csv line 2, column mpp: {value.strip(chr(34))!r}" in text
    assert "Needed a number from 0.05 to 20 um per level-0 pixel" in text
    assert "empty the cell to use what the slide says" in text
    assert ("with a point, not a comma" in text) == ("," in value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("250", " (250 nm are 0.25 um)."),
        ("0.0005", " (0.0005 mm are 0.5 um)."),
        ("5e-07", " (5e-07 m are 0.5 um)."),
        ("4000", " (4000 pixels per mm are 0.25 um per pixel)."),
        ("40000", " (40000 pixels per cm are 0.25 um per pixel)."),
        ("101600", " (101600 pixels per inch are 0.25 um per pixel)."),
        ("30", "or two, of x and y."),
    ],
)
def test_an_mpp_in_another_unit_is_named(write, value, hint):
    assert hint in message(write(f"slide,mpp\na.svs,{value}\n"))


@pytest.mark.parametrize(
    ("found", "near"), [("validation", "val"), ("trian", "train"), ("tset", "test"), ("dev", "val")]
)
def test_bad_split_suggests_the_nearest(write, found, near):
    assert f"column split: {found!r}. Needed train, val or test. Write {near}." in message(
        write(f"slide,split\na.svs,{found}\n")
    )


def test_missing_file_suggests_its_neighbour(write, tmp_path):
    text = message(write("slide,mask\na.svs,a_mask.pn\n"))
    assert "column mask: 'a_mask.pn' does not exist; did you mean 'a_mask.png'?" in text
    assert str(tmp_path) in text
    assert read_manifest(tmp_path / "manifest.csv", check_files=False).rows[0].slide_id == "a"


def test_a_file_that_is_a_pipe_is_refused_with_its_column(write, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    text = message(write("slide,mask\na.svs,pipe.png\n"))
    assert "line 2, column mask: 'pipe.png' is a named pipe. Needed a file or folder" in text


def test_ids_that_differ_only_in_how_accents_are_written_are_one(write):
    text = message(write("slide,slide_id\na.svs,caf\u00e9\nc.svs,cafe\u0301\n"))
    assert "again, as in line 2" in text


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("slide,slide_id\na.svs,x/y\n", ["column slide_id: 'x/y'", "Rename it"]),
        ("slide,slide_id\na.svs,X\nc.svs,x\n", ["'x' again, as in line 2"]),
        ("slide,slide_id\na.svs,x\na.svs,y\n", ["column slide", "again, as in line 2", "Remove the line"]),
        ("slide,patient\na.svs,P\nc.svs,\n", ["line 3, column patient: an empty cell"]),
        (
            "slide,split,mask\na.svs,train,a_mask.png\nc.svs,,t.png\nb.ome.tif,,\n",
            ["1 problem.", "line 3, column split: an empty cell beside labels"],
        ),
        ("slide,mask_channel\na.svs,red\n", ["'red'", "a mask beside it"]),
        ("slide,mask,mask_channel\na.svs,a_mask.png,purple\n", ["'purple'", "red, green, blue, or an index"]),
        ("slide,patient\na.svs,P,,1\n", ["line 2: 4 cells. Needed 2"]),
        ("slide,wsi\na.svs,a.svs\n", ["columns 'slide' and 'wsi' both mean slide"]),
        ('slide\n"a.svs\n', ["not CSV", "Mend that line"]),
        ("slide\n", ["a header and no rows"]),
        ("", ["holds nothing"]),
    ],
)
def test_each_problem_says_what_and_where(write, rows, parts):
    text = message(write(rows))
    for part in parts:
        assert part in text


def test_files_that_are_no_text_are_refused(write, tmp_path):
    assert "not UTF-8 text (byte 0xfc at position 8)" in message(write("slide\na\n\xfc", "latin-1"))
    assert "Check the path" in message(tmp_path / "none.csv")


def test_misspelt_columns_are_kept_and_pointed_out(write, caplog):
    with caplog.at_level(logging.WARNING):
        manifest = read_manifest(write("slide,pateint\na.svs,P\n"))
    assert manifest.rows[0].extra == {"pateint": "P"}
    assert "did you mean 'patient'?" in caplog.text


def test_names_that_a_spreadsheet_would_run_are_written_as_text_and_read_back_the_same(tmp_path):
    row = ManifestRow(
        slide=tmp_path / "=a.svs",
        slide_id="=a",
        patient="@7",
        split="test",
        mpp=0.5,
        extra={"+note": "'-x", "delta": "-1.5", "age": "\t=1"},
    )
    manifest = Manifest(rows=(row,), folder=tmp_path, extra_columns=("+note", "delta", "age"))
    write_manifest(manifest, tmp_path / "m.csv")
    assert (tmp_path / "m.csv").read_text() == (
        "slide_id,slide,patient,split,mpp,'+note,delta,age\n'=a,'=a.svs,'@7,test,0.5,''-x,-1.5,'\t=1\n"
    )
    read = read_manifest(tmp_path / "m.csv", check_files=False)
    assert read.rows[0].model_copy(update={"line": 0}) == row
    assert read.extra_columns == ("+note", "delta", "age")
