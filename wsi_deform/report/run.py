"""The report of a run folder: how training went and what came of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wsi_deform.annotation.classes import ClassTable, read_class_table
from wsi_deform.annotation.mean_classes import MeanClasses
from wsi_deform.anonymous import AS_THEY_ARE, Names, without_files
from wsi_deform.config import dump_config, read_config
from wsi_deform.config_blocks import looks_text
from wsi_deform.config_sections import Config
from wsi_deform.drawing.result_figures import confusion_figure
from wsi_deform.drawing.run_figures import LogRow, loss_figure, over_text, rates_figure, scores_figure
from wsi_deform.errors import ModelError, WsiDeformError
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.manifest.licences import licences_text
from wsi_deform.model_card import LICENCES
from wsi_deform.model_file import find_model, read_model_facts
from wsi_deform.report.confusion import confusion_table
from wsi_deform.report.files import duration, read_json
from wsi_deform.report.pace import pace_figure, pace_text, timed_rows
from wsi_deform.report.page import Fact, Picture, Section, write_report
from wsi_deform.report.tables import comparison_table
from wsi_deform.train.log import newest_picture

REPORT = "report.html"
LOG_NEEDS = ("epoch", "loss", "segmentation_loss")


def report_run(
    run: Path | str,
    *,
    names: Names = AS_THEY_ARE,
    page: Path | None = None,
    figures: Path | None = None,
) -> Path:
    """Write the page of a run folder.

    Args:
        run: What ``wsi-deform train`` made; it may still be under way.
        names: Whether names of slides and files may be shown.
        page: Where to; None is ``report.html`` in the folder.
        figures: A folder that gets the figures as PNG and SVG, or None.

    Returns:
        The path of the report.

    Raises:
        ModelError: The folder is missing or not a run's, or one of its files cannot be read.
    """
    run = Path(run)
    rows = read_log(run)
    config = read_config(run / "config.yaml")
    about = read_json(run / "provenance.json")
    validated = [row for row in rows if "val_miou" in row]
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    done, planned = int(rows[-1]["epoch"]), config.training.epochs
    early = ", stopped early" if _stopped_early(validated, config) and done < planned else ""
    facts = [
        Fact(value=f"{done} of {planned}" if done < planned else str(done), what=f"epochs{early}"),
        Fact(value=duration(seconds), what="in training epochs"),
        Fact(value=f"{rows[-1]['loss']:.3f}", what="training loss, last epoch"),
    ]
    sections = [Section(title="Learning curves", pictures=curves({config.name: rows}))]
    over = _mean_classes(run)
    said: list[str] = []
    if over is not None and not over.is_measured:
        sections.insert(0, Section(title="Validation", text=[f"The mean IoU {over.text()}."]))
    elif over is not None and not over.is_whole:
        said.append(f"The mean IoU is {over.text()}.")
    if validated:
        best = max(validated, key=lambda row: row["val_miou"])
        facts.insert(
            0,
            Fact(
                value=f"{best['val_miou']:.3f}",
                what=f"best validation mIoU, epoch {int(best['epoch'])}{over_text(best)}",
                more="Chosen on these slides: it flatters. Evaluate on others.",
            ),
        )
        columns = (
            "val_miou",
            "val_miou_without_background",
            "loss",
            "segmentation_loss",
            "edge_loss",
            "labelled_share",
        )
        table = comparison_table(
            {
                f"{name}, epoch {int(row['epoch'])}": {
                    each.replace("_", " ").replace("miou", "mIoU"): row[each]
                    for each in columns
                    if each in row
                }
                for name, row in (("best", best), ("last validated", validated[-1]))
            },
            of="epoch",
            largest_is_best=(),
        )
        sections.insert(0, Section(title="Best epoch", text=said, table=table))
    sections[1:1] = _validation(run)
    sections += [*(_seen(run, config) if names.are_shown else _unseen(run)), *_timed(rows)]
    sections.append(Section(title="Configuration", quote={"config.yaml": _settings(run, config, names)}))
    return write_report(
        page or run / REPORT,
        title=f"Training run: {config.name}",
        lead=[*describe_config(config), *_trained_on(run)],
        facts=facts,
        sections=sections,
        provenance=run_provenance(run, about, names),
        figures=figures,
    )


def run_provenance(run: Path, about: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """How a run and its model came to be."""
    made = {"run": run.name, **about, **_stored(run)}
    return made if names.are_shown else without_files(made)


def curves(runs: Mapping[str, Sequence[LogRow]]) -> list[Picture]:
    """Losses, validation and learning rates of one or several runs, as far as they were logged."""
    pictures = [
        Picture.drawn(
            "loss",
            "Training loss, as log.csv has it; dashed and dotted are its parts.",
            partial(loss_figure, runs),
        )
    ]
    if any("val_miou" in row for rows in runs.values() for row in rows):
        pictures.append(
            Picture.drawn(
                "validation",
                "Validation mIoU at full resolution; the ring marks the best epoch.",
                partial(scores_figure, runs),
            )
        )
    if any("learning_rate" in row for rows in runs.values() for row in rows):
        pictures.append(
            Picture.drawn("learning-rate", "Learning rates, of each epoch.", partial(rates_figure, runs))
        )
    return pictures


def _settings(run: Path, config: Config, names: Names) -> str:
    """The configuration; without comments, and with the weights' file unnamed, where files may not be named."""
    if names.are_shown:
        return (run / "config.yaml").read_text(encoding="utf-8")
    networks = config.networks
    if networks.pretrained is not None:
        networks = networks.model_copy(update={"pretrained": f"file{Path(networks.pretrained).suffix}"})
    return dump_config(config.model_copy(update={"networks": networks}))


def _unseen(run: Path) -> list[Section]:
    """What stands in place of the validation fields, which have names drawn above them, where none may be shown."""
    if newest_picture(run) is None:
        return []
    return [
        Section(title="What the model sees", text=["Left out: the picture has the names of slides in it."])
    ]


def _seen(run: Path, config: Config) -> list[Section]:
    """The validation fields as the model saw them last, if they were drawn."""
    path = newest_picture(run)
    if path is None:
        return []
    epoch = int(path.stem.removeprefix("epoch-"))
    shown = (
        "the low-res view with the sampling points, the deformation map, the sampled image; its labels, its predicted "
        "classes"
        if config.blocks is None
        else "the first look, at which level each part was read, what was read; labels, predicted classes"
    )
    caption = f"Validation fields in epoch {epoch}: {shown}, and where they differ."
    return [
        Section(title="What the model sees", pictures=[Picture(image=path.read_bytes(), caption=caption)])
    ]


def _mean_classes(run: Path) -> MeanClasses | None:
    """Which classes the validation mIoU is over, as the best model says, or the last one."""
    for metrics in _metrics(run):
        found = MeanClasses.from_data(metrics.get("miou_classes"))
        if found is not None:
            return found
    return None


def _metrics(run: Path) -> list[Mapping[str, Any]]:
    """What the best model, and the last one, say was measured of them."""
    paths = [run / name for name in ("best.json", "last.json")]
    return [read_json(path).get("metrics", {}) for path in paths if path.is_file()]


def _validation(run: Path) -> list[Section]:
    """Each class of the validation slides, and which one was taken for which, in the best epoch."""
    counts = next((each["val_confusion"] for each in _metrics(run) if each.get("val_confusion")), None)
    table = run / "classes.json"
    if counts is None or not table.is_file():
        return []
    try:
        classes: ClassTable = read_class_table(table)
        confusion = Confusion(np.array(counts, np.int64))
        measured = {
            "IoU": confusion.iou(), "Dice": confusion.dice(), "precision": confusion.precision(),
            "recall": confusion.recall(),
        }  # fmt: skip
        rows = {
            name: {key: float(values[index]) for key, values in measured.items()}
            for index, name in enumerate(classes.names)
        }
        shown = confusion_table(confusion.counts, classes.names)
    except (WsiDeformError, ValueError, IndexError, TypeError) as error:
        raise ModelError(
            f"run {run}: the counts of its validation do not fit its classes ({error}). Needed a run folder as "
            "`wsi-deform train` leaves it."
        ) from error
    return [
        Section(
            title="Validation: each class",
            table=comparison_table(rows, of="class", largest_is_best=()),
            heading=3,
        ),
        Section(
            title="Validation: which class is taken for which",
            text=["A row is a class of the labels, a column a class of the mask; shares are of the row."],
            table=shown,
            pictures=[
                Picture.drawn(
                    "confusion-validation",
                    "Which class is taken for which.",
                    partial(confusion_figure, confusion.counts, classes.names),
                    only_file=True,
                )
            ],
            heading=3,
        ),
    ]


def _timed(rows: Sequence[LogRow]) -> list[Section]:
    """Where the time went, if the log says it."""
    timed = timed_rows(rows)
    if not timed:
        return []
    caption = "Seconds of each epoch by what they went into, samples per second, and share of them on labelled pixels."
    picture = Picture.drawn("pace", caption, partial(pace_figure, timed))
    return [Section(title="Where the time goes", text=[pace_text(timed)], pictures=[picture])]


def _stopped_early(validated: Sequence[LogRow], config: Config) -> bool:
    """Whether so many validations as ``training.patience`` says came after the best one."""
    if not validated or config.training.patience is None:
        return False
    scores = [row["val_miou"] for row in validated]
    return len(scores) - 1 - scores.index(max(scores)) >= config.training.patience


def describe_config(config: Config) -> list[str]:
    """What a configuration does, in sentences."""
    sampling = config.sampling
    network = config.networks.segmentation.name
    if config.blocks is not None:
        return [
            f"Each field is {looks_text(config.blocks.model_dump())}. The encoder {network} sees all that is read, a "
            "small network labels the field from it; the reverse sampler puts the labels back."
        ]
    short, long = sampling.budget
    image = f"(a sampled image of about {short} x {long} px)"
    samples = f"{short * long:,} samples"
    how = {
        "learned": f"The deformation network looks at a low-res view and decides where {samples} per field {image} are "
        "taken.",
        "uniform": f"Each field is sampled evenly with {samples} {image}.",
        "tissue": f"Each field is sampled with {samples} {image}, more densely on tissue.",
        "edges": f"An oracle: each field is sampled with {samples} {image}, more densely at the borders of its labels.",
        "edge_based": "A network, trained first and then frozen, looks at a low-res view and predicts positions near "
        f"class borders for {samples} per field {image}.",
        "edge_positions": f"An oracle: each field is sampled with {samples} {image} at positions solved from its "
        "labels.",
    }[sampling.density]
    if (resizer := config.networks.resizer) is not None:
        how += f" A network makes the sampled image out of one {resizer.input_scale:g} times as long along each axis."
    return [
        f"{how} The network {network} segments the sampled image; the reverse sampler puts the labels back."
    ]


def _trained_on(run: Path) -> list[str]:
    """How many slides and patients the stored model was trained and validated on, if it says so."""
    for path in (run / "best.json", run / "last.json"):
        data = (read_json(path).get("data") or {}) if path.is_file() else {}
        parts = []
        for split, word in (("train", "Trained on"), ("val", "validated on")):
            counts = data.get(split)
            if isinstance(counts, dict):
                parts.append(f"{word} {', '.join(f'{many:,} {what}' for what, many in counts.items())}")
        if parts:
            return ["; ".join(parts) + "."]
    return []


def read_log(run: Path) -> list[dict[str, float]]:
    """Read ``log.csv`` of a run: one mapping per epoch, without the cells that are empty.

    Raises:
        ModelError: It is missing, holds no epoch, lacks a column, or a cell is not a number.
    """
    path = run / "log.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            raw = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        state = "does not exist" if not run.exists() else f"log.csv cannot be read ({error})"
        raise ModelError(
            f"run {run}: {state}. Needed a run folder of `wsi-deform train` with one epoch or more."
        ) from error
    if any(None in row for row in raw):
        raise ModelError(
            f"{path}: a row has more cells than the first. Needed rows as `wsi-deform train` writes them."
        )
    try:
        rows = [{str(name): float(cell) for name, cell in row.items() if cell} for row in raw]
    except ValueError as error:
        raise ModelError(
            f"{path}: {error}. Needed numbers in all cells, as `wsi-deform train` writes them."
        ) from error
    missing = [name for name in LOG_NEEDS if any(name not in row for row in rows)]
    if missing or not rows:
        found = f"no {', '.join(missing)}" if missing else "no epoch"
        raise ModelError(f"{path}: {found}. Needed the log of a run with one epoch or more. Train first.")
    return rows


def _stored(run: Path) -> dict[str, Any]:
    """What is said of the stored model; a run that was stopped early may have none."""
    if not any((run / name).is_file() for name in ("best.safetensors", "last.safetensors")):
        return {}
    path = find_model(run)
    facts = read_model_facts(path)
    classes: Sequence[dict[str, Any]] = facts["classes"]["classes"]
    licences = (facts.get("data") or {}).get(LICENCES)
    return {
        "model": path.name,
        "model_sha256": facts.get("safetensors_sha256"),
        "model_mpp": facts["mpp"],
        "classes": ", ".join(str(each["name"]) for each in classes),
        **({"data_licences": licences_text(licences)} if licences else {}),
        "size_bytes": f"{path.stat().st_size:,}",
    }
