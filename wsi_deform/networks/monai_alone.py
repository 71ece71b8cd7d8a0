"""One network of MONAI without the rest of MONAI.

``import monai`` runs all of its files, which load matplotlib, scipy.signal, scikit-image and more: two seconds for a
network whose own files take a fortieth of one. Here the ``__init__`` of a package is read instead of run: it says in
which file each name is defined, and only the files that are asked for run.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_MONAI = "monai"
_NETS = "monai.networks.nets"
# What a MONAI of another version may answer to being read in parts.
_MISFITS = (ImportError, AttributeError, NameError, TypeError, SyntaxError, OSError)
_ALONE: ContextVar[bool] = ContextVar("_ALONE", default=False)


@contextmanager
def networks_alone() -> Iterator[None]:
    """Inside, ``nets_class`` loads no more of MONAI than a network needs: for models that are only to be run."""
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def nets_class(name: str) -> Any:
    """What ``monai.networks.nets`` has under a name, or None.

    Convention:
        Alone or with all of MONAI it is the same code. Where MONAI is loaded already, or cannot be read in parts, it
        comes from all of it; what was loaded alone is not left for a later ``import monai`` to find.
    """
    if _ALONE.get() and _MONAI not in sys.modules:
        try:
            with _unrun_packages():
                return getattr(importlib.import_module(_NETS), name)
        except _MISFITS:
            pass  # all of MONAI decides whether the name, or MONAI itself, is wrong
    return getattr(importlib.import_module(_NETS), name, None)


@contextmanager
def _unrun_packages() -> Iterator[None]:
    """MONAI's packages are read and not run, and afterwards forgotten with all of their modules."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for loaded in [each for each in sys.modules if _is_monai(each)]:
            del sys.modules[loaded]


class _Finder(MetaPathFinder):
    """Finds MONAI's packages for ``_Unrun``, and its modules as ever."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``MetaPathFinder``."""
        found = PathFinder.find_spec(fullname, path) if _is_monai(fullname) else None
        if found is None or found.submodule_search_locations is None:
            return found
        unrun = ModuleSpec(fullname, _Unrun(), origin=found.origin, is_package=True)
        unrun.submodule_search_locations = found.submodule_search_locations
        return unrun


class _Unrun(Loader):
    """Makes packages that import what they import when it is asked for."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """See ``Loader``."""
        return _Package(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Note where each name that the ``__init__`` imports comes from."""
        spec = module.__spec__
        if spec is None or spec.origin is None:
            raise ImportError(f"{module.__name__}: a package without a file")
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        module.__dict__["_homes"] = {
            each.asname or each.name: ("." * node.level + (node.module or ""), each.name)
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for each in node.names
        }


class _Package(ModuleType):
    """A package whose ``__init__`` did not run."""

    def __getattr__(self, name: str) -> Any:
        home = self.__dict__.get("_homes", {}).get(name)
        if home is None:
            raise AttributeError(f"{self.__name__} imports no {name}")
        found = getattr(importlib.import_module(home[0], self.__name__), home[1])
        setattr(self, name, found)
        return found


def _is_monai(name: str) -> bool:
    return name == _MONAI or name.startswith(f"{_MONAI}.")
