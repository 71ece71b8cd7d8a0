"""Post-training quantisation: the segmentation network in int8, for OpenVINO, measured before it is kept.

Statistics of activations come from training fields, as the model itself samples them. The deformation network stays in
float32: it costs little, and where samples lie shall not change.

Source:
    NNCF, post-training quantisation, https://docs.openvino.ai/2025/openvino-workflow/model-optimization.html
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import FieldBudget, budgets_of
from wsi_deform.data.study import open_labelled
from wsi_deform.errors import ManifestError, ModelError
from wsi_deform.files import write_folder_aside, write_json
from wsi_deform.manifest.rows import Manifest
from wsi_deform.model import Model
from wsi_deform.model_file import find_model, load_model
from wsi_deform.networks.stand_in import StandIn, put_in, take_out
from wsi_deform.provenance import provenance
from wsi_deform.runtime.choice import package_version, require
from wsi_deform.runtime.identity import model_sha256
from wsi_deform.runtime.openvino_engine import SUFFIX, quiet_openvino
from wsi_deform.runtime.parts import ENCODERS, channels_of, parts_of
from wsi_deform.runtime.prepared import prepared
from wsi_deform.runtime.quantised import (
    FACTS,
    FORMAT,
    MAX_LOSS_POINTS,
    Quantised,
    checksums,
    quantised_folder,
    read_quantised,
)
from wsi_deform.runtime.use import Elsewhere
from wsi_deform.segment import segment_fields
from wsi_deform.slide.slide import Slide
from wsi_deform.train.validation import validate

QUANTISED_PARTS = ("segmentation", *ENCODERS)
#: Images of one pass whose activations are looked at: windows of blocks come by the hundred.
MOST_OF_A_PASS = 8
#: OpenVINO's name of one that is neither grouped nor transposed.
CONVOLUTION = "Convolution"
NNCF = 'pip install "wsi-deform[quantise]"'
Labelled = Sequence[tuple[Slide, Labels]]


def quantise(
    run: Path,
    manifest: Manifest,
    *,
    fields: int = 64,
    seed: int = 0,
    allow_loss: bool = False,
    on_step: Callable[[str], None] | None = None,
) -> Quantised:
    """Quantise a model, measure what it costs, and store it beside the model.

    Args:
        run: A run folder or a file of a model, see ``find_model``.
        manifest: Of its slides: fields of ``train`` calibrate, slides of ``val`` measure.
        fields: Training fields, drawn from all.
        seed: Of the draw.
        allow_loss: Whether it is kept though it costs more than ``MAX_LOSS_POINTS``, or nothing could be measured.
        on_step: Told what comes next.

    Returns:
        What is stored; the folder beside the model is whole or absent.

    Raises:
        ModelError: A package is missing, the network cannot be quantised, or it costs too much.
        ManifestError: There are no training slides.
    """
    require_nncf()
    tell = on_step or (lambda said: None)
    path = find_model(run).absolute()
    sha256, model = model_sha256(path), load_model(path)
    training = [open_labelled(row, model.classes) for row in manifest.of_split("train")]
    if not training:
        raise ManifestError(
            f'manifest in {manifest.folder}: no slide of split "train". Needed some of those that the model was '
            "trained on. Fill the split column."
        )
    name, network = next((name, part) for name, part in parts_of(model).items() if name in QUANTISED_PARTS)
    channels = channels_of(model, name)
    written = prepared(network, name, "openvino", model_sha256=sha256, channels=channels)
    tell(f"looking at up to {fields} training fields")
    seen, looked = calibration_images(model, network, training, fields=fields, seed=seed)
    folder = quantised_folder(path)
    with write_folder_aside(folder) as aside:
        tell(f"quantising, over {len(seen)} images")
        file = aside / f"{name}{SUFFIX}"
        write_quantised(written, file, seen)
        tell("validating")
        validation = [open_labelled(row, model.classes) for row in manifest.of_split("val")]
        measured = measured_cost(model, network, Elsewhere(name, "openvino", file), validation)
        refuse_loss(measured["loss_points"], source=path, allow_loss=allow_loss)
        about = {
            "format": FORMAT,
            "model": path.name,
            "model_sha256": sha256,
            "networks": {name: file.name},
            "files": checksums(aside),
            **measured,
            "fields": looked,
            "seed": seed,
            "images": len(seen),
            "packages": {"openvino": package_version("openvino"), "nncf": _nncf_version()},
            "provenance": provenance(seed=seed),
        }
        write_json(aside / FACTS, about)
    return read_quantised(path, sha256)


def require_nncf() -> None:
    """Refuse to start without the packages.

    Raises:
        ModelError: It names them, and what installs them.
    """
    if importlib.util.find_spec("nncf") is None:
        raise ModelError(f"quantise: nncf not installed. Needed openvino and nncf. Install them: {NNCF}.")
    require("openvino")


def calibration_images(
    model: Model, network: nn.Module, training: Labelled, *, fields: int, seed: int
) -> tuple[list[NDArray[np.float32]], int]:
    """What a network is given as the model segments training fields.

    Args:
        model: The model, in evaluation mode.
        network: One of its networks.
        training: Slides and labels.
        fields: So many fields, drawn from all of these slides, or all where there are fewer.
        seed: Of the draw.

    Returns:
        (B, channels, H, W) arrays, and of how many fields they are.
    """
    budgets = [
        (number, budget) for number, (slide, _) in enumerate(training) for budget in budgets_of(slide, model)
    ]
    drawn = sorted(random.Random(seed).sample(range(len(budgets)), min(fields, len(budgets))))
    by_slide: dict[int, list[FieldBudget]] = {}
    for at in drawn:
        by_slide.setdefault(budgets[at][0], []).append(budgets[at][1])

    with given_to(network) as found:
        for number, chosen in by_slide.items():
            slide, labels = training[number]
            for _ in segment_fields(slide, model, chosen, labels=labels, scheduler="loop"):
                pass
    return found, len(drawn)


@contextlib.contextmanager
def given_to(network: nn.Module) -> Iterator[list[NDArray[np.float32]]]:
    """What a network is given meanwhile: (B, channels, H, W) arrays, of large batches a part."""
    found: list[NDArray[np.float32]] = []

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        images = given[0].detach().float()
        step = -(-len(images) // MOST_OF_A_PASS)
        found.append(images[::step].contiguous().clone().numpy())

    hook = network.register_forward_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def measured_cost(
    model: Model, network: nn.Module, stand_in: StandIn, validation: Labelled
) -> dict[str, Any]:
    """MIoU of a model with its own network and with what stands in for it.

    Args:
        model: The model.
        network: One of its networks.
        stand_in: Computes its passes.
        validation: Slides and labels.

    Returns:
        ``miou_float32``, ``miou_int8``, in [0, 1], and ``loss_points``, 100 times their difference; None each where
        there are no slides or the labels hold fewer than two classes. ``validation_slides``.
    """
    own = theirs = None
    if validation:
        own = validate(model, validation).get("val_miou")
        put_in(network, stand_in)
        try:
            theirs = validate(model, validation).get("val_miou")
        finally:
            take_out(network)
    loss = None if own is None or theirs is None else round(100 * (own - theirs), 4)
    return {
        "miou_float32": own,
        "miou_int8": theirs,
        "loss_points": loss,
        "validation_slides": len(validation),
    }


def refuse_loss(loss_points: float | None, *, source: Path, allow_loss: bool) -> None:
    """Refuse quantised networks that cost too much, or of which nobody knows.

    Raises:
        ModelError: They do, and nobody said that it is all right.
    """
    if allow_loss or (loss_points is not None and loss_points <= MAX_LOSS_POINTS):
        return
    found = (
        "what it costs cannot be measured, for the manifest has no validation slides with two classes"
        if loss_points is None
        else f"int8 costs {loss_points:.2f} points of mIoU on the validation split"
    )
    raise ModelError(
        f"model {source}: {found}. Needed at most {MAX_LOSS_POINTS:g} points. Use more --fields, stay with float32, or "
        "say --allow-loss. Nothing was stored."
    )


def write_quantised(source: Path, path: Path, seen: Sequence[NDArray[np.float32]]) -> None:
    """Quantise a written network, from one file to another.

    Args:
        source: What ``prepared`` wrote.
        path: Where to, ``.xml``.
        seen: What the network was given, see ``given_to``.

    Convention:
        Three things are not NNCF's defaults, and cost no speed that was seen: biases are corrected layer by layer,
        activations may have any zero, and the first and the last convolution stay in float32. Points of mIoU that int8
        costs, as by default, with the first two, with all three (MONAI's DynUNet, validation slides): joint and uniform
        of the demo 7.5, .5, .3 and 1.5, -.8, not tried; of GlaS biopsies 1.7, 1.0, .3 and 1.1, 1.0, -.1.

    Raises:
        ModelError: NNCF cannot do it.
    """
    openvino = quiet_openvino()
    with _silence():
        import nncf

        network = openvino.Core().read_model(str(source))
        kept = [
            each.get_friendly_name()
            for each in network.get_ordered_ops()
            if each.get_type_name() == CONVOLUTION
        ]
        try:
            quantised = nncf.quantize(
                network,
                nncf.Dataset(list(seen)),
                subset_size=len(seen),
                preset=nncf.QuantizationPreset.MIXED,
                fast_bias_correction=False,
                ignored_scope=nncf.IgnoredScope(names=sorted({*kept[:1], *kept[-1:]})),
            )
        except Exception as error:  # its own, of many types
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(f"quantise {source}: NNCF cannot do it ({reason}).") from error
        openvino.save_model(quantised, str(path), compress_to_fp16=False)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What NNCF prints as it works: bars, and remarks on packages that are not used here."""
    level = logging.getLogger("nncf").level
    logging.getLogger("nncf").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.getLogger("nncf").setLevel(level)


def _nncf_version() -> str:
    import nncf

    return str(nncf.__version__)
