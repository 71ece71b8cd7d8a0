"""Small pictures with masks, and a manifest of them: what the tests of labels start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SHAPE = (40, 60)


def write_manifest_of_pictures(
    folder: Path, masks: Sequence[np.ndarray], *, splits: Sequence[str], classes: str = "[background, gland]"
) -> Path:
    """One picture, patient and row for each mask, (h, w) or (h, w, 3) uint8; the path of the manifest."""
    folder.mkdir(exist_ok=True)
    lines = ["slide,slide_id,patient,split,mask"]
    rng = np.random.default_rng(0)
    for number, (mask, split) in enumerate(zip(masks, splits, strict=True)):
        name = f"s{number:03d}"
        picture = rng.integers(90, 200, (*SHAPE, 3)).astype(np.uint8)
        Image.fromarray(picture).save(folder / f"{name}.png")
        # Files of the same labels are not the same files: no masks that lie in two splits.
        about = PngInfo()
        about.add_text("slide", name)
        Image.fromarray(mask).save(folder / f"{name}_mask.png", pnginfo=about)
        lines.append(f"{name}.png,{name},P{number:03d},{split},{name}_mask.png")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    if classes:
        (folder / "classes.yaml").write_text(classes)
    return folder / "manifest.csv"


def two_classes(values: tuple[int, int] = (0, 1), shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """A mask whose left quarter has the second value."""
    mask = np.full(shape, values[0], np.uint8)
    mask[:, : shape[1] // 4] = values[1]
    return mask
