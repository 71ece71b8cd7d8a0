"""Models of the newest validated epochs, beside the best and the last."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_deform.model import Model, save_model

KEPT = re.compile(r"epoch-(\d+)\.safetensors")


def keep_model(model: Model, folder: Path, epoch: int, *, keep: int, facts: Mapping[str, Any]) -> None:
    """Store the model of an epoch and remove those of older ones.

    Args:
        model: The model.
        folder: The run folder; gets ``epoch-0040.safetensors`` and what stands beside each model.
        epoch: Number of the epoch, from 1.
        keep: So many are kept, this one included; 0 stores nothing and removes nothing.
        facts: See ``save_model``.
    """
    if keep == 0:
        return
    save_model(model, folder / f"{_stem(epoch)}.safetensors", facts=facts)
    for old in kept_epochs(folder)[:-keep]:
        for path in folder.glob(f"{_stem(old)}.*"):
            path.unlink()


def kept_epochs(folder: Path) -> list[int]:
    """Epochs of a run whose models are kept, oldest first."""
    found = (KEPT.fullmatch(path.name) for path in folder.glob("epoch-*.safetensors"))
    return sorted(int(match.group(1)) for match in found if match)


def _stem(epoch: int) -> str:
    return f"epoch-{epoch:04d}"
