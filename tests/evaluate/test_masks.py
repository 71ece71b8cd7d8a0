"""Mask files against labels, at full resolution."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.drawn.study import write_labels, write_slide
from wsi_deform.errors import AnnotationError, ManifestError, MaskError
from wsi_deform.evaluate.masks import evaluate_masks, rows_of_split
from wsi_deform.evaluate.tables import evaluation_data, mean_notes, write_evaluation
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.rows import Manifest, ManifestRow
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import write_samples
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

CLASSES = ClassTable.from_names(["background", "gland", "tumour", "never"])
SIZE = Size(1100, 613)

Labels = NDArray[np.uint8]


def sampler_of(fields: list[FieldSamples], size: Size) -> ReverseSampler:
    return ReverseSampler(fields, size=size, outside_label=0)


class Made:
    """A slide with labels, mask and samples, and the same as arrays."""

    def __init__(
        self, folder: Path, slide_id: str, seed: int, size: Size = SIZE, *, samples: bool = True
    ) -> None:
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 255, (*size.shape, 3), dtype=np.uint8)
        coarse = rng.choice([0, 0, 1, 2, 255], (9, 13)).astype(np.uint8)
        rows = np.arange(size.height) * 9 // size.height
        columns = np.arange(size.width) * 13 // size.width
        self.truth: Labels = coarse[rows[:, None], columns]
        write_slide(folder / f"{slide_id}.tif", image, mpp=0.5)
        write_labels(folder / f"{slide_id}-labels.tif", self.truth, mpp=0.5)
        self.row = ManifestRow(
            slide=folder / f"{slide_id}.tif",
            slide_id=slide_id,
            mask=folder / f"{slide_id}-labels.tif",
            split="test",
        )
        half = size.width // 2
        fields, true_fields = [], []
        for left, width in ((0, half), (half, size.width - half - 50)):
            # Whole sixteenths of a pixel: the file holds them exactly.
            points = np.round(rng.uniform(0, 1, (150, 2)) * [width, size.height] * 16) / 16 + [left, 0]
            labels = rng.integers(0, 3, 150).astype(np.uint8)
            kept = Region(left, 0, width, size.height)
            fields.append(FieldSamples(kept=kept, points_px=points, labels=labels))
            x, y = np.minimum(points.astype(int), [size.width - 1, size.height - 1]).T
            true_fields.append(FieldSamples(kept=kept, points_px=points, labels=self.truth[y, x]))
        out = MaskFolder(folder / "out")
        for path in out.outputs(slide_id).values():
            path.parent.mkdir(parents=True, exist_ok=True)
        write_mask(out.mask(slide_id), sampler_of(fields, size).tiles(), size=size, mpp=0.5)
        if samples:
            write_samples(out.samples(slide_id), fields, size=size, outside_label=0)
        self.predicted = sampler_of(fields, size).region(Region.whole(size))
        self.sampled = sampler_of(true_fields, size).region(Region.whole(size))


def brute_counts(truth: Labels, predicted: Labels) -> NDArray[np.int64]:
    counts = np.zeros((CLASSES.count, CLASSES.count), np.int64)
    for true in range(CLASSES.count):
        for other in range(CLASSES.count):
            counts[true, other] = ((truth == true) & (predicted == other)).sum()
    return counts


def test_counts_equal_those_of_the_arrays(tmp_path: Path) -> None:
    made = [Made(tmp_path, "a", 1), Made(tmp_path, "b", 2, Size(400, 2100))]
    evaluation = evaluate_masks([each.row for each in made], tmp_path / "out", CLASSES)
    assert evaluation.unmeasured == ()
    assert [slide.slide_id for slide in evaluation.slides] == ["a", "b"]
    for slide, each in zip(evaluation.slides, made, strict=True):
        np.testing.assert_array_equal(slide.predicted.counts, brute_counts(each.truth, each.predicted))
        assert slide.sampled is not None
        np.testing.assert_array_equal(slide.sampled.counts, brute_counts(each.truth, each.sampled))
    pooled = sum(brute_counts(each.truth, each.predicted) for each in made)
    np.testing.assert_array_equal(evaluation.pooled.counts, pooled)
    hit = np.diag(pooled)[:3]
    iou = hit / (pooled.sum(0) + pooled.sum(1) - np.diag(pooled))[:3]
    data = evaluation_data(evaluation)["pooled"]["predicted"]
    assert data["iou"] == {
        "background": pytest.approx(iou[0]),
        "gland": pytest.approx(iou[1]),
        "tumour": pytest.approx(iou[2]),
        "never": None,
    }
    assert data["miou"] == pytest.approx(iou.mean())
    assert data["miou_without_background"] == pytest.approx(iou[1:].mean())
    assert data["accuracy"] == pytest.approx(hit.sum() / pooled.sum())


def test_json_and_csv_say_the_same(tmp_path: Path) -> None:
    made = [Made(tmp_path, "a", 1), Made(tmp_path, "b", 2, samples=False)]
    evaluation = evaluate_masks([each.row for each in made], tmp_path / "out", CLASSES)
    json_path, csv_path = write_evaluation(
        evaluation, tmp_path / "out" / "evaluation", provenance={"seed": 3}
    )
    held = json.loads(json_path.read_text())
    assert held["provenance"] == {"seed": 3}
    with csv_path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["slide_id"] for row in rows] == ["all slides", "a", "b"]
    assert float(rows[0]["miou"]) == pytest.approx(held["pooled"]["predicted"]["miou"], abs=1e-6)
    assert float(rows[1]["sampled miou"]) == pytest.approx(held["slides"][0]["sampled"]["miou"], abs=1e-6)
    assert rows[0]["iou never"] == ""
    assert (rows[0]["mean over"], rows[0]["mean without"]) == ("background; gland; tumour", "never")
    assert held["pooled"]["predicted"]["miou_classes"] == {
        "labelled": ["background", "gland", "tumour"],
        "over": ["background", "gland", "tumour"],
        "absent": ["never"],
    }
    assert mean_notes(evaluation) == [
        "The mean IoU is over 3 of 4 classes (absent: never).",
        "The mean IoU(Y', Y) is over 3 of 4 classes (absent: never).",
    ]
    assert held["slides"][1]["sampled"] is None
    assert rows[2]["sampled miou"] == rows[2]["sampled iou gland"] == ""
    # Only the slide with samples is pooled for Y' against Y.
    assert held["pooled"]["sampled"]["confusion"] == held["slides"][0]["sampled"]["confusion"]


def test_missing_masks_and_masks_of_another_size_are_listed_and_the_rest_is_measured(tmp_path: Path) -> None:
    good, small, gone = (
        Made(tmp_path, "good", 1),
        Made(tmp_path, "small", 2, Size(300, 200)),
        Made(tmp_path, "gone", 3),
    )
    folder = MaskFolder(tmp_path / "out")
    folder.mask("good").rename(folder.mask("gone"))
    Made(tmp_path, "good", 1)
    folder.mask("gone").unlink()
    write_mask(folder.mask("small"), sampler_of([], Size(310, 200)).tiles(), size=Size(310, 200), mpp=None)
    unlabelled = ManifestRow(slide=good.row.slide, slide_id="plain")
    lost = good.row.model_copy(update={"slide": tmp_path / "lost.tif", "slide_id": "lost"})
    rows = [small.row, gone.row, good.row, unlabelled, lost]
    evaluation = evaluate_masks(rows, tmp_path / "out", CLASSES)
    assert [slide.slide_id for slide in evaluation.slides] == ["good"]
    reasons = {each.slide_id: each.reason for each in evaluation.unmeasured}
    assert list(reasons) == ["small", "gone", "plain", "lost"]
    assert "310 x 200 px, its slide is 300 x 200 px" in reasons["small"]
    assert "missing" in reasons["gone"]
    assert "no labels in its manifest row" in reasons["plain"]
    assert "lost.tif" in reasons["lost"]


def test_a_label_that_is_no_class_is_named_with_its_file(tmp_path: Path) -> None:
    good, odd = Made(tmp_path, "good", 1), Made(tmp_path, "odd", 2)
    folder = MaskFolder(tmp_path / "out")
    tiles = ReverseSampler([], size=SIZE, outside_label=255).tiles()
    write_mask(folder.mask("odd"), tiles, size=SIZE, mpp=None)
    evaluation = evaluate_masks([good.row, odd.row], tmp_path / "out", CLASSES)
    assert "odd.ome.tif: label 255. Needed class indices 0 to 3" in evaluation.unmeasured[0].reason


def test_damaged_samples_are_named(tmp_path: Path) -> None:
    good, bad = Made(tmp_path, "good", 1), Made(tmp_path, "bad", 2)
    path = MaskFolder(tmp_path / "out").samples("bad")
    path.write_bytes(path.read_bytes()[:500])
    evaluation = evaluate_masks([good.row, bad.row], tmp_path / "out", CLASSES)
    assert "bad.npz: cannot be read" in evaluation.unmeasured[0].reason


def test_masks_of_other_classes_are_refused(tmp_path: Path) -> None:
    made = Made(tmp_path, "a", 1)
    write_class_table(ClassTable.from_names(["background", "gland"]), tmp_path / "out" / "classes.json")
    with pytest.raises(
        AnnotationError, match=r"masks have 2 classes \(background, gland\), the labels 4 \(background"
    ):
        evaluate_masks([made.row], tmp_path / "out", CLASSES)


def test_nothing_to_measure_is_an_error_with_all_reasons(tmp_path: Path) -> None:
    made = Made(tmp_path, "a", 1)
    with pytest.raises(MaskError, match="no such folder"):
        evaluate_masks([made.row], tmp_path / "none", CLASSES)
    MaskFolder(tmp_path / "out").mask("a").unlink()
    with pytest.raises(MaskError, match=r"none of 1 slides could be measured\.\n  a: mask .*missing"):
        evaluate_masks([made.row], tmp_path / "out", CLASSES)


def test_rows_are_those_of_the_test_split_where_there_is_one(tmp_path: Path) -> None:
    train, test = (ManifestRow(slide=tmp_path, slide_id=name, split=name) for name in ("train", "test"))
    both = Manifest(rows=(train, test), folder=tmp_path)
    assert rows_of_split(both) == ((test,), "test")
    assert rows_of_split(both, "train") == ((train,), "train")
    assert rows_of_split(Manifest(rows=(train,), folder=tmp_path)) == ((train,), "all")
    with pytest.raises(ManifestError, match="no row of split val"):
        rows_of_split(both, "val")
