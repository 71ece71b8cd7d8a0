"""The physical scale of a slide for a model: um per pixel, or none at all, as photographs have it.

A model learns either from slides that all have an mpp or from images that all have none. Without, every length is in
px, and no setting may be in um.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Size
from wsi_deform.slide.mpp.claims import mistaken_unit

if TYPE_CHECKING:
    from wsi_deform.model import Model
    from wsi_deform.slide.slide import Slide

MAX_MPP_RATIO = 4.0
# Shorter fields than a cell's neighbourhood are rarely wanted.
MIN_USUAL_SIDE_UM = 20.0
# One scanner's slides of one power differ by some percent, unlike two sources in one file.
UNIT_TOLERANCE = 0.05


def px_from_um(length_um: float, slide: Slide, model: Model) -> float:
    """A length in level-0 px of a slide.

    Args:
        length_um: One of ``model.config.lengths_in_um``.
        slide: An open slide.
        model: The model whose setting it is.

    Raises:
        SlideError: The slide has no mpp, so that nobody knows how long this is on it.
    """
    mpp = slide.mpp_or_none
    if mpp is None:
        lengths = " and ".join(f"{key} {value:g}" for key, value in model.config.lengths_in_um.items())
        raise SlideError(
            f"slide {slide.path}: no mpp in file or manifest. Needed um per level-0 pixel, because the model has "
            f"lengths in um ({lengths}). Set the mpp column in its manifest row, or --mpp; the model's training slides "
            f"have {'none' if model.mpp is None else f'{model.mpp:g}'}."
        )
    return length_um / mpp


def mpp_remark(slide: Slide, model: Model) -> str:
    """What people should know of a slide's mpp before they trust its mask; empty when all is well."""
    mpp = slide.mpp_or_none
    if mpp is None and model.mpp is None:
        return ""
    if mpp is None:
        return (
            f"no mpp in file or manifest: nothing tells whether it is of the {model.mpp:g} um per pixel that the model "
            "was trained at, and no area is given; set the mpp column"
        )
    if model.mpp is None:
        return f"{mpp:g} um per pixel, but the model was trained on images without: nothing tells whether it fits"
    if 1 / MAX_MPP_RATIO <= mpp / model.mpp <= MAX_MPP_RATIO:
        return ""
    return (
        f"{mpp:g} um per pixel, but the model was trained at {model.mpp:g}{unit_hint(mpp, model.mpp)}: do not trust "
        "the mask; if the file is wrong, set the mpp column"
    )


def unit_hint(mpp: float, usual: float) -> str:
    """Which confusion of units would explain how far two scales are apart, for the end of a clause; or nothing.

    Args:
        mpp: um per pixel of a slide.
        usual: Of the others.

    Convention:
        Ratios of 2.54, 10, 25.4, 100, 254 and 1000, to 5 %: slides of one power differ by that much.
    """
    unit = mistaken_unit(mpp / usual, tolerance=UNIT_TOLERANCE)
    return (
        ""
        if unit is None
        else f" ({mpp / usual:.3g} times that, as if a unit was mistaken: a factor of {unit:g})"
    )


def samples_remark(fields: Sequence[tuple[Slide, Size, Size]], model: Model) -> str:
    """What is said where training fields have fewer pixels than samples; empty when all is well.

    Args:
        fields: Slide, size of the region in level-0 px, and size of the sampled image, of each field.
        model: The model.
    """
    finest_px = model.label_px**2  # of a sample
    small = [each for each in fields if each[1].area < finest_px * each[2].area]
    if not small:
        return ""
    slide, region, samples = small[0]
    if model.has_blocks:
        return (
            f"{len(small)} of {len(fields)} training fields have fewer pixels than the finest level has, which is made "
            f"larger than it is stored; slide {slide.path}: {region} px. Choose a larger blocks.finest_um or finest_px"
        )
    said = (
        f"{len(small)} of {len(fields)} training fields have fewer pixels than samples, so that pixels are sampled "
        f"more than once; slide {slide.path}: {region} px for {samples} samples"
    )
    side_um = model.config.fields.side_um
    if side_um is None or side_um >= MIN_USUAL_SIDE_UM:
        return f"{said}. Choose a smaller sampling.budget, or larger fields"
    return f"{said}. fields.side_um is {side_um:g} um; if it was meant in mm, write {1000 * side_um:g}"


def refuse_too_coarse(slide: Slide, model: Model, region: Size, samples: Size) -> None:
    """Refuse a field that has fewer pixels than samples because its slide's mpp is far from the model's.

    Args:
        slide: The slide.
        model: The model.
        region: Size of what the field reads, level-0 px.
        samples: Size of its sampled image, px.

    Raises:
        SlideError: They differ by more than a factor of 4: it was scanned too coarsely, or its mpp is wrong.
    """
    mpp = slide.mpp_or_none
    if mpp is None or model.mpp is None or region.area >= samples.area or not mpp_remark(slide, model):
        return
    raise SlideError(
        f"slide {slide.path}: {mpp:g} um per pixel leave {region.area} pixels to a field of {samples.area} samples. "
        f"Needed an mpp nearer to the {model.mpp:g} of the model's training slides. "
        "If the file is wrong, set the mpp column in the slide's manifest row."
    )


class HasMpp(Protocol):
    """A model, or what is known of one."""

    @property
    def mpp(self) -> float | None:
        """Um per px of its training slides, or None where they had none."""


def has_tissue(model: HasMpp, tissue_path: Path | None) -> bool:
    """Whether an image that a model segments shows tissue on glass, so that what is no tissue needs no look.

    Args:
        model: One that was trained on images without mpp, photographs, knows of no glass.
        tissue_path: A raster file that says where tissue is has the last word, or None.
    """
    return model.mpp is not None or tissue_path is not None


def limits_to_tissue(wanted: bool | None, model: HasMpp, tissue_path: Path | None) -> bool:
    """Whether a mask is limited to tissue: as is wanted, else (None) where there is any, see ``has_tissue``."""
    return has_tissue(model, tissue_path) if wanted is None else wanted
