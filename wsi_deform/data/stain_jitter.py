"""Stain jitter: haematoxylin, eosin and the rest made a little stronger or weaker, field by field."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from skimage.color import hed_from_rgb, rgb_from_hed
from torch import Tensor

# Intensities below this are taken for it: the logarithm of black is not finite.
MIN_INTENSITY = 1e-6
# A stain of 1 darkens to MIN_INTENSITY: this many units of (natural) optical density.
DENSITY_PER_STAIN = -math.log(MIN_INTENSITY)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StainChange:
    """How the stains of a batch are changed: ``strength * stain + offset``.

    Attributes:
        strength: (B, 3), not negative, of haematoxylin, eosin and DAB (the residual of H&E).
        offset: (B, 3), in units of natural optical density.
    """

    strength: Tensor
    offset: Tensor

    def part(self, places: list[int]) -> StainChange:
        """The changes of some items of the batch."""
        return StainChange(strength=self.strength[places], offset=self.offset[places])

    def __call__(self, images: Tensor) -> Tensor:
        """Change the colours of images.

        Args:
            images: (B, 3, H, W) RGB in [0, 255].

        Returns:
            The same shape, in [0, 255]; differentiable with respect to the images. Strength 1 and offset 0 give
            the images back to float rounding.

        Source:
            Tellez et al., "Whole-Slide Mitosis Detection in H&E Breast Histology Using PHH3 as a Reference to Train
            Distilled Stain-Invariant Convolutional Networks", IEEE TMI 2018, section III-D.
        """
        strength, offset = (each.to(images)[:, :, None, None] for each in (self.strength, self.offset))
        stains = stains_of_rgb(images / 255) * strength + offset / DENSITY_PER_STAIN
        return rgb_of_stains(stains) * 255


def random_stain_change(normal: Tensor, deviation: float) -> StainChange:
    """Turn random numbers into changes of stains.

    Args:
        normal: (B, 2, 3) standard normal numbers: one pair per stain.
        deviation: Standard deviation of the strength around 1; the offset's is a tenth of it.

    Returns:
        The changes.

    Convention:
        The offset counts in natural optical density, so that at a deviation of 0.2 glass stays at about 250 of 255.
    """
    return StainChange(
        strength=(1 + deviation * normal[:, 0]).clamp(min=0), offset=deviation / 10 * normal[:, 1]
    )


def stains_of_rgb(rgb: Tensor) -> Tensor:
    """Separate colours into stains.

    Args:
        rgb: (B, 3, H, W) in [0, 1].

    Returns:
        (B, 3, H, W) haematoxylin, eosin, DAB. Where scikit-image cuts negative stains off, they are kept: they are
        what makes the way back exact.

    Source:
        Ruifrok & Johnston, "Quantification of histochemical staining by color deconvolution", Anal. Quant. Cytol.
        Histol. 2001; matrix and units of ``skimage.color.rgb2hed``.
    """
    density = rgb.clamp(min=MIN_INTENSITY).log() / -DENSITY_PER_STAIN
    return _mixed(density, torch.from_numpy(hed_from_rgb))


def rgb_of_stains(stains: Tensor) -> Tensor:
    """Put stains together again; the inverse of ``stains_of_rgb``, cut to [0, 1] as ``skimage.color.hed2rgb``.

    Args:
        stains: (B, 3, H, W) haematoxylin, eosin, DAB.

    Returns:
        (B, 3, H, W) RGB in [0, 1].
    """
    return torch.exp(-DENSITY_PER_STAIN * _mixed(stains, torch.from_numpy(rgb_from_hed))).clamp(0, 1)


def _mixed(channels: Tensor, matrix: Tensor) -> Tensor:
    """(B, 3, H, W) times a (from, to) matrix per pixel."""
    # A product this thin must not be rounded to half precision or TF32.
    with torch.autocast(channels.device.type, enabled=False):
        return torch.einsum("bihw,ij->bjhw", channels.float(), matrix.to(channels.device, torch.float32))
