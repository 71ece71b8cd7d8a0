"""Which report a folder gets."""

from __future__ import annotations

from pathlib import Path

from wsi_deform.anonymous import AnonymousNames
from wsi_deform.errors import ModelError
from wsi_deform.report.out import report_out
from wsi_deform.report.run import report_run


def report_folder(path: Path | str, *, anonymous: bool = False, key_file: Path | None = None) -> Path:
    """Write the report of a run folder or of a mask folder.

    Args:
        path: What ``wsi-deform train`` or ``wsi-deform segment`` filled.
        anonymous: Whether ids stand in place of the names of slides, and nothing that names files is shown.
        key_file: With ``anonymous``, a CSV that says which id is whose; None writes none.

    Returns:
        The path of the page.

    Raises:
        ModelError: The folder is missing, or neither of them.
        WsiDeformError: A file in it cannot be read.
    """
    path = Path(path)
    is_run = (path / "config.yaml").is_file()
    if is_run or (path / "states").is_dir():
        if not anonymous:
            return report_run(path) if is_run else report_out(path)
        names = AnonymousNames(path, key_file=key_file)
        page = report_run(path, names=names) if is_run else report_out(path, names=names)
        if key_file is not None:
            names.write_key(key_file)
        return page
    state = "holds neither config.yaml nor states/" if path.is_dir() else "no such folder"
    raise ModelError(
        f"report {path}: {state}. "
        "Needed a run folder of `wsi-deform train` or the --out of `wsi-deform segment`."
    )
