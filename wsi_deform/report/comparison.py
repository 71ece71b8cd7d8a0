"""The page that sets methods side by side: measures, learning curves, where they sampled and what they saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.config_sections import Config
from wsi_deform.data.study import open_labelled
from wsi_deform.drawing.figures import comparison_figure, sampling_points_figure
from wsi_deform.evaluate.masks import Evaluation
from wsi_deform.evaluate.means import measured_miou
from wsi_deform.evaluate.tables import mean_notes
from wsi_deform.geometry import Size
from wsi_deform.manifest.rows import Manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.provenance import provenance
from wsi_deform.report.measured import MIOU, measures
from wsi_deform.report.page import Fact, Picture, Section, write_report
from wsi_deform.report.pictures import levels_picture, sampled_picture, slide_picture, truth_picture
from wsi_deform.report.run import curves, describe_config, read_log
from wsi_deform.report.tables import NOTHING, comparison_table, number

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
    tiles += _shares(configs, evaluations)
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
        Section(title="Learning curves", pictures=curves(logs)),
        *_slides(manifest, classes, masks, evaluations),
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


def _shares(configs: Mapping[str, Config], evaluations: Mapping[str, Evaluation]) -> list[Fact]:
    """How much each method looks at: one tile where all do alike, else one for each that differs, with its methods."""
    found: dict[tuple[str, str], list[str]] = {}
    for method, evaluation in evaluations.items():
        what = "samples" if configs[method].blocks is None else "pixels read"
        share = share_sampled(configs[method], evaluation)
        found.setdefault((share, f"{what} / pixels of the slide"), []).append(method)
    return [
        Fact(value=share, what=what if len(found) == 1 else f"{what}, {', '.join(methods)}")
        for (share, what), methods in found.items()
    ]


def share_sampled(config: Config, evaluation: Evaluation) -> str:
    """Samples per pixel of the average slide, e.g. "1 / 1024"; of blocks pixels read, a dash if not known."""
    pixels = sum(slide.size.area for slide in evaluation.slides)
    if config.blocks is None:
        short, long = config.sampling.budget
        return f"1 / {pixels / len(evaluation.slides) / (short * long):.0f}"
    read = [slide.cost.read_pixels for slide in evaluation.slides]
    return NOTHING if None in read else f"1 / {pixels / sum(each or 0 for each in read):.0f}"


def chosen_slides(evaluation: Evaluation) -> list[tuple[str, str]]:
    """Slides that are shown: id, and its mean IoU and place among all.

    Args:
        evaluation: Of the method that is put forward.

    Returns:
        The worst, the middle one and the best; of three slides or fewer all, the worst first. Slides whose labels
        measure nothing come last.
    """
    scores = {slide.slide_id: measured_miou(slide.predicted) for slide in evaluation.slides}
    known = {name: score for name, score in scores.items() if score is not None}
    ranked = [*sorted(known, key=lambda name: known[name]), *(name for name in scores if name not in known)]
    count = len(ranked)
    places = (
        sorted({0, (len(known) - 1) // 2, len(known) - 1}) if count > SHOWN_SLIDES and known else range(count)
    )
    words = {0: "the worst", (count - 1) // 2: "the middle one", count - 1: "the best"}
    return [
        (
            ranked[place],
            f"mIoU {known[ranked[place]]:.3f}, {words.get(place, f'number {place + 1} from the worst')} of {count}"
            if ranked[place] in known
            else "its labels measure no mean",
        )
        for place in list(places)[:SHOWN_SLIDES]
    ]


def _slides(
    manifest: Manifest, classes: ClassTable, masks: Mapping[str, Path], evaluations: Mapping[str, Evaluation]
) -> list[Section]:
    """A section for each of some slides; the last method says which."""
    rows = {row.slide_id: row for row in manifest.rows}
    best, evaluation = list(evaluations.items())[-1]
    chosen = chosen_slides(evaluation)
    legend = [(name, colour) for name, colour in zip(classes.names, classes.colours, strict=True)]
    sections = [
        Section(
            title="Slides",
            text=[
                f"{len(chosen)} of the {len(evaluation.slides)} held-out slides are shown"
                + (
                    f": those where the mean IoU of {best} is lowest, in the middle, and highest."
                    if len(chosen) < len(evaluation.slides)
                    else f", that with the lowest mean IoU of {best} first."
                )
            ],
            legend=legend,
        )
    ]
    for slide_id, why in chosen:
        row = rows[slide_id]
        picture, size = slide_picture(row.slide, mpp=row.mpp)
        of_picture = Size(picture.shape[1], picture.shape[0])
        opened, labels = open_labelled(row, classes)
        bar = scale_bar(opened.size, opened.mpp_xy)
        seen = {
            method: sampled_picture(MaskFolder(folder), slide_id, of_picture)
            for method, folder in masks.items()
        }
        maps = {"truth": truth_picture(labels, of_picture)}
        maps |= {method: each.labels for method, each in seen.items()}
        pictures = [
            Picture(
                image=comparison_figure(picture, maps, classes, title=f"slide {slide_id}", bar=bar),
                caption=f"{slide_id}: the slide, the truth, and the masks.",
                is_slide=True,
            )
        ]
        for method, each in seen.items():
            image = levels_picture(each.samples, picture, size=size, title=method, mpp=opened.mpp_xy)
            verb = "samples" if image is None else "looks"
            if image is None:
                image = sampling_points_figure(
                    picture, each.samples.points_px, size=size, title=method, bar=bar
                )
            pictures.append(
                Picture(image=image, caption=f"{slide_id}: where {method} {verb}.", is_slide=True)
            )
        sections.append(Section(title=f"{slide_id}: {why}", pictures=pictures, heading=3))
    return sections


def _seconds(logs: Mapping[str, list[dict[str, float]]]) -> dict[str, str]:
    return {
        f"training of {method}": f"{sum(row.get('seconds', 0.0) for row in rows):.0f} s, {len(rows)} epochs"
        for method, rows in logs.items()
    }
