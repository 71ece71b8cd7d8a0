"""`wsi-deform annotation`: look at files of outlines, and turn them into masks and class tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_deform.cli.app import App
from wsi_deform.cli.console import say

if TYPE_CHECKING:
    from wsi_deform.annotation.classes import ClassTable

app = App(help="Look at outlines, turn them into masks and class tables, and masks into outlines.")


class Order(StrEnum):
    """Which of several outlines over a pixel gives it its class."""

    DRAWING = "drawing"
    CLASSES = "classes"


SLIDE_HELP = "The slide: a file, its URL, or an OME-Zarr or DICOM folder."
FILE_HELP = "Outlines: QuPath GeoJSON, ASAP, ImageScope or Sedeen XML, or Darwin, COCO or DSA JSON."
OUTSIDE_HELP = "Outside every outline: unlabelled, background or a class; default: what the class table says."
ORDER_HELP = (
    "Which of several outlines over a pixel counts; default: what the class table says, else the last drawn."
)


@app.command(examples=["wsi-deform annotation to-mask a.svs a.geojson --classes c.yaml --out a.ome.tif"])
def to_mask(
    slide: Annotated[str, typer.Argument(help=SLIDE_HELP)],
    file: Annotated[Path, typer.Argument(help=FILE_HELP)],
    classes: Annotated[Path, typer.Option(help="Class table (YAML or JSON).")],
    out: Annotated[Path, typer.Option(help="The mask to write, .ome.tif.")],
    level: Annotated[
        int | None, typer.Option(min=0, help="Size of this level of the slide; default: 0.")
    ] = None,
    mpp: Annotated[
        float | None, typer.Option(min=0.0001, help="Size of a mask with so many um per pixel.")
    ] = None,
    order: Annotated[Order | None, typer.Option(help=ORDER_HELP)] = None,
    outside: Annotated[str | None, typer.Option(help=OUTSIDE_HELP)] = None,
) -> None:
    """Write outlines as a pyramidal mask: a pixel has the class of the outline that its centre lies in."""
    from wsi_deform.annotation.classes import read_class_table
    from wsi_deform.annotation.label_file import outlines_over
    from wsi_deform.errors import AnnotationError
    from wsi_deform.mask.outline_mask import outline_mask_size, write_outline_mask
    from wsi_deform.slide.open import open_slide

    if out.suffix.lower() not in (".tif", ".tiff"):
        raise AnnotationError(
            f"mask {out}: masks are written as TIFF. Needed a name that ends with .ome.tif. Change --out."
        )
    opened = open_slide(slide)
    size = outline_mask_size(opened, level=level, mpp=mpp)
    table = read_class_table(classes)
    if order is not None:
        table = replace(table, outline_order="classes" if order is Order.CLASSES else "drawing")
    labels = outlines_over(file, opened, table, outside=outside)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_outline_mask(out, labels, size=size, mpp=opened.mpp_xy)
    _remark(file, labels.remarks)
    say(f"{out}: {size} px.")


@app.command(examples=["wsi-deform annotation from-mask m.ome.tif --out m.geojson.gz --tolerance-um 2"])
def from_mask(
    mask: Annotated[Path, typer.Argument(help="A mask that `segment` or `annotation to-mask` wrote.")],
    out: Annotated[Path, typer.Option(help="The outlines to write, .geojson.gz.")],
    classes: Annotated[
        Path | None,
        typer.Option(
            help="Class table that says by its values what the mask's mean; default: classes.json in the --out folder "
            "of `segment`."
        ),
    ] = None,
    slide: Annotated[
        str | None,
        typer.Option(help="The slide, where viewers show a part of it (MRXS): outlines are placed in that."),
    ] = None,
    tolerance_um: Annotated[
        float,
        typer.Option(
            min=0, help="Leave vertices out that lie so near the outline; neighbours share borders."
        ),
    ] = 0.0,
    min_area_um2: Annotated[
        float, typer.Option(min=0, help="Leave smaller areas out, and fill smaller holes.")
    ] = 0.0,
    downsample: Annotated[
        int, typer.Option(min=1, help="Take a coarser level, of at most so many px per pixel.")
    ] = 1,
    mpp: Annotated[
        float | None, typer.Option(min=0.0001, help="Level-0 um per pixel; default: what the mask says.")
    ] = None,
) -> None:
    """Write the outlines of a mask for QuPath: the exact edges of its pixels, or simpler ones."""
    from wsi_deform.annotation.classes import read_class_table
    from wsi_deform.cli.classes import class_table_in
    from wsi_deform.errors import AnnotationError
    from wsi_deform.mask.geojson import write_geojson
    from wsi_deform.slide.open import open_slide

    if not out.name.lower().endswith(".geojson.gz"):
        raise AnnotationError(
            f"outlines {out}: written compressed. Needed a name that ends with .geojson.gz. Change --out."
        )
    folder = mask.absolute().parents[1]
    # The table of the mask itself comes first: a classes.yaml there is one in which `explore` has groups named.
    own = read_class_table(folder / "classes.json") if (folder / "classes.json").is_file() else None
    table = own if classes is None and own is not None else class_table_in(folder, classes)
    if table is None:
        raise AnnotationError(
            f"no class table in {folder}. Needed the names of the classes. Pass --classes FILE."
        )
    scale = mpp if mpp is not None or not (tolerance_um or min_area_um2) else open_slide(str(mask)).mpp_xy
    done = write_geojson(
        out,
        mask,
        classes=table,
        downsample=downsample,
        shown=None if slide is None else open_slide(slide).bounds,
        mpp=scale,
        tolerance_um=tolerance_um,
        min_area_um2=min_area_um2,
        meanings=None if table is own else _meanings(table, own),
    )
    say(f"{out}: {done.polygons} polygons in {done.features} features, {done.vertices} vertices.")


@app.command(examples=["wsi-deform annotation show a.svs a.geojson --out a.png"])
def show(
    slide: Annotated[str, typer.Argument(help=SLIDE_HELP)],
    file: Annotated[Path, typer.Argument(help=FILE_HELP)],
    out: Annotated[Path, typer.Option(help="The picture to write, .png.")],
    classes: Annotated[
        Path | None, typer.Option(help="Class table (YAML or JSON); default: every name is a class.")
    ] = None,
    side: Annotated[int, typer.Option(min=64, max=8192, help="The longer side of the picture, px.")] = 2048,
) -> None:
    """Draw outlines over a thumbnail of their slide, with how many there are of each class."""
    from wsi_deform.annotation.classes import read_class_table
    from wsi_deform.annotation.label_file import outlines_over, read_outlines_over
    from wsi_deform.annotation.outlines.summary import named_outlines, proposed_table
    from wsi_deform.cli.build_bars import only_build_bars
    from wsi_deform.cli.console import plain_console
    from wsi_deform.drawing.outline_picture import outline_picture
    from wsi_deform.drawing.panels import write_picture
    from wsi_deform.look.lowres import thumbnail
    from wsi_deform.slide.open import open_slide

    opened = open_slide(slide)
    found = read_outlines_over(file, opened)
    table = proposed_table(named_outlines([found])) if classes is None else read_class_table(classes)
    labels = outlines_over(file, opened, table)
    with only_build_bars(plain_console()):
        picture = outline_picture(thumbnail(opened, side), found, labels)
    write_picture(out, picture)
    _remark(found.path, found.remarks)
    say(f"{out}: {len(found.outlines)} outlines, {found.format}.")


@app.command(
    examples=[
        "wsi-deform annotation classes a.geojson b.geojson",
        "wsi-deform annotation classes *.xml --slide a.svs --out classes.yaml",
    ]
)
def classes(
    files: Annotated[list[Path], typer.Argument(help=FILE_HELP)],
    slide: Annotated[
        str | None, typer.Option(help="A slide of theirs: its um per pixel turn areas into mm2.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the class table here; default: standard output.")
    ] = None,
) -> None:
    """Say what the outlines of some files are called, how many there are and how large, and propose a class table."""
    from wsi_deform.annotation.outlines.open import read_outlines
    from wsi_deform.annotation.outlines.summary import (
        alike_names,
        named_lines,
        named_outlines,
        proposed_table,
        proposed_text,
    )
    from wsi_deform.files import write_text
    from wsi_deform.slide.open import open_slide

    opened = None if slide is None else open_slide(slide)
    found = [read_outlines(each, image=None if opened is None else opened.path.name) for each in files]
    for each in found:
        _remark(each.path, each.remarks)
    named = named_outlines(found)
    lines = named_lines(named, mpp=None if opened is None else opened.mpp_xy)
    text = proposed_text(proposed_table(named))
    alike = alike_names([each.name for each in named])
    if out is None:
        # The table as comments, so that all of it is a class table.
        for line in lines:
            typer.echo(f"# {line}")
        typer.echo(text, nl=False)
        _say_alike(alike)
        return
    write_text(out, text)
    for line in lines:
        say(line)
    _say_alike(alike)
    say(f"{out}: a class table to start from.")


def _meanings(table: ClassTable, own: ClassTable | None) -> dict[int, int]:
    """Pixel value of a mask -> class index of a table.

    Args:
        table: The one that was named.
        own: That of a mask of `segment`, whose pixels are its indices; of others pixels are the table's values.
    """
    from wsi_deform.annotation.classes import UNLABELLED

    if own is None:
        return table.mapping
    values = {label: own.raw_value(label) for label in (*range(own.count), UNLABELLED)}
    found = {label: table.mapping[value] for label, value in values.items() if value in table.mapping}
    return {UNLABELLED: UNLABELLED} | found


def _say_alike(pairs: Sequence[tuple[str, str]]) -> None:
    """Say which names may be one class that was spelled in two ways."""
    for one, other in pairs:
        text = f"{other!r} and {one!r} are spelled almost alike. If they are one class, give it both names"
        typer.echo(f"remark: {text}: {{name: {one}, source_names: [{other}]}}.", err=True)


def _remark(file: Path, remarks: Sequence[str]) -> None:
    """Say what was left out or repaired of a file."""
    for remark in remarks:
        typer.echo(f"remark: {file.name}: {remark}.", err=True)
