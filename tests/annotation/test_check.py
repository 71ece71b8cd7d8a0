"""The deep check opens everything and lists all that is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from wsi_deform.annotation.check import check_manifest, class_table_from_masks
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.drawn.gland import CLASS_NAMES
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import Manifest

CLASSES = ClassTable.from_names(CLASS_NAMES)


@pytest.fixture
def manifest(tmp_path):
    study = draw_study(tmp_path, train=3, val=1, test=1, size=Size(512, 128))
    return read_manifest(study.manifest)


def test_a_drawn_study_has_no_problems(manifest):
    seen = []
    assert (
        check_manifest(manifest, CLASSES, for_training=True, on_row=lambda row: seen.append(row.slide_id))
        == []
    )
    assert seen == [row.slide_id for row in manifest.rows]
    assert class_table_from_masks(manifest).values == tuple((value,) for value in range(5))


def test_all_problems_are_found_at_once(manifest):
    a, b, c, val, test = manifest.rows
    tifffile.imwrite(a.mask, np.zeros((128, 500), np.uint8))
    b.slide.write_bytes(b.slide.read_bytes()[:3000])
    tifffile.imwrite(c.mask, np.full((128, 512), 9, np.uint8))
    tifffile.imwrite(val.mask, np.full((128, 512), 255, np.uint8))
    tifffile.imwrite(test.slide, np.zeros((128, 512, 3), np.uint8), tile=(64, 64), resolution=None)
    problems = check_manifest(manifest, CLASSES)
    text = "\n".join(map(str, problems))
    assert len(problems) == 5, text
    for row, part in zip(
        manifest.rows,
        [
            "500 x 128 px, but its slide is 512 x 128 px",
            "",
            "value 9 is not in the class table",
            "every pixel is unlabelled",
            "",
        ],
        strict=True,
    ):
        line = next(line for line in text.splitlines() if f"slide {row.slide_id} (line {row.line})" in line)
        assert part in line
        assert "Needed" in line
    assert "Set the mpp column in its manifest row" in text


def test_training_needs_labels_in_train_and_val_and_every_class(manifest):
    without = Manifest(rows=tuple(r for r in manifest.rows if r.split != "val"), folder=manifest.folder)
    more = ClassTable.from_names([*CLASS_NAMES, "nerve"])
    text = "\n".join(map(str, check_manifest(without, more, for_training=True)))
    assert "0 slides in split val, none with a mask" in text
    assert "class 'nerve' is in no training mask" in text
    unlabelled = manifest.rows[0].model_copy(update={"mask": None})
    some = manifest.model_copy(update={"rows": (unlabelled, *manifest.rows[1:])})
    assert "1 slides of split train have no mask: P001-A" in str(
        check_manifest(some, CLASSES, for_training=True)[0]
    )
    assert check_manifest(some, CLASSES) == []


def test_outlines_are_pointed_out(manifest):
    row = manifest.rows[0].model_copy(update={"mask": None, "annotation": manifest.folder / "a.geojson"})
    problems = check_manifest(manifest.model_copy(update={"rows": (row,)}), CLASSES)
    assert "outlines are not read. Needed a raster mask in column mask" in str(problems[0])


def test_class_table_needs_a_mask(manifest):
    row = manifest.rows[0].model_copy(update={"mask": None})
    with pytest.raises(AnnotationError, match="no row has a mask"):
        class_table_from_masks(manifest.model_copy(update={"rows": (row,)}))
