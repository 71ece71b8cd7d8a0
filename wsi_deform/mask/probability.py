"""Probability maps: how sure the network is of each class, as a picture of one channel per class.

An OME-TIFF pyramid of uint8 channels, 255 for probability 1, at about the resolution of the samples (a finer one
would show nothing more). QuPath, Bio-Formats and tifffile open it with the class names as channel names and all
levels; libvips opens every channel as a page; OpenSlide sees the first channel with its levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Mpp, Region, Size
from wsi_deform.mask.coarse import SMALLEST_MAP_PX, CoarseMap
from wsi_deform.mask.ome import Channel
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

_BAND_PX = 512


class ProbabilityMap:
    """Writes a probability map field by field; a context manager whose file is whole or absent.

    Args:
        path: The map, by custom ``<slide_id>.probability.ome.tif``. Replaced if it exists.
        size: The slide's level-0 size, px.
        mpp: Level-0 um per pixel of the slide, or None when unknown.
        class_names: Names of the classes, in order.
        downsample: Level-0 px per pixel of the map, a power of two; see ``coarse.map_downsample``.
        colours: RGB of each class, 0 to 255, for viewers.
        annotations: Names and values to store in the file's OME-XML.
        threads: Number of threads that encode; the file does not depend on it.

    Raises:
        ShapeError: The downsample is no power of two.
        MaskError: The file cannot be written; nothing is left behind.

    Convention:
        Channel c is class c, ``round(255 p)``. A pixel shows the probabilities interpolated at its centre in the
        warped mesh, as the "linear" reverse sampler sees them; coarser levels are means of two by two. Where no field
        looked all channels are 0, and only there: elsewhere they sum to 255, but for rounding.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: Size,
        mpp: Mpp | None,
        class_names: Sequence[str],
        downsample: int,
        colours: Sequence[tuple[int, int, int]] | None = None,
        annotations: Mapping[str, str] | None = None,
        threads: int = 1,
    ) -> None:
        colours_of = [None] * len(class_names) if colours is None else list(colours)
        self._map = CoarseMap(
            path,
            size=size,
            mpp=mpp,
            downsample=downsample,
            channels=[
                Channel(name=name, colour=colour)
                for name, colour in zip(class_names, colours_of, strict=True)
            ],
            dtype=np.uint8,
            halve=_mean,
            annotations={"value": "255 p", **(annotations or {})},
            threads=threads,
        )

    def __enter__(self) -> ProbabilityMap:
        self._map.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._map.__exit__(*error)

    def add(self, field: FieldSamples) -> None:
        """Put a field where it belongs.

        Args:
            field: Samples with probabilities and lattice.

        Raises:
            ShapeError: It has none, or of another number of classes.
        """
        sampler = ReverseSampler(
            [field], size=self._map.slide_size, tile_px=SMALLEST_MAP_PX, interpolation="linear"
        )
        if sampler.class_count != len(self._map.channels):
            raise ShapeError(
                f"map {self._map.path.name}: a field has {sampler.class_count} classes. "
                f"Needed {len(self._map.channels)}, one a name."
            )
        kept = self._map.region_of(field)
        for top in range(kept.y, kept.bottom, _BAND_PX):
            band = kept.intersection(Region(kept.x, top, kept.width, _BAND_PX))
            if not band.is_empty:
                self._map.put(band, sampler.probabilities(band, self._map.level))

    @property
    def size(self) -> Size:
        """Size of the map, px of it."""
        return self._map.size

    def put(self, region: Region, probabilities: NDArray[np.float32]) -> None:
        """Write a region that no field decides.

        Args:
            region: Px of the map, inside it.
            probabilities: (C, region.height, region.width), 0 to 1; all 0 where nobody looked.
        """
        self._map.put(region, np.rint(probabilities * 255).astype(np.uint8))


def _mean(blocks: NDArray[Any]) -> NDArray[Any]:
    """Rounded mean of the pixels that some field shows; 0 where there is none."""
    shown = blocks.any(axis=0)
    count = np.maximum(shown.sum(axis=(0, 2), dtype=np.uint16), 1)
    total = blocks.sum(axis=(1, 3), dtype=np.uint16)
    mean: NDArray[Any] = ((total + count // 2) // count).astype(blocks.dtype)
    return mean
