"""What computes networks fastest on this processor: measured with a small network, and kept for `segment`."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from wsi_deform.doctor.finding import Finding, Remark, tried

TOPIC = "runtimes"
#: Channels and image of the small network: those of HRNetV2-W18's branches, where most of the time goes.
CHANNELS, BLOCKS, IMAGE = (18, 36, 72, 144), 3, (64, 256)
ROUNDS = 7

Pass = Callable[[], object]


def runtime_findings() -> Iterator[Finding]:
    """Measure the runtimes that are installed, one thread or as many as torch is told, and keep the answer."""
    remedy = "Use --runtime torch; if packages were changed, install them anew."
    yield tried(TOPIC, "fastest", measured_text, remedy=remedy, otherwise="remark")


def measured_text() -> str:
    """Measure, keep and say it.

    Raises:
        Remark: The answer cannot be kept.
        WsiDeformError: A runtime computes something else than torch.
    """
    from wsi_deform.runtime.choice import missing
    from wsi_deform.runtime.measured import RUNTIMES, fastest_of, write_measured

    known = [name for name in RUNTIMES if not missing(name)]
    if known == ["torch"]:
        return 'torch alone is installed; OpenVINO is often faster: pip install "wsi-deform[openvino]", then this again'
    with tempfile.TemporaryDirectory(prefix="doctor-runtimes-", ignore_cleanup_errors=True) as folder:
        seconds = measured_seconds(passes(known, Path(folder)))
    best = fastest_of(seconds)
    said = ", ".join(f"{name} {1000 * each:.0f} ms" for name, each in seconds.items())
    text = f"{said} of processor time for one pass of a small network; `segment --runtime auto` takes {best}"
    try:
        write_measured(seconds)
    except OSError as error:
        raise Remark(
            f"{said}; not kept, so that `--runtime auto` stays torch ({error.strerror or error})",
            "Make room, or set WSI_DEFORM_CACHE to a folder that can be written.",
        ) from error
    return text


def measured_seconds(made: Mapping[Any, Pass], *, rounds: int = ROUNDS) -> dict[Any, float]:
    """Processor time of one pass of each, s: the median of rounds in which each has its turn.

    Args:
        made: Name -> one pass.
        rounds: How many count; one more goes before.
    """
    times: dict[Any, list[float]] = {name: [] for name in made}
    for number in range(rounds + 1):
        for name, run in made.items():
            started = time.process_time()
            run()
            if number:
                times[name].append(time.process_time() - started)
    return {name: statistics.median(each) for name, each in times.items()}


def passes(names: list[Any], folder: Path) -> dict[Any, Pass]:
    """One pass of the small network in each runtime; what they compute is compared first.

    Args:
        names: Of runtimes.
        folder: An empty folder for the network's files.
    """
    import torch

    from wsi_deform.geometry import Size
    from wsi_deform.runtime.parts import Outputs
    from wsi_deform.runtime.prepared import compare, kind_of

    network = small_network()
    image = torch.rand(1, 3, *IMAGE, generator=torch.Generator().manual_seed(0))
    faster = small_network().to(memory_format=torch.channels_last)

    def by_torch() -> object:
        with torch.no_grad():
            return faster(image)

    found: dict[Any, Pass] = {}
    for name in names:
        if name == "torch":
            found[name] = by_torch
            continue
        kind, part = kind_of(name), Outputs(network).eval()
        path = folder / f"{name}{kind.SUFFIX}"
        kind.written(part, path, channels=3, size=Size(IMAGE[1], IMAGE[0]))
        engine = kind.Engine(path, threads=torch.get_num_threads())
        compare(part, engine, "of doctor", name, channels=3)
        found[name] = partial(engine, image.numpy())
    return found


def small_network() -> Any:
    """Branches of four widths at four scales, which meet at the end; always with the same weights."""
    import torch

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        branches = [_branch(width, 2 << number) for number, width in enumerate(CHANNELS)]
        network = torch.nn.Sequential(_joined(branches), torch.nn.Conv2d(sum(CHANNELS), 3, 1))
    return network.eval().requires_grad_(False)


def _branch(width: int, stride: int) -> Any:
    from torch import nn

    layers: list[Any] = [nn.Conv2d(3, width, 3, stride=stride, padding=1), nn.ReLU()]
    for _ in range(2 * BLOCKS):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def _joined(branches: list[Any]) -> Any:
    """A module of branches, each resized to the first and put beside it."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            first, *others = [branch(image) for branch in self.branches]
            size = (first.shape[2], first.shape[3])
            resized = [
                functional.interpolate(each, size=size, mode="bilinear", align_corners=False)
                for each in others
            ]
            return torch.cat([first, *resized], dim=1)

    return Joined()
