"""The bounds of pyproject.toml are versions that were tested: those of requirements-oldest.lock."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINTERS = {"import-linter", "mypy", "ruff"}  # `make lint` runs with requirements.lock alone


def bounds() -> list[tuple[str, str]]:
    file = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = {*file["build-system"]["requires"], *file["project"]["dependencies"]}
    for extra in ("remote", "dev"):  # onnx asks for a torch of its own
        wanted.update(file["project"]["optional-dependencies"][extra])
    split = [(name, lowest) for name, _, lowest in (one.partition(">=") for one in sorted(wanted))]
    return [(name, lowest) for name, lowest in split if name not in LINTERS and not name.startswith("types-")]


def pins(lock: str) -> dict[str, str]:
    lines = (ROOT / lock).read_text().splitlines()[1:]
    return {
        name.lower().replace("_", "-"): version for name, _, version in (one.partition("==") for one in lines)
    }


def numbers(version: str) -> list[int]:
    """3.21.2 -> [3, 21, 2]; a final 0 says nothing."""
    found = [int(one) for one in version.split(".")]
    while found[-1] == 0:
        found.pop()
    return found


@pytest.mark.parametrize(("name", "lowest"), bounds())
def test_lowest_version_is_the_one_that_the_oldest_lock_has(name: str, lowest: str):
    assert numbers(pins("requirements-oldest.lock")[name]) == numbers(lowest)


def test_bounds_of_build_runtime_remote_and_tests_are_checked():
    assert {"setuptools", "torch", "zarr", "aiohttp", "pytest", "shapely"} <= {name for name, _ in bounds()}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-oldest.lock"])
def test_locks_pin_exact_versions_without_an_index_or_cuda(lock: str):
    text = (ROOT / lock).read_text()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line) for line in text.splitlines()[1:])
    assert not re.search(r"^(nvidia|cuda|triton)|://|\+cpu", text, re.MULTILINE)
