"""What `wsi-deform doctor` measured: which runtime is the fastest on this processor.

Nothing that is slow is imported here.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from wsi_deform.files import write_json
from wsi_deform.runtime.choice import RuntimeName, missing, package_version
from wsi_deform.texts import read_json

FORMAT = "wsi-deform runtimes 1"
NAME = "runtimes.json"
#: Another runtime than torch is chosen where it takes at most so much of torch's time.
MAX_SHARE = 0.9
RUNTIMES: tuple[RuntimeName, ...] = ("torch", "openvino", "onnx")


def measured_file() -> Path:
    """Where the measurement lies: in the user's cache folder."""
    from wsi_deform.slide.levels.cache_folder import CACHE

    return CACHE.folder / NAME


def circumstances() -> dict[str, Any]:
    """What a measurement holds for: processor, cores, and versions of all runtimes."""
    versions = {name: None if missing(name) else package_version(name) for name in RUNTIMES}
    return {"processor": processor_name(), "cores": os.cpu_count(), "versions": versions}


def write_measured(seconds: Mapping[RuntimeName, float]) -> Path:
    """Keep a measurement.

    Args:
        seconds: Runtime -> processor time of one pass of the same network over the same image.

    Returns:
        The file.

    Raises:
        OSError: The cache folder cannot be written.
    """
    path = measured_file()
    write_json(path, {"format": FORMAT, **circumstances(), "seconds": dict(seconds)})
    return path


def fastest_runtime() -> RuntimeName:
    """The runtime that was measured to be the fastest here by at least 10 %.

    Returns:
        torch where none is, where nobody measured, or where the processor or a version is another by now.
    """
    try:
        found = read_json(measured_file())
    except (OSError, ValueError):
        return "torch"
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return "torch"
    if any(found.get(key) != value for key, value in circumstances().items()):
        return "torch"
    seconds = found.get("seconds")
    return fastest_of(seconds) if isinstance(seconds, dict) else "torch"


def fastest_of(seconds: Mapping[Any, Any]) -> RuntimeName:
    """The fastest of measured runtimes, or torch where it wins by less than 10 %."""
    known = {
        name: float(seconds[name])
        for name in RUNTIMES
        if isinstance(seconds.get(name), int | float) and seconds[name] > 0
    }
    if "torch" not in known:
        return "torch"
    best = min(known, key=lambda name: known[name])
    return best if known[best] <= MAX_SHARE * known["torch"] else "torch"


def processor_name() -> str:
    """What this machine calls its processor; empty where it does not say."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
