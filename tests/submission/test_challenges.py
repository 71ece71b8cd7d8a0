"""Submissions: rows and values as each challenge reads them, and refusals of what a mask cannot say."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from typer.testing import CliRunner

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.cli.main import typer_app
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.levels import MaskTile, pyramid_sizes
from wsi_deform.submission.challenges import node_stage, patient_stage, tiger_values, write_submission

SIZE = Size(2048, 1536)
MPP = 1.0  # level 3 has pixels of 8 um
BINARY = ClassTable.from_names(["background", "metastasis"])


def write_labels(path: Path, labels: np.ndarray) -> None:
    """A mask with these labels; every second pixel makes the next level."""
    tiles, size = [], Size(labels.shape[1], labels.shape[0])
    for number in range(len(pyramid_sizes(size, 256))):
        level = labels[:: 2**number, :: 2**number]
        for row in range(-(-level.shape[0] // 256)):
            for column in range(-(-level.shape[1] // 256)):
                pixels = np.ascontiguousarray(level[row * 256 :, column * 256 :][:256, :256])
                tiles.append(MaskTile(level=number, column=column, row=row, pixels=pixels))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mask(path, tiles, size=size, mpp=MPP, tile_px=256)


def finished(
    folder: Path, slides: dict[str, np.ndarray], classes: ClassTable = BINARY, *, mpp: float | None = MPP
) -> MaskFolder:
    """OUT with finished slides of these labels."""
    out = MaskFolder(folder)
    out.path.mkdir(parents=True)
    write_class_table(classes, out.classes)
    for slide_id, labels in slides.items():
        write_labels(out.mask(slide_id), labels)
        Ledger(out).write(
            State(
                slide_id=slide_id,
                status="done",
                width_px=labels.shape[1],
                height_px=labels.shape[0],
                mpp=mpp,
                outputs={"mask": "x"},
            )
        )
    return out


def draw_map(out: MaskFolder, slide_id: str, metastasis: np.ndarray, downsample: int = 4) -> None:
    """A probability map of two classes; of pixels of ``downsample`` level-0 px."""
    out.probabilities(slide_id).parent.mkdir(parents=True, exist_ok=True)
    with ProbabilityMap(
        out.probabilities(slide_id), size=SIZE, mpp=MPP, class_names=BINARY.names, downsample=downsample
    ) as drawn:
        drawn.put(Region.whole(drawn.size), np.stack([1 - metastasis, metastasis]).astype(np.float32))


def nothing() -> np.ndarray:
    return np.zeros(SIZE.shape, np.uint8)


def lesions() -> np.ndarray:
    """Two lesions of 400 x 200 and 80 x 80 px."""
    labels = nothing()
    labels[160:360, 320:720] = 1
    labels[800:880, 1600:1680] = 1
    return labels


def test_camelyon16_rows_are_probability_x_y_and_slides_have_their_highest(tmp_path: Path):
    out = finished(tmp_path / "out", {"test_001": lesions(), "test_002": nothing()})
    maps = np.full((384, 512), 0.1)
    maps[40:90, 80:180] = 0.7
    maps[60:62, 120:122] = 0.9
    maps[200:220, 400:420] = 0.8
    # Glass that the limit to tissue made background: neither a region nor the slide's probability.
    maps[300:340, 20:60] = 1.0
    draw_map(out, "test_001", maps)
    draw_map(out, "test_002", np.full((384, 512), 0.2))
    written = write_submission(out.path, "camelyon16")
    place = out.path / "submission" / "camelyon16"
    assert [str(path.relative_to(place)) for path in written.files] == [
        "lesions/test_001.csv", "lesions/test_002.csv", "slides.csv"
    ]  # fmt: skip
    rows = list(csv.reader((place / "lesions" / "test_001.csv").read_text().splitlines()))
    # As the challenge's script reads them: a number and two whole ones, no header.
    read = [(float(row[0]), int(row[1]), int(row[2])) for row in rows]
    assert [round(each[0], 2) for each in read] == [0.9, 0.8]
    labels = lesions()
    assert all(labels[y, x] == 1 for _, x, y in read)
    assert read[0][1:] == (484, 244)  # the centre of pixel (60, 30) of 8 px, the most probable one
    assert (place / "lesions" / "test_002.csv").read_text() == ""
    assert (place / "slides.csv").read_text() == "test_001,0.9020\ntest_002,0.2000\n"


def test_camelyon17_counts_nodes_by_their_longest_region(tmp_path: Path):
    long = nothing()
    long[100:200, 10:2040] = 1  # 2,030 um
    single = nothing()
    single[500:580, 500:580] = 1
    slides = {f"patient_101_node_{node}": nothing() for node in range(5)}
    slides |= {f"patient_100_node_{node}": nothing() for node in range(2)}
    slides |= {"patient_100_node_2": lesions(), "patient_100_node_3": long, "patient_100_node_4": single}
    out = finished(tmp_path / "out", slides)
    written = write_submission(out.path, "camelyon17", to=tmp_path / "to")
    assert written.files == (tmp_path / "to" / "submission.csv",)
    assert written.files[0].read_text().splitlines() == [
        "patient,stage",
        "patient_100.zip,pN1",
        "patient_100_node_0.tif,negative",
        "patient_100_node_1.tif,negative",
        "patient_100_node_2.tif,micro",
        "patient_100_node_3.tif,macro",
        "patient_100_node_4.tif,itc",
        "patient_101.zip,pN0",
        *(f"patient_101_node_{node}.tif,negative" for node in range(5)),
    ]
    assert "cells" in written.remark
    # Regions of 113 um across and less are left out: the single one of 80 x 80 px.
    write_submission(out.path, "camelyon17", to=tmp_path / "to", min_um=150)
    assert "patient_100_node_4.tif,negative" in written.files[0].read_text()


@pytest.mark.parametrize(
    ("nodes", "stage"),
    [
        (["negative"] * 5, "pN0"),
        (["negative", "itc", "itc", "negative", "negative"], "pN0(i+)"),
        (["micro", "micro", "micro", "micro", "itc"], "pN1mi"),
        (["macro", "micro", "micro", "itc", "negative"], "pN1"),
        (["macro", "micro", "micro", "micro", "negative"], "pN2"),
    ],
)
def test_stages_of_patients_are_those_of_the_challenge(nodes: list[str], stage: str):
    assert patient_stage(nodes) == stage


def test_stages_of_nodes_are_by_length():
    lengths = (None, 1.0, 200.0, 200.1, 2000.0, 2000.1)
    assert [node_stage(each) for each in lengths] == ["negative", "itc", "itc", "micro", "micro", "macro"]


TIGER = ClassTable.from_names(["Rest", "tumor-associated stroma", "invasive tumour", "inflamed stroma"])


def test_tiger_masks_have_its_values_at_its_place_and_every_level(tmp_path: Path):
    labels = nothing()
    labels[:, 500:900] = 1
    labels[300:700, 900:1100] = 2
    labels[900:, :300] = 3
    labels[:100, :100] = 255
    out = finished(tmp_path / "out", {"104S": labels}, TIGER)
    written = write_submission(out.path, "tiger", to=tmp_path / "output")
    (path,) = written.files
    place = "images/breast-cancer-segmentation-for-tils/segmentation.tif"
    assert path == tmp_path / "output" / place
    expected = np.array([7, 2, 1, 6])[np.minimum(labels, 3)]
    expected[labels == 255] = 0
    with tifffile.TiffFile(path) as opened:
        levels = [level.asarray() for level in opened.series[0].levels]
    assert levels[0].dtype == np.uint8
    np.testing.assert_array_equal(levels[0], expected)
    np.testing.assert_array_equal(levels[2], expected[::4, ::4])
    with openslide.OpenSlide(path) as opened:
        assert opened.dimensions == (SIZE.width, SIZE.height)
        pixels = np.asarray(opened.read_region((800, 300), 0, (200, 100)))
        np.testing.assert_array_equal(pixels[..., 0], expected[300:400, 800:1000])
    assert "til-score.json" in written.remark
    several = finished(tmp_path / "two", {"a": labels, "b": labels}, TIGER)
    found = write_submission(several.path, "tiger").files
    assert [str(each.relative_to(several.path / "submission" / "tiger")) for each in found] == [
        f"a/{place}", f"b/{place}"
    ]  # fmt: skip


def test_tiger_names_are_those_of_its_prepared_classes():
    from pipelines.prepare.tiger import WSIROIS_CLASSES

    table = tiger_values(ClassTable.from_names(list(WSIROIS_CLASSES["classes"])))
    assert table[:8].tolist() == [1, 2, 3, 4, 5, 6, 7, 0]


@pytest.mark.parametrize(
    ("challenge", "classes", "given", "said"),
    [
        (
            "camelyon16",
            ["background", "gland"],
            {},
            "background, gland: none of them called metastasis.*--class NAME",
        ),
        ("camelyon16", ["tumour", "metastasis"], {}, "2 of them called"),
        (
            "camelyon16",
            ["background", "gland"],
            {"class_name": "Gland"},
            "no probability map.*--probabilities",
        ),
        (
            "camelyon17",
            ["background", "tumor"],
            {},
            "case: not named as a slide of CAMELYON17.*patient_NNN_node_M",
        ),
        (
            "tiger",
            ["background", "tumour"],
            {},
            "tumour is none of TIGER's; without invasive tumour and tumour-associated",
        ),
        ("tiger", ["rest", "invasive tumour"], {}, "without tumour-associated stroma. Needed classes called"),
        ("tiger", ["rest", "invasive tumour"], {"min_um": 5.0}, "--class and --min-um are of CAMELYON"),
        ("panda", ["background", "metastasis"], {}, "ISUP grade.*Areas of a mask are not that"),
        ("bach", ["background", "metastasis"], {}, "'bach': not known. Needed one of camelyon16"),
    ],
)
def test_what_masks_cannot_give_is_refused(tmp_path: Path, challenge, classes, given, said):
    out = finished(tmp_path / "out", {"case": nothing()}, ClassTable.from_names(classes))
    with pytest.raises(MaskError, match=said):
        write_submission(out.path, challenge, **given)
    assert not (out.path / "submission").exists()


def test_patients_without_all_nodes_and_slides_without_mpp_are_refused(tmp_path: Path):
    out = finished(tmp_path / "a", {f"patient_7_node_{node}": nothing() for node in (0, 1, 4)})
    with pytest.raises(MaskError, match="patient patient_7: nodes 0, 1, 4. Needed 0 to 4"):
        write_submission(out.path, "camelyon17")
    out = finished(tmp_path / "b", {"patient_7_node_0": nothing()}, mpp=None)
    with pytest.raises(MaskError, match="no um per pixel.*--mpp UM"):
        write_submission(out.path, "camelyon17")
    with pytest.raises(MaskError, match="no finished mask"):
        write_submission(tmp_path / "none", "tiger")


def test_the_command_prints_files_and_what_to_know(tmp_path: Path):
    out = finished(tmp_path / "out", {"104S": nothing()}, TIGER)
    ran = CliRunner().invoke(typer_app, ["submission", str(out.path), "--challenge", "tiger"])
    assert ran.exit_code == 0, ran.output
    assert "segmentation.tif" in ran.output
    assert "Note: the segmentation alone" in ran.output
