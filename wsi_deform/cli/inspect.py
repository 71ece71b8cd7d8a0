"""`wsi-deform inspect`: what is in a slide file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_deform.cli.build_bars import only_build_bars
from wsi_deform.cli.console import plain_console

if TYPE_CHECKING:
    from wsi_deform.slide.slide import Slide


EXAMPLES = (
    "wsi-deform inspect slide.svs",
    "wsi-deform inspect slide.svs --thumbnail slide.jpg",
    "wsi-deform inspect 'scan.czi::scene 2' --mpp 0.25",
)


def inspect(
    slide: Annotated[
        str,
        typer.Argument(
            metavar="SLIDE",
            help="A slide file, its URL, or an OME-Zarr or DICOM folder; FILE::NAME is one of its images.",
        ),
    ],
    thumbnail: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a thumbnail here (.jpg or .png).")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(metavar="UM", help="Level-0 um per pixel, where the file is wrong.")
    ] = None,
) -> None:
    """Show levels, resolution, vendor and tissue of a slide."""
    from PIL import Image
    from rich.table import Table
    from rich.text import Text

    from wsi_deform.files import write_aside
    from wsi_deform.look.lowres import thumbnail as thumbnail_of
    from wsi_deform.look.tissue import tissue_mask
    from wsi_deform.slide.open import open_slide

    opened = open_slide(slide, mpp=mpp)
    console = plain_console()
    head = Text.assemble((opened.slide_id, "bold"), f"  {opened.info.vendor}, {opened.size} px")
    console.print(head, soft_wrap=True)
    if opened.mpp_xy is None:
        console.print("mpp: not in the file; set the mpp column in its manifest row, or pass --mpp")
    else:
        console.print(_scale_of(opened), soft_wrap=True)
    for image in opened.info.images:
        console.print(
            f"image: {image.name}, {image.size} px{' (read)' if image.is_chosen else ''}", soft_wrap=True
        )
    for remark in opened.remarks:
        console.print(f"remark: {remark}", soft_wrap=True)
    table = Table("level", "size, px", "downsample", "tile, px", "stored")
    for index, level in enumerate(opened.levels):
        downsample = (
            f"{level.downsample.x:g}"
            if level.downsample.x == level.downsample.y
            else f"{level.downsample.x:.4f}, {level.downsample.y:.4f}"
        )
        stored = "yes" if index < opened.stored_levels else "made when read"
        table.add_row(str(index), str(level.size), downsample, str(level.tile), stored)
    console.print(table)
    with only_build_bars(console):
        tissue = tissue_mask(opened)
    console.print(f"tissue: {100 * tissue.counted.mean():.1f} % of the slide")
    if thumbnail is not None:
        with only_build_bars(console), write_aside(thumbnail) as aside:
            Image.fromarray(thumbnail_of(opened, 1024)).save(aside)
        console.print(f"thumbnail: {thumbnail}", soft_wrap=True)


def _scale_of(slide: Slide) -> str:
    """The scale of a slide that has one, where it comes from, and the size that follows."""
    mpp = slide.mpp_xy
    if mpp is None:
        return ""
    x, y = f"{mpp.x:.4g}", f"{mpp.y:.4g}"
    source = f", from {slide.mpp_source}" if slide.mpp_source else ""
    width_mm, height_mm = slide.size.width * mpp.x / 1000, slide.size.height * mpp.y / 1000
    return f"mpp: {x if x == y else f'{x} x {y}'} um per pixel{source}; {width_mm:.2f} x {height_mm:.2f} mm"
