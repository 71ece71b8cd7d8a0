"""Plug-ins: what installed packages add to this program under names of their own.

A package names a function without arguments as an entry point of the group ``wsi_deform.plugins``; the function calls
``add_network``, ``add_reader`` and their like. Plug-ins are run where a name or a file is not known without them, all
of them, once per process: so child processes and workers know what their parent knows, and a start that needs none
does not even look for them.

Convention:
    Which plug-ins there are is said by what is installed, and by nothing else. A model, configuration or slide that
    names something unknown has them run, all alike; it cannot say which, nor name code.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import threading
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import TypeVar

from wsi_deform.errors import PluginError

GROUP = "wsi_deform.plugins"
"""Of the entry points."""
STORED = "stored"
"""Key of the context in which the configuration of a stored model is validated: what only training needs may be that of
a plug-in which is not installed here."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plug-in that was run.

    Attributes:
        name: Of its entry point.
        package: Name of the distribution that it is of, and
        version: its version; "" where its metadata do not say.
        target: "module:function", as the entry point has it.
        problem: Why it did not run to its end; empty where it did.
    """

    name: str
    package: str
    version: str
    target: str
    problem: str = ""

    @property
    def title(self) -> str:
        """Which it is, in words that begin a sentence."""
        return f"Plug-in {self.name} of {f'{self.package} {self.version}'.strip()} ({self.target})"


class _Plugins:
    """The plug-ins of this process. Safe in threads; a forked child keeps what is loaded."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Plugin] = {}
        self._is_done = False
        self.renew_lock()

    def renew_lock(self) -> None:
        """A lock of its own for a forked child, whose parent's may be held by a thread that it does not have."""
        # A plug-in may itself ask for a name that is not known.
        self._lock = threading.RLock()
        self._is_loading = False

    @property
    def found(self) -> tuple[Plugin, ...]:
        """Those that were run by now."""
        return tuple(self._found.values())

    def load(self) -> tuple[Plugin, ...]:
        """Run those that are installed, unless that is done."""
        if self._is_done:
            return self.found
        with self._lock:
            if self._is_done or self._is_loading:
                return self.found
            self._is_loading = True
            try:
                for entry in sorted(importlib.metadata.entry_points(group=GROUP)):
                    package, version = _distribution_of(entry)
                    key = (package, entry.name, entry.value)
                    # What an interrupt kept from running is run the next time, and nothing twice.
                    if key not in self._found:
                        self._found[key] = _run(entry, package, version)
                self._is_done = True
            finally:
                self._is_loading = False
        return self.found


_PLUGINS = _Plugins()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_PLUGINS.renew_lock)


def load_plugins() -> tuple[Plugin, ...]:
    """Run all plug-ins that are installed and were not yet run in this process.

    Returns:
        All of them, also those that failed; one that fails is warned of once, and stops nothing else.
    """
    return _PLUGINS.load()


def loaded_plugins() -> tuple[Plugin, ...]:
    """The plug-ins that were run in this process by now; runs none."""
    return _PLUGINS.found


def is_known(name: str, place: Mapping[str, object]) -> bool:
    """Whether a name is known, if need be after plug-ins have added theirs.

    Args:
        name: What was asked for.
        place: What is known by name; plug-ins add to it.
    """
    if name not in place:
        load_plugins()
    return name in place


def add_named(place: MutableMapping[str, _T], name: str, value: _T, *, kind: str) -> None:
    """Add something under a name that nobody has.

    Args:
        place: What is known by name.
        name: Its name.
        value: What it is; the same again under its name changes nothing.
        kind: What kind of thing it is, for the error: "network".

    Raises:
        PluginError: The name is no name, or something else has it.
    """
    if not isinstance(name, str) or not name.isprintable() or not name.strip() or name != name.strip():
        raise PluginError(
            f"{kind} {name!r}: no name. Needed a text without spaces around it, such as 'mine'. Name it so where it is "
            "added."
        )
    if name in place and place[name] != value:
        raise PluginError(
            f"{kind} {name!r}: there is one of that name, {_shown(place[name])}, other than {_shown(value)}. Needed a "
            "name of its own. Choose another, e.g. with the name of your package before it."
        )
    place[name] = value


def failed_plugins() -> str:
    """What the refusal of a file or name says of plug-ins that fail, as sentences after a space; "" where none does."""
    failed = (each for each in loaded_plugins() if each.problem)
    return "".join(
        f" {each.title} might know it, but fails: {each.problem}. Mend or uninstall it." for each in failed
    )


def plugin_hint() -> str:
    """What the refusal of a name says of plug-ins, as sentences after a space; to be called after they were run."""
    plugins = loaded_plugins()
    if not plugins:
        return " No plug-in is installed that might know it: where one had it, install that package here too."
    sound = sorted({f"{each.package} {each.version}".strip() for each in plugins if not each.problem})
    said = f" Installed plug-ins do not know it ({', '.join(sound)})." if sound else ""
    return said + failed_plugins()


def _distribution_of(entry: importlib.metadata.EntryPoint) -> tuple[str, str]:
    """Name and version of the package that an entry point is of."""
    if entry.dist is None:
        return "an unknown package", ""
    return entry.dist.name, entry.dist.version


def _run(entry: importlib.metadata.EntryPoint, package: str, version: str) -> Plugin:
    problem = ""
    try:
        entry.load()()
    # Code of others, of which nobody asked for this one: it shall not stop what does without it.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        problem = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".: ")
        _log.debug("plug-in %s of %s", entry.name, package, exc_info=True)
    plugin = Plugin(name=entry.name, package=package, version=version, target=entry.value, problem=problem)
    if problem:
        _log.warning("%s fails: %s. Mend or uninstall it.", plugin.title, problem)
    return plugin


def _shown(value: object) -> str:
    """What something is, in a few words."""
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    return f"{module}.{name}" if module and name else repr(value)[:80]
