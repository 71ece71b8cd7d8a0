"""Public sets on drawn folders of their layout: prepare, check, a step of training and a slide segmented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_sets import DRAWN, SHAPE, save, stripes

from pipelines.prepare.__main__ import main
from pipelines.prepare.registry import PUBLIC_SETS
from wsi_deform.annotation.check import check_manifest
from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.annotation.label_file import LabelFile, open_labels
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.config import find_config, read_config
from wsi_deform.distribute.batch import segment_slides
from wsi_deform.distribute.sources import slide_sources
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest, ManifestRow
from wsi_deform.slide.open import open_slide
from wsi_deform.train.loop import train

SMALL = (
    "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 4}",
    "training={epochs: 1, validate_every: 1, batch: 2, threads: 1, pictures: 0}",
)
TINY = (*SMALL, "sampling={budget: [8, 12], coarsest_um: null}", "fields={side_um: null}")
"""One field a slide: what is tried is whether the program takes the files, not what it learns."""
PRESETS = {"deepglobe": "deepglobe", "cityscapes": "cityscapes", "pca-histo": "pca_histo"}

# Slides, of them with labels, and slides of train, val and test.
COUNTS = {
    "panda-radboud": (9, 8, (3, 3, 2)),
    "panda-karolinska": (9, 8, (3, 3, 2)),
    "camelyon16": (16, 14, (8, 2, 4)),
    "camelyon17": (18, 12, (4, 4, 4)),
    "gleason2019": (9, 8, (4, 2, 2)),
    "arvaniti": (9, 8, (4, 2, 2)),
    "sicapv2": (6, 6, (2, 2, 2)),
    "tiger-wsirois": (8, 8, (6, 1, 1)),
    "tiger-wsibulk": (8, 7, (5, 1, 1)),
    "bcss": (4, 4, (2, 1, 1)),
    "glas": (8, 8, (4, 2, 2)),
    "hubmap-kidney": (5, 5, (2, 2, 1)),
    "deepglobe": (8, 8, (5, 2, 1)),
    "cityscapes": (4, 3, (2, 1, 0)),
    "pca-histo": (14, 14, (10, 2, 2)),
}


def prepared(name: str, folder: Path) -> tuple[Manifest, ClassTable]:
    DRAWN[name](folder / "down")
    assert main([name, str(folder / "down"), "--out", str(folder / "out")]) == 0
    return read_manifest(folder / "out" / "manifest.csv"), read_class_table(folder / "out" / "classes.yaml")


def row_of(manifest: Manifest, slide_id: str) -> ManifestRow:
    (row,) = (row for row in manifest.rows if row.slide_id == slide_id)
    return row


def stripes_of(row: ManifestRow, table: ClassTable) -> list[int]:
    """Labels along the middle row, each run of one once."""
    assert row.mask is not None
    size = Size(SHAPE[1], SHAPE[0])
    mask = open_label_mask(row.mask, slide_size=size, classes=table, channel=row.mask_channel)
    labels = mask.read_region(Region.whole(size))[SHAPE[0] // 2].tolist()
    return [label for before, label in zip([None, *labels], labels, strict=False) if label != before]


def test_every_set_has_a_drawn_folder_and_a_page():
    page = (Path(__file__).parents[2] / "data_manifests" / "public_sets.md").read_text()
    index = (Path(__file__).parents[2] / "data_manifests" / "README.md").read_text()
    assert DRAWN.keys() == PUBLIC_SETS.keys() == COUNTS.keys()
    for name, each in PUBLIC_SETS.items():
        assert f"python -m pipelines.prepare {name} " in page, name
        assert f"`{name}`" in index, name
        assert each.name == name


@pytest.mark.parametrize("name", sorted(DRAWN))
def test_a_set_is_prepared_checked_learned_from_and_segmented(name, tmp_path, capsys):
    manifest, table = prepared(name, tmp_path)
    slides, labelled, splits = COUNTS[name]
    having = [row for row in manifest.rows if row.mask or row.annotation]
    assert (len(manifest.rows), len(having)) == (slides, labelled)
    assert tuple(len(manifest.of_split(split)) for split in ("train", "val", "test")) == splits
    assert sum(splits) == labelled  # what has labels is in a split, and nothing else
    assert {row.data_licence for row in manifest.rows} == {PUBLIC_SETS[name].licence}
    said = capsys.readouterr().out
    assert f"{slides} slides, {labelled} with labels" in said
    assert PUBLIC_SETS[name].licence in said
    assert not list((tmp_path / "down").rglob(".aside*"))
    assert check_manifest(manifest, table) == []
    preset = PRESETS.get(name)
    config = read_config(changes=TINY) if preset is None else read_config(find_config(preset), changes=SMALL)
    train(config, manifest, table, tmp_path / "run")
    sources = slide_sources(tmp_path / "out" / "manifest.csv", out=tmp_path / "masks", split="val")[:1]
    assert len(segment_slides(sources, tmp_path / "run", tmp_path / "masks", device="cpu").of("done")) == 1


# Names of classes, and the labels of one mask from left to right; 255 is unlabelled.
MEANINGS = {
    "panda-radboud": (
        ("background", "stroma", "benign epithelium", "Gleason 3", "Gleason 4", "Gleason 5"),
        [0, 1, 2, 3, 4, 5],
    ),
    "panda-karolinska": (("background", "benign tissue", "cancerous tissue"), [0, 1, 2]),
    # Three pathologists say 1 0 6, 3 3 3, 4 4 3 and 5 5 5.
    "gleason2019": (("benign or background", "Gleason 3", "Gleason 4", "Gleason 5"), [0, 1, 2, 3]),
    "arvaniti": (("benign", "Gleason 3", "Gleason 4", "Gleason 5"), [0, 1, 2, 3, 255]),
    "sicapv2": (("non-cancerous", "Gleason 3", "Gleason 4", "Gleason 5"), [0, 1, 2, 3]),
    "tiger-wsirois": (
        (
            "invasive tumour",
            "tumour-associated stroma",
            "in-situ tumour",
            "healthy glands",
            "necrosis not in-situ",
            "inflamed stroma",
            "rest",
        ),
        [255, 0, 1, 2, 3, 4, 5, 6],
    ),
    "tiger-wsibulk": (("rest", "tumour bulk"), [0, 1]),
    "bcss": (
        ("tumour", "stroma", "inflammatory", "necrosis", "other"),
        [255, 0, 1, 2, 3, 4, 255, 4, 2, 4, 255, 4, 0, 4],
    ),
    "glas": (("background", "benign gland", "malignant gland"), [0, 2]),
    "hubmap-kidney": (("background", "glomerulus"), [0, 1, 0]),
    "deepglobe": (
        ("urban land", "agriculture land", "rangeland", "forest land", "water", "barren land"),
        [0, 1, 2, 3, 4, 5, 255],
    ),
    "cityscapes": (
        (
            "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation",
            "terrain", "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
        ),
        [*range(19), 255],
    ),
    "pca-histo": (("background", "benign", "Gleason 3", "Gleason 4", "atrophy", "HGPIN"), [0, 1, 2, 3, 4, 5]),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(MEANINGS))
def test_labels_mean_what_the_set_says(name, tmp_path):
    manifest, table = prepared(name, tmp_path)
    names, labels = MEANINGS[name]
    assert table.names == names
    first = next(row for row in manifest.rows if row.mask and "TCGA" not in row.slide_id or name == "bcss")
    assert stripes_of(first if name != "glas" else row_of(manifest, "train_6"), table) == labels


def test_slides_and_masks_stay_where_they_are_and_nothing_is_written_there(tmp_path):
    DRAWN["hubmap-kidney"](tmp_path / "down")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "down").rglob("*")}
    assert main(["hubmap-kidney", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "down").rglob("*")} == before
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"manifest.csv", "classes.yaml", *(f"labels/2f6ecfcd{n}.tif" for n in range(5))}


@pytest.mark.parametrize("name", ["hubmap-kidney", "glas", "gleason2019"])
def test_a_second_call_writes_the_same_and_converts_nothing_again(name, tmp_path, capsys):
    manifest, _ = prepared(name, tmp_path)
    out = tmp_path / "out"
    files = {path: path.read_bytes() for path in out.rglob("*.*")}
    labels = {path: path.stat().st_ino for path in (out / "labels").iterdir()}
    gone = min(labels)
    gone.unlink()
    capsys.readouterr()
    assert main([name, str(tmp_path / "down"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "(1 made now)" in said.out
    assert said.err.splitlines() == [f"labels {gone}: written"]
    assert {path: path.read_bytes() for path in out.rglob("*.*")} == files
    kept = {path: inode for path, inode in labels.items() if path != gone}
    assert {path: path.stat().st_ino for path in kept} == kept
    assert len(manifest.rows) > 0


def test_a_mask_whose_origin_changed_is_made_anew(tmp_path, capsys):
    prepared("hubmap-kidney", tmp_path)
    table = tmp_path / "down" / "train.csv"
    table.write_text(table.read_text().replace("150 10 481 144", "1 48", 1))
    assert main(["hubmap-kidney", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 0
    assert "(1 made now)" in capsys.readouterr().out


def test_a_class_table_that_a_user_changed_stays(tmp_path, capsys):
    prepared("cityscapes", tmp_path)
    own = tmp_path / "out" / "classes.yaml"
    own.write_text("{road: 7, all else: [8, 11]}")
    assert main(["cityscapes", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 0
    assert own.read_text() == "{road: 7, all else: [8, 11]}"
    said = capsys.readouterr().out
    assert "says something else: kept" in said
    assert "classes: road, all else" in said


def test_another_seed_gives_other_splits_and_the_same_seed_the_same(tmp_path):
    DRAWN["deepglobe"](tmp_path / "down")
    found = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / f"out{number}"
        assert main(["deepglobe", str(tmp_path / "down"), "--out", str(out), "--seed", str(seed)]) == 0
        found.append({row.slide_id: row.split for row in read_manifest(out / "manifest.csv").rows})
    assert found[0] == found[1] != found[2]


def test_missing_masks_are_named_and_counted(tmp_path, capsys):
    prepared("panda-radboud", tmp_path)
    said = capsys.readouterr().out
    assert f"without labels, so in no split: 1: {0:032x}" in said
    assert "patients: unknown. PANDA does not say" in said


def test_sets_under_a_folder_of_their_own_are_found_and_others_are_refused(tmp_path, capsys):
    DRAWN["bcss"](tmp_path / "a" / "0_Public-data-Amgad2019_0.25MPP")
    assert main(["bcss", str(tmp_path / "a"), "--out", str(tmp_path / "out")]) == 0
    assert main(["cityscapes", str(tmp_path / "a"), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "has no leftImg8bit, no gtFine" in said
    assert "Needed leftImg8bit/ and gtFine/ of Cityscapes" in said
    assert main(["bcss", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_a_patient_on_both_sides_of_an_official_split_is_refused(tmp_path, capsys):
    DRAWN["sicapv2"](tmp_path / "down")
    labels = tmp_path / "down" / "wsi_labels.csv"
    labels.write_text(labels.read_text().replace("16B0001851,2,", "16B0001851,1,"))
    assert main(["sicapv2", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 2
    assert "1 patients are in two splits: 1 (test, val)" in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_a_folder_without_labels_is_refused(tmp_path, capsys):
    DRAWN["tiger-wsibulk"](tmp_path / "down")
    for mask in (tmp_path / "down/wsibulk/annotations-tumor-bulk/masks").iterdir():
        mask.unlink()
    assert main(["tiger-wsibulk", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 2
    assert "8 slides, none with labels. Needed TIGER, WSIBULK" in capsys.readouterr().err


def test_patients_of_tiger_come_from_names(tmp_path):
    manifest, _ = prepared("tiger-wsirois", tmp_path)
    assert [row.patient for row in manifest.rows] == [
        "JB-100", "JB-101", "TCGA-OL-A5R0", "TCGA-OL-A5R1", "TCGA-OL-A5R2", "TC_S01_P000001", "TC_S01_P000001",
        "TC_S01_P000002",
    ]  # fmt: skip
    large = row_of(manifest, "TCGA-OL-A5R0-01Z-00-DX1.8CE9DCAB-98D3-4163-94AC-1557D86C1E25")
    assert large.mask is not None
    assert large.mask.parent.name == "annotations-tissue-bcss-masks"
    assert large.tissue_mask is not None


def test_hospitals_of_bcss_are_tested_on_and_its_mpp_is_in_names(tmp_path):
    manifest, _ = prepared("bcss", tmp_path)
    assert [(row.patient, row.split == "test", row.mpp) for row in manifest.rows] == [
        ("TCGA-A1-A0S0", False, 0.25),
        ("TCGA-A2-A0S1", False, 0.25),
        ("TCGA-BH-A0S2", False, 0.25),
        ("TCGA-OL-A0S3", True, 0.25),
    ]


def test_other_codes_than_those_of_bcss_are_refused(tmp_path, capsys):
    DRAWN["bcss"](tmp_path / "down")
    codes = tmp_path / "down" / "meta" / "gtruth_codes.tsv"
    codes.write_text(codes.read_text().replace("dcis\t20", "dcis\t1"))
    assert main(["bcss", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 2
    assert "other labels or codes than the 22 of BCSS" in capsys.readouterr().err


def test_arrays_of_zurich_are_split_as_in_the_paper(tmp_path):
    manifest, _ = prepared("arvaniti", tmp_path)
    assert {(row.extra["array"], row.split) for row in manifest.rows if row.mask} == {
        ("ZT76", "val"),
        ("ZT80", "test"),
        ("ZT111", "train"),
        ("ZT199", "train"),
    }
    tested = row_of(manifest, "ZT80_38_A_1_1")
    assert tested.mask is not None
    assert tested.mask.name == "mask1_ZT80_38_A_1_1.png"
    assert tested.extra["second_pathologist"].endswith("mask2_ZT80_38_A_1_1.png")


def test_a_city_is_in_one_split_and_test_images_are_in_none(tmp_path):
    manifest, _ = prepared("cityscapes", tmp_path)
    assert [(row.patient, row.split, row.mask is None) for row in manifest.rows] == [
        ("aachen", "train", False),
        ("bochum", "train", False),
        ("frankfurt", "val", False),
        ("berlin", None, True),
    ]


def test_only_the_deepglobe_mask_with_impure_colours_is_converted(tmp_path, capsys):
    manifest, table = prepared("deepglobe", tmp_path)
    assert "1 masks had channels other than 0 and 255; they were cut at 128" in capsys.readouterr().out
    converted, pure = row_of(manifest, "100"), row_of(manifest, "101")
    assert converted.mask == tmp_path / "out" / "labels" / "100.tif"
    assert pure.mask == tmp_path / "down" / "train" / "101_mask.png"
    assert stripes_of(converted, table) == stripes_of(pure, table) == [0, 1, 2, 3, 4, 5, 255]


def test_grades_of_a_patient_without_a_name_or_of_another_word_are_refused(tmp_path, capsys):
    DRAWN["glas"](tmp_path / "down")
    (table,) = (tmp_path / "down").rglob("Grade.csv")
    table.write_text(table.read_text().replace(", malignant, ", ", unsure, ", 1))
    assert main(["glas", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 2
    assert "train_4 has patient '4' and grade 'unsure'" in capsys.readouterr().err


def test_the_papers_split_of_biopsies_is_warned_of(tmp_path, capsys):
    manifest, _ = prepared("pca-histo", tmp_path)
    said = capsys.readouterr().out
    assert "in which patients are on both sides" in said
    assert "the nearest are: train 10 for 11, val 2 for 1, test 2 for 2 slides" in said
    assert {row.mpp for row in manifest.rows} == {None}  # the files say it


@pytest.mark.parametrize(
    ("name", "outlined", "normal"),
    [
        ("camelyon16", ("tumor_001", "test_001"), ("normal_001", "test_002")),
        ("camelyon17", ("patient_000_node_0",), ("patient_000_node_1",)),
    ],
)
def test_metastases_are_those_of_the_xml_and_slides_without_are_background(name, outlined, normal, tmp_path):
    manifest, table = prepared(name, tmp_path)
    assert table.names == ("background", "metastasis")

    def labels_at(slide_id):
        row = row_of(manifest, slide_id)
        file = LabelFile.of_row(row)
        assert file is not None
        labels = open_labels(file, open_slide(row.slide), table)
        # Outside; in the lesion; in what is cut out of it, or called normal.
        return labels.at_points(np.array([[2.0, 2.0], [15.0, 15.0], [25.0, 25.0]])).tolist()

    assert {slide_id: labels_at(slide_id) for slide_id in outlined} == dict.fromkeys(outlined, [0, 1, 0])
    assert {slide_id: labels_at(slide_id) for slide_id in normal} == dict.fromkeys(normal, [0, 0, 0])


def test_slides_of_camelyon_whose_metastases_nobody_outlined_are_in_no_split(tmp_path, capsys):
    manifest, _ = prepared("camelyon16", tmp_path)
    assert "without labels, so in no split: 2: tumor_006, test_003" in capsys.readouterr().out
    assert {row.split for row in manifest.rows if row.slide_id.startswith("test") and row.annotation} == {
        "test"
    }
    of_17, _ = prepared("camelyon17", tmp_path / "17")
    assert {row.slide_id[-6:] for row in of_17.rows if row.split is None} == {"node_2"}
    assert {(row.patient, row.extra["centre"]) for row in of_17.rows} == {
        (f"patient_{n:03}", f"center_{n % 2}") for n in range(6)
    }


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "said"),
    [
        ("pca-histo", "slides.csv", "core_03.tif,P3", "core_03.tif,", "core_03.tif: no patient"),
        ("pca-histo", "slides.csv", "core_03.tif", "core_99.tif", "core_99.tif: not in"),
        (
            "pca-histo",
            "slides.csv",
            "slide,patient",
            "slide,person",
            "no column patient; found slide, person",
        ),
        (
            "pca-histo",
            "slides.csv",
            "slide,patient\n",
            "slide,patient,mpp\ncore_00.tif,P0,0\n",
            "has mpp '0'",
        ),
        ("pca-histo", "slides.csv", "core_03", "core_02", "1 slides are listed more than once: core_02"),
        ("panda-radboud", "train.csv", "radboud", "nijmegen", "no line of radboud"),
        ("hubmap-kidney", "train.csv", "id,encoding", "id,rle", "columns id, rle. Needed id and encoding"),
        ("hubmap-kidney", "HuBMAP-20-dataset_information.csv", ",64,48,", ",64,?,", "has '64' x '?' px"),
        ("hubmap-kidney", "HuBMAP-20-dataset_information.csv", ",64,48,", ",6,4,", "a run outside 6 x 4 px"),
        (
            "hubmap-kidney",
            "HuBMAP-20-dataset_information.csv",
            "2f6ecfcd0",
            "0f6ecfcd0",
            "no line of 2f6ecfcd0",
        ),
        (
            "sicapv2",
            "wsi_labels.csv",
            "16B0001850",
            "16B0009850",
            "does not say whose 1 slides are: 16B0001850",
        ),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_file_and_value(name, file, old, new, said, tmp_path, capsys):
    DRAWN[name](tmp_path / "down")
    table = tmp_path / "down" / file
    table.write_text(table.read_text().replace(old, new))
    assert main([name, str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err


def test_maps_of_one_core_must_have_one_size(tmp_path, capsys):
    DRAWN["gleason2019"](tmp_path / "down")
    save(tmp_path / "down/Maps3_T/slide001_core000_classimg_nonconvex.png", stripes((3, 4), (40, 64)))
    assert main(["gleason2019", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 2
    assert "uint8 of shape (40, 64). Needed uint8 of (48, 64)" in capsys.readouterr().err


def test_a_damaged_mask_is_named(tmp_path, capsys):
    DRAWN["deepglobe"](tmp_path / "down")
    mask = tmp_path / "down" / "train" / "103_mask.png"
    mask.write_bytes(mask.read_bytes()[:60])
    assert main(["deepglobe", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 2
    assert "103_mask.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reference", "background", "said"),
    [
        (None, [], "nobody says which test slides are without metastases"),
        ("", [], "nobody says which test slides are without metastases"),
        ("test_001,Tumor\ntest_003,Tumor\n", [], "nobody says which test slides are without metastases"),
        ('"test_002","Normal","None"\r\n"test_003","Tumor","IDC"\r\n', ["test_002"], ""),
        ("test_002;Normal;None\ntest_003;Tumor;IDC\n", ["test_002"], ""),
        ("\ufeffTest_002.tif, Normal , None\ntest_003,Tumor,IDC\n", ["test_002"], ""),
        (
            "test_001,Normal\ntest_004,Normal\n",
            ["test_004"],
            "1 Normal slides have XML, which counts: test_001.",
        ),
    ],
)
def test_a_test_slide_of_camelyon16_is_background_only_where_the_reference_says_so(
    tmp_path, capsys, reference, background, said
):
    DRAWN["camelyon16"](tmp_path / "down")
    table = tmp_path / "down" / "testing" / "reference.csv"
    table.unlink()
    if reference is not None:
        table.write_text(reference, encoding="utf-8", newline="")
    assert main(["camelyon16", str(tmp_path / "down"), "--out", str(tmp_path / "out")]) == 0
    assert said in capsys.readouterr().out
    rows = {row.slide_id: row for row in read_manifest(tmp_path / "out" / "manifest.csv").rows}
    assert rows["test_001"].annotation.name == "test_001.xml"
    tests = [f"test_{number:03}" for number in range(2, 6)]
    empty = [name for name in tests if rows[name].annotation is not None]
    assert empty == background
    assert [name for name in tests if rows[name].split == "test"] == background
