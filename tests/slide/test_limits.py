"""What claims too much is refused before anything is allocated or decoded for it; what is large and true is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from claims import flat, slides, tiff_file, zarr_folder
from PIL import Image
from slide_files import picture, pyramid, write_ome_zarr, write_tiff

from wsi_deform import limits
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.errors import AnnotationError, ConfigError, SlideError
from wsi_deform.geometry import Size
from wsi_deform.look.tissue_file import open_tissue_raster
from wsi_deform.slide.open import open_slide

# A child that has imported us uses each file in turn: CPU seconds, what was raised, and the memory above the start.
USE = """
import json, resource, sys, time
import wsi_deform.slide.zarr_reader
from wsi_deform.errors import WsiDeformError
from wsi_deform.slide.open import open_slide

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

start = peak()
for path in sys.argv[1:]:
    began, said = time.process_time(), "used"
    try:
        slide = open_slide(path)
        slide.read_tile(0, 0, 0)
    except WsiDeformError as error:
        said = str(error)
    print(json.dumps([path, said, time.process_time() - began, peak() - start]))
"""


def test_claims_are_refused_in_a_second_and_200_mib(tmp_path: Path):
    pytest.importorskip("resource")
    expected = slides(tmp_path)
    child = subprocess.run(
        [sys.executable, "-c", USE, *map(str, expected)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    rows = [json.loads(line) for line in child.stdout.splitlines()]
    assert len(rows) == len(expected)
    for path, said, seconds, mib in rows:
        assert expected[Path(path)] in said, f"{path}: {said}"
        assert said.startswith(str(path)), said
        assert (seconds < 1, mib < 200) == (True, True), f"{path}: {seconds} s, {mib} MiB"


def test_bombs_of_other_codecs_give_no_more_than_the_tile(tmp_path: Path):
    lzw = imagecodecs.lzw_encode(bytes(1 << 24))
    (tmp_path / "a.tif").write_bytes(tiff_file(size=(300, 300), data=lzw, compression=5))
    assert open_slide(tmp_path / "a.tif").read_tile(0, 0, 0).shape == (256, 256, 3)


def test_a_slide_of_200_000_px_in_tiles_of_4096_is_read(tmp_path: Path):
    data = imagecodecs.jpeg8_encode(flat(4096, 4096), level=80)
    (tmp_path / "a.tif").write_bytes(
        tiff_file(size=(200_000, 200_000), tile=(4096, 4096), data=data, compression=7)
    )
    slide = open_slide(tmp_path / "a.tif")
    assert slide.size == Size(200_000, 200_000)
    assert abs(slide.read_tile(0, 48, 48).astype(int) - 200).max() <= 2


def test_limits_are_raised_and_lowered_by_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_tiff(tmp_path / "a.tif", pyramid(), tile=(128, 128))
    zarr_path = write_ome_zarr(tmp_path / "a.zarr", pyramid())
    monkeypatch.setenv("WSI_DEFORM_MAX_TILE_MIB", "0.01")
    for each in (path, zarr_path):
        with pytest.raises(
            SlideError, match=r"Needed at most 0\.01 MiB .*set WSI_DEFORM_MAX_TILE_MIB to 1 or more"
        ):
            open_slide(each)
    monkeypatch.setenv("WSI_DEFORM_MAX_TILE_MIB", "1")
    assert open_slide(path).size == open_slide(zarr_path).size == Size(453, 331)
    monkeypatch.setenv("WSI_DEFORM_MAX_SLIDE_GPX", "1e-4")
    with pytest.raises(SlideError, match=r"declares 453 x 331 px, 0\.00015 gigapixels"):
        open_slide(write_tiff(tmp_path / "b.tif", pyramid(), tile=(128, 128)))


@pytest.mark.parametrize("text", ["much", "-1", "0", "nan", "inf"])
def test_a_variable_that_is_no_positive_number_is_named(monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("WSI_DEFORM_MAX_TEXT_MIB", text)
    with pytest.raises(ConfigError, match=f"WSI_DEFORM_MAX_TEXT_MIB='{text}' .* a positive number of MiB"):
        _ = limits.TEXT.value


def test_every_limit_is_on_its_page():
    page = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    for each in limits.ALL:
        assert f"| `{each.variable}` | {each.default:g} {each.unit} |" in page


def test_sharded_and_filtered_arrays_are_read(tmp_path: Path):
    import zarr

    stored = picture(700, 600).transpose(2, 0, 1)
    for name, how in {
        "shards": {"chunks": (3, 128, 128), "shards": (3, 512, 512)},
        "gzip": {"chunks": (3, 256, 256), "compressors": zarr.codecs.GzipCodec()},
        "blosc": {"chunks": (3, 256, 256), "compressors": zarr.codecs.BloscCodec(cname="zstd")},
        "none": {"chunks": (3, 256, 256), "compressors": None},
    }.items():
        path = zarr_folder(tmp_path / f"{name}.zarr", {})
        array = zarr.open_group(str(path)).create_array(
            "0", shape=stored.shape, dtype="u1", overwrite=True, **how
        )
        array[...] = stored
        slide = open_slide(path)
        np.testing.assert_array_equal(slide.read_region(0, slide.region), picture(700, 600))


def test_masks_and_tissue_masks_claim_no_more_than_slides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    classes = ClassTable(names=("a", "b"), colours=((0, 0, 0), (9, 9, 9)), values=((0,), (1,)))
    stored = zlib.compress(bytes(256 * 256))
    (tmp_path / "tile.tif").write_bytes(
        tiff_file(size=(60_000, 60_000), tile=(30_000, 30_000), data=stored, channels=1)
    )
    Image.fromarray(np.zeros((300, 400), np.uint8)).save(tmp_path / "large.png")
    monkeypatch.setenv("WSI_DEFORM_MAX_PICTURE_MIB", "0.1")
    for name, said in {"tile.tif": "tiles of 30000 x 30000 px", "large.png": "declares 400 x 300 px"}.items():
        with pytest.raises(AnnotationError, match=rf"mask .*{name}.*{said}"):
            open_label_mask(tmp_path / name, slide_size=Size(60_000, 60_000), classes=classes)
        with pytest.raises(SlideError, match=said):
            open_tissue_raster(tmp_path / name, Size(100, 100))


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
def test_unknown_codecs_are_refused_by_name(tmp_path: Path):
    about = {"codecs": [{"name": "numcodecs.zfpy", "configuration": {"id": "zfpy"}}]}
    with pytest.raises(SlideError, match="codec 'zfpy'. Needed at most one compression of blosc"):
        open_slide(zarr_folder(tmp_path / "a.zarr", about))
