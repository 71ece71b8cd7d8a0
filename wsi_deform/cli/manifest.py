"""`wsi-deform manifest`: make, check or crop a manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wsi_deform.cli.app import App
from wsi_deform.cli.console import say

if TYPE_CHECKING:
    from wsi_deform.annotation.row_check import RowFindings
    from wsi_deform.manifest.rows import Manifest, ManifestRow, Split

app = App(help="Make, check or crop a manifest.")

FAILED = 1
MAX_JOBS = 8


@app.command(
    examples=["wsi-deform manifest check manifest.csv", "wsi-deform manifest check manifest.csv --shallow"],
    exits={1: "slides, masks or classes have problems; all are listed"},
)
def check(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The manifest CSV.")],
    classes: Annotated[
        Path | None,
        typer.Option(help="Class table (YAML or JSON); default: classes.yaml beside the manifest."),
    ] = None,
    shallow: Annotated[bool, typer.Option(help="Do not open slides and masks.")] = False,
    allow_empty_classes: Annotated[
        bool, typer.Option("--allow-empty-classes", help="A class without pixels is a remark, not a problem.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Slides that are looked at at a time; default: the cores, up to 8."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write a page with a table of all slides and a figure: OUT.html, or a folder, which gets check.html "
            "and slides.csv."
        ),
    ] = None,
) -> None:
    """List everything that is wrong with a manifest, its slides and its masks, all at once."""
    from wsi_deform.annotation.check import check_manifest
    from wsi_deform.cli.build_bars import passing_bars
    from wsi_deform.cli.classes import find_class_table
    from wsi_deform.cli.console import plain_console
    from wsi_deform.manifest.problems import counted, lines_by_kind
    from wsi_deform.manifest.read import read_manifest

    if shallow and report is not None:
        raise typer.BadParameter("needs slides to be opened. Leave --shallow out.", param_hint="--report")
    read = read_manifest(manifest)
    table = find_class_table(read, classes, required=False)
    problems, remarks, labels, found = [], list[str](), list[str](), list["RowFindings"]()
    if not shallow:
        with passing_bars(plain_console()) as progress:
            bar = progress.add_task("slides and labels", total=len(read.rows))
            problems = check_manifest(
                read,
                table,
                allow_empty_classes=allow_empty_classes,
                jobs=jobs or min(MAX_JOBS, os.cpu_count() or 1),
                on_row=lambda row: progress.advance(bar),
                on_remark=remarks.append,
                on_table=labels.extend,
                on_findings=found.extend,
            )
    for line in labels:
        say(line)
    for remark in remarks:
        typer.echo(f"remark: {remark}", err=True)
    for line in lines_by_kind(problems):
        typer.echo(f"- {line}", err=True)
    if report is not None:
        from wsi_deform.provenance import provenance
        from wsi_deform.report.manifest_check import Checked, report_check

        checked = Checked(name=manifest.name, found=found, problems=problems, remarks=remarks, classes=table)
        for path in report_check(checked, report, provenance=provenance()):
            say(str(path))
    if problems:
        typer.echo(f"{manifest}: {counted(problems)}.", err=True)
        raise typer.Exit(FAILED)
    splits = ", ".join(
        f"{len(rows)} {split}" for split in ("train", "val", "test") if (rows := read.of_split(split))
    )
    say(f"{manifest}: {len(read.rows)} slides, no problems. {splits or 'No splits.'}")


@app.command(
    examples=[
        "wsi-deform manifest build slides/ --masks masks/ --patient '^(P[0-9]+)'",
        "wsi-deform manifest build slides/ --masks masks/ --each-slide-a-patient",
    ]
)
def build(
    slides: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of slides.")],
    out: Annotated[Path, typer.Option(help="The manifest CSV to write.")] = Path("manifest.csv"),
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of masks or outlines, named <slide_id>_mask.* or <slide_id>.*"),
    ] = None,
    labels_pattern: Annotated[
        str | None,
        typer.Option(
            help="How masks or outlines are named, e.g. '{slide_id}_gt.xml' or '{slide_id}/mask.*'; in --masks and "
            "beside the slides."
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="CSV with columns slide (file name) or slide_id, and mask or annotation: paths from --masks, else "
            "from its own folder."
        ),
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="Regular expression; its first group in a slide's id is the patient.")
    ] = None,
    patients: Annotated[
        Path | None, typer.Option(help="CSV with columns slide (file name) or slide_id, and patient.")
    ] = None,
    each_slide_a_patient: Annotated[
        bool, typer.Option("--each-slide-a-patient", help="No two slides are of one patient.")
    ] = False,
    mpp: Annotated[
        float | None,
        typer.Option(help="Level-0 um per pixel of all slides, where their files do not say it."),
    ] = None,
    val: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the patients for validation; default: 0.15.")
    ] = None,
    test: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the patients for testing; default: 0.15.")
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            help="Write this many manifests for cross-validation, OUT_fold0.csv, ...: val is fold i of the patients, "
            "test the same in all."
        ),
    ] = None,
    rotate_test: Annotated[
        bool,
        typer.Option(
            "--rotate-test", help="With --folds: test is fold i and val the next one, in place of --test."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    classes: Annotated[
        Path | None,
        typer.Option(help="Class table of the masks (YAML or JSON); default: classes.yaml beside --out."),
    ] = None,
) -> None:
    """Make a manifest of a folder: slides paired with labels, patients split at random, stratified by class.

    Whose they are must be said by --patient, --patients or --each-slide-a-patient, unless all have TCGA barcodes.
    """
    from wsi_deform.annotation.counted_labels import CountedLabels, counted_labels
    from wsi_deform.annotation.folder import LabelSource, manifest_from_folder
    from wsi_deform.annotation.folds import fold_manifests, fold_path
    from wsi_deform.cli.build_bars import passing_bars
    from wsi_deform.cli.classes import class_table_in
    from wsi_deform.cli.console import plain_console
    from wsi_deform.manifest.rows import write_manifest

    refuse_contradictions(mpp=mpp, val=val, test=test, folds=folds, rotate_test=rotate_test)
    table = class_table_in(out.parent, classes)
    labels, remarks = CountedLabels(), list[str]()

    def class_pixels(rows: Sequence[ManifestRow]) -> dict[str, dict[int, int]]:
        nonlocal labels
        with passing_bars(plain_console()) as progress:
            bar = progress.add_task("labels", total=len(rows))
            labels = counted_labels(rows, table, on_row=lambda: progress.advance(bar))
        return labels.by_class()

    built = manifest_from_folder(
        slides,
        labels=LabelSource(folder=masks, pattern=labels_pattern, pairs=pairs),
        patient_pattern=patient,
        patients=patients,
        each_slide_a_patient=each_slide_a_patient,
        mpp=mpp,
        shares=shares_of(val=val, test=test, folds=folds, rotate_test=rotate_test),
        seed=seed,
        class_pixels=class_pixels,
        on_remark=remarks.append,
    )
    source = "by the TCGA barcodes in slide ids"
    if each_slide_a_patient:
        source = "each slide is taken for a patient of its own"
    elif patient is not None or patients is not None:
        source = f"by {patients}" if patient is None else f"by the pattern {patient} in slide ids"
    how = f"{'stratified by class' if labels.by_class() else 'by numbers of slides'}, seed {seed}"
    written = {out: built}
    if folds is not None:
        made = fold_manifests(built, folds, seed=seed, pixels=labels.by_class(), rotate_test=rotate_test)
        written = {fold_path(out, number): manifest for number, manifest in enumerate(made)}
    for path, manifest in written.items():
        write_manifest(manifest, path)
        say(f"{path}: {built_text(manifest, source, how)}")
        for line in labels.lines(manifest):
            say(line)
    for remark in remarks:
        say(f"remark: {remark}")


def shares_of(
    *, val: float | None, test: float | None, folds: int | None, rotate_test: bool
) -> dict[Split, float]:
    """Share of each split; with folds, all that is no test is train at first."""
    test = 0.15 if test is None else test
    if folds is not None:
        return {"train": 1.0} if rotate_test else {"train": 1 - test, "test": test}
    val = 0.15 if val is None else val
    return {"train": 1 - val - test, "val": val, "test": test}


def refuse_contradictions(
    *, mpp: float | None, val: float | None, test: float | None, folds: int | None, rotate_test: bool
) -> None:
    """Refuse options that exclude each other, or have no meaning, before anything is read."""
    from wsi_deform.manifest.rows import MAX_MPP, MIN_MPP

    if mpp is not None and not MIN_MPP <= mpp <= MAX_MPP:
        raise typer.BadParameter(
            f"{mpp}: needed {MIN_MPP} to {MAX_MPP:g} um per level-0 pixel (0.25 is usual for 40x, 0.5 for 20x).",
            param_hint="--mpp",
        )
    least = 3 if rotate_test else 2
    if folds is not None and folds < least:
        said = f"{folds}: needed {least} or more" + (" where test rotates." if rotate_test else ".")
        raise typer.BadParameter(said, param_hint="--folds")
    if folds is not None and val is not None:
        raise typer.BadParameter("with --folds val is one fold of them. Leave --val out.", param_hint="--val")
    if rotate_test and folds is None:
        raise typer.BadParameter(
            "is about folds. Pass --folds too, or leave it out.", param_hint="--rotate-test"
        )
    if rotate_test and test is not None:
        raise typer.BadParameter(
            "with --rotate-test test is one of the folds. Leave --test out.", param_hint="--test"
        )


@app.command(examples=["wsi-deform manifest crop manifest.csv --size 1024x1024 --out crops.csv"])
def crop(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="The manifest CSV.")],
    size: Annotated[str, typer.Option(help="Width x height of the crops, level-0 px, e.g. 1024x1024.")],
    out: Annotated[Path, typer.Option(help="The manifest CSV to write.")],
) -> None:
    """Write a manifest whose column region is the centre of every slide: only that is segmented and measured."""
    from wsi_deform.data.central_crops import with_central_crops
    from wsi_deform.geometry import Size
    from wsi_deform.manifest.read import read_manifest
    from wsi_deform.manifest.rows import write_manifest

    sides = size.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise typer.BadParameter(f"{size!r}: needed width x height, such as 1024x1024.", param_hint="--size")
    cropped = with_central_crops(read_manifest(manifest), Size(int(sides[0]), int(sides[1])))
    write_manifest(cropped, out)
    say(f"{out}: {len(cropped.rows)} slides, the central {sides[0]} x {sides[1]} px of each.")


def built_text(manifest: Manifest, source: str, how: str) -> str:
    """What a manifest holds, where its patients are from and how they were dealt, in words."""
    said = f"{counted_rows(manifest.rows)} ({source})"
    splits = [
        f"{split} {counted_rows(rows)}"
        for split in ("train", "val", "test")
        if (rows := manifest.of_split(split))
    ]
    without = sum(row.split is None for row in manifest.rows)
    left = f"; {without} without labels in none" if without else ""
    return f"{said}. Patients dealt to splits ({how}): {', '.join(splits)}{left}."


def counted_rows(rows: Sequence[ManifestRow]) -> str:
    """Numbers of slides and of patients, in words."""
    slides, patients = len(rows), len({row.patient for row in rows})
    return f"{slides} slide{'s' if slides != 1 else ''} of {patients} patient{'s' if patients != 1 else ''}"
