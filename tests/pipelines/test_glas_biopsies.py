from __future__ import annotations

import csv
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import openslide
import pytest
import tifffile
from glas_folder import GLAND_COLOUR, HEIGHT, WIDTH, glas_folder
from PIL import Image

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.errors import ManifestError, ShapeError, SlideError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest

ROOT = Path(__file__).parents[2]
CANVAS = Size(900, 300)
COUNTS = {"train": 6, "val": 3, "test": 4}


@pytest.fixture(scope="module")
def biopsies() -> ModuleType:
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module("pipelines.glas.biopsies")
    finally:
        sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def glas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine patients with 1 to 3 images of one or both grades."""
    return glas_folder(tmp_path_factory.mktemp("glas"))


@pytest.fixture(scope="module")
def made(biopsies: ModuleType, glas: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made")
    biopsies.make_biopsies(glas, out, counts=COUNTS, canvas=CANVAS, per_slide=(2, 3), seed=3)
    return out


def patients_of_images(glas: Path) -> dict[str, tuple[str, str]]:
    with (glas / "grade.csv").open() as file:
        return {row["image"]: (row["patient"], row["grade"]) for row in csv.DictReader(file)}


def test_patients_never_cross_splits_nor_mix_on_a_slide(made: Path, glas: Path) -> None:
    owner = patients_of_images(glas)
    manifest = read_manifest(made / "manifest.csv")
    splits: dict[str, set[str]] = {}
    for row in manifest.rows:
        shown = row.extra["images"].split()
        assert {owner[name][0] for name in shown} == {row.patient}
        assert len(shown) == len(set(shown))
        for name in shown:
            splits.setdefault(owner[name][0], set()).add(str(row.split))
    assert all(len(each) == 1 for each in splits.values())


def test_every_split_has_both_grades_two_patients_and_its_number_of_slides(made: Path, glas: Path) -> None:
    owner = patients_of_images(glas)
    manifest = read_manifest(made / "manifest.csv")
    for split, count in COUNTS.items():
        rows = manifest.of_split(split)  # type: ignore[arg-type]
        assert len(rows) == count
        assert len({row.patient for row in rows}) >= 2
        assert {owner[name][1] for row in rows for name in row.extra["images"].split()} == {
            "benign",
            "malignant",
        }


def test_labels_lie_on_the_glands_they_name(made: Path) -> None:
    for row in read_manifest(made / "manifest.csv").rows:
        picture = tifffile.imread(row.slide, key=0).astype(int)
        labels = tifffile.imread(str(row.mask))
        assert labels.shape == picture.shape[:2] == CANVAS.shape
        assert labels.dtype == np.uint8
        is_gland = {
            value: np.abs(picture - np.array(GLAND_COLOUR[grade])).max(axis=2) < 40
            for value, grade in ((1, "benign"), (2, "malignant"))
        }
        for value, drawn in is_gland.items():
            right = (labels == value) == drawn
            assert right.mean() > 0.995  # JPEG blurs the outline
        assert (labels > 0).sum() == len(row.extra["images"].split()) * (16 * 16 + 16 * 12)


def test_slides_are_pyramids_that_openslide_reads_with_their_mpp(made: Path) -> None:
    row = read_manifest(made / "manifest.csv").rows[0]
    with openslide.OpenSlide(row.slide) as slide:
        assert slide.dimensions == (CANVAS.width, CANVAS.height)
        assert slide.level_count >= 2
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.62, rel=1e-4)
    assert read_class_table(made / "classes.yaml").names == ("background", "benign gland", "malignant gland")


def test_same_seed_writes_same_bytes_and_another_seed_does_not(
    biopsies: ModuleType, glas: Path, made: Path, tmp_path: Path
) -> None:
    for out, seed in (("same", 3), ("other", 4)):
        biopsies.make_biopsies(
            glas, tmp_path / out, counts=COUNTS, canvas=CANVAS, per_slide=(2, 3), seed=seed, workers=1
        )
    files = [path.relative_to(made) for path in sorted(made.rglob("*.tif"))] + [Path("manifest.csv")]
    assert all((made / each).read_bytes() == (tmp_path / "same" / each).read_bytes() for each in files)
    assert (made / "manifest.csv").read_text() != (tmp_path / "other" / "manifest.csv").read_text()


def test_images_on_held_out_slides_are_neither_turned_nor_flipped(biopsies: ModuleType, glas: Path) -> None:
    planned = biopsies.plan_biopsies(biopsies.read_glas(glas), COUNTS, seed=0, per_slide=(1, 1))
    held_out = next(each for each in planned if each.split == "test")
    _, labels, _ = biopsies.draw_biopsy(held_out, CANVAS, seed=0)
    with Image.open(held_out.images[0].instances) as opened:
        gland = np.asarray(opened) > 0

    def cropped(mask: np.ndarray) -> np.ndarray:
        return mask[np.ix_(mask.any(axis=1), mask.any(axis=0))]

    y, x = np.argwhere(labels > 0).min(axis=0) - np.argwhere(gland).min(axis=0)
    assert np.array_equal(labels[y : y + HEIGHT, x : x + WIDTH] > 0, gland)


def test_labels_on_tissue_leave_out_the_glass_between_the_images(made: Path) -> None:
    whole, on_tissue = (read_manifest(made / name) for name in ("manifest.csv", "manifest_on_tissue.csv"))
    assert [row.slide for row in on_tissue.rows] == [row.slide for row in whole.rows]
    row, same = whole.rows[0], on_tissue.rows[0]
    labels, left = (tifffile.imread(str(each.mask)) for each in (row, same))
    # Two or three images of 64 x 40 px lie on the slide.
    shown = len(row.extra["images"].split())
    assert np.count_nonzero(left != 255) == shown * WIDTH * HEIGHT
    assert np.array_equal(left[left != 255], labels[left != 255])
    assert not labels[left == 255].any()


def test_images_of_a_patient_are_shown_about_equally_often(biopsies: ModuleType, glas: Path) -> None:
    counts = {"train": 60, "val": 20, "test": 40}
    planned = biopsies.plan_biopsies(biopsies.read_glas(glas), counts, seed=0, per_slide=(1, 2))
    shown: dict[str, list[str]] = {}
    for each in planned:
        shown.setdefault(each.patient, []).extend(image.name for image in each.images)
    for names in shown.values():
        often = [names.count(name) for name in set(names)]
        assert max(often) - min(often) <= 2


def test_no_image_lies_on_another(biopsies: ModuleType) -> None:
    sizes = [Size(120, 80), Size(80, 120)] * 4
    placed = biopsies.scattered(sizes, CANVAS, np.random.default_rng(0))
    covered = np.zeros(CANVAS.shape, int)
    for place in placed:
        covered[place.y : place.bottom, place.x : place.right] += 1
    assert covered.max() == 1
    assert covered.sum() == 8 * 120 * 80


def test_images_that_do_not_fit_are_refused_with_their_slide(biopsies: ModuleType) -> None:
    with pytest.raises(ShapeError, match="slide x: no room for 30 images on 900 x 300"):
        biopsies.scattered([Size(120, 80)] * 30, CANVAS, np.random.default_rng(0), "x")


def test_missing_folder_names_path_and_need(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pipelines.glas.biopsies",
        "--images",
        str(tmp_path / "none"),
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stderr
    assert "no such folder" in done.stderr
    assert "grade.csv" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_column_and_missing_mask_are_named(biopsies: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "grade.csv").write_text("image,grade\na,benign\n")
    with pytest.raises(ManifestError, match=r"grade.csv: no column patient; found image, grade"):
        biopsies.read_glas(tmp_path)
    (tmp_path / "grade.csv").write_text("image,patient,grade\na,,unknown\n")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ManifestError) as raised:
        biopsies.read_glas(tmp_path)
    assert "3 problems" in str(raised.value)
    assert "a_anno.png is not in the folder" in str(raised.value)
    assert "grade 'unknown'" in str(raised.value)


def test_mask_of_another_size_is_refused(biopsies: ModuleType, tmp_path: Path) -> None:
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png")
    Image.new("L", (8, 5)).save(tmp_path / "a_anno.png")
    (tmp_path / "grade.csv").write_text("image,patient,grade\na,1,benign\n")
    images = tuple(biopsies.read_glas(tmp_path))
    biopsy = biopsies.Biopsy(slide_id="s", patient="1", split="test", images=images)
    with pytest.raises(SlideError, match=r"a_anno.png: shape \(5, 8\). Needed \(4, 8\)"):
        biopsies.draw_biopsy(biopsy, CANVAS, seed=0)


def test_too_few_patients_of_a_grade_are_refused(biopsies: ModuleType) -> None:
    with pytest.raises(ManifestError, match="at least 3 patients per grade"):
        biopsies.split_patients({"1": [2, 0], "2": [3, 0], "3": [0, 4], "4": [1, 0]}, seed=0)
