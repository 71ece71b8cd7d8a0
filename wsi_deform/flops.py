"""Floating-point operations of segmenting a slide: both networks, the sampling grid and the interpolation."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from wsi_deform.cover import FieldBudget, windows_of
from wsi_deform.deform.lattice import lattice_size
from wsi_deform.geometry import Size
from wsi_deform.model import Model
from wsi_deform.networks.stand_in import has_stand_in, own_pass

MAX_SIZES = 4
"""Sizes of images that are counted exactly, per network and process: counting a network of many small layers takes
several times as long as its pass."""
CORNER_PX = 64
"""Sides of what is counted of a network that does not run: a multiple of these."""
WEIGHTS_FLOPS, CHANNEL_FLOPS = 6, 7
SAMPLE_FLOPS = WEIGHTS_FLOPS + 3 * CHANNEL_FLOPS
"""Bilinear interpolation: 1 - x, 1 - y and four products of a point; four products and three sums of a channel."""


class NetworkFlops:
    """Counts the operations of networks while they run; a context manager that may be entered again.

    Args:
        networks: Networks that take an image (B, channels, H, W); None is none.

    Attributes:
        total: Operations so far: what ``torch.utils.flop_counter`` has a formula for, which are convolutions, matrix
            products and attention; a multiplication and an addition are two. Normalisation layers, activations and
            resizing are not counted.

    Convention:
        The first pass of a size is counted operation by operation, later ones of that size are taken to be the same.
        Once a network was counted at four sizes in this process, a pass of another size is taken to cost as much per
        pixel as that of the size nearest in area, which is off by what padding and rounding add (HRNetV2: 6 % between
        64 x 64 and 226 x 48). Passes in any thread are counted.

        A network whose passes another runtime computes is counted as PyTorch would compute it: it does so once, for a
        corner of the first image, and all sizes follow by their areas.
    """

    def __init__(self, *networks: nn.Module | None) -> None:
        self.total = 0
        self._networks = [network for network in networks if network is not None]
        self._at_work = threading.local()
        self._lock = threading.Lock()
        self._hooks: list[Any] = []

    def __enter__(self) -> NetworkFlops:
        for network in self._networks:
            self._hooks.append(network.register_forward_pre_hook(self._begin))
            self._hooks.append(network.register_forward_hook(self._end, always_call=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _begin(self, network: nn.Module, given: tuple[Tensor, ...]) -> None:
        known = _KNOWN.setdefault(network, {})
        if has_stand_in(network):
            with self._lock:
                if not known:
                    corner = _corner(given[0])
                    known[tuple(corner.shape[1:])] = _counted(network, corner)
            return
        if tuple(given[0].shape[1:]) not in known and len(known) < MAX_SIZES:
            self._at_work.counter = _Counter()
            self._at_work.counter.__enter__()

    def _end(self, network: nn.Module, given: tuple[Tensor, ...], out: object) -> None:
        batch, shape = given[0].shape[0], tuple(given[0].shape[1:])
        known = _KNOWN.setdefault(network, {})
        counter = getattr(self._at_work, "counter", None)
        if counter is not None:
            counter.__exit__(None, None, None)
            self._at_work.counter = None
            if out is not None:
                known[shape] = counter.flops // batch
        with self._lock:
            self.total += batch * _flops_at(known, shape)


def _corner(images: Tensor) -> Tensor:
    """A small part of the first of (B, C, H, W), whole strides of it; all of it where it is small."""
    height, width = (
        min(side, max(CORNER_PX, side // 4 // CORNER_PX * CORNER_PX)) for side in images.shape[2:]
    )
    return images[:1, :, :height, :width].contiguous()


def _counted(network: nn.Module, image: Tensor) -> int:
    """Operations of PyTorch's own pass of one image."""
    counter = _Counter()
    with torch.no_grad(), counter:
        own_pass(network, image)
    return counter.flops


_KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], int]] = WeakKeyDictionary()


def _flops_at(known: Mapping[tuple[int, ...], int], shape: tuple[int, ...]) -> int:
    """Operations at a size, or by area from the nearest one; 0 after a pass that failed."""
    if shape in known or not known:
        return known.get(shape, 0)
    area = math.prod(shape)
    nearest = min(known, key=lambda each: abs(math.log(math.prod(each) / area)))
    return round(known[nearest] * area / math.prod(nearest))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the formulas of ``torch.utils.flop_counter``, whose own mode hooks into the modules of all threads."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Else torch hides the method below from its compiler, and imports that for it: 1.8 CPU s of every process.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # Resizing has no formula, and PyTorch takes it apart in Python: other rounding, and a second of imports.
        if func._overloadpacket not in flop_registry and not func.name().startswith("aten::upsample"):
            # Without autograd (inference mode) a convolution comes here whole, as an operation that has no formula.
            with self:
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.flops += int(formula(*args, **(kwargs or {}), out_val=out))
        return out


def sampling_flops(model: Model, budgets: Sequence[FieldBudget]) -> int:
    """Operations of placing and interpolating the samples of a slide.

    Args:
        model: The model.
        budgets: The fields of the slide.

    Returns:
        Operations: equation 3, or the interpolation of a lattice of positions, for the grid and for the areas of its
        cells, and bilinear interpolation of RGB.
    """
    sampling = model.config.sampling
    total = 0
    if model.has_blocks:
        for budget in budgets:
            read_px = model.layout(budget.size).read_pixels(windows_of(budget, model)) + budget.seen_px
            total += read_px * SAMPLE_FLOPS
        return total
    for budget in budgets:
        size, view = budget.size, model.map_size(budget.size)
        for points in (size, Size(size.width + 1, size.height + 1)):
            if model.has_lattice:
                total += lattice_flops(lattice_size(view, sampling.edge_lattice), points)
            else:
                total += grid_flops(view, points, warp_steps=sampling.warp_steps)
        # A resizer is given more than the sampled image.
        read = model.read_size(size, budget.field.region.size) or size
        total += sample_flops(read, readings=2 if sampling.level == "trilinear" else 1)
    return total


def grid_flops(view: Size, grid: Size, *, warp_steps: int = 1) -> int:
    """Operations of ``deform.grid.sampling_grid``: equation 3 as five matrix products, and further steps.

    Args:
        view: Size of the deformation map, px.
        grid: Size of the grid, points.
        warp_steps: How often the map is applied.
    """
    total = _pull_flops(view, grid)
    if warp_steps > 1:
        total += _pull_flops(view, Size(view.width + 1, view.height + 1))
        total += (warp_steps - 1) * grid.area * (WEIGHTS_FLOPS + 2 * CHANNEL_FLOPS)
    return total


def lattice_flops(lattice: Size, grid: Size) -> int:
    """Operations of ``deform.lattice.grid_of_lattice``: two matrix products for each of x and y.

    Args:
        lattice: Size of the lattice, positions.
        grid: Size of the grid, points.
    """
    down = 2 * grid.height * lattice.height * lattice.width
    across = 2 * grid.height * lattice.width * grid.width
    return 2 * (down + across)


def sample_flops(size: Size, *, readings: int = 1) -> int:
    """Operations of interpolating RGB at every sample of a sampled image, on one level or between two."""
    each = readings * (WEIGHTS_FLOPS + 3 * CHANNEL_FLOPS) + (readings - 1) * 3 * 3
    return size.area * each


def _pull_flops(view: Size, grid: Size) -> int:
    """D K_x^T and D M_x^T; then K_y, M_y and K_y again times what they give."""
    across = 2 * 2 * view.height * view.width * grid.width
    down = 3 * 2 * grid.height * view.height * grid.width
    return across + down
