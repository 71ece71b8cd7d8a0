"""`wsi-deform segment`: from slides to masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import typer

from wsi_deform.cli.console import plain_console
from wsi_deform.cli.events import EventLog, Watchers
from wsi_deform.cli.help import MESSAGES
from wsi_deform.cli.interrupts import interrupted_by_signals
from wsi_deform.cli.options import (
    FILES,
    HOW,
    MACHINES,
    PATCHES,
    TROUBLE,
    WHICH_SLIDES,
    complete_suffix,
    device_option,
)
from wsi_deform.cli.segment_bars import SegmentBars
from wsi_deform.cli.start import imported_at_once
from wsi_deform.distribute.child import Child
from wsi_deform.redact import redacted

if TYPE_CHECKING:
    from wsi_deform.baselines.patch_settings import PatchSettings
    from wsi_deform.distribute.outcome import Watcher
    from wsi_deform.distribute.sources import SlideSource

FAILED = 1


EXAMPLES = (
    "wsi-deform segment --slides slides/ --model run --out out",
    "wsi-deform segment a.svs b.svs --model run/best.json",
    "wsi-deform segment --slides manifest.csv --split test --model run",
    "wsi-deform segment --slides slides/ --model run --device cuda --fields 8",
    "wsi-deform segment --slides slides/ --model run --runtime openvino",
    "wsi-deform segment --slides slides/ --ext svs --model run --dry-run",
    "wsi-deform segment --slides slides/ --model run --workers 4 --memory-gib 24",
)


def segment(
    model: Annotated[
        str,
        typer.Option(
            metavar="RUN|FILE|URL",
            help="Run folder of `wsi-deform train`, a model's .safetensors or .json, or what `model pack` wrote, also "
            "its https URL.",
        ),
    ],
    slide: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SLIDE]...", help="Slides, as --slides.", show_default=False),
    ] = None,
    slides: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Folder of slides (subfolders too), one slide or its URL (FILE::NAME: one of its images), or a "
            "manifest CSV (for an oracle); may be given several times.",
        ),
    ] = None,
    checksum: Annotated[
        str | None,
        typer.Option(
            metavar="sha256:HEX", help="Of the model's file; needed for a URL, and refused where it differs."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for masks, overlays and measurements.")
    ] = Path("out"),
    device: Annotated[str, device_option()] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Segment again what is done.")] = False,
    ext: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SUFFIX",
            autocompletion=complete_suffix,
            help="Only files whose names end so, e.g. svs; may be given several times.",
            rich_help_panel=WHICH_SLIDES,
        ),
    ] = None,
    split: Annotated[
        Literal["train", "val", "test"] | None,
        typer.Option(
            metavar="train|val|test", help="Of a manifest: only these.", rich_help_panel=WHICH_SLIDES
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the first N slides.", rich_help_panel=WHICH_SLIDES),
    ] = None,
    mpp: Annotated[
        float | None,
        typer.Option(
            metavar="UM",
            help="Level-0 um per pixel of all slides, where files and manifest are wrong.",
            rich_help_panel=WHICH_SLIDES,
        ),
    ] = None,
    interpolation: Annotated[
        Literal["nearest", "linear"] | None,
        typer.Option(
            metavar="nearest|linear",
            help="How masks are put back; default: as the model says.",
            rich_help_panel=HOW,
        ),
    ] = None,
    limit_to_tissue: Annotated[
        bool | None,
        typer.Option(
            "--limit-to-tissue/--no-limit-to-tissue",
            help="Labels outside the slide's tissue become background; default: yes, but for models of images "
            "without mpp.",
            rich_help_panel=HOW,
        ),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option(help="Write probability maps too.", rich_help_panel=FILES)
    ] = False,
    footprint: Annotated[
        bool, typer.Option(help="Write maps of um per sample too.", rich_help_panel=FILES)
    ] = False,
    geojson: Annotated[
        bool,
        typer.Option(
            help="Write the outlines of the masks as GeoJSON, for QuPath, or not.", rich_help_panel=FILES
        ),
    ] = True,
    coloured: Annotated[
        bool,
        typer.Option(
            "--coloured", help="Write the masks in the colours of their classes too.", rich_help_panel=FILES
        ),
    ] = False,
    format: Annotated[
        Literal["tiff", "ome-zarr"],
        typer.Option(
            metavar="tiff|ome-zarr",
            help="Of the masks. ome-zarr: as labels of OME-Zarr too, beside the TIFF, which all else reads.",
            rich_help_panel=FILES,
        ),
    ] = "tiff",
    method: Annotated[
        Literal["sampled", "patches"],
        typer.Option(
            metavar="sampled|patches",
            help="sampled: where the model looks. patches: the network slides over all tissue (MONAI).",
            rich_help_panel=PATCHES,
        ),
    ] = "sampled",
    patch_px: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            help="Side, px of the level; default: the model's budget.",
            rich_help_panel=PATCHES,
        ),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Of the side that neighbours share; default: 0.25.",
            rich_help_panel=PATCHES,
        ),
    ] = None,
    patch_mpp: Annotated[
        float | None,
        typer.Option(
            metavar="UM",
            help="The level nearest to so many um per px; default: as the model samples.",
            rich_help_panel=PATCHES,
        ),
    ] = None,
    patch_level: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="This level, 0 the finest.", rich_help_panel=PATCHES),
    ] = None,
    runtime: Annotated[
        Literal["auto", "torch", "openvino", "onnx"],
        typer.Option(
            metavar="auto|torch|openvino|onnx",
            help="What computes the networks; auto: the fastest that doctor has measured here, else torch.",
            rich_help_panel=MACHINES,
        ),
    ] = "auto",
    precision: Annotated[
        Literal["float32", "int8"],
        typer.Option(
            metavar="float32|int8",
            help="int8: what `wsi-deform quantise` stored beside the model, with OpenVINO.",
            rich_help_panel=MACHINES,
        ),
    ] = "float32",
    workers: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Processes here; without --scheduler.", rich_help_panel=MACHINES
        ),
    ] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|FILE",
            help="A dask scheduler whose workers do the slides: its address, or the JSON file that it writes.",
            rich_help_panel=MACHINES,
        ),
    ] = None,
    fields: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Most fields or patches per forward pass; more suit a GPU.",
            rich_help_panel=MACHINES,
        ),
    ] = 1,
    memory_gib: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="GIB",
            help="Most memory; fewer fields per pass and a smaller cache.",
            rich_help_panel=MACHINES,
        ),
    ] = None,
    on_bad_tile: Annotated[
        Literal["fail", "blank"],
        typer.Option(
            metavar="fail|blank",
            help="A tile that cannot be decoded: the slide fails, or the mask is unlabelled, 255, there.",
            rich_help_panel=TROUBLE,
        ),
    ] = "fail",
    retry_failed: Annotated[
        bool,
        typer.Option(help="Try slides again that killed their process twice.", rich_help_panel=TROUBLE),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first slide that fails.", rich_help_panel=TROUBLE)
    ] = False,
    in_process: Annotated[
        bool,
        typer.Option(
            "--in-process",
            help="Segment in this process, for debuggers; a slide that kills it ends the command.",
            rich_help_panel=TROUBLE,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only say what would be done with each slide and why; nothing is written.",
            rich_help_panel=TROUBLE,
        ),
    ] = False,
    log_json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Append a line of JSON for each event: slide started, done, skipped or failed.",
            rich_help_panel=MESSAGES,
        ),
    ] = None,
) -> None:
    """Segment slides; what is done is skipped, and a bad slide never stops the rest."""
    if not (slide or slides):
        raise typer.BadParameter("needed one or more slides.", param_hint="SLIDE or --slides")
    if scheduler is not None and workers > 1:
        raise typer.BadParameter(
            "processes of this machine, while --scheduler has workers of its own: start as many with `dask worker`, "
            "and leave --workers out.",
            param_hint="--workers",
        )
    with ExitStack() as stack:
        patches = checked_patches(
            method, patch_px=patch_px, overlap=overlap, mpp=patch_mpp, level=patch_level
        )
        with imported_at_once():
            from wsi_deform.distribute.selection import selected_sources
            from wsi_deform.model_package.fetch import model_path
            from wsi_deform.slide.path import slide_path

        paths = [slide_path(each) for each in (*(slides or ()), *(slide or ()))]
        found = selected_sources(paths, out=out, mpp=mpp, split=split, suffixes=ext or ())[:limit]
        run = model_path(model, checksum)
        child: Child | None = None
        # One slide has no others to protect, and what a process imports takes as long as a small slide.
        if len(found) > 1 and not (in_process or dry_run or scheduler):
            child = stack.enter_context(Child())
            if workers == 1:
                with imported_at_once():
                    # Both need it, and it starts no thread: what is here before the fork is imported once.
                    import psutil  # noqa: F401
                child.start()
        with imported_at_once():
            from wsi_deform.distribute.batch import segment_slides
            from wsi_deform.runtime.choice import Asked
            from wsi_deform.slide_results import WantedOutputs

            if child is None and not dry_run:
                import wsi_deform.distribute.turn  # noqa: F401

        console = plain_console()
        wanted = WantedOutputs(
            interpolation=interpolation,
            probabilities=probabilities,
            footprint=footprint,
            geojson=geojson,
            coloured=coloured,
            ome_zarr=format == "ome-zarr",
            limit_to_tissue=limit_to_tissue,
            patches=patches,
        )
        asked = Asked(name=runtime, precision=precision)
        choices: dict[str, Any] = {
            "overwrite": overwrite,
            "on_bad_tile": on_bad_tile,
            "retry_failed": retry_failed,
            "wanted": wanted,
        }
        if dry_run:
            show_plan(found, run, out, choices | {"device": device, "runtime": asked})
            return
        bars = SegmentBars(console)
        with ExitStack() as watched:
            watched.enter_context(ended_by_signals(out))
            watcher: Watcher = bars
            if log_json is not None:
                named = {source.slide_id: str(source.absolute().path) for source in found}
                log = EventLog(log_json, slides=named, about={"model": redacted(model), "out": str(out)})
                watcher = Watchers(bars, watched.enter_context(log))
            watched.enter_context(bars)
            batch = segment_slides(
                found,
                run,
                out,
                device=device,
                runtime=asked,
                workers=workers,
                scheduler=scheduler,
                fields=fields,
                memory_gib=memory_gib,
                fail_fast=fail_fast,
                watcher=watcher,
                child=child,
                **choices,
            )
        counts = ", ".join(f"{len(batch.of(kind))} {kind}" for kind in ("done", "skipped", "failed"))
        if left := len(found) - len(batch.outcomes):
            counts += f", {left} not begun (--fail-fast)"
        if lacking := [each.slide_id for each in batch.outcomes if each.state.blank_tiles]:
            counts += f"; with tiles left out: {', '.join(lacking)}"
        console.print(f"{counts}. {out / 'summary.md'}", soft_wrap=True)
        if batch.of("failed"):
            raise typer.Exit(FAILED)


@contextmanager
def ended_by_signals(out: Path) -> Iterator[None]:
    """Within, an ending signal ends the command in good order: with a line that says so, and its exit code."""
    with interrupted_by_signals() as asked:
        try:
            yield
        except KeyboardInterrupt:
            said = f"Stopped; {out} keeps what is done. The same command goes on."
            plain_console().print(said, soft_wrap=True)
            raise typer.Exit(asked.exit_code) from None


def show_plan(found: Sequence[SlideSource], model: Path, out: Path, choices: Mapping[str, Any]) -> None:
    """Say what would be done with each slide and why; exit code 1 where one is known to fail."""
    from wsi_deform.distribute.plan import Action, planned_slides

    console = plain_console()
    planned = planned_slides(found, model, out, **choices)
    for each in planned:
        style = "red" if each.action == "fail" else ""
        console.print(f"{each.slide_id}: {each.action}, {each.reason}", style=style, soft_wrap=True)
    actions = [each.action for each in planned]
    counts = ", ".join(f"{actions.count(kind)} to {kind}" for kind in get_args(Action) if kind in actions)
    console.print(f"{counts}. Nothing was written.", soft_wrap=True)
    if "fail" in actions:
        raise typer.Exit(FAILED)


def checked_patches(method: str, **given: Any) -> PatchSettings | None:
    """How slides are cut into patches, None to sample them, or a usage error."""
    given = {name: value for name, value in given.items() if value is not None}
    if method == "patches":
        from wsi_deform.baselines.patch_settings import PatchSettings

        return PatchSettings(**given)
    if given:
        options = {
            "patch_px": "--patch-px",
            "overlap": "--overlap",
            "mpp": "--patch-mpp",
            "level": "--patch-level",
        }
        raise typer.BadParameter("needs --method patches.", param_hint=options[next(iter(given))])
    return None
