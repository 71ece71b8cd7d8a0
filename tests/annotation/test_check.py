"""The deep check opens everything and lists all that is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from wsi_deform.annotation.check import check_manifest
from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.annotation.label_check import refuse_labels_of_one_class
from wsi_deform.drawn.gland import CLASS_NAMES
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Region, Size
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
    assert "1 slides of split train have no labels: P001-A" in str(
        check_manifest(some, CLASSES, for_training=True)[0]
    )
    assert check_manifest(some, CLASSES) == []


def with_masks(manifest, *values):
    """The manifest whose masks hold these values, one mask after the other, the first value in most of it."""
    for row, own in zip(manifest.rows, values, strict=True):
        labels = np.full((128, 512), own[0], np.uint8)
        for place, value in enumerate(own[1:]):
            labels[:16, 16 * place : 16 * (place + 1)] = value
        tifffile.imwrite(row.mask, labels, description=row.slide_id)  # files of their own
    return manifest


def test_classes_are_looked_at_with_a_table_alone_and_with_the_switch_remarked_upon(manifest):
    table, remarks = ClassTable.from_names(["background", "gland"]), []
    broken = with_masks(manifest, *[(0, 255)] * 5)
    assert len(check_manifest(broken, table, scan=False)) == 0
    (problem,) = check_manifest(broken, table)
    assert problem.paste == "classes:\n- {name: background, value: 0}\n- {name: gland, value: 255}"
    assert check_manifest(broken, table, allow_empty_classes=True, on_remark=remarks.append) == []
    assert remarks[0].startswith("class table: only class 'background' has pixels in 5 masks")
    (problem,) = check_manifest(broken, None)
    assert str(problem) == (
        "class table: no class table says what the values of the masks mean: 0 (99.6 %), 255 (0.4 %). Needed the names "
        "of the classes and their mask values. Write this into classes.yaml, as a start:\nclasses:\n"
        "- {name: background, value: 0}\n- {name: class 255, value: 255}"
    )


def test_a_table_for_masks_that_have_none_leaves_255_where_there_are_two_classes(manifest):
    (problem,) = check_manifest(with_masks(manifest, *[(0, 3, 255)] * 5), None)
    assert problem.paste == "classes:\n- {name: background, value: 0}\n- {name: class 3, value: 3}"


def test_training_looks_at_the_labels_of_train_and_val_only(manifest):
    table = ClassTable.from_names(["background", "gland"])
    held = with_masks(manifest, *[(0, 1)] * 4, (0, 9))
    assert check_manifest(held, table, for_training=True) == []
    assert "value 9 is not in the class table" in str(check_manifest(held, table)[0])


def test_val_of_one_class_is_found(manifest):
    table = ClassTable.from_names(["background", "gland"])
    held = with_masks(manifest, *[(0, 1)] * 3, (0, 255), (0, 1))
    (problem,) = check_manifest(held, table, for_training=True)
    assert problem.found.startswith(
        "the masks of split val hold only class 'background': 0 ('background', 99.6 %)"
    )


def test_what_seems_to_be_missing_may_be_in_a_mask_that_cannot_be_read(manifest):
    table = ClassTable.from_names(["background", "gland"])
    held = with_masks(manifest, *[(0, 255)] * 5)
    held.rows[0].mask.write_bytes(b"II*")
    (problem,) = check_manifest(held, table)
    assert held.rows[0].slide_id in problem.where


def test_slides_without_patients_are_remarked_upon(manifest):
    bare = manifest.model_copy(
        update={"rows": tuple(row.model_copy(update={"patient": None}) for row in manifest.rows)}
    )
    remarks = []
    check_manifest(bare, CLASSES, scan=False, on_remark=remarks.append)
    assert [remark.split(":")[0] for remark in remarks] == ["5 of 5 slides in splits have no patient"]
    one = bare.model_copy(update={"rows": bare.of_split("train")})
    remarks.clear()
    check_manifest(one, CLASSES, scan=False, on_remark=remarks.append)
    assert remarks == []


def outlined(folder, name, features):
    """QuPath GeoJSON of (class name, left, top, right, bottom)."""
    (folder / name).write_text(
        json.dumps(
            {
                "type": "FeatureCollection",
                "features": [
                    {
                        "type": "Feature",
                        "properties": {"objectType": "annotation", "classification": {"name": each}},
                        "geometry": {
                            "type": "Polygon",
                            "coordinates": [[[x, y], [right, y], [right, bottom], [x, bottom], [x, y]]],
                        },
                    }
                    for each, x, y, right, bottom in features
                ],
            }
        )
    )
    return folder / name


def with_outlines(manifest, *features):
    """The rows with the same outlines in place of their masks."""
    path = outlined(manifest.folder, "o.geojson", features)
    rows = tuple(row.model_copy(update={"mask": None, "annotation": path}) for row in manifest.rows)
    return manifest.model_copy(update={"rows": rows})


def test_outlines_are_counted_as_masks_are(manifest):
    held = with_outlines(manifest, ("Gland", 0, 0, 100, 100), ("gland", 50, 0, 150, 100))
    remarks, lines = [], []
    table = ClassTable.from_names(["background", "gland"])
    assert (
        check_manifest(held, table, for_training=True, on_remark=remarks.append, on_table=lines.extend) == []
    )
    assert remarks == []
    assert lines == [
        "class       train, px   share  val, px   share",
        "background    151,608  77.1 %   50,536  77.1 %",
        "gland          45,000  22.9 %   15,000  22.9 %",
    ]


def test_classes_without_a_mask_value_are_counted_too(manifest):
    table = class_table_from_data(
        {
            "classes": [{"name": "background", "values": []}, {"name": "gland", "values": [255]}],
            "regions": ["ROI"],
        },
        "t",
    )
    held = with_outlines(manifest, ("ROI", 0, 0, 200, 100), ("gland", 0, 0, 100, 100))
    lines = []
    assert check_manifest(held, table, on_table=lines.extend) == []
    assert [line.split()[:2] for line in lines] == [
        ["class", "train,"],
        ["background", "30,000"],
        ["gland", "30,000"],
        ["unlabelled", "136,608"],
    ]


def test_only_the_part_of_a_row_is_counted(manifest):
    held = with_outlines(manifest, ("gland", 0, 0, 100, 100))
    part = held.rows[0].model_copy(update={"region": Region(90, 0, 20, 10)})
    lines = []
    table = ClassTable.from_names(["background", "gland"])
    assert check_manifest(held.model_copy(update={"rows": (part,)}), table, on_table=lines.extend) == []
    assert [line.split()[1] for line in lines[1:]] == ["100", "100"]


def test_outlines_that_nothing_is_known_of_are_problems(manifest):
    held = with_outlines(manifest, ("tumr", 0, 0, 100, 100), ("gland", 0, 0, 100, 50))
    held.rows[1].annotation.with_name("b.xml").write_text("<nothing/>")
    row = held.rows[1].model_copy(update={"annotation": held.rows[1].annotation.with_name("b.xml")})
    one = held.model_copy(update={"rows": (held.rows[0], row)})
    problems = list(map(str, check_manifest(one, ClassTable.from_names(["background", "tumour", "gland"]))))
    assert len(problems) == 2
    assert "class name 'tumr' (1 outline, nearest 'tumour') is not in the class table" in problems[0]
    assert "b.xml: in no format that is known" in problems[1]
    (problem,) = check_manifest(held.model_copy(update={"rows": held.rows[:1]}))
    assert str(problem).splitlines() == [
        "class table: no class table says what the class names of the outlines mean: 'tumr' (1), 'gland' (1). Needed a "
        "class for every name. Write this into classes.yaml, as a start:",
        *["classes:", "- {name: background, value: 0}", "- {name: tumr, value: 1}"],
        "- {name: gland, value: 2}",
    ]


def test_outlines_of_one_class_are_told_what_to_say_of_the_rest(manifest):
    held = with_outlines(manifest, ("gland", 0, 0, 100, 100))
    (problem,) = check_manifest(held, ClassTable.from_names(["gland"]))
    assert str(problem) == (
        "class table: only class 'gland' has pixels in 5 files of labels, which hold 0 ('gland', 15.3 %), 255 "
        "(unlabelled, 84.7 %). Needed pixels of two classes or more, for there is nothing to tell apart in one. Say in "
        "the class table what is outside all outlines (outside_outlines), or pass --allow-empty-classes if it is meant "
        "so."
    )
    with pytest.raises(AnnotationError, match="only class 'gland' has pixels in 5 files of labels"):
        refuse_labels_of_one_class(held.rows, ClassTable.from_names(["gland"]))
    refuse_labels_of_one_class(held.rows, ClassTable.from_names(["background", "gland"]))


def test_a_slide_without_a_labelled_pixel_is_a_problem(manifest):
    held = with_outlines(manifest, ("other", 0, 0, 100, 100))
    table = class_table_from_data({"classes": ["a", "b"], "ignored": "other"}, "t")
    problems = check_manifest(held, table)
    assert sum("every pixel is unlabelled. Needed at least one" in str(each) for each in problems) == 5
