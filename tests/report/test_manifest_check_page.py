"""The page of a manifest check: every slide in a table, shares of labels, problems and remarks."""

from __future__ import annotations

import csv

import pytest
from manifest_of_pictures import two_classes, write_manifest_of_pictures
from PIL import Image
from typer.testing import CliRunner

from wsi_deform.annotation.check import check_manifest
from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.cli.main import typer_app
from wsi_deform.manifest.read import read_manifest
from wsi_deform.report.manifest_check import Checked, check_figure, shares_of, slide_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three slides of 60 x 40 px, one of them damaged and one with a value without a meaning, and one of no labels."""
    folder = tmp_path_factory.mktemp("study")
    masks = [two_classes(), two_classes((1, 255)), two_classes((0, 1)), two_classes((0, 7))]
    manifest = write_manifest_of_pictures(folder, masks, splits=("train", "train", "val", ""))
    lines = manifest.read_text().splitlines()
    cells = ["mpp,data_licence", "0.5,CC0", "0.5,CC0", "0.5,", "0.5,"]
    manifest.write_text(
        "\n".join(f"{line},{more}" for line, more in zip(lines, cells, strict=True)).replace(
            ",s003_mask.png", ","
        )
    )
    (folder / "s002.png").write_bytes(b"no picture")
    return folder


def checked_of(folder):
    table = read_class_table(folder / "classes.yaml")
    found = []
    manifest = read_manifest(folder / "manifest.csv")
    problems = check_manifest(manifest, table, on_findings=found.extend)
    return Checked(name="manifest.csv", found=found, problems=problems, remarks=["r & s"], classes=table)


def test_every_slide_has_a_row_with_size_scale_levels_and_label_shares(folder):
    rows = slide_rows(checked_of(folder))
    assert list(rows[0]) == [
        "slide", "line", "split", "size, px", "mpp, µm", "levels", "written by", "background, %", "gland, %",
        "unlabelled, %", "remarks",
    ]  # fmt: skip
    first, second, damaged, bare = (list(row.values()) for row in rows)
    assert first[:6] == ["s000", "2", "train", "60 x 40", "0.5", "1"]
    assert first[7:] == ["75.0", "25.0", "0.0", "–"]
    assert second[7:10] == ["0.0", "75.0", "25.0"]
    assert damaged[:3] == ["s002", "4", "val"]
    assert damaged[3:10] == ["–"] * 7
    assert "s002.png" in damaged[10]
    assert bare[:4] == ["s003", "5", "no split", "60 x 40"]
    assert bare[7:] == ["–"] * 4


def test_shares_are_of_classes_unlabelled_and_no_meaning_and_sum_to_one(folder):
    found = checked_of(folder).found
    table = ClassTable.from_names(["background"])
    assert shares_of(found[0], table) == {"background": 0.75, "unlabelled": 0.0, "no meaning": 0.25}
    assert shares_of(found[0], None) == {}
    assert shares_of(found[3], table) == {}


def test_the_figure_is_a_png_also_without_labels_and_without_a_scale(folder, tmp_path):
    assert check_figure(checked_of(folder)).startswith(b"\x89PNG")
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "manifest.csv").write_text("slide\na.png\n")
    found = []
    check_manifest(read_manifest(tmp_path / "manifest.csv"), on_findings=found.extend)
    bare = Checked(name="m", found=found, problems=[], remarks=[], classes=None)
    assert check_figure(bare).startswith(b"\x89PNG")


def command(folder, *more):
    return CliRunner().invoke(typer_app, ["manifest", "check", str(folder / "manifest.csv"), *map(str, more)])


def test_the_command_writes_a_page_or_a_folder(folder, tmp_path):
    done = command(folder, "--report", tmp_path / "page.html", "--jobs", "2")
    assert done.exit_code == 1
    page = (tmp_path / "page.html").read_text()
    for part in (
        "Manifest check: manifest.csv",
        "What is wrong",
        "s003",
        "CC0 (2 slides), not stated (2 slides)",
    ):
        assert part in page
    assert page.count("data:image/png;base64,") == 1
    assert "http" not in page.split("<body")[1].replace("http://www.w3.org", "")
    done = command(folder, "--report", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["check.html", "slides.csv"]
    with (tmp_path / "out" / "slides.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["gland, %"] for row in rows] == ["25.0", "75.0", "", ""]
    assert str(tmp_path / "out" / "slides.csv") in done.output


def test_a_report_without_opened_slides_is_refused(folder, tmp_path):
    done = command(folder, "--shallow", "--report", tmp_path / "page.html")
    assert done.exit_code == 2
    assert not (tmp_path / "page.html").exists()
