"""Outlines to labels: a file of many outlines is opened, gives a region's label map, and becomes a mask of the slide.

QuPath GeoJSON of 100,000 polygons of 10 points on 20,000 x 20,000 px, in four classes, read and rasterised by

- ours: ``open``, from the file to an index; ``region``, a label map of 2,048 x 2,048 px from the index; ``mask``, the
  pyramidal TIFF of the whole slide, written.
- rasterio: ``rasterize`` of GDAL, whose rule is ours (pixel centres). It is given shapely polygons; for the region
  those that an STRtree finds there, the tree made beforehand. ``mask`` is the array of level 0, nothing written.
- OpenCV: ``fillPoly`` of whole-number points, which holds borders, the same way.
- scikit-image: ``draw.polygon``, region only.

Rivals that are not installed are left out: ``pip install rasterio opencv-python-headless``.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.benchmarks.measure import Case, Facts, Pool, Row, Work
from pipelines.benchmarks.results import Settings
from wsi_deform.geometry import Region, Size

NAMES = ("a", "b", "c", "d")
POINTS = 10
REGION_PX = 2048
RIVALS = {"rasterio": "rasterio", "opencv": "cv2", "scikit-image": "skimage"}


def benchmark(settings: Settings) -> list[Row]:
    """Run it."""
    side, count = (4_000, 4_000) if settings.quick else (20_000, 100_000)
    with tempfile.TemporaryDirectory(prefix="wsi-deform-outlines-") as name:
        path = Path(name) / "drawn.geojson"
        write_outlines(path, side=side, count=count)
        given = {"path": str(path), "side": side}
        cases = [
            Case(name=f"ours, {part}", factory="outlines:ours", params={**given, "part": part})
            for part in ("open", "region", "mask")
        ]
        cases += [
            Case(
                name=f"{rival}, {part}",
                factory="outlines:other",
                params={**given, "part": part, "rival": rival},
            )
            for rival, module in RIVALS.items()
            for part in ("region", "mask")
            if importlib.util.find_spec(module) and (rival, part) != ("scikit-image", "mask")
        ]
        cases = [case for case in cases if not settings.only or case.name in settings.only]
        with Pool(settings.threads) as pool:
            rows = pool.measure(cases, runs=settings.runs)
    for row in rows:
        row.pop("path")
        row["outlines"] = count
    return rows


def polygons(side: int, count: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Drawn polygons of ``POINTS`` points, (count, POINTS, 2), and the class of each, 1 to 4."""
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    radii = rng.uniform(3, 12, (count, 1)) * rng.uniform(0.8, 1.2, (count, POINTS))
    centres = rng.uniform(0, side, (count, 1, 2))
    points = centres + radii[..., None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.round(2), rng.integers(1, len(NAMES) + 1, count)


def write_outlines(path: Path, *, side: int, count: int) -> None:
    """Write drawn polygons as QuPath GeoJSON."""
    points, labels = polygons(side, count)
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*ring, ring[0]]]},
            "properties": {"objectType": "annotation", "classification": {"name": NAMES[label - 1]}},
        }
        for ring, label in zip(points.tolist(), labels.tolist(), strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")


def _region(side: int) -> Region:
    corner = (side - REGION_PX) // 2 if side > REGION_PX else 0
    return Region(corner, corner, min(REGION_PX, side), min(REGION_PX, side))


def ours(*, path: str, side: int, part: str) -> Work:
    """Open, read a region, or write a mask."""
    from wsi_deform.annotation.classes import ClassTable
    from wsi_deform.annotation.outlines.held import OUTLINE_CACHE
    from wsi_deform.annotation.outlines.labels import open_outline_labels
    from wsi_deform.mask.outline_mask import write_outline_mask

    table = ClassTable.from_names(["background", *NAMES])
    size, out = Size(side, side), Path(path).with_name(f"{part}.ome.tif")
    labels = open_outline_labels(path, slide_size=size, classes=table)
    labels.read_region(Region(0, 0, 64, 64))
    write_outline_mask(out, labels, size=Size(64, 64))

    def run(_: int) -> Facts:
        if part == "open":
            OUTLINE_CACHE.forget()
            opened = open_outline_labels(path, slide_size=size, classes=table)
            return {"index_mb": opened.raster.nbytes / 1e6}
        if part == "region":
            return {"labelled_mpx": int((labels.read_region(_region(side)) > 0).sum()) / 1e6}
        write_outline_mask(out, labels)
        return {"file_mb": out.stat().st_size / 1e6}

    return Work(run=run)


def other(*, path: str, side: int, part: str, rival: str) -> Work:
    """The same by another program, from polygons in memory."""
    import shapely

    points, labels = polygons(side, len(json.loads(Path(path).read_text(encoding="utf-8"))["features"]))
    shapes = shapely.polygons(points)
    tree = shapely.STRtree(shapes)
    region = Region(0, 0, side, side) if part == "mask" else _region(side)
    fill: Any = {"rasterio": _by_rasterio, "opencv": _by_opencv, "scikit-image": _by_skimage}[rival]

    def run(_: int) -> Facts:
        found = np.sort(tree.query(shapely.box(region.x, region.y, region.right, region.bottom)))
        return {"labelled_mpx": int((fill(points, shapes, labels, found, region) > 0).sum()) / 1e6}

    fill(points, shapes, labels, np.arange(10), Region(0, 0, 64, 64))
    return Work(run=run)


def _by_rasterio(points: Any, shapes: Any, labels: Any, found: Any, region: Region) -> NDArray[np.uint8]:
    features = importlib.import_module("rasterio.features")
    affine = importlib.import_module("affine").Affine
    drawn: NDArray[np.uint8] = features.rasterize(
        zip(shapes[found], labels[found].tolist(), strict=True),
        out_shape=(region.height, region.width),
        transform=affine.translation(region.x, region.y),
        dtype="uint8",
    )
    return drawn


def _by_opencv(points: Any, shapes: Any, labels: Any, found: Any, region: Region) -> NDArray[np.uint8]:
    cv2 = importlib.import_module("cv2")
    drawn = np.zeros((region.height, region.width), np.uint8)
    for number in found:
        ring = (points[number] - (region.x, region.y)).round().astype(np.int32)
        cv2.fillPoly(drawn, [ring], int(labels[number]))
    return drawn


def _by_skimage(points: Any, shapes: Any, labels: Any, found: Any, region: Region) -> NDArray[np.uint8]:
    draw = importlib.import_module("skimage.draw")
    drawn = np.zeros((region.height, region.width), np.uint8)
    for number in found:
        x, y = (points[number] - (region.x + 0.5, region.y + 0.5)).T
        drawn[draw.polygon(y, x, drawn.shape)] = labels[number]
    return drawn
