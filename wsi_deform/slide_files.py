"""From an open slide to its files: mask, samples, maps, outlines and overlay, in one pass over its fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.labels import Labels
from wsi_deform.baselines.patch_files import shown_downsample, write_patch_files
from wsi_deform.baselines.patch_grid import level_of
from wsi_deform.baselines.patch_settings import PatchSettings
from wsi_deform.cover import FieldBudget, budgets_of
from wsi_deform.field_tasks import SegmentedField
from wsi_deform.flops import NetworkFlops, sampling_flops
from wsi_deform.mask.blanks import BlankRegions
from wsi_deform.mask.coarse import map_downsample
from wsi_deform.mask.coloured import write_coloured
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.mask.footprint import FootprintMap
from wsi_deform.mask.geojson import write_geojson
from wsi_deform.mask.mosaic import MaskMosaic
from wsi_deform.mask.ome_zarr import write_ome_zarr
from wsi_deform.mask.overlay_file import write_overlay
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.mask.samples import SamplesWriter
from wsi_deform.mask.tiff import write_mask
from wsi_deform.mask.tissue_limit import TissueCounts
from wsi_deform.memory import fields_per_batch, limit_caches, peak_memory_bytes
from wsi_deform.model import Model
from wsi_deform.model_kind import refuse_patches
from wsi_deform.reverse.interpolation import Interpolation
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.scale import limits_to_tissue
from wsi_deform.segment import outside_label, region_note, segment_fields
from wsi_deform.slide.slide import Slide
from wsi_deform.slide_results import (
    NOTES,
    Method,
    SlideFiles,
    WantedOutputs,
    is_in_blocks,
    method_of,
    slide_files_of,
)
from wsi_deform.tissue_cover import counted_tissue, tissue_limit_of
from wsi_deform.unlike import slide_remark

OnField = Callable[[int, int], None]
RGB_BYTES = 3
# What is made from the mask and the slide alone.
FROM_MASK = frozenset(["overlay", "geojson", "coloured", "ome_zarr"])
NO_FOOTPRINT = "no mpp, so no footprint map: set the mpp column, or --mpp"


def segment_to_files(
    slide: Slide,
    model: Model,
    folder: MaskFolder | Path | str,
    *,
    wanted: WantedOutputs = WantedOutputs(),
    labels: Labels | None = None,
    batch: int = 1,
    threads: int = 1,
    memory_gib: float | None = None,
    on_field: OnField | None = None,
    segment: Callable[..., Iterator[SegmentedField]] = segment_fields,
) -> SlideFiles:
    """Segment a slide and write its files as its fields come; each file is whole or absent.

    Args:
        slide: An open slide.
        model: What ``load_model`` returned.
        folder: Where to, as ``MaskFolder`` lays it out; made if missing.
        wanted: What is written, and how the mask is put back.
        labels: The slide's labels, for an oracle (``model.needs_labels``); others never look at them.
        batch: Most fields, or patches, per forward pass.
        threads: Threads that render and encode; files do not depend on it.
        memory_gib: Most memory of this process, GiB: fewer fields per pass and smaller caches; None is no limit.
        on_field: Called after each field with how many are done and how many there are; of patches after each batch.
        segment: Who segments the fields; called like ``segment_fields``.

    Returns:
        What was counted on the way.

    Raises:
        SlideError: The slide cannot be read, or is too coarse for the model.
        MaskError: A file cannot be written.
        ModelError: An oracle without labels, or the memory does not suffice.
    """
    if not isinstance(folder, MaskFolder):
        folder = MaskFolder(Path(folder))
    if wanted.patches is not None:
        refuse_patches({"sampling": {"geometry": model.config.sampling.geometry}})
    # Before the first look at the slide: strips are decoded for the tissue view already.
    limit_caches(memory_gib)
    is_limited = limits_to_tissue(wanted.limit_to_tissue, model, slide.tissue_path)
    wanted = replace(wanted, limit_to_tissue=is_limited)
    decoded = slide.decoded_bytes
    network_flops = NetworkFlops(*model.networks)
    if wanted.patches is not None:
        with network_flops:
            files = _patches_to_files(
                slide, model, folder, wanted, wanted.patches, batch, threads, memory_gib, on_field
            )
        return _with_cost(files, model, decoded=slide.decoded_bytes - decoded, flops=network_flops.total)
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
            segment(slide, model, budgets, labels=labels, batch=batch),
            folder,
            wanted=wanted,
            remark=slide_remark(slide, model),
            computed_by=model.computed_by,
            method=method_of(model),
            threads=threads,
            on_field=on_field,
        )
    return _with_cost(
        files,
        model,
        decoded=slide.decoded_bytes - decoded,
        flops=network_flops.total + sampling_flops(model, budgets),
    )


@dataclass(slots=True, kw_only=True)
class _Work:
    """What was read of a slide: tiles, pixels that entered a network, and level-0 pixels that could not be read."""

    tiles: int = 0
    pixels: int | None = 0
    blank_pixels: int = 0

    def add(self, field: SegmentedField) -> None:
        """Count a field; where nobody counted one field's pixels, those of the slide are not known."""
        self.tiles += field.tiles
        self.pixels = None if self.pixels is None or field.pixels is None else self.pixels + field.pixels


def _with_cost(files: SlideFiles, model: Model, *, decoded: int, flops: int) -> SlideFiles:
    """With what making them cost, and what computed it."""
    return replace(
        files,
        runtime=model.computed_by,
        decoded_pixels=decoded // RGB_BYTES,
        decoded_bytes=decoded,
        flops=flops,
        peak_memory_bytes=peak_memory_bytes(),
    )


def with_more_cost(files: SlideFiles, *, decoded: int, flops: int) -> SlideFiles:
    """With what other processes did for them.

    Args:
        files: What was counted in this process.
        decoded: Bytes of tiles that others decoded.
        flops: Operations of their networks.
    """
    total = (files.decoded_bytes or 0) + decoded
    return replace(
        files,
        decoded_pixels=total // RGB_BYTES,
        decoded_bytes=total,
        flops=(files.flops or 0) + flops,
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
    computed_by: str = "",
    method: Method = "sampled",
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
        wanted: See ``segment_to_files``; None as interpolation is nearest, and None as limit to tissue is no.
        remark: What is already known that people should know before they trust the mask.
        computed_by: What computed the networks, for the mask; empty where nobody knows.
        method: How the fields were sampled, see ``SlideFiles``.
        threads: See ``segment_to_files``.
        on_field: See ``segment_to_files``.

    Returns:
        See ``segment_to_files``.

    Raises:
        SlideError: The slide cannot be read.
        MaskError: A file cannot be written.
    """
    work, counts = _write_fields(
        slide,
        classes,
        budgets,
        segmented,
        folder,
        wanted=wanted,
        computed_by=computed_by,
        method=method,
        threads=threads,
        on_field=on_field,
    )
    made = [kind for kind in wanted.kinds(has_mpp=True) if kind in FROM_MASK]
    _write_from_mask(slide, classes, _shown_downsample(slide, budgets), folder, made, folder, threads)
    remarks = [NOTES[method]] if method in NOTES else []
    remarks += [remark, NO_FOOTPRINT if wanted.footprint and slide.mpp_or_none is None else ""]
    return slide_files_of(
        slide,
        classes,
        counts,
        wanted,
        remarks,
        method=method,
        fields=len(budgets),
        samples=sum(budget.size.area for budget in budgets),
        tiles=work.tiles,
        read_pixels=work.pixels,
        blank_pixels=work.blank_pixels,
    )


def _patches_to_files(
    slide: Slide,
    model: Model,
    folder: MaskFolder,
    wanted: WantedOutputs,
    settings: PatchSettings,
    batch: int,
    threads: int,
    memory_gib: float | None,
    on_field: OnField | None,
) -> SlideFiles:
    """Segment a slide patch by patch and write its files."""
    work, counts = write_patch_files(
        slide,
        model,
        folder,
        settings,
        limit_to_tissue=bool(wanted.limit_to_tissue),
        probabilities=wanted.probabilities,
        batch=batch,
        threads=threads,
        memory_gib=memory_gib,
        on_patch=on_field,
    )
    made = [kind for kind in wanted.kinds(has_mpp=True) if kind in FROM_MASK]
    _write_from_mask(slide, model.classes, work.shown, folder, made, folder, threads)
    return slide_files_of(
        slide,
        model.classes,
        counts,
        wanted,
        [f"seen in {work.text}", work.remark, slide_remark(slide, model)],
        method="patches",
        fields=work.patches,
        samples=work.pixels,
        tiles=work.tiles,
        read_pixels=work.pixels,
        blank_pixels=work.blank_pixels,
    )


def complete_files(
    slide: Slide,
    model: Model,
    folder: MaskFolder,
    kinds: Sequence[str],
    *,
    patches: PatchSettings | None = None,
    made: MaskFolder | None = None,
) -> None:
    """Make files of a slide that are made from its mask.

    Args:
        slide: The slide, open.
        model: The model that made the mask.
        folder: Where the mask lies.
        kinds: Some of ``FROM_MASK``.
        patches: How the slide was cut into patches, if the mask is of those.
        made: Where to write; None beside the mask.

    Raises:
        SlideError: The slide cannot be read.
        MaskError: The mask cannot be read, or a file cannot be written.
    """
    downsample = 1
    if "geojson" in kinds:
        downsample = (
            _shown_downsample(slide, budgets_of(slide, model))
            if patches is None
            else shown_downsample(slide, level_of(slide, model, patches)[0])
        )
    _write_from_mask(slide, model.classes, downsample, folder, kinds, made or folder)


def _write_from_mask(
    slide: Slide,
    classes: ClassTable,
    downsample: int,
    folder: MaskFolder,
    kinds: Sequence[str],
    made: MaskFolder,
    threads: int = 1,
) -> None:
    """Write what comes from the mask in ``folder`` to ``made``; outlines in steps of ``downsample`` px."""
    mask = folder.mask(slide.slide_id)
    if "overlay" in kinds:
        write_overlay(made.overlay(slide.slide_id), slide, mask, classes)
    if "geojson" in kinds:
        write_geojson(
            made.geojson(slide.slide_id),
            mask,
            classes=classes,
            downsample=downsample,
            shown=slide.bounds,
        )
    if "coloured" in kinds:
        coloured = made.coloured(slide.slide_id)
        write_coloured(
            coloured, mask, classes=classes, mpp=slide.mpp_xy, slide_id=slide.slide_id, threads=threads
        )
    if "ome_zarr" in kinds:
        write_ome_zarr(made.ome_zarr(slide.slide_id), mask, slide, classes)


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
    computed_by: str,
    method: Method,
    threads: int,
    on_field: OnField | None,
) -> tuple[_Work, TissueCounts]:
    """Write mask, samples and maps of a slide's fields as they come; what was read, and pixels."""
    slide_id, size, mpp = slide.slide_id, slide.size, slide.mpp_xy
    outside = outside_label(classes, slide)
    interpolation: Interpolation = wanted.interpolation or "nearest"
    names = {f"class {index}": name for index, name in enumerate(classes.names)}
    limit = tissue_limit_of(slide, classes.background) if wanted.limit_to_tissue else None
    limited = "no" if limit is None else "yes"
    note = {"method": f"{method}: {NOTES[method]}"} if method in NOTES else {}
    annotations = {
        "slide": slide.path.name,
        **note,
        **({"networks computed by": computed_by} if computed_by else {}),
        "limited to tissue": limited,
        **region_note(slide),
        **names,
    }
    mosaic = MaskMosaic(
        [budget.field.kept for budget in budgets],
        size=size,
        outside_label=outside,
        interpolation=interpolation,
    )
    tissue = counted_tissue(slide, limited=bool(wanted.limit_to_tissue))
    counts = TissueCounts(tissue, size, limit=limit, tile_px=mosaic.tile_px)
    blanks = BlankRegions(size, mosaic.tile_px, slide.blank_regions)
    samples = sum(budget.size.area for budget in budgets)
    downsample = _shown_downsample(slide, budgets)
    work = _Work()
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
                    has_sides=is_in_blocks(method),
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
                unit="um per pixel read" if is_in_blocks(method) else "um per sample",
            )
            sinks.append(opened.enter_context(footprint))

        def labelled() -> Iterator[FieldSamples]:
            """Every field passes through here once, on its way from the network to the mask."""
            for done, field in enumerate(segmented, start=1):
                work.add(field)
                blanks.add(field.blanks)
                for sink in sinks:
                    sink.add(field.samples)
                yield field.samples
                if on_field is not None:
                    on_field(done, len(budgets))

        folder.mask(slide_id).parent.mkdir(parents=True, exist_ok=True)
        write_mask(
            folder.mask(slide_id),
            counts.limited(blanks.cut(mosaic.mosaic(labelled(), threads=threads))),
            size=size,
            mpp=mpp,
            tile_px=mosaic.tile_px,
            threads=threads,
            annotations=annotations,
        )
    work.blank_pixels = blanks.pixels
    return work, counts
