"""HuBMAP, "Hacking the Kidney": glomeruli as run lengths.

    train.csv                                 id, encoding
    HuBMAP-20-dataset_information.csv         image_file, width_pixels, height_pixels, patient_number, ...
    train/<id>.tiff, <id>.json, <id>-anatomical-structure.json
    test/<id>.tiff, ...                       (without labels)

Run lengths are no file that a mask reader opens, so they are drawn once, a band of rows at a time.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.prepare.converted import TILE_PX, made_of, write_labels_once
from pipelines.prepare.deal import dealt
from pipelines.prepare.folders import files_by_stem, named_few, read_table, root_with
from pipelines.prepare.public_set import Found, PublicSet
from pipelines.prepare.rle import mask_bands, parse_runs
from wsi_deform.errors import ManifestError
from wsi_deform.geometry import Size
from wsi_deform.manifest.rows import ManifestRow

LAYOUT = "train.csv, train/ and HuBMAP-20-dataset_information.csv of HuBMAP's kidney competition"
INFORMATION = "HuBMAP-20-dataset_information.csv"
COLUMNS = ("image_file", "width_pixels", "height_pixels", "patient_number")
CLASSES = ("background", "glomerulus")


def find(downloaded: Path, out: Path, seed: int) -> Found:
    """The slides; see ``FindRows``."""
    root = root_with(downloaded, "train.csv", "train", INFORMATION, what=LAYOUT)
    about = {Path(line["image_file"]).stem: line for line in read_table(root / INFORMATION, COLUMNS)}
    slides = files_by_stem(root / "train", (".tiff", ".tif"))
    encodings = read_encodings(root / "train.csv")
    rows, converted = [], 0
    for slide_id, path in slides.items():
        if slide_id not in about:
            raise ManifestError(
                f"{root / INFORMATION}: no line of {slide_id}. Needed its size and patient. Download it again."
            )
        line = about[slide_id]
        mask = None
        if slide_id in encodings:
            mask = out / "labels" / f"{slide_id}.tif"
            converted += write_mask_of_runs(
                mask, encodings[slide_id], _size(line, root / INFORMATION), slide_id
            )
        rows.append(
            ManifestRow(slide=path, slide_id=slide_id, patient=line["patient_number"] or None, mask=mask)
        )
    remarks = [f"Glomeruli were drawn from run lengths into {out / 'labels'} ({converted} made now)."]
    if absent := sorted(encodings.keys() - slides.keys()):
        remarks.append(f"{len(absent)} slides of train.csv are not there: {named_few(absent)}.")
    return Found(
        rows=dealt(rows, seed),
        classes={"classes": list(CLASSES), "background": CLASSES[0]},
        remarks=tuple(remarks),
    )


def read_encodings(path: Path) -> dict[str, str]:
    """Slide id -> run lengths, of a CSV whose cells are longer than other tables' lines.

    Raises:
        ManifestError: It cannot be read, or has no columns id and encoding.
    """
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = list(reader.fieldnames or ())
            if not {"id", "encoding"} <= set(names):
                raise ManifestError(
                    f"table {path}: columns {', '.join(names) or 'none'}. Needed id and encoding. Download it again."
                )
            return {line["id"]: line["encoding"] or "" for line in reader if line["id"]}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(
            f"table {path}: cannot be read ({error}). Needed a CSV in UTF-8. Download it again."
        ) from error
    finally:
        csv.field_size_limit(before)


def write_mask_of_runs(path: Path, encoding: str, size: Size, slide_id: str) -> bool:
    """Draw the run lengths of a slide, if they are not drawn; whether they were."""

    def bands() -> Iterator[NDArray[np.uint8]]:
        return mask_bands(parse_runs(encoding, size, slide_id), size, TILE_PX)

    return write_labels_once(path, size, made_of("runs 1", encoding, str(size)), bands)


def _size(line: dict[str, str], table: Path) -> Size:
    width, height = line["width_pixels"], line["height_pixels"]
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ManifestError(
            f"{table}: {line['image_file']} has {width!r} x {height!r} px. Needed whole numbers. Download it again."
        )
    return Size(int(width), int(height))


HUBMAP = PublicSet(
    name="hubmap-kidney",
    title="HuBMAP kidney (Hacking the Kidney)",
    licence="rules of the Kaggle competition hubmap-kidney-segmentation",
    patients="As HuBMAP-20-dataset_information.csv says.",
    find=find,
)
