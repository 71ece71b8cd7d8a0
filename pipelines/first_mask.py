"""Runs docs/first_mask.ipynb and stores what its cells show: ``python -m pipelines.first_mask``.

Cells run in one namespace, as a notebook's do, but without Jupyter: what ends a cell is shown as a picture where it
can show itself, else as text. Stored pictures are small, so that the file is.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

NOTEBOOK = Path(__file__).parents[1] / "docs" / "first_mask.ipynb"
WIDTH_PX, JPEG_QUALITY = 512, 66


def run_cells(
    notebook: Mapping[str, Any], *, changed: Callable[[str], str] = lambda source: source
) -> list[dict[str, Any]]:
    """Run the code cells of a notebook in the current folder.

    Args:
        notebook: What its JSON holds.
        changed: From the source of a cell to what is run in its place.

    Returns:
        The cells, those of code with ``outputs`` and ``execution_count``; an error in a cell goes on to the caller.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            cells.append(cell)
            continue
        count += 1
        outputs = _run(changed("".join(cell["source"])), names, count)
        cells.append({**cell, "outputs": outputs, "execution_count": count})
    return cells


def _run(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """Run a cell: what it prints, and what its last line is if that is an expression."""
    tree = ast.parse(source)
    last = tree.body[-1] if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.Module(tree.body[: -1 if last else None], []), f"cell {count}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        data: dict[str, Any] = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_png_"):
            data["image/jpeg"] = base64.b64encode(_small(value._repr_png_())).decode("ascii") + "\n"
        shown = {"output_type": "execute_result", "execution_count": count, "metadata": {}, "data": data}
        outputs.append(shown)
    return outputs


def _small(png: bytes) -> bytes:
    """A picture as JPEG, at most as wide as a page needs it."""
    with Image.open(io.BytesIO(png)) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((WIDTH_PX, WIDTH_PX), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, format="JPEG", quality=JPEG_QUALITY)
    return written.getvalue()


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """An empty current folder for as long as it is needed."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def main() -> None:
    """Run the notebook and write it with what it shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notebook", type=Path, default=NOTEBOOK)
    path = parser.parse_args().notebook.resolve()
    notebook = json.loads(path.read_text(encoding="utf-8"))
    with _elsewhere():
        notebook["cells"] = run_cells(notebook)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size:,} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
