"""Class tables of one class against all others, for Figure 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.paper.trial import Trial
from wsi_deform.annotation.class_colours import BACKGROUND_COLOUR
from wsi_deform.annotation.classes import UNLABELLED, ClassTable, read_class_table, write_class_table


def binary_tables(trials: Sequence[Trial], manifests: Mapping[str, Path], out: Path) -> dict[Trial, Path]:
    """The class tables of binary trials, written where they are not yet.

    Args:
        trials: Any trials; those of all classes are left out.
        manifests: Data set -> manifest, with ``classes.yaml`` beside it.
        out: Gets ``classes/<data>/<class>.yaml``.
    """
    tables = {}
    for trial in trials:
        if trial.only_class is None or trial.data not in manifests:
            continue
        path = out / "classes" / trial.data / f"{trial.only_class.replace(' ', '-')}.yaml"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = read_class_table(manifests[trial.data].parent / "classes.yaml")
            write_class_table(one_against_others(whole, trial.only_class), path)
        tables[trial] = path.absolute()
    return tables


def one_against_others(classes: ClassTable, name: str) -> ClassTable:
    """A table of two classes, "other" and the named one; what was unlabelled stays so."""
    number = classes.index(name)
    others = tuple(
        value for index, values in enumerate(classes.values) if index != number for value in values
    )
    meant = (number, UNLABELLED)
    return ClassTable(
        names=("other", name),
        colours=(BACKGROUND_COLOUR, classes.colours[number]),
        values=(others, classes.values[number]),
        background=0,
        unlabelled_values=classes.unlabelled_values,
        source_names=(
            tuple(
                each for each, index in classes.source_mapping.items() if index >= 0 and index not in meant
            ),
            tuple(each for each, index in classes.source_mapping.items() if index == number),
        ),
        unlabelled_names=classes.unlabelled_names,
        regions=classes.regions,
        ignored=classes.ignored,
    )
