"""Slides of any size with truth: real files made of repeated drawn blocks, and a reader that needs no file.

A real file of 61,440 px is written in seconds, because a block of drawn tissue is encoded once per pyramid level
and its tiles are then written wherever the block lies. Every tile in the file is there in full: nothing is shared,
so reading costs what it costs on a scanner's file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.raster import LabelMask, open_label_mask
from wsi_deform.drawn.gland import CLASS_NAMES
from wsi_deform.drawn.noise import smooth_noise
from wsi_deform.drawn.slide import draw_slide
from wsi_deform.files import write_aside
from wsi_deform.geometry import Point, Region, Size, tile_region
from wsi_deform.slide.reader import Level, SlideInfo

TILE_PX, GLASS = 256, 244
MPP = 0.25
COARSEST_PX = 512
BLOCKS_WITH_TISSUE = 0.7
TEXTURES = 64
VERSION = 1  # counts changes of what is drawn, so that old files in the cache are not taken for new ones
CLASSES = ClassTable.from_names(CLASS_NAMES)


class Block(TypedDict, total=False):
    """What ``Mosaic`` may be told about a block."""

    block_px: int
    scale: float


class Blocks(Block, total=False):
    """What ``Mosaic`` may be told about all its blocks."""

    kinds: int


QUICK_BLOCKS: Blocks = {"block_px": 1024, "scale": 1.0, "kinds": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mosaic:
    """A slide made of blocks.

    Attributes:
        side_px: Side of the slide, px; a multiple of ``block_px``.
        block_px: Side of a block, px; a power of two.
        scale: Size of what is drawn, see ``draw_slide``; 4 at 0.25 um per px is the size of glands.
        kinds: Number of different blocks of tissue.
        seed: Decides everything.
        tissue: Share of the blocks that hold tissue (which covers less than half of such a block).
    """

    side_px: int
    block_px: int = 4096
    scale: float = 4.0
    kinds: int = 6
    seed: int = 0
    tissue: float = BLOCKS_WITH_TISSUE

    @property
    def name(self) -> str:
        """A name that no other slide has."""
        return f"v{VERSION}-{self.side_px}-{self.block_px}-{self.scale:g}-{self.kinds}-{self.seed}-{self.tissue:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnFile:
    """A drawn slide on disk: the slide, and its labels as one level of deflate tiles."""

    slide: Path
    labels: Path

    def truth(self) -> LabelMask:
        """Its labels."""
        with tifffile.TiffFile(self.labels) as file:
            height, width = file.pages[0].shape
        return open_label_mask(self.labels, slide_size=Size(width, height), classes=CLASSES)


def drawn_file(mosaic: Mosaic, cache_folder: Path, *, say: Callable[[str], None] = print) -> DrawnFile:
    """Draw a slide once; later calls find it.

    Args:
        mosaic: What to draw.
        cache_folder: Where files are kept.
        say: Gets progress.

    Returns:
        The files.
    """
    folder = cache_folder / "slides"
    found = DrawnFile(slide=folder / f"{mosaic.name}.tif", labels=folder / f"{mosaic.name}-labels.tif")
    if not (found.slide.is_file() and found.labels.is_file()):
        say(f"  drawing {mosaic.side_px} x {mosaic.side_px} px ...")
        _write(mosaic, found)
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """A block as it lies in the file: encoded tiles (row by row) per level, its labels, its coarsest level."""

    levels: list[list[bytes]]
    labels: list[bytes]
    coarse: NDArray[np.uint8]


def _write(mosaic: Mosaic, files: DrawnFile) -> None:
    layout = _layout(mosaic)
    blocks = [_block(*_drawn_block(mosaic, kind)) for kind in range(mosaic.kinds)]
    glass_rgb = np.percentile(blocks[0].coarse.reshape(-1, 3), 90, axis=0)
    noise = np.random.default_rng(mosaic.seed).normal(0, 2, (mosaic.block_px, mosaic.block_px, 1))
    glass = np.clip(glass_rgb + noise, 0, 255).astype(np.uint8)
    blocks.append(_block(glass, np.zeros(glass.shape[:2], np.uint8)))
    with write_aside(files.labels) as aside, tifffile.TiffWriter(aside, bigtiff=True) as tiff:
        tiles = _tiles(layout, [block.labels for block in blocks])
        tiff.write(tiles, shape=(mosaic.side_px,) * 2, **_labels_layout())
    with write_aside(files.slide) as aside, tifffile.TiffWriter(aside, bigtiff=True) as tiff:
        side, level = mosaic.side_px, 0
        for level in range(len(blocks[0].levels)):
            tiles = _tiles(layout, [block.levels[level] for block in blocks])
            tiff.write(tiles, shape=(side, side, 3), **_slide_layout(level))
            side //= 2
        # Beyond the level where a block is one tile, the levels are small enough to be made as pictures.
        coarse = np.concatenate(
            [np.concatenate([blocks[kind].coarse for kind in row], axis=1) for row in layout]
        )
        while side > COARSEST_PX // 2:
            level += 1
            tiff.write(coarse, **_slide_layout(level))
            coarse, side = _halved(coarse), side // 2


def _layout(mosaic: Mosaic) -> NDArray[np.int64]:
    """(n, n) kind of each block, ``mosaic.kinds`` for glass; the tissue lies together, as on real slides."""
    count = mosaic.side_px // mosaic.block_px
    rng = np.random.default_rng([mosaic.seed, 7])
    across = np.abs(np.arange(count) - (count - 1) / 2) / max(1, count)
    rank = smooth_noise(rng, (count, count), 3, 3) - 4 * np.hypot(across[:, None], across)
    wanted = max(1, round(mosaic.tissue * count * count))
    tissue = np.zeros(count * count, bool)
    tissue[np.argsort(-rank.ravel())[:wanted]] = True
    # Kinds in shuffled rounds, so that all are there.
    kinds = np.concatenate([rng.permutation(mosaic.kinds) for _ in range(count * count)])[: count * count]
    return np.where(tissue, kinds, mosaic.kinds).reshape(count, count)


def _drawn_block(mosaic: Mosaic, kind: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    size = Size(mosaic.block_px, mosaic.block_px)
    cores = max(1, round(mosaic.block_px / (512 * mosaic.scale)))
    seed = 1000 * mosaic.seed + kind
    drawing = draw_slide(seed, size, patient=mosaic.seed, cores=cores, scale=mosaic.scale)
    return drawing.image, drawing.labels


def _block(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> _Block:
    levels = []
    while image.shape[0] >= TILE_PX:
        levels.append(_encoded(image, _slide_layout(0)))
        image = _halved(image)
    return _Block(levels=levels, labels=_encoded(labels, _labels_layout()), coarse=image)


def _encoded(pixels: NDArray[np.uint8], layout: dict[str, object]) -> list[bytes]:
    """The tiles that tifffile makes of a picture, in the layout of the file that they will be in."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **layout)
    file.seek(0)
    stored = file.getvalue()
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages[0]
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        return [bytes(stored[offset : offset + count]) for offset, count in places]


def _tiles(layout: NDArray[np.int64], blocks: list[list[bytes]]) -> Iterator[bytes]:
    """Encoded tiles of a whole level, row by row."""
    per_block = round(len(blocks[0]) ** 0.5)
    for block_row in layout:
        for row in range(per_block):
            for kind in block_row:
                yield from blocks[kind][row * per_block : (row + 1) * per_block]


def _slide_layout(level: int) -> dict[str, object]:
    return {
        "dtype": "uint8",
        "tile": (TILE_PX, TILE_PX),
        "photometric": "rgb",
        "compression": "jpeg",
        "compressionargs": {"level": 85},
        "subfiletype": 1 if level else 0,
        "resolution": (1e4 / (MPP * 2**level),) * 2,
        "resolutionunit": "CENTIMETER",
        "metadata": None,
        "software": False,
    }


def _labels_layout() -> dict[str, object]:
    return {
        "dtype": "uint8",
        "tile": (TILE_PX, TILE_PX),
        "photometric": "minisblack",
        "compression": "deflate",
        "metadata": None,
        "software": False,
    }


def _halved(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mean of every 2 x 2 pixels, rounded; odd last rows and columns are dropped."""
    height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2
    wide = image[:height, :width].astype(np.uint16)
    total = wide[0::2, 0::2] + wide[1::2, 0::2] + wide[0::2, 1::2] + wide[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


@cache
def texture_tiles() -> tuple[bytes, ...]:
    """Encoded tiles of drawn tissue."""
    image = draw_slide(0, Size(8 * TILE_PX, 8 * TILE_PX), cores=4).image
    tiles = image.reshape(8, TILE_PX, 8, TILE_PX, 3).transpose(0, 2, 1, 3, 4).reshape(-1, TILE_PX, TILE_PX, 3)
    return tuple(
        bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), level=85)) for tile in tiles[:TEXTURES]
    )


class DrawnReader:
    """A pyramid of any size that takes no disk: every tile is one of 64 JPEG tiles, really decoded.

    Implements ``Reader``. Levels differ by 2 and end when the long side is at most 512 px.
    """

    def __init__(self, side_px: int, tissue_px: int | None = None) -> None:
        """Describe a slide of ``side_px`` x ``side_px``, glass but for ``tissue_px`` x ``tissue_px`` at its corner."""
        self._tiles, self._tissue_px = texture_tiles(), tissue_px
        levels = []
        downsample = 1
        while True:
            side = -(-side_px // downsample)
            levels.append(
                Level(
                    size=Size(side, side),
                    downsample=Point(float(downsample), float(downsample)),
                    tile=Size(TILE_PX, TILE_PX),
                )
            )
            if side <= COARSEST_PX:
                break
            downsample *= 2
        self.info = SlideInfo(
            levels=tuple(levels), mpp=MPP, vendor="drawn", bounds=Region.whole(levels[0].size)
        )

    def read_tile(self, level: int, column: int, row: int) -> NDArray[np.uint8]:
        """Decode one tile; see ``Reader``."""
        found = self.info.levels[level]
        region = tile_region(column, row, found.tile, found.size)
        if self._tissue_px is not None and max(column, row) * TILE_PX << level >= self._tissue_px:
            return np.full((region.height, region.width, 3), GLASS, np.uint8)
        chosen = (level * 2_654_435_761 + column * 40_503 + row * 30_011) % TEXTURES
        tile: NDArray[np.uint8] = imagecodecs.jpeg8_decode(self._tiles[chosen])
        return tile[: region.height, : region.width]

    def close(self) -> None:
        """Nothing is open."""
