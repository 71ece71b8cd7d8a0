"""DeepGlobe land cover: satellite images of 2,448 x 2,448 px, labels as colours.

train/<id>_sat.jpg
train/<id>_mask.png
class_dict.csv, metadata.csv, valid/, test/       (valid and test have no labels)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.prepare.converted import bands_of, made_of, read_picture, write_labels_once
from pipelines.prepare.deal import scaled_counts, split_to_counts, with_splits
from pipelines.prepare.folders import files_by_stem, root_with, unmatched
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Size
from wsi_deform.manifest.rows import ManifestRow, Split

LAYOUT = "train/ with <id>_sat.jpg and <id>_mask.png of DeepGlobe land cover"
CLASSES: Mapping[str, tuple[int, int, int]] = {
    "urban land": (0, 255, 255),
    "agriculture land": (255, 255, 0),
    "rangeland": (255, 0, 255),
    "forest land": (0, 255, 0),
    "water": (0, 0, 255),
    "barren land": (255, 255, 255),
}
UNKNOWN = (0, 0, 0)
# Jin et al. 2022, appendix A.6; they sum to 804 for 803 images.
PUBLISHED: Mapping[Split, int] = {"train": 455, "val": 207, "test": 142}
THRESHOLD = 128  # as the set's page says, for channels that are not pure


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The images of ``train``; see ``FindRows``."""
    root = root_with(downloaded, "train", what=LAYOUT)
    images = files_by_stem(root / "train", (".jpg", ".jpeg", ".png"), ending="_sat")
    masks = files_by_stem(root / "train", (".png",), ending="_mask")
    rows, impure = [], 0
    for name, path in images.items():
        mask = masks.get(name)
        if mask is not None:
            pure = pure_mask(mask, out / "labels" / f"{name}.tif")
            impure += pure != mask
            mask = pure
        rows.append(ManifestRow(slide=path, slide_id=name, patient=name, mask=mask))
    labelled = [row for row in rows if row.mask]
    counts = scaled_counts(len(labelled), PUBLISHED)
    split_of = split_to_counts({str(row.patient): 1 for row in labelled}, counts, seed)
    remarks = [
        "The paper's 455, 207 and 142 images sum to 804, and the set has 803: here "
        f"{len(labelled)} images are dealt as {counts['train']}, {counts['val']} and {counts['test']}.",
        "Whether two images are neighbours on the ground is not known.",
    ]
    if impure:
        remarks.append(
            f"{impure} masks had channels other than 0 and 255; they were cut at {THRESHOLD} into {out / 'labels'}."
        )
    return Found(
        rows=with_splits(rows, split_of),
        classes=class_data(),
        remarks=(*remarks, *unmatched(masks, images)),
    )


def class_data() -> dict[str, Any]:
    """The class table: colours, and for masks that had to be converted the index of a class plus 1."""
    return {
        "classes": [
            {"name": name, "color": list(colour), "label_rgb": [list(colour)], "value": index + 1}
            for index, (name, colour) in enumerate(CLASSES.items())
        ],
        "background": None,
        "unlabelled": [0, 255],
        "unlabelled_rgb": [list(UNKNOWN)],
    }


def pure_mask(mask: Path, converted: Path) -> Path:
    """The mask itself where all its channels are 0 or 255, as they should be; else one cut at ``THRESHOLD``.

    Raises:
        AnnotationError: It is no RGB picture, or holds a colour that no class has.
    """
    pixels = read_picture(mask)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
        raise AnnotationError(
            f"mask {mask}: {pixels.dtype} of shape {pixels.shape}. Needed RGB. Download it again."
        )
    rgb: NDArray[np.uint8] = pixels[..., :3]
    if ((rgb == 0) | (rgb == 255)).all():
        return mask

    def bands() -> Iterator[NDArray[np.uint8]]:
        return bands_of(_values(rgb >= THRESHOLD, mask))

    write_labels_once(converted, Size(rgb.shape[1], rgb.shape[0]), made_of("threshold 1", mask), bands)
    return converted


def _values(on: NDArray[np.bool_], mask: Path) -> NDArray[np.uint8]:
    """(H, W) uint8, 0 unknown and classes from 1 on, of (H, W, 3) channels that are on."""
    values = np.full(on.shape[:2], 255, np.uint8)
    for value, colour in enumerate((UNKNOWN, *CLASSES.values())):
        values[(on == (np.array(colour) > 0)).all(axis=2)] = value
    if (values == 255).any():
        y, x = np.argwhere(values == 255)[0]
        raise AnnotationError(
            f"mask {mask}: red at {x}, {y}. Needed the colours of the six classes, or black. Mend it or leave it out."
        )
    return values


DEEPGLOBE = PublicSet(
    name="deepglobe",
    title="DeepGlobe land cover",
    licence="terms of the DeepGlobe challenge (research and education; check them)",
    patients="Each image stands for one.",
    find=find,
)
