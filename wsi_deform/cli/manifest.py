"""`wsi-deform manifest`: make or check a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make or check a manifest.", no_args_is_help=True)

FAILED = 1


@app.command()
def check(
    manifest: Annotated[Path, typer.Argument(help="The manifest CSV.")],
    classes: Annotated[
        Path | None,
        typer.Option(help="Class table (YAML or JSON); default: classes.yaml beside the manifest."),
    ] = None,
    shallow: Annotated[bool, typer.Option(help="Do not open slides and masks.")] = False,
) -> None:
    """List everything that is wrong with a manifest, its slides and its masks, all at once."""
    from wsi_deform.annotation.check import check_manifest
    from wsi_deform.cli.classes import find_class_table
    from wsi_deform.manifest.read import read_manifest

    read = read_manifest(manifest)
    problems = [] if shallow else check_manifest(read, find_class_table(read, classes, required=False))
    for problem in problems:
        typer.echo(f"- {problem}", err=True)
    if problems:
        typer.echo(f"{manifest}: {len(problems)} problems.", err=True)
        raise typer.Exit(FAILED)
    splits = ", ".join(
        f"{len(rows)} {split}" for split in ("train", "val", "test") if (rows := read.of_split(split))
    )
    typer.echo(f"{manifest}: {len(read.rows)} slides, no problems. {splits or 'No splits.'}")


@app.command()
def build(
    slides: Annotated[Path, typer.Argument(help="Folder of slides.")],
    out: Annotated[Path, typer.Option(help="The manifest CSV to write.")] = Path("manifest.csv"),
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks, named <slide_id>_mask.* or <slide_id>.*")
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="Regular expression; its first group in a slide's id is the patient.")
    ] = None,
    val: Annotated[float, typer.Option(min=0, max=1, help="Share of the patients for validation.")] = 0.15,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of the patients for testing.")] = 0.15,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
) -> None:
    """Make a manifest of a folder: slides paired with masks, patients split at random."""
    from wsi_deform.annotation.folder import manifest_from_folder
    from wsi_deform.manifest.rows import write_manifest

    built = manifest_from_folder(
        slides,
        masks=masks,
        patient_pattern=patient,
        shares={"train": 1 - val - test, "val": val, "test": test},
        seed=seed,
    )
    write_manifest(built, out)
    typer.echo(f"{out}: {len(built.rows)} slides.")
