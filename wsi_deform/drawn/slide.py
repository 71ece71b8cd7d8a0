"""Drawn H&E-like needle biopsies with truth: slides for the demo and for tests, the same for the same seed.

A core of pink stroma lies on white glass; violet glands lie in the core. The four gland classes have the same
mean colour and the same contrast. Only the period and the direction of their texture differ, so a network
that sees one sample per 21 px (24 x 96 samples of a 512 x 2048 px slide) can tell the coarsest class from the
rest and must look closer to tell the others apart. About nine tenths of the pixels are background, as on real
biopsies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.drawn.gland import draw_gland, placed_glands
from wsi_deform.drawn.noise import FloatArray, smooth_noise
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size

LANE_PX = 512  # height of the strip of glass around one core at scale 1

# Amounts of haematoxylin and eosin, turned into RGB by Beer-Lambert with the stain of the patient.
HAEMATOXYLIN_OD = np.array([0.65, 0.70, 0.29])
EOSIN_OD = np.array([0.10, 0.86, 0.42])
AMOUNTS = {
    "collagen": (0.09, 0.46),
    "loose": (0.03, 0.17),
    "nucleus": (1.05, 0.30),
    "epithelium": (0.90, 0.30),
    "lumen": (0.12, 0.10),
    "lymphocytes": (0.80, 0.12),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A drawn slide and its truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8, index into ``CLASS_NAMES``.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def draw_slide(
    seed: int,
    size: Size = Size(2048, 512),
    *,
    patient: int | None = None,
    cores: int = 1,
    scale: float | None = None,
) -> Drawing:
    """Draw one slide.

    Args:
        seed: Decides everything on the slide except the stain of the patient.
        size: Size of the slide, px. Cores lie along the longer side.
        patient: Seed of the stain that all slides of one patient share; default: ``seed``.
        cores: How many cores lie side by side on the glass.
        scale: Size of everything drawn; 1 draws glands of 60 to 160 px half length. Default: fits the
            cores to the slide (1 for one core on 512 px).

    Returns:
        The image and the label map.

    Raises:
        ShapeError: There are no cores, or more than there is room for (16 px each are needed).
    """
    if not 1 <= cores <= max(1, size.short // 16):
        raise ShapeError(
            f"cores = {cores} on a slide of {size}: needed 1 to {max(1, size.short // 16)} cores (16 px of "
            "glass each)."
        )
    rng = np.random.default_rng([seed, 1])
    colours = _stain(np.random.default_rng([seed if patient is None else patient, 2]), rng)
    edges = np.linspace(0, size.short, cores + 1).astype(int)
    image = np.empty((size.short, size.long, 3), np.uint8)
    labels = np.zeros((size.short, size.long), np.uint8)
    for top, bottom in zip(edges[:-1], edges[1:], strict=True):
        lane = np.s_[top:bottom]
        lane_scale = scale or (bottom - top) / LANE_PX
        image[lane], labels[lane] = _lane(rng, Size(size.long, int(bottom - top)), lane_scale, colours)
    if size.height > size.width:
        image, labels = image.transpose(1, 0, 2), labels.T
    return Drawing(image=np.ascontiguousarray(image), labels=np.ascontiguousarray(labels))


def _stain(patient_rng: np.random.Generator, slide_rng: np.random.Generator) -> dict[str, FloatArray]:
    """Draw the colours of one slide: the patient's stain and a little of the slide's own."""
    strength = patient_rng.uniform(0.85, 1.15, 2) * slide_rng.uniform(0.96, 1.04, 2)
    glass = patient_rng.uniform([240, 239, 241], [248, 247, 249])
    density = np.stack([HAEMATOXYLIN_OD, EOSIN_OD]) * patient_rng.uniform(0.93, 1.07, (2, 3))
    colours = {
        name: glass * np.exp(-((np.array(amounts) * strength) @ density)) for name, amounts in AMOUNTS.items()
    }
    return {name: colour.astype(np.float32) for name, colour in {**colours, "glass": glass}.items()}


def _lane(
    rng: np.random.Generator, size: Size, scale: float, colours: dict[str, FloatArray]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one core on its strip of glass: (H, W, 3) image and (H, W) labels, both uint8."""
    height, width = size.shape
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    centre = height * (0.5 + 0.035 * smooth_noise(rng, (1, width), 1, 420 * scale)[0])
    half = LANE_PX * scale * (0.232 + 0.022 * smooth_noise(rng, (1, width), 1, 170 * scale)[0])
    # Positive inside the core, in px; ends are round and the border is frayed at three scales.
    left, right = width * rng.uniform(0.02, 0.05), width * rng.uniform(0.95, 0.98)
    to_end = np.minimum(x - left, right - x) / half
    inside = half * np.sqrt(np.clip(to_end * (2 - np.minimum(to_end, 1)), 0, 1)) - np.abs(y - centre)
    for period, depth in ((60, 5.0), (17, 4.0), (5, 1.5)):
        inside += depth * scale * smooth_noise(rng, size.shape, period * scale, 1.4 * period * scale)
    opacity = np.clip(inside / (2.5 * scale), 0, 1)

    canvas = _stroma(rng, size, scale, colours, inside)
    labels = np.zeros(size.shape, np.uint8)
    _lymphocytes(rng, canvas, centre, half, scale, colours)
    for gland in placed_glands(rng, size, centre, half, (left, right), scale):
        draw_gland(rng, canvas, labels, gland, scale, colours)
    glass = colours["glass"]
    image = glass + opacity[..., None] * (canvas - glass)
    labels[opacity < 0.5] = 0
    _distractors(rng, image, scale, glass)
    image += rng.standard_normal(size.shape, np.float32)[..., None] * np.float32(2.0)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def _stroma(
    rng: np.random.Generator,
    size: Size,
    scale: float,
    colours: dict[str, FloatArray],
    inside: FloatArray,
) -> FloatArray:
    """Draw wavy collagen with spindle nuclei and clefts: (H, W, 3), 0 to 255."""
    height, width = size.shape
    wave = 13 * scale * smooth_noise(rng, size.shape, 190 * scale, 200 * scale)
    rows = np.clip(np.arange(height)[:, None] + wave.astype(np.int64), 0, height - 1)
    address = rows * width + np.arange(width)
    fibre = smooth_noise(rng, size.shape, 4 * scale, 90 * scale) + 0.8 * smooth_noise(
        rng, size.shape, 13 * scale, 170 * scale
    )
    spindle = smooth_noise(rng, size.shape, 3.2 * scale, 11 * scale)
    fibre, spindle = fibre.ravel()[address], spindle.ravel()[address]
    density = np.clip(
        0.62 + 0.20 * fibre + 0.14 * smooth_noise(rng, size.shape, 90 * scale, 140 * scale), 0, 1.25
    )
    nuclei = np.clip((spindle - 1.35) * 3, 0, 0.85)[..., None]
    collagen, loose, nucleus = (colours[name] for name in ("collagen", "loose", "nucleus"))
    canvas: FloatArray = loose + density[..., None] * (collagen - loose)
    canvas += nuclei * (nucleus - canvas)
    # Retraction clefts run with the fibres; they are glass seen through the tissue.
    clefts = (np.clip((-fibre - 2.15) * 3, 0, 0.8) * (inside < 60 * scale))[..., None]
    canvas += clefts * (colours["glass"] - canvas)
    return canvas


def _lymphocytes(
    rng: np.random.Generator,
    canvas: FloatArray,
    centre: FloatArray,
    half: FloatArray,
    scale: float,
    colours: dict[str, FloatArray],
) -> None:
    """Draw small blue clusters of lymphocytes in the stroma: violet, and yet background."""
    height, width = canvas.shape[:2]
    for _ in range(rng.poisson(1.5 * width / (2048 * scale))):
        x, radius = rng.uniform(0.1, 0.9) * width, rng.uniform(12, 26) * scale
        y = centre[int(x)] + rng.uniform(-0.8, 0.8) * half[int(x)]
        rows = slice(max(0, int(y - 2 * radius)), min(height, int(y + 2 * radius) + 1))
        columns = slice(max(0, int(x - 2 * radius)), min(width, int(x + 2 * radius) + 1))
        dy, dx = np.arange(rows.start, rows.stop)[:, None] - y, np.arange(columns.start, columns.stop) - x
        near = 1 - (dx**2 + dy**2) / (2 * radius) ** 2
        cells = smooth_noise(rng, near.shape, 4 * scale, 4 * scale)
        cover = np.clip((cells + 1.6 * near - 0.7) * 2, 0, 0.9)[..., None].astype(np.float32)
        canvas[rows, columns] += cover * (colours["lymphocytes"] - canvas[rows, columns])


def _distractors(rng: np.random.Generator, image: FloatArray, scale: float, glass: FloatArray) -> None:
    """Draw what is on real slides and means nothing: a fold, a pen stroke, dust."""
    height, width = image.shape[:2]
    y = np.arange(height, dtype=np.float32)[:, None]
    if rng.random() < 0.35:  # a fold: tissue lies double, so light is absorbed twice
        middle, lean, thick = (
            rng.uniform(0.15, 0.85) * width,
            rng.uniform(-0.5, 0.5),
            rng.uniform(4, 9) * scale,
        )
        reach = int(abs(lean) * height + 4 * thick) + 1
        columns = slice(max(0, int(middle) - reach), min(width, int(middle) + reach))
        bend = lean * (y - height / 2) + 6 * scale * np.sin(y / (37 * scale) + rng.uniform(0, 6.3))
        x = np.arange(columns.start, columns.stop, dtype=np.float32)
        cover = (0.75 * np.exp(-(((x - middle - bend) / thick) ** 2)))[..., None].astype(np.float32)
        image[:, columns] *= 1 - cover + cover * image[:, columns] / glass
    if rng.random() < 0.2:  # a pen stroke on the glass, near the upper or lower edge
        ink = np.array([(40, 90, 190), (30, 130, 80), (25, 25, 35)][rng.integers(3)], np.float32)
        start, length, thick = (
            rng.uniform(0, 0.7) * width,
            rng.uniform(0.08, 0.25) * width,
            rng.uniform(5, 9) * scale,
        )
        x = np.arange(int(start), min(width, int(start + length)), dtype=np.float32)
        line = (0.06 if rng.random() < 0.5 else 0.94) * height + 8 * scale * np.sin(x / (60 * scale))
        cover = np.clip((thick - np.abs(y - line)) / (2 * scale), 0, 0.85)[..., None].astype(np.float32)
        window = image[:, int(start) : int(start) + x.size]
        window += cover * (ink - window)
    for _ in range(rng.poisson(4)):  # dust
        radius = max(1, int(rng.uniform(1, 4) * scale))
        row, column = int(rng.uniform(0, height)), int(rng.uniform(0, width))
        image[row : row + radius, column : column + 2 * radius] *= 0.6
