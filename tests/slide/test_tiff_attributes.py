"""What is asked of tifffile: names that are public in every version which pyproject allows.

Versions that this Python cannot have are tried by keeping to this list, which was compared with tifffile 2026.3.3
(`TiffPageSeries.get_axes`, gone in 2026.5.2, is not on it) and 2026.11.8.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from slide_files import picture, pyramid, write_ome_tiff, write_svs, write_tiff

from wsi_deform.geometry import Region
from wsi_deform.slide.tiff import index as index_module
from wsi_deform.slide.tiff.tiles import TiffTiles

ALLOWED = {
    "TiffFile": {
        "series", "pages", "is_svs", "is_ome", "is_qpi", "is_imagej", "is_shaped", "is_ndpi", "is_scn", "is_philips",
        "is_bif", "filehandle", "byteorder",
    },
    "TiffPageSeries": {"levels", "axes", "shape", "pages", "keyframe", "kind", "name"},
    "TiffPages": {"first"},
    "TiffPage": {
        "keyframe", "parent", "tags", "subifds", "pages", "aspage", "decode", "jpegtables", "colormap", "description",
        "imagewidth", "imagelength", "imagedepth", "tilewidth", "tilelength", "rowsperstrip", "is_tiled",
        "samplesperpixel", "bitspersample", "sampleformat", "dtype", "planarconfig", "photometric", "compression",
        "predictor", "fillorder", "extrasamples", "subfiletype", "dataoffsets", "databytecounts",
        "shape",
    },
    "TiffTags": {"valueof"},
    "FileHandle": {"path"},
}  # fmt: skip
# A frame is a page that shares tags; series are a list in older versions.
KINDS = {"TiffFrame": "TiffPage", "TiffSeries": "list"}
WATCHED = ("TiffFile", "TiffPageSeries", "TiffPages", "TiffPage", "TiffTags", "FileHandle", "list")


class Watched:
    """Stands for an object of tifffile and notes which attributes it is asked for."""

    def __init__(self, held: Any, seen: dict[str, set[str]]) -> None:
        self.held, self.seen = held, seen

    def __getattr__(self, name: str) -> Any:
        kind = type(self.held).__name__
        self.seen[KINDS.get(kind, kind)].add(name)
        found = getattr(self.held, name)
        if callable(found) and name == "aspage":
            return lambda: watched(found(), self.seen)
        return watched(found, self.seen)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *how: object) -> None:
        self.held.close()

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, which: Any) -> Any:
        found = self.held[which]
        return (
            [watched(one, self.seen) for one in found]
            if isinstance(which, slice)
            else watched(found, self.seen)
        )

    def __iter__(self) -> Any:
        return (watched(one, self.seen) for one in self.held)


def watched(found: Any, seen: dict[str, set[str]]) -> Any:
    kind = type(found).__name__
    return Watched(found, seen) if KINDS.get(kind, kind) in WATCHED else found


@pytest.mark.parametrize(
    "kind", ["svs", "ome", "ome channels", "subifds", "strips", "raw", "palette", "separate"]
)
def test_only_public_attributes_of_all_versions_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    path = draw(tmp_path, kind)
    expected = tifffile.imread(path)
    seen: dict[str, set[str]] = defaultdict(set)
    real = tifffile.TiffFile
    monkeypatch.setattr(index_module.tifffile, "TiffFile", lambda *a, **how: Watched(real(*a, **how), seen))
    tiles = TiffTiles(path)
    monkeypatch.undo()
    pixels = tiles.read_region(0, Region.whole(tiles.size))
    if kind in ("ome channels", "separate"):
        expected = np.moveaxis(expected, 0, 2)
    np.testing.assert_array_equal(pixels.reshape(expected.shape), expected)
    assert {"pages", "is_svs"} <= seen["TiffFile"]
    if kind == "ome channels":
        assert {"axes", "shape", "levels", "kind"} <= seen["TiffPageSeries"]
    if kind == "ome":  # images of one plane each are followed by their pages alone
        assert not seen["TiffPageSeries"]
    assert {"imagewidth", "dataoffsets"} <= seen["TiffPage"]
    unknown = {f"{kind}.{name}" for kind, names in seen.items() for name in names - ALLOWED.get(kind, set())}
    assert unknown == set()


def draw(folder: Path, kind: str) -> Path:
    path = folder / "a.tif"
    if kind == "svs":
        return write_svs(folder / "a.svs", pyramid())
    if kind == "ome":
        return write_ome_tiff(folder / "a.ome.tif", pyramid())
    if kind in ("ome channels", "separate"):
        planes = np.moveaxis(picture(90, 70), 2, 0)
        how = {"photometric": "rgb", "planarconfig": "separate", "metadata": None}
        if kind == "ome channels":
            path, how = folder / "a.ome.tif", {"photometric": "minisblack", "metadata": {"axes": "CYX"}}
        tifffile.imwrite(path, planes, tile=(64, 64), **how)
        return path
    if kind == "palette":
        colormap = np.zeros((3, 256), np.uint16)
        tifffile.imwrite(
            path, picture(90, 70)[..., 0], tile=(64, 64), photometric="palette", colormap=colormap
        )
        return path
    how = {
        "subifds": {"subifds": True, "tile": (64, 64), "compression": "deflate"},
        "strips": {"rowsperstrip": 50, "compression": "lzw"},
        "raw": {"rowsperstrip": 50, "byteorder": ">"},
    }[kind]
    return write_tiff(path, pyramid(), **how)
