"""Promises of the pages in ``docs`` that a machine can check."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.tiff import write_nearest_mask
from wsi_deform.slide.mpp.claims import Source

DOCS = Path(__file__).parents[1] / "docs"


def test_the_floors_on_the_architecture_page_are_those_that_lint_checks() -> None:
    (contract,) = (
        each
        for each in tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
            "importlinter"
        ]["contracts"]
        if each["type"] == "layers"
    )
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = page.partition("| floor |")[2].partition("\n\n")[0].splitlines()[2:]
    assert [re.findall(r"`(\w+)`", row.split("|")[1]) for row in rows] == [
        re.findall(r"\w+", floor) for floor in contract["layers"]
    ]


def test_every_module_that_the_architecture_page_names_exists() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:wsi_deform/)?((?:[a-z_]+/)*[a-z_]+\.py)`", page))
    assert {"slide/reader.py", "segment.py", "mask/tiff.py", "distribute/turn.py"} <= named
    package = DOCS.parent / "wsi_deform"
    assert [each for each in sorted(named) if not [*package.rglob(each)]] == []


def test_every_folder_and_file_of_out_is_on_the_architecture_page() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    folder = MaskFolder(Path())
    places = [*folder.outputs("s").values(), folder.state("s"), folder.run("t"), folder.lease("s")]
    places += [folder.identity, folder.aside, folder.classes, folder.measurements, folder.summary]
    for name in {place.parts[0] for place in places}:
        assert f"`{name}" in page, name


def test_the_python_on_the_qupath_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out" / "masks").mkdir(parents=True)
    write_class_table(ClassTable.from_names(["background", "tumour"]), tmp_path / "out" / "classes.json")
    write_nearest_mask(
        tmp_path / "out" / "masks" / "slide_7.ome.tif",
        points_px=np.array([[5.0, 5.0], [20.0, 5.0]]),
        labels=np.array([0, 1], np.uint8),
        size=Size(30, 20),
        mpp=0.5,
    )
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS / "qupath.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(block, {})
    assert (tmp_path / "slide_7.geojson.gz").stat().st_size > 100


def test_the_scale_page_has_the_sources_of_the_mpp_in_their_order() -> None:
    page = (DOCS / "scale.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2].strip() for line in page.splitlines() if re.match(r"\| \d+ \|", line)]
    assert rows == [source.value for source in Source]
