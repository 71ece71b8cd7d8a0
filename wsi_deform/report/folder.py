"""Which report a folder gets."""

from __future__ import annotations

from pathlib import Path

from wsi_deform.errors import ModelError
from wsi_deform.report.out import report_out
from wsi_deform.report.run import report_run


def report_folder(path: Path | str) -> Path:
    """Write the report of a run folder or of a mask folder.

    Args:
        path: What ``wsi-deform train`` or ``wsi-deform segment`` filled.

    Returns:
        The path of the page.

    Raises:
        ModelError: The folder is missing, or neither of them.
        WsiDeformError: A file in it cannot be read.
    """
    path = Path(path)
    if (path / "config.yaml").is_file():
        return report_run(path)
    if (path / "states").is_dir():
        return report_out(path)
    state = "holds neither config.yaml nor states/" if path.is_dir() else "no such folder"
    raise ModelError(
        f"report {path}: {state}. "
        "Needed a run folder of `wsi-deform train` or the --out of `wsi-deform segment`."
    )
