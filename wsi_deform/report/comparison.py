"""The page that sets methods side by side: measures, learning curves, where they sampled and what they saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.config_sections import Config
from wsi_deform.data.study import open_labelled
from wsi_deform.drawing.figures import comparison_figure, curves_figure, sampling_points_figure
from wsi_deform.evaluate.masks import Evaluation
from wsi_deform.evaluate.tables import mean_notes
from wsi_deform.geometry import Size
from wsi_deform.manifest.rows import Manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.provenance import provenance
from wsi_deform.report.measured import MIOU, measures
from wsi_deform.report.page import Fact, Picture, Section, write_report
from wsi_deform.report.pictures import sampled_picture, slide_picture, truth_picture
from wsi_deform.report.run import describe_config, read_log
from wsi_deform.report.tables import comparison_table, number

SHOWN_SLIDES = 3
CLASS_IOU = "IoU "


def compare_methods(
    path: Path,
    *,
    title: str,
    manifest: Manifest,
    classes: ClassTable,
    runs: Mapping[str, Path],
    masks: Mapping[str, Path],
    evaluations: Mapping[str, Evaluation],
    facts: Mapping[str, Any],
) -> Path:
    """Write the page.

    Args:
        path: The ``.html``; whole or absent.
        title: Of the page.
        manifest: The slides.
        classes: The class table.
        runs: Method -> run folder.
        masks: Method -> mask folder.
        evaluations: Method -> measures on the same slides; the last method is the one that is put forward.
        facts: What else says how the page was made.

    Returns:
        The path.
    """
    measured = {method: measures(evaluation) for method, evaluation in evaluations.items()}
    best = list(measured)[-1]
    configs = {method: read_config(run / "config.yaml") for method, run in runs.items()}
    logs = {method: read_log(run) for method, run in runs.items()}
    made = provenance(config=configs[best].model_dump(mode="json"))
    tiles = [Fact(value=number(values[MIOU]), what=f"mIoU, {method}") for method, values in measured.items()]
    tiles.append(
        Fact(value=share_sampled(configs[best], evaluations[best]), what="samples / pixels of the slide")
    )
    sections = [
        Section(
            title="Measures on the held-out slides",
            text=[
                "At full resolution, pooled over all pixels. mIoU(Y', Y) is the ceiling that the sampling sets: the "
                "true labels at the samples, put back, against the labels.",
                *(f"{method}: {note}" for method, each in evaluations.items() for note in mean_notes(each)),
            ],
            table=comparison_table({method: _columns(values, False) for method, values in measured.items()}),
        ),
        Section(
            title="IoU of each class",
            table=comparison_table({method: _columns(values, True) for method, values in measured.items()}),
        ),
        Section(
            title="Learning curves",
            pictures=[
                Picture(
                    image=curves_figure(logs),
                    caption="Training losses (dashed: edge loss) and validation mIoU at full resolution.",
                )
            ],
        ),
        *_slides(manifest, classes, masks, evaluations[best]),
    ]
    return write_report(
        path,
        title=title,
        lead=[f"{method}: {' '.join(describe_config(configs[method]))}" for method in configs],
        facts=tiles,
        sections=sections,
        # Facts first, and not hidden by what provenance was not told, such as a seed.
        provenance={**facts, **_seconds(logs), **made, **facts},
    )


def _columns(values: Mapping[str, float], of_classes: bool) -> dict[str, float]:
    """The measures of single classes, by the classes' names, or the others."""
    return {
        name.removeprefix(CLASS_IOU): value
        for name, value in values.items()
        if name.startswith(CLASS_IOU) == of_classes
    }


def share_sampled(config: Config, evaluation: Evaluation) -> str:
    """Samples per pixel of the average slide, e.g. "1 / 1024"."""
    short, long = config.sampling.budget
    pixels = sum(slide.size.area for slide in evaluation.slides) / len(evaluation.slides)
    return f"1 / {pixels / (short * long):.0f}"


def _slides(
    manifest: Manifest, classes: ClassTable, masks: Mapping[str, Path], evaluation: Evaluation
) -> list[Section]:
    """A section for each of some slides."""
    rows = {row.slide_id: row for row in manifest.rows}
    sections = []
    for slide in evaluation.slides[:SHOWN_SLIDES]:
        row = rows[slide.slide_id]
        picture, size = slide_picture(row.slide, mpp=row.mpp)
        of_picture = Size(picture.shape[1], picture.shape[0])
        opened, labels = open_labelled(row, classes)
        bar = scale_bar(opened.size, opened.mpp_xy)
        seen = {
            method: sampled_picture(MaskFolder(folder), slide.slide_id, of_picture)
            for method, folder in masks.items()
        }
        maps = {"truth": truth_picture(labels, of_picture)}
        maps |= {method: each.labels for method, each in seen.items()}
        pictures = [
            Picture(
                image=sampling_points_figure(picture, each.points_px, size=size, title=method, bar=bar),
                caption=f"{slide.slide_id}: where {method} samples.",
            )
            for method, each in seen.items()
        ]
        pictures.append(
            Picture(
                image=comparison_figure(picture, maps, classes, bar=bar),
                caption=f"{slide.slide_id}: the slide, the truth, and the masks.",
            )
        )
        sections.append(Section(title=f"Slide {slide.slide_id}", pictures=pictures))
    return sections


def _seconds(logs: Mapping[str, list[dict[str, float]]]) -> dict[str, str]:
    return {
        f"training of {method}": f"{sum(row.get('seconds', 0.0) for row in rows):.0f} s, {len(rows)} epochs"
        for method, rows in logs.items()
    }
