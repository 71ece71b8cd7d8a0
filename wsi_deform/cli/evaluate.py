"""`wsi-deform evaluate`: how good masks are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wsi_deform.cli.console import plain_console
from wsi_deform.cli.options import Anonymous, Key, refuse_key_alone

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_deform.annotation.classes import ClassTable
    from wsi_deform.evaluate.masks import Evaluation
    from wsi_deform.manifest.rows import Manifest

FAILED = 1
LEGEND = "IoU(Y^, Y) is of the masks, IoU(Y', Y) what they would have if each sample had its true label."

EXAMPLES = (
    "wsi-deform evaluate --slides manifest.csv --masks out",
    "wsi-deform evaluate --slides manifest.csv --masks out --split val",
    "wsi-deform evaluate --slides manifest.csv --masks out --anonymous",
)


def evaluate(
    slides: Annotated[
        Path, typer.Option(metavar="MANIFEST", help="Manifest CSV with slides and label masks.")
    ],
    masks: Annotated[
        Path, typer.Option(metavar="FOLDER", help="The folder that `wsi-deform segment` filled.")
    ],
    split: Annotated[
        Literal["train", "val", "test", "all"] | None,
        typer.Option(
            metavar="train|val|test|all", help="Only these; default: test where there is one, else all."
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Class table of the label masks; default: beside the manifest, else the masks' own.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write FILE.json, FILE.csv and the folder FILE/SPLIT; default: evaluation in the folder of the masks.",
        ),
    ] = None,
    allow_empty_classes: Annotated[
        bool,
        typer.Option(
            "--allow-empty-classes", help="Measure although one class is labelled and all else is unlabelled."
        ),
    ] = False,
    measures: Annotated[
        Literal["all", "basic"],
        typer.Option(
            metavar="all|basic",
            help="basic: no objects, boundary distances and trimap, which take several times as long.",
        ),
    ] = "all",
    anonymous: Anonymous = False,
    key: Key = None,
) -> None:
    """Measure masks against labels at full resolution: IoU, Dice, objects, boundaries, calibration."""
    from rich.progress import Progress

    from wsi_deform.anonymous import AnonymousNames, without_files
    from wsi_deform.evaluate.folder import write_all
    from wsi_deform.evaluate.masks import anonymous as without_names
    from wsi_deform.evaluate.masks import evaluate_masks, rows_of_split
    from wsi_deform.evaluate.slide_measures import ALL, BASIC
    from wsi_deform.manifest.read import read_manifest
    from wsi_deform.mask.folder import MaskFolder
    from wsi_deform.provenance import provenance

    if out is not None and out.suffix.lower() not in ("", ".json", ".csv"):
        raise typer.BadParameter(f"{out}: needed .json or .csv; both are written.", param_hint="--out")
    refuse_key_alone(key, anonymous=anonymous)
    console = plain_console()
    read = read_manifest(slides)
    if split == "all":
        rows, taken = read.rows, "all"
    else:
        rows, taken = rows_of_split(read, split)
    table = label_classes(read, classes, masks)
    with Progress(console=console, refresh_per_second=2, transient=True) as progress:
        bar = progress.add_task("slides", total=len(rows))
        measured = evaluate_masks(
            rows,
            masks,
            table,
            split=taken,
            on_slide=lambda slide_id: progress.advance(bar),
            allow_empty_classes=allow_empty_classes,
            wanted=ALL if measures == "all" else BASIC,
        )
    names = AnonymousNames(masks, key_file=key) if anonymous else None
    written = write_all(
        measured if names is None else without_names(measured, names),
        out or MaskFolder(masks).evaluation,
        provenance=provenance() if names is None else without_files(provenance()),
    )
    if names is not None and key is not None:
        names.write_key(key)
    show(measured, console)
    for path in written:
        console.print(str(path), soft_wrap=True)
    for each in measured.unmeasured:
        line = f"not measured: {each.slide_id}: {each.reason}"
        console.print(line, style="red", soft_wrap=True)
    if measured.unmeasured:
        raise typer.Exit(FAILED)


def label_classes(manifest: Manifest, given: Path | None, masks: Path) -> ClassTable:
    """The class table of the labels: the one that was named, beside the manifest, or the masks' own."""
    from wsi_deform.annotation.classes import read_class_table
    from wsi_deform.cli.classes import find_class_table
    from wsi_deform.mask.folder import MaskFolder

    own = MaskFolder(masks).classes
    found = find_class_table(manifest, given, required=not own.is_file())
    return read_class_table(own) if found is None else found


def show(evaluation: Evaluation, console: Console) -> None:
    """Print the pooled measures as a table."""
    from rich.table import Table
    from rich.text import Text

    from wsi_deform.evaluate.class_groups import group_notes
    from wsi_deform.evaluate.summary import object_notes
    from wsi_deform.evaluate.tables import evaluation_data, mean_notes

    data = evaluation_data(evaluation)
    pooled = data["pooled"]
    predicted, sampled = pooled["predicted"], pooled["sampled"]
    count = f"{len(evaluation.slides)} slide{'s' if len(evaluation.slides) > 1 else ''}"
    table = Table(
        "",
        "IoU(Y^, Y)",
        "IoU(Y', Y)",
        "Dice",
        title=f"{count}, split {evaluation.split}, pooled over all pixels",
    )

    def add(
        name: str, key: str, inner: str | None = None, *, dice: float | None = None, end: bool = False
    ) -> None:
        cells: list[Any] = [Text(name)]
        for kind in (predicted, sampled):
            value = None if kind is None else kind[key] if inner is None else kind[key][inner]
            cells.append("-" if value is None else f"{value:.4f}")
        table.add_row(*cells, "" if dice is None else f"{dice:.4f}", end_section=end)

    for name in evaluation.classes.names:
        last = name == evaluation.classes.names[-1]
        add(name, "iou", name, dice=predicted["dice"][name], end=last)
    add("mean", "miou", dice=predicted["mdice"])
    if evaluation.classes.background is not None:
        add("mean without background", "miou_without_background")
    add("pixel accuracy", "accuracy")
    console.print(table)
    console.print(LEGEND, markup=False, highlight=False, soft_wrap=True)
    for note in [*group_notes(data), *mean_notes(data), *object_notes(data)]:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
