"""What is done with a file of each kind: what the commands do with it, without writing anything."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path

import torch

from pipelines.fuzz.seeds import CLASSES, HEIGHT, WIDTH
from wsi_deform.annotation.classes import class_table_from_data, read_class_table
from wsi_deform.annotation.outlines.open import read_outlines
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.config import dump_config, read_config
from wsi_deform.distribute.ledger import Ledger
from wsi_deform.distribute.measurements import write_measurements
from wsi_deform.errors import ManifestError
from wsi_deform.geometry import Point, Region, Size, tile_grid
from wsi_deform.look.lowres import thumbnail
from wsi_deform.look.tissue_file import half_covered_cells, open_tissue_raster
from wsi_deform.manifest.read import read_manifest
from wsi_deform.mask.folder import MaskFolder
from wsi_deform.model import Model
from wsi_deform.model_file import load_model
from wsi_deform.slide.open import open_slide
from wsi_deform.train.checkpoint import load_checkpoint, stored_counters

# Of larger ones building the coarse levels takes the time that it takes.
SMALL_PX = 50_000_000
SLIDES = ("tiff", "svs", "ome", "dicom", "zarr", "png", "jpeg")


def use(kind: str, path: Path) -> None:
    """Use a file; raises what the program raises."""
    if kind.startswith(SLIDES):
        _slide(path)
    elif kind.startswith("mask"):
        _mask(path)
    elif kind == "manifest":
        with suppress(ManifestError):  # its files are not there
            read_manifest(path)
        read_manifest(path, check_files=False)
    elif kind.startswith("classes"):
        table = read_class_table(path)
        class_table_from_data(table.to_data(), "written again")
    elif kind == "config":
        dump_config(read_config(path))
    elif kind == "model":
        load_model(path)
    elif kind == "checkpoint":
        _checkpoint(path)
    elif kind == "state":
        _state(path)
    elif kind.startswith("outlines"):
        read_outlines(path)
        read_outlines(path, bounds=Point(10, 20), slide_size=Size(WIDTH, HEIGHT), image="a.svs")
    else:
        raise ValueError(kind)


def _slide(path: Path) -> None:
    slide = open_slide(path)
    str(slide.info)
    for number, level in enumerate(slide.levels[: slide.stored_levels]):
        grid = tile_grid(level.size, level.tile)
        for column, row in {(0, 0), (grid.width - 1, grid.height - 1)}:
            slide.read_tile(number, column, row)
    if slide.levels[slide.stored_levels - 1].size.area <= SMALL_PX:
        thumbnail(slide, 128)


def _mask(path: Path) -> None:
    mask = open_label_mask(path, slide_size=Size(WIDTH, HEIGHT), classes=CLASSES)
    mask.read_region(Region(0, 0, WIDTH, HEIGHT))
    mask.class_counts()
    wanted = Size(50, 30)
    raster = open_tissue_raster(path, wanted)
    half_covered_cells(raster, Size(min(50, raster.level.width), min(30, raster.level.height)))


def _checkpoint(path: Path) -> None:
    counters = stored_counters(path)
    config = read_config(
        changes=[
            "sampling.budget=[12, 48]",
            "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}",
        ]
    )
    model = Model(config=config, classes=CLASSES, mpp=0.5)
    optimiser = torch.optim.AdamW(model.parameters())
    counters = load_checkpoint(path, model, optimiser, extra={"scale": torch.ones(3)})
    # What a run does with them.
    list(range(counters.epoch, 3))
    _ = counters.epoch + counters.step + counters.waited, len(counters.rows), (counters.best or 0.0) + 1


def _state(path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = MaskFolder(Path(name))
        folder.states.mkdir()
        for file in path.iterdir():
            (folder.states / file.name).write_bytes(file.read_bytes())
        folder.mask("a").parent.mkdir(parents=True)
        folder.mask("a").touch()
        write_measurements(folder, Ledger(folder).results(), CLASSES)
