"""Segmentation losses of MONAI by name, on labels that need not be everywhere.

MONAI takes seconds to import, so it is imported when the first such loss is built.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError
from wsi_deform.faults import pass_on_own_fault
from wsi_deform.networks.names import nearest, refuse_unknown_options

PREFIX = "monai:"
_ON_ONE_HOT: Mapping[str, Any] = {"to_onehot_y": True, "softmax": True}
#: Losses that are the same for the samples of an image in any order, and what must be set for scores and class numbers.
#: Others compare neighbours (distance transforms, skeletons, windows), and have no value where labels are missing.
SUPPORTED: Mapping[str, Mapping[str, Any]] = {
    "DiceCELoss": _ON_ONE_HOT,
    "DiceFocalLoss": _ON_ONE_HOT,
    "DiceLoss": _ON_ONE_HOT,
    "FocalLoss": {"to_onehot_y": True, "use_softmax": True},
    "GeneralizedDiceFocalLoss": _ON_ONE_HOT,
    "GeneralizedDiceLoss": _ON_ONE_HOT,
    "GeneralizedWassersteinDiceLoss": {},
    "TverskyLoss": _ON_ONE_HOT,
}
#: Options that would contradict what is set here, or the mean over the fields of a step.
_SET_HERE = (
    *("to_onehot_y", "softmax", "use_softmax", "sigmoid", "other_act"),
    *("reduction", "batch", "ignore_index", "soft_label"),
)
#: Options that MONAI wants as tensors.
_TENSORS = ("weight", "dist_matrix")
#: What MONAI's losses raise for arguments or inputs that they cannot take.
_REFUSALS = (
    *(TypeError, ValueError, KeyError, IndexError, AttributeError),
    *(AssertionError, NotImplementedError, RuntimeError),
)


def supported_names() -> list[str]:
    """The names that a configuration may give, with their prefix."""
    return [PREFIX + name for name in SUPPORTED]


def refuse_unknown_loss(name: str) -> None:
    """Refuse a name that is none of ``supported_names``.

    Raises:
        ModelError: It names the nearest, and all.
    """
    if name.startswith(PREFIX) and name.removeprefix(PREFIX) in SUPPORTED:
        return
    # Most names lack the prefix, or the word that all of them end with.
    near = nearest(name.removeprefix(PREFIX).removesuffix("Loss") + "Loss", SUPPORTED, prefix=PREFIX)
    known = ", ".join(supported_names())
    near = f"{near} All: {known}." if near.startswith("Did") else f"Known: {known}."
    raise ModelError(
        f"loss {name!r} is not one of those that have a meaning where some samples are unlabelled. {near}"
    )


class MonaiLoss:
    """A loss of ``monai.losses`` of each image of a batch, over its labelled samples alone.

    Args:
        name: The class in ``monai.losses``, one of ``SUPPORTED``.
        classes: Classes that are scored, 2 or more.
        class_weights: (C,), non-negative, given to MONAI as its ``weight``; None leaves that to ``options``.
        device: Where scores will be.
        options: Arguments of that class; lists of numbers where it takes tensors.

    Raises:
        ModelError: An unknown loss or option, one that is set here, arguments that MONAI refuses, or class weights
            with a loss that takes none. A small image is tried at once.

    Convention:
        MONAI's losses know no unlabelled samples. Those listed are sums over samples, in any order; therefore the
        labelled samples of an image, as a list, are all that the loss is given, with their scores and their classes.
        What is unlabelled is in no sum: neither in an intersection nor in the size of a prediction or a label. Where
        everything is labelled it is MONAI's own call on the image.
    """

    def __init__(
        self,
        name: str,
        *,
        classes: int,
        class_weights: Tensor | None = None,
        device: torch.device | str = "cpu",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        refuse_unknown_loss(PREFIX + name)
        options = dict(options or {})
        self.name = PREFIX + name
        if classes < 2:
            raise ModelError(
                f"loss {self.name} with {classes} class: needed 2 or more, background among them."
            )
        accepted = self._accepted(options)
        if class_weights is not None:
            options = self._weighted(options, accepted, class_weights)
        for key in _TENSORS:
            if isinstance(options.get(key), (list, tuple)):
                options[key] = torch.tensor(options[key], dtype=torch.float32, device=device)
        try:
            # First: an option that is missing fails in the call itself, as a wrong call of ours would.
            inspect.signature(self._class()).bind(**options, **SUPPORTED[name])
        except TypeError as error:
            raise self._refused(options, error) from error
        try:
            self.loss: nn.Module = self._class()(**options, **SUPPORTED[name]).to(device)
        except _REFUSALS as error:
            pass_on_own_fault(error, "monai", "torch")
            raise self._refused(options, error) from error
        self._try_out(classes, torch.device(device), options)

    def sums(self, scores: Tensor, labels: Tensor, unlabelled: int) -> tuple[Tensor, Tensor]:
        """The loss of each image, and what it counts.

        Args:
            scores: (B, C, h, w), before the softmax; the loss is computed in float32 or better.
            labels: (B, h, w), uint8 or int64, classes 0 to C - 1.
            unlabelled: The label that counts nowhere.

        Returns:
            (B,) losses, 0 (and with it the gradient) where nothing is labelled, and (B,) 1.0 where something is.

        Raises:
            ModelError: MONAI cannot compute it.
        """
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        losses, counts = [], []
        for image, classes in zip(scores, labels.long(), strict=True):
            labelled = classes != unlabelled
            counts.append(float(labelled.any()))
            # The zero keeps its graph: every process of a training goes back through every image.
            losses.append(self._of(image[:, labelled], classes[labelled]) if counts[-1] else image.sum() * 0)
        return torch.stack(losses), torch.tensor(counts, device=scores.device, dtype=scores.dtype)

    def _of(self, scores: Tensor, classes: Tensor) -> Tensor:
        """The loss of scores (C, n) and class numbers (n,), as an image of one row: some take no lists."""
        with torch.autocast(scores.device.type, enabled=False):
            found: Tensor = self.loss(scores[None, :, None, :], classes[None, None, None, :])
        return found

    def _class(self) -> type[nn.Module]:
        return cast(
            type[nn.Module], getattr(importlib.import_module("monai.losses"), self.name.removeprefix(PREFIX))
        )

    def _accepted(self, options: Mapping[str, Any]) -> set[str]:
        """The options that the loss has, after those that are given were looked at."""
        accepted = set(inspect.signature(self._class()).parameters)
        for key in options:
            if key in _SET_HERE:
                raise ModelError(f"loss {self.name}: {key} is set here. Leave it out.")
        accepted -= set(_SET_HERE)
        refuse_unknown_options(self.name, options, accepted, kind="loss")
        return accepted

    def _weighted(self, options: dict[str, Any], accepted: set[str], weights: Tensor) -> dict[str, Any]:
        """With the weights of the classes, where the loss has a place for them."""
        needed = "Needed class_weights: none"
        if "weight" not in accepted:
            able = ", ".join(
                PREFIX + name
                for name in SUPPORTED
                if "weight"
                in inspect.signature(getattr(importlib.import_module("monai.losses"), name)).parameters
            )
            raise ModelError(f"loss {self.name} takes no class weights. {needed}, or one of {able}.")
        if "weight" in options:
            raise ModelError(
                f"loss {self.name}: both weight and loss.class_weights are given. {needed}, or no weight."
            )
        if options.get("include_background") is False:
            raise ModelError(
                f"loss {self.name}: class weights are for all classes. {needed}, or include_background: true."
            )
        return options | {"weight": weights.float()}

    def _try_out(self, classes: int, device: torch.device, options: Mapping[str, Any]) -> None:
        """Refuse now what would fail in the first step: MONAI looks at most arguments only when it is called."""
        labels = torch.arange(classes, device=device).repeat(2)
        scores = torch.zeros(classes, len(labels), device=device)
        try:
            found = self._of(scores, labels)
        except _REFUSALS as error:
            pass_on_own_fault(error, "monai", "torch")
            raise self._refused(options, error) from error
        if found.dim() or not found.isfinite():
            raise ModelError(
                f"loss {self.name} with {dict(options)} gives {found.tolist()}. Needed one finite number."
            )

    def _refused(self, options: Mapping[str, Any], error: Exception) -> ModelError:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        shown = {
            key: value.tolist() if isinstance(value, Tensor) else value for key, value in options.items()
        }
        return ModelError(f"loss {self.name} refuses the options {shown}: {reason}")
