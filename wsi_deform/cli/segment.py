"""`wsi-deform segment`: from slides to masks."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from wsi_deform.cli.build_bars import build_bars, counting_columns
from wsi_deform.cli.console import plain_console
from wsi_deform.cli.interrupts import interrupted_by_signals
from wsi_deform.cli.start import imported_at_once

if TYPE_CHECKING:
    from rich.console import Console

    from wsi_deform.baselines.patch_grid import PatchSettings
    from wsi_deform.distribute.outcome import Outcome
    from wsi_deform.manifest.rows import Split
    from wsi_deform.reverse.sampler import Interpolation
    from wsi_deform.slide.slide import OnBadTile

FAILED = 1


def segment(
    slides: Annotated[
        str,
        typer.Option(
            help="Folder of slides (subfolders too), one slide or its URL (FILE::NAME: one of its images), or a "
            "manifest CSV (for an oracle)."
        ),
    ],
    model: Annotated[
        Path, typer.Option(help="Run folder of `wsi-deform train`, or a model's .safetensors or .json.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks, overlays and measurements.")] = Path("out"),
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")] = "auto",
    overwrite: Annotated[bool, typer.Option(help="Segment again what is done.")] = False,
    on_bad_tile: Annotated[
        str,
        typer.Option(
            help="A tile that cannot be decoded: fail (the slide fails) or blank (the mask is unlabelled, 255, there)."
        ),
    ] = "fail",
    retry_failed: Annotated[
        bool, typer.Option(help="Try slides again that killed their process twice.")
    ] = False,
    mpp: Annotated[
        float | None,
        typer.Option(help="Level-0 um per pixel of all slides, where files and manifest are wrong."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a manifest: only train, val or test.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many slides.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler whose workers do the slides.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="sampled: where the model looks. patches: the network slides over all tissue (MONAI), a baseline."
        ),
    ] = "sampled",
    patch_px: Annotated[
        int | None, typer.Option(help="Of patches: side, px of the level; default: the model's budget.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option(help="Of patches: share of the side that neighbours share; default: 0.25.")
    ] = None,
    patch_mpp: Annotated[
        float | None,
        typer.Option(
            help="Of patches: the level nearest to so many um per px; default: as the model samples."
        ),
    ] = None,
    patch_level: Annotated[
        int | None, typer.Option(min=0, help="Of patches: this level, 0 the finest.")
    ] = None,
    interpolation: Annotated[
        str | None,
        typer.Option(help="How masks are put back: nearest or linear; default: as the model says."),
    ] = None,
    probabilities: Annotated[bool, typer.Option(help="Write probability maps too.")] = False,
    footprint: Annotated[bool, typer.Option(help="Write maps of um per sample too.")] = False,
    geojson: Annotated[
        bool, typer.Option(help="Write the outlines of the masks as GeoJSON, for QuPath.")
    ] = True,
    coloured: Annotated[
        bool,
        typer.Option(
            "--coloured",
            help="Write the masks in the colours of the classes too, as overlays/<slide_id>.tif.",
        ),
    ] = False,
    limit_to_tissue: Annotated[
        bool | None,
        typer.Option(
            "--limit-to-tissue/--no-limit-to-tissue",
            help="Labels outside the slide's tissue become background; default: yes, but for models of images "
            "without mpp.",
        ),
    ] = None,
    fields: Annotated[
        int, typer.Option(min=1, help="Most fields or patches per forward pass; more suit a GPU.")
    ] = 1,
    memory_gib: Annotated[
        float | None,
        typer.Option(min=0.1, help="Most memory, GiB; fewer fields per pass and a smaller cache."),
    ] = None,
) -> None:
    """Segment slides: skips what is done; a bad slide never stops the rest; exit code 1 if any failed."""
    with imported_at_once():
        from wsi_deform.distribute.batch import segment_slides
        from wsi_deform.distribute.sources import slide_sources
        from wsi_deform.slide.path import slide_path
        from wsi_deform.slide_results import WantedOutputs

    console = plain_console()
    chosen = None if split is None else checked_split(split)
    if interpolation not in (None, "nearest", "linear"):
        raise typer.BadParameter(
            f"{interpolation!r}: needed nearest or linear.", param_hint="--interpolation"
        )
    if on_bad_tile not in ("fail", "blank"):
        raise typer.BadParameter(f"{on_bad_tile!r}: needed fail or blank.", param_hint="--on-bad-tile")
    patches = checked_patches(method, patch_px=patch_px, overlap=overlap, mpp=patch_mpp, level=patch_level)
    wanted = WantedOutputs(
        interpolation=cast("Interpolation | None", interpolation),
        probabilities=probabilities,
        footprint=footprint,
        geojson=geojson,
        coloured=coloured,
        limit_to_tissue=limit_to_tissue,
        patches=patches,
    )
    found = slide_sources(slide_path(slides), out=out, mpp=mpp, split=chosen)[:limit]
    try:
        with interrupted_by_signals() as asked, SegmentBars(console) as bars:
            batch = segment_slides(
                found,
                model,
                out,
                device=device,
                overwrite=overwrite,
                on_bad_tile=cast("OnBadTile", on_bad_tile),
                retry_failed=retry_failed,
                workers=workers,
                scheduler=scheduler,
                wanted=wanted,
                fields=fields,
                memory_gib=memory_gib,
                watcher=bars,
            )
    except KeyboardInterrupt:
        console.print(f"Stopped; {out} keeps what is done. The same command goes on.", soft_wrap=True)
        raise typer.Exit(asked.exit_code) from None
    counts = ", ".join(f"{len(batch.of(kind))} {kind}" for kind in ("done", "skipped", "failed"))
    if lacking := [each.slide_id for each in batch.outcomes if each.state.blank_tiles]:
        counts += f"; with tiles left out: {', '.join(lacking)}"
    console.print(f"{counts}. {out / 'summary.md'}", soft_wrap=True)
    if batch.of("failed"):
        raise typer.Exit(FAILED)


def checked_split(text: str) -> Split:
    """The split that a text names, or a usage error."""
    from wsi_deform.manifest.rows import SPLITS

    if text not in SPLITS:
        raise typer.BadParameter(f"{text!r}: needed one of {', '.join(SPLITS)}.", param_hint="--split")
    return text


def checked_patches(method: str, **given: Any) -> PatchSettings | None:
    """How slides are cut into patches, None to sample them, or a usage error."""
    from wsi_deform.baselines.patch_grid import PatchSettings

    given = {name: value for name, value in given.items() if value is not None}
    if method == "patches":
        return PatchSettings(**given)
    if method != "sampled":
        raise typer.BadParameter(f"{method!r}: needed sampled or patches.", param_hint="--method")
    if given:
        options = {
            "patch_px": "--patch-px",
            "overlap": "--overlap",
            "mpp": "--patch-mpp",
            "level": "--patch-level",
        }
        raise typer.BadParameter("needs --method patches.", param_hint=options[next(iter(given))])
    return None


class SegmentBars:
    """Progress bars of a batch; a context manager and a ``distribute.outcome.Watcher``."""

    def __init__(self, console: Console) -> None:
        from rich.progress import Progress

        self.console = console
        self.progress = Progress(*counting_columns(), console=console, refresh_per_second=2)
        self._shown = ExitStack()
        self.slides: Any = None
        self.fields: Any = None

    def __enter__(self) -> SegmentBars:
        self._shown.enter_context(self.progress)
        self._shown.enter_context(build_bars(self.progress))
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def start(self, *, slides: int) -> None:
        """Show the bar of the slides."""
        self.slides = self.progress.add_task("slides", total=slides)

    def slide(self, slide_id: str) -> None:
        """Show the bar of a slide's fields."""
        self._drop_fields()
        self.fields = self.progress.add_task(f"{slide_id}: fields", total=None)

    def field(self, done: int, total: int) -> None:
        """Move the bar of the fields."""
        self.progress.update(self.fields, completed=done, total=total)

    def outcome(self, outcome: Outcome) -> None:
        """Say how a slide went and move the bar of the slides."""
        self._drop_fields()
        self.progress.advance(self.slides)
        state = outcome.state
        line = f"{outcome.slide_id}: {outcome.status}"
        if outcome.status == "done":
            seen = f"{state.samples} samples" if state.method != "patches" else f"{state.fields} patches"
            line += f", {state.seconds:.1f} s, {seen}, {state.tiles} tiles read"
        if outcome.reason:
            line += f", {outcome.reason}"
        style = "red" if outcome.status == "failed" else ""
        self.progress.console.print(line, style=style, soft_wrap=True)

    def _drop_fields(self) -> None:
        if self.fields is not None:
            self.progress.remove_task(self.fields)
            self.fields = None
