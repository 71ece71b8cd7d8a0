"""The first page of a TIFF, read without a library, says what tifffile and OpenSlide say."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from wsi_deform.slide import detect
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.tiff.first_page import first_page, is_aperio

PIXELS = np.zeros((64, 64, 3), np.uint8)
APERIO = "Aperio Image Library v11\n64x64 (16x16) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"


def _written(path: Path, **said: object) -> Path:
    given = {"tile": (16, 16), "photometric": "rgb", "description": APERIO, "metadata": None, **said}
    big = given.pop("bigtiff", False)
    order = given.pop("byteorder", "<")
    with tifffile.TiffWriter(path, bigtiff=bool(big), byteorder=order) as file:  # type: ignore[arg-type]
        file.write(PIXELS, **given)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tags_and_texts_are_those_of_tifffile(tmp_path: Path, bigtiff: bool, byteorder: str):
    path = _written(tmp_path / "a.svs", bigtiff=bigtiff, byteorder=byteorder, software="abc")
    with tifffile.TiffFile(path) as tif:
        expected = {tag.code for tag in tif.pages.first.tags}
    with path.open("rb") as file:
        page = first_page(file)
        assert page is not None
        assert set(page.entries) == expected
        assert page.text(270, 12, file) == b"Aperio Image"
        assert page.text(305, 2, file) == b"ab"  # lies in its entry
        assert page.text(256, 4, file) == b""  # a number
        assert page.text(33432, 4, file) == b""  # none
        assert (page.is_zero(256), page.is_zero(254), page.is_zero(270), page.is_zero(33432)) == (
            False,
            True,
            False,
            True,
        )


@pytest.mark.parametrize(
    ("said", "vendor"),
    [
        ({}, "aperio"),
        ({"bigtiff": True}, "aperio"),
        ({"byteorder": ">"}, None),
        ({"description": "Apero Image Library"}, "generic-tiff"),
        ({"description": "Ape"}, "generic-tiff"),
        ({"tile": None}, None),
        ({"software": "MedScan 2"}, "trestle"),
    ],
)
def test_aperio_is_what_openslide_calls_so(tmp_path: Path, said: dict[str, object], vendor: str | None):
    path = _written(tmp_path / "a.svs", **said)
    assert openslide.OpenSlide.detect_format(path) == vendor
    assert is_aperio(path) == (vendor == "aperio")


def test_hamamatsu_comes_before_aperio(tmp_path: Path):
    path = _written(tmp_path / "a.tif", extratags=[(65420, 4, 1, 1, True)])
    assert openslide.OpenSlide.detect_format(path) != "aperio"
    assert not is_aperio(path)


def test_what_is_cut_off_or_wild_has_no_first_page(tmp_path: Path):
    whole = _written(tmp_path / "a.svs").read_bytes()
    (place,) = struct.unpack_from("<I", whole, 4)
    bad = [
        b"",
        whole[:12],
        whole[: place + 1],
        whole[: place + 20],
        b"XX" + whole[2:],
        whole[:4] + struct.pack("<I", 1 << 31) + whole[8:],
        whole[:place] + struct.pack("<H", 60000) + whole[place + 2 :],
        b"II+\0\x08\0\0\0" + b"\xff" * 16,
    ]
    assert [first_page(io.BytesIO(data)) for data in bad] == [None] * len(bad)
    assert not is_aperio(tmp_path / "none.svs")


def test_pages_of_ndpi_are_found_by_eight_bytes():
    entry = struct.pack("<HHIf", 65451, 11, 1, 0.0)
    data = b"II*\0" + struct.pack("<Q", 16) + bytes(4) + struct.pack("<H", 1) + entry
    page = first_page(io.BytesIO(data), is_ndpi=True)
    assert page is not None
    assert page.is_zero(65451)


def test_openslide_is_not_asked_what_aperio_and_pictures_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def detect_vendor(path: Path) -> str | None:
        asked.append(path.name)
        return None

    monkeypatch.setattr(detect, "detect_vendor", detect_vendor)
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg")
    _written(tmp_path / "a.svs")
    _written(tmp_path / "b.tif", description="something else")
    vendors = [open_slide(path).info.vendor for path in sorted(tmp_path.iterdir())]
    assert vendors == ["jpeg-image", "png-image", "aperio", "generic-tiff"]
    assert asked == ["b.tif"]
