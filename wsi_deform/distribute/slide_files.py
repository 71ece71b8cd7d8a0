"""The files of one slide, from its pixels to the last of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cover import budgets_of, mpp_remark
from wsi_deform.distribute.job import SlideJob, loaded_model
from wsi_deform.distribute.outputs import OnField, shown_downsample, write_outputs
from wsi_deform.geometry import Size
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.geojson import write_geojson
from wsi_deform.mask.overlay import label_picture_of_mask, overlay
from wsi_deform.memory import fields_per_batch, limit_caches
from wsi_deform.provenance import write_aside
from wsi_deform.slide.lowres import thumbnail
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

OVERLAY_PX = 2048
JPEG_QUALITY = 88
NO_FOOTPRINT = "no mpp, so no footprint map: set the mpp column, or --mpp"


def slide_files(job: SlideJob, made: MaskFolder, on_field: OnField | None) -> dict[str, Any]:
    """Segment a slide and write its files.

    Args:
        job: The slide and the model.
        made: Where to write.
        on_field: Called after each field with how many are done and how many there are.

    Returns:
        What its state says of them.

    Raises:
        WsiDeformError: The slide cannot be read, or a file cannot be written.
    """
    slide = _opened(job)
    model = loaded_model(job.model, job.model_sha256, job.device)
    # Before the first look at the slide: strips are decoded for the tissue view already.
    limit_caches(job.memory_gib)
    budgets = budgets_of(slide, model)
    written = write_outputs(
        slide,
        model,
        budgets,
        made,
        wanted=job.wanted,
        batch=fields_per_batch(model, budgets, wanted=job.batch, memory_gib=job.memory_gib),
        threads=job.threads,
        on_field=on_field,
    )
    write_overlay(made.overlay(job.slide_id), slide, made.mask(job.slide_id), model.classes)
    remarks = [mpp_remark(slide, model), written.remark]
    if job.wanted.footprint and slide.mpp_or_none is None:
        remarks.append(NO_FOOTPRINT)
    return {
        "width_px": slide.size.width,
        "height_px": slide.size.height,
        "mpp": slide.mpp_or_none,
        "remark": "; ".join(remark for remark in remarks if remark),
        "fields": len(budgets),
        "samples": written.samples,
        "tiles": written.tiles,
        "class_pixels": written.class_pixels,
        "class_pixels_in_tissue": written.class_pixels_in_tissue,
        "removed_pixels": written.removed_pixels,
        "tissue_pixels": written.tissue_pixels,
    }


def complete_files(job: SlideJob, folder: MaskFolder, made: MaskFolder, kinds: Sequence[str]) -> None:
    """Make files of a finished slide from its mask.

    Args:
        job: The slide and the model.
        folder: Where its mask lies.
        made: Where to write.
        kinds: Which files.

    Raises:
        WsiDeformError: The slide or the mask cannot be read, or a file cannot be written.
    """
    model = loaded_model(job.model, job.model_sha256, job.device)
    slide, mask = _opened(job), folder.mask(job.slide_id)
    if "overlay" in kinds:
        write_overlay(made.overlay(job.slide_id), slide, mask, model.classes)
    if "geojson" in kinds:
        write_geojson(
            made.geojson(job.slide_id),
            mask,
            classes=model.classes,
            downsample=shown_downsample(slide, budgets_of(slide, model)),
            shown=slide.bounds,
        )


def write_overlay(path: Path, slide: Slide, mask: Path, classes: ClassTable) -> None:
    """Write the thumbnail with the classes of a mask drawn over it as a JPEG, whole or absent."""
    picture = thumbnail(slide, OVERLAY_PX)
    labels = label_picture_of_mask(mask, Size(picture.shape[1], picture.shape[0]))
    drawn = overlay(picture, labels, classes.colours, background=classes.background)
    with write_aside(path) as aside:
        Image.fromarray(drawn).save(aside, quality=JPEG_QUALITY)


def _opened(job: SlideJob) -> Slide:
    source = job.source
    return open_slide(source.path, mpp=source.mpp, slide_id=source.slide_id, tissue_path=source.tissue_path)
