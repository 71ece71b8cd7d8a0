"""DICOM slides, read frame by frame without OpenSlide."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, level_downsample, tile_region
from wsi_deform.slide.channels import GRAYSCALE
from wsi_deform.slide.colour import filled
from wsi_deform.slide.dicom.codestream import BadFrameError
from wsi_deform.slide.dicom.series import Series
from wsi_deform.slide.mpp.claims import Source, claim_of, claim_of_power, scale_from_claims
from wsi_deform.slide.reader import Level, SlideInfo, bad_tile

# Frames of one image have one scale; what differs by less was rounded.
SPACING_TOLERANCE = 1e-6


class DicomReader:
    """A DICOM slide; implements ``Reader``. A frame is a tile."""

    def __init__(self, series: Series) -> None:
        """Take the open levels of a series."""
        self._levels = series.levels
        finest = self._levels[0]
        header = finest.instances[0]
        self.path = header.path
        mpp, disagreement = _agreed(finest.spacings)
        scale = scale_from_claims(
            [
                *claim_of(Source.DICOM, *(mpp or (None, None)), has_unit=True),
                *claim_of(Source.DICOM_VOLUME, *(header.volume_mpp or (None, None)), has_unit=True),
                *claim_of_power(header.power),
            ]
        )
        gray = (GRAYSCALE,) if header.samples == 1 else ()
        self._is_open = True
        self.info = SlideInfo(
            levels=tuple(
                Level(size=one.size, downsample=level_downsample(finest.size, one.size), tile=one.tile)
                for one in self._levels
            ),
            mpp=scale.mpp,
            mpp_xy=scale.mpp_xy,
            mpp_source=scale.source,
            mpp_remarks=(*disagreement, *scale.remarks),
            vendor="dicom",
            bounds=Region.whole(finest.size),
            properties=dict(finest.instances[0].about),
            images=series.images,
            remarks=(*series.remarks, *gray, *disagreement, *scale.remarks),
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Read one tile as RGB, (H, W, 3) uint8; see ``Reader``. A tile that a sparse slide lacks is background."""
        if not 0 <= level < len(self._levels):
            raise SlideError(f"{self.path}: level {level} wanted, levels 0 to {len(self._levels) - 1} exist.")
        if not self._is_open:
            raise SlideError(f"{self.path}: reading from a closed slide. Open the slide again.")
        found = self._levels[level]
        region = tile_region(column, row, found.tile, found.size)
        where = f"tile (column {column}, row {row}) of level {level}"
        if column < 0 or row < 0 or region.is_empty:
            raise SlideError(
                f"{found.path}: {where} wanted; the level has {found.size} px in tiles of {found.tile}."
            )
        if not found.has_tile(column, row):
            return filled(region.height, region.width, self.info.background)
        try:
            pixels = found.read_tile(column, row)
        except BadFrameError as error:
            why = f"cannot be decoded ({error})"
            raise bad_tile(found.path, level, region, self.info.levels, why) from error
        # A copy: a tile that is kept must not keep the part beyond the edge.
        return np.ascontiguousarray(pixels[: region.height, : region.width])

    def close(self) -> None:
        """Release the files; reading afterwards is an error."""
        self._is_open = False
        for level in self._levels:
            level.close()


def _agreed(spacings: Sequence[tuple[float, float]]) -> tuple[tuple[float, float] | None, tuple[str, ...]]:
    """The um per pixel that all frames say, or None and a remark where they differ."""
    for sides in zip(*spacings, strict=True):
        if max(sides) > min(sides) * (1 + SPACING_TOLERANCE):
            return None, (
                f"PixelSpacing differs from frame to frame ({min(sides):.4g} to {max(sides):.4g} um): it is not "
                "believed; set the mpp column, or --mpp, if nothing else says the scale",
            )
    return (spacings[0] if spacings else None), ()
