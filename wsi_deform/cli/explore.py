"""`wsi-deform explore`: groups of look-alike tissue, without labels and without training."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_deform.cli.console import plain_console
from wsi_deform.cli.options import HOW, MACHINES, device_option

if TYPE_CHECKING:
    from wsi_deform.distribute.sources import SlideSource
    from wsi_deform.slide.slide import Slide

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
            metavar="SLIDE...",
            help="Slides, a folder of them or a manifest; all are put into the same groups.",
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
    from wsi_deform.slide.path import slide_path

    settings = GroupSettings(groups=groups, finest_um=um, share=share, seed=seed)
    console = plain_console()
    sources = selected_sources([slide_path(each) for each in slide], out=out, mpp=mpp)
    usable = [source for source in sources if not source.problem]
    if not usable:
        raise SlideError(sources[0].problem)

    def left_out(slide_id: str, why: str) -> None:
        console.print(f"{slide_id}: left out of the groups, {why}", soft_wrap=True)

    with ended_by_signals(out):
        opened, problems = _opened(usable)
        if not opened:
            raise SlideError(next(iter(problems.values())))
        if problems:  # each fails below, with its reason
            console.print(f"left out of the groups: {', '.join(problems)}", soft_wrap=True)
        console.print(f"looking at {len(opened)} slide{'s' if len(opened) != 1 else ''}, without labels ...")
        classes = make_group_model(
            opened, settings, out, device=device, memory_gib=memory_gib, on_left_out=left_out
        )
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


def _opened(sources: Sequence[SlideSource]) -> tuple[list[Slide], dict[str, str]]:
    """The slides that can be opened and have a scale; id -> why of the others."""
    from wsi_deform.errors import SlideError
    from wsi_deform.slide.open import open_slide

    opened, problems = [], {}
    for source in sources:
        try:
            slide = open_slide(source.path, mpp=source.mpp, slide_id=source.slide_id)
        except SlideError as error:
            problems[source.slide_id] = str(error)
            continue
        if slide.mpp_or_none is None:
            problems[source.slide_id] = (
                f"slide {source.path}: no um per px in the file. Needed to read it at a physical scale. Give --mpp, "
                "or a manifest whose column mpp says it."
            )
            continue
        opened.append(slide)
    return opened, problems
