"""How a slide is cut into patches, as people ask for it; nothing that is slow is imported here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from wsi_deform.errors import ConfigError

MIN_PATCH_PX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSettings:
    """How a slide is cut into patches.

    Attributes:
        patch_px: Side of a patch, px of the level; None is the side of a square of as many samples as the model's
            budget, which is the patch that it was trained on if it was trained on patches.
        overlap: Share of a patch's side that the next one covers too, 0 to below 1.
        mpp: The level whose um per px are nearest to this is read; None is what the model's samples stand for.
        level: Index of the level instead.
        blend: What a patch counts where several cover a pixel: "gaussian", less towards its edges, or "constant".

    Raises:
        ConfigError: A value is out of range, or both mpp and level are given.
    """

    patch_px: int | None = None
    overlap: float = 0.25
    mpp: float | None = None
    level: int | None = None
    blend: str = "gaussian"

    def __post_init__(self) -> None:
        """Refuse what no slide can be cut into."""
        if self.patch_px is not None and self.patch_px < MIN_PATCH_PX:
            raise ConfigError(f"patch side {self.patch_px} px: needed at least {MIN_PATCH_PX}.")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap {self.overlap}: needed a share of a patch's side, 0 to below 1.")
        if self.mpp is not None and not 0 < self.mpp < math.inf:
            raise ConfigError(f"patch mpp {self.mpp}: needed a positive number of um per px.")
        if self.level is not None and (self.mpp is not None or self.level < 0):
            raise ConfigError(f"patch level {self.level}, mpp {self.mpp}: needed a level from 0, or an mpp.")
        if self.blend not in ("gaussian", "constant"):
            raise ConfigError(f"blend {self.blend!r}: needed gaussian or constant.")
