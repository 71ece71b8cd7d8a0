"""Segmentation losses by the names that a configuration gives them, beside our own focal loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from wsi_deform.errors import ModelError, PluginError
from wsi_deform.networks import monai_losses
from wsi_deform.networks.monai_losses import PREFIX, MonaiLoss
from wsi_deform.networks.names import options_of, refuse_misfit_options, require_arguments
from wsi_deform.plugins import add_named, is_known, plugin_hint

OWN = "focal"
UNLABELLED = 255
CLASSES, CLASS_WEIGHTS = "classes", "class_weights"
LossOfImage = Callable[[Tensor, Tensor], Tensor]
"""Scores (C, h, w) float32 before the softmax, labels (h, w) int64 of which 255 is unlabelled -> a scalar."""

_LOSSES: dict[str, Callable[..., LossOfImage]] = {}


class NamedLoss(Protocol):
    """A loss of images."""

    def sums(self, scores: Tensor, labels: Tensor, unlabelled: int) -> tuple[Tensor, Tensor]:
        """The loss of each image and what it counts, see ``MonaiLoss.sums``."""


def add_loss(name: str, build: Callable[..., LossOfImage]) -> None:
    """Let ``loss.segmentation`` name a loss.

    Args:
        name: Its name.
        build: A class or function with the named argument ``classes``, how many there are. It gives what is called
            with the scores of one image, (C, h, w) float32 before the softmax, and its labels, (h, w) int64, 255 where
            unlabelled but not everywhere, and gives a scalar. The argument ``class_weights``, if there is one, gets a
            tensor (C,), or None; all others are its options, as of ``registry.add_network``.

    Raises:
        PluginError: Another loss has the name, or ``build`` lacks the argument.

    Convention:
        The loss of a step is the mean over its fields that have a label. Samples that are unlabelled must count
        nowhere: that is the loss's own business. What it learns itself is not trained.
    """
    if name == OWN or str(name).startswith(PREFIX):
        raise PluginError(f"loss {name!r}: such a name is ours or MONAI's. Needed another.")
    require_arguments(build, (CLASSES,), what=f"loss {name!r}")
    add_named(_LOSSES, name, build, kind="loss")


def refuse_unknown_loss(name: str) -> None:
    """Refuse a name that is neither of ``monai_losses.supported_names`` nor of ``add_loss``.

    Raises:
        ModelError: It names the nearest, and all.
    """
    try:
        # No plug-in has names of MONAI's.
        if name.startswith(PREFIX) or not is_known(name, _LOSSES):
            monai_losses.refuse_unknown_loss(name)
    except ModelError as error:
        added = f" Of plug-ins: {', '.join(sorted(_LOSSES))}." if _LOSSES else ""
        hint = "" if name.startswith(PREFIX) else plugin_hint()
        raise ModelError(f"{error}{added}{hint}") from error


def named_loss(
    name: str,
    *,
    classes: int,
    class_weights: Tensor | None = None,
    device: torch.device | str = "cpu",
    options: Mapping[str, Any] | None = None,
) -> NamedLoss:
    """Build a loss.

    Args:
        name: ``monai:`` and a class of ``monai.losses``, or a name of ``add_loss``.
        classes: Classes that are scored.
        class_weights: (C,), non-negative; None where all count the same.
        device: Where scores will be.
        options: Its own.

    Raises:
        ModelError: There is no such loss, or it cannot have these options or class weights.
    """
    if name.startswith(PREFIX):
        return MonaiLoss(
            name.removeprefix(PREFIX),
            classes=classes,
            class_weights=class_weights,
            device=device,
            options=options,
        )
    return AddedLoss(name, classes=classes, class_weights=class_weights, device=device, options=options or {})


class AddedLoss:
    """A loss of ``add_loss`` of each image of a batch.

    Args:
        name: Its name.
        classes: As of ``named_loss``.
        class_weights: As of ``named_loss``.
        device: As of ``named_loss``.
        options: As of ``named_loss``.

    Raises:
        ModelError: There is no such loss, it cannot have these options or class weights, or gives no finite number
            for a small image, which is tried at once.
    """

    def __init__(
        self,
        name: str,
        *,
        classes: int,
        class_weights: Tensor | None,
        device: torch.device | str,
        options: Mapping[str, Any],
    ) -> None:
        refuse_unknown_loss(name)
        build = _LOSSES[name]
        refuse_misfit_options(name, options, options_of(build, (CLASSES, CLASS_WEIGHTS)), kind="loss")
        given: dict[str, Any] = {CLASSES: classes, **options}
        if CLASS_WEIGHTS in options_of(build):
            given[CLASS_WEIGHTS] = None if class_weights is None else class_weights.float().to(device)
        elif class_weights is not None:
            raise ModelError(
                f"loss {name}: takes no class weights. Needed loss.class_weights: none, or a loss with the argument "
                f"{CLASS_WEIGHTS}."
            )
        loss = build(**given)
        self.name = name
        self.loss: LossOfImage = loss.to(device) if isinstance(loss, nn.Module) else loss
        self._try_out(classes, torch.device(device))

    def sums(self, scores: Tensor, labels: Tensor, unlabelled: int) -> tuple[Tensor, Tensor]:
        """The loss of each image, and what it counts.

        Args:
            scores: (B, C, h, w), before the softmax; the loss is computed in float32 or better.
            labels: (B, h, w), uint8 or int64, classes 0 to C - 1.
            unlabelled: The label that counts nowhere.

        Returns:
            (B,) losses, 0 (and with it the gradient) where nothing is labelled, and (B,) 1.0 where something is.
        """
        scores = scores.float() if scores.dtype in (torch.float16, torch.bfloat16) else scores
        losses, counts = [], []
        for image, classes in zip(scores, labels.long(), strict=True):
            counts.append(float((classes != unlabelled).any()))
            # The zero keeps its graph: every process of a training goes back through every image.
            losses.append(self._of(image, classes) if counts[-1] else image.sum() * 0)
        return torch.stack(losses), torch.tensor(counts, device=scores.device, dtype=scores.dtype)

    def _of(self, scores: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(scores.device.type, enabled=False):
            return self.loss(scores, labels)

    def _try_out(self, classes: int, device: torch.device) -> None:
        """Refuse now what would fail in the first step."""
        labels = torch.arange(classes, device=device).repeat(4, 1)
        labels[-1] = UNLABELLED
        scores = torch.zeros(classes, *labels.shape, device=device, requires_grad=True)
        found = self._of(scores, labels)
        if not isinstance(found, Tensor) or found.dim() or not found.isfinite() or not found.requires_grad:
            shown = found.tolist() if isinstance(found, Tensor) else type(found).__name__
            raise ModelError(
                f"loss {self.name}: gives {shown} for an image of equal scores. Needed one finite number, as a tensor "
                "that a gradient goes back from."
            )
