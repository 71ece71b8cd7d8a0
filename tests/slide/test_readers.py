"""Every reader passes the contract, on drawn files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from reader_contract import Case, ReaderContract
from slide_files import picture, pyramid, write_ome_tiff, write_ome_zarr, write_svs, write_tiff

from wsi_deform.slide.counting import CountingReader
from wsi_deform.slide.image_reader import ImageReader
from wsi_deform.slide.levels.virtual import VirtualReader
from wsi_deform.slide.openslide_reader import OpenSlideReader
from wsi_deform.slide.tiff.reader import TiffReader
from wsi_deform.slide.zarr_reader import ZarrReader

DRAWN: dict[object, tuple[Path, list[np.ndarray]]] = {}


def drawn_once(
    key: object, factory: pytest.TempPathFactory, draw: Callable[[Path], tuple[Path, list[np.ndarray]]]
):
    """The file and its decoded levels, drawn for the first test that asks."""
    if key not in DRAWN:
        DRAWN[key] = draw(factory.mktemp("drawn"))
    return DRAWN[key]


def decoded(path: Path) -> list[np.ndarray]:
    with tifffile.TiffFile(path) as tif:
        return [level.asarray() for level in tif.series[0].levels]


TIFFS = {
    "jpeg_ycbcr": {"compression": "jpeg", "photometric": "ycbcr", "tile": (128, 128), "subsampling": (2, 2)},
    "jpeg_rgb": {"compression": "jpeg", "photometric": "rgb", "tile": (112, 112)},
    "deflate": {"compression": "deflate", "tile": (64, 128), "predictor": True},
    "lzw_subifds": {"compression": "lzw", "tile": (128, 128), "subifds": True},
    "jpeg2000": {"compression": "jpeg2000", "tile": (128, 128)},
    "zstd": {"compression": "zstd", "tile": (128, 128)},
    "webp": {"compression": "webp", "tile": (128, 128)},
    "packbits": {"compression": "packbits", "tile": (128, 128)},
    "unflagged_levels": {"compression": "deflate", "tile": (128, 128), "flagged": False},
    "raw_tiles_bigendian": {"byteorder": ">", "tile": (128, 128)},
    "raw_strips": {"byteorder": ">", "rowsperstrip": 50},
    "one_raw_strip": {"rowsperstrip": 331},
    "deflate_strips": {"compression": "deflate", "rowsperstrip": 64},
    "separate_planes": {"compression": "deflate", "tile": (128, 128), "planarconfig": "separate"},
    "separate_raw_strips": {"planarconfig": "separate", "rowsperstrip": 100},
}


class TestTiffReader(ReaderContract):
    @pytest.fixture(params=TIFFS)
    def case(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
        def draw(folder: Path):
            how = dict(TIFFS[request.param])
            planar = how.get("planarconfig") == "separate"
            levels = [level.transpose(2, 0, 1) if planar else level for level in pyramid()]
            path = folder / "a.tif"
            write_tiff(path, levels, resolution=(20000, 20000), resolutionunit="CENTIMETER", **how)
            return path, [level.transpose(1, 2, 0) if planar else level for level in decoded(path)]

        path, levels = drawn_once(request.param, tmp_path_factory, draw)
        return Case(TiffReader(path), levels, mpp=0.5)


class TestTiffReaderOnSvs(ReaderContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        path = write_svs(tmp_path / "a.svs", pyramid())
        return Case(TiffReader(path), decoded(path), mpp=0.499)


class TestTiffReaderOnOmeTiff(ReaderContract):
    @pytest.fixture(params=["interleaved", "planar", "paged"])
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> Case:
        levels = pyramid()
        path = tmp_path / "a.ome.tif"
        if request.param == "interleaved":
            write_ome_tiff(path, levels)
        else:
            planes = [level.transpose(2, 0, 1) for level in levels]
            how = {"planarconfig": "separate"} if request.param == "planar" else {"photometric": "minisblack"}
            axes = "SYX" if request.param == "planar" else "CYX"
            write_ome_tiff(path, planes, axes=axes, **how)
        return Case(TiffReader(path), levels, mpp=0.5)


class TestOpenSlideReader(ReaderContract):
    @pytest.fixture(params=["exact", "odd_sizes"])
    def case(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
        def draw(folder: Path):
            levels = pyramid(512, 768) if request.param == "exact" else pyramid(1203, 701)
            path = write_svs(folder / "a.svs", levels)
            expected = []
            with openslide.OpenSlide(path) as slide:
                for number, size in enumerate(slide.level_dimensions):
                    expected.append(np.asarray(slide.read_region((0, 0), number, size))[..., :3])
            for one, other in zip(expected, decoded(path), strict=True):
                np.testing.assert_array_equal(one, other)
            return path, expected

        path, levels = drawn_once(f"openslide_{request.param}", tmp_path_factory, draw)
        return Case(OpenSlideReader(path), levels, mpp=0.499)


class TestZarrReader(ReaderContract):
    @pytest.fixture(params=[("0.5", "cyx"), ("0.4", "tczyx"), ("0.5", "yxc"), ("0.4", "cyx")])
    def case(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
        def draw(folder: Path):
            version, axes = request.param
            levels = pyramid()
            return write_ome_zarr(folder / "a.zarr", levels, version=version, axes=axes, chunk=200), levels

        path, levels = drawn_once(request.param, tmp_path_factory, draw)
        return Case(ZarrReader(path), levels, mpp=0.5)


class TestImageReader(ReaderContract):
    @pytest.fixture(params=["png", "jpg", "bmp"])
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> Case:
        path = tmp_path / f"a.{request.param}"
        Image.fromarray(picture(501, 303)).save(path, dpi=(300, 300))
        with Image.open(path) as image:
            return Case(ImageReader(path), [np.asarray(image.convert("RGB"))])


def block_means(pixels: np.ndarray, side: int) -> np.ndarray:
    """Means over side x side blocks, rounded, over what exists at the edges."""
    rows, columns = np.arange(0, pixels.shape[0], side), np.arange(0, pixels.shape[1], side)
    ones = np.ones(pixels.shape, np.int64)
    sums, counts = (
        np.add.reduceat(np.add.reduceat(one.astype(np.int64), rows, axis=0), columns, axis=1)
        for one in (pixels, ones)
    )
    return ((sums + counts // 2) // counts).astype(np.uint8)


class TestVirtualReader(ReaderContract):
    @pytest.fixture
    def case(self, tmp_path_factory: pytest.TempPathFactory) -> Case:
        def draw(folder: Path):
            # 75 px strips: pairs of rows are split by tiles of odd height.
            level = picture(1301, 317)
            path = write_tiff(folder / "a.tif", [level], compression="deflate", rowsperstrip=75)
            return path, [level, block_means(level, 2), block_means(level, 4)]

        path, levels = drawn_once("virtual", tmp_path_factory, draw)
        return Case(VirtualReader(TiffReader(path)), levels)


class TestVirtualReaderWithSidecar(ReaderContract):
    @pytest.fixture
    def case(
        self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> Case:
        def draw(folder: Path):
            # Odd sides of slide and tiles: pairs are split by tiles along both axes.
            level = picture(1311, 603)
            path = write_tiff(folder / "a.tif", [level], compression="deflate", tile=(112, 208))
            return path, [level, *(block_means(level, 2**k) for k in (1, 2))]

        monkeypatch.setattr("wsi_deform.slide.levels.virtual.MAX_DECODED_BYTES", 0)
        monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "cache"))
        path, levels = drawn_once("sidecar", tmp_path_factory, draw)
        return Case(VirtualReader(TiffReader(path), key=lambda: "k" * 40), levels)


class TestCountingReader(ReaderContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        path = write_tiff(tmp_path / "a.tif", pyramid(), tile=(128, 128), compression="deflate")
        return Case(CountingReader(TiffReader(path)), decoded(path))
