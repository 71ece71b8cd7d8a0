"""Where an output came from: which program, versions, configuration, seed and command made it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from wsi_deform.plugins import loaded_plugins
from wsi_deform.redact import redacted_data

RECORDED_PACKAGES = (
    "torch",
    "numpy",
    "monai",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "imagecodecs",
)
GIT_TIMEOUT_S = 5.0


def provenance(
    command: Sequence[str] | str | None = None, config: object = None, seed: int | None = None
) -> dict[str, Any]:
    """Describe the program that is running, without importing anything heavy.

    Args:
        command: What was asked for; default: the arguments of this process. Passwords and signatures of URLs in
            it are left out.
        config: Configuration whose hash identifies the run: plain data, or anything JSON can hold once
            its odd values are turned into text.
        seed: Seed of the run, if it has one.

    Returns:
        Plain data for JSON: package, Python, torch and other versions, platform, git state (None outside
        a checkout), SHA-256 of the configuration, seed, UTC time, command; the packages of plug-ins, where any were
        run in this process.
    """
    plugins = {each.package: each.version for each in loaded_plugins()}
    if command is None:
        command = list(sys.argv)
    return {
        "wsi_deform": _version("wsi-deform"),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "packages": {name: _version(name) for name in RECORDED_PACKAGES},
        **({"plugins": plugins} if plugins else {}),
        "platform": platform.platform(),
        "git": git_state(),
        "config_sha256": None if config is None else config_sha256(config),
        "seed": seed,
        "time_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": redacted_data(command if isinstance(command, str) else [str(part) for part in command]),
    }


def config_sha256(config: object) -> str:
    """SHA-256 of a configuration, the same for the same content whatever the order of its keys."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def git_state(folder: Path | str | None = None) -> dict[str, Any] | None:
    """Commit of the checkout that the package runs from, and whether tracked files differ from it.

    Args:
        folder: Where to look; default: the folder of the package.

    Returns:
        ``{"commit": ..., "changed": ...}``, or None outside a checkout of this package, without git, or
        before the first commit: an installed package in somebody's repository is not that repository.
    """
    source = Path(__file__).resolve().parent if folder is None else Path(folder)
    tracked = _git(source, "ls-files", "--error-unmatch", Path(__file__).name) if folder is None else ""
    commit = _git(source, "rev-parse", "HEAD")
    if tracked is None or commit is None:
        return None
    changed = _git(source, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": bool(changed)}


def _version(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """What a git command prints, or None when it cannot be run or fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=GIT_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
