"""The notebook of the documentation: it is as it was run, small, and runs from its first cell to its last."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.first_mask import NOTEBOOK, run_cells


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def pictures(cells: list[dict[str, Any]]) -> list[Image.Image]:
    shown = [
        output["data"]["image/jpeg"]
        for cell in cells
        for output in cell.get("outputs", [])
        if "image/jpeg" in output.get("data", {})
    ]
    return [Image.open(io.BytesIO(base64.b64decode(each))) for each in shown]


def texts(cells: list[dict[str, Any]]) -> str:
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join("".join(each.get("text", []) or each["data"]["text/plain"]) for each in outputs)


def test_it_is_stored_as_it_was_run_with_small_pictures(notebook: dict[str, Any]) -> None:
    assert NOTEBOOK.stat().st_size < 50_000
    cells = notebook["cells"]
    assert len(cells) == 10
    assert len({cell["id"] for cell in cells}) == 10
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code)
    assert not any(output["output_type"] == "error" for cell in code for output in cell["outputs"])
    assert [each.width for each in pictures(cells)] == [512, 512]
    assert "/" not in re.sub(
        r"slides/|labels/|geojson/|masks/|overlays/|samples/|um/px|to 1/16", "", texts(cells)
    )
    # What it shows is a mask that is worth a look.
    iou = json.loads(texts(cells).partition("{")[2].partition("}")[0].join("{}").replace("'", '"'))
    assert min(iou.values()) > 0.2


def test_its_links_lead_somewhere(notebook: dict[str, Any]) -> None:
    words = "".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", words)
    assert len(links) > 3
    assert [link for link in links if not (NOTEBOOK.parent / link).exists()] == []


def test_its_cells_run_in_their_order(
    notebook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = {"epochs = 40": "epochs = 1", "validate_every: 10": "validate_every: 1"}

    def sooner(source: str) -> str:
        for before, after in changed.items():
            source = source.replace(before, after)
        return source

    sources = "".join("".join(cell["source"]) for cell in notebook["cells"])
    assert all(sources.count(each) == 1 for each in changed)
    cells = run_cells(notebook, changed=sooner)
    stored = notebook["cells"]
    assert [[o["output_type"] for o in cell.get("outputs", [])] for cell in cells] == [
        [o["output_type"] for o in cell.get("outputs", [])] for cell in stored
    ]
    # All but what training decides is as it is stored.
    assert texts(cells[:4]) == texts(stored[:4])
    assert texts(cells[8:]).partition("[")[2] == texts(stored[8:]).partition("[")[2]
    assert len(pictures(cells)) == 2
    assert (tmp_path / "first_mask" / "out" / "masks" / "P010-A.ome.tif").is_file()
