"""An average of the weights over the steps, which often generalises better than the newest weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from wsi_deform.model import Model


class WeightAverage:
    """An exponential moving average of a model's weights.

    Args:
        model: The model, where it is trained; the average starts from its weights.
        decay: What the average keeps of itself in each step, 0 to 1.

    Convention:
        Early steps keep less, ``min(decay, (1 + t) / (10 + t))`` after t updates, so that the first weights are
        soon forgotten. Buffers (BatchNorm's running statistics) are the model's own, never averaged.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.model = model
        self.decay = decay
        self.updates = torch.zeros((), dtype=torch.int64)
        # One entry per tensor, also where a network holds one under two names.
        self.weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's weights after a step."""
        done = int(self.updates)
        kept = min(self.decay, (1 + done) / (10 + done))
        newest = [weight.detach() for _, weight in self.model.named_parameters()]
        average = get_ema_multi_avg_fn(kept)  # type: ignore[no-untyped-call]
        average(list(self.weights.values()), newest, None)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within, the model has the averaged weights; afterwards its own again, bit for bit."""
        own = {name: weight.detach().clone() for name, weight in self.model.named_parameters()}
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(own)

    def tensors(self) -> dict[str, Tensor]:
        """All its state, by name; what is copied into these tensors is its state from then on.

        Returns:
            ``average_updates``, a scalar, and ``average.NAME`` in the shape of each parameter of the model.
        """
        return {"average_updates": self.updates} | {
            f"average.{name}": weight for name, weight in self.weights.items()
        }

    @torch.no_grad()
    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, weight in self.model.named_parameters():
            weight.copy_(weights[name])
