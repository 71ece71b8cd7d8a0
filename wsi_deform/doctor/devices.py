"""What there is to compute with: processors as the container allows, memory, GPUs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path
from typing import Any

from wsi_deform.doctor.finding import Finding, Remark, tried
from wsi_deform.runtime.measured import processor_name

TOPIC = "devices"
GIB = 1 << 30
# Less than a model, a slide's caches and torch itself take.
LEAST_MEMORY_GIB = 2.0
CGROUP = Path("/sys/fs/cgroup")
NVIDIA = Path("/dev/nvidiactl")
VARIABLES = (
    "WSI_DEFORM_",
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "NUMBA_",
    "CUDA_",
    "NVIDIA_",
    "DASK_",
    "PYTORCH_",
    "TORCH_",
)
SECRET = re.compile("KEY|SECRET|TOKEN|PASS", re.IGNORECASE)
SLOW = ("DEFAULT", "NO AVX")


def device_findings() -> Iterator[Finding]:
    """Say what torch computes with, and compute a little on each device."""
    yield tried(TOPIC, "processor", _processor)
    yield tried(TOPIC, "threads", _threads)
    yield tried(TOPIC, "memory", _memory)
    yield tried(TOPIC, "cpu", lambda: _computed("cpu"), remedy="pip install --force-reinstall torch")
    yield tried(
        TOPIC, "cuda", _cuda, remedy="Look whether nvidia-smi works, and at what it says of the driver."
    )
    yield tried(TOPIC, "mps", _mps)
    yield tried(TOPIC, "variables", _variables)


def allowed_cores() -> float:
    """Cores that this process may use: what the system gives it, and what its container's quota allows."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = float(len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1)
    return min(cores, _quota())


def allowed_memory_bytes() -> int:
    """Memory that this process may use: the machine's, and what its container's limit allows."""
    import psutil

    found = int(psutil.virtual_memory().total)
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max" is no limit
            found = min(found, int((CGROUP / name).read_text(encoding="ascii")))
    return found


def _quota() -> float:
    """Cores that the quota of a container allows; infinite where there is none."""
    with suppress(OSError, ValueError):  # "max" is no quota
        quota, period = (CGROUP / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota_us = int((CGROUP / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period_us = int((CGROUP / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii"))
        if quota_us > 0:
            return quota_us / period_us
    return float("inf")


def _processor() -> str:
    import torch

    name, machine = processor_name(), platform.machine()
    features = str(torch.backends.cpu.get_cpu_capability())
    text = f"{name or machine}, {machine}, torch uses {features}"
    if features in SLOW and machine.lower() in ("x86_64", "amd64"):
        raise Remark(text, "Without AVX2 networks are several times slower: does a virtual machine hide it?")
    return text


def _threads() -> str:
    import torch

    cores, used = allowed_cores(), torch.get_num_threads()
    text = f"{os.cpu_count()} cores, {cores:g} allowed, torch uses {used} thread{'s' * (used != 1)}"
    if used > ceil(cores):
        raise Remark(
            text, f"Threads that wait for each other are slower: set OMP_NUM_THREADS={max(1, int(cores))}."
        )
    return text


def _variables() -> str:
    """Which variables are set that change how this program and its packages work; values that are numbers only."""
    said = []
    for name, value in sorted(os.environ.items()):
        if name.startswith(VARIABLES) and not SECRET.search(name):
            said.append(f"{name}={value}" if re.fullmatch(r"[0-9.,]+", value) else name)
    return f"set: {', '.join(said)}" if said else "none is set that matters"


def _memory() -> str:
    import psutil

    allowed_gib = allowed_memory_bytes() / GIB
    free_gib = min(allowed_gib, psutil.virtual_memory().available / GIB)
    text = f"{allowed_gib:.1f} GiB allowed, {free_gib:.1f} GiB free"
    if free_gib < LEAST_MEMORY_GIB:
        raise Remark(
            text, f"Set --memory-gib, and close other programs: {LEAST_MEMORY_GIB:g} GiB are a start."
        )
    return text


def _cuda() -> str:
    import torch

    built = torch.version.cuda
    if not torch.cuda.is_available():
        if not NVIDIA.exists():
            return f"no NVIDIA GPU; torch was built {f'with CUDA {built}' if built else 'without CUDA'}"
        if built:
            raise Remark(
                f"an NVIDIA driver is there, but torch with CUDA {built} finds no GPU",
                "Look whether nvidia-smi works and its driver is new enough for this CUDA; see also "
                "CUDA_VISIBLE_DEVICES, and --gpus of docker run.",
            )
        raise Remark(
            "an NVIDIA driver is there, but torch was built without CUDA",
            "Install torch for CUDA, see PyTorch's page Get Started.",
        )
    said = []
    for number in range(torch.cuda.device_count()):
        about: Any = torch.cuda.get_device_properties(number)
        _computed(f"cuda:{number}")
        said.append(f"{number}: {about.name}, {about.total_memory / GIB:.0f} GiB")
    return f"{'; '.join(said)}; CUDA {built}; computed as the processor does"


def _mps() -> str:
    import torch

    if not torch.backends.mps.is_available():
        return "no GPU of Apple"
    return _computed("mps")


def _computed(device: str) -> str:
    """Convolve a little there, and compare with what must come out."""
    import torch

    image = torch.arange(36, dtype=torch.float32).reshape(1, 1, 6, 6)
    kernel = torch.ones(1, 1, 3, 3)
    found = torch.nn.functional.conv2d(image.to(device), kernel.to(device)).cpu()
    # The sum of 3 x 3 neighbours of a ramp is nine times the middle one.
    if not torch.allclose(found, 9 * image[..., 1:-1, 1:-1], rtol=1e-3):
        raise ValueError(f"a convolution on {device} comes out wrong")
    return "computes as it should"
