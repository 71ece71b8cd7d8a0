"""Labels paired with slides by a pattern of names or by a list, and what belongs to nothing is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_deform.annotation.folder import LabelSource, manifest_from_folder
from wsi_deform.annotation.label_search import LabelPattern
from wsi_deform.errors import ManifestError


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def built(study, remarks=None, **source):
    found = manifest_from_folder(
        study / "slides",
        labels=LabelSource(**source),
        each_slide_a_patient=True,
        on_remark=None if remarks is None else remarks.append,
    )
    labels = {row.slide_id: row.mask or row.annotation for row in found.rows}
    return {slide_id: path and path.relative_to(study).as_posix() for slide_id, path in labels.items()}


def refusal(study, **source):
    with pytest.raises(ManifestError) as caught:
        built(study, **source)
    return str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("{slide_id}_gt.xml", "a/b/case1_gt.xml", "case1"),
        ("{slide_id}_gt.xml", "case1_GT.XML", "case1"),
        ("{slide_id}_gt.xml", "case1.xml", None),
        ("{slide_id}_gt.xml", "_gt.xml", None),
        ("gt-{slide_id}.tif", "gt-case1.tif", "case1"),
        ("{slide_id}/mask.*", "x/case1/mask.png", "case1"),
        ("{slide_id}/mask.*", "mask.png", None),
        ("masks/{slide_id}.png", "x/masks/case1.png", "case1"),
        ("masks/{slide_id}.png", "x/other/case1.png", None),
        ("{slide_id}.v2.png", "case1xv2.png", None),
        ("{slide_id}*.png", "case1_by_ann.png", "case1"),
        ("{slide_id}*.png", "case10_by_ann.png", "case10"),
        ("{slide_id}*.png", "case10.png", "case10"),
    ],
)
def test_a_pattern_says_which_slide_a_file_is_of(pattern, path, found):
    assert LabelPattern(pattern).id_of(Path(path), {"case1", "case10", "case100"}) == found


@pytest.mark.parametrize("pattern", ["gt.xml", "{slide_id}/{slide_id}.png", "{id}.xml"])
def test_a_pattern_needs_the_place_of_the_id_once(tmp_path, pattern):
    touch(tmp_path, "slides/a.svs")
    said = refusal(tmp_path, pattern=pattern)
    assert said.startswith(f"labels pattern {pattern!r}: {{slide_id}} stands ")
    assert "Needed once, where the names of labels have the slide's id, e.g. {slide_id}_gt.xml." in said


def test_labels_are_found_by_a_pattern_beside_the_slides_and_in_the_folder_that_is_named(tmp_path):
    touch(tmp_path, "slides/a.tif", "slides/a_gt.tif", "slides/b.tif", "truth/b_gt.png", "truth/b.png")
    assert built(tmp_path, pattern="{slide_id}_gt.*", folder=tmp_path / "truth") == {
        "a": "slides/a_gt.tif",
        "b": "truth/b_gt.png",
    }


def test_a_folder_of_each_slide_may_hold_its_labels(tmp_path):
    touch(tmp_path, "slides/a.svs", "slides/b.svs", "truth/a/mask.tif", "truth/b/mask.tif", "truth/b/he.png")
    found = built(tmp_path, pattern="{slide_id}/mask.tif", folder=tmp_path / "truth")
    assert found == {"a": "truth/a/mask.tif", "b": "truth/b/mask.tif"}


def test_slides_do_not_become_their_own_labels(tmp_path):
    touch(tmp_path, "slides/a.tif", "slides/b.tif", "truth/a.tif")
    found = built(tmp_path, pattern="{slide_id}.tif", folder=tmp_path / "truth")
    assert found == {"a": "truth/a.tif", "b": None}


def test_files_of_other_names_are_no_labels_where_there_is_a_pattern(tmp_path):
    touch(tmp_path, "slides/a.svs", "slides/a_mask.png", "slides/a_gt.png")
    assert built(tmp_path, pattern="{slide_id}_gt.png") == {"a": "slides/a_gt.png"}


def test_a_pattern_that_fits_nothing_is_refused_with_the_places(tmp_path):
    touch(tmp_path, "slides/a.svs", "slides/masks/a.xml")
    said = refusal(tmp_path, pattern="{slide_id}_gt.xml")
    assert said == (
        "labels pattern '{slide_id}_gt.xml': fits no TIFF, PNG or file of outlines in "
        f"{tmp_path / 'slides'} and {tmp_path / 'slides' / 'masks'}. Needed the names of the labels. Correct it, or "
        "name their folder by --masks."
    )


@pytest.mark.parametrize("name", ["a.geojson.gz", "a_mask.GeoJSON.gz", "a.xml.zip", "a.json"])
def test_outlines_are_found_also_where_they_are_deflated(tmp_path, name):
    touch(tmp_path, "slides/a.svs", f"masks/{name}")
    (row,) = manifest_from_folder(tmp_path / "slides", each_slide_a_patient=True).rows
    assert (row.mask, row.annotation) == (None, tmp_path / "masks" / name)


def test_a_list_says_whose_labels_are_which(tmp_path):
    touch(
        tmp_path,
        "slides/a.svs",
        "slides/b.svs",
        "slides/c.svs",
        "lists/x.png",
        "lists/sub/y.xml",
        "elsewhere/x.png",
    )
    text = "slide,mask,annotation,other\nD:\\scans\\a.svs,x.png,,1\nb.svs,,sub/y.xml,2\nc.svs,,,\n"
    (tmp_path / "lists" / "pairs.csv").write_text(text)
    remarks = []
    found = built(tmp_path, remarks, pairs=tmp_path / "lists" / "pairs.csv")
    assert found == {"a": "lists/x.png", "b": "lists/sub/y.xml", "c": None}
    assert remarks == ["1 of 3 slides without labels, in no split: c"]
    (tmp_path / "lists" / "ids.csv").write_text("slide_id;mask\na;x.png\n")
    found = built(tmp_path, pairs=tmp_path / "lists" / "ids.csv", folder=tmp_path / "elsewhere")
    assert found == {"a": "elsewhere/x.png", "b": None, "c": None}


def test_labels_beside_the_slides_are_no_slides_where_a_list_says_so(tmp_path):
    touch(tmp_path, "slides/a.tif", "slides/x1.tif")
    (tmp_path / "pairs.csv").write_text("slide,mask\na.tif,slides/x1.tif\n")
    assert built(tmp_path, pairs=tmp_path / "pairs.csv") == {"a": "slides/x1.tif"}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "slide,labels\na.svs,x.png\n",
            ["no column mask or annotation; found 'slide', 'labels'. Needed a column"],
        ),
        ("name,mask\na.svs,x.png\n", ["no column slide or slide_id; found 'name', 'mask'"]),
        (
            "slide,mask\na.svs,none.png\n,x.png\na.svs,x.png\n",
            [
                "3 problems",
                "pairs.csv line 2: 'none.png' does not exist. Needed an existing file. Correct the path (relative",
                "pairs.csv line 3: no slide. Needed one beside its labels",
                "pairs.csv line 4: slide a has 'x.png', and 'none.png' in line 2. Needed one file",
            ],
        ),
        (
            "slide,mask,annotation\na.svs,x.png,y.xml\n",
            ["slide a has mask 'x.png' and annotation 'y.xml'. Needed one"],
        ),
        (
            "slide,mask\nslide_b.svs,x.png\n",
            ["no slide of the folder has labels in it; did you mean 'slide_a' by 'slide_b'?"],
        ),
    ],
)
def test_lists_that_are_wrong_say_line_value_and_remedy(tmp_path, text, parts):
    touch(tmp_path, "slides/a.svs", "slides/slide_a.svs", "x.png")
    (tmp_path / "pairs.csv").write_text(text)
    said = refusal(tmp_path, pairs=tmp_path / "pairs.csv")
    assert said.startswith(f"list of pairs {tmp_path / 'pairs.csv'}:")
    for part in parts:
        assert part in said


def test_a_pattern_and_a_list_exclude_each_other(tmp_path):
    touch(tmp_path, "slides/a.svs")
    said = refusal(tmp_path, pairs="p.csv", pattern="{slide_id}.png")
    assert said.endswith("Needed one of --labels-pattern and --pairs. Leave the other out.")


def test_labels_of_no_slide_and_slides_without_labels_are_named(tmp_path):
    touch(
        tmp_path,
        *(f"slides/{name}.svs" for name in "abcdef"),
        "masks/a.png",
        *(f"masks/{n}1.png" for n in "bcde"),
    )
    remarks = []
    built(tmp_path, remarks)
    shown = ", ".join(str(tmp_path / "masks" / f"{name}1.png") for name in "bcd")
    assert remarks == [
        "5 of 6 slides without labels, in no split: b, c, d, ...",
        f"4 files of labels are of no slide ({shown}, ...): say by --labels-pattern how they are named, e.g. "
        "{slide_id}_gt.xml, or by --pairs CSV whose they are",
    ]
    remarks.clear()
    touch(tmp_path, "bare/slides/a.svs")
    built(tmp_path / "bare", remarks)
    assert remarks == ["no slide has labels: all patients were dealt to splits"]


def test_lines_of_other_slides_are_passed_over_and_said(tmp_path):
    touch(tmp_path, "slides/a.svs", "x.png")
    (tmp_path / "pairs.csv").write_text("slide,mask\na.svs,x.png\nother.svs,far.png\n")
    remarks = []
    built(tmp_path, remarks, pairs=tmp_path / "pairs.csv")
    assert remarks == [
        f"1 file of labels is of no slide ({tmp_path / 'far.png'}): no slide is called what pairs.csv says; correct "
        "its names"
    ]


def test_a_slide_without_labels_is_in_no_split_though_its_patient_is(tmp_path):
    touch(
        tmp_path, "slides/p1_a.svs", "slides/p1_b.svs", "slides/p2_a.svs", "masks/p1_a.png", "masks/p2_a.png"
    )
    rows = manifest_from_folder(tmp_path / "slides", patient_pattern=r"^(p\d)").rows
    assert [row.split is None for row in rows] == [False, True, False]
    assert [row.patient for row in rows] == ["p1", "p1", "p2"]


def test_one_mpp_fills_the_column(tmp_path):
    touch(tmp_path, "slides/a.svs", "slides/b.svs")
    rows = manifest_from_folder(tmp_path / "slides", each_slide_a_patient=True, mpp=0.25).rows
    assert [row.mpp for row in rows] == [0.25, 0.25]
