"""Models of the newest validated epochs, beside the best and the last."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

KEPT = re.compile(r"epoch-(\d+)\.safetensors")


def keep_model(folder: Path, epoch: int, *, keep: int, save: Callable[[str], None]) -> None:
    """Store the model of an epoch and remove those of older ones.

    Args:
        folder: The run folder; gets ``epoch-0040.safetensors`` and what stands beside each model.
        epoch: Number of the epoch, from 1.
        keep: So many are kept, this one included; 0 stores nothing and removes nothing.
        save: Writes the model into the folder under a name.
    """
    if keep == 0:
        return
    save(_stem(epoch))
    for old in kept_epochs(folder)[:-keep]:
        for path in folder.glob(f"{_stem(old)}.*"):
            path.unlink()


def kept_epochs(folder: Path) -> list[int]:
    """Epochs of a run whose models are kept, oldest first."""
    found = (KEPT.fullmatch(path.name) for path in folder.glob("epoch-*.safetensors"))
    return sorted(int(match.group(1)) for match in found if match)


def _stem(epoch: int) -> str:
    return f"epoch-{epoch:04d}"
