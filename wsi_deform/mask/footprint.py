"""Footprint maps: how closely the system looked, in um per sample, or in blocks per pixel that was read.

A mask is as sharp as the samples behind it: where they lie 50 um apart, an outline is no better than that. The
footprint is the side of the square with the area of a sample's warped cell; where a field was read in blocks, with the
area of a pixel of the finest level that was read there. The map is an OME-TIFF pyramid of one
uint16 channel in *tenths of um*: whole numbers, since OpenSlide and many viewers show no others, and the value under
the cursor divided by ten is the um.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Mpp, Size, mean_mpp
from wsi_deform.mask.coarse import SMALLEST_MAP_PX, CoarseMap
from wsi_deform.mask.ome import Channel
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

STEPS_PER_UM = 10
"""Whole numbers of the map per um."""

_MAX = 65535


class FootprintMap:
    """Writes a footprint map field by field; a context manager whose file is whole or absent.

    Args:
        path: The map, by custom ``<slide_id>.footprint.ome.tif``. Replaced if it exists.
        size: The slide's level-0 size, px.
        mpp: Level-0 um per pixel of the slide.
        downsample: Level-0 px per pixel of the map, a power of two; see ``coarse.map_downsample``.
        annotations: Names and values to store in the file's OME-XML.
        threads: Number of threads that encode; the file does not depend on it.
        unit: What the map says ten of, in words.

    Raises:
        ShapeError: The downsample is no power of two.
        MaskError: The file cannot be written; nothing is left behind.

    Convention:
        A pixel shows the sample nearest to its centre, as ``round(10 mpp sqrt(area))``, 1 to 65,535 (6.5 mm); 0 is
        where no field looked. Coarser levels show the largest of two by two: a place that was not looked at
        closely stays visible from afar.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: Size,
        mpp: Mpp,
        downsample: int,
        annotations: Mapping[str, str] | None = None,
        threads: int = 1,
        unit: str = "um per sample",
    ) -> None:
        self._um_per_px = mean_mpp(mpp)
        self._map = CoarseMap(
            path,
            size=size,
            mpp=mpp,
            downsample=downsample,
            channels=[Channel(name=f"{unit} x 10")],
            dtype=np.uint16,
            halve=_largest,
            annotations={"value": f"tenths of {unit}; 0 where no field looked", **(annotations or {})},
            threads=threads,
        )

    def __enter__(self) -> FootprintMap:
        self._map.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._map.__exit__(*error)

    def add(self, field: FieldSamples) -> None:
        """Put a field where it belongs.

        Args:
            field: Samples with areas.

        Raises:
            ShapeError: It has none.
        """
        if field.areas_px is None:
            raise ShapeError(
                f"map {self._map.path.name}: the field that keeps {field.kept} has no areas_px. "
                "Needed the area of each sample's warped cell."
            )
        side_um = np.sqrt(field.areas_px.astype(np.float64)) * self._um_per_px
        values = np.clip(np.rint(side_um * STEPS_PER_UM), 1, _MAX).astype(np.uint16)
        sampler = ReverseSampler([field], size=self._map.slide_size, tile_px=SMALLEST_MAP_PX, values=[values])
        region = self._map.region_of(field)
        if not region.is_empty:
            self._map.put(region, sampler.region(region, self._map.level))


def _largest(blocks: NDArray[Any]) -> NDArray[Any]:
    """The largest of each two by two."""
    largest: NDArray[Any] = blocks.max(axis=(1, 3))
    return largest
