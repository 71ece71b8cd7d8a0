"""A mask as labels in OME-Zarr (NGFF 0.5, Zarr 3), beside an overview of its slide to lay them on.

A level is written shard by shard: a mask of 100,000 x 100,000 px has some hundred files, and memory holds one shard.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import UNLABELLED, ClassTable
from wsi_deform.errors import MaskError, SlideError
from wsi_deform.files import write_folder_aside
from wsi_deform.geometry import Region, Size, tile_region
from wsi_deform.look.lowres import low_res_picture, whole_view_size
from wsi_deform.mask.bands import constant_tiles, open_mask
from wsi_deform.slide.slide import Slide
from wsi_deform.slide.tiff.tiles import TiffTiles

NGFF_VERSION = "0.5"
LABELS = "classes"
OVERVIEW_PX = 2048
SHARD_PX = 8192
OVERVIEW_CHUNK_PX = 512
METHOD = "each pixel of a coarser level is the class at its centre (nearest, no mean, no majority)"


def write_ome_zarr(
    path: Path, mask: Path, slide: Slide, classes: ClassTable, *, shard_px: int = SHARD_PX
) -> None:
    """Write the labels of a mask, level by level and shard by shard.

    Args:
        path: The folder, by custom ``<slide_id>.ome.zarr``. Replaced if it exists.
        mask: The mask file that ``write_mask`` wrote.
        slide: Its slide, open.
        classes: Names and colours of the labels.
        shard_px: Side of a shard, a multiple of the side of the mask's tiles.

    Raises:
        SlideError: The slide cannot be read.
        MaskError: The mask cannot be read, or the folder cannot be written; nothing is left behind, and an older one of
            this name stays as it was.

    Convention:
        ``labels/classes`` is uint8 (y, x), with the levels and values of the mask, pixel for pixel, in chunks of the
        mask's tiles. Coordinates are um along both axes where the slide has an mpp, level-0 px where it has none; the
        first pixel of level 0 is at 0, and coarser levels are moved by half the difference of pixel sides, so that the
        edges of all levels lie on each other. The group itself is an image of as many levels (NGFF wants that), the
        slide averaged to ``OVERVIEW_PX`` px along its longer side at most. Fill value is 0, and what holds nothing
        else has no file.
    """
    tiles = open_mask(mask)
    try:
        with write_folder_aside(path) as aside:
            _write(aside, tiles, slide, classes, shard_px)
    except OSError as error:
        raise MaskError(
            f"mask {path}: cannot be written ({error}). Check folder, rights and free space."
        ) from error
    finally:
        tiles.close()


def _write(folder: Path, tiles: TiffTiles, slide: Slide, classes: ClassTable, shard_px: int) -> None:
    import zarr  # takes long to import, and few want it

    levels = [level.size for level in tiles.levels]
    sides = _sides_um(slide)
    views = _halvings(whole_view_size(slide, max_side_px=OVERVIEW_PX), len(levels))
    root = zarr.create_group(
        str(folder), zarr_format=3, attributes={"ome": _overview_metadata(slide, views, sides)}
    )
    for number, size in enumerate(views):
        picture = low_res_picture(slide, Region.whole(slide.size), size)
        _array(root, number, (3, *size.shape), OVERVIEW_CHUNK_PX, OVERVIEW_PX)[...] = np.moveaxis(
            picture, -1, 0
        )
    labels = root.create_group("labels", attributes={"ome": {"version": NGFF_VERSION, "labels": [LABELS]}})
    metadata = _label_metadata(slide, levels, sides, classes)
    group = labels.create_group(LABELS, attributes={"ome": metadata})
    chunk = tiles.levels[0].tile.width
    for number, size in enumerate(levels):
        array = _array(group, number, size.shape, chunk, shard_px)
        for region, pixels in _shards(tiles, number, max(chunk, shard_px // chunk * chunk)):
            if pixels.any():
                array[region.y : region.bottom, region.x : region.right] = pixels


def _array(group: Any, number: int, shape: tuple[int, ...], chunk: int, shard_px: int) -> Any:
    """A level: (y, x), or (c, y, x) with all channels in a chunk."""
    channels = shape[:-2]
    # No shard is longer than the level needs: it would be filled up in memory.
    shard = [min(max(1, shard_px // chunk), -(-side // chunk)) * chunk for side in shape[-2:]]
    return group.create_array(
        str(number),
        shape=shape,
        chunks=(*channels, chunk, chunk),
        shards=(*channels, *shard),
        dtype="uint8",
        fill_value=0,
        dimension_names=("c", "y", "x")[-len(shape) :],
    )


def _shards(tiles: TiffTiles, level: int, shard_px: int) -> Iterator[tuple[Region, NDArray[np.uint8]]]:
    """The labels of a level in squares, row by row; tiles of one label are not decoded."""
    found = tiles.levels[level]
    constant = constant_tiles(tiles, level)
    for shard_column, shard_row in _cells(found.size, shard_px):
        place = tile_region(shard_column, shard_row, Size(shard_px, shard_px), found.size)
        pixels = np.empty((place.height, place.width), np.uint8)
        try:
            for column, row in place.tiles(found.tile):
                part = tile_region(column, row, found.tile, found.size)
                label = int(constant[row, column])
                into = pixels[
                    part.y - place.y : part.bottom - place.y, part.x - place.x : part.right - place.x
                ]
                into[...] = label if label >= 0 else tiles.read_tile(level, column, row)[..., 0]
        except SlideError as error:
            raise MaskError(f"mask {error}") from error
        yield place, pixels


def _cells(size: Size, side: int) -> Iterator[tuple[int, int]]:
    """Column and row of each square of a side that a level is cut into."""
    for row in range(-(-size.height // side)):
        for column in range(-(-size.width // side)):
            yield column, row


def _sides_um(slide: Slide) -> tuple[float, float]:
    """Sides of a level-0 pixel along y and x: um, or 1 px where nobody knows."""
    mpp = slide.mpp_xy
    return (1.0, 1.0) if mpp is None else (mpp.y, mpp.x)


def _halvings(size: Size, count: int) -> list[Size]:
    """Sizes, each half of the one before, at least a pixel."""
    sizes = [size]
    while len(sizes) < count:
        sizes.append(Size(max(1, sizes[-1].width // 2), max(1, sizes[-1].height // 2)))
    return sizes


def _axes(slide: Slide, *, channels: bool = False) -> list[dict[str, str]]:
    unit = {} if slide.mpp_xy is None else {"unit": "micrometer"}
    space = [{"name": name, "type": "space", **unit} for name in "yx"]
    return [{"name": "c", "type": "channel"}, *space] if channels else space


def _dataset(
    number: int, pixel: tuple[float, float], finest: tuple[float, float], channels: int = 0
) -> dict[str, Any]:
    """A level's path and where its pixels lie, so that its outer edge is that of the slide."""
    placed: list[dict[str, Any]] = [{"type": "scale", "scale": [*[1.0] * channels, *pixel]}]
    if pixel != finest:
        moved = [(side - fine) / 2 for side, fine in zip(pixel, finest, strict=True)]
        placed.append({"type": "translation", "translation": [*[0.0] * channels, *moved]})
    return {"path": str(number), "coordinateTransformations": placed}


def _label_metadata(
    slide: Slide, levels: list[Size], sides: tuple[float, float], classes: ClassTable
) -> dict[str, Any]:
    datasets = [
        _dataset(number, (sides[0] * 2**number, sides[1] * 2**number), sides) for number in range(len(levels))
    ]
    colours, properties = [], []
    for value, (name, colour) in enumerate(zip(classes.names, classes.colours, strict=True)):
        # The background is left clear, as in overlays.
        alpha = 0 if value == classes.background else 255
        colours.append({"label-value": value, "rgba": [*map(int, colour), alpha]})
        properties.append({"label-value": value, "class": name})
    if classes.count <= UNLABELLED:
        colours.append({"label-value": UNLABELLED, "rgba": [255, 255, 255, 0]})
        properties.append({"label-value": UNLABELLED, "class": "unlabelled"})
    return {
        "version": NGFF_VERSION,
        "multiscales": [
            {
                "name": LABELS,
                "axes": _axes(slide),
                "datasets": datasets,
                "type": "nearest",
                "metadata": {"description": METHOD},
            }
        ],
        "image-label": {"colors": colours, "properties": properties, "source": {"image": "../../"}},
    }


def _overview_metadata(slide: Slide, views: list[Size], sides: tuple[float, float]) -> dict[str, Any]:
    whole = slide.size
    datasets = [
        _dataset(
            number,
            (sides[0] * whole.height / view.height, sides[1] * whole.width / view.width),
            sides,
            channels=1,
        )
        for number, view in enumerate(views)
    ]
    return {
        "version": NGFF_VERSION,
        "multiscales": [
            {
                "name": slide.slide_id,
                "axes": _axes(slide, channels=True),
                "datasets": datasets,
                "type": "mean",
                "metadata": {"description": "overview of the slide: averages over the area of each pixel"},
            }
        ],
        # Without it viewers show three grey images.
        "omero": {
            "channels": [
                {
                    "label": label,
                    "color": colour,
                    "active": True,
                    "window": {"min": 0, "max": 255, "start": 0, "end": 255},
                }
                for label, colour in (("red", "FF0000"), ("green", "00FF00"), ("blue", "0000FF"))
            ],
            "rdefs": {"model": "color"},
        },
    }
