"""Mask: from labelled samples to a pyramid on disk, against programs that are given the finished array.

- ``ours`` and ``ours, 1 thread`` (what segmentation takes) render every level from the samples and write the file.
  Cost follows the length of the
  class borders: ``ours, busy`` has regions half as wide, ``ours, 2 % random`` has 2 % of the labels replaced at random
  (the many small islands of a noisy prediction). ``mixed_mpx`` says how many pixels lie in tiles of several classes.
- ``libvips`` (``tiffsave`` with tile, pyramid, deflate, region_shrink nearest) and ``tifffile`` (every level a slice of
  the array, zlib by its thread pool) write the finished level 0, which our ``region()`` made before and whose making is
  not counted. It lies in a memory-mapped file that is in the page cache, as a finished array in memory would.
- ``k-d tree`` asks ``scipy.spatial.cKDTree`` for the nearest sample of every pixel of level 0, tile by tile, and writes
  nothing. It is timed on a random part of the tiles, as the column ``part`` says, and multiplied.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from wsi_deform.geometry import Region, Size, tile_region
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.levels import pyramid_sizes
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

MPP = 0.25
TILE_PX = 512
SAMPLES = 64_000
CLASSES = 5
RANDOM = 0.02
ARRAY_ROWS = 2048


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    rows: list[Row] = []
    sides = (16_000,) if settings.quick else (20_000, 50_000, 100_000)
    for side in sides:
        print(f" {SAMPLES} samples on {side} x {side} px")
        with tempfile.TemporaryDirectory(prefix="wsi-deform-mask-") as folder:
            given = {"side": side, "folder": folder, "threads": settings.threads}
            chosen = settings.only or ("libvips", "tifffile")
            if "libvips" in chosen or "tifffile" in chosen:
                _write_array(Path(folder) / "labels.raw", side)
            for kind in ("plain", "busy", "random"):
                points, labels = labelled_samples(side, kind)
                np.savez(Path(folder) / f"samples-{kind}.npz", points=points, labels=labels)
            cases = [
                Case(name="ours", factory="mask:ours", params={**given, "kind": "plain"}),
                Case(
                    name="ours, 1 thread",
                    factory="mask:ours",
                    params={**given, "threads": 1, "kind": "plain"},
                ),
                Case(name="ours, busy", factory="mask:ours", params={**given, "kind": "busy"}),
                Case(name="ours, 2 % random", factory="mask:ours", params={**given, "kind": "random"}),
                Case(
                    name="ours, busy, 1 thread",
                    factory="mask:ours",
                    params={**given, "kind": "busy", "threads": 1},
                ),
                Case(
                    name="ours, 2 % random, 1 thread",
                    factory="mask:ours",
                    params={**given, "kind": "random", "threads": 1},
                ),
                Case(name="libvips", factory="mask:libvips", params=given),
                Case(name="tifffile", factory="mask:tifffile_pyramid", params=given),
                Case(
                    name="k-d tree",
                    factory="mask:tree",
                    params={**given, "part": 0.002 if settings.quick else 0.05 if side <= 20_000 else 0.01},
                ),
            ]
            cases = [case for case in cases if not settings.only or case.name in settings.only]
            # One pool per side: what a process held for one side must not count for another.
            with Pool(settings.threads) as pool:
                measured = pool.measure(cases, runs=settings.runs)
            for row in measured:
                row.pop("folder")
                row.pop("kind", None)
                row["samples"] = SAMPLES
            rows += measured
    return rows


def labelled_samples(side: int, kind: str = "plain") -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Samples of a warped grid over a square slide with the labels of a field of tissue.

    Args:
        side: Side of the slide, px.
        kind: "plain", "busy" (regions half as wide) or "random" (2 % of the labels replaced).

    Returns:
        (N, 2) points in level-0 px and (N,) labels: background and blobs of four classes over a quarter of the slide.
    """
    # Imported here: the processes that are measured need no torch, as writing a mask needs none.
    from pipelines.benchmarks.gather import warped_grid
    from wsi_deform.drawn.noise import smooth_noise

    grid = warped_grid(SAMPLES)
    points = grid.reshape(-1, 2).double().numpy() * side
    rng = np.random.default_rng(0)
    shape = (256, 256)
    period = 60 if kind == "busy" else 120
    tissue, texture = (
        smooth_noise(rng, shape, period, period),
        smooth_noise(rng, shape, period / 2, period / 2),
    )
    field = np.where(tissue > 0.4, 1 + np.digitize(texture, (-0.7, 0.0, 0.7)), 0).astype(np.uint8)
    at = np.clip((grid.reshape(-1, 2).numpy() * 256).astype(int), 0, 255)
    labels = field[at[:, 1], at[:, 0]]
    changed = rng.random(len(labels)) < (RANDOM if kind == "random" else 0.0)
    labels[changed] = rng.integers(0, CLASSES, int(changed.sum()))
    return points, labels


def _sampler(side: int) -> ReverseSampler:
    size = Size(side, side)
    points, labels = labelled_samples(side)
    return ReverseSampler(
        [FieldSamples(kept=Region.whole(size), points_px=points, labels=labels)], size=size, tile_px=TILE_PX
    )


def _write_array(path: Path, side: int) -> None:
    """The finished level 0 as raw bytes."""
    sampler = _sampler(side)
    with path.open("wb") as file:
        for top in range(0, side, ARRAY_ROWS):
            sampler.region(Region(0, top, side, min(ARRAY_ROWS, side - top))).tofile(file)


def _stored(folder: str, kind: str) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    with np.load(Path(folder) / f"samples-{kind}.npz") as held:
        return held["points"], held["labels"]


def _finished(folder: str, side: int) -> NDArray[np.uint8]:
    return np.memmap(Path(folder) / "labels.raw", np.uint8, "r", shape=(side, side))


def ours(*, side: int, folder: str, threads: int, kind: str) -> Work:
    """Render and write, as ``wsi-deform segment`` does."""
    points, labels = _stored(folder, kind)
    path = Path(folder) / f"ours-{threads}-{kind}.ome.tif"

    def write(length: int) -> None:
        size = Size(length, length)
        fields = [FieldSamples(kept=Region.whole(size), points_px=points * (length / side), labels=labels)]
        sampler = ReverseSampler(fields, size=size, tile_px=TILE_PX)
        write_mask(path, sampler.tiles(threads=threads), size=size, mpp=MPP, tile_px=TILE_PX, threads=threads)

    def run(_: int) -> Facts:
        write(side)
        return {"file_mb": path.stat().st_size / 1e6}

    def finish() -> Facts:
        size = Size(side, side)
        sampler = ReverseSampler(
            [FieldSamples(kept=Region.whole(size), points_px=points, labels=labels)],
            size=size,
            tile_px=TILE_PX,
        )
        return {
            "mixed_mpx": sum(tile.pixels.size for tile in sampler.tiles() if tile.pixels is not None) / 1e6
        }

    write(1024)
    return Work(run=run, finish=finish)


def save_with_libvips(labels: NDArray[np.uint8], path: Path, *, mpp: float) -> None:
    """Write a label map as a pyramid with ``tiffsave``; threads are set by VIPS_CONCURRENCY."""
    import pyvips

    labels = np.ascontiguousarray(labels)
    image = pyvips.Image.new_from_memory(labels, labels.shape[1], labels.shape[0], 1, "uchar")
    image.tiffsave(
        str(path),
        tile=True,
        tile_width=TILE_PX,
        tile_height=TILE_PX,
        pyramid=True,
        compression="deflate",
        region_shrink="nearest",
        bigtiff=labels.size > 2**32,
        xres=100 / mpp,
        yres=100 / mpp,
    )


def libvips(*, side: int, folder: str, threads: int) -> Work:
    """``tiffsave`` of the finished array."""
    path = Path(folder) / "vips.tif"

    def run(_: int) -> Facts:
        save_with_libvips(_finished(folder, side), path, mpp=MPP)
        return {"file_mb": path.stat().st_size / 1e6}

    save_with_libvips(np.zeros((1024, 1024), np.uint8), path, mpp=MPP)
    return Work(run=run)


def tifffile_pyramid(*, side: int, folder: str, threads: int) -> Work:
    """Every level of the finished array with tifffile."""
    import tifffile

    path = Path(folder) / "tifffile.ome.tif"

    def write(array: NDArray[np.uint8]) -> None:
        sizes = pyramid_sizes(Size(array.shape[1], array.shape[0]), TILE_PX)
        options = {
            "tile": (TILE_PX, TILE_PX),
            "photometric": "minisblack",
            "compression": "zlib",
            "maxworkers": threads,
        }
        with tifffile.TiffWriter(path, bigtiff=array.size > 2**32) as tiff:
            tiff.write(array, subifds=len(sizes) - 1, **options)
            for _ in sizes[1:]:
                array = array[::2, ::2]
                tiff.write(array, subfiletype=1, **options)

    def run(_: int) -> Facts:
        write(_finished(folder, side))
        return {"file_mb": path.stat().st_size / 1e6}

    write(np.zeros((1024, 1024), np.uint8))
    return Work(run=run)


def tree(*, side: int, folder: str, threads: int, part: float) -> Work:
    """The nearest sample of every pixel by a k-d tree, level 0 only, nothing written."""
    from scipy.spatial import cKDTree

    points, labels = _stored(folder, "plain")
    tiles = list(_tiles(side))

    def run(number: int) -> Facts:
        chosen = np.random.default_rng(number).permutation(len(tiles))[: max(1, round(part * len(tiles)))]
        start, cpu = time.perf_counter(), time.process_time()
        built = cKDTree(points)
        fixed, fixed_cpu = time.perf_counter() - start, time.process_time() - cpu
        start, cpu = time.perf_counter(), time.process_time()
        for index in chosen:
            tile = tiles[index]
            y, x = np.mgrid[tile.y : tile.bottom, tile.x : tile.right]
            centres = np.stack((x.ravel() + 0.5, y.ravel() + 0.5), axis=1)
            labels[built.query(centres, workers=threads)[1]].reshape(tile.size.shape)
        times = len(tiles) / len(chosen)
        return {
            "seconds": fixed + times * (time.perf_counter() - start),
            "cpu_seconds": fixed_cpu + times * (time.process_time() - cpu),
        }

    return Work(run=run)


def _tiles(side: int) -> Iterator[Region]:
    tile, size = Size(TILE_PX, TILE_PX), Size(side, side)
    for column, row in Region.whole(size).tiles(tile):
        yield tile_region(column, row, tile, size)
