"""`wsi-deform explore`: groups of look-alike tissue, without labels and without training."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from wsi_deform.cli.console import plain_console
from wsi_deform.cli.options import HOW, MACHINES, device_option

FAILED = 1
EXAMPLES = (
    "wsi-deform explore slide.svs",
    "wsi-deform explore slide.svs --groups 8 --out draft",
    "wsi-deform explore a.svs b.svs --out both",
)


def explore(
    slide: Annotated[
        list[str],
        typer.Argument(
            metavar="SLIDE...", help="Slides, or a folder of them; all are put into the same groups."
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder for masks, overlays and measurements.")
    ] = Path("explored"),
    groups: Annotated[
        int, typer.Option(min=2, max=32, metavar="K", help="How many groups.", rich_help_panel=HOW)
    ] = 6,
    um: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="UM",
            help="Um per px of the finest level that is read; finer takes longer.",
            rich_help_panel=HOW,
        ),
    ] = 1.25,
    share: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=8,
            metavar="SHARE",
            help="Pixels read, of all levels, / pixels at the finest; default: all tissue, less of large slides.",
            rich_help_panel=HOW,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="Of what is drawn at random.", rich_help_panel=HOW)
    ] = 0,
    mpp: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Level-0 um per pixel of all slides, where the files are wrong."),
    ] = None,
    device: Annotated[str, device_option(rich_help_panel=MACHINES)] = "auto",
    memory_gib: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="GIB", help="Most memory; smaller caches.", rich_help_panel=MACHINES),
    ] = None,
) -> None:
    """Group the tissue of slides by what it looks like: no labels, no training, no diagnosis."""
    from wsi_deform.cli.segment import ended_by_signals
    from wsi_deform.cli.segment_bars import SegmentBars
    from wsi_deform.distribute.batch import segment_slides
    from wsi_deform.distribute.selection import selected_sources
    from wsi_deform.errors import SlideError
    from wsi_deform.explore.folder import MODEL, make_group_model
    from wsi_deform.explore.groups import GroupSettings
    from wsi_deform.slide.open import open_slide
    from wsi_deform.slide.path import slide_path

    settings = GroupSettings(groups=groups, finest_um=um, share=share, seed=seed)
    console = plain_console()
    sources = selected_sources([slide_path(each) for each in slide], out=out, mpp=mpp)
    usable = [source for source in sources if not source.problem]
    if not usable:
        raise SlideError(sources[0].problem)
    with ended_by_signals(out):
        opened = [open_slide(each.path, mpp=each.mpp, slide_id=each.slide_id) for each in usable]
        console.print(f"looking at {len(opened)} slide{'s' if len(opened) != 1 else ''}, without labels ...")
        classes = make_group_model(opened, settings, out, device=device, memory_gib=memory_gib)
        with ExitStack() as watched:
            bars = watched.enter_context(SegmentBars(console))
            batch = segment_slides(
                sources, out / MODEL, out, device=device, memory_gib=memory_gib, watcher=bars
            )
    console.print(
        f"{groups} groups of look-alike tissue, found without labels: no diagnosis. {out / 'summary.md'}",
        soft_wrap=True,
    )
    console.print(f"name them in {classes}", soft_wrap=True)
    if batch.of("failed"):
        raise typer.Exit(FAILED)
