"""How a label mask lies over its slide, when it is smaller: which mask pixel is the label of which level-0 pixel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import AnnotationError
from wsi_deform.geometry import Point, Region, Size, level_downsample


@dataclass(frozen=True, slots=True)
class MaskFrame:
    """The frame of a mask of a whole slide.

    Attributes:
        slide: Size of the slide's level 0, px.
        mask: Size of the mask, px.
        downsample: Level-0 px per mask pixel and axis: one whole number where the mask is a level of the slide, else
            the plain ratio of the sizes.

    Convention:
        A mask of ``slide / k`` for one whole number k, to less than a pixel, has pixels of k x k level-0 px from the
        top left corner on; where its writer rounded down, the last ones reach to the slide's edge. Any other mask lies
        over the slide edge to edge. A level-0 pixel has the label of the mask pixel that its centre lies in; nothing
        is blended.
    """

    slide: Size
    mask: Size
    downsample: Point

    @classmethod
    def of(cls, path: Path, mask: Size, slide: Size) -> MaskFrame:
        """Lay a mask over its slide.

        Args:
            path: The mask, for errors.
            mask: Its size, px.
            slide: Size of the slide's level 0, px.

        Raises:
            AnnotationError: The mask is larger than the slide, or its shape is another one: there is no factor by which
                both sides of the slide become those of the mask, to a pixel of the mask.
        """
        found = f"mask {path}: {mask} px, but its slide is {slide} px"
        if mask.width > slide.width or mask.height > slide.height:
            raise AnnotationError(
                f"{found}: it is larger. Needed a mask of the slide's size, or smaller by one factor for both axes. "
                "Check that the mask belongs to this slide, and export it at the slide's size."
            )
        downsample = level_downsample(slide, mask)
        is_level = downsample.x == downsample.y == int(downsample.x)
        high, wide = slide.height * mask.width / slide.width, slide.width * mask.height / slide.height
        if not is_level and abs(high - mask.height) > 1 and abs(wide - mask.width) > 1:
            raise AnnotationError(
                f"{found}: its shape is another one. Needed a mask of the whole slide, of its size or smaller by one "
                f"factor for both axes, which to {mask.width} px of width is {high:.0f} px of height. Check that the "
                "mask belongs to this slide, and export all of it."
            )
        return cls(slide, mask, downsample)

    @property
    def is_whole(self) -> bool:
        """Whether mask pixels are squares of whole level-0 pixels."""
        return self.downsample.x == self.downsample.y == int(self.downsample.x)

    @property
    def is_same(self) -> bool:
        """Whether mask pixels are level-0 pixels."""
        return self.mask == self.slide

    def columns(self, slide_px: NDArray[np.int64]) -> NDArray[np.int64]:
        """Mask column of each level-0 column inside the slide."""
        return self._pixels(slide_px, self.downsample.x, self.mask.width, self.slide.width)

    def rows(self, slide_px: NDArray[np.int64]) -> NDArray[np.int64]:
        """Mask row of each level-0 row inside the slide."""
        return self._pixels(slide_px, self.downsample.y, self.mask.height, self.slide.height)

    def part(self, region: Region) -> Region:
        """The mask pixels that are labels of a region of level-0 px, which lies inside the slide and is not empty."""
        left, right = self.columns(np.array([region.x, region.right - 1])).tolist()
        top, bottom = self.rows(np.array([region.y, region.bottom - 1])).tolist()
        return Region(left, top, right - left + 1, bottom - top + 1)

    def _pixels(
        self, slide_px: NDArray[np.int64], downsample: float, length: int, slide_length: int
    ) -> NDArray[np.int64]:
        if self.is_same:
            return slide_px
        if self.is_whole:
            return np.minimum(slide_px // int(downsample), length - 1)
        # Of the centre, x + 1/2, in whole numbers.
        return (2 * slide_px + 1) * length // (2 * slide_length)
