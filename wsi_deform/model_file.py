"""How a model is stored: two files that any language can read.

``NAME.safetensors`` holds tensors only, so that loading runs no code; ``NAME.json`` says what they are: classes,
configuration, mpp, metrics, provenance, and the SHA-256 of the other file: only what belongs together is loaded.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from wsi_deform.annotation.classes import class_table_from_data
from wsi_deform.config import parse_config
from wsi_deform.config_format import FIRST, KEY
from wsi_deform.config_sections import Config, SegmentationNetwork
from wsi_deform.errors import ConfigError, ModelError
from wsi_deform.files import write_aside, write_json
from wsi_deform.look.appearance import TrainingSlides
from wsi_deform.model import Model
from wsi_deform.model_package.unpack import is_package, unpacked
from wsi_deform.networks.monai_alone import networks_alone
from wsi_deform.texts import read_json

FORMAT = "wsi-deform model 2"
TRAINED_ON = "trained_on"
CHECKSUM = "safetensors_sha256"
# Format 1, of version 0.1, had no checksum.
NEEDED = {
    "wsi-deform model 1": {"mpp", "classes", "config"},
    FORMAT: {"mpp", "classes", "config", CHECKSUM},
}
MODEL_SUFFIXES = (".safetensors", ".json")
NEXT = ".next-"
# Between the reading of its two files a model may be written again, by a training under way.
MAX_TRIES = 3
# Options of networks, MONAI's and others', that stand for weights from elsewhere.
FETCHING = re.compile(r"pre_?train\w*|(load_|use_)?weights?|download\w*|\w*_?url")
# Options of networks up to here take no memory worth a check.
MAX_UNSEEN = 512


def save_model(model: Model, path: Path, *, facts: Mapping[str, Any]) -> None:
    """Store a model as ``path`` (.safetensors) and the JSON beside it.

    Args:
        model: The model.
        path: Where to; the suffix must be ``.safetensors``.
        facts: What else the JSON says: epoch, metrics, provenance.

    Convention:
        Two files cannot be moved into place at once. The new tensors lie whole beside the old ones before the JSON with
        their checksum takes its place, and take theirs after it. Whenever that is cut short, the JSON and one of the
        two fit each other, and ``load_model`` finds which: the old model up to the JSON, the new one from then on.
    """
    # Clones, because some networks hold one tensor under two names and safetensors stores no sharing.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()
    }
    with write_aside(_next_to(path)) as aside:
        safetensors.torch.save_file(tensors, aside)
    about = {
        "format": FORMAT,
        CHECKSUM: _sha256(_next_to(path)),
        **description_of(model),
        **facts,
    }
    write_json(path.with_suffix(".json"), about)
    _next_to(path).replace(path)


def description_of(model: Model) -> dict[str, Any]:
    """What a model is but for its tensors, as plain data for JSON: mpp, classes, configuration, training slides."""
    return {
        "mpp": model.mpp,
        "classes": model.classes.to_data(),
        "config": _without_fetching(model.config).model_dump(mode="json"),
        **({} if model.trained_on is None else {TRAINED_ON: model.trained_on.model_dump(mode="json")}),
    }


def model_of_description(about: Mapping[str, Any], source: Path) -> Model:
    """A model with new weights from what ``description_of`` said.

    Args:
        about: The description; other keys are ignored.
        source: The JSON file, for errors.

    Raises:
        ModelError: A value is none that was written, or a network is not known here, such as that of a plug-in.
        ConfigError: Its configuration is of a newer format, or not as any version wrote it.

    Convention:
        Options by which a network would fetch somebody's weights are left out, whoever wrote them there: those of the
        model are stored, and nothing is asked of any other machine.
    """
    config = _without_fetching(parse_config(about["config"], source=str(source), stored=True))
    classes = class_table_from_data(about["classes"], f"model {source}: classes")
    mpp, trained_on = _mpp(about["mpp"], source), _trained_on(about, source)
    try:
        return Model(config=config, classes=classes, mpp=mpp, trained_on=trained_on)
    except ModelError as error:
        raise ModelError(f"model {source}: {error}") from error


def _without_fetching(config: Config) -> Config:
    """A configuration whose segmentation network is built without weights of others."""
    network = config.networks.segmentation
    kept = {name: value for name, value in network.options.items() if not FETCHING.fullmatch(name)}
    if kept == network.options:
        return config
    built = SegmentationNetwork.model_validate({"name": network.name, **kept})
    return config.model_copy(update={"networks": config.networks.model_copy(update={"segmentation": built})})


def finish_saving(folder: Path) -> None:
    """Finish what a killed ``save_model`` had begun in a folder, or remove it where the old model still stands."""
    for begun in folder.glob(f"{NEXT}*.safetensors"):
        path = begun.with_name(begun.name.removeprefix(NEXT))
        try:
            fits = path.with_suffix(".json").is_file() and (
                read_model_facts(path).get(CHECKSUM) == _sha256(begun)
            )
        except (ModelError, ConfigError):
            continue  # nobody knows which of the two the JSON was written with
        if fits:
            begun.replace(path)
        else:
            begun.unlink()


def _next_to(path: Path) -> Path:
    """Where the tensors of a model lie until its JSON is written."""
    return path.with_name(NEXT + path.name)


def load_model(run: Path | str, *, device: str | torch.device = "cpu") -> Model:
    """Load a trained model, ready to segment.

    Args:
        run: A run folder or a file of a model, see ``find_model``.
        device: Where to put the weights.

    Returns:
        The model in evaluation mode.

    Raises:
        ModelError: There is no model, its two files do not fit each other (the tensors are damaged, or of another
            model), or they cannot be read.
        ConfigError: See ``read_model_facts``.
    """
    path, about, tensors, _ = read_stored(Path(run))
    beside = path.with_suffix(".json")
    config = parse_config(about["config"], source=str(beside), stored=True)
    _check_widths(config.networks.model_dump(), tensors, source=beside)
    with networks_alone():
        model = model_of_description(about, beside)
    load_tensors(model, tensors, source=str(path))
    return model.to_device(device).eval()


def _mpp(found: object, source: Path) -> float | None:
    """Um per px of the training slides, or None where they had none."""
    is_number = isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < math.inf
    if found is None or is_number:
        return found if found is None else float(found)  # type: ignore[arg-type]
    raise ModelError(
        f"model {source}: mpp {str(found)[:60]!r}. Needed a positive number of um per px, or null."
    )


def _check_widths(options: object, tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Refuse options of networks that ask for more than the stored tensors have, before networks are built by them.

    Raises:
        ModelError: A large number is the size of no stored tensor.
    """
    sizes = {size for tensor in tensors.values() for size in tensor.shape}
    layer = [options]
    while layer:
        found = layer.pop()
        if isinstance(found, dict):
            layer += found.values()
        elif isinstance(found, list | tuple):
            layer += found
        elif isinstance(found, int) and abs(found) > MAX_UNSEEN and found not in sizes:
            raise ModelError(
                f"model {source}: {found} among the options of its networks. Needed the size of a stored tensor where "
                f"it is above {MAX_UNSEEN:,}. The file is damaged, or of another model: copy both again."
            )


def _trained_on(about: Mapping[str, Any], source: Path) -> TrainingSlides | None:
    """What the training slides look like, as far as the JSON says it."""
    if about.get(TRAINED_ON) is None:
        return None
    try:
        return TrainingSlides.model_validate(about[TRAINED_ON])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (TRAINED_ON, *first["loc"])))
        raise ModelError(
            f"model {source}: {place}: {first['msg'].lower()}. Needed what wsi-deform wrote. Copy the file again, or "
            f"take {TRAINED_ON} out of it."
        ) from error


def read_stored(run: Path) -> tuple[Path, dict[str, Any], dict[str, Tensor], str]:
    """What is stored of a model, its facts and its tensors, which belong to each other.

    Args:
        run: A run folder or a file of a model, see ``find_model``.

    Returns:
        Its ``.safetensors``, what ``read_model_facts`` says, name -> tensor, and the SHA-256 of the tensors' file.

    Raises:
        ModelError: As ``load_model``.
    """
    path = find_model(run)
    for _ in range(MAX_TRIES):
        about = read_model_facts(path)
        for file in (path, _next_to(path)):
            try:
                tensors = _read_tensors(file, about.get(CHECKSUM))
            except FileNotFoundError:
                continue
            except (OSError, SafetensorError) as error:
                raise ModelError(
                    f"model {file}: cannot be read: {error}. Needed a .safetensors file that wsi-deform wrote."
                ) from error
            if tensors is not None:
                return path, about, tensors, about.get(CHECKSUM) or _sha256(file)
    raise ModelError(
        f"model {path}: these are not the tensors that {path.stem}.json was written with, whose SHA-256 is "
        f"{about.get(CHECKSUM)}. The file is damaged, or one of the two is of another model. Copy both again from "
        "where it was trained."
    )


def _read_tensors(path: Path, sha256: str | None) -> dict[str, Tensor] | None:
    """The tensors of a file; None if it has another checksum, or is replaced meanwhile."""
    before = path.stat()
    if sha256 is not None and _sha256(path) != sha256:
        return None
    tensors = safetensors.torch.load_file(path)
    after = path.stat()
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return tensors if same else None


def _sha256(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def load_tensors(model: Model, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Put stored tensors into a model.

    Args:
        model: The model that its JSON describes.
        tensors: Name -> tensor in the shape of the model's parameter or buffer of that name.
        source: The file, for the error.

    Raises:
        ModelError: Names or shapes differ; the message names the first few and the class count.
    """
    own = model.state_dict()
    wrong = [
        f"{name}: found {list(tensors[name].shape) if name in tensors else 'nothing'}, "
        f"needed {list(own[name].shape) if name in own else 'nothing'}"
        for name in sorted(own.keys() | tensors.keys())
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape
    ]
    if wrong:
        shown = "; ".join(wrong[:4]) + (f"; and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        raise ModelError(
            f"model {source}: {len(wrong)} tensors do not fit a "
            f"{model.config.networks.segmentation.name} with {model.classes.count} classes: {shown}. "
            "Keep the .safetensors and .json of one checkpoint together, with the class table they were trained with."
        )
    # All names and shapes agree: a plain copy, without a walk over all modules that takes as long as building them.
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def find_model(run: Path) -> Path:
    """The ``.safetensors`` file that a run folder or a path stands for.

    Args:
        run: A run folder (its best model, or the last where there is no best yet), or either file of a model: the
            ``.safetensors`` or the ``.json`` beside it; or what `model pack` wrote, which is checked and unpacked into
            the user's cache.

    Raises:
        ModelError: There is none, or the file is of another kind.
    """
    needed = "Needed a run folder of `wsi-deform train`, or a model's .safetensors or .json or shared .zip"
    if run.suffix.lower() not in MODEL_SUFFIXES and is_package(run):
        run = unpacked(run)
    if run.is_dir():
        for name in ("best.safetensors", "last.safetensors"):
            if (run / name).is_file():
                return run / name
        raise ModelError(f"model {run}: has no best.safetensors or last.safetensors. {needed}.")
    tensors = run.with_suffix(".safetensors")
    if run.suffix.lower() in MODEL_SUFFIXES and tensors.is_file():
        return tensors
    if not run.exists():
        raise ModelError(f"model {run}: does not exist. {needed}.")
    if run.suffix.lower() in MODEL_SUFFIXES:
        raise ModelError(f"model {run}: no {tensors.name} beside it. Keep the two files of a model together.")
    hint = f", such as {tensors}" if tensors.is_file() else ""
    raise ModelError(f"model {run}: not a model but a {run.suffix or 'plain'} file. {needed}{hint}.")


def read_model_facts(path: Path) -> dict[str, Any]:
    """What the JSON beside a ``.safetensors`` file says, its ``config`` whole and in today's format.

    Raises:
        ModelError: It is missing, not JSON, or not a model's.
        ConfigError: Its configuration is of a newer format, or not as any version wrote it.
    """
    beside = path.with_suffix(".json")
    try:
        about = read_json(beside)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {path}: {beside.name} beside it cannot be read: {error}. Needed the JSON that was written with it."
        ) from error
    found = str(about.get("format")) if isinstance(about, dict) else f"of {type(about).__name__}"
    if found not in NEEDED:
        number = found.removeprefix(FORMAT.rstrip("0123456789"))
        newer = (
            " A newer version wrote it: update wsi-deform." if number.isdecimal() and int(number) > 2 else ""
        )
        raise ModelError(f'model {beside}: format "{found}". Needed "{FORMAT}".{newer}')
    missing = NEEDED[found] - about.keys()
    if missing or not isinstance(about["config"], dict):
        raise ModelError(
            f"model {beside}: without {', '.join(sorted(missing)) or 'settings in its config'}. Needed "
            f"{', '.join(sorted(NEEDED[found]))}, as wsi-deform writes them."
        )
    # A stored configuration is always whole: without a format it is of the first one.
    config = parse_config({KEY: FIRST} | about["config"], source=str(beside), stored=True)
    return {**about, "config": config.model_dump(mode="json")}
