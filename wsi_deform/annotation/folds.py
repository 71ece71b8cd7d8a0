"""Manifests for cross-validation: the same slides, each with another part of the patients to validate or test on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wsi_deform.annotation.splits import fold_patients
from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import Manifest, Split


def fold_manifests(
    manifest: Manifest,
    folds: int,
    *,
    seed: int,
    pixels: Mapping[str, Mapping[int, int]] | None = None,
    rotate_test: bool = False,
) -> list[Manifest]:
    """Make a manifest for each fold.

    Args:
        manifest: Slides of split train and val are dealt to folds; those of test are the test split of every fold, and
            slides of no split stay out.
        folds: How many; 2 or more, 3 or more where test rotates.
        seed: Decides which patients go where.
        pixels: Slide id -> class -> labelled pixels, by which folds are stratified; None deals by slides alone.
        rotate_test: Whether fold i is the test split of manifest i, and the fold after it its val, so that every
            patient is tested on once by a model that neither learned from it nor was chosen by it.

    Returns:
        ``folds`` manifests with all rows in their order. In number i, val is fold i and train all others, so that every
        patient of train and val is validated on once; test is the same in all.

    Raises:
        ManifestError: There are too few folds, too few patients, or test rotates and there is a test split.
    """
    if rotate_test and folds < 3:
        raise ManifestError(f"{folds} folds: needed 3 or more where test rotates, for train, val and test.")
    if rotate_test and manifest.of_split("test"):
        raise ManifestError(
            "folds: test rotates, and there is a test split. Needed slides of train and val alone. Leave out the "
            "share of test."
        )
    dealt = [row for row in manifest.rows if row.split in ("train", "val")]
    fold_of = fold_patients(dealt, folds, seed, pixels)
    made = []
    for number in range(folds):
        special: dict[int, Split] = {number: "val"}
        if rotate_test:
            special = {number: "test", (number + 1) % folds: "val"}
        rows = tuple(
            row.model_copy(update={"split": special.get(fold_of[str(row.patient)], "train")})
            if row.split in ("train", "val")
            else row
            for row in manifest.rows
        )
        made.append(manifest.model_copy(update={"rows": rows}))
    return made


def fold_path(path: Path, number: int) -> Path:
    """Where the manifest of a fold lies: ``manifest_fold0.csv`` beside ``manifest.csv``."""
    return path.with_name(f"{path.stem}_fold{number}{path.suffix}")
