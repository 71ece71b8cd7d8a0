"""SICAPv2: patches of prostate slides at 10x, with the official partition by patient.

images/<slide_id>_Block_Region_1_0_0_xini_6803_yini_59786.jpg
masks/<the same name>.png
partition/Test/Train.xlsx, Test.xlsx
partition/Validation/Val1/Train.xlsx, Test.xlsx      (Val1 to Val4)
wsi_labels.xlsx                                      slide_id, patient_id, Gleason_primary, Gleason_secondary
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipelines.prepare.converted import read_picture
from pipelines.prepare.folders import either_table, files_by_stem, named_few, read_table, root_with
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.errors import AnnotationError, ManifestError
from wsi_deform.manifest.rows import ManifestRow, Split

LAYOUT = "images/, masks/, partition/ and wsi_labels.xlsx of SICAPv2"
MPP = 1.0  # 10x
NAMES = ("non-cancerous", "Gleason 3", "Gleason 4", "Gleason 5")
AS_GRADES, AS_INDICES = (0, 3, 4, 5), (0, 1, 2, 3)
FOLD = "Val1"


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The patches of the partition; see ``FindRows``."""
    root = root_with(downloaded, "images", "masks", "partition", what=LAYOUT)
    patient_of = {
        line["slide_id"]: line["patient_id"]
        for line in read_table(either_table(root, "wsi_labels"), ("slide_id", "patient_id"))
    }
    split_of = _partition(root / "partition")
    images = files_by_stem(root / "images", (".jpg", ".jpeg", ".png"))
    masks = files_by_stem(root / "masks", (".png", ".tif", ".tiff"))
    unknown = sorted({slide_of(patch) for patch in split_of} - patient_of.keys())
    if unknown:
        raise ManifestError(
            f"{root}: wsi_labels does not say whose {len(unknown)} slides are: {named_few(unknown)}. Needed a patient "
            "for every slide. Download it again."
        )
    rows = tuple(
        ManifestRow(
            slide=images[patch],
            slide_id=patch,
            patient=patient_of[slide_of(patch)],
            split=split if patch in masks else None,
            mask=masks.get(patch),
            mpp=MPP,
            extra={"whole_slide": slide_of(patch)},
        )
        for patch, split in split_of.items()
        if patch in images
    )
    absent = [patch for patch in split_of if patch not in images]
    remarks = [
        f"Validation is fold {FOLD} of the official four; the official test set is the test split.",
        "Slides are patches of 512 x 512 px, cut from the whole slides named in column whole_slide.",
    ]
    if rest := len(images.keys() - split_of.keys()):
        remarks.append(f"{rest} images are in no list of the partition and are left out.")
    if absent:
        remarks.append(f"{len(absent)} images of the partition are not there: {named_few(absent)}.")
    values = encoding_of(row.mask for row in rows if row.mask is not None)
    classes = {"classes": dict(zip(NAMES, values, strict=True)), "background": NAMES[0]}
    return Found(rows=rows, classes=classes, remarks=tuple(remarks))


def slide_of(patch: str) -> str:
    """The whole slide that a patch was cut from."""
    return patch.partition("_Block_")[0]


def encoding_of(masks: Iterable[Path]) -> tuple[int, int, int, int]:
    """Which numbers mean Gleason 3, 4 and 5: those grades, or 1, 2 and 3 as the set's own page says.

    Raises:
        AnnotationError: Masks hold both, or neither so that 3 may mean either.
    """
    seen: set[int] = set()
    for mask in masks:
        seen.update(np.unique(read_picture(mask)).tolist())
        if seen & {1, 2} and seen & {4, 5}:
            raise AnnotationError(
                f"mask {mask}: values {sorted(seen)} so far. Needed 0, 3, 4, 5 or 0, 1, 2, 3. Download the set again."
            )
        if seen & {4, 5}:
            return AS_GRADES
        if seen & {1, 2}:
            return AS_INDICES
    if 3 in seen:
        raise AnnotationError(
            f"masks of SICAPv2: values {sorted(seen)}. Needed one of 1, 2, 4 or 5 too, since 3 means Gleason 3 beside "
            "4 and 5, and Gleason 5 beside 1 and 2. Download the set again, whole."
        )
    return AS_GRADES


def _partition(folder: Path) -> dict[str, Split]:
    """Patch -> split; the first list that names a patch decides."""
    lists: tuple[tuple[str, str, Split], ...] = (
        ("Test", "Test", "test"),
        (f"Validation/{FOLD}", "Test", "val"),
        (f"Validation/{FOLD}", "Train", "train"),
        ("Test", "Train", "train"),
    )
    split_of: dict[str, Split] = {}
    for inner, stem, split in lists:
        for line in read_table(either_table(folder / inner, stem), ("image_name",)):
            split_of.setdefault(Path(line["image_name"]).stem, split)
    return split_of


SICAPV2 = PublicSet(
    name="sicapv2",
    title="SICAPv2",
    licence="CC BY 4.0",
    patients="As wsi_labels.xlsx says.",
    find=find,
)
