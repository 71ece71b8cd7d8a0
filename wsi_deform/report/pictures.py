"""What a report shows of a slide, all in the size of its thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.labels import Labels
from wsi_deform.geometry import Mpp, Size
from wsi_deform.look.lowres import thumbnail
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.overlay import label_picture
from wsi_deform.mask.samples import read_samples
from wsi_deform.slide.open import open_slide

PICTURE_PX = 1600


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledPicture:
    """How a method saw and labelled a slide.

    Attributes:
        points_px: (N, 2) float64 (x, y), slide edge frame, level-0 px.
        labels: (H, W) uint8, the mask in the size of the thumbnail.
    """

    points_px: NDArray[np.float64]
    labels: NDArray[np.uint8]


def slide_picture(
    path: Path, *, mpp: Mpp | None = None, max_px: int = PICTURE_PX
) -> tuple[NDArray[np.uint8], Size]:
    """A thumbnail of a slide, (H, W, 3) uint8 RGB, and the slide's level-0 size.

    Raises:
        SlideError: The slide cannot be read.
    """
    slide = open_slide(path, mpp=mpp)
    return thumbnail(slide, max_px), slide.size


def sampled_picture(folder: MaskFolder, slide_id: str, size: Size) -> SampledPicture:
    """Read from a mask folder where a slide was sampled and how it was labelled.

    Args:
        folder: The mask folder.
        slide_id: The slide.
        size: Size of the label picture, px.

    Raises:
        MaskError: The samples are missing or damaged.
    """
    samples = read_samples(folder.samples(slide_id))
    return SampledPicture(points_px=samples.points_px, labels=label_picture(samples.reverse(), size))


def truth_picture(labels: Labels, size: Size) -> NDArray[np.uint8]:
    """The labels of a slide at the centres of a picture's pixels.

    Args:
        labels: The slide's labels.
        size: Size of the picture, px.

    Returns:
        (size.height, size.width) uint8 class indices, 255 unlabelled.
    """
    x = (np.arange(size.width) + 0.5) * (labels.slide_size.width / size.width)
    y = (np.arange(size.height) + 0.5) * (labels.slide_size.height / size.height)
    points_px = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return labels.at_points(points_px).reshape(size.shape)
