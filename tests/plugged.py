"""What is added to the program, out again after a test; and packages with plug-ins that are installed for one."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from wsi_deform import plugins
from wsi_deform.annotation.outlines import open as formats
from wsi_deform.deform import block_choices
from wsi_deform.networks import block_encoders, losses, registry
from wsi_deform.slide import added

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
PLACES = (
    (registry, "_NETWORKS"),
    (losses, "_LOSSES"),
    (block_encoders, "ENCODERS"),
    (block_encoders, "OPTIONS_OF"),
    (block_choices, "_CHOICES"),
    (formats, "_ADDED"),
    (added, "_READERS"),
)


def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no plug-in had been run in this process; what is added from now on is gone after the test."""
    for place, name in PLACES:
        monkeypatch.setattr(place, name, dict(getattr(place, name)))
    monkeypatch.setattr(plugins, "_PLUGINS", plugins._Plugins())


def example(named: str, language: str = "python") -> str:
    """The example of the extending page that has a text in it."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (each for each in blocks if named in each)
    return str(found)


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: Mapping[str, str],
    *,
    package: str = "wsi-deform-mine",
    entry: str = "mine = wsi_deform_mine:plug_in",
) -> None:
    """Have a package on the path of this process and of those that it starts, as pip would leave it.

    Args:
        folder: Where to.
        monkeypatch: Takes it away again.
        files: Name of a module's file -> its text.
        package: Name of the distribution.
        entry: Line of its entry points.
    """
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    facts = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[{plugins.GROUP}]\n{entry}\n")
    if str(folder) not in sys.path:
        monkeypatch.syspath_prepend(folder)
    for name in [
        each for each in sys.modules if each.partition(".")[0] == entry.split()[2].partition(":")[0]
    ]:
        monkeypatch.delitem(sys.modules, name)


def install_example(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the package of the extending page."""
    files = {
        "__init__.py": example("def plug_in"),
        "reader.py": example("class NumpyReader"),
        "network.py": example("class Plain"),
    }
    install(folder, monkeypatch, {f"wsi_deform_mine/{name}": text for name, text in files.items()})
