"""Another program than PyTorch computes the networks of a case: ours and its rivals' alike, with the same weights.

int8 is quantised once and kept beside the model: ours over the training slides' fields, as `wsi-deform quantise` does;
patches over windows of the same slides at full resolution, as its network sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.benchmarks.drawn_slides import DrawnFile
from wsi_deform.files import write_folder_aside
from wsi_deform.geometry import Region
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.networks.stand_in import put_in
from wsi_deform.runtime.choice import Runtime
from wsi_deform.runtime.identity import model_sha256
from wsi_deform.runtime.openvino_engine import SUFFIX
from wsi_deform.runtime.parts import channels_of, parts_of
from wsi_deform.runtime.prepared import prepared
from wsi_deform.runtime.quantise import QUANTISED_PARTS, calibration_images, given_to, write_quantised
from wsi_deform.runtime.use import Elsewhere, use_runtime
from wsi_deform.slide.open import open_slide

FIELDS, WINDOWS = 64, 8
"""That calibrate: fields of ours, at most, and windows of patches, of which 32 took over 14 GiB with HRNetV2-W18."""


def computed_by(model: Model, path: Path, runtime: str) -> Model:
    """The model, whose networks another program computes.

    Args:
        model: Of ``path``, in evaluation mode, on the CPU.
        path: Its ``.safetensors``.
        runtime: Of ``results.RUNTIMES``, or "" for PyTorch; for int8, ``quantise_for_cases`` was called.
    """
    if not runtime:
        return model
    use_runtime(model, Runtime(name="openvino"), path=path, model_sha256=model_sha256(path))
    if runtime == "int8":
        name = _quantised_part(model)
        put_in(parts_of(model)[name], Elsewhere(name, "openvino", _file(path, name)))
    return model


def quantise_for_cases(path: Path, slides: Sequence[DrawnFile], *, window_px: int, is_patches: bool) -> None:
    """Quantise a model's network, unless it was done.

    Args:
        path: The model's ``.safetensors``.
        slides: That it was trained on.
        window_px: Side of the windows that ``is_patches`` means.
        is_patches: Whether it sees windows of full resolution, and not fields.
    """
    model = load_model(path)
    name = _quantised_part(model)
    if _file(path, name).is_file() and _file(path, name).stat().st_mtime >= path.stat().st_mtime:
        return
    network = parts_of(model)[name]
    written = prepared(
        network, name, "openvino", model_sha256=model_sha256(path), channels=channels_of(model, name)
    )
    if is_patches:
        with given_to(network) as seen, torch.no_grad():
            for image in _windows(slides, window_px):
                model.scores(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    else:
        labelled = [(open_slide(each.slide), each.truth()) for each in slides]
        seen, _ = calibration_images(model, network, labelled, fields=FIELDS, seed=0)
    print(f"  {path.stem}: quantised over {len(seen)} images")
    with write_folder_aside(_file(path, name).parent) as aside:
        write_quantised(written, aside / _file(path, name).name, seen)


def _quantised_part(model: Model) -> str:
    return next(name for name in parts_of(model) if name in QUANTISED_PARTS)


def _file(path: Path, part: str) -> Path:
    return path.with_suffix(".benchmark-int8") / f"{part}{SUFFIX}"


def _windows(slides: Sequence[DrawnFile], side: int) -> list[NDArray[np.uint8]]:
    """Windows of level 0 at random places, as many of each slide, (side, side, 3)."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(WINDOWS):
        slide = open_slide(slides[number % len(slides)].slide)
        left, top = (int(rng.integers(0, most - side + 1)) for most in (slide.size.width, slide.size.height))
        found.append(slide.read_region(0, Region(left, top, side, side)))
    return found
