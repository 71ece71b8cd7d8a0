"""Measure mask files against the labels of a manifest, at full resolution, one slide after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED, ClassTable, read_class_table
from wsi_deform.annotation.label_check import refuse_labels_of_one_class
from wsi_deform.anonymous import LEFT_OUT, Names
from wsi_deform.data.study import open_labelled
from wsi_deform.errors import AnnotationError, ManifestError, MaskError, WsiDeformError
from wsi_deform.evaluate.bootstrap import Resamples
from wsi_deform.evaluate.calibration import calibration_of
from wsi_deform.evaluate.cost import NOTHING, SlideCost, slide_cost
from wsi_deform.evaluate.frequency import ClassFrequency
from wsi_deform.evaluate.measures import Confusion
from wsi_deform.evaluate.slide_measures import BASIC, Measured, MeasuresWanted, counted_slide
from wsi_deform.evaluate.slides import LabelMap
from wsi_deform.geometry import Region, Size
from wsi_deform.manifest.rows import Manifest, ManifestRow, Split
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.samples import SlideSamples, read_samples
from wsi_deform.slide.tiff.tiles import TiffTiles

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlideEvaluation:
    """Counts of one slide.

    Attributes:
        slide_id: The slide.
        size: Its level-0 size, px.
        predicted: The mask Y^ against the labels Y.
        sampled: Y' against Y, where Y' are the labels at the samples put back by the reverse sampler and limited
            to tissue like the mask: what the sampling alone loses. None where the mask came without its samples.
        patient: Whose it is, or None where the manifest does not say.
        mpp: um per level-0 pixel, or None.
        measured: What else was measured of it.
        cost: What its mask cost.
    """

    slide_id: str
    size: Size
    predicted: Confusion
    sampled: Confusion | None
    patient: str | None = None
    mpp: float | None = None
    measured: Measured = Measured()
    cost: SlideCost = NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Unmeasured:
    """A slide that could not be measured, and why."""

    slide_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluation:
    """Masks against labels.

    Attributes:
        masks: The folder of the masks.
        split: Which rows of the manifest were taken: train, val, test or all.
        classes: The class table.
        slides: The counts of each measured slide, in the order of the manifest; at least one.
        unmeasured: The slides that could not be measured.
    """

    masks: Path
    split: str
    classes: ClassTable
    slides: tuple[SlideEvaluation, ...]
    unmeasured: tuple[Unmeasured, ...]

    @property
    def pooled(self) -> Confusion:
        """The counts of all slides together."""
        return reduce(add, (slide.predicted for slide in self.slides))

    @property
    def pooled_sampled(self) -> Confusion | None:
        """Y' against Y over all slides that came with samples; None where none did."""
        counts = [slide.sampled for slide in self.slides if slide.sampled is not None]
        return reduce(add, counts) if counts else None

    @property
    def measured(self) -> Measured:
        """What else was measured, over all slides that have it."""
        return Measured.together([slide.measured for slide in self.slides])

    @property
    def groups_are(self) -> str:
        """What intervals are over: "patients" where every slide says whose it is, else "slides"."""
        return "patients" if all(slide.patient is not None for slide in self.slides) else "slides"

    @property
    def resamples(self) -> Resamples | None:
        """Patients, or slides, drawn with replacement; None where they are too few for intervals."""
        by_patient = self.groups_are == "patients"
        return Resamples.of(
            [(slide.patient if by_patient else None) or slide.slide_id for slide in self.slides]
        )


def anonymous(evaluation: Evaluation, names: Names) -> Evaluation:
    """The evaluation with other names, and without what names files: reasons, and where the masks lie."""
    return replace(
        evaluation,
        masks=Path("masks"),
        slides=tuple(
            replace(
                slide,
                slide_id=names.slide(slide.slide_id),
                patient=None if slide.patient is None else names.patient(slide.patient),
            )
            for slide in evaluation.slides
        ),
        unmeasured=tuple(
            Unmeasured(slide_id=names.slide(each.slide_id), reason=LEFT_OUT) for each in evaluation.unmeasured
        ),
    )


def rows_of_split(manifest: Manifest, split: Split | None = None) -> tuple[tuple[ManifestRow, ...], str]:
    """The rows that are measured.

    Args:
        manifest: The manifest.
        split: A split; None takes "test" where there is one, else every row.

    Returns:
        At least one row, and what was taken: a split, or "all".

    Raises:
        ManifestError: No row is of this split.
    """
    if split is None and manifest.of_split("test"):
        split = "test"
    rows = manifest.rows if split is None else manifest.of_split(split)
    if not rows:
        raise ManifestError(
            f"manifest in {manifest.folder}: no row of split {split} among {len(manifest.rows)}. "
            "Choose another --split."
        )
    return rows, split or "all"


def evaluate_masks(
    rows: Sequence[ManifestRow],
    masks: Path,
    classes: ClassTable,
    *,
    split: str = "all",
    on_slide: Callable[[str], None] | None = None,
    allow_empty_classes: bool = False,
    wanted: MeasuresWanted = BASIC,
) -> Evaluation:
    """Measure the masks of some slides.

    A slide whose mask is missing or does not fit is listed with the reason; the others are measured all the
    same.

    Args:
        rows: Rows of a manifest with label masks.
        masks: The folder that `wsi-deform segment` filled.
        classes: The class table that label masks are read with.
        split: What the rows are called.
        on_slide: Called with the id of each slide that is settled.
        allow_empty_classes: Whether labels of one class, with every other pixel unlabelled, are measured all the same;
            there is no mean IoU of them.
        wanted: What is measured beyond confusion counts, class frequency and calibration.

    Returns:
        Counts per slide; pooled over all pixels of the data set by ``pooled``.

    Raises:
        MaskError: There is no such folder, or no slide at all could be measured.
        AnnotationError: The masks are of other classes than the labels, or the labels hold one class and beside it
            only what means unlabelled.
    """
    folder = MaskFolder(masks)
    if not masks.is_dir():
        raise MaskError(
            f"masks {masks}: no such folder. Needed the --out of `wsi-deform segment`. Check --masks."
        )
    _check_classes(folder, classes)
    if not allow_empty_classes:
        refuse_labels_of_one_class(rows, classes)
    measured: list[SlideEvaluation] = []
    unmeasured: list[Unmeasured] = []
    for row in rows:
        try:
            measured.append(_evaluate_slide(row, folder, classes, wanted))
        except WsiDeformError as error:
            unmeasured.append(Unmeasured(slide_id=row.slide_id, reason=str(error)))
        if on_slide is not None:
            on_slide(row.slide_id)
    if not measured:
        reasons = "\n".join(f"  {each.slide_id}: {each.reason}" for each in unmeasured)
        raise MaskError(f"masks {masks}: none of {len(unmeasured)} slides could be measured.\n{reasons}")
    return Evaluation(
        masks=masks, split=split, classes=classes, slides=tuple(measured), unmeasured=tuple(unmeasured)
    )


def mask_label_map(path: Path, *, size: Size, classes: ClassTable, region: Region | None = None) -> LabelMap:
    """Open a mask that wsi-deform wrote and read level 0 where it is asked for.

    Args:
        path: The mask.
        size: Level-0 size of its slide, px.
        classes: The classes that may occur.
        region: The part of the slide that is measured, level-0 px, or None: outside it the mask may be unlabelled, as
            where only that part was segmented.

    Returns:
        From a level-0 region to (H, W) uint8 class indices; raises MaskError for a label that is no class,
        SlideError for a tile that cannot be read.

    Raises:
        MaskError: The file is missing, of another size, or not a single-channel uint8 image.
    """
    if not path.is_file():
        raise MaskError(f"mask {path}: missing. Needed the mask of this slide. Segment it first.")
    tiles = TiffTiles(path)
    if tiles.size != size:
        raise MaskError(
            f"mask {path}: {tiles.size} px, its slide is {size} px. Needed the same size. "
            "Segment the slide again, or check that mask and slide belong together."
        )
    if tiles.channels != 1 or tiles.dtype != np.uint8:
        raise MaskError(
            f"mask {path}: {tiles.channels} channels of {tiles.dtype}. Needed one channel of uint8 labels."
        )

    measured = Region.whole(size) if region is None else region

    def read(region: Region) -> NDArray[np.uint8]:
        labels: NDArray[np.uint8] = tiles.read_region(0, region)[..., 0]
        part = region.intersection(measured)
        if part != region:
            inside = np.zeros(labels.shape, np.bool_)
            inside[part.y - region.y : part.bottom - region.y, part.x - region.x : part.right - region.x] = (
                True
            )
            labels = np.where(inside, labels, np.uint8(UNLABELLED))
            seen = labels[inside]
        else:
            seen = labels
        if seen.size and seen.max() >= classes.count:
            raise MaskError(
                f"mask {path}: label {seen.max()}. Needed class indices 0 to {classes.count - 1} "
                f"({', '.join(classes.names)}). Segment the slide again."
            )
        return labels

    return read


def _evaluate_slide(
    row: ManifestRow, folder: MaskFolder, classes: ClassTable, wanted: MeasuresWanted
) -> SlideEvaluation:
    """Measure one slide; what cannot be measured is a WsiDeformError."""
    slide, truth = open_labelled(row, classes)
    label_maps = [
        mask_label_map(folder.mask(row.slide_id), size=slide.size, classes=classes, region=row.region)
    ]
    samples = _samples_of(folder.samples(row.slide_id), slide.size)
    true_labels = None
    if samples is None:
        logger.info("%s: no samples beside the mask, so no IoU(Y', Y)", row.slide_id)
    else:
        true_samples = samples.relabelled(truth.at_points)
        true_labels = true_samples.labels
        label_maps.append(true_samples.reverse().region)
    counts, measured = counted_slide(
        truth, label_maps, size=slide.size, mpp=slide.mpp_xy, classes=classes, wanted=wanted
    )
    if true_labels is not None:
        frequency = ClassFrequency.of(true_labels, counts[0].counts.sum(axis=1))
        measured = replace(measured, frequency=frequency)
    calibrated = calibration_of(truth, folder.probabilities(row.slide_id), samples, classes=classes.count)
    if calibrated is not None:
        measured = replace(measured, calibration=calibrated[0], probabilities_of=frozenset([calibrated[1]]))
    return SlideEvaluation(
        slide_id=row.slide_id,
        size=slide.size,
        predicted=counts[0],
        sampled=counts[1] if len(counts) > 1 else None,
        patient=row.patient,
        mpp=slide.mpp_or_none,
        measured=measured,
        cost=slide_cost(folder, row.slide_id),
    )


def _samples_of(path: Path, size: Size) -> SlideSamples | None:
    """The samples beside a mask; None where they were not kept."""
    if not path.is_file():
        return None
    samples = read_samples(path)
    if samples.size != size:
        raise MaskError(
            f"samples {path}: of a slide of {samples.size} px, this one is {size} px. "
            "Needed those of this slide. Segment it again."
        )
    return samples


def _check_classes(folder: MaskFolder, classes: ClassTable) -> None:
    """Refuse masks whose class indices mean other classes; masks made elsewhere may come without a table."""
    if not folder.classes.is_file():
        return
    held = read_class_table(folder.classes)
    if held.names != classes.names:
        raise AnnotationError(
            f"{folder.classes}: the masks have {held.count} classes ({', '.join(held.names)}), the labels "
            f"{classes.count} ({', '.join(classes.names)}). Needed the same names in the same "
            "order. Pass the table that the model was trained with by --classes."
        )
