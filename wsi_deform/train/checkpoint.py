"""The state of a run in one file, so that a killed run goes on where it was.

The file is safetensors: weights and optimiser moments as tensors, everything else as JSON in its header. One file is
moved into place at once, so weights, optimiser and counters always belong together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

import safetensors.torch
import torch
from pydantic import Field, TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wsi_deform.errors import TrainingError
from wsi_deform.files import write_aside
from wsi_deform.model import Model
from wsi_deform.model_file import load_tensors
from wsi_deform.texts import parse_json

NAME = "checkpoint.safetensors"
# State that the first version had not, and whose start is as good.
LATER = ("scale",)
# What torch raises on states that are not its own.
OPTIMISER_ERRORS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)
# Beyond any run: a count of steps, epochs or validations.
Count = Annotated[int, Field(strict=True, ge=0, le=10**9)]


@dataclass(kw_only=True)
class Counters:
    """How far a run is. Randomness is drawn from (seed, epoch, step), so these are all the state it has.

    Attributes:
        epoch: The epoch under way, from 0.
        step: Steps of it that are done.
        sums: Running sums of the epoch's logged numbers.
        rows: Logged epochs.
        best: Best validation mIoU so far, or None.
        best_epoch: The epoch that had it, from 1, or None.
        waited: Validations since then.
        identity: What must not change between a run and its resumption.
    """

    epoch: Count = 0
    step: Count = 0
    sums: dict[str, float] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: Count | None = None
    waited: Count = 0
    identity: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    folder: Path,
    model: Model | None,
    optimiser: torch.optim.Optimizer,
    counters: Counters,
    *,
    extra: Mapping[str, Tensor],
    name: str = NAME,
) -> None:
    """Store the state of a run, written aside and moved into place.

    Args:
        folder: The run folder.
        model: All networks; None where ``extra`` holds the weights.
        optimiser: Of those that are trained.
        counters: How far the run is.
        extra: State besides these: name -> tensor of any shape.
        name: Of the file.
    """
    weights = {} if model is None else model.state_dict()
    tensors = {f"model.{each}": tensor for each, tensor in weights.items()}
    tensors |= {f"extra.{each}": tensor for each, tensor in extra.items()}
    state = optimiser.state_dict()
    for index, moments in state["state"].items():
        tensors |= {f"optimiser.{index}.{each}": torch.as_tensor(value) for each, value in moments.items()}
    # Clones, because some networks hold one tensor under two names and safetensors stores no sharing.
    stored = {each: tensor.detach().cpu().contiguous().clone() for each, tensor in tensors.items()}
    about = {"counters": vars(counters), "groups": state["param_groups"]}
    with write_aside(folder / name) as aside:
        safetensors.torch.save_file(stored, aside, metadata={"state": json.dumps(about)})


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process had begun to write aside."""
    for aside in folder.glob(".aside-*"):
        aside.unlink(missing_ok=True)


def stored_counters(folder: Path, *, name: str = NAME) -> Counters:
    """How far the run in a folder is, by its checkpoint of that name; a fresh ``Counters`` if nothing was stored.

    Raises:
        TrainingError: The checkpoint cannot be read.
    """
    path = folder / name
    if not path.is_file():
        return Counters()
    with _opened(path) as (about, _):
        return _counters(about["counters"])


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], Any]]:
    """What a checkpoint's header says, and the open file.

    Raises:
        TrainingError: It cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            yield _about((opened.metadata() or {}).get("state")), opened
    except (OSError, SafetensorError, ValueError) as error:
        raise TrainingError(
            f"checkpoint {path}: cannot be read: {error}. Needed a file that `wsi-deform train` wrote. "
            "Delete it to start the run again."
        ) from error


def load_checkpoint(
    folder: Path,
    model: Model | None,
    optimiser: torch.optim.Optimizer,
    *,
    extra: Mapping[str, Tensor],
    name: str = NAME,
) -> Counters:
    """Put a stored state into a model and its optimiser.

    Args:
        folder: The run folder.
        model: Built from the same configuration; None where ``extra`` holds the weights.
        optimiser: Built for that model.
        extra: The tensors that ``save_checkpoint`` stored under these names are copied into these, of the same shapes.
        name: Of the file.

    Returns:
        How far the run was; a fresh ``Counters`` if nothing was stored.

    Raises:
        TrainingError: The file cannot be read, or lacks state that a run with these settings has.
        ModelError: Its weights do not fit the model.
    """
    path = folder / name
    if not path.is_file():
        return Counters()
    with _opened(path) as (about, opened):
        tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    weights = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    if model is not None:
        load_tensors(model, weights, source=str(path))
    with torch.no_grad():
        for name, tensor in extra.items():
            stored = tensors.get(f"extra.{name}")
            if stored is None:
                if name in LATER:
                    continue
                raise TrainingError(
                    f"checkpoint {path}: holds no {name}. Needed them to go on: the version that wrote it trained "
                    "without. Choose another --out, or delete the folder to start again."
                )
            if stored.shape != tensor.shape:
                raise TrainingError(
                    f"checkpoint {path}: {name} of shape {tuple(stored.shape)}. Needed {tuple(tensor.shape)}: slides, "
                    "masks or tissue have changed since. Choose another --out, or delete the folder to start again."
                )
            tensor.copy_(stored)
    try:
        optimiser.load_state_dict({"state": _moments(tensors), "param_groups": about["groups"]})
        _check_optimiser(optimiser)
    except OPTIMISER_ERRORS as error:
        raise TrainingError(
            f"checkpoint {path}: its state of the optimiser does not fit this run ({type(error).__name__}: {error}). "
            "Needed the one of the same settings. Choose another --out, or delete the folder to start again."
        ) from error
    # Moments in the memory format of their weights: an update in another order of elements rounds otherwise.
    for weight, state in optimiser.state.items():
        for name, tensor in state.items():
            if tensor.shape == weight.shape:
                state[name] = torch.empty_like(weight).copy_(tensor)
    return _counters(about["counters"])


def _moments(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """The optimiser's tensors: number of the weight -> name -> tensor."""
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, moment = name.split(".", 2)
            moments.setdefault(int(index), {})[moment] = tensor
    return moments


def _check_optimiser(optimiser: torch.optim.Optimizer) -> None:
    """Refuse what was stored in another shape, or as another kind of value, than steps work with.

    Raises:
        ValueError: The message says what.
    """
    for weight, state in optimiser.state.items():
        for name, tensor in state.items():
            if tensor.shape not in (weight.shape, ()):
                raise ValueError(
                    f"{name} of shape {tuple(tensor.shape)} for a weight of {tuple(weight.shape)}"
                )
    for group in optimiser.param_groups:
        for name, usual in optimiser.defaults.items():
            if name not in group or _kind(group[name]) not in (_kind(usual), "None"):
                raise ValueError(f"{name} {str(group.get(name))[:60]}, needed one like {usual}")


def _kind(value: object) -> str:
    """What a setting of an optimiser is; several numbers are a tuple, and a list out of JSON."""
    if isinstance(value, list | tuple):
        return f"{len(value)} of {', '.join(map(_kind, value[:4]))}"
    is_number = isinstance(value, int | float | Tensor) and not isinstance(value, bool)
    return "number" if is_number else type(value).__name__.replace("NoneType", "None")


def _about(state: str | None) -> dict[str, Any]:
    """Counters and the optimiser's settings out of a checkpoint's header.

    Raises:
        ValueError: They are not there, or not as ``save_checkpoint`` writes them.
    """
    about = parse_json(state) if state is not None else None
    if not isinstance(about, dict) or not isinstance(about.get("groups"), list):
        raise ValueError("its header holds no state of a run")
    counters = about.get("counters")
    known = {each.name for each in fields(Counters)}
    if not isinstance(counters, dict) or not counters.keys() <= known:
        raise ValueError(f"its counters are {str(counters)[:60]}, needed {', '.join(sorted(known))}")
    _counters(counters)
    return about


def _counters(stored: Mapping[str, Any]) -> Counters:
    """Counters out of a header.

    Raises:
        ValueError: One is no number that a run can have come to, or something else than it should be.
    """
    return TypeAdapter(Counters).validate_python(dict(stored))
