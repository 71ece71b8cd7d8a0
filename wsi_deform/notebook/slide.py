"""A slide as people look at it: pictures at any scale, pixels of any part, a dask array."""

from __future__ import annotations

from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Mpp, Point, Region, Size, both_axes
from wsi_deform.look import lowres
from wsi_deform.notebook.lazy import checked_level, dask_of_slide
from wsi_deform.notebook.shown import html_shown, png_shown, scale_text
from wsi_deform.slide.path import SlideUrl
from wsi_deform.slide.resolution import positive_or_none
from wsi_deform.slide.slide import Slide

THUMBNAIL_PX = 1024
# What a notebook shows of a slide that ends a cell.
SHOWN_PX = 512


def open_slide(
    path: str | Path | SlideUrl,
    *,
    mpp: Mpp | None = None,
    slide_id: str | None = None,
    tissue_path: str | Path | None = None,
    region: Region | None = None,
) -> OpenedSlide:
    """Open a slide.

    Args:
        path: A slide file (SVS, TIFF, OME-TIFF, NDPI, MRXS, DICOM, SCN, PNG, JPEG, ...), an OME-Zarr folder
            or a folder with one DICOM series; or the URL (``https://``, ``s3://``, ...) of a tiled TIFF, SVS,
            OME-TIFF or OME-Zarr, of which only the parts that are needed are read. ``FILE::NAME`` opens another of the
            images in a file or folder than the slide; ``info.images`` has their names.
        mpp: um per level-0 pixel that wins over the file's own: one number, or a ``Point`` of one for each axis.
        slide_id: Its name, after which outputs are called; None takes the file name without suffixes.
        tissue_path: A raster file whose pixels above 0 are tissue; None finds it by colour.
        region: The part of it that is segmented, level-0 px; None is all of it.

    Returns:
        The open slide. ``.size``, ``.levels`` and ``.mpp`` say what it is, ``.thumbnail()``, ``.read()`` and
        ``.to_dask()`` give its pixels.

    Raises:
        SlideError: No reader can open the file; the message has what each of them said.
    """
    tissue = None if tissue_path is None else Path(tissue_path)
    slide = OpenedSlide(path, slide_id=slide_id, mpp=mpp, tissue_path=tissue, region=region)
    _ = slide.region  # opens the file now, so that an unreadable one is refused here
    return slide


class OpenedSlide(Slide):
    """A ``Slide`` with what a notebook needs; everything that takes a slide takes it."""

    def thumbnail(self, max_side_px: int = THUMBNAIL_PX) -> NDArray[np.uint8]:
        """A small picture of the whole slide.

        Args:
            max_side_px: The longer side of the picture; a smaller slide keeps its size.

        Returns:
            (H, W, 3) uint8 RGB, area-averaged.

        Raises:
            ShapeError: The side is less than 1 px.
            SlideError: A tile cannot be read.
        """
        return lowres.thumbnail(self, checked_side(max_side_px))

    def read(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        *,
        level: int | None = None,
        mpp: float | None = None,
    ) -> NDArray[np.uint8]:
        """Read a rectangle, of a level or at a physical scale.

        Args:
            x: Left edge.
            y: Top edge.
            width: Width.
            height: Height.
            level: Index into ``levels``, whose stored pixels are read; 0 where neither it nor ``mpp`` is given.
            mpp: um per pixel of what is read, averaged over the area of each pixel; any scale, also between levels.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            ShapeError: Both level and mpp are given, there is no such level, a number is not whole, or the
                rectangle is empty or not inside the slide.
            SlideError: The slide has no mpp and needs one, or a tile cannot be read.

        Convention:
            ``x``, ``y``, ``width`` and ``height`` are all in pixels of what is read: of the level, or with ``mpp`` of
            that scale. (OpenSlide's ``read_region`` differs: its x and y are always of level 0.) The level-0 pixel
            (X, Y) is at (X, Y) / ``levels[level].downsample``, or (X, Y) * ``slide.mpp_xy / mpp``: pixels that
            are not square are made so, and the picture has the tissue's proportions. The last column and row at a scale
            may be partly past the slide's edge, and are background there.
        """
        if level is not None and mpp is not None:
            raise ShapeError(
                f"slide {self.path}: level {level} and mpp {mpp}. Needed one of them, or neither."
            )
        region = Region(*(_whole(self, *each) for each in zip("xywh", (x, y, width, height), strict=True)))
        if mpp is None:
            number = checked_level(self, 0 if level is None else level)
            self._check_inside(region, self.levels[number].size, f"level {number}")
            return self.read_region(number, region)
        if positive_or_none(str(mpp)) is None:
            raise ShapeError(f"slide {self.path}: mpp {mpp}. Needed a positive number of um per pixel.")
        own = both_axes(self.mpp) if self.mpp_xy is None else self.mpp_xy
        scale = Point(mpp / own.x, mpp / own.y)
        # A hair less, so that rounding of the ratio adds no column that is background alone.
        sides = (self.size.width / scale.x, self.size.height / scale.y)
        whole = Size(*(max(1, int(np.ceil(side - 1e-6))) for side in sides))
        self._check_inside(region, whole, f"{mpp:g} um per pixel")
        return lowres.picture_of_scale(self, region, scale)

    def to_dask(self, level: int = 0) -> Any:
        """A level as a dask array; nothing is read before it is computed, and then tile by tile.

        Args:
            level: Index into ``levels``.

        Returns:
            Dask array (H, W, 3) of uint8 RGB, a chunk a tile of the level. Tasks carry the slide's path, not its
            pixels: workers of a cluster read the file themselves, at the same path.

        Raises:
            ShapeError: There is no such level.
        """
        return dask_of_slide(self, level)

    def _check_inside(self, region: Region, size: Size, at: str) -> None:
        """Refuse rectangles that are empty or reach past the slide."""
        if region.is_empty or region.intersection(Region.whole(size)) != region:
            raise ShapeError(
                f"slide {self.path}: x {region.x}, y {region.y}, width {region.width}, height {region.height}. "
                f"Needed a rectangle inside the slide, which has {size} px at {at}."
            )

    def _repr_png_(self) -> bytes:
        """What notebooks show: the thumbnail with name, size, scale and a scale bar."""
        return png_shown(self.thumbnail(SHOWN_PX), name=self.slide_id, size=self.size, mpp=self.mpp_xy)

    def _repr_html_(self) -> str:
        """The same with what else is known of the slide."""
        levels = self.levels
        facts = {
            "size": f"{self.size.width:,} x {self.size.height:,} px",
            "scale": scale_text(self.mpp_xy),
            "levels": f"{len(levels)}, to 1/{levels[-1].downsample.x:.4g}",
        }
        if self.mpp_xy is not None:
            extent = (self.size.width * self.mpp_xy.x / 1000, self.size.height * self.mpp_xy.y / 1000)
            facts["extent"] = f"{extent[0]:.3g} x {extent[1]:.3g} mm"
        return html_shown(self.thumbnail(SHOWN_PX), name=self.slide_id, facts=facts)


def checked_side(max_side_px: int) -> int:
    """The side of a thumbnail.

    Raises:
        ShapeError: It is less than 1 px.
    """
    if max_side_px < 1:
        raise ShapeError(f"max_side_px {max_side_px}: needed at least 1 px.")
    return max_side_px


def _whole(slide: Slide, name: str, value: int) -> int:
    """A whole number, also of numpy's kinds."""
    try:
        return index(value)
    except TypeError as error:
        name = {"w": "width", "h": "height"}.get(name, name)
        raise ShapeError(f"slide {slide.path}: {name} {value!r}. Needed a whole number of pixels.") from error
