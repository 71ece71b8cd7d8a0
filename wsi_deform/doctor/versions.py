"""Versions of this program and of the packages that it stands on, against those that it needs."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Iterator

from wsi_deform.doctor.finding import Finding, tried
from wsi_deform.provenance import git_state

TOPIC = "versions"
PACKAGE = "wsi-deform"
# Whose versions a report of a fault is read for; the others are only compared with what is needed.
SHOWN = (
    "torch", "numpy", "numba", "openslide-python", "openslide-bin", "tifffile", "imagecodecs", "isal", "pillow",
    "pydicom", "zarr", "fsspec", "dask", "distributed", "monai", "scikit-image", "scipy", "shapely", "typer",
)  # fmt: skip
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?>=([0-9.]+)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


def versions() -> dict[str, str]:
    """Name -> version of this program, Python and the packages that matter; those that are missing are left out."""
    found = {PACKAGE: version_of(PACKAGE), "python": platform.python_version()}
    found |= {name: version_of(name) for name in SHOWN}
    return {name: version for name, version in found.items() if version}


def version_findings() -> Iterator[Finding]:
    """Say which versions there are, and which are missing or older than needed."""
    yield tried(TOPIC, PACKAGE, _own)
    yield tried(TOPIC, "python", lambda: f"{platform.python_version()}, {platform.platform()}")
    found = versions()
    packages = ", ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
    yield Finding(topic=TOPIC, subject="packages", status="ok", text=packages)
    needed = lowest_versions("")
    if not needed:
        text = "not installed as a package: which versions it needs is not known"
        remedy = "Install it from its folder: pip install ."
        yield Finding(topic=TOPIC, subject="needed", status="remark", text=text, remedy=remedy)
        return
    yield from unsuitable(TOPIC, needed)


def unsuitable(topic: str, needed: dict[str, str], *, install: str = "") -> Iterator[Finding]:
    """A fault for each package that is missing or too old; one "ok" where there is none.

    Args:
        topic: Of the findings.
        needed: Package -> its lowest version.
        install: What to install; empty names the package.
    """
    wrong = []
    for name, lowest in needed.items():
        version = version_of(name)
        if version and numbers(version) >= numbers(lowest):
            continue
        text = f"{version} is there, {lowest} or newer is needed" if version else "is missing"
        remedy = install or f'pip install "{name}>={lowest}"'
        wrong.append(Finding(topic=topic, subject=name, status="fault", text=text, remedy=remedy))
    if wrong:
        yield from wrong
    else:
        text = f"all {len(needed)} packages are there and new enough"
        yield Finding(topic=topic, subject="needed", status="ok", text=text)


def lowest_versions(extra: str) -> dict[str, str]:
    """Package -> lowest version of what this program needs, or of what an extra of it adds.

    Args:
        extra: Name of an extra, empty for what is always needed.

    Returns:
        Nothing where the program is not installed, but run from its folder.
    """
    try:
        stated = importlib.metadata.requires(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found = {}
    for line in stated:
        requirement, _, marker = line.partition(";")
        named = _EXTRA.search(marker)
        if (named[1] if named else "") == extra and (bound := _REQUIREMENT.match(requirement.strip())):
            found[bound[1]] = bound[2]
    return found


def version_of(name: str) -> str:
    """The installed version of a package, or empty."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def numbers(version: str) -> list[int]:
    """The release of a version, comparable: 2.15.0a1+cu130 -> [2, 15]; a final 0 says nothing."""
    release = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    found = [int(part) for part in release[0].split(".")] if release else []
    while found and found[-1] == 0:
        found.pop()
    return found


def _own() -> str:
    git = git_state()
    commit = f", commit {git['commit'][:12]}{' (changed)' if git['changed'] else ''}" if git else ""
    return f"{version_of(PACKAGE) or 'not installed as a package'}{commit}"
