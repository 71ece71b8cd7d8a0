"""Transforms of MONAI for whole slides: open them, and write their masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from wsi_deform.distribute.sources import SlideSource, slide_sources
from wsi_deform.errors import SlideError
from wsi_deform.notebook.mask import SlideMask
from wsi_deform.slide.path import slide_path
from wsi_deform.slide.slide import Slide


def slides_of(
    slide: str | Sequence[str] | None, *, output_dir: str | Path, mpp: float | None = None
) -> list[dict[str, Any]]:
    """The data of a MONAI ``Dataset``: one item a slide.

    Args:
        slide: A slide, a folder of slides, a URL, a manifest, or a list of such.
        output_dir: Where masks go; what lies in it is no slide.
        mpp: um per level-0 pixel of all slides; wins over the files and the manifest.

    Returns:
        ``{"slide": SlideSource}`` of each, in order; no slide is opened.

    Raises:
        SlideError: None is given, a path does not exist or stands for no slide, or one of them cannot be used.
    """
    if not slide:
        raise SlideError(
            "slide: nothing is given. Needed a slide, a folder of slides or a manifest: --slide PATH."
        )
    paths = [slide] if isinstance(slide, str) else list(slide)
    found = [
        source
        for path in paths
        for source in slide_sources(slide_path(str(path)), out=Path(output_dir), mpp=mpp)
    ]
    for source in found:
        if source.problem:
            raise SlideError(f"slide {source.path}: {source.problem}")
    return [{"slide": source} for source in found]


class OpenSlided(MapTransform):  # type: ignore[misc]
    """Open slides, by path or as ``slides_of`` names them; the pixels are read by the inferer, where they are needed.

    Args:
        keys: Keys of items that hold a path, a URL or a ``SlideSource``.
        mpp: um per level-0 pixel of slides that are given by path; None takes the file's own.
        allow_missing_keys: As in MONAI.
    """

    def __init__(
        self, keys: KeysCollection, mpp: float | None = None, *, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mpp = mpp

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The items with each path replaced by an open ``Slide``.

        Raises:
            SlideError: It cannot be opened.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            items[key] = self._open(items[key])
        return items

    def _open(self, found: Any) -> Slide:
        if isinstance(found, SlideSource):
            slide = Slide(
                found.path,
                slide_id=found.slide_id,
                mpp=found.mpp,
                tissue_path=found.tissue_path,
                region=found.region,
            )
        else:
            slide = Slide(str(found), mpp=self.mpp)
        _ = slide.region  # opens the file now, so that an unreadable one is refused here
        return slide


class SaveMaskd(MapTransform):  # type: ignore[misc]
    """Write what ``wsi-deform segment`` writes of a slide: mask, samples, overlay, outlines.

    Args:
        keys: Keys of items that hold what ``SlideInferer`` returned.
        output_dir: Where to; made if missing. The mask is ``masks/NAME.ome.tif``.
        probabilities: Whether to write a probability map too.
        footprint: Whether to write a map of um per sample too; a slide without mpp has none.
        geojson: Whether to write the outlines of the mask.
        allow_missing_keys: As in MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        *,
        probabilities: bool = False,
        footprint: bool = False,
        geojson: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.output_dir = Path(output_dir)
        self.wanted = {"probabilities": probabilities, "footprint": footprint, "geojson": geojson}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The items as they are; each file is whole or absent.

        Raises:
            SlideError: The slide cannot be read, or is not the one that was segmented.
            MaskError: A file cannot be written.
        """
        items = dict(data)
        for key in self.key_iterator(items):
            mask: SlideMask = items[key]
            mask.save(self.output_dir, **self.wanted)
        return items
