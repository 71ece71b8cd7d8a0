"""Quantised networks beside a model: a folder of OpenVINO's files, and a JSON that says whose they are.

``NAME.int8/`` lies beside ``NAME.safetensors``. Its ``quantised.json`` has the hash of the model, checksums of all
files, how they were made, and what mIoU they cost. No file in it is code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.errors import ModelError
from wsi_deform.texts import read_json

FORMAT = "wsi-deform quantised 1"
FACTS = "quantised.json"
SUFFIX = ".int8"
MAX_LOSS_POINTS = 0.5
"""Points of mIoU that quantised networks may cost unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """Quantised networks of a model.

    Attributes:
        folder: Where they lie.
        files: Part -> its ``.xml``.
        digest: Of all files.
        loss_points: What they cost on the validation split, points of mIoU; None where it was not measured.
    """

    folder: Path
    files: Mapping[str, Path]
    digest: str
    loss_points: float | None

    @property
    def cost(self) -> str:
        """What they cost, in words that go with every mask."""
        if self.loss_points is None:
            return "what it costs was not measured"
        more = "less" if self.loss_points >= 0 else "more"
        return f"{abs(self.loss_points):.2f} points of mIoU {more} on the validation split"


def quantised_folder(model: Path) -> Path:
    """Where the quantised networks of a ``.safetensors`` lie."""
    return model.with_suffix(SUFFIX)


def read_quantised(model: Path, model_sha256: str) -> Quantised:
    """The quantised networks of a model.

    Args:
        model: Its ``.safetensors``.
        model_sha256: What ``distribute.models.model_sha256`` gives for it.

    Raises:
        ModelError: There are none, they are of another model, or they are damaged.
    """
    folder = quantised_folder(model)
    remedy = f"Make them: wsi-deform quantise {model.with_suffix('.json')} --slides MANIFEST"
    if not folder.is_dir():
        raise ModelError(f"model {model}: has no quantised networks ({folder.name} beside it). {remedy}.")
    try:
        about: Any = read_json(folder / FACTS)
        known, files, parts = about["format"], dict(about["files"]), dict(about["networks"])
        of_model, loss = about["model_sha256"], about["loss_points"]
        found = checksums(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"quantised {folder}: cannot be read ({error}). {remedy}.") from error
    if known != FORMAT:
        raise ModelError(f'quantised {folder}: format "{known}". Needed "{FORMAT}". {remedy}.')
    if of_model != model_sha256:
        raise ModelError(f"quantised {folder}: made of another model than {model.name} is now. {remedy}.")
    if found != files or not parts or any(name not in files for name in parts.values()):
        raise ModelError(f"quantised {folder}: damaged, its files have other checksums. {remedy}.")
    is_number = isinstance(loss, int | float) and not isinstance(loss, bool)
    return Quantised(
        folder=folder,
        files={part: folder / name for part, name in parts.items()},
        digest=digest_of(files),
        loss_points=float(loss) if is_number else None,
    )


def checksums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256 of the files of a folder but for its JSON."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix != ".json":
            with path.open("rb") as opened:
                found[path.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def digest_of(files: Mapping[str, str]) -> str:
    """One hash of the checksums of several files."""
    return hashlib.sha256("\n".join(f"{name} {files[name]}" for name in sorted(files)).encode()).hexdigest()
