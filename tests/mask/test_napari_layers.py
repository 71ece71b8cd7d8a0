"""OME-Zarr labels and the TIFF of a mask as layers of napari, without a window; skipped without napari."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from slide_files import picture, write_tiff

from wsi_deform.annotation.classes import class_table_from_data
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.mask.ome_zarr import write_ome_zarr
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.slide.slide import Slide

SIZE = Size(700, 501)
COLOURS = {1: (230, 159, 0), 2: (0, 114, 178)}
CLEAR = (0, 255)  # background and unlabelled pixels
CLASSES = class_table_from_data(
    [
        {"name": "background", "color": [220, 220, 220]},
        {"name": "gland", "color": list(COLOURS[1])},
        {"name": "stroma", "color": list(COLOURS[2])},
    ],
    "table",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A mask of three classes whose right side is unlabelled, as TIFF and as OME-Zarr."""
    folder = tmp_path_factory.mktemp("napari")
    path = write_tiff(folder / "s.tif", [picture(SIZE.width, SIZE.height)], tile=(64, 64))
    field = FieldSamples(
        kept=Region(0, 0, 600, SIZE.height),
        points_px=np.random.default_rng(0).random((40, 2)) * [SIZE.width, SIZE.height],
        labels=np.arange(40, dtype=np.uint8) % 3,
    )
    mask, zarr = folder / "s.ome.tif", folder / "s.ome.zarr"
    sampler = ReverseSampler([field], size=SIZE, tile_px=64, outside_label=255)
    write_mask(mask, sampler.tiles(), size=SIZE, mpp=0.25, tile_px=64)
    write_ome_zarr(zarr, mask, Slide(path, mpp=Point(0.25, 0.26)), CLASSES, shard_px=256)
    return mask, zarr


def layers_of(reader: str, path: Path) -> list[Any]:
    """What napari makes of a file that is opened with a reader, by its module."""
    components = pytest.importorskip("napari.components", reason="needs napari")
    module = pytest.importorskip(reader, reason=f"needs {reader.partition('.')[0]}")
    viewer = components.ViewerModel()
    for data, options, kind in module.napari_get_reader(str(path))(str(path)):
        getattr(viewer, f"add_{kind}")(data, **options)
    return list(viewer.layers)


def test_classes_lie_on_the_slide_as_labels_in_their_colours_and_in_um(written: tuple[Path, Path]):
    mask, zarr = written
    *_, labels = layers_of("napari_ome_zarr._reader", zarr)
    assert (type(labels).__name__, labels.visible) == ("Labels", False)
    assert list(labels.features["class"]) == ["background", "gland", "stroma", "unlabelled"]
    with tifffile.TiffFile(mask) as tiff:
        levels = [level.asarray() for level in tiff.series[0].levels]
    assert len(labels.data) == len(levels)
    for found, expected in zip(labels.data, levels, strict=True):
        np.testing.assert_array_equal(np.asarray(found), expected)
    np.testing.assert_allclose(labels.scale, [0.26, 0.25])
    for value, colour in COLOURS.items():
        np.testing.assert_allclose(labels.get_color(value), [*(part / 255 for part in colour), 1], atol=1e-6)
    for value in CLEAR:
        shown = labels.get_color(value)
        assert shown is None or shown[3] == 0


def test_the_tiff_is_an_image_of_class_numbers(written: tuple[Path, Path]):
    (layer,) = layers_of("napari_tiff.napari_tiff_reader", written[0])
    assert (type(layer).__name__, layer.multiscale, layer.rgb) == ("Image", True, False)
    np.testing.assert_array_equal(np.asarray(layer.data[0]), tifffile.imread(written[0]))
    np.testing.assert_allclose(layer.scale, [0.25, 0.25])
