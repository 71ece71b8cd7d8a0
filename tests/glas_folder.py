"""A folder as ``pipelines.glas`` takes it, of small drawn images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 64, 40
# Glands are drawn in a colour of their grade, so that a label can be checked against the pixel under it.
GLAND_COLOUR = {"benign": (200, 60, 60), "malignant": (60, 60, 200)}


def glas_folder(folder: Path) -> Path:
    """Nine patients with 1 to 3 images of one or both grades."""
    rng = np.random.default_rng(0)
    rows = ["image,patient,grade,subtype"]
    for patient in range(1, 10):
        for number in range(1 + patient % 3):
            grade = "benign" if (patient + (number == 2)) % 2 else "malignant"
            name = f"p{patient}_{number}"
            instances = np.zeros((HEIGHT, WIDTH), np.uint8)
            x, y = rng.integers(4, 24), rng.integers(4, 14)
            instances[y : y + 16, x : x + 16] = 1
            instances[y : y + 16, x + 20 : x + 32] = 7
            picture = np.full((HEIGHT, WIDTH, 3), (230, 170, 200), np.uint8)
            picture[instances > 0] = GLAND_COLOUR[grade]
            Image.fromarray(picture).save(folder / f"{name}.png")
            Image.fromarray(instances).save(folder / f"{name}_anno.png")
            rows.append(f"{name},{patient},{grade},any")
    (folder / "grade.csv").write_text("\n".join(rows) + "\n")
    return folder
