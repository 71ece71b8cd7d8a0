"""Which report what is given gets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wsi_deform.anonymous import AS_THEY_ARE, AnonymousNames, Names
from wsi_deform.errors import ModelError
from wsi_deform.manifest.read import read_manifest
from wsi_deform.report.compare import compare
from wsi_deform.report.compared import open_compared
from wsi_deform.report.out import report_out
from wsi_deform.report.run import report_run

COMPARISON = "comparison.html"


def report_folder(
    path: Path | str,
    *,
    anonymous: bool = False,
    key_file: Path | None = None,
    page: Path | None = None,
    figures: Path | None = None,
    manifest: Path | None = None,
) -> Path:
    """Write the report of a run folder or of a mask folder.

    Args:
        path: What ``wsi-deform train`` or ``wsi-deform segment`` filled.
        anonymous: Whether ids stand in place of the names of slides, and nothing that names files is shown.
        key_file: With ``anonymous``, a CSV that says which id is whose; None writes none.
        page: Where to; None is ``report.html`` in the folder.
        figures: A folder that gets the figures as PNG and SVG, or None.
        manifest: A manifest of slides with labels, to show these beside the masks; None shows none.

    Returns:
        The path of the page.

    Raises:
        ModelError: The folder is missing, or neither of them.
        WsiDeformError: A file in it cannot be read.
    """
    path = Path(path)
    is_run = (path / "config.yaml").is_file()
    if is_run or (path / "states").is_dir():
        if is_run and manifest is not None:
            raise ModelError(
                f"report {path}: a run has no masks to show labels beside. Needed the --out of `wsi-deform segment` "
                "with --slides, or the run alone."
            )
        names = AnonymousNames(path, key_file=key_file) if anonymous else AS_THEY_ARE
        if is_run:
            written = report_run(path, names=names, page=page, figures=figures)
        else:
            rows = None if manifest is None else read_manifest(manifest, check_files=False)
            written = report_out(path, names=names, page=page, figures=figures, manifest=rows)
        _keep_key(names, key_file)
        return written
    state = "holds neither config.yaml nor states/" if path.is_dir() else "no such folder"
    raise ModelError(
        f"report {path}: {state}. "
        "Needed a run folder of `wsi-deform train` or the --out of `wsi-deform segment`."
    )


def report_comparison(
    paths: Sequence[Path],
    *,
    anonymous: bool = False,
    key_file: Path | None = None,
    page: Path | None = None,
    figures: Path | None = None,
) -> Path:
    """Write the page that compares runs, mask folders and evaluations.

    Args:
        paths: Two or more; differences are of each from the first.
        anonymous: As for ``report_folder``; ids are made with the secret of the first folder.
        key_file: As for ``report_folder``.
        page: Where to; None is ``comparison.html`` in the current folder.
        figures: A folder that gets the figures as PNG and SVG, or None.

    Returns:
        The path of the page.

    Raises:
        ModelError: One of them is nothing that can be compared.
        WsiDeformError: A file in it cannot be read.
    """
    names: Names = AS_THEY_ARE
    opened = open_compared(paths, names)  # what is no such folder gets no secret
    if anonymous:
        first = paths[0] if paths[0].is_dir() else paths[0].parent
        names = AnonymousNames(first, key_file=key_file)
        opened = open_compared(paths, names)
    written = compare(opened, page or Path(COMPARISON), names=names, figures=figures)
    _keep_key(names, key_file)
    return written


def _keep_key(names: Names, key_file: Path | None) -> None:
    if isinstance(names, AnonymousNames) and key_file is not None:
        names.write_key(key_file)
