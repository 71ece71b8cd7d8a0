"""`wsi-deform doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

import faulthandler
import json
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wsi_deform.cli.console import TALK, say
from wsi_deform.cli.help import MESSAGES
from wsi_deform.cli.start import imported_at_once

if TYPE_CHECKING:
    from wsi_deform.doctor.finding import Finding

EXAMPLES = (
    "wsi-deform doctor",
    "wsi-deform doctor --out /shared/masks",
    "wsi-deform doctor --json > doctor.json",
)
EXITS = {1: "at least one fault was found"}
FAULTS = 1
WIDTH = 80
LABEL_WIDTH = 8


def doctor(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Look also whether masks can be written here, and are safe."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON instead.", rich_help_panel=MESSAGES)
    ] = False,
) -> None:
    """Try out what the program stands on, and say what to do where something is missing.

    Versions, codecs, readers, devices, dask, folders, extras, and a tiny slide that is segmented. Names and places of
    this machine are left out: what is printed can go into a report of a fault.
    """
    from wsi_deform.doctor.examine import findings
    from wsi_deform.doctor.versions import versions

    # A library that crashes says at least where.
    if not faulthandler.is_enabled():
        faulthandler.enable()
    found: list[Finding] = []
    with imported_at_once(), warnings.catch_warnings():
        warnings.simplefilter("ignore" if not TALK.verbose else "default")
        for each in findings(out):
            if not as_json:
                show(each, is_first=not found or found[-1].topic != each.topic)
            found.append(each)
    counts = {status: sum(each.status == status for each in found) for status in ("ok", "remark", "fault")}
    if as_json:
        data: dict[str, Any] = {"versions": versions(), "counts": counts}
        typer.echo(json.dumps(data | {"findings": [asdict(each) for each in found]}, indent=2))
    else:
        remarks, faults = (
            f"{counts[kind] or 'no'} {kind}{'s' * (counts[kind] != 1)}" for kind in ("remark", "fault")
        )
        say(f"\n{counts['ok']} ok, {remarks}, {faults}.")
    if counts["fault"]:
        raise typer.Exit(FAULTS)


def show(found: Finding, *, is_first: bool) -> None:
    """Print a finding, under its topic where it is the first of it; with ``-q`` faults only, on stderr."""
    if TALK.quiet:
        if found.status == "fault":
            typer.echo("\n".join(lines_of(found, named=True)), err=True)
        return
    if is_first:
        say(found.topic)
    say("\n".join(lines_of(found)))


def lines_of(found: Finding, *, named: bool = False) -> Iterator[str]:
    """The lines of a finding, 80 columns wide.

    Args:
        found: The finding.
        named: Whether its topic is said too.
    """
    subject = f"{found.topic} {found.subject}" if named else found.subject
    indent = " " * (LABEL_WIDTH + 2)
    for label, text in ((found.status, f"{subject}: {found.text}"), ("", found.remedy)):
        if text:
            yield from textwrap.wrap(
                " ".join(text.split()),
                WIDTH,
                initial_indent=f"  {label:<{LABEL_WIDTH}}",
                subsequent_indent=indent,
                break_on_hyphens=False,
            )
