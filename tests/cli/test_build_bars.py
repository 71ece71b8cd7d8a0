"""Building coarse levels shows a bar in the commands that read slides."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from rich.console import Console
from rich.progress import Progress

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cli import inspect as inspect_command
from wsi_deform.cli.build_bars import build_bars
from wsi_deform.cli.segment_bars import SegmentBars
from wsi_deform.cli.train import refuse_problems
from wsi_deform.cli.training_bars import TrainingBars
from wsi_deform.errors import ManifestError
from wsi_deform.geometry import Region
from wsi_deform.manifest.read import read_manifest
from wsi_deform.slide.levels import build_progress
from wsi_deform.slide.open import open_slide


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own; every slide counts as a large one."""
    monkeypatch.setattr("wsi_deform.slide.levels.virtual.MAX_DECODED_BYTES", 0)
    monkeypatch.setattr("wsi_deform.slide.levels.cache_folder.MIN_FREE_BYTES", 0)
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TERM", "xterm-256color")
    return tmp_path / "cache"


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "large[red].tif"
    pixels = np.full((900, 1100, 3), 200, np.uint8)
    tifffile.imwrite(
        path, pixels, tile=(64, 64), photometric="rgb", resolution=(20000, 20000), resolutionunit=3
    )
    return path


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=160, markup=False)


def shown_on(console: Console) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def read_coarse(path: Path) -> None:
    slide = open_slide(path)
    slide.read_region(1, Region.whole(slide.levels[1].size))


@pytest.mark.parametrize("bars", [SegmentBars, TrainingBars])
def test_a_build_shows_its_own_bar_which_goes_when_it_ends(slide: Path, bars: type):
    console = terminal()
    with bars(console) as shown:
        told = []
        original = shown.progress.update

        def update(task, **what):
            told.append(what.get("completed"))
            original(task, **what)
            shown.progress.refresh()

        shown.progress.update = update
        read_coarse(slide)
        assert told == list(range(1, 16))
        assert shown.progress.tasks == []
        read_coarse(slide)  # from the cache
        assert len(told) == 15
    assert "large[red].tif: coarse levels" in shown_on(console)
    assert "7/15" in shown_on(console)
    assert build_progress._progress is None


def test_inspect_shows_the_bar_of_a_build(slide: Path, monkeypatch: pytest.MonkeyPatch):
    console = terminal()
    monkeypatch.setattr(inspect_command, "plain_console", lambda: console)
    monkeypatch.setattr(Progress, "update", refreshed(Progress.update))
    inspect_command.inspect(str(slide))
    assert "large[red].tif: coarse levels" in shown_on(console)
    assert "7/15" in shown_on(console)


def test_inspect_shows_no_bar_where_there_is_no_terminal(slide: Path, monkeypatch: pytest.MonkeyPatch):
    console = Console(file=io.StringIO(), width=160, markup=False)
    monkeypatch.setattr(inspect_command, "plain_console", lambda: console)
    inspect_command.inspect(str(slide))
    assert "tissue: " in shown_on(console)
    assert "coarse levels" not in shown_on(console)


def test_the_look_at_slides_before_training_shows_the_bars_of_builds(
    slide: Path, monkeypatch: pytest.MonkeyPatch
):
    manifest = slide.with_name("manifest.csv")
    manifest.write_text(f"slide,patient,split\n{slide.name},A,\n")
    console = terminal()
    monkeypatch.setattr(Progress, "update", refreshed(Progress.update))
    with pytest.raises(ManifestError, match="0 slides in split train"):
        refuse_problems(
            manifest,
            read_manifest(manifest),
            ClassTable.from_names(["a", "b"]),
            scan=False,
            allow_empty_classes=True,
            console=console,
        )
    assert "large[red].tif: coarse levels" in shown_on(console)


def test_several_builds_have_a_bar_each():
    with Progress(console=terminal()) as progress, build_bars(progress):
        build_progress._progress("https://host/x/a", 1, 3)
        build_progress._progress(r"D:\x\b", 1, 2)
        build_progress._progress("https://host/x/a", 2, 3)
        assert [(task.description.split(":")[0], task.completed) for task in progress.tasks] == [
            ("a", 2),
            ("b", 1),
        ]
        build_progress._progress(r"D:\x\b", 2, 2)
        assert [task.description.split(":")[0] for task in progress.tasks] == ["a"]
        build_progress._progress("c", 1, 1)
        assert len(progress.tasks) == 1


def refreshed(update):
    """Draw at each step, which else happens twice a second."""

    def updated(self, *task, **what):
        update(self, *task, **what)
        self.refresh()

    return updated
