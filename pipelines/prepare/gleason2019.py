"""Gleason 2019: cores of tissue microarrays, each labelled by several of six pathologists.

    Train Imgs/slide001_core003.jpg
    Maps1_T/slide001_core003_classimg_nonconvex.png     (Maps1_T to Maps6_T, a pathologist each)
    Test/Test_imgs/...                                  (without labels)

Maps are voted on pixel by pixel, since a manifest has one mask for a slide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.prepare.converted import bands_of, made_of, read_picture, write_labels_once
from pipelines.prepare.deal import dealt
from pipelines.prepare.folders import files_by_stem, named_few, root_with
from pipelines.prepare.public_set import Found, PublicSet
from wsi_deform.annotation.classes import UNLABELLED
from wsi_deform.annotation.mask_file import MaskFile
from wsi_deform.errors import AnnotationError, ManifestError
from wsi_deform.geometry import Size
from wsi_deform.manifest.rows import ManifestRow

LAYOUT = "Train Imgs/ and Maps1_T/ to Maps6_T/ of Gleason 2019"
IMAGE_FOLDERS = ("Train Imgs", "Train_imgs", "Train_Imgs", "train")
ENDING = "_classimg_nonconvex"
CLASSES = ("benign or background", "Gleason 3", "Gleason 4", "Gleason 5")
# 0, 1 and 6 are no cancer. Other values are nobody's vote: they are in no description of the set.
CLASS_OF_VALUE = {0: 0, 1: 0, 6: 0, 3: 1, 4: 2, 5: 3}


def majority(maps: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """What most pathologists say of each pixel.

    Args:
        maps: (H, W) uint8 each, values as in the set.

    Returns:
        (H, W) uint8 class, ``UNLABELLED`` where no class has more votes than every other.
    """
    votes = np.zeros((len(CLASSES), *maps[0].shape), np.uint8)
    for one in maps:
        for value, index in CLASS_OF_VALUE.items():
            votes[index] += one == value
    most = votes.max(axis=0)
    alone = (votes == most).sum(axis=0) == 1
    return np.where(alone & (most > 0), votes.argmax(axis=0), UNLABELLED).astype(np.uint8)


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The cores; see ``FindRows``."""
    root = root_with(downloaded, "Maps1_T", what=LAYOUT)
    folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise ManifestError(f"{root}: no folder Train Imgs. Needed {LAYOUT}. Unpack the archive of images.")
    images = files_by_stem(folder, (".jpg", ".jpeg", ".png"))
    by_expert = {
        number: files_by_stem(root / f"Maps{number}_T", (".png",), ending=ENDING) for number in range(1, 7)
    }
    rows, converted = [], 0
    for core, image in images.items():
        maps = {number: own[core] for number, own in by_expert.items() if core in own}
        mask = out / "labels" / f"{core}.tif" if maps else None
        if mask is not None:
            converted += _write_vote(mask, maps)
        rows.append(
            ManifestRow(
                slide=image,
                slide_id=core,
                patient=core.partition("_")[0],
                mask=mask,
                extra={"pathologists": " ".join(map(str, maps))},
            )
        )
    orphans = sorted({core for own in by_expert.values() for core in own} - images.keys())
    remarks = [
        f"Masks are the majority of each core's pathologists, in {out / 'labels'} ({converted} made now); pixels with "
        "as many votes for two classes, or values that the set does not explain, are unlabelled."
    ]
    if orphans:
        remarks.append(f"{len(orphans)} cores have maps and no image: {named_few(orphans)}.")
    return Found(
        rows=dealt(rows, seed),
        classes={"classes": list(CLASSES), "background": CLASSES[0]},
        remarks=tuple(remarks),
    )


def _write_vote(path: Path, maps: dict[int, Path]) -> bool:
    """Write the majority of some maps, if it is not there."""
    size = MaskFile(next(iter(maps.values()))).size

    def bands() -> Iterator[NDArray[np.uint8]]:
        pixels = [_read_map(each, size) for each in maps.values()]
        for parts in zip(*map(bands_of, pixels), strict=True):
            yield majority(parts)

    return write_labels_once(path, size, made_of("majority 1", *maps.values()), bands)


def _read_map(path: Path, size: Size) -> NDArray[np.uint8]:
    pixels = read_picture(path)
    if pixels.shape != size.shape or pixels.dtype != np.uint8:
        raise AnnotationError(
            f"map {path}: {pixels.dtype} of shape {pixels.shape}. Needed uint8 of {size.shape}, as the other maps of "
            "this core. Download it again."
        )
    return pixels


GLEASON2019 = PublicSet(
    name="gleason2019",
    title="Gleason 2019",
    licence="no licence stated (MICCAI 2019 challenge; ask the organisers)",
    patients="It is not said whose cores these are: a microarray (slide001, ...) stands for a patient, so that no "
    "array is in two splits.",
    find=find,
)
