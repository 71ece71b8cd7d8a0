"""Slide files that tests draw: pyramids of odd sizes in every container."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

APERIO = (
    "Aperio Image Library v11.2.1 \r\n{w}x{h} [0,0 {w}x{h}] (128x128) JPEG/RGB Q=90"
    "|AppMag = 20|MPP = 0.4990|Title = drawn"
)


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3): waves with noise, so that tiles differ and JPEG has something to lose."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 37 + seed), np.cos(y / 29), np.sin((x + y) / 53)], axis=-1)
    noise = generator.integers(-20, 21, (height, width, 3))
    return np.clip(np.rint(128 + 90 * waves + noise), 0, 255).astype(np.uint8)


def halved(pixels: NDArray[np.uint8], *, round_up: bool = False) -> NDArray[np.uint8]:
    """The next level: 2 x 2 means; an odd last row or column is dropped, or kept alone."""
    height, width = pixels.shape[:2]
    if round_up:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    else:
        pixels = pixels[: height // 2 * 2, : width // 2 * 2]
    parts = pixels.astype(np.uint16)
    return ((parts[::2, ::2] + parts[1::2, ::2] + parts[::2, 1::2] + parts[1::2, 1::2] + 2) // 4).astype(
        np.uint8
    )


def pyramid(width: int = 453, height: int = 331, count: int = 3, **how: Any) -> list[NDArray[np.uint8]]:
    levels = [picture(width, height)]
    for _ in range(count - 1):
        levels.append(halved(levels[-1], **how))
    return levels


def write_tiff(
    path: Path,
    levels: Sequence[NDArray[Any]],
    *,
    subifds: bool = False,
    flagged: bool = True,
    byteorder: str = "<",
    **how: Any,
) -> Path:
    """A plain TIFF pyramid; ``how`` goes to tifffile (tile, compression, photometric, rowsperstrip, ...)."""
    how.setdefault("photometric", "rgb")
    with tifffile.TiffWriter(path, byteorder=byteorder) as writer:
        writer.write(levels[0], subifds=len(levels) - 1 if subifds else None, metadata=None, **how)
        for level in levels[1:]:
            writer.write(level, subfiletype=1 if flagged else 0, metadata=None, **how)
    return path


def write_svs(path: Path, levels: Sequence[NDArray[np.uint8]], **how: Any) -> Path:
    """An Aperio slide: level 0, stripped thumbnail, more levels, label and macro."""
    height, width = levels[0].shape[:2]
    small = np.full((60, 80, 3), 200, np.uint8)
    how = {"tile": (128, 128), "compression": "jpeg", "photometric": "rgb", "metadata": None} | how
    with tifffile.TiffWriter(path) as writer:
        describe = APERIO.format(w=width, h=height)
        writer.write(levels[0], description=describe, **how)
        writer.write(small, description=describe.split("|")[0], photometric="rgb", metadata=None)
        for level in levels[1:]:
            writer.write(level, description=describe.split("|")[0], **how)
        for name, flag in (("label", 1), ("macro", 9)):
            described = f"Aperio Image Library v11.2.1 \r\n{name} 80x60"
            writer.write(small, description=described, subfiletype=flag, photometric="rgb", metadata=None)
    return path


def write_ome_tiff(
    path: Path,
    levels: Sequence[NDArray[Any]],
    *,
    mpp: float = 0.5,
    unit: str = "µm",
    axes: str = "YXS",
    **how: Any,
) -> Path:
    size = {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": unit, "PhysicalSizeY": mpp, "PhysicalSizeYUnit": unit}
    how = {"tile": (128, 128), "compression": "deflate", "photometric": "rgb"} | how
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(levels[0], subifds=len(levels) - 1, metadata={"axes": axes, **size}, **how)
        for level in levels[1:]:
            writer.write(level, subfiletype=1, **how)
    return path


def write_ome_zarr(
    path: Path,
    levels: Sequence[NDArray[np.uint8]],
    *,
    version: str = "0.5",
    axes: str = "cyx",
    unit: str | None = "micrometer",
    mpp: float = 0.5,
    chunk: int = 256,
) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    datasets = []
    for number, level in enumerate(levels):
        order = ["yxc".index(axis) for axis in axes if axis in "yxc"]
        stored = level.transpose(order)
        for place, axis in enumerate(axes):
            if axis in "tz":
                stored = np.expand_dims(stored, place)
        chunks = tuple(
            chunk if axis in "yx" else length for axis, length in zip(axes, stored.shape, strict=True)
        )
        array = group.create_array(str(number), shape=stored.shape, chunks=chunks, dtype="u1")
        array[...] = stored
        scale = [mpp * 2**number if axis in "yx" else 1.0 for axis in axes]
        datasets.append(
            {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    kinds = {"c": "channel", "t": "time"}
    described: list[dict[str, str]] = []
    for axis in axes:
        entry = {"name": axis, "type": kinds.get(axis, "space")}
        if axis in "yx" and unit is not None:
            entry["unit"] = unit
        described.append(entry)
    multiscales = [{"axes": described, "datasets": datasets, "version": version}]
    if version == "0.5":
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
    else:
        group.attrs["multiscales"] = multiscales
    return path
