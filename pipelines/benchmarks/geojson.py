"""A mask to GeoJSON: the outlines of a mask of 100,000 x 100,000 px that was made from 64,000 samples.

- ``samples``: from the level that shows what the samples can tell, as segmentation does; ``level 0``: the exact edges
  of all pixels; ``2 um``: level 0, simpler within 2 um. ``, 2 % random``: of a mask with 2 % of the labels replaced at
  random, the many small islands of a noisy prediction.
- ``rasterio`` (``features.shapes`` of GDAL) and ``opencv`` (``findContours`` per class, with holes) are given the
  finest level that they can hold in 8 GiB, read by tifffile beforehand, which is not counted, and their polygons are
  written alike, by ``json`` and ``gzip``. ``ours, level N`` is the same level. OpenCV's rings run through centres of
  pixels.

``vertices`` says how many there are. Rivals that are not installed are left out: ``pip install rasterio
opencv-python-headless``.
"""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.benchmarks.mask import CLASSES, MPP, SAMPLES, labelled_samples
from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from wsi_deform.geometry import Size

RIVALS = {"rasterio": "rasterio", "opencv": "cv2"}
# OpenCV counts pixels in 31 bits and pads a copy of 32 bits per pixel: 25,000 x 25,000 px take 3.2 GiB.
RIVAL_LEVEL = 2
TOLERANCE_UM = 2.0
COMPRESSION = 6


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    side = 8_000 if settings.quick else 100_000
    rival_level = 0 if settings.quick else RIVAL_LEVEL
    with tempfile.TemporaryDirectory(prefix="wsi-deform-geojson-") as folder:
        for kind in ("plain", "random"):
            points, labels = labelled_samples(side, kind)
            np.savez(Path(folder) / f"samples-{kind}.npz", points=points, labels=labels)
        given = {"side": side, "folder": folder}
        cases = [
            Case(
                name=f"ours, {what}{', 2 % random' if kind == 'random' else ''}",
                factory="geojson:ours",
                params={**given, "kind": kind, "what": what},
            )
            for what in ("samples", "level 0", "2 um")
            for kind in ("plain", "random")
        ]
        cases.append(
            Case(
                name=f"ours, level {rival_level}",
                factory="geojson:ours",
                params={**given, "kind": "plain", "what": f"level {rival_level}"},
            )
        )
        cases += [
            Case(
                name=f"{rival}, level {rival_level}",
                factory="geojson:other",
                params={**given, "rival": rival, "level": rival_level},
            )
            for rival, module in RIVALS.items()
            if importlib.util.find_spec(module)
        ]
        unique = {case.name: case for case in cases if not settings.only or case.name in settings.only}
        with Pool(settings.threads) as pool:
            rows = pool.measure(list(unique.values()), runs=settings.runs)
    for row in rows:
        for column in ("folder", "kind", "what", "rival", "level"):
            row.pop(column, None)
        row["samples"] = SAMPLES
    return rows


def _written(folder: str, kind: str, name: str, side: int, length: int) -> Path:
    """A mask of a side of ``length`` px of the samples of one of ``side``."""
    from wsi_deform.mask.tiff import write_nearest_mask

    with np.load(Path(folder) / f"samples-{kind}.npz") as held:
        points, labels = held["points"] * (length / side), held["labels"]
    path = Path(folder) / f"{name}-{length}.ome.tif"
    write_nearest_mask(path, points_px=points, labels=labels, size=Size(length, length), mpp=MPP)
    return path


def ours(*, side: int, folder: str, kind: str, what: str) -> Work:
    """Read a mask file and write its outlines."""
    from wsi_deform.annotation.classes import ClassTable
    from wsi_deform.mask.coarse import map_downsample
    from wsi_deform.mask.geojson import write_geojson

    classes = ClassTable.from_names(["background", *(f"class {index}" for index in range(1, CLASSES))])
    name = f"{kind}-{what}".replace(" ", "_")
    path = Path(folder) / f"{name}.geojson.gz"

    def write(mask: Path, length: int) -> Facts:
        downsample = 2 ** int(what.removeprefix("level ")) if what.startswith("level ") else 1
        if what == "samples":
            downsample = map_downsample(SAMPLES, length**2, Size(length, length))
        tolerance = TOLERANCE_UM if what.endswith(" um") else 0.0
        done = write_geojson(
            path, mask, classes=classes, downsample=downsample, mpp=MPP, tolerance_um=tolerance
        )
        return {"vertices": done.vertices, "polygons": done.polygons}

    write(_written(folder, kind, name, side, 1024), 1024)
    whole = _written(folder, kind, name, side, side)
    return Work(run=lambda _: {**write(whole, side), "file_mb": path.stat().st_size / 1e6})


def other(*, side: int, folder: str, rival: str, level: int) -> Work:
    """The same level by a rival, from an array."""
    import tifffile

    polygons = {"rasterio": _by_rasterio, "opencv": _by_opencv}[rival]
    path = Path(folder) / f"{rival}.geojson.gz"

    def write(pixels: NDArray[np.uint8]) -> Facts:
        vertices = count = 0
        with gzip.open(path, "wt", encoding="ascii", compresslevel=COMPRESSION) as out:
            out.write('{"type":"FeatureCollection","features":[')
            for label, rings in polygons(pixels):
                text = json.dumps(
                    {
                        "type": "Feature",
                        "geometry": {"type": "Polygon", "coordinates": rings},
                        "properties": {
                            "objectType": "annotation",
                            "classification": {"name": f"class {label}", "color": [0, 0, label]},
                        },
                    }
                )
                out.write(f"{',' if count else ''}\n{text}")
                vertices += sum(map(len, rings)) - len(rings)
                count += 1
            out.write("\n]}\n")
        return {"vertices": vertices, "polygons": count}

    write(tifffile.imread(_written(folder, "plain", rival, side, 1024)))
    with tifffile.TiffFile(_written(folder, "plain", rival, side, side)) as tiff:
        pixels = tiff.series[0].levels[level].asarray()
    return Work(run=lambda _: {**write(pixels), "file_mb": path.stat().st_size / 1e6})


def _by_rasterio(pixels: NDArray[np.uint8]) -> Iterator[tuple[int, Any]]:
    features = importlib.import_module("rasterio.features")
    for shape, label in features.shapes(pixels, mask=pixels > 0, connectivity=4):
        yield int(label), shape["coordinates"]


def _by_opencv(pixels: NDArray[np.uint8]) -> Iterator[tuple[int, Any]]:
    cv2 = importlib.import_module("cv2")
    for label in range(1, CLASSES):
        chosen = (pixels == label).astype(np.uint8)
        contours, tree = cv2.findContours(chosen, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        closed = [[*ring[:, 0].tolist(), ring[0, 0].tolist()] for ring in contours]
        for number, (_, _, first_hole, parent) in enumerate(tree[0].tolist() if len(contours) else []):
            if parent >= 0:
                continue
            rings, hole = [closed[number]], first_hole
            while hole >= 0:
                rings.append(closed[hole])
                hole = tree[0][hole][0]
            yield label, rings
