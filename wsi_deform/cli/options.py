"""Options that several commands have: one name, one help text, one completion for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from wsi_deform.config_files import DEFAULT, packaged_configs

# Groups of options in the help of commands.
WHICH_SLIDES = "Which slides"
HOW = "How masks are made"
FILES = "What is written"
PATCHES = "Patches, a baseline"
TROUBLE = "When something is wrong"
MACHINES = "Processes, memory and devices"
NAMES = "Names"

DEVICES = {
    "auto": "a GPU if there is one",
    "cpu": "",
    "cuda": "the first NVIDIA GPU",
    "cuda:1": "another one",
    "mps": "Apple's GPU",
}
USUAL_SUFFIXES = ("svs", "tif", "tiff", "ome.tif", "ndpi", "mrxs", "scn", "bif", "qptiff", "dcm", "czi")


def complete_device(incomplete: str) -> Iterator[tuple[str, str]]:
    """Devices that start so."""
    yield from (each for each in DEVICES.items() if each[0].startswith(incomplete))


def complete_config(incomplete: str) -> Iterator[tuple[str, str]]:
    """Packaged configurations that start so, each with what its file says of it first."""
    for name, path in packaged_configs().items():
        if name.startswith(incomplete):
            yield name, first_comment(path)


def complete_suffix(incomplete: str) -> Iterator[str]:
    """Suffixes of slides that start so."""
    yield from (each for each in USUAL_SUFFIXES if each.startswith(incomplete.removeprefix(".")))


def first_comment(path: Path) -> str:
    """What a YAML file says of itself in its first line."""
    with path.open(encoding="utf-8") as opened:
        first = opened.readline()
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def device_option(**more: Any) -> Any:
    """The option that says where networks compute."""
    return typer.Option(
        metavar="DEVICE",
        autocompletion=complete_device,
        **{"help": "auto, cpu, cuda, cuda:1 or mps.", **more},
    )


Classes = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Class table (YAML or JSON); default: classes.yaml beside the manifest."
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Over the configuration, e.g. seed=1; may be given several times."
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        autocompletion=complete_config,
        help=f"A packaged configuration (`wsi-deform config list`) or a YAML file; default: {DEFAULT}.",
    ),
]
Anonymous = Annotated[
    bool,
    typer.Option("--anonymous", help="Ids in place of slide and patient names.", rich_help_panel=NAMES),
]
Key = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With --anonymous: a CSV that says which id is whose; ids in it are kept.",
        rich_help_panel=NAMES,
    ),
]


def refuse_key_alone(key: Path | None, *, anonymous: bool) -> None:
    """Refuse --key without --anonymous."""
    if key is not None and not anonymous:
        raise typer.BadParameter("needed --anonymous beside it.", param_hint="--key")
