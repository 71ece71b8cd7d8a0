"""Manifests of four data sets that stand in for those of the paper.

``python -m pipelines.photos.manifests --data DIR --out DIR``

DIR holds a folder per data set, ``camvid``, ``cwfid``, ``hei_med`` and ``glas``; those that are there get
``OUT/<name>/manifest.csv`` and ``classes.yaml``. Images are read where they are, and belong to who made them: see their
licences. Splits are by patient, or what stands for one (a drive, a photograph), and never have one twice.

CamVid, CWFID and HEI-MED are photographs without um per pixel; GlaS has 0.62.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from pipelines.glas.folder import GRADES, read_glas, read_image
from pipelines.glas.splits import split_patients
from wsi_deform.annotation.classes import ClassTable, read_class_table, write_class_table
from wsi_deform.annotation.mask_file import raw_value_counts
from wsi_deform.errors import ManifestError, WsiDeformError
from wsi_deform.files import write_aside
from wsi_deform.manifest.read import read_manifest
from wsi_deform.manifest.rows import SPLITS, Manifest, ManifestRow, write_manifest

GLAS_MPP = 0.62
GLAS_CLASSES = ("background", "benign gland", "malignant gland")


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """An image on its way into a manifest.

    Attributes:
        slide_id: Its name.
        picture: The image.
        mask: Its labels.
        patient: What must not be in two splits.
        kind: Of the kinds of a data set, which every split gets its share of.
    """

    slide_id: str
    picture: Path
    mask: Path
    patient: str
    kind: int = 0


def photos_of(folder: Path, patient_of: Callable[[ManifestRow], str], *, rare: bool = False) -> list[Photo]:
    """The images that a folder's own manifest lists.

    Args:
        folder: Holds ``manifest.csv``, whose split and mpp are not taken over, and what that names.
        patient_of: What an image must not share with another split.
        rare: Whether images with and without a labelled class besides the first are two kinds.

    Raises:
        ManifestError: The manifest is missing or wrong, or a row has no mask.
        AnnotationError: A mask cannot be read.
    """
    photos = []
    for row in read_manifest(folder / "manifest.csv").rows:
        if row.mask is None:
            raise ManifestError(
                f"{folder / 'manifest.csv'}: {row.slide_id} has no mask. Needed one. Fill it in."
            )
        kind = int(bool(raw_value_counts(row.mask).keys() - {0, 255})) if rare else 0
        photos.append(
            Photo(
                slide_id=row.slide_id,
                picture=row.slide.absolute(),
                mask=row.mask.absolute(),
                patient=patient_of(row),
                kind=kind,
            )
        )
    return photos


def camvid(folder: Path, out: Path) -> tuple[list[Photo], ClassTable]:
    """Street frames; neighbouring frames are alike, so that a drive is in one split, unlike the official ones."""
    return photos_of(folder, lambda row: row.slide_id.partition("_")[0]), read_class_table(
        folder / "classes.yaml"
    )


def cwfid(folder: Path, out: Path) -> tuple[list[Photo], ClassTable]:
    """Field photographs, each of its own place."""
    return photos_of(folder, lambda row: row.patient or row.slide_id), read_class_table(
        folder / "classes.yaml"
    )


def hei_med(folder: Path, out: Path) -> tuple[list[Photo], ClassTable]:
    """Fundus photographs, half of them without a lesion; two of one person are in one split."""
    photos = photos_of(folder, lambda row: row.patient or row.slide_id, rare=True)
    return photos, read_class_table(folder / "classes.yaml")


def glas(folder: Path, out: Path) -> tuple[list[Photo], ClassTable]:
    """H&E images; their instances become classes in ``out/labels``, by the grade of the image."""
    photos = []
    for image in read_glas(folder):
        mask = out / "labels" / f"{image.name}.png"
        _, labels = read_image(image)
        mask.parent.mkdir(parents=True, exist_ok=True)
        with write_aside(mask) as aside:
            Image.fromarray(labels).save(aside, format="PNG")
        photos.append(
            Photo(
                slide_id=image.name,
                picture=image.picture.absolute(),
                mask=mask.absolute(),
                patient=image.patient,
                kind=GRADES.index(image.grade),
            )
        )
    return photos, ClassTable.from_names(GLAS_CLASSES)


DATA_SETS = {"camvid": camvid, "cwfid": cwfid, "hei_med": hei_med, "glas": glas}


def manifest_of(photos: Sequence[Photo], *, folder: Path, mpp: float | None, seed: int) -> Manifest:
    """Deal images to splits, by patient.

    Args:
        photos: The images.
        folder: Where the manifest will be.
        mpp: Of all images, or None.
        seed: Decides the splits.

    Returns:
        About 55 % of the images to train on, 15 % to validate on and 30 % to test on, of every kind.

    Raises:
        ManifestError: There are too few patients.
    """
    kinds = 1 + max(photo.kind for photo in photos)
    counts = {photo.patient: [0] * kinds for photo in photos}
    for photo in photos:
        counts[photo.patient][photo.kind] += 1
    split_of = split_patients(counts, seed=seed)
    rows = [
        ManifestRow(
            slide=photo.picture,
            slide_id=photo.slide_id,
            patient=photo.patient,
            split=split_of[photo.patient],
            mask=photo.mask,
            mpp=mpp,
        )
        for photo in photos
    ]
    return Manifest(rows=tuple(rows), folder=folder)


def write_photos(name: str, data: Path, out: Path, *, seed: int) -> Manifest:
    """Write manifest and class table of one data set.

    Args:
        name: One of ``DATA_SETS``.
        data: Its folder.
        out: The folder that gets ``manifest.csv`` and ``classes.yaml``; made if missing.
        seed: Decides the splits.

    Returns:
        The manifest.

    Raises:
        WsiDeformError: Something of the data set is missing or cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    photos, classes = DATA_SETS[name](data, out)
    manifest = manifest_of(photos, folder=out, mpp=GLAS_MPP if name == "glas" else None, seed=seed)
    write_class_table(classes, out / "classes.yaml")
    write_manifest(manifest, out / "manifest.csv")
    return manifest


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, write, print counts."""
    parser = argparse.ArgumentParser(description="Write manifests of CamVid, CWFID, HEI-MED and GlaS.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the folders of the data sets")
    parser.add_argument("--out", type=Path, required=True, help="gets a folder per data set")
    parser.add_argument("--seed", type=int, default=0, help="decides the splits")
    parser.add_argument("--only", nargs="+", choices=sorted(DATA_SETS), help="these data sets alone")
    given = parser.parse_args(arguments)
    wanted = given.only or [name for name in DATA_SETS if (given.data / name).is_dir()]
    if not wanted:
        print(f"error: {given.data}: holds none of {', '.join(DATA_SETS)}. Check --data.", file=sys.stderr)
        return 1
    for name in wanted:
        try:
            manifest = write_photos(name, given.data / name, given.out / name, seed=given.seed)
        except WsiDeformError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        counts = ", ".join(
            f"{split} {len(rows)} images of {len({row.patient for row in rows})}"
            for split in SPLITS
            if (rows := manifest.of_split(split))
        )
        print(f"{given.out / name / 'manifest.csv'}: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
