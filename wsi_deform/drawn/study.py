"""A drawn study on disk: pyramidal slides, label masks, class table and manifest."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.drawn.gland import CLASS_NAMES
from wsi_deform.drawn.slide import draw_slide
from wsi_deform.errors import ShapeError
from wsi_deform.files import write_aside
from wsi_deform.geometry import Size
from wsi_deform.manifest.rows import SPLITS, Manifest, ManifestRow, write_manifest

TILE_PX = 256
COARSEST_PX = 16  # the pyramid ends when the short side would fall below this


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """Where the parts of a study lie."""

    manifest: Path
    classes: Path


def draw_study(
    folder: Path | str,
    *,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    size: Size = Size(2048, 512),
    mpp: float = 0.5,
    slides_per_patient: int = 4,
    workers: int = 2,
    on_slide: Callable[[str], None] | None = None,
) -> Study:
    """Draw the slides of a study and write them as real files.

    Args:
        folder: Gets ``slides/<id>.tif``, ``labels/<id>.tif``, ``classes.yaml`` and ``manifest.csv``.
        train: Number of slides to train on; ``val`` and ``test`` likewise.
        val: Number of slides to choose the checkpoint by.
        test: Number of slides to measure on.
        seed: Decides every slide. The same seed writes the same bytes, however many workers.
        size: Size of each slide, px.
        mpp: Level-0 um per pixel that the files say.
        slides_per_patient: Slides that share a patient and so a stain; no patient is in two splits.
        workers: Threads that draw.
        on_slide: Called with the id of each slide that is written, in this thread.

    Returns:
        The paths of the manifest and the class table.

    Raises:
        ShapeError: There are no slides at all, or fewer than one per patient or worker.
    """
    if min(train, val, test) < 0 or train + val + test < 1 or slides_per_patient < 1 or workers < 1:
        raise ShapeError(
            f"train = {train}, val = {val}, test = {test}, slides_per_patient = {slides_per_patient}, "
            f"workers = {workers}: "
            "needed at least one slide, one slide per patient and one worker."
        )
    folder = Path(folder)
    rows: list[ManifestRow] = []
    patient = 0
    for split, count in zip(SPLITS, (train, val, test), strict=True):
        for number in range(count):
            patient += number % slides_per_patient == 0
            slide_id = f"P{patient:03d}-{'ABCDEFGHIJKLMNOPQRSTUVWXYZ'[number % slides_per_patient % 26]}"
            if slides_per_patient > 26:
                slide_id = f"P{patient:03d}-{number % slides_per_patient + 1:03d}"
            slide, labels = folder / "slides" / f"{slide_id}.tif", folder / "labels" / f"{slide_id}.tif"
            patient_id = f"P{patient:03d}"
            rows.append(
                ManifestRow(slide=slide, slide_id=slide_id, patient=patient_id, split=split, mask=labels)
            )

    def draw(number: int) -> str:
        row = rows[number]
        # Seeds of slides and of stains are numbers of one study: another study's seed shares none.
        own = int(np.random.SeedSequence([seed, number, 0]).generate_state(1)[0])
        stain = int(np.random.SeedSequence([seed, int(str(row.patient)[1:]), 1]).generate_state(1)[0])
        drawing = draw_slide(own, size, patient=stain)
        write_slide(row.slide, drawing.image, mpp=mpp)
        write_labels(str(row.mask), drawing.labels, mpp=mpp)
        return row.slide_id

    with ThreadPoolExecutor(workers) as pool:
        for slide_id in pool.map(draw, range(len(rows))):
            if on_slide is not None:
                on_slide(slide_id)
    study = Study(manifest=folder / "manifest.csv", classes=folder / "classes.yaml")
    write_class_table(ClassTable.from_names(CLASS_NAMES), study.classes)
    write_manifest(Manifest(rows=tuple(rows), folder=folder), study.manifest)
    return study


def write_slide(path: Path | str, image: NDArray[np.uint8], *, mpp: float, quality: int = 90) -> None:
    """Write a picture as a pyramidal tiled JPEG TIFF, the way scanners do.

    Args:
        path: The file; whole or absent.
        image: (H, W, 3) uint8 RGB, level 0.
        mpp: Level-0 um per pixel.
        quality: JPEG quality, 1 to 100.

    Convention:
        Level k is the mean of 2 x 2 pixels of level k - 1 (an odd last row or column is repeated). Levels are
        chained pages marked as reduced images: OpenSlide does not see levels that are SubIFDs.
    """
    with write_aside(path) as aside, tifffile.TiffWriter(aside) as tiff:
        level = 0
        while True:
            tiff.write(
                image,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": quality},
                subfiletype=1 if level else 0,
                resolution=(1e4 / (mpp * 2**level),) * 2,
                resolutionunit="CENTIMETER",
                metadata=None,
                software=False,
            )
            if min(image.shape[:2]) < 2 * COARSEST_PX:
                break
            image = _halved(image)
            level += 1


def write_labels(path: Path | str, labels: NDArray[np.uint8], *, mpp: float) -> None:
    """Write a label map as a single-channel tiled deflate TIFF of one level.

    Args:
        path: The file; whole or absent.
        labels: (H, W) uint8 class indices, 255 is unlabelled.
        mpp: Level-0 um per pixel.
    """
    with write_aside(path) as aside:
        tifffile.imwrite(
            aside,
            labels,
            tile=(TILE_PX, TILE_PX),
            photometric="minisblack",
            compression="deflate",
            resolution=(1e4 / mpp,) * 2,
            resolutionunit="CENTIMETER",
            metadata=None,
            software=False,
        )


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of every 2 x 2 pixels, rounded: (ceil(H / 2), ceil(W / 2), 3) uint8."""
    height, width = image.shape[:2]
    even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge").astype(np.uint16)
    total = even[0::2, 0::2] + even[1::2, 0::2] + even[0::2, 1::2] + even[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)
