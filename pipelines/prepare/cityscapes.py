"""Cityscapes: street scenes of 2,048 x 1,024 px, fine labels as ids.

    leftImg8bit/<split>/<city>/<city>_<seq>_<frame>_leftImg8bit.png
    gtFine/<split>/<city>/<city>_<seq>_<frame>_gtFine_labelIds.png

Ids become the 19 classes that are measured by their values in the class table: nothing is converted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.prepare.folders import files_by_stem, root_with, unmatched
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.manifest.rows import ManifestRow, Split

LAYOUT = "leftImg8bit/ and gtFine/ of Cityscapes"
# Name -> id in labelIds.png and colour, in the order of train ids.
CLASSES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
UNLABELLED = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30, 255)  # 255 is id -1, a license plate
SPLITS_WITH_LABELS: tuple[Split, ...] = ("train", "val")


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The images; see ``FindRows``."""
    root = root_with(downloaded, "leftImg8bit", "gtFine", what=LAYOUT)
    rows = []
    orphans: tuple[str, ...] = ()
    for split in SPLITS_WITH_LABELS:
        images = files_by_stem(root / "leftImg8bit" / split, (".png",), ending="_leftImg8bit")
        masks = files_by_stem(root / "gtFine" / split, (".png",), ending="_gtFine_labelIds")
        orphans += unmatched(masks, images)
        rows += [
            ManifestRow(
                slide=path,
                slide_id=name,
                patient=name.partition("_")[0],
                split=split if name in masks else None,
                mask=masks.get(name),
            )
            for name, path in images.items()
        ]
    unlabelled = files_by_stem(root / "leftImg8bit" / "test", (".png",), ending="_leftImg8bit")
    rows += [
        ManifestRow(slide=path, slide_id=name, patient=name.partition("_")[0])
        for name, path in unlabelled.items()
    ]
    remarks = (
        "The labels of test are not public (gtFine/test holds only the car and the border): its images are in no "
        "split, and measures can be made on val alone.",
        *orphans,
    )
    return Found(rows=tuple(rows), classes=class_data(), remarks=remarks)


def class_data() -> dict[str, Any]:
    """The 19 classes by their ids."""
    return {
        "classes": [
            {"name": name, "color": list(colour), "value": number}
            for name, (number, colour) in CLASSES.items()
        ],
        "background": None,
        "unlabelled": list(UNLABELLED),
    }


CITYSCAPES = PublicSet(
    name="cityscapes",
    title="Cityscapes",
    licence="Cityscapes terms: non-commercial research and teaching, no redistribution",
    patients="A city stands for one: cities are in one split.",
    find=find,
)
