"""A results folder as `segment` leaves it, drawn without a model: every pixel of it is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from slide_files import picture, write_tiff

from wsi_deform.annotation.classes import ClassTable, write_class_table
from wsi_deform.distribute.ledger import Ledger, State
from wsi_deform.distribute.measurements import write_measurements
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.coarse import CoarseMap
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.ome import Channel
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.mask.samples import write_samples
from wsi_deform.mask.tiff import write_nearest_mask
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.slide.identity import slide_identity

SIZE = Size(1300, 700)
MPP = 0.5
BORDER_X_PX = 650
CLASSES = ClassTable.from_names(["background", "gland", "tumour"])
GLAND, TUMOUR = (230, 159, 0), (0, 158, 115)
POINTS = np.array([[325.0, 350.0], [975.0, 350.0]])
LABELS = np.array([1, 2], np.uint8)


def drawn_slide(path: Path, *, seed: int = 0, grey: int | None = None) -> Path:
    """A tiled TIFF with the levels 1 and 4, of waves or all grey; step 1 of its frame is stored nowhere."""
    level = picture(SIZE.width, SIZE.height, seed)
    if grey is not None:
        level[:] = grey
    quarter = level.reshape(175, 4, 325, 4, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_tiff(path, [level, quarter], tile=(256, 256), compression="deflate")


def drawn_results(
    folder: Path, slide_id: str = "case 1", *, maps: bool = True, grey: int | None = None, **known: Any
) -> MaskFolder:
    """OUT with one finished slide: left of x = 650 px everything is gland, right of it tumour."""
    slide = drawn_slide(folder.parent / "slides" / f"{slide_id}.tif", grey=grey)
    out = MaskFolder(folder)
    for path in out.outputs(slide_id).values():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_class_table(CLASSES, out.classes)
    write_nearest_mask(out.mask(slide_id), points_px=POINTS, labels=LABELS, size=SIZE, mpp=MPP)
    field = FieldSamples(kept=Region.whole(SIZE), points_px=POINTS, labels=LABELS)
    write_samples(out.samples(slide_id), [field], size=SIZE, outside_label=0)
    if maps:
        draw_maps(out, slide_id)
    out.geojson(slide_id).write_bytes(b"\x1f\x8b outlines")
    half = SIZE.area // 2
    state = State(
        slide_id=slide_id, status="done", slide=str(slide), identity=slide_identity(slide), seconds=2.0,
        width_px=SIZE.width, height_px=SIZE.height, mpp=MPP, mpp_xy=(MPP, MPP), fields=1, samples=2,
        class_pixels=(0, half, half), class_pixels_in_tissue=(0, half, 0), tissue_pixels=half,
    )  # fmt: skip
    state = dataclasses.replace(state, **known)
    Ledger(out).write(state)
    write_measurements(out, Ledger(out).results(), CLASSES)
    return out


def draw_maps(out: MaskFolder, slide_id: str) -> None:
    """Maps at 1/2: gland with probability 200 / 255 left, tumour with 100 / 255 right; 0.5 and 512 um per sample."""
    left, right = Region(0, 0, 325, 350), Region(325, 0, 325, 350)
    names = CLASSES.names
    with ProbabilityMap(
        out.probabilities(slide_id), size=SIZE, mpp=MPP, class_names=names, downsample=2
    ) as held:
        held.put(left, np.broadcast_to(np.float32([55, 200, 0])[:, None, None] / 255, (3, 350, 325)))
        held.put(right, np.broadcast_to(np.float32([155, 0, 100])[:, None, None] / 255, (3, 350, 325)))
    with CoarseMap(
        out.footprint(slide_id), size=SIZE, mpp=MPP, downsample=2, channels=[Channel()], dtype=np.uint16,
        halve=lambda blocks: blocks.max(axis=(1, 3)), annotations={},
    ) as coarse:  # fmt: skip
        coarse.put(left, np.full((1, 350, 325), 5, np.uint16))
        coarse.put(right, np.full((1, 350, 325), 5120, np.uint16))
