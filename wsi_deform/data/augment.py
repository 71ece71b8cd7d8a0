"""Augmentation: where the slide is sampled changes at random, and how strong its stains are; pixels are read anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wsi_deform.data.stain_jitter import StainChange, random_stain_change
from wsi_deform.geometry import Size

CELLS_PER_KNOT = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridChange:
    """One random change of a batch: use ``transform_view`` on what lies in map order, call it on sampling grids.

    Attributes:
        transposed: Whether rows and columns of all fields change places.
        flip_x: (B,) bool, left-right.
        flip_y: (B,) bool, top-bottom.
        rotation: (B,) angles in radians, or None when no field is turned.
        aspect: (B,) width / height of each field's region.
        displacement: For each field (h, w, 2), added to its grid, unit frame; (h, w) as the network sees it.
        stain: What happens to the colours, or None.

    Convention:
        From the network's view to the slide: displaced, transposed, flipped, turned. A rotation by a positive angle
        moves the places that are read clockwise on the slide (x right, y down), so the network sees the tissue turned
        counter-clockwise. Angles are angles on the slide, whatever the aspect of its field.
    """

    transposed: bool
    flip_x: Tensor
    flip_y: Tensor
    rotation: Tensor | None
    aspect: Tensor
    displacement: tuple[Tensor, ...]
    stain: StainChange | None

    def size_of(self, size: Size) -> Size:
        """Size of a field's sampled image (or view) as the network sees it."""
        return Size(size.height, size.width) if self.transposed else size

    def part(self, places: Sequence[int]) -> GridChange:
        """The change of some items of the batch, such as those with sampled images of one size."""
        chosen = list(places)
        return GridChange(
            transposed=self.transposed,
            flip_x=self.flip_x[chosen],
            flip_y=self.flip_y[chosen],
            rotation=None if self.rotation is None else self.rotation[chosen],
            aspect=self.aspect[chosen],
            displacement=tuple(self.displacement[place] for place in chosen),
            stain=None if self.stain is None else self.stain.part(chosen),
        )

    def transform_view(self, view: Tensor) -> Tensor:
        """Low-res views as the networks see them.

        Args:
            view: (B, C, H, W), C at least 3: RGB in [0, 255] first.

        Returns:
            (B, C, H, W), or (B, C, W, H) when transposed. What a rotation brings in from outside repeats the border.
        """
        turned = self._in_order(view, outside="border")
        if self.stain is None:
            return turned
        return torch.cat((self.stain(turned[:, :3]), turned[:, 3:]), dim=1)

    def transform_fractions(self, fractions: Tensor) -> Tensor:
        """Class fractions of the cells of the views that the networks see.

        Args:
            fractions: (B, C, H, W).

        Returns:
            (B, C, H, W), or (B, C, W, H) when transposed. What a rotation brings in from outside is unlabelled: 0.
        """
        return self._in_order(fractions, outside="zeros")

    def transform_images(self, images: Tensor) -> Tensor:
        """Sampled images, (B, 3, h, w) RGB in [0, 255], with the stains that ``transform_view`` gave their views."""
        return images if self.stain is None else self.stain(images)

    def __call__(self, grid: Tensor) -> Tensor:
        """Where to sample on the slide.

        Args:
            grid: (B, h, w, 2), unit frame of the views that the networks see. A grid of another size than the sampled
                image's, such as the finer one of a resizer, gets the same change, its displacement interpolated.

        Returns:
            (B, h, w, 2), unit frame of the regions. Only a rotation leads outside [0, 1]: there ``sample_fields`` reads
            the nearest place of the region, and nothing is labelled.
        """
        displacement = torch.stack(self.displacement).to(grid)
        if displacement.shape[1:3] != grid.shape[1:3]:
            displacement = F.interpolate(
                displacement.permute(0, 3, 1, 2), size=grid.shape[1:3], mode="bilinear", align_corners=False
            ).permute(0, 2, 3, 1)
        displaced = (grid + displacement).clamp(0, 1)
        if self.transposed:
            displaced = displaced.flip(-1)
        flipped = torch.stack((self.flip_x, self.flip_y), dim=1).view(-1, 1, 1, 2).to(grid.device)
        return self._turned(torch.where(flipped, 1 - displaced, displaced))

    def place(self, item: int, points: Tensor) -> Tensor:
        """Where windows of one field lie on the slide.

        Args:
            item: Which field of the batch.
            points: (N, k, k, 2), unit frame of the view that the networks see.

        Returns:
            (N, k, k, 2), unit frame of its region. Without the displacement, which is of a sampled image's cells.
        """
        rows = points.shape[0] * points.shape[1]
        alone = replace(self.part([item]), displacement=(torch.zeros(1, 1, 2),))
        return alone(points.reshape(1, rows, -1, 2)).view(points.shape)

    def colour(self, items: Sequence[int], images: Tensor) -> Tensor:
        """Images of these fields of the batch, (N, 3, k, k) RGB in [0, 255], with the stains of their views.

        Args:
            items: The field of each image.
            images: What was read; transposed with the field, since its points were.
        """
        return images if self.stain is None else self.stain.part(list(items))(images)

    def _in_order(self, view: Tensor, *, outside: str) -> Tensor:
        """(B, C, H, W) turned, flipped and transposed: the calls of ``__call__`` backwards."""
        if self.rotation is not None:
            height, width = view.shape[-2:]
            y, x = torch.meshgrid(_centres(height), _centres(width), indexing="ij")
            at = self._turned(torch.stack((x, y), dim=-1).to(view).expand(len(view), -1, -1, -1))
            view = F.grid_sample(view, at * 2 - 1, mode="bilinear", padding_mode=outside, align_corners=False)
        view = torch.where(self.flip_x.view(-1, 1, 1, 1).to(view.device), view.flip(3), view)
        view = torch.where(self.flip_y.view(-1, 1, 1, 1).to(view.device), view.flip(2), view)
        return view.transpose(2, 3).contiguous() if self.transposed else view

    def _turned(self, at: Tensor) -> Tensor:
        """(B, h, w, 2) positions in the unit frame, turned about the centre of the region in pixels."""
        if self.rotation is None:
            return at
        rotation, aspect = (each.to(at).view(-1, 1, 1) for each in (self.rotation, self.aspect))
        x, y = (at - 0.5).unbind(-1)
        # x spans width and y height pixels: one over the other is the aspect.
        turned_x = rotation.cos() * x - rotation.sin() * y / aspect
        turned_y = rotation.sin() * x * aspect + rotation.cos() * y
        return torch.stack((turned_x, turned_y), dim=-1) + 0.5


def random_change(
    sizes: Sequence[Size],
    regions: Sequence[Size],
    *,
    flip_x: bool,
    flip_y: bool,
    shift_cells: float,
    warp_cells: float,
    transpose: bool = False,
    rotate_degrees: float = 0.0,
    stain_jitter: float = 0.0,
    seed: int,
    places: Sequence[int] | None = None,
) -> GridChange:
    """Draw a change.

    Args:
        sizes: Size of the sampled image of each field; they may differ.
        regions: Size of each field's region, in square level-0 px (``Slide.squared``).
        flip_x: Whether fields are flipped left-right, half of the time.
        flip_y: Whether fields are flipped top-bottom, half of the time.
        shift_cells: The whole grid moves by up to this many undeformed cells along each axis.
        warp_cells: Standard deviation of a smooth random displacement, in undeformed cells.
        transpose: Whether rows and columns change places, half of the time, in the whole batch at once.
        rotate_degrees: Fields are turned by up to this angle to either side.
        stain_jitter: Standard deviation of the strength of each stain; that of its offset is a tenth.
        seed: Seed of this step of this run, 0 to 2^63 - 1.
        places: Where in the global batch each field is; None is 0, 1, ...

    Returns:
        The change. A field's depends on seed and place alone: it is the same however a batch is split over processes,
        and switching one option on leaves the numbers of the others as they were.
    """
    places = range(len(sizes)) if places is None else places
    transposed = transpose and bool(torch.rand(1, generator=_generator(seed, 0)) < 0.5)
    chances, normals, displacements = [], [], []
    for size, place in zip(sizes, places, strict=True):
        generator = _generator(seed, 1 + place)
        chances.append(torch.rand(5, generator=generator, dtype=torch.float64))
        normals.append(torch.randn(2, 3, generator=generator))
        seen = Size(size.height, size.width) if transposed else size
        shift = (chances[-1][2:4] * 2 - 1).float() * shift_cells
        displacements.append(_displacement(seen, shift, warp_cells, generator))
    draws = torch.stack(chances)
    return GridChange(
        transposed=transposed,
        flip_x=(draws[:, 0] < 0.5) & flip_x,
        flip_y=(draws[:, 1] < 0.5) & flip_y,
        rotation=(draws[:, 4] * 2 - 1) * math.radians(rotate_degrees) if rotate_degrees > 0 else None,
        aspect=torch.tensor([region.width / region.height for region in regions], dtype=torch.float64),
        displacement=tuple(displacements),
        stain=random_stain_change(torch.stack(normals), stain_jitter) if stain_jitter > 0 else None,
    )


def _displacement(size: Size, shift: Tensor, warp_cells: float, generator: torch.Generator) -> Tensor:
    """(h, w, 2), unit frame: one shift, in cells, and a smooth random warp."""
    knots = (max(2, size.height // CELLS_PER_KNOT), max(2, size.width // CELLS_PER_KNOT))
    smooth = F.interpolate(
        torch.randn(1, 2, *knots, generator=generator), size=size.shape, mode="bilinear", align_corners=True
    )
    cells = shift + (smooth[0] * warp_cells).permute(1, 2, 0)
    return cells / torch.tensor([size.width, size.height])


def _centres(cells: int) -> Tensor:
    return (torch.arange(cells, dtype=torch.float64) + 0.5) / cells


def _generator(seed: int, stream: int) -> torch.Generator:
    """A source of chance of its own for each stream of a seed."""
    # torch seeds its generator with the low 32 bits alone; numpy mixes all of both numbers into them.
    mixed = int(np.random.SeedSequence((seed, stream)).generate_state(1)[0])
    return torch.Generator().manual_seed(mixed)
