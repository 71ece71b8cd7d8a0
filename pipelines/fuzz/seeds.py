"""Small sound files of every kind, drawn, from which damaged ones are made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import tifffile
import torch
import yaml
import zarr
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from pipelines.fuzz import annotation_seeds
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import dump_config, parse_config
from wsi_deform.config_sections import Config
from wsi_deform.distribute.ledger import State
from wsi_deform.model import Model
from wsi_deform.model_file import save_model
from wsi_deform.train.checkpoint import Counters, save_checkpoint

WIDTH, HEIGHT, TILE = 300, 200, 64
APERIO = (
    "Aperio Image Library v11.2.1 \r\n300x200 [0,0 300x200] (64x64) JPEG/RGB Q=90|AppMag = 20|MPP = 0.4990"
)
CLASSES = ClassTable(
    names=("background", "gland"), colours=((200, 200, 200), (200, 0, 0)), values=((0,), (1,)), background=0
)
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"


def picture(width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """(height, width, 3) waves."""
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 17), np.cos(y / 13), np.sin((x + y) / 29)], axis=-1)
    pixels: NDArray[np.uint8] = np.rint(128 + 100 * waves).astype(np.uint8)
    return pixels


def labels() -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH) of 0 and 1."""
    return (picture()[..., 0] > 128).astype(np.uint8)


def _tiff(path: Path, compression: str) -> None:
    how = {"tile": (TILE, TILE), "compression": compression, "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture(), resolution=(20000, 20000), resolutionunit="CENTIMETER", **how)
        writer.write(picture()[::2, ::2], subfiletype=1, **how)


def _strips(path: Path) -> None:
    tifffile.imwrite(
        path, picture(), rowsperstrip=50, compression="lzw", predictor=True, photometric="rgb", byteorder=">"
    )


def _svs(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        how = {"compression": "jpeg", "photometric": "rgb", "metadata": None}
        writer.write(picture(), tile=(TILE, TILE), description=APERIO, **how)
        writer.write(picture(75, 50), description="Aperio thumbnail", **how)
        writer.write(picture()[::4, ::4], tile=(TILE, TILE), description="Aperio level", **how)
        writer.write(picture(40, 30), description="Aperio Image Library\r\nmacro 40x30", subfiletype=9, **how)


def _ome_tiff(path: Path) -> None:
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    how = {"tile": (TILE, TILE), "compression": "deflate", "photometric": "rgb"}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(picture(), subifds=1, metadata={"axes": "YXS", **size}, **how)
        writer.write(picture()[::2, ::2], subfiletype=1, **how)


def _dicom(path: Path) -> None:
    pixels, data = picture(128, 128), Dataset()
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = WHOLE_SLIDE, JPEG_BASELINE
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = WHOLE_SLIDE, "1.2.3"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "1.2.4", "1.2.5", "1.2.6"
    data.ImageType, data.Modality = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "SM"
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "YBR_FULL_422", 0
    data.Rows = data.Columns = TILE
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.TotalPixelMatrixColumns = data.TotalPixelMatrixRows = 128
    data.TotalPixelMatrixFocalPlanes, data.NumberOfOpticalPaths, data.NumberOfFrames = 1, 1, 4
    data.DimensionOrganizationType, data.ImagedVolumeWidth, data.ImagedVolumeHeight = (
        "TILED_FULL",
        0.064,
        0.064,
    )
    measures, groups = Dataset(), Dataset()
    measures.PixelSpacing = [0.0005, 0.0005]
    groups.PixelMeasuresSequence = Sequence([measures])
    data.SharedFunctionalGroupsSequence = Sequence([groups])
    tiles = [pixels[y : y + TILE, x : x + TILE] for y in (0, TILE) for x in (0, TILE)]
    data.PixelData = encapsulate([imagecodecs.jpeg8_encode(np.ascontiguousarray(tile)) for tile in tiles])
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def _zarr(path: Path, version: int) -> None:
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    datasets = []
    for number in range(2):
        stored = picture()[:: 1 + number, :: 1 + number].transpose(2, 0, 1)
        array = group.create_array(str(number), shape=stored.shape, chunks=(3, TILE, TILE), dtype="u1")
        array[...] = stored
        scale = [1.0, 0.5 * 2**number, 0.5 * 2**number]
        datasets.append(
            {"path": str(number), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    image = {"axes": axes, "datasets": datasets, "version": "0.5" if version == 3 else "0.4"}
    attributes = (
        {"ome": {"version": "0.5", "multiscales": [image]}} if version == 3 else {"multiscales": [image]}
    )
    group.attrs.update(attributes)


def _picture(path: Path) -> None:
    Image.fromarray(picture()).save(path)


def _mask_tiff(path: Path) -> None:
    tifffile.imwrite(path, labels(), tile=(TILE, TILE), compression="deflate", photometric="minisblack")


def _mask_png(path: Path) -> None:
    Image.fromarray(labels()).save(path)


def _manifest(path: Path) -> None:
    path.write_text(
        "slide,slide_id,patient,split,mask,mask_channel,tissue_mask,mpp,region\n"
        "a.svs,a,p1,train,a.png,0,,0.5,0 0 100 100\nb.svs,b,p2,val,b.png,red,t.png,0.25,\n",
        encoding="utf-8",
    )


def _classes(path: Path) -> None:
    data = {
        "classes": [
            {"name": "background", "color": [0, 0, 0], "value": 0},
            {"name": "gland", "color": "#ff0000", "values": [1, 2, 3], "label_rgb": [[1, 2, 3], "#0a0b0c"]},
        ],
        "background": "background",
        "unlabelled": [255],
        "unlabelled_rgb": [[255, 255, 255]],
    }
    path.write_text(json.dumps(data) if path.suffix == ".json" else yaml.safe_dump(data), encoding="utf-8")


def _config(path: Path) -> None:
    path.write_text(dump_config(_settings()), encoding="utf-8")


def _settings() -> Config:
    return parse_config(
        {
            "sampling": {"budget": [12, 48]},
            "networks": {"segmentation": {"name": "hrnetv2", "width": 4, "stem_stride": 1}},
        },
        source="seed",
    )


def _net() -> Model:
    torch.manual_seed(0)
    return Model(config=_settings(), classes=CLASSES, mpp=0.5)


def _model(path: Path) -> None:
    path.mkdir()
    save_model(_net(), path / "best.safetensors", facts={"epoch": 3, "metrics": {"miou": 0.5}})


def _checkpoint(path: Path) -> None:
    model = _net()
    optimiser = torch.optim.AdamW(model.parameters())
    counters = Counters(
        epoch=2, step=1, sums={"loss": 1.0}, rows=[{"epoch": 1}, {"epoch": 2}], best=0.5, best_epoch=1
    )
    path.mkdir()
    save_checkpoint(path, model, optimiser, counters, extra={"scale": torch.ones(3)})


def _state(path: Path) -> None:
    state = State(
        slide_id="a", status="done", slide="/slides/a.svs", width_px=100, height_px=50, mpp=0.5, tissue_pixels=2000,
        class_pixels=(3000, 2000), class_pixels_in_tissue=(100, 1900), outputs={"mask": "1"}, seconds=1.5,
        kept=State(slide_id="a", status="done", class_pixels=(1, 2)),
    )  # fmt: skip
    path.mkdir()
    (path / "a.json").write_text(json.dumps(_plain(state)), encoding="utf-8")


def _plain(state: State) -> dict[str, object]:
    import dataclasses

    return dataclasses.asdict(state)


# Kind -> file name and what draws it. A kind without suffix is a folder.
SEEDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "tiff-jpeg": ("s.tif", lambda path: _tiff(path, "jpeg")),
    "tiff-deflate": ("s.tif", lambda path: _tiff(path, "deflate")),
    "tiff-jpeg2000": ("s.tif", lambda path: _tiff(path, "jpeg2000")),
    "tiff-strips": ("s.tif", _strips),
    "svs": ("s.svs", _svs),
    "ome-tiff": ("s.ome.tif", _ome_tiff),
    "dicom": ("s.dcm", _dicom),
    "zarr-2": ("s.zarr", lambda path: _zarr(path, 2)),
    "zarr-3": ("s.zarr", lambda path: _zarr(path, 3)),
    "png": ("s.png", _picture),
    "jpeg": ("s.jpg", _picture),
    "mask-tiff": ("m.tif", _mask_tiff),
    "mask-png": ("m.png", _mask_png),
    "manifest": ("m.csv", _manifest),
    "classes-yaml": ("c.yaml", _classes),
    "classes-json": ("c.json", _classes),
    "config": ("c.yaml", _config),
    "model": ("run", _model),
    "checkpoint": ("run", _checkpoint),
    "state": ("states", _state),
    **annotation_seeds.SEEDS,
}
