"""PANDA: prostate biopsies of two centres, whose masks mean different things by the same numbers.

    prostate-cancer-grade-assessment/
        train.csv                         image_id, data_provider, isup_grade, gleason_score
        train_images/<image_id>.tiff
        train_label_masks/<image_id>_mask.tiff

Each centre is a set of its own, since one class table holds for one manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.prepare.deal import dealt
from pipelines.prepare.folders import files_by_stem, named_few, read_table, root_with, unmatched
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import ManifestRow

LICENCE = "CC BY-NC-SA 4.0"
LAYOUT = "train.csv, train_images/ and train_label_masks/ of PANDA"
COLUMNS = ("image_id", "data_provider", "isup_grade", "gleason_score")
RED = 0  # the other channels of a mask are 0
RADBOUD_CLASSES = {
    "background": 0,
    "stroma": 1,
    "benign epithelium": 2,
    "Gleason 3": 3,
    "Gleason 4": 4,
    "Gleason 5": 5,
}
KAROLINSKA_CLASSES = {"background": 0, "benign tissue": 1, "cancerous tissue": 2}
REMARKS = (
    "0 is background, and also what nobody labelled.",
    "Masks were made half by networks: noise in them is not only of people.",
)


def find_centre(provider: str, classes: Mapping[str, int], downloaded: Path, seed: int) -> Found:
    """The slides of one centre; see ``FindRows``."""
    root = root_with(downloaded, "train.csv", "train_images", "train_label_masks", what=LAYOUT)
    everything = read_table(root / "train.csv", COLUMNS)
    lines = [line for line in everything if line["data_provider"] == provider]
    if not lines:
        raise ManifestError(
            f"{root / 'train.csv'}: no line of {provider}. Needed data_provider radboud or karolinska. Download "
            "it again."
        )
    slides = files_by_stem(root / "train_images", (".tiff", ".tif"))
    masks = files_by_stem(root / "train_label_masks", (".tiff", ".tif"), ending="_mask")
    absent = [line["image_id"] for line in lines if line["image_id"] not in slides]
    rows, kinds = [], {}
    for line in lines:
        slide_id = line["image_id"]
        if slide_id in slides:
            mask = masks.get(slide_id)
            extra = {"isup_grade": line["isup_grade"], "gleason_score": line["gleason_score"]}
            rows.append(
                ManifestRow(
                    slide=slides[slide_id],
                    slide_id=slide_id,
                    mask=mask,
                    mask_channel=None if mask is None else RED,
                    extra=extra,
                )
            )
            kinds[slide_id] = [int(line["isup_grade"])] if line["isup_grade"].isdecimal() else []
    remarks = list(REMARKS)
    if absent:
        remarks.append(f"{len(absent)} slides of train.csv are not there: {named_few(absent)}.")
    remarks += unmatched(masks, {line["image_id"]: line for line in everything})
    table: dict[str, Any] = {"classes": dict(classes), "background": "background"}
    return Found(rows=dealt(rows, seed, kinds=kinds), classes=table, remarks=tuple(remarks))


def _public_set(provider: str, classes: Mapping[str, int]) -> PublicSet:
    def find(downloaded: Path, out: Path, seed: int) -> Found:
        return find_centre(provider, classes, downloaded, seed)

    return PublicSet(
        name=f"panda-{provider}",
        title=f"PANDA, {provider.capitalize()}",
        licence=LICENCE,
        patients="PANDA does not say whose biopsies are one person's: slides of a patient may be in two splits.",
        find=find,
    )


RADBOUD = _public_set("radboud", RADBOUD_CLASSES)
KAROLINSKA = _public_set("karolinska", KAROLINSKA_CLASSES)
