"""A mistake of ours is never told as a damaged slide, and a damaged slide never as a mistake."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest
import tifffile
import zarr
from slide_files import pyramid, write_ome_zarr, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.tiff import index as index_module
from wsi_deform.slide.tiff.tiles import TiffTiles
from wsi_deform.slide.zarr_reader import ZarrReader


def module(name: str, code: str) -> ModuleType:
    """Lines that run as if they stood in a package of that name."""
    made = ModuleType(name)
    exec(compile(code, f"{name}.py", "exec"), made.__dict__)
    return made


def test_a_name_that_tifffile_no_longer_has_is_not_a_damaged_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_tiff(tmp_path / "a.tif", pyramid(), tile=(64, 64))
    older = module(
        "wsi_deform.older", "def images_in(tif, path):\n    return tif.series[0].get_levels(squeeze=False)\n"
    )
    monkeypatch.setattr(index_module, "images_in", older.images_in)
    with pytest.raises(AttributeError, match="get_levels") as caught:
        open_slide(path).size  # noqa: B018
    assert f"tifffile {tifffile.__version__}, not of the file" in caught.value.__notes__[0]


def test_a_mistake_while_a_tile_is_decoded_is_not_a_damaged_tile(tmp_path: Path):
    tiles = TiffTiles(write_tiff(tmp_path / "a.tif", pyramid(), tile=(64, 64), compression="deflate"))
    broken = module("wsi_deform.broken", "def decode(stored, segment):\n    return stored.no_such_name\n")
    plane = tiles.levels[0].planes[0]
    object.__setattr__(plane, "decode", broken.decode)
    with pytest.raises(AttributeError, match="no_such_name"):
        tiles.read_tile(0, 0, 0)


def test_a_mistake_while_ome_zarr_is_opened_is_not_a_damaged_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_ome_zarr(tmp_path / "a.zarr", pyramid())
    monkeypatch.setattr(zarr, "open_group", lambda store, **how: {}["group"])
    with pytest.raises(KeyError) as caught:
        ZarrReader(path)
    assert f"zarr {zarr.__version__}, not of the file" in caught.value.__notes__[0]


def test_what_tifffile_raises_on_damaged_bytes_stays_a_damaged_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = write_tiff(tmp_path / "a.tif", pyramid(), tile=(64, 64))
    code = "class TiffFile:\n    def __init__(self, *path, **how):\n        {}['tag']\n"
    monkeypatch.setattr(index_module.tifffile, "TiffFile", module("tifffile", code).TiffFile)
    version = re.escape(tifffile.__version__)
    with pytest.raises(
        SlideError, match=rf"cannot be read \(KeyError: 'tag'; tifffile {version}\).*copy or download"
    ):
        TiffTiles(path)


def test_what_zarr_wraps_in_a_group_is_said_as_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reader = ZarrReader(write_ome_zarr(tmp_path / "a.zarr", pyramid()))
    code = "class Array:\n    def __getitem__(self, part):\n        raise ExceptionGroup('', [OSError('lost')])\n"
    monkeypatch.setattr(reader, "_arrays", [module("zarr", code).Array()])
    with pytest.raises(SlideError, match=r"tile .* cannot be read \(OSError: lost; zarr 3"):
        reader.read_tile(0, 0, 0)
