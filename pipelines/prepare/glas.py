"""GlaS as the challenge hands it out: BMP images, gland instances, grades by image.

    Warwick QU Dataset (Released 2016_07_08)/
        Grade.csv               name, patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)
        train_1.bmp  train_1_anno.bmp  ...  testA_1.bmp  ...  testB_1.bmp  ...

Instances become classes by the grade of their image, which no class table can say.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.glas.folder import DATA_LICENCE
from pipelines.glas.splits import split_patients
from pipelines.prepare.converted import bands_of, made_of, read_picture, write_labels_once
from pipelines.prepare.folders import files_by_stem, named_few, read_table, root_with
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.annotation.mask_file import MaskFile
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import ManifestRow

LAYOUT = "Grade.csv, *.bmp and *_anno.bmp of GlaS"
MPP = 0.62005  # as the challenge's page says; a BMP says nothing
COLUMNS = ("name", "patient ID", "grade (GlaS)")
CLASSES = ("background", "benign gland", "malignant gland")
GRADES = ("benign", "malignant")
SUFFIXES = (".bmp", ".png")
ENDING = "_anno"


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The images; see ``FindRows``."""
    root = root_with(downloaded, "Grade.csv", what=LAYOUT)
    images = {stem: path for stem, path in files_by_stem(root, SUFFIXES).items() if not stem.endswith(ENDING)}
    instances = files_by_stem(root, SUFFIXES, ending=ENDING)
    rows: list[ManifestRow] = []
    graded: dict[str, list[int]] = {}
    absent = []
    converted = 0
    for line in read_table(root / "Grade.csv", COLUMNS):
        name, patient, grade = line["name"], line["patient ID"], line["grade (GlaS)"].lower()
        if grade not in GRADES or not patient:
            raise ManifestError(
                f"{root / 'Grade.csv'}: {name} has patient {patient!r} and grade {grade!r}. Needed a patient, and "
                "benign or malignant. Download it again."
            )
        if name not in images:
            absent.append(name)
            continue
        mask = out / "labels" / f"{name}.tif" if name in instances else None
        if mask is not None:
            converted += write_classes(mask, instances[name], GRADES.index(grade))
            graded.setdefault(patient, [0, 0])[GRADES.index(grade)] += 1
        rows.append(ManifestRow(slide=images[name], slide_id=name, patient=patient, mask=mask, mpp=MPP))
    split_of = split_patients(graded, seed=seed) if graded else {}
    remarks = [
        f"Gland instances became classes by the grade of their image, in {out / 'labels'} ({converted} made now).",
        "The challenge's train, testA and testB share patients, so they are not used.",
    ]
    if absent:
        remarks.append(f"{len(absent)} images of Grade.csv are not there: {named_few(absent)}.")
    return Found(
        rows=tuple(
            row.model_copy(update={"split": split_of.get(str(row.patient)) if row.mask else None})
            for row in rows
        ),
        classes={"classes": list(CLASSES), "background": CLASSES[0]},
        remarks=tuple(remarks),
    )


def write_classes(path: Path, instances: Path, grade: int) -> bool:
    """Write the classes of an image's instances, if they are not there; whether they were written."""

    def bands() -> Iterator[NDArray[np.uint8]]:
        pixels = read_picture(instances)
        return bands_of(np.where(pixels > 0, np.uint8(1 + grade), np.uint8(0)))

    return write_labels_once(path, MaskFile(instances).size, made_of(instances, "grade", grade), bands)


GLAS = PublicSet(
    name="glas",
    title="GlaS",
    licence=DATA_LICENCE,
    patients="As Grade.csv says.",
    find=find,
)
