"""A folder of GlaS images: ``<name>.png``, ``<name>_anno.png`` and ``grade.csv``."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from wsi_deform.errors import ManifestError, SlideError

GRADES = ("benign", "malignant")
DATA_LICENCE = "research only, no commercial use (GlaS challenge)"
"""In manifests."""
NEEDED_COLUMNS = ("image", "patient", "grade")


@dataclass(frozen=True, slots=True, kw_only=True)
class GlasImage:
    """One image of the folder.

    Attributes:
        name: As in grade.csv.
        patient: Whose tissue it shows.
        grade: "benign" or "malignant", of all glands in the image.
        picture: The RGB image.
        instances: Gland instances, 0 = background.
    """

    name: str
    patient: str
    grade: str
    picture: Path
    instances: Path


def read_glas(folder: Path) -> list[GlasImage]:
    """List the images of a GlaS folder.

    Args:
        folder: Holds ``grade.csv`` and the images.

    Returns:
        One per line of ``grade.csv``, in its order.

    Raises:
        ManifestError: The folder, the CSV, a column or a file is missing, or a grade is unknown; all at once.
    """
    table = folder / "grade.csv"
    if not table.is_file():
        found = "no grade.csv in it" if folder.is_dir() else "no such folder"
        raise ManifestError(
            f"GlaS folder {folder}: {found}. Needed <name>.png, <name>_anno.png and grade.csv "
            f"with the columns {', '.join(NEEDED_COLUMNS)}. Check --images."
        )
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        reader.fieldnames = columns = [name.strip() for name in reader.fieldnames or []]
        rows = [{name: (row[name] or "").strip() for name in columns if name} for row in reader]
    if missing := [name for name in NEEDED_COLUMNS if name not in columns]:
        raise ManifestError(
            f"{table}: no column {', '.join(missing)}; found {', '.join(columns) or 'an empty file'}. "
            f"Needed {', '.join(NEEDED_COLUMNS)}."
        )
    images, problems = [], []
    for line, row in enumerate(rows, start=2):
        image = GlasImage(
            name=row["image"],
            patient=row["patient"],
            grade=row["grade"].lower(),
            picture=folder / f"{row['image']}.png",
            instances=folder / f"{row['image']}_anno.png",
        )
        images.append(image)
        if not image.patient:
            problems.append(f"line {line}: no patient. Needed one, or the split cannot be by patient.")
        if image.grade not in GRADES:
            problems.append(f"line {line}: grade {row['grade']!r}. Needed {' or '.join(GRADES)}.")
        problems += [
            f"line {line}: {path.name} is not in the folder. Needed the image and its mask."
            for path in (image.picture, image.instances)
            if not path.is_file()
        ]
    if problems or not images:
        listed = "".join(f"\n  {each}" for each in problems) or " no line."
        raise ManifestError(f"{table}: {len(problems) or 'no images:'} problems.{listed}")
    return images


def read_image(
    image: GlasImage, rng: np.random.Generator | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read an image and its classes.

    Args:
        image: Which.
        rng: Turns and flips both alike; None leaves them as they are.

    Returns:
        (H, W, 3) uint8 RGB and (H, W) uint8: 0 background, 1 benign gland, 2 malignant gland.

    Raises:
        SlideError: A file cannot be read, or the mask has another size.
    """
    try:
        with Image.open(image.picture) as opened:
            picture = np.asarray(opened.convert("RGB"))
        with Image.open(image.instances) as opened:
            instances = np.asarray(opened)
    except (OSError, UnidentifiedImageError) as error:
        raise SlideError(
            f"GlaS image {image.picture}: it or its mask cannot be read: {error}. Needed PNGs."
        ) from error
    if instances.shape != picture.shape[:2]:
        raise SlideError(
            f"GlaS mask {image.instances}: shape {instances.shape}. "
            f"Needed {picture.shape[:2]}, one channel, as its image."
        )
    classes = np.where(instances > 0, np.uint8(1 + GRADES.index(image.grade)), np.uint8(0))
    if rng is None:
        return picture, classes
    turns, flip = int(rng.integers(4)), bool(rng.integers(2))
    turned = [np.rot90(each[:, ::-1] if flip else each, turns) for each in (picture, classes)]
    return turned[0], turned[1]
