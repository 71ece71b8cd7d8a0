"""How far a slide is from those that a model was trained on: measured in training, said when it is segmented."""

from __future__ import annotations

from collections.abc import Sequence

from wsi_deform.cover import tissue_of
from wsi_deform.look.appearance import Appearance, TrainingSlides, appearance_of
from wsi_deform.model import Model
from wsi_deform.scale import has_tissue, mpp_remark
from wsi_deform.slide.slide import Slide


def training_slides(slides: Sequence[Slide], model: Model) -> TrainingSlides:
    """What the slides that a model is trained on look like.

    Args:
        slides: One or more.
        model: The model, for which photographs have no glass.

    Raises:
        SlideError: A tile, or a tissue mask, cannot be read.
    """
    return TrainingSlides.of([_seen(slide, model) for slide in slides])


def slide_remark(slide: Slide, model: Model) -> str:
    """What people should know of a slide for a model before they trust its mask; empty when all is well.

    Args:
        slide: An open slide.
        model: The model that segments it; one of an earlier version knows the mpp of its training slides alone.

    Raises:
        SlideError: A tile, or the tissue mask, cannot be read.
    """
    of_mpp = mpp_remark(slide, model)
    if model.trained_on is None:
        return of_mpp
    found = list(model.trained_on.remarks(_seen(slide, model)))
    if of_mpp:  # says more of the same
        found = [one for one in found if "um per pixel" not in one]
    unlike = [f"unlike the training slides: {', and '.join(found)}"] if found else []
    return "; ".join(([of_mpp] if of_mpp else []) + unlike)


def _seen(slide: Slide, model: Model) -> Appearance:
    return appearance_of(slide, tissue_of(slide) if has_tissue(model, slide.tissue_path) else None)
