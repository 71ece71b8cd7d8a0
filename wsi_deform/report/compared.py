"""What is compared: run folders, mask folders and evaluations, each opened and given a name of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wsi_deform.anonymous import Names
from wsi_deform.config import read_config
from wsi_deform.config_sections import Config
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.errors import ModelError
from wsi_deform.evaluate.folder import evaluations_in
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.report.evaluated import read_evaluation
from wsi_deform.report.files import read_json
from wsi_deform.report.out import out_provenance
from wsi_deform.report.run import read_log, run_provenance

NEEDED = (
    "Needed run folders of `wsi-deform train`, --out folders of `wsi-deform segment`, or JSON files of "
    "`wsi-deform evaluate`."
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Compared:
    """One of the things that are compared.

    Attributes:
        name: What it is called, unlike the others.
        path: Where it lies.
        evaluation: Its measures, or None.
        log: The epochs of a run, else empty.
        config: The configuration of a run, or None.
        folder: A mask folder, or None.
        states: The state of each slide of a mask folder.
        provenance: How it came to be.
    """

    name: str
    path: Path
    evaluation: Mapping[str, Any] | None = None
    log: Sequence[Mapping[str, float]] = ()
    config: Config | None = None
    folder: MaskFolder | None = None
    states: Sequence[State] = ()
    provenance: Mapping[str, Any]


def open_compared(paths: Sequence[Path], names: Names) -> list[Compared]:
    """Open what is to be compared.

    Args:
        paths: Two or more folders or files.
        names: Whether names may be shown: else things are called by their numbers.

    Returns:
        In their order. Evaluations are of one split where all have one.

    Raises:
        ModelError: One of them is nothing that can be compared.
        WsiDeformError: A file in it cannot be read.
    """
    called = names_of(paths) if names.are_shown else [f"number {place}" for place in range(1, len(paths) + 1)]
    split = common_split(paths)
    return [_open(path, name, split, names) for path, name in zip(paths, called, strict=True)]


def names_of(paths: Sequence[Path]) -> list[str]:
    """The last parts of paths, as many as tell them apart; numbered where they are one path."""
    parts = [path.absolute().parts for path in paths]
    for count in range(1, max(len(each) for each in parts) + 1):
        called = ["/".join(each[-count:]) for each in parts]
        if len(set(called)) == len(set(parts)):
            break
    if len(set(called)) < len(called):
        called = [f"{name} ({place})" for place, name in enumerate(called, start=1)]
    return called


def common_split(paths: Sequence[Path]) -> str | None:
    """The split that every mask folder was evaluated on, test before others; None where there is none."""
    held = [{_split(each) for each in evaluations_in(path)} for path in paths if _is_out(path)]
    both = set.intersection(*held) if held else set()
    return next((split for split in ("test", "val", "all", "train") if split in both), None)


def _open(path: Path, name: str, split: str | None, names: Names) -> Compared:
    if (path / "config.yaml").is_file():
        return Compared(
            name=name,
            path=path,
            log=read_log(path),
            config=read_config(path / "config.yaml"),
            provenance=run_provenance(path, read_json(path / "provenance.json"), names),
        )
    if _is_out(path):
        folder = MaskFolder(path)
        found = evaluations_in(path)
        chosen = next((each for each in found if _split(each) == split), found[0] if found else None)
        evaluation = None if chosen is None else read_evaluation(chosen)
        return Compared(
            name=name,
            path=path,
            evaluation=evaluation,
            folder=folder,
            states=Ledger(folder).all(),
            provenance=out_provenance(folder, names, [] if evaluation is None else [dict(evaluation)]),
        )
    if path.is_file() and path.suffix.lower() == ".json":
        evaluation = read_evaluation(path)
        return Compared(name=name, path=path, evaluation=evaluation, provenance={})
    if not path.exists():
        raise ModelError(f"report {path}: no such file or folder. {NEEDED}")
    raise ModelError(f"report {path}: holds neither config.yaml nor states/, and is no evaluation. {NEEDED}")


def _is_out(path: Path) -> bool:
    return (path / "states").is_dir()


def _split(path: Path) -> str:
    return str(read_evaluation(path).get("split"))
