"""Open a slide by its path; find the slides of a folder."""

from __future__ import annotations

from pathlib import Path

from wsi_deform.geometry import Mpp, Region
from wsi_deform.slide.find import is_slide
from wsi_deform.slide.path import SlideUrl
from wsi_deform.slide.search import find_slides
from wsi_deform.slide.slide import OnBadTile, Slide

__all__ = ["find_slides", "is_slide", "open_slide"]


def open_slide(
    path: str | Path | SlideUrl,
    *,
    mpp: Mpp | None = None,
    slide_id: str | None = None,
    tissue_path: Path | None = None,
    region: Region | None = None,
    on_bad_tile: OnBadTile = "fail",
) -> Slide:
    """Open a slide.

    Args:
        path: A slide file (SVS, TIFF, OME-TIFF, NDPI, MRXS, DICOM, SCN, PNG, JPEG, ...), an OME-Zarr folder
            or a folder with one DICOM series; or the URL (``https://``, ``s3://``, ...) of a tiled TIFF, SVS,
            OME-TIFF or OME-Zarr, of which only the parts that are needed are read. ``FILE::NAME`` opens another of the
            images in a file or folder than the slide; ``info.images`` has their names.
        mpp: um per level-0 pixel that wins over the file's own: one number for both axes, or one for each.
        slide_id: Its name; None takes the file name without suffixes.
        tissue_path: A raster file whose pixels above 0 are tissue; None finds it by colour.
        region: The part of it that is segmented, learned from and measured, level-0 px; None is all of it.
        on_bad_tile: "fail" raises where a tile cannot be decoded; "blank" leaves it out, see ``Slide.blanks``.

    Returns:
        The open slide.

    Raises:
        SlideError: No reader can open the file; the message has what each of them said. Or the region is not inside
            the slide.
    """
    slide = Slide(
        path, slide_id=slide_id, mpp=mpp, tissue_path=tissue_path, region=region, on_bad_tile=on_bad_tile
    )
    _ = slide.region  # opens the file now, so that an unreadable one is refused here
    return slide
