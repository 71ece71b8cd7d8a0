"""The stains of a slide, and how its colours are brought to a reference (Macenko's normalisation)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.look.fields import cover_with_fields
from wsi_deform.look.lowres import low_res_view, whole_view_size
from wsi_deform.look.tissue import TissueMask
from wsi_deform.slide.slide import Slide

logger = logging.getLogger(__name__)

StainChoice = Literal["none", "macenko"]
# Fine enough that nuclei and stroma are different pixels; averaged further, both stains mix.
VIEW_MPP = 2.0
# Of a slide without one: what most scanners make at 20x.
USUAL_MPP = 0.5
WINDOW_UM = 512.0
MAX_WINDOWS = 16
# Natural optical density below which a pixel is glass, in any channel; Macenko's beta.
MIN_DENSITY = 0.15
# Share of the pixels that may lie beyond the estimate; Macenko's alpha.
OUTSIDE_PERCENT = 1.0
MIN_PIXELS = 200
# Glass is looked for in a view of the whole slide of this many px; darker than this it was not scanned.
GLASS_VIEW_PX = 512
MIN_GLASS = 150.0
WHITE = (255.0, 255.0, 255.0)
# Haematoxylin and eosin are about 25 degrees apart; below this there is one stain, or none.
MIN_ANGLE_DEGREES = 8.0
# Stained tissue under transmitted light lets through more than e^-6 of each colour at the 99th percentile.
MAX_STRENGTH = 6.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stain:
    """Two stains of a slide.

    Attributes:
        vectors: (2, 3) float64, optical density of red, green and blue per unit of haematoxylin and eosin; unit
            length.
        strength: (2,) float64, the 99th percentile of the amount of each in the tissue, natural optical density.
        white: RGB of bare glass, in [0, 255]: where all densities are 0.
    """

    vectors: NDArray[np.float64]
    strength: NDArray[np.float64]
    white: tuple[float, float, float] = WHITE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Normalisation:
    """What brings the colours of one slide to a reference; call it on images.

    Attributes:
        white: RGB of the slide's bare glass.
        matrix: (3, 3) float64: optical densities are multiplied by it from the right.
        reference_white: RGB that bare glass becomes.
    """

    white: tuple[float, float, float]
    matrix: NDArray[np.float64]
    reference_white: tuple[float, float, float]

    def __call__(self, images: Tensor) -> Tensor:
        """Change the colours of images.

        Args:
            images: (..., 3, H, W) RGB in [0, 255].

        Returns:
            The same shape, in [0, 255]; differentiable with respect to the images.
        """
        # In float32 whatever autocast says: half precision would shift colours by whole steps.
        with torch.autocast(images.device.type, enabled=False):
            rgb = images.float().clamp(min=1.0)
            density = -(rgb / torch.tensor(self.white, device=rgb.device)[:, None, None]).log()
            changed = torch.einsum("...ihw,ij->...jhw", density, torch.from_numpy(self.matrix).to(density))
            white = torch.tensor(self.reference_white, device=rgb.device)[:, None, None]
            return (white * torch.exp(-changed)).clamp(0.0, 255.0).to(images.dtype)


# What Macenko's method gives for a well stained H&E slide; the numbers that most tools use, so that their images and
# ours look alike. Vectors are brought to unit length.
_USUAL = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]])
REFERENCE = Stain(
    vectors=_USUAL / np.linalg.norm(_USUAL, axis=1, keepdims=True), strength=np.array([1.9705, 1.0308])
)


def stain_of(slide: Slide, tissue: TissueMask) -> Stain | None:
    """Estimate the stains of a slide.

    Args:
        slide: An open slide.
        tissue: Where its tissue is.

    Returns:
        The stains; None, with a line in the log, where there is too little stained tissue to tell.

    Raises:
        SlideError: A tile cannot be read.

    Convention:
        Read at 2 um/px (a slide without mpp counts as 0.5 um/px), in at most 16 windows of 512 um with tissue, spread
        evenly over them in reading order: so slides of all sizes are measured alike. White is the median colour of
        what is bright and not tissue, or 255 where there is next to none. The result depends on the slide alone.
    """
    mpp = slide.mpp_or_none or USUAL_MPP
    found = cover_with_fields(slide.size, tissue, field_px=max(1, round(WINDOW_UM / mpp)), pixel=slide.pixel)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(len(found), MAX_WINDOWS)).round().astype(int))
    scale = min(1.0, mpp / VIEW_MPP)
    pixels = [np.empty((0, 3))]
    for number in chosen:
        region = found[number].region
        shape = slide.squared(region.size)
        size = Size(max(1, round(shape.width * scale)), max(1, round(shape.height * scale)))
        inside = tissue.fractions(region, size) > 0.5
        pixels.append(low_res_view(slide, region, size)[inside].astype(np.float64))
    stain = stain_of_pixels(np.concatenate(pixels), white=_white_of(slide, tissue))
    if stain is None:
        logger.warning("%s: too little stained tissue to normalise its colours; they stay", slide.slide_id)
    return stain


def stain_of_pixels(rgb: NDArray[np.float64], white: tuple[float, float, float] = WHITE) -> Stain | None:
    """Estimate two stains from pixels of tissue.

    Args:
        rgb: (N, 3) in [0, 255].
        white: RGB of bare glass.

    Returns:
        The stains; None where fewer than 200 pixels are stained, where they have one colour, or where they are too
        dark for light that passed through tissue.

    Raises:
        ShapeError: Another shape.

    Source:
        Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009: plane of the
        two largest singular vectors of the optical densities, extreme angles in it.
    """
    if rgb.ndim != 2 or rgb.shape[1] != 3:
        raise ShapeError(f"pixels of shape {rgb.shape}: needed (N, 3) RGB.")
    density = -np.log(np.maximum(rgb, 1.0) / white)
    density = density[(density >= MIN_DENSITY).all(axis=1)]
    if len(density) < MIN_PIXELS:
        return None
    # The singular vectors of N x 3 numbers, from 3 x 3 of them. Not centred: no stain is no density.
    _, axes = np.linalg.eigh(density.T @ density)
    plane = axes[:, [2, 1]]
    plane *= np.where(plane.sum(axis=0) < 0, -1.0, 1.0)
    angle = np.arctan2(density @ plane[:, 1], density @ plane[:, 0])
    low, high = np.percentile(angle, (OUTSIDE_PERCENT, 100 - OUTSIDE_PERCENT))
    if math.degrees(high - low) < MIN_ANGLE_DEGREES:
        return None
    vectors = np.array([[math.cos(each), math.sin(each)] for each in (low, high)]) @ plane.T
    # Haematoxylin takes more of red beside green than eosin, whatever else the scanner makes of both.
    vectors = vectors[np.argsort(-vectors[:, 0] / vectors[:, 1].clip(1e-6))]
    amounts = density @ np.linalg.pinv(vectors)
    strength = np.percentile(amounts, 100 - OUTSIDE_PERCENT, axis=0)
    if strength.min() <= 0 or strength.max() > MAX_STRENGTH:
        return None
    return Stain(vectors=vectors, strength=strength, white=white)


def normalisation(stain: Stain, reference: Stain = REFERENCE) -> Normalisation:
    """What turns the stains of one slide into another's.

    Args:
        stain: Of the slide.
        reference: What it should become.

    Returns:
        The change: the identity where both are equal. What is neither stain, the part along their cross product,
        keeps its amount: nothing is projected away.
    """
    strength = np.append(reference.strength / stain.strength, 1.0)
    return Normalisation(
        white=stain.white,
        matrix=np.asarray(np.linalg.solve(_three(stain), strength[:, None] * _three(reference)), np.float64),
        reference_white=reference.white,
    )


def _white_of(slide: Slide, tissue: TissueMask) -> tuple[float, float, float]:
    """RGB of bare glass."""
    size = whole_view_size(slide, max_side_px=GLASS_VIEW_PX)
    whole = Region.whole(slide.size)
    view = low_res_view(slide, whole, size)
    glass = view[(tissue.fractions(whole, size) == 0) & (view.min(axis=2) > MIN_GLASS)]
    if len(glass) < MIN_PIXELS:
        return WHITE
    red, green, blue = np.median(glass, axis=0).tolist()
    return red, green, blue


def _three(stain: Stain) -> NDArray[np.float64]:
    """(3, 3): both vectors and the direction across them."""
    across = np.cross(*stain.vectors)
    return np.vstack((stain.vectors, across / np.linalg.norm(across)))
