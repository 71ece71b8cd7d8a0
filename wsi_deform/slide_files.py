"""From an open slide to its files: mask, samples, maps, outlines and overlay, in one pass over its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.cover import FieldBudget, budgets_of, mpp_remark, tissue_limit_of, tissue_of
from wsi_deform.files import write_aside
from wsi_deform.flops import NetworkFlops, sampling_flops
from wsi_deform.geometry import Size
from wsi_deform.look.lowres import thumbnail
from wsi_deform.mask.coarse import map_downsample
from wsi_deform.mask.folder import MaskFolder, OutputKind
from wsi_deform.mask.footprint import FootprintMap
from wsi_deform.mask.geojson import write_geojson
from wsi_deform.mask.mosaic import MaskMosaic
from wsi_deform.mask.overlay import label_picture_of_mask, overlay
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.mask.samples import SamplesWriter
from wsi_deform.mask.tiff import write_mask
from wsi_deform.mask.tissue_limit import TissueCounts
from wsi_deform.memory import fields_per_batch, limit_caches, peak_memory_bytes
from wsi_deform.model import Model
from wsi_deform.reverse.sampler import Interpolation
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.segment import SegmentedField, outside_label, segment_fields
from wsi_deform.slide.slide import Slide

OnField = Callable[[int, int], None]
OVERLAY_PX = 2048
JPEG_QUALITY = 88
RGB_BYTES = 3
# What is made from the mask and the slide alone.
FROM_MASK = frozenset(["overlay", "geojson"])
NO_FOOTPRINT = "no mpp, so no footprint map: set the mpp column, or --mpp"
# Remarked upon: a slide with less tissue, and a class that lost more of its pixels to the limit (and of the slide).
MIN_TISSUE_SHARE, MAX_REMOVED_SHARE, MIN_REMOVED_SHARE = 0.001, 0.5, 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedOutputs:
    """What is written of a slide besides its mask, samples and overlay, and how the mask is put back.

    Attributes:
        interpolation: "nearest" or "linear"; None takes what the model was configured with.
        probabilities: Whether a probability map is written.
        footprint: Whether a footprint map is written; a slide without mpp has none.
        geojson: Whether the outlines of the mask are written.
        limit_to_tissue: Whether labels outside the slide's tissue become background.
    """

    interpolation: Interpolation | None = None
    probabilities: bool = False
    footprint: bool = False
    geojson: bool = True
    limit_to_tissue: bool = True

    def settings(self) -> dict[str, Any]:
        """What the pixels of the mask depend on."""
        return {"interpolation": self.interpolation, "limit_to_tissue": self.limit_to_tissue}

    def kinds(self, *, has_mpp: bool) -> tuple[OutputKind, ...]:
        """The files that a finished slide has; a footprint map only where the slide's mpp is known."""
        maps: list[OutputKind] = ["probabilities"] if self.probabilities else []
        maps += ["footprint"] if self.footprint and has_mpp else []
        maps += ["geojson"] if self.geojson else []
        return ("samples", *maps, "overlay", "mask")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideFiles:
    """What is known of a slide's files.

    Attributes:
        width_px: Level-0 width of the slide.
        height_px: Level-0 height of the slide.
        mpp: Level-0 um per pixel, or None where nobody said.
        fields: Number of fields.
        samples: Number of samples.
        tiles: Tiles that were read for them.
        class_pixels: Level-0 pixels of each class of the mask.
        class_pixels_in_tissue: Of these those that are tissue.
        removed_pixels: Level-0 pixels of each class that the limit to tissue made background.
        tissue_pixels: Level-0 pixels that are tissue.
        remark: What people should know before they trust the mask; else empty.
        decoded_pixels: Pixels of tiles of the slide that were decoded, of whatever level; None where nobody counted.
        decoded_bytes: Their bytes.
        flops: Floating-point operations of networks, grids and interpolation, see ``flops.py``.
        peak_memory_bytes: Most memory that this process had held when the slide was done.
    """

    width_px: int
    height_px: int
    mpp: float | None
    fields: int
    samples: int
    tiles: int
    class_pixels: tuple[int, ...]
    class_pixels_in_tissue: tuple[int, ...]
    removed_pixels: tuple[int, ...]
    tissue_pixels: int
    remark: str
    decoded_pixels: int | None = None
    decoded_bytes: int | None = None
    flops: int | None = None
    peak_memory_bytes: int | None = None


def segment_to_files(
    slide: Slide,
    model: Model,
    folder: MaskFolder | Path | str,
    *,
    wanted: WantedOutputs = WantedOutputs(),
    batch: int = 1,
    threads: int = 1,
    memory_gib: float | None = None,
    on_field: OnField | None = None,
) -> SlideFiles:
    """Segment a slide and write its files as its fields come; each file is whole or absent.

    Args:
        slide: An open slide.
        model: What ``load_model`` returned.
        folder: Where to, as ``MaskFolder`` lays it out; made if missing.
        wanted: What is written, and how the mask is put back.
        batch: Most fields per forward pass.
        threads: Threads that render and encode; files do not depend on it.
        memory_gib: Most memory of this process, GiB: fewer fields per pass and smaller caches; None is no limit.
        on_field: Called after each field with how many are done and how many there are.

    Returns:
        What was counted on the way.

    Raises:
        SlideError: The slide cannot be read, or is too coarse for the model.
        MaskError: A file cannot be written.
    """
    if not isinstance(folder, MaskFolder):
        folder = MaskFolder(Path(folder))
    # Before the first look at the slide: strips are decoded for the tissue view already.
    limit_caches(memory_gib)
    decoded = slide.decoded_bytes
    network_flops = NetworkFlops(model.segmentation, model.deformation)
    with network_flops:
        budgets = budgets_of(slide, model)
    batch = fields_per_batch(model, budgets, wanted=batch, memory_gib=memory_gib)
    if wanted.interpolation is None:
        wanted = replace(wanted, interpolation=model.config.sampling.interpolation)
    with network_flops:
        files = fields_to_files(
            slide,
            model.classes,
            budgets,
            segment_fields(slide, model, budgets, batch=batch),
            folder,
            wanted=wanted,
            remark=mpp_remark(slide, model),
            threads=threads,
            on_field=on_field,
        )
    decoded = slide.decoded_bytes - decoded
    return replace(
        files,
        decoded_pixels=decoded // RGB_BYTES,
        decoded_bytes=decoded,
        flops=network_flops.total + sampling_flops(model, budgets),
        peak_memory_bytes=peak_memory_bytes(),
    )


def fields_to_files(
    slide: Slide,
    classes: ClassTable,
    budgets: Sequence[FieldBudget],
    segmented: Iterable[SegmentedField],
    folder: MaskFolder,
    *,
    wanted: WantedOutputs,
    remark: str = "",
    threads: int = 1,
    on_field: OnField | None = None,
) -> SlideFiles:
    """Write a slide's files from its segmented fields as they come; each file is whole or absent.

    Args:
        slide: An open slide.
        classes: The classes of the labels.
        budgets: Its fields, as ``budgets_of`` gave them.
        segmented: The labelled samples of each of them, once each.
        folder: Where to; made if missing.
        wanted: See ``segment_to_files``; None as interpolation is nearest.
        remark: What is already known that people should know before they trust the mask.
        threads: See ``segment_to_files``.
        on_field: See ``segment_to_files``.

    Returns:
        See ``segment_to_files``.

    Raises:
        SlideError: The slide cannot be read.
        MaskError: A file cannot be written.
    """
    tiles, counts = _write_fields(
        slide, classes, budgets, segmented, folder, wanted=wanted, threads=threads, on_field=on_field
    )
    made = [kind for kind in wanted.kinds(has_mpp=True) if kind in FROM_MASK]
    _write_from_mask(slide, classes, budgets, folder, made, folder)
    remarks = [remark]
    remarks += [tissue_remark(counts, slide.size, classes)] if wanted.limit_to_tissue else []
    remarks += [NO_FOOTPRINT] if wanted.footprint and slide.mpp_or_none is None else []
    count = classes.count
    return SlideFiles(
        width_px=slide.size.width,
        height_px=slide.size.height,
        mpp=slide.mpp_or_none,
        fields=len(budgets),
        samples=sum(budget.size.area for budget in budgets),
        tiles=tiles,
        class_pixels=tuple(counts.pixels[:count].tolist()),
        class_pixels_in_tissue=tuple(counts.pixels_in_tissue[:count].tolist()),
        removed_pixels=tuple(counts.removed[:count].tolist()),
        tissue_pixels=counts.tissue_pixels,
        remark="; ".join(one for one in remarks if one),
    )


def complete_files(
    slide: Slide,
    model: Model,
    folder: MaskFolder,
    kinds: Sequence[str],
    *,
    made: MaskFolder | None = None,
) -> None:
    """Make files of a slide that are made from its mask.

    Args:
        slide: The slide, open.
        model: The model that made the mask.
        folder: Where the mask lies.
        kinds: Some of ``FROM_MASK``.
        made: Where to write; None beside the mask.

    Raises:
        SlideError: The slide cannot be read.
        MaskError: The mask cannot be read, or a file cannot be written.
    """
    budgets = budgets_of(slide, model) if "geojson" in kinds else ()
    _write_from_mask(slide, model.classes, budgets, folder, kinds, made or folder)


def _write_from_mask(
    slide: Slide,
    classes: ClassTable,
    budgets: Sequence[FieldBudget],
    folder: MaskFolder,
    kinds: Sequence[str],
    made: MaskFolder,
) -> None:
    """Write overlay and outlines of the mask in ``folder`` to ``made``; only outlines need the fields."""
    mask = folder.mask(slide.slide_id)
    if "overlay" in kinds:
        write_overlay(made.overlay(slide.slide_id), slide, mask, classes)
    if "geojson" in kinds:
        write_geojson(
            made.geojson(slide.slide_id),
            mask,
            classes=classes,
            downsample=_shown_downsample(slide, budgets),
            shown=slide.bounds,
        )


def write_overlay(path: Path, slide: Slide, mask: Path, classes: ClassTable) -> None:
    """Write the thumbnail with the classes of a mask drawn over it as a JPEG, whole or absent."""
    picture = thumbnail(slide, OVERLAY_PX)
    labels = label_picture_of_mask(mask, Size(picture.shape[1], picture.shape[0]))
    drawn = overlay(picture, labels, classes.colours, background=classes.background)
    with write_aside(path) as aside:
        Image.fromarray(drawn).save(aside, quality=JPEG_QUALITY)


def _shown_downsample(slide: Slide, budgets: Sequence[FieldBudget]) -> int:
    """Level-0 px per pixel of maps and outlines that show what the samples of a slide can tell."""
    samples = sum(budget.size.area for budget in budgets)
    area_px = sum(budget.field.region.size.area for budget in budgets)
    return map_downsample(samples, area_px, slide.size)


def _write_fields(
    slide: Slide,
    classes: ClassTable,
    budgets: Sequence[FieldBudget],
    segmented: Iterable[SegmentedField],
    folder: MaskFolder,
    *,
    wanted: WantedOutputs,
    threads: int,
    on_field: OnField | None,
) -> tuple[int, TissueCounts]:
    """Write mask, samples and maps of a slide's fields as they come; tiles read, and pixels."""
    slide_id, size, mpp = slide.slide_id, slide.size, slide.mpp_or_none
    outside = outside_label(classes)
    interpolation: Interpolation = wanted.interpolation or "nearest"
    names = {f"class {index}": name for index, name in enumerate(classes.names)}
    limit = tissue_limit_of(slide, classes.background) if wanted.limit_to_tissue else None
    limited = "no" if limit is None else "yes"
    annotations = {"slide": slide.path.name, "limited to tissue": limited, **names}
    mosaic = MaskMosaic(
        [budget.field.kept for budget in budgets],
        size=size,
        outside_label=outside,
        interpolation=interpolation,
    )
    counts = TissueCounts(tissue_of(slide).tissue, size, limit=limit, tile_px=mosaic.tile_px)
    samples = sum(budget.size.area for budget in budgets)
    downsample = _shown_downsample(slide, budgets)
    tiles = 0
    with ExitStack() as opened:
        sinks: list[SamplesWriter | ProbabilityMap | FootprintMap] = [
            opened.enter_context(
                SamplesWriter(
                    folder.samples(slide_id),
                    count=samples,
                    size=size,
                    outside_label=outside,
                    interpolation=interpolation,
                    limit=limit,
                )
            )
        ]
        if wanted.probabilities:
            folder.probabilities(slide_id).parent.mkdir(parents=True, exist_ok=True)
            probabilities = ProbabilityMap(
                folder.probabilities(slide_id),
                size=size,
                mpp=mpp,
                class_names=classes.names,
                colours=classes.colours,
                downsample=downsample,
                annotations=annotations,
                threads=threads,
            )
            sinks.append(opened.enter_context(probabilities))
        if wanted.footprint and mpp is not None:
            folder.footprint(slide_id).parent.mkdir(parents=True, exist_ok=True)
            footprint = FootprintMap(
                folder.footprint(slide_id),
                size=size,
                mpp=mpp,
                downsample=downsample,
                annotations=annotations,
                threads=threads,
            )
            sinks.append(opened.enter_context(footprint))

        def labelled() -> Iterator[FieldSamples]:
            """Every field passes through here once, on its way from the network to the mask."""
            nonlocal tiles
            for done, field in enumerate(segmented, start=1):
                tiles += field.tiles
                for sink in sinks:
                    sink.add(field.samples)
                yield field.samples
                if on_field is not None:
                    on_field(done, len(budgets))

        folder.mask(slide_id).parent.mkdir(parents=True, exist_ok=True)
        write_mask(
            folder.mask(slide_id),
            counts.limited(mosaic.mosaic(labelled(), threads=threads)),
            size=size,
            mpp=mpp,
            tile_px=mosaic.tile_px,
            threads=threads,
            annotations=annotations,
        )
    return tiles, counts


def tissue_remark(counts: TissueCounts, size: Size, classes: ClassTable) -> str:
    """What people should know of the limit to tissue before they trust a mask; empty when all is well."""
    if classes.background is None:
        return "no class is the background: labels are not limited to tissue, glass has some class"
    remedy = "if that is wrong, give a tissue_mask in the manifest, or use --no-limit-to-tissue"
    share = counts.tissue_pixels / size.area
    if share < MIN_TISSUE_SHARE:
        return f"tissue was found on {share:.2%} of the slide, all else is background: {remedy}"
    lost = []
    for name, removed, kept in zip(classes.names, counts.removed, counts.pixels, strict=False):
        if removed > max(MAX_REMOVED_SHARE * (removed + kept), MIN_REMOVED_SHARE * size.area):
            lost.append(f"{removed / (removed + kept):.0%} of {name}")
    return f"{', '.join(lost)} lay outside the tissue and became background: {remedy}" if lost else ""
