"""Drawn glands: where they lie, and textures of equal mean and contrast that name their class."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wsi_deform.drawn.noise import FloatArray, smooth_noise
from wsi_deform.geometry import Size

CLASS_NAMES = ("background", "large acini", "small acini", "sheets", "cords")
# Class index -> (period of the texture in px at scale 1, whether it has one direction).
TEXTURES = {1: (60.0, False), 2: (26.0, False), 3: (13.0, False), 4: (26.0, True)}
GLAND_SHARE = 0.09  # of all pixels
# Standard deviation of a gland's texture, drawn alike for all classes; +-1 is pure epithelium and pure lumen.
CONTRASTS = (0.50, 0.72)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gland:
    """One gland in the frame of its lane: centre, half axes (px), tilt (rad) and class index."""

    x: float
    y: float
    long_px: float
    short_px: float
    tilt: float
    label: int


def placed_glands(
    rng: np.random.Generator,
    size: Size,
    centre: FloatArray,
    half: FloatArray,
    ends: tuple[float, float],
    scale: float,
) -> list[Gland]:
    """Choose glands that lie in the core, do not touch, and cover about ``GLAND_SHARE`` of the lane."""
    wanted_px = size.area * GLAND_SHARE * rng.uniform(0.85, 1.15)
    placed: list[Gland] = []
    order: list[int] = []
    for _ in range(60 * max(1, math.ceil(size.width / (2048 * scale)))):
        if wanted_px < 4000 * scale**2:
            break
        long_px = scale * rng.uniform(60, 160)
        short_px = min(long_px * rng.uniform(0.62, 1.0), 92 * scale)
        margin = min(1.1 * long_px, 0.5 * (ends[1] - ends[0]) - 1)
        x = rng.uniform(ends[0] + margin, ends[1] - margin)
        column = int(x)
        room = max(0.0, float(half[column]) - 1.1 * short_px)
        y = float(centre[column]) + rng.uniform(-room, room)
        area_px = math.pi * long_px * short_px
        if area_px > 1.3 * wanted_px or any(
            math.hypot((x - other.x) / (long_px + other.long_px), (y - other.y) / (short_px + other.short_px))
            < 1.08
            for other in placed
        ):
            continue
        # Classes are dealt in shuffled rounds, so that each is as frequent as the others.
        order = order or [int(label) for label in rng.permutation(sorted(TEXTURES))]
        slope = float(
            np.clip((centre[min(column + 9, size.width - 1)] - centre[max(column - 9, 0)]) / 18, -0.5, 0.5)
        )
        placed.append(
            Gland(
                x=x,
                y=y,
                long_px=long_px,
                short_px=short_px,
                tilt=math.atan(slope) + rng.normal(0, 0.1),
                label=order.pop(),
            )
        )
        wanted_px -= area_px
    return placed


def draw_gland(
    rng: np.random.Generator,
    canvas: FloatArray,
    labels: NDArray[np.uint8],
    gland: Gland,
    scale: float,
    colours: dict[str, FloatArray],
) -> None:
    """Draw one gland into the picture and the truth.

    Args:
        rng: Decides its outline and texture.
        canvas: (H, W, 3) float32 RGB in [0, 255]; drawn into.
        labels: (H, W) uint8, index into ``CLASS_NAMES``; drawn into.
        gland: Where it is, and what kind.
        scale: Size of everything drawn, as for ``draw_slide``.
        colours: (3,) RGB by name.
    """
    reach = int(1.35 * gland.long_px) + 2
    window = (
        slice(max(0, int(gland.y) - reach), int(gland.y) + reach),
        slice(max(0, int(gland.x) - reach), int(gland.x) + reach),
    )
    shape = labels[window].shape
    dy = (np.arange(shape[0], dtype=np.float32) + np.float32(window[0].start - gland.y))[:, None]
    dx = np.arange(shape[1], dtype=np.float32) + np.float32(window[1].start - gland.x)
    along = (dx * math.cos(gland.tilt) + dy * math.sin(gland.tilt)) / np.float32(gland.long_px)
    across = (dy * math.cos(gland.tilt) - dx * math.sin(gland.tilt)) / np.float32(gland.short_px)
    angle = np.arctan2(across, along)
    outline = np.ones(shape, np.float32)
    for lobes in (2, 3, 5, 8):
        outline += np.float32(rng.uniform(-0.16, 0.16) / lobes**0.5) * np.cos(
            lobes * angle + rng.uniform(0, 6.3)
        )
    radius = np.hypot(along, across) / outline
    gland_mask = (radius < 1) & (labels[window] == 0)
    if not gland_mask.any():
        return
    period, directed = TEXTURES[gland.label]
    texture = _texture(rng, shape, period * scale, directed)
    # On slides of a few dozen pixels no frequency of a fine texture is left: nothing is drawn of it.
    texture = np.tanh(1.6 * texture / max(float(texture.std()), 1e-6))
    values = texture[gland_mask]
    # Mean and contrast are set gland by gland: nothing but the period and the direction tells classes apart.
    contrast = np.float32(rng.uniform(*CONTRASTS))
    texture = np.clip((texture - values.mean()) * (contrast / max(float(values.std()), 1e-6)), -1.5, 1.5)
    texture += 0.16 * smooth_noise(rng, shape, 3.5 * scale, 3.5 * scale)
    epithelium, lumen = colours["epithelium"], colours["lumen"]
    body = (epithelium + lumen) / 2 + texture[..., None] * ((epithelium - lumen) / 2)
    rim = np.clip(1 - (1 - radius) * gland.short_px / (4 * scale), 0, 1)[..., None] * np.float32(0.7)
    body += rim * (colours["nucleus"] - body)
    canvas[window][gland_mask] = np.clip(body, 20, 250)[gland_mask]
    labels[window][gland_mask] = gland.label


def _texture(
    rng: np.random.Generator, shape: tuple[int, int], period_px: float, directed: bool
) -> FloatArray:
    """Noise of one period (and one direction where ``directed``), mean 0, any contrast: (H, W) float32."""
    spectrum = np.fft.rfft2(rng.standard_normal(shape, np.float32))
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    octaves = np.log2(np.maximum(np.hypot(fy, fx), 1e-9) * period_px)
    keep = np.exp(-((octaves / 0.22) ** 2))
    if directed:
        angle = np.angle(np.exp(2j * (np.arctan2(fy, fx) - rng.uniform(0, math.pi)))) / 2
        keep *= np.exp(-((angle / 0.22) ** 2))
    return np.fft.irfft2(spectrum * keep, shape).astype(np.float32)
