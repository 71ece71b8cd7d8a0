"""The rows of a manifest: which slides there are, whose they are, and where their labels lie."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from wsi_deform.cells import safe_row
from wsi_deform.files import write_aside
from wsi_deform.geometry import Mpp, Point, Region, both_axes
from wsi_deform.paths import id_of_file, split_image

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
COLUMNS = (
    "slide_id", "slide", "patient", "split", "mask", "annotation", "mask_channel", "tissue_mask", "mpp", "region",
    "data_licence",
)  # fmt: skip
MIN_MPP, MAX_MPP = 0.05, 20.0
# Of scanners: 100x to 5x.
MIN_USUAL_MPP, MAX_USUAL_MPP = 0.1, 2.2


def unit_of_mpp(mpp: float) -> str:
    """In which unit a number outside of what is believed would be an um per pixel, for the end of a sentence.

    Returns:
        " (250 nm are 0.25 um)" or the like; empty where no unit fits.
    """
    # A length of a pixel in nm, in mm or in m; pixels per mm, per cm and per inch.
    for factor, form in (
        (1e-3, "{0:g} nm are {1:g} um"),
        (1e3, "{0:g} mm are {1:g} um"),
        (1e6, "{0:g} m are {1:g} um"),
    ):
        if MIN_USUAL_MPP <= mpp * factor <= MAX_USUAL_MPP:
            return f" ({form.format(mpp, mpp * factor)})"
    for um, unit in ((1e3, "mm"), (1e4, "cm"), (25_400.0, "inch")):
        if mpp > 0 and MIN_USUAL_MPP <= um / mpp <= MAX_USUAL_MPP:
            return f" ({mpp:g} pixels per {unit} are {um / mpp:.4g} um per pixel)"
    return ""


def _believable(mpp: Mpp) -> Mpp:
    both = both_axes(mpp)
    if not all(MIN_MPP <= one <= MAX_MPP for one in (both.x, both.y)):
        raise ValueError(
            f"mpp {mpp}, needed {MIN_MPP} to {MAX_MPP:g} um per level-0 pixel{unit_of_mpp(both.x)}"
        )
    return mpp


class ManifestRow(BaseModel):
    """One slide of a manifest.

    Attributes:
        slide: Path of the slide, absolute or from the working folder; ``FILE::NAME`` is one of the images in a file.
        slide_id: Unique name of the slide; outputs are called after it.
        patient: Whose slide it is, or None where the manifest does not say.
        split: "train", "val", "test", or None.
        mask: Raster file of labels, or None.
        annotation: File of outlines (GeoJSON, XML), or None; never beside a mask.
        mask_channel: Channel of the mask that holds the labels, from 0, or None for a single channel.
        tissue_mask: Raster file whose pixels above 0 are tissue, or None.
        mpp: Level-0 um per pixel that overrides what the file says, one number or one along x and one along y, or None.
        region: The part of the slide that is segmented, learned from and measured, level-0 px; None is all of it.
        data_licence: Under which licence slide and labels come, as somebody wrote it, or None.
        line: Line of the CSV, from 1; 0 for rows that never were in a CSV.
        extra: Cells of the columns that this program does not know.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    slide: Path
    slide_id: str = Field(min_length=1)
    patient: str | None = None
    split: Split | None = None
    mask: Path | None = None
    annotation: Path | None = None
    mask_channel: int | None = Field(default=None, ge=0)
    tissue_mask: Path | None = None
    mpp: Annotated[Mpp, AfterValidator(_believable)] | None = None
    region: Region | None = None
    data_licence: str | None = None
    line: int = 0
    extra: Mapping[str, str] = Field(default_factory=dict)


class Manifest(BaseModel):
    """All rows of a manifest, in the order of the file.

    Attributes:
        rows: One per slide.
        folder: Where relative paths start.
        extra_columns: Names of the columns that this program does not know, as written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: tuple[ManifestRow, ...]
    folder: Path
    extra_columns: tuple[str, ...] = ()

    def of_split(self, split: Split) -> tuple[ManifestRow, ...]:
        """The rows of one split."""
        return tuple(row for row in self.rows if row.split == split)


def write_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write a manifest as CSV; paths inside the folder of the CSV are written relative to it.

    Args:
        manifest: Columns that no row fills are left out.
        path: Where to write; the file is whole or absent.

    Convention:
        Text that a spreadsheet would run has an apostrophe before it, which ``read_manifest`` takes away.
    """
    path = Path(path)
    columns = [
        c
        for c in COLUMNS
        if c in ("slide_id", "slide") or any(getattr(r, c) is not None for r in manifest.rows)
    ]
    with write_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(safe_row([*columns, *manifest.extra_columns]))
        for row in manifest.rows:
            cells = [_cell(getattr(row, column), path.parent) for column in columns]
            cells += [row.extra.get(column, "") for column in manifest.extra_columns]
            writer.writerow(safe_row(cells))


def slide_id_from_path(path: Path | str) -> str:
    """Name a slide after its file: without the suffix of a slide, and without ".ome" before it.

    Convention:
        Only one suffix goes, except ".ome.tif" and its kin: "case.7.svs" is "case.7", and so is a folder
        "case.7". Characters that no file should have in its name, e.g. ":", become "_". The name of an image
        (``FILE::NAME``) follows behind two of them.
    """
    file, image = split_image(Path(path))
    return id_of_file(file.name, image)


def patients_remark(manifest: Manifest) -> str | None:
    """What it means that slides to train on and slides to measure on do not say whose they are; None where they do."""
    rows = [row for row in manifest.rows if row.split is not None]
    without = sum(row.patient is None for row in rows)
    if not without or len({row.split for row in rows}) < 2:
        return None
    return (
        f"{without} of {len(rows)} slides in splits have no patient: slides of one patient may be on both sides of a "
        "split, and then measures of val and test are better than on new patients. Fill column patient of the manifest"
    )


def _cell(value: object, folder: Path) -> str:
    """A value as the text of a CSV cell."""
    if isinstance(value, Path):
        absolute, root = value.absolute(), folder.absolute()
        return absolute.relative_to(root).as_posix() if absolute.is_relative_to(root) else str(absolute)
    if isinstance(value, Region):
        return f"{value.x} {value.y} {value.width} {value.height}"
    if isinstance(value, Point):
        return f"{value.x!r} {value.y!r}"
    return "" if value is None else str(value)
