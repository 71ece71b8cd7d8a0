"""Zurich tissue microarrays of Arvaniti et al. (2018): spots, masks with a palette, a test set of two pathologists.

ZT76_39_A/ZT76_39_A_1_1.jpg                   (ZT76, ZT80, ZT111, ZT199, ZT204; or all in TMA_images/)
Gleason_masks_train/mask_ZT76_39_A_1_1.png
Gleason_masks_test_pathologist1/mask1_ZT80_38_A_1_1.png      (or in Gleason_masks_test/)
Gleason_masks_test_pathologist2/mask2_ZT80_38_A_1_1.png
"""

from __future__ import annotations

from pathlib import Path

from pipelines.prepare.folders import files_by_stem, root_with, unmatched
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.manifest.rows import ManifestRow, Split

LAYOUT = "Gleason_masks_train/ and the folders of spots (ZT76_39_A/, ...) of Arvaniti et al."
MPP = 0.23  # 40x, as the paper says; the JPEGs say nothing
CLASSES = {
    "classes": {"benign": 0, "Gleason 3": 1, "Gleason 4": 2, "Gleason 5": 3},
    "background": None,
    "unlabelled": [4],
}
# The paper trains on three arrays, validates on one and tests on one.
SPLIT_OF_ARRAY: dict[str, Split] = {
    "ZT111": "train", "ZT199": "train", "ZT204": "train", "ZT76": "val", "ZT80": "test",
}  # fmt: skip


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The spots; see ``FindRows``."""
    root = root_with(downloaded, "Gleason_masks_train", what=LAYOUT)
    spots = {
        stem: path
        for stem, path in files_by_stem(root, (".jpg", ".jpeg", ".png")).items()
        if stem.partition("_")[0] in SPLIT_OF_ARRAY
    }
    pictures = files_by_stem(root, (".png",))
    masks = {stem.partition("_")[2]: path for stem, path in pictures.items() if stem.startswith("mask_ZT")}
    first = {stem.partition("_")[2]: path for stem, path in pictures.items() if stem.startswith("mask1_ZT")}
    second = {stem.partition("_")[2]: path for stem, path in pictures.items() if stem.startswith("mask2_ZT")}
    labels = {**masks, **first}
    rows = []
    for spot, path in spots.items():
        mask = labels.get(spot)
        other = second.get(spot)
        rows.append(
            ManifestRow(
                slide=path,
                slide_id=spot,
                patient=spot,
                split=SPLIT_OF_ARRAY[spot.partition("_")[0]] if mask else None,
                mask=mask,
                mpp=MPP,
                extra={
                    "array": spot.partition("_")[0],
                    "second_pathologist": "" if other is None else str(other),
                },
            )
        )
    remarks = (
        "ZT80 was labelled by two pathologists: masks are the first one's, who labelled the others too; the second "
        "one's are in column second_pathologist.",
        *unmatched(labels, spots),
    )
    return Found(rows=tuple(rows), classes=CLASSES, remarks=remarks)


ARVANITI = PublicSet(
    name="arvaniti",
    title="Zurich tissue microarrays (Arvaniti et al., 2018)",
    licence="CC0 1.0",
    patients="Each spot is taken for a patient of its own, as the paper counts them; arrays are never in two splits.",
    find=find,
)
