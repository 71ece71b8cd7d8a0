"""A reader of slides for MONAI: its datasets and ``LoadImage`` read every format that this program reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.wsi_reader import BaseWSIReader
from numpy.typing import DTypeLike, NDArray

from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.geometry import Point, Region
from wsi_deform.look.lowres import picture_of_scale
from wsi_deform.paths import SLIDE_SUFFIXES, split_image
from wsi_deform.slide.find import is_slide, is_zarr_folder
from wsi_deform.slide.path import SlideUrl, slide_path
from wsi_deform.slide.slide import OnBadTile, Slide

#: Where files say the power of the objective, such as 20.
POWER_PROPERTIES = ("openslide.objective-power", "aperio.AppMag")
MODES = ("RGB", "RGBA")


class SlideReader(BaseWSIReader):  # type: ignore[misc]
    """What ``monai.data.WSIReader`` is, for slides of this program: give the class or an object as ``reader``.

    Args:
        level: The level that is read where ``get_data`` does not say it.
        mpp: um per pixel, one number or (y, x), of the level that is read; the nearest within the tolerance.
        power: The objective's power of the level that is read, as ``mpp``.
        slide_mpp: um per level-0 pixel that wins over the file's own.
        on_bad_tile: "fail" raises where a tile cannot be decoded; "blank" serves white in its place.
        settings: Other arguments of ``monai.data.wsi_reader.BaseWSIReader``: tolerances, ``channel_dim``, ``dtype``,
            ``device``, ``mode`` ("RGB" or "RGBA", which is opaque).

    Convention:
        MONAI's: sizes are (height, width), locations (top, left) in level-0 px, mpp (y, x). A location that is between
        the pixels of a level is moved to the nearest. What lies outside the slide has its background, white in most
        files, where OpenSlide's backend has black. Levels are those of the slide and, behind them, coarser ones that
        the file lacks, built when they are first read (``stored_levels`` of what ``read`` returns tells them apart).
    """

    supported_suffixes = sorted(suffix.removeprefix(".") for suffix in SLIDE_SUFFIXES | {".zarr"})
    backend = "wsi-deform"

    def __init__(
        self,
        level: int | None = None,
        mpp: float | tuple[float, float] | None = None,
        power: int | None = None,
        *,
        slide_mpp: float | None = None,
        on_bad_tile: OnBadTile = "fail",
        **settings: Any,
    ) -> None:
        super().__init__(level=level, mpp=mpp, power=power, **settings)
        self.slide_mpp = slide_mpp
        self.on_bad_tile = on_bad_tile

    def read(self, data: Sequence[os.PathLike[str] | str] | os.PathLike[str] | str, **kwargs: Any) -> Any:
        """Open slides.

        Args:
            data: A file, folder, URL or ``FILE::NAME`` of one image in a file; or several.
            kwargs: ``mpp`` and ``on_bad_tile`` of this slide.

        Returns:
            A ``Slide``, or a list of them where there are several. It pickles, for workers of a ``DataLoader``.

        Raises:
            SlideError: It is no slide that can be read.
        """
        paths = [data] if isinstance(data, (str, os.PathLike)) else list(data)
        given = {"mpp": self.slide_mpp, "on_bad_tile": self.on_bad_tile} | kwargs
        slides = [Slide(str(path), **given) for path in paths]
        for slide in slides:
            _ = slide.info  # opens the file now, so that an unreadable one is refused here
        return slides if len(slides) > 1 else slides[0]

    def get_size(self, wsi: Slide, level: int) -> tuple[int, int]:
        """Height and width of a level, px."""
        return wsi.levels[level].size.shape

    def get_level_count(self, wsi: Slide) -> int:
        """Number of levels, stored and built."""
        return len(wsi.levels)

    def get_downsample_ratio(self, wsi: Slide, level: int) -> float:
        """Level-0 px per px of a level, the mean of both axes as OpenSlide has it."""
        downsample = wsi.levels[level].downsample
        return (downsample.x + downsample.y) / 2

    def get_file_path(self, wsi: Slide) -> str:
        """The absolute path, or the URL without its secrets."""
        return str(wsi.path) if isinstance(wsi.path, SlideUrl) else str(Path(wsi.path).absolute())

    def get_mpp(self, wsi: Slide, level: int) -> tuple[float, float]:
        """Um per pixel of a level along y and x.

        Raises:
            SlideError: The file does not say, or nothing believable; give ``slide_mpp``.
        """
        mpp, downsample = wsi.mpp_xy, wsi.levels[level].downsample
        if mpp is None:
            raise SlideError(
                f"slide {wsi.path}: no believable microns-per-pixel in the file. Needed for a resolution in mpp. Give "
                "slide_mpp to the reader, or a level."
            )
        return mpp.y * downsample.y, mpp.x * downsample.x

    def get_power(self, wsi: Slide, level: int) -> float:
        """The objective's power at a level: that of the file / the level's downsample.

        Raises:
            SlideError: The file does not say it.
        """
        for name in POWER_PROPERTIES:
            try:
                power = float(wsi.info.properties.get(name, ""))
            except ValueError:
                continue
            if power > 0:
                return power / self.get_downsample_ratio(wsi, level)
        raise SlideError(
            f"slide {wsi.path}: no power of an objective in the file. Give a level or an mpp instead."
        )

    def get_wsi_at_mpp(
        self, wsi: Slide, mpp: float | tuple[float, float], atol: float = 0.0, rtol: float = 0.05
    ) -> NDArray[np.uint8]:
        """The whole slide at any scale.

        Args:
            wsi: An open slide.
            mpp: um per pixel, one number or (y, x).
            atol: With ``rtol``, how far a level may be from it to be returned as it is.
            rtol: As ``atol``, relative.

        Returns:
            uint8, (3 or 4, H, W) with ``channel_dim`` 0; the slide's size in um / mpp, rounded.

        Raises:
            SlideError: The slide has no mpp, or a tile cannot be read.

        Convention:
            Other scales than those of levels are averages over the area of each pixel; MONAI's backends interpolate
            the next finer level bilinearly, which skips pixels.
        """
        wanted = (float(mpp), float(mpp)) if isinstance(mpp, (int, float)) else (float(mpp[0]), float(mpp[1]))
        for level in range(self.get_level_count(wsi)):
            near = zip(self.get_mpp(wsi, level), wanted, strict=True)
            if all(abs(found - needed) <= atol + rtol * found for found, needed in near):
                pixels = wsi.read_region(level, Region.whole(wsi.levels[level].size))
                break
        else:
            finest = self.get_mpp(wsi, 0)
            scale = Point(wanted[1] / finest[1], wanted[0] / finest[0])
            width, height = max(1, round(wsi.size.width / scale.x)), max(1, round(wsi.size.height / scale.y))
            pixels = picture_of_scale(wsi, Region(0, 0, width, height), scale)
        return self._with_channels(pixels, self.mode)

    def verify_suffix(self, filename: Sequence[os.PathLike[str] | str] | os.PathLike[str] | str) -> bool:
        """Whether it looks like a slide, for ``LoadImage``, which asks its readers one after the other."""
        names = [filename] if isinstance(filename, (str, os.PathLike)) else list(filename)
        return all(_looks_like_slide(str(name)) for name in names)

    def _get_patch(
        self,
        wsi: Slide,
        location: tuple[int, int],
        size: tuple[int, int],
        level: int,
        dtype: DTypeLike,
        mode: str,
    ) -> NDArray[Any]:
        downsample = wsi.levels[level].downsample
        left, top = round(location[1] / downsample.x), round(location[0] / downsample.y)
        pixels = wsi.read_region(level, Region(left, top, int(size[1]), int(size[0])))
        return self._with_channels(pixels, mode).astype(dtype, copy=False)

    def _with_channels(self, pixels: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
        """(H, W, 3) RGB in the mode that is wanted, channels where they are wanted."""
        if mode not in MODES:
            raise ShapeError(f"mode {mode!r} of a slide's pixels: needed one of {', '.join(MODES)}.")
        if mode == "RGBA":
            pixels = np.concatenate((pixels, np.full_like(pixels[..., :1], 255)), axis=2)
        return np.moveaxis(pixels, -1, self.channel_dim)


def _looks_like_slide(name: str) -> bool:
    path = slide_path(name)
    if isinstance(path, SlideUrl):
        return True
    file, _ = split_image(path)
    return is_slide(file) or is_zarr_folder(file)
