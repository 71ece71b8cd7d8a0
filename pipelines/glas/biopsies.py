"""Turn a folder of GlaS images into biopsy-like slides with labels and a patient-disjoint manifest.

    python -m pipelines.glas.biopsies --images FOLDER --out DIR [--seed 0]

FOLDER holds ``<name>.png``, ``<name>_anno.png`` (gland instances, 0 = background) and ``grade.csv`` with
image, patient, grade. DIR gets ``slides/ labels/ classes.yaml manifest.csv biopsies.json``. Every slide
shows images of one patient on white glass, as the pieces of one biopsy lie on one slide. Labels of
``manifest_on_tissue.csv`` say of the glass between the pieces that it is unlabelled: masks that are measured
against them are measured on tissue alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.glas.folder import DATA_LICENCE, GRADES, GlasImage, read_glas, read_image
from pipelines.glas.scatter import scattered
from pipelines.glas.splits import split_patients
from wsi_deform.annotation.classes import UNLABELLED, ClassTable, write_class_table
from wsi_deform.drawn.study import write_labels, write_slide
from wsi_deform.errors import WsiDeformError
from wsi_deform.files import write_json
from wsi_deform.geometry import Size
from wsi_deform.manifest.rows import SPLITS, Manifest, ManifestRow, Split, write_manifest
from wsi_deform.provenance import provenance

CLASSES = ("background", "benign gland", "malignant gland")
MPP = 0.62  # 20x of the Zeiss MIRAX MIDI that the GlaS slides were scanned with
CANVAS = Size(9400, 2000)
IMAGES_PER_SLIDE = (8, 12)
ON_TISSUE = "manifest_on_tissue.csv"
LICENCE = "GlaS images are for research use only, no commercial use; so is everything made from them."


@dataclass(frozen=True, slots=True, kw_only=True)
class Biopsy:
    """What one slide will show.

    Attributes:
        slide_id: Patient and number.
        patient: Whose slide it is.
        split: Where the patient belongs.
        images: All of that patient.
    """

    slide_id: str
    patient: str
    split: Split
    images: tuple[GlasImage, ...]


def plan_biopsies(
    images: Sequence[GlasImage],
    counts: dict[Split, int],
    *,
    seed: int,
    per_slide: tuple[int, int] = IMAGES_PER_SLIDE,
) -> list[Biopsy]:
    """Decide the split of every patient and the images of every slide.

    Args:
        images: All images.
        counts: Slides per split.
        seed: Decides everything.
        per_slide: Fewest and most images on a slide; a patient with fewer gives sparse slides.

    Returns:
        Slides by split, then patient. Patients have slides in proportion to their images, at least one each;
        the images of a patient are dealt in turn, so that all are shown about equally often.
    """
    of_patient: dict[str, list[GlasImage]] = {}
    for image in images:
        of_patient.setdefault(image.patient, []).append(image)
    graded = {
        name: [sum(each.grade == grade for each in own) for grade in GRADES]
        for name, own in of_patient.items()
    }
    split_of = split_patients(graded, seed=seed)
    biopsies = []
    for split in SPLITS:
        patients = sorted(name for name, its in split_of.items() if its == split)
        shares = _shares([len(of_patient[name]) for name in patients], counts[split])
        for patient, slides in zip(patients, shares, strict=True):
            rng = np.random.default_rng([seed, 1, *patient.encode()])
            deck: list[GlasImage] = []
            for number in range(1, slides + 1):
                wanted = int(rng.integers(per_slide[0], per_slide[1] + 1))
                drawn = _deal(of_patient[patient], deck, wanted, rng)
                slide_id = f"glas-{patient}-{number:02d}"
                biopsies.append(Biopsy(slide_id=slide_id, patient=patient, split=split, images=drawn))
    return biopsies


def draw_biopsy(
    biopsy: Biopsy, canvas: Size, *, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Lay the images of a slide on glass.

    Args:
        biopsy: What to show. Images of training slides are turned and flipped at random,
            others stay as they are.
        canvas: Size of the slide, px.
        seed: With the slide's id decides positions and turns.

    Returns:
        (H, W, 3) uint8 RGB; (H, W) uint8 labels: 0 background, 1 benign gland, 2 malignant gland; and the same
        labels with the glass between the images unlabelled (255).

    Raises:
        SlideError: An image cannot be read, or its mask has another size.
        ShapeError: The images do not fit on the canvas.
    """
    rng = np.random.default_rng([seed, 2, *biopsy.slide_id.encode()])
    slide = np.empty((*canvas.shape, 3), np.uint8)
    slide[:] = rng.integers(247, 254) + rng.integers(-1, 2, 3)
    labels, on_tissue = np.zeros(canvas.shape, np.uint8), np.full(canvas.shape, UNLABELLED, np.uint8)
    pieces = [read_image(image, rng if biopsy.split == "train" else None) for image in biopsy.images]
    sizes = [Size(picture.shape[1], picture.shape[0]) for picture, _ in pieces]
    places = scattered(sizes, canvas, rng, biopsy.slide_id)
    for (picture, classes), place in zip(pieces, places, strict=True):
        window = np.s_[place.y : place.bottom, place.x : place.right]
        slide[window], labels[window], on_tissue[window] = picture, classes, classes
    return slide, labels, on_tissue


def make_biopsies(
    images: Path,
    out: Path,
    *,
    counts: dict[Split, int],
    seed: int = 0,
    canvas: Size = CANVAS,
    per_slide: tuple[int, int] = IMAGES_PER_SLIDE,
    workers: int = 2,
    on_slide: Callable[[str], None] | None = None,
) -> list[Biopsy]:
    """Make the slides, labels, class table and manifest.

    Args:
        images: The GlaS folder.
        out: Where to; the manifest is written last.
        counts: Slides per split.
        seed: The same seed writes the same bytes.
        canvas: Size of each slide, px.
        per_slide: Fewest and most images on a slide.
        workers: Threads.
        on_slide: Called with the id of each slide that is written.

    Returns:
        What was made.

    Raises:
        WsiDeformError: The folder cannot be used.
    """
    biopsies = plan_biopsies(read_glas(images), counts, seed=seed, per_slide=per_slide)
    rows = [
        ManifestRow(
            slide=out / "slides" / f"{each.slide_id}.tif",
            mask=out / "labels" / f"{each.slide_id}.tif",
            slide_id=each.slide_id,
            patient=each.patient,
            split=each.split,
            data_licence=DATA_LICENCE,
            extra={"images": " ".join(image.name for image in each.images)},
        )
        for each in biopsies
    ]
    tissue_rows = [
        row.model_copy(update={"mask": out / "labels_on_tissue" / f"{row.slide_id}.tif"}) for row in rows
    ]

    def draw(number: int) -> str:
        slide, labels, on_tissue = draw_biopsy(biopsies[number], canvas, seed=seed)
        write_slide(rows[number].slide, slide, mpp=MPP)
        write_labels(str(rows[number].mask), labels, mpp=MPP)
        write_labels(str(tissue_rows[number].mask), on_tissue, mpp=MPP)
        return biopsies[number].slide_id

    with ThreadPoolExecutor(workers) as pool:
        for slide_id in pool.map(draw, range(len(rows))):
            if on_slide is not None:
                on_slide(slide_id)
    write_class_table(ClassTable.from_names(CLASSES), out / "classes.yaml")
    about = {"licence": LICENCE, "splits": count_splits(biopsies), "provenance": provenance(seed=seed)}
    write_json(out / "biopsies.json", about)
    for its, name in ((tissue_rows, ON_TISSUE), (rows, "manifest.csv")):
        write_manifest(Manifest(rows=tuple(its), folder=out, extra_columns=("images",)), out / name)
    return biopsies


def count_splits(biopsies: Sequence[Biopsy]) -> dict[str, dict[str, int]]:
    """Patients, distinct images of each grade, and slides of every split."""
    counted: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        own = [each for each in biopsies if each.split == split]
        shown = {image for each in own for image in each.images}
        counted[split] = {"patients": len({each.patient for each in own})}
        counted[split] |= {
            f"{grade} images": sum(image.grade == grade for image in shown) for grade in GRADES
        }
        counted[split]["slides"] = len(own)
    return counted


def _deal(
    images: Sequence[GlasImage], deck: list[GlasImage], wanted: int, rng: np.random.Generator
) -> tuple[GlasImage, ...]:
    """Take images from a shuffled deck, none twice; changes the deck, and fills it when it runs out."""
    hand: list[GlasImage] = []
    while len(hand) < min(wanted, len(images)):
        fresh = [each for each in deck if each not in hand]
        if not fresh:
            deck += [images[i] for i in rng.permutation(len(images))]
            continue
        deck.remove(fresh[0])
        hand.append(fresh[0])
    return tuple(hand)


def _shares(weights: Sequence[int], total: int) -> list[int]:
    """Whole numbers in proportion to weights that sum to ``total``, at least 1 each where there is enough."""
    shares = [0] * len(weights)
    for _ in range(total):
        # Who has none comes first, largest weight first; then whom one more takes least above its share.
        def order(i: int) -> float:
            return (shares[i] + 1) / weights[i] if shares[i] else -weights[i]

        shares[min(range(len(weights)), key=order)] += 1
    return shares


def main() -> int:
    """Parse, make, print counts."""
    parser = argparse.ArgumentParser(description="Make biopsy-like slides of a GlaS folder.", epilog=LICENCE)
    parser.add_argument("--images", type=Path, required=True, help="folder with the PNGs and grade.csv")
    parser.add_argument(
        "--out", type=Path, required=True, help="gets slides/ labels/ classes.yaml manifest.csv"
    )
    parser.add_argument("--seed", type=int, default=0, help="decides split, positions and turns")
    for split, count in zip(SPLITS, (64, 12, 24), strict=True):
        parser.add_argument(f"--{split}", type=int, default=count, help=f"number of {split} slides")
    parser.add_argument("--workers", type=int, default=2, help="threads")
    given = parser.parse_args()
    counts: dict[Split, int] = {split: getattr(given, split) for split in SPLITS}
    try:
        biopsies = make_biopsies(
            given.images,
            given.out,
            counts=counts,
            seed=given.seed,
            workers=given.workers,
            on_slide=lambda slide_id: print(slide_id, flush=True),
        )
    except WsiDeformError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for name, counted in count_splits(biopsies).items():
        patients = sorted({each.patient for each in biopsies if each.split == name})
        numbers = ", ".join(f"{count} {what}" for what, count in counted.items())
        print(f"{name}: {numbers} (patients {', '.join(patients)})")
    print(f"wrote {given.out / 'manifest.csv'}. {LICENCE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
