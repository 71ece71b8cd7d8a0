"""`wsi-deform --version`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from wsi_deform.provenance import git_state


def version_text() -> str:
    """Which program runs: its version alone in the first line, for programs; then what a report of a fault needs."""
    git = git_state()
    lines = [f"wsi-deform {_version('wsi-deform')}"]
    if git is not None:
        lines.append(f"commit {git['commit']}{' (changed)' if git['changed'] else ''}")
    lines += [
        f"Python {platform.python_version()}",
        f"torch {_version('torch')}",
        f"platform {platform.platform()}",
    ]
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"
