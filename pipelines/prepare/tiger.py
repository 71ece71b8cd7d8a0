"""TIGER: breast cancer slides; tissue in regions of interest (wsirois) and the tumour bulk (wsibulk).

    wsirois/wsi-level-annotations/
        images/<name>.tif
        annotations-tissue-bcss-masks/<name>.tif      large regions, of TCGA slides
        annotations-tissue-cells-masks/<name>.tif     smaller ones, of all slides
        tissue-masks/<name>_tissue.tif
    wsibulk/
        images/<name>.tif
        annotations-tumor-bulk/masks/<name>.tif
        tissue-masks/<name>_tissue.tif

Masks are read as they are: the XML and COCO files beside them say the same (COCO: boxes of cells, which are no areas).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.prepare.deal import dealt
from pipelines.prepare.folders import files_by_stem, root_with, unmatched
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.manifest.rows import ManifestRow

LICENCE = "CC BY-NC 4.0; slides of TCGA under the terms of TCGA"
TIFFS = (".tif", ".tiff")
TISSUE = "_tissue"
WSIROIS_CLASSES: Mapping[str, Any] = {
    "classes": {
        "invasive tumour": 1,
        "tumour-associated stroma": 2,
        "in-situ tumour": 3,
        "healthy glands": 4,
        "necrosis not in-situ": 5,
        "inflamed stroma": 6,
        "rest": 7,
    },
    "background": "rest",
    "unlabelled": [0, 255],
}
WSIBULK_CLASSES: Mapping[str, Any] = {"classes": {"rest": 0, "tumour bulk": 1}, "background": "rest"}
_OF_TCGA = re.compile(r"TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}")
_OF_RADBOUD = re.compile(r"TC_S\d+_P\d+")
_OF_BORDET = re.compile(r"(\d+)[A-Z]")


def patient_of(name: str) -> str:
    """Whose slide it is, by its name: ``TCGA-OL-A5RY-...``, ``TC_S01_P000001_C0001_B101`` or ``104S``.

    Convention:
        Bordet's numbers are patients, the letter behind says of what (S and B) the slide is. Any other name is a
        patient of its own.
    """
    for pattern in (_OF_TCGA, _OF_RADBOUD):
        if found := pattern.match(name):
            return found.group(0)
    found = _OF_BORDET.fullmatch(name)
    return f"JB-{found.group(1)}" if found else name


def find_rois(downloaded: Path, out: Path, seed: int) -> Found:
    """Slides with labelled regions; see ``FindRows``."""
    root = root_with(
        downloaded, "wsirois", what="wsirois/wsi-level-annotations/ with images/ and masks, of TIGER"
    )
    folder = root_with(root / "wsirois", "images", what="wsirois/wsi-level-annotations/images/ of TIGER")
    large = files_by_stem(folder / "annotations-tissue-bcss-masks", TIFFS)
    small = files_by_stem(folder / "annotations-tissue-cells-masks", TIFFS)
    remarks = (
        "0 is outside the labelled regions: unlabelled.",
        f"{len(large)} slides have the large regions of BCSS, which win over the smaller ones of cells.",
    )
    return _found(folder, {**small, **large}, WSIROIS_CLASSES, seed, remarks)


def find_bulk(downloaded: Path, out: Path, seed: int) -> Found:
    """Slides with the tumour bulk; see ``FindRows``."""
    root = root_with(
        downloaded, "wsibulk", what="wsibulk/ with images/ and annotations-tumor-bulk/masks/, of TIGER"
    )
    masks = files_by_stem(root / "wsibulk" / "annotations-tumor-bulk" / "masks", TIFFS)
    return _found(root / "wsibulk", masks, WSIBULK_CLASSES, seed, ("1 is the bulk, 0 all else, glass too.",))


def _found(
    folder: Path, masks: Mapping[str, Path], classes: Mapping[str, Any], seed: int, remarks: Sequence[str]
) -> Found:
    slides = files_by_stem(folder / "images", TIFFS)
    tissue = files_by_stem(folder / "tissue-masks", TIFFS, ending=TISSUE)
    slides = {name: path for name, path in slides.items() if not name.endswith(TISSUE)}
    rows = [
        ManifestRow(
            slide=path,
            slide_id=name,
            patient=patient_of(name),
            mask=masks.get(name),
            tissue_mask=tissue.get(name),
        )
        for name, path in slides.items()
    ]
    return Found(
        rows=dealt(rows, seed),
        classes=classes,
        remarks=(*remarks, *unmatched(masks, slides)),
    )


PATIENTS = "By names: TCGA barcode, Radboud's P number, Bordet's number."
WSIROIS = PublicSet(
    name="tiger-wsirois", title="TIGER, WSIROIS", licence=LICENCE, patients=PATIENTS, find=find_rois
)
WSIBULK = PublicSet(
    name="tiger-wsibulk", title="TIGER, WSIBULK", licence=LICENCE, patients=PATIENTS, find=find_bulk
)
