"""Many processes that train one model: all that they say to each other is here.

``torchrun`` starts the processes and numbers them in the environment. Each works on its share of every batch; gradients
are averaged by ``DistributedDataParallel``, batch normalisation sees the whole batch, and process 0 alone writes. Every
process reads the run folder and the slides, so these lie where all can see them.

Convention:
    A step of N processes with b fields each is a step of one process with N * b fields, up to float rounding.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from wsi_deform.errors import TrainingError

TIMEOUT_VARIABLE = "WSI_DEFORM_RANKS_TIMEOUT_S"
TIMEOUT_S = 1800.0  # longer than the slowest process validates while the others wait
# How torch's back ends begin to say that another process is gone or silent: they raise plain RuntimeErrors.
LOST = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "broken pipe")

_Sequence = TypeVar("_Sequence", bound=Sequence[Any])


@dataclass(slots=True, kw_only=True)
class Ranks:
    """The processes of a run; one alone is the usual case, and then nothing here costs anything.

    Attributes:
        rank: Number of this process, from 0.
        world: Number of processes.
        device: Where this process computes.
        counted: Whether what the networks see now counts in batch normalisation, see ``data.batches.Share``.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = torch.device("cpu")
    counted: bool = True

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def share(self, whole: _Sequence) -> _Sequence:
        """Every ``world``-th element: this process's part of work that each element is alone."""
        return whole[self.rank :: self.world]  # type: ignore[return-value]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes of a tensor that carries no gradient; the same in all of them, to the bit.

        Args:
            values: Of any shape, (...), the same in all processes.

        Returns:
            (...) as given, on the device of ``values``.
        """
        if self.world == 1:
            return values
        total = values.detach().to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(values.device)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return flag if self.world == 1 else bool(self.sum(torch.tensor(int(flag))))

    def gather(self, value: Any) -> list[Any]:
        """What every process says, in their order; plain data."""
        if self.world == 1:
            return [value]
        said: list[Any] = [None] * self.world
        dist.all_gather_object(said, value)
        return said

    @contextlib.contextmanager
    def counting(self, counted: bool) -> Iterator[None]:
        """What networks see inside counts in batch normalisation, or not."""
        before, self.counted = self.counted, counted
        try:
            yield
        finally:
            self.counted = before


@contextlib.contextmanager
def joined_ranks(device: str) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` started, or be one alone.

    Args:
        device: Name of the device, of ``networks.device.device_name``. On CUDA each process takes the GPU of its
            LOCAL_RANK, whatever number the name has; with several processes a number would be one GPU for all.

    Yields:
        The processes, for as long as the block lasts.

    Raises:
        TrainingError: The environment or the device does not fit several processes, they did not find each
            other, or one was lost while the others waited for it. Waiting ends after ``WSI_DEFORM_RANKS_TIMEOUT_S``
            seconds (default 1800); a process that died is noticed at once.
    """
    world = _number("WORLD_SIZE", 1)
    if world == 1:
        yield Ranks(device=torch.device(device))
        return
    rank, local = _number("RANK", 0), _number("LOCAL_RANK", 0)
    if device == "mps":
        raise TrainingError(f"device mps with {world} processes: needed cuda or cpu. Start one process.")
    cuda = torch.device(device).type == "cuda"
    if cuda and local >= torch.cuda.device_count():
        raise TrainingError(
            f"process {rank} of {world}: {torch.cuda.device_count()} GPUs here, needed {local + 1}. "
            "Give torchrun a smaller --nproc-per-node, or set device=cpu."
        )
    if cuda:
        torch.cuda.set_device(local)
    ranks = Ranks(rank=rank, world=world, device=torch.device("cuda", local) if cuda else torch.device("cpu"))
    with _lost_ranks(ranks):
        dist.init_process_group(
            "nccl" if cuda else "gloo",
            timeout=datetime.timedelta(seconds=_number(TIMEOUT_VARIABLE, TIMEOUT_S)),
        )
        try:
            yield ranks
        finally:
            dist.destroy_process_group()


def distributed(module: nn.Module, ranks: Ranks) -> nn.Module:
    """The module whose backward pass averages gradients over the processes; itself for one process.

    Args:
        module: Returns a loss. Its parameters start as process 0 has them; those that can never get a gradient must
            not require one, see ``without_idle_parameters``.
        ranks: The processes.
    """
    if ranks.world == 1:
        return module
    return DistributedDataParallel(module)


def without_idle_parameters(network: nn.Module, image: Tensor) -> nn.Module:
    """Stop asking for gradients of parameters that scores do not depend on: DDP would wait for them for ever.

    Args:
        network: Changed in place.
        image: (1, C, H, W), anything that it can see.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    training = network.training
    network.eval()
    gradients = torch.autograd.grad(network(image).sum(), parameters, allow_unused=True)
    network.train(training)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    return network


def synchronise_batch_norm(network: nn.Module, ranks: Ranks) -> None:
    """Let every batch normalisation of a network see what all processes see.

    Args:
        network: Changed in place; names and values of parameters stay.
        ranks: The processes; nothing changes for one alone.
    """
    if ranks.world == 1:
        return
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, _BatchNorm):
                setattr(parent, name, RanksBatchNorm(layer, ranks))


class RanksBatchNorm(nn.Module):
    """Batch normalisation over the batch of all processes.

    ``torch.nn.SyncBatchNorm`` refuses tensors on the CPU, and cannot leave out a process whose share of the batch is
    empty; this one does the same on CPU and CUDA.

    Args:
        layer: The layer whose parameters and buffers it takes over, under the same names.
        ranks: The processes; ``ranks.counted`` says whether this one's input counts.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, layer: _BatchNorm, ranks: Ranks) -> None:
        super().__init__()
        self.eps, self.momentum, self.ranks = layer.eps, layer.momentum, ranks
        self.register_parameter("weight", layer.weight)
        self.register_parameter("bias", layer.bias)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(layer, name))
        self.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, ...) per channel.

        Convention:
            One value in all processes together is normalised by the running statistics, as
            ``networks.layers.BatchNorm`` does.
        """
        if not self.training and self.running_mean is not None:
            return self._by_running(input)
        mean, variance, count = batch_statistics(input, self.ranks)
        values = float(count)
        if values <= 1 and self.running_mean is not None:
            return self._by_running(input)
        if self.training and self.running_mean is not None:
            self._remember(mean, variance, values)
        normal: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            input, mean, variance, count, self.eps, self.ranks
        )
        if self.weight is not None:
            normal = normal * _per_channel(self.weight, input).to(normal.dtype)
        if self.bias is not None:
            normal = normal + _per_channel(self.bias, input).to(normal.dtype)
        return normal

    def _by_running(self, input: Tensor) -> Tensor:
        return F.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, values: float) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = variance * (values / (values - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def batch_statistics(values: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance per channel over all processes, (C,), and the number of values of a channel, (1,).

    Args:
        values: (B, C, ...).
        ranks: The processes; where ``counted`` is False the values here are left out.

    Returns:
        Mean (C,) and variance (C,) in float32 or better, the number (1,) in float64.
    """
    own = _at_least_float32(values.detach())
    axes = [axis for axis in range(own.dim()) if axis != 1]
    variance, mean = torch.var_mean(own, axes, correction=0)
    # Double precision: the mean of squares less the square of the mean loses half of the digits.
    mean, variance = mean.double(), variance.double()
    count = torch.full_like(mean[:1], own.numel() // own.shape[1] if ranks.counted else 0)
    sums = ranks.sum(torch.cat((count, count * mean, count * (variance + mean.square()))))
    count, channels = sums[:1], own.shape[1]
    mean, squares = sums[1 : channels + 1] / count, sums[channels + 1 :] / count
    return mean.to(own.dtype), (squares - mean.square()).clamp_min(0).to(own.dtype), count


class _Normalise(Function):
    """``(x - mean) / sqrt(variance + eps)`` where mean and variance are those of all processes' x."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, mean: Tensor, variance: Tensor, count: Tensor, eps: float, ranks: Ranks
    ) -> Tensor:
        scale = torch.rsqrt(variance + eps)
        normal = (_at_least_float32(x) - _per_channel(mean, x)) * _per_channel(scale, x)
        ctx.save_for_backward(normal, scale, count)
        ctx.ranks, ctx.counted, ctx.dtype = ranks, ranks.counted, x.dtype  # type: ignore[attr-defined]
        return normal.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        normal, scale, count = ctx.saved_tensors
        gradient = _at_least_float32(gradients[0])
        axes = [axis for axis in range(gradient.dim()) if axis != 1]
        # Mean and variance carry every process's gradient back to every value that they were taken from.
        through = torch.cat((gradient.sum(axes), (gradient * normal).sum(axes))).double()
        shift, stretch = (ctx.ranks.sum(through) / count).to(gradient.dtype).chunk(2)
        if ctx.counted:
            gradient = gradient - _per_channel(shift, gradient) - normal * _per_channel(stretch, gradient)
        return (gradient * _per_channel(scale, gradient)).to(ctx.dtype), None, None, None, None, None


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """(C,) as (1, C, 1, ...)."""
    return values.view(1, -1, *[1] * (like.dim() - 2))


@contextlib.contextmanager
def _lost_ranks(ranks: Ranks) -> Iterator[None]:
    """Say what it means when torch finds another process gone."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not isinstance(error, dist.DistError) and not any(word in reason.lower() for word in LOST):
            raise
        raise TrainingError(
            f"process {ranks.rank} of {ranks.world}: another process was lost or silent for too long: {reason}. Needed "
            "all of them. The checkpoint in the run folder is whole: look at what the lost one said, then start all "
            "again to go on from it."
        ) from error


def _number(name: str, default: Any) -> Any:
    """A number of the environment."""
    text = os.environ.get(name, "")
    try:
        return type(default)(text) if text else default
    except ValueError as error:
        raise TrainingError(f"{name}={text!r} in the environment: needed a number.") from error
