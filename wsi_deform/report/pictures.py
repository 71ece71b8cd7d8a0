"""What a report shows of a slide, all in the size of its thumbnail."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wsi_deform.annotation.labels import Labels
from wsi_deform.drawing.levels import level_colours, levels_of
from wsi_deform.geometry import Mpp, Size, mean_mpp
from wsi_deform.look.lowres import thumbnail
from wsi_deform.mask.caption import LegendEntry, captioned
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.overlay import label_picture, overlay
from wsi_deform.mask.samples import SlideSamples, read_samples
from wsi_deform.mask.scale_bar import scale_bar
from wsi_deform.slide.open import open_slide

PICTURE_PX = 1600


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SampledPicture:
    """How a method saw and labelled a slide.

    Attributes:
        samples: Its samples.
        labels: (H, W) uint8, the mask in the size of the thumbnail.
    """

    samples: SlideSamples
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
    return SampledPicture(samples=samples, labels=label_picture(samples.reverse(), size))


def read_levels(samples: SlideSamples, size: Size) -> tuple[NDArray[np.uint8], tuple[float, ...]] | None:
    """At which level a slide was read, place by place.

    Args:
        samples: The slide's.
        size: Size of the picture, px.

    Returns:
        (size.height, size.width) uint8, 0 where it was read at the coarsest level or not at all, and the side of a
        pixel of each level, level-0 px; None where the samples do not say.
    """
    areas = [field.areas_px for field in samples.fields]
    known = [each for each in areas if each is not None]
    if not known or len(known) < len(areas):
        return None
    levels, sides = levels_of(np.sqrt(np.concatenate(known)))
    parts = np.split(levels, np.cumsum([len(each) for each in known])[:-1])
    fields = tuple(
        replace(field, labels=part, probabilities=None)
        for field, part in zip(samples.fields, parts, strict=True)
    )
    shown = replace(samples, fields=fields, outside_label=0, interpolation="nearest", limit=None)
    return label_picture(shown.reverse(), size), sides


def levels_picture(
    samples: SlideSamples, picture: NDArray[np.uint8], *, size: Size, title: str, mpp: Mpp | None
) -> bytes | None:
    """A thumbnail, tinted by the finest level that was read at each place; a JPEG.

    Args:
        samples: The slide's.
        picture: (H, W, 3) uint8 RGB, its thumbnail.
        size: Its level-0 size, px.
        title: Written above.
        mpp: Its level-0 um per px, or None where nobody said.

    Returns:
        With a legend of the levels, the coarsest of which is left clear; None where the samples do not say.
    """
    found = read_levels(samples, Size(picture.shape[1], picture.shape[0]))
    if found is None:
        return None
    levels, sides = found
    colours = level_colours(len(sides))
    drawn = captioned(
        overlay(picture, levels, colours, background=0),
        title=title,
        bar=scale_bar(size, mpp),
        entries=[
            LegendEntry(text=text, colour=colour)
            for text, colour in zip(scale_texts(sides, mpp), colours, strict=True)
        ],
    )
    buffer = io.BytesIO()
    Image.fromarray(drawn).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def scale_texts(sides: Sequence[float], mpp: Mpp | None) -> list[str]:
    """Sides of pixels in words: "8 um per px", or "16 level-0 px per px" where nobody said um.

    Args:
        sides: Level-0 px.
        mpp: Level-0 um per px, or None.
    """
    unit, per_px = ("level-0 px", 1.0) if mpp is None else ("um", mean_mpp(mpp))
    return [f"{side * per_px:.3g} {unit} per px" for side in sides]


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
