"""The page that sets methods side by side: measures, learning curves, where they sampled and what they saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.data.study import open_labelled
from wsi_deform.drawing.looks_figure import Look, looks_figure
from wsi_deform.evaluate.masks import Evaluation, SlideEvaluation
from wsi_deform.evaluate.means import measured_miou
from wsi_deform.evaluate.tables import mean_notes
from wsi_deform.geometry import Mpp, Size
from wsi_deform.manifest.licences import licences_of, licences_text
from wsi_deform.manifest.rows import Manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.provenance import provenance
from wsi_deform.report.measured import MIOU, measures
from wsi_deform.report.page import Fact, Picture, Section, write_report
from wsi_deform.report.pictures import (
    read_levels,
    sampled_picture,
    scale_texts,
    slide_picture,
    truth_picture,
)
from wsi_deform.report.reading import reading, reading_table, unlike_notes
from wsi_deform.report.run import curves, describe_config, read_log
from wsi_deform.report.tables import comparison_table, number

SHOWN_SLIDES = 3
RATES = "learning-rate"
"""The figure of ``curves`` that says nothing of how methods compare."""
CLASS_IOU = "IoU "


def compare_methods(
    path: Path,
    *,
    title: str,
    lead: Sequence[str] = (),
    best: str,
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
        lead: Paragraphs that say what the slides are.
        best: The method that is put forward: how well it did says which slides are shown.
        manifest: The slides.
        classes: The class table.
        runs: Method -> run folder.
        masks: Method -> mask folder.
        evaluations: Method -> measures on the same slides.
        facts: What else says how the page was made.

    Returns:
        The path.
    """
    measured = {method: measures(evaluation) for method, evaluation in evaluations.items()}
    configs = {method: read_config(run / "config.yaml") for method, run in runs.items()}
    logs = {method: read_log(run) for method, run in runs.items()}
    reads = {method: reading(configs[method], evaluation) for method, evaluation in evaluations.items()}
    made = provenance(config=configs[best].model_dump(mode="json"))
    tiles = [
        Fact(value=number(values[MIOU]), what=f"mIoU, {method}", more=reads[method].text())
        for method, values in measured.items()
    ]
    sections = [
        Section(
            title="Methods",
            text=[
                *(f"{method}: {' '.join(describe_config(configs[method]))}" for method in configs),
                *unlike_notes(configs, reads),
            ],
            table=reading_table(configs, reads, logs),
        ),
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
            heading=3,
        ),
        *_slides(manifest, classes, masks, evaluations, best),
        Section(title="Learning curves", pictures=[each for each in curves(logs) if each.name != RATES]),
    ]
    return write_report(
        path,
        title=title,
        lead=lead,
        facts=tiles,
        sections=sections,
        # Facts first, and not hidden by what provenance was not told, such as a seed.
        provenance={**facts, **_licences(manifest), **made, **facts},
    )


def _columns(values: Mapping[str, float], of_classes: bool) -> dict[str, float]:
    """The measures of single classes, by the classes' names, or the others."""
    return {
        name.removeprefix(CLASS_IOU): value
        for name, value in values.items()
        if name.startswith(CLASS_IOU) == of_classes
    }


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
    manifest: Manifest,
    classes: ClassTable,
    masks: Mapping[str, Path],
    evaluations: Mapping[str, Evaluation],
    best: str,
) -> list[Section]:
    """A section for each of some slides; ``best`` says which."""
    rows = {row.slide_id: row for row in manifest.rows}
    evaluation = evaluations[best]
    chosen = chosen_slides(evaluation)
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
                + " Left: where each method looked. Right: the truth, and the masks."
            ],
        )
    ]
    of_slides = {
        method: {slide.slide_id: slide for slide in each.slides} for method, each in evaluations.items()
    }
    for slide_id, why in chosen:
        row = rows[slide_id]
        picture, size = slide_picture(row.slide, mpp=row.mpp)
        of_picture = Size(picture.shape[1], picture.shape[0])
        opened, labels = open_labelled(row, classes)
        image = looks_figure(
            picture,
            truth_picture(labels, of_picture),
            {
                method: look_of(MaskFolder(folder), of_slides[method][slide_id], of_picture, opened.mpp_xy)
                for method, folder in masks.items()
            },
            classes,
            size=size,
            title=f"slide {slide_id}",
            bar=scale_bar(opened.size, opened.mpp_xy),
        )
        caption = f"{slide_id}: the slide and the truth; where {', '.join(masks)} looked, and their masks."
        sections.append(
            Section(
                title=f"{slide_id}: {why} ({best})",
                pictures=[Picture(image=image, caption=caption, is_slide=True)],
                heading=3,
            )
        )
    return sections


def look_of(folder: MaskFolder, slide: SlideEvaluation, size: Size, mpp: Mpp | None) -> Look:
    """What a method saw of a slide, from its mask folder.

    Args:
        folder: The mask folder.
        slide: What was measured of the slide's mask.
        size: Size of the picture that it is drawn on, px.
        mpp: Level-0 um per px of the slide, or None.

    Raises:
        MaskError: The samples are missing or damaged.
    """
    seen = sampled_picture(folder, slide.slide_id, size)
    points_px, score = seen.samples.points_px, measured_miou(slide.predicted)
    what = "mask" if score is None else f"mIoU {score:.3f}"
    found = read_levels(seen.samples, size)
    if found is None:
        return Look(labels=seen.labels, how=f"{len(points_px):,} samples", what=what, points_px=points_px)
    levels, sides = found
    read = slide.cost.read_pixels
    return Look(
        labels=seen.labels,
        how="where it read closer" if read is None else f"{read:,} pixels read",
        what=what,
        points_px=points_px,
        levels=levels,
        scales=scale_texts(sides, mpp),
    )


def _licences(manifest: Manifest) -> dict[str, str]:
    """Under which licences the slides come, where their rows say it."""
    if not any(row.data_licence for row in manifest.rows):
        return {}
    return {"data licences": licences_text(licences_of(manifest.rows))}
