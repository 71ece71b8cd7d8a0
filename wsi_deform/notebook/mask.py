"""The segmentation of a slide as people use it: labels of any part, a picture, a dask array, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.labels import Labels
from wsi_deform.cover import FieldBudget, budgets_of
from wsi_deform.errors import SlideError
from wsi_deform.field_tasks import SegmentedField
from wsi_deform.geometry import Region, Size
from wsi_deform.look import lowres
from wsi_deform.mask.caption import LegendEntry, legend_of
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.overlay import label_picture, overlay
from wsi_deform.model import Model
from wsi_deform.notebook.lazy import dask_of_labels
from wsi_deform.notebook.shown import html_shown, png_shown, scale_text
from wsi_deform.notebook.slide import SHOWN_PX, THUMBNAIL_PX, checked_side
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.scale import limits_to_tissue
from wsi_deform.segment import SegmentedSlide
from wsi_deform.segment import segment_slide as segmented_slide
from wsi_deform.slide.identity import slide_identity
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_files import fields_to_files
from wsi_deform.slide_results import Method, SlideFiles, WantedOutputs, method_of
from wsi_deform.unlike import slide_remark


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SlideMask(SegmentedSlide):
    """The mask of a slide, of which any part is rendered when it is wanted; its samples are in memory.

    Attributes:
        slide: The slide.
        classes: Names and colours of the labels.
        budgets: The fields of the slide with the sizes of their sampled images.
        identity: What was known of the slide's file when it was segmented; empty for one without a file.
        remark: What people should know before they trust the mask; else empty.
        is_limited: Whether it is limited to tissue, where a class is the background.
        method: How the slide was looked at, see ``SlideFiles``.
        computed_by: What computed the networks, and how precisely.
    """

    slide: Slide
    classes: ClassTable
    budgets: tuple[FieldBudget, ...]
    identity: dict[str, str]
    remark: str
    is_limited: bool
    method: Method = "sampled"
    computed_by: str = "torch float32"

    @property
    def level_sizes(self) -> tuple[Size, ...]:
        """Sizes of the mask's levels, px; each is half of the one before, whatever levels the slide has."""
        return self._sampler.level_sizes

    def labels(self, level: int = 0, region: Region | None = None) -> NDArray[np.uint8]:
        """Classes of the pixels of a level of the mask.

        Args:
            level: Level of the mask, an index into ``level_sizes``.
            region: In px of that level; None is all of it, a byte per pixel.

        Returns:
            (H, W) uint8 class indices, names in ``classes.names``.

        Raises:
            ShapeError: There is no such level, or the region is empty or not inside it.

        Convention:
            A pixel of level k is 2^k level-0 px wide. These are the mask's own levels, not the slide's.
        """
        if region is None and 0 <= level < len(self.level_sizes):
            region = Region.whole(self.level_sizes[level])
        found: NDArray[np.uint8] = self._sampler.region(region or Region.whole(self.size), level)
        return found

    def to_dask(self, level: int = 0) -> Any:
        """A level of the mask as a dask array; tiles are rendered when they are computed.

        Args:
            level: Level of the mask, an index into ``level_sizes``.

        Returns:
            Dask array (H, W) of uint8 class indices, a chunk a tile of 512 x 512 px.

        Raises:
            ShapeError: There is no such level.
        """
        return dask_of_labels(self._sampler, level)

    def thumbnail(self, max_side_px: int = THUMBNAIL_PX) -> NDArray[np.uint8]:
        """A small picture of the slide, tinted with the colours of the classes; background is left clear.

        Args:
            max_side_px: The longer side of the picture; a smaller slide keeps its size.

        Returns:
            (H, W, 3) uint8 RGB.

        Raises:
            ShapeError: The side is less than 1 px.
            SlideError: The slide cannot be read.
        """
        picture = lowres.thumbnail(self.slide, checked_side(max_side_px))
        labels = label_picture(self._sampler, Size(picture.shape[1], picture.shape[0]))
        return overlay(picture, labels, self.classes.colours, background=self.classes.background)

    def save(
        self,
        folder: Path | str,
        *,
        probabilities: bool = False,
        footprint: bool = False,
        geojson: bool = True,
        threads: int = 1,
    ) -> SlideFiles:
        """Write the files that `wsi-deform segment` writes of a slide, byte for byte; the folder may have others.

        Args:
            folder: Where to, ``--out`` of `segment`; made if missing.
            probabilities: Whether to write a probability map too.
            footprint: Whether to write a map of um per sample too; a slide without mpp has none.
            geojson: Whether to write the outlines of the mask.
            threads: Threads that render and encode; files do not depend on it.

        Returns:
            What was counted on the way: fields, samples, pixels of each class, and a remark.

        Raises:
            SlideError: The slide cannot be read, or is not the one that was segmented.
            MaskError: A file cannot be written.
        """
        if _identity(self.slide) != self.identity:
            raise SlideError(
                f"slide {self.slide.path}: changed since it was segmented. Needed the same file for the overlay and "
                "the tissue. Segment it again."
            )
        wanted = WantedOutputs(
            interpolation=self.interpolation,
            probabilities=probabilities,
            footprint=footprint,
            geojson=geojson,
            limit_to_tissue=self.is_limited,
        )
        segmented = (SegmentedField(samples=each, tiles=0) for each in self.fields)
        files = fields_to_files(
            self.slide,
            self.classes,
            self.budgets,
            segmented,
            MaskFolder(Path(folder)),
            wanted=wanted,
            remark=self.remark,
            computed_by=self.computed_by,
            method=self.method,
            threads=threads,
        )
        return replace(files, tiles=self.tiles, runtime=self.computed_by)

    @cached_property
    def _sampler(self) -> ReverseSampler:
        """Made once: sorting the samples takes longer than rendering a tile."""
        return self.reverse()

    def _repr_png_(self) -> bytes:
        """What notebooks show: the tinted thumbnail with name, size, scale, and the area of each class."""
        picture = self.thumbnail(SHOWN_PX)
        return png_shown(
            picture,
            name=self.slide.slide_id,
            size=self.size,
            mpp=self.slide.mpp_xy,
            legend=self._legend(picture),
        )

    def _repr_html_(self) -> str:
        """The same with what else is known of the mask, and its remark."""
        picture = self.thumbnail(SHOWN_PX)
        facts = {
            "size": f"{self.size.width:,} x {self.size.height:,} px",
            "scale": scale_text(self.slide.mpp_xy),
            "looked at": f"{self.samples:,} samples, 1 of {self.size.area / max(1, self.samples):,.0f} pixels; fields: "
            f"{len(self.fields)}; tiles read: {self.tiles:,}",
            **({"method": self.method} if self.method != "sampled" else {}),
            **({"remark": self.remark} if self.remark else {}),
        }
        return html_shown(picture, name=self.slide.slide_id, facts=facts, legend=self._legend(picture))

    def _legend(self, picture: NDArray[np.uint8]) -> list[LegendEntry]:
        """The classes in a picture of the whole mask, and their areas."""
        labels = label_picture(self._sampler, Size(picture.shape[1], picture.shape[0]))
        return legend_of(labels, self.classes, size=self.size, mpp=self.slide.mpp_xy)

    def __repr__(self) -> str:
        """What it is of, in a line."""
        return f"{super().__repr__()[:-1]}, classes {', '.join(self.classes.names)})"


def segment_slide(
    slide: Slide,
    model: Model,
    *,
    labels: Labels | None = None,
    limit_to_tissue: bool | None = None,
    batch: int = 1,
    scheduler: Any = "auto",
    on_field: Callable[[int, int], None] | None = None,
) -> SlideMask:
    """Segment a slide; its mask is rendered where it is looked at. ``segment_to_files`` needs less memory.

    Args:
        slide: What ``open_slide`` returned.
        model: What ``load_model`` returned.
        labels: The slide's labels, for an oracle (``model.needs_labels``); others never look at them.
        limit_to_tissue: Whether the mask is background outside the slide's tissue; None is yes, but for models that
            were trained on images without mpp.
        batch: Most fields per forward pass.
        scheduler: Who runs the tasks of fields, see ``segment.segment_fields``: "threads", "loop", "auto", or a
            ``distributed.Client``, whose workers see the slide at its path.
        on_field: Called after each field with how many are done and how many there are.

    Returns:
        The mask, put back as the model's ``sampling.interpolation`` says. Read its ``.remark`` (and that of what
        ``.save`` returns, which knows of labels that lay outside the tissue) before you trust it.

    Raises:
        SlideError: The slide cannot be read, or is too coarse for the model.

    Source:
        Jin et al., ICLR 2022, section 2.1 and figure 2.
    """
    identity = _identity(slide)
    is_limited = limits_to_tissue(limit_to_tissue, model, slide.tissue_path)
    budgets = budgets_of(slide, model)
    segmented = segmented_slide(
        slide,
        model,
        budgets=budgets,
        labels=labels,
        limit_to_tissue=is_limited,
        batch=batch,
        scheduler=scheduler,
        on_field=on_field,
    )
    return SlideMask(
        **{each.name: getattr(segmented, each.name) for each in fields(segmented)},
        slide=slide,
        classes=model.classes,
        budgets=budgets,
        identity=identity,
        remark=slide_remark(slide, model),
        is_limited=is_limited,
        method=method_of(model),
        computed_by=model.computed_by,
    )


def _identity(slide: Slide) -> dict[str, str]:
    """What tells the slide's file from another; nothing where it has none."""
    return slide_identity(slide.path) if slide.has_file else {}
