"""A split of patients that gives every part its share of both grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wsi_deform.errors import ManifestError
from wsi_deform.manifest.rows import SPLITS, Split

SHARES = (0.55, 0.15, 0.30)  # train, val, test
DRAWS = 20_000


def split_patients(graded: Mapping[str, Sequence[int]], *, seed: int) -> dict[str, Split]:
    """Give every patient to one split.

    Args:
        graded: Patient -> number of images of each grade.
        seed: Decides which of the many good splits it is.

    Returns:
        Patient -> split. Every split has every grade.

    Raises:
        ManifestError: There are too few patients for that.

    Convention:
        Of 20,000 random splits the one whose shares of images and of patients, per grade, are nearest to
        55, 15 and 30 %, each with two patients or more if that can be had.
        A greedy split cannot balance a dozen patients with 1 to 23 images each.
    """
    patients = sorted(graded)
    images = np.array([graded[name] for name in patients], float)  # (patients, grades)
    counted = np.concatenate([images, images > 0], axis=1)  # images, then patients, of each grade
    drawn = np.random.default_rng([seed, 0]).choice(len(SPLITS), (DRAWS, len(patients)), p=SHARES)
    parts = drawn[:, None, :] == np.arange(len(SPLITS))[:, None]  # (draws, splits, patients)
    shares = parts @ counted / np.maximum(counted.sum(axis=0), 1)  # (draws, splits, 2 * grades)
    miss = np.abs(shares - np.array(SHARES)[:, None]).sum(axis=(1, 2))
    # A split of one patient measures that patient: avoid it where another split can be had.
    miss += (parts.sum(axis=2) < 2).sum(axis=1)
    miss[(shares <= 0).any(axis=(1, 2))] = np.inf
    best = int(miss.argmin())
    if not np.isfinite(miss[best]):
        having = [int(count) for count in (images > 0).sum(axis=0)]
        raise ManifestError(
            f"{len(patients)} patients, {having} of them with images of each grade: no split has both "
            "grades in train, val and test. Needed at least 3 patients per grade. Bring more patients."
        )
    return {name: SPLITS[part] for name, part in zip(patients, drawn[best], strict=True)}
