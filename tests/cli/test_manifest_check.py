"""`manifest check` as a user meets it: the table of labels, and one line per kind of problem."""

from __future__ import annotations

import numpy as np
import pytest
from manifest_of_pictures import SHAPE, two_classes, write_manifest_of_pictures
from PIL import Image
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app

SPLITS = ("train", "train", "val")


def check(manifest, *more):
    """Exit code, and the lines that are said, errors included."""
    done = CliRunner().invoke(typer_app, ["manifest", "check", str(manifest), *more])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output.splitlines()


def problems(said):
    return [line for line in said if line.startswith("- ") and not line.startswith("- {")]


def test_pixels_and_shares_of_each_class_and_split_are_shown(tmp_path):
    masks = [two_classes(), two_classes((1, 255)), two_classes((0, 1))]
    code, said = check(write_manifest_of_pictures(tmp_path, masks, splits=SPLITS))
    assert code == 0
    assert said[:4] == [
        "class       train, px   share  val, px   share",
        "background      1,800  37.5 %    1,800  75.0 %",
        "gland           2,400  50.0 %      600  25.0 %",
        "unlabelled        600  12.5 %        0   0.0 %",
    ]
    assert said[-1].endswith("manifest.csv: 3 slides, no problems. 2 train, 1 val")


def test_the_table_is_of_the_region_and_of_level_0_whatever_the_size_of_the_mask(tmp_path):
    half = two_classes(shape=(20, 30))
    manifest = write_manifest_of_pictures(tmp_path, [half, two_classes(), two_classes()], splits=SPLITS)
    code, said = check(manifest)
    # A quarter of the columns: 7 of 30 at half the size, 15 of 60.
    assert said[1:3] == [
        "background      3,640  75.8 %    1,800  75.0 %",
        "gland           1,160  24.2 %      600  25.0 %",
    ]
    lines = manifest.read_text().splitlines()
    regions = ["region", "0 0 20 10", "10 10 10 10", "14 0 10 10"]
    manifest.write_text("\n".join(f"{line},{region}" for line, region in zip(lines, regions, strict=True)))
    code, said = check(manifest)
    assert (code, said[1:3]) == (
        0,
        ["background        110  36.7 %       90  90.0 %", "gland             190  63.3 %       10  10.0 %"],
    )


def test_300_rows_with_the_same_problem_are_one_line(tmp_path):
    masks = [two_classes(shape=(40, 50))] * 300
    code, said = check(write_manifest_of_pictures(tmp_path, masks, splits=["train"] * 300))
    assert code == 1
    (line,) = problems(said)
    assert line.startswith(
        f"- 300 rows, such as slide s000 (line 2): mask {tmp_path}/s000_mask.png: 50 x 40 px, but its slide is "
        f"60 x 40 px: its shape is another one; slide s001 (line 3): mask {tmp_path}/s001_mask.png: 50 x 40 px"
    )
    assert "slide s002 (line 4): " in line
    assert "slide s003 (line 5)" not in line
    assert line.endswith("Check that the mask belongs to this slide, and export all of it.")
    assert said[-1].endswith("manifest.csv: 300 problems.")


@pytest.mark.parametrize("value", [7, (12, 250, 3)])
def test_values_and_colours_that_no_class_has_are_one_line(tmp_path, value):
    mask, table = two_classes(), "[background, gland]"
    if not isinstance(value, int):
        mask = np.zeros((*SHAPE, 3), np.uint8)
        mask[:, :15] = (0, 255, 0)
        table = "[{name: background, label_rgb: '#000000'}, {name: gland, label_rgb: '#00ff00'}]"
    mask[5:7, 5:10] = value
    code, said = check(write_manifest_of_pictures(tmp_path, [mask] * 5, splits=["train"] * 5, classes=table))
    assert code == 1
    (line,) = problems(said)
    places = "in 5 rows, such as slide s000 (line 2), slide s001 (line 3), slide s002 (line 4): "
    if isinstance(value, int):
        assert line.startswith(
            f"- class table: value 7 is not in the class table, {places}1 value of the masks without a meaning; they "
            "hold 0 ('background', 75.0 %), 1 ('gland', 24.6 %), 7 (no meaning, 0.4 %). Needed a class, or unlabelled"
        )
        assert "no meaning         50   0.4 %" in said
    else:
        assert line.startswith(
            f"- class table: 1 colour of the masks that no class has, {places}#0cfa03 (50 px, nearest 'gland' #00ff00)."
            " Needed a class, or unlabelled, for every colour. Add each to label_rgb of its class or to unlabelled_rgb"
        )


def test_missing_files_of_many_rows_are_one_line_of_the_csv(tmp_path):
    manifest = write_manifest_of_pictures(tmp_path, [two_classes()] * 9, splits=["train"] * 9)
    for number in range(2, 9):
        (tmp_path / f"s{number:03d}_mask.png").unlink()
    code, said = check(manifest)
    assert code == 2
    assert said[0] == f"wsi-deform: error: manifest {manifest}: 7 problems."
    assert len(said) == 2
    assert said[1].startswith("  7 rows, such as manifest.csv line 4, column mask: 's002_mask.png' ")
    assert "Needed an existing file" in said[1]


def test_masks_without_a_class_table_are_refused_with_one_to_start_from(tmp_path):
    manifest = write_manifest_of_pictures(tmp_path, [two_classes((0, 255))] * 3, splits=SPLITS, classes="")
    code, said = check(manifest)
    assert code == 1
    at = said.index(*problems(said))
    assert said[at] == (
        "- class table: no class table says what the values of the masks mean: 0 (75.0 %), 255 (25.0 %). Needed the "
        "names of the classes and their mask values. Write this into classes.yaml, as a start:"
    )
    assert said[at + 1 : at + 4] == [
        "classes:",
        "- {name: background, value: 0}",
        "- {name: class 255, value: 255}",
    ]
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(line.rpartition(",")[0] for line in lines))
    assert check(manifest)[0] == 0  # slides to segment need none


def test_a_class_without_pixels_is_an_error_and_a_remark_with_the_switch(tmp_path):
    manifest = write_manifest_of_pictures(
        tmp_path, [two_classes()] * 3, splits=SPLITS, classes="[background, gland, tumour]"
    )
    code, said = check(manifest)
    assert code == 1
    assert (
        "- manifest: class 'tumour' is in no training mask: 0 ('background', 75.0 %), 1 ('gland'"
        in problems(said)[0]
    )
    assert "tumour              0   0.0 %        0   0.0 %" in said
    code, said = check(manifest, "--allow-empty-classes")
    assert code == 0
    assert any(line.startswith("remark: manifest: class 'tumour' is in no training mask") for line in said)


def test_masks_of_any_ratio_are_remarked_upon(tmp_path):
    smaller = np.asarray(Image.fromarray(two_classes()).resize((41, 27), Image.Resampling.NEAREST))
    code, said = check(write_manifest_of_pictures(tmp_path, [smaller] * 3, splits=SPLITS))
    assert code == 0
    assert any(
        line.startswith(
            "remark: 3 masks are smaller than their slides by a factor that is no whole number (s000: 1.463, s001: "
            "1.463, s002: 1.463): they are laid over them edge to edge"
        )
        for line in said
    )
