import math
import struct
import time
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
import zarr
from PIL import Image, TiffImagePlugin

from wsi_deform.geometry import Point, Size
from wsi_deform.slide.mpp.claims import Claim, Source, claim_of_power, pixel_shape, scale_from_claims
from wsi_deform.slide.mpp.texts import (
    claims_of_description,
    claims_of_imagej,
    claims_of_ome_xml,
    claims_of_tags,
)
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.resolution import positive_or_none, um_per_unit

PICTURE = np.full((80, 96, 3), 200, np.uint8)
TILED = {"photometric": "rgb", "tile": (32, 32), "compression": "deflate", "metadata": None}
APERIO = "Aperio Image Library v11.2.1 \r\n96x80 [0,0 96x80] (32x32) JPEG/RGB Q=70"


def scale_of(description: str):
    return scale_from_claims(list(claims_of_description(description)))


def written(path: Path, **options) -> Path:
    tifffile.imwrite(path, PICTURE, **(TILED | options))
    return path


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.25", 0.25), ("0,2520", 0.252), (" 1.234,5 ", 1234.5), ("1,234.5", 1234.5), ("2,5e-1", 0.25),
     ("1'234.5", 1234.5), ("\u0660\u066b\u0665", 0.5), ("0", None), ("-1", None), ("inf", None), ("nan", None),
     ("0.25 um", None), ("", None)],
)  # fmt: skip
def test_numbers_are_read_in_any_locale(text: str, number: float | None):
    assert positive_or_none(text) == number


@pytest.mark.parametrize(
    ("name", "um"),
    [("\u00b5m", 1.0), ("\u03bcm", 1.0), ("\\u00B5m", 1.0), ("\u00c2\u00b5m", 1.0), ("Microns", 1.0), ("um/px", 1.0),
     ("micrometers per pixel", 1.0), ("nm", 1e-3), ("mm", 1e3), ("Mm", 1e12), ("cm", 1e4), ("inch", 25400.0),
     ("Inches", 25400.0), ("angstrom", 1e-4), ("\u212b", 1e-4), ("pixel", None), ("reference frame", None), ("", None),
     (None, None), (3, None)],
)  # fmt: skip
def test_units_are_told_by_any_of_their_names(name: object, um: float | None):
    assert um_per_unit(name) == um


@pytest.mark.parametrize(
    ("description", "x", "y"),
    [
        (f"{APERIO}|AppMag = 20|MPP = 0,500000", 0.5, 0.5),
        ("Aperio Image, Grundium Ocus\n|MPP =0.496094|AppMag=20", 0.496094, 0.496094),
        ("Motic V1.0.0 9x8 [0,0 9x8] [512x512] JPEG/RGB Q = 75|AppMag = 40|MPP = 0.257290", 0.25729, 0.25729),
        ("mppx=0.25;mppy=0.5", 0.25, 0.5),
        ("openslide.mpp-x: 0.25\nopenslide.mpp-y: 0.25", 0.25, 0.25),
        ('{"mm_x": 0.00025, "mm_y": 0.0005}', 0.25, 0.5),
        ('{"axes": "YXS", "PhysicalSizeX": 0.00025, "PhysicalSizeXUnit": "mm"}', 0.25, 0.25),
        ("<Info><PixelSizeMicrons>0,5</PixelSizeMicrons></Info>", 0.5, 0.5),
        ('<iScan Magnification="40" ScanRes="0,25"/>', 0.25, 0.25),
        ("Pixel Size = 0.25 um; Objective Power=40", 0.25, 0.25),
        ("pixel width = 500 nm\npixel height = 1 micron/pixel", 0.5, 1.0),
        ("Huron\nResolution = 0.4\u00b5m\n", 0.4, 0.4),
        ("microns per pixel: 0.23", 0.23, 0.23),
        ("MPP=0.252, AppMag=40", 0.252, 0.252),
        ('{"mpp": [0.5, 0.25]}', 0.5, 0.25),
        ('{"mpp":[0.5,0.25],"a":1}', 0.5, 0.25),
        ("mpp = (0.5; 0.25)", 0.5, 0.25),
        ("label.mpp = 8.0; mpp = 0.5", 0.5, 0.5),
        (f"{APERIO}|Macro MPP = 8.0|MPP = 0.5", 0.5, 0.5),
    ],
)
def test_texts_of_any_vendor_say_the_scale(description: str, x: float, y: float):
    found = scale_of(description)
    assert found.mpp_xy == Point(pytest.approx(x), pytest.approx(y))
    assert found.source.endswith("in the ImageDescription")


@pytest.mark.parametrize(
    "description",
    ["Resolution = 0.4", "Resolution: 2 pixels per micron", "Pixel Size = 0.25", "Laser Power = 40", "MPP = none",
     "thumbnail_mpp=3", "Macro MPP = 8.0", "overview: mpp = 8", "", "x" * 100_000 + "|MPP = 0.25"],
)  # fmt: skip
def test_texts_that_say_nothing_certain_give_no_scale(description: str):
    assert scale_of(description).mpp_xy is None


@pytest.mark.parametrize(
    ("lines", "per_unit", "mpp"),
    [("unit=micron", 2.0, 0.5), ("unit=\\u00B5m", 4.0, 0.25), ("unit=\u00b5m", 4.0, 0.25), ("unit=cm", 20000.0, 0.5),
     ("unit=inch", 101600.0, 0.25), ("unit=nm", 0.002, 0.5), ("unit=pixel", 1.0, None), ("", 2.0, None)],
)  # fmt: skip
def test_imagej_says_what_its_resolution_is_per(lines: str, per_unit: float, mpp: float | None):
    claims = list(claims_of_imagej(f"ImageJ=1.54f\nimages=1\n{lines}\nloop=false\n", per_unit, per_unit))
    assert scale_from_claims(claims).mpp == (None if mpp is None else pytest.approx(mpp))


def test_imagej_may_have_another_unit_along_y():
    (claim,) = claims_of_imagej("ImageJ=1.54f\nunit=micron\nyunit=nm\n", 2.0, 0.002)
    assert claim.mpp == Point(0.5, 0.5)


def test_ome_xml_speaks_of_the_image_of_the_slides_size():
    xml = (
        "<OME><Image><Pixels SizeX='10' SizeY='5' PhysicalSizeX='8' PhysicalSizeY='8'/></Image>"
        "<Image><Pixels SizeX='1000' SizeY='500' PhysicalSizeX='250' PhysicalSizeXUnit='nm' PhysicalSizeY='0.5'/>"
        "</Image></OME>"
    )
    assert [claim.mpp for claim in claims_of_ome_xml(xml, Size(1000, 500))] == [Point(0.25, 0.5)]
    assert [claim.mpp for claim in claims_of_ome_xml(xml, Size(7, 7))] == [Point(8.0, 8.0)]


def test_a_tiff_without_a_resolution_unit_counts_in_inches_as_openslide_has_it(tmp_path: Path):
    path = written(tmp_path / "a.tif", resolution=(50800, 25400), resolutionunit=2)
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].tags["ResolutionUnit"].offset
    data = bytearray(path.read_bytes())
    data[at : at + 2] = struct.pack("<H", 65000)  # a tag that nobody knows
    path.write_bytes(data)
    with openslide.OpenSlide(str(path)) as other:
        assert float(other.properties["openslide.mpp-x"]) == 0.5
    slide = open_slide(path)
    assert (slide.mpp_xy, slide.mpp_source) == (Point(0.5, 1.0), "the TIFF resolution tags")


def test_an_svs_of_a_comma_locale_is_read_as_openslide_has_it(tmp_path: Path):
    path = written(tmp_path / "a.svs", description=f"{APERIO}|AppMag = 20|MPP = 0,4990", compression="jpeg")
    with openslide.OpenSlide(str(path)) as other:
        assert float(other.properties["openslide.mpp-x"]) == 0.499
    slide = open_slide(path)
    assert (slide.mpp, slide.mpp_source, slide.remarks) == (0.499, "MPP in the ImageDescription", ())


def test_an_svs_without_mpp_is_read_from_its_tags(tmp_path: Path):
    text = f"{APERIO}|AppMag = 20"
    path = written(tmp_path / "a.svs", description=text, resolution=(20000, 20000), resolutionunit=3)
    assert (open_slide(path).mpp, open_slide(path).remarks) == (0.5, ())


@pytest.mark.parametrize(("power", "mpp"), [("40", 0.25), ("20x", 0.5), ("10,0", 1.0)])
def test_the_objective_power_is_a_guess_and_called_so(tmp_path: Path, power: str, mpp: float):
    slide = open_slide(written(tmp_path / "a.svs", description=f"{APERIO}|AppMag = {power}"))
    assert slide.mpp == mpp
    (remark,) = slide.remarks
    assert f"{mpp:g} um per pixel is a guess from the objective power" in remark


def test_openslides_generic_tiffs_are_read_from_the_vendors_text(tmp_path: Path):
    from wsi_deform.slide.openslide_reader import OpenSlideReader

    path = written(
        tmp_path / "a.tif", description="Motic V1.0.0|AppMag = 40|MPP = 0.257290", compression="jpeg"
    )
    assert OpenSlideReader(path).info.mpp == 0.25729


def test_pillows_imagej_and_dpi_tags_are_told_apart(tmp_path: Path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "ImageJ=1.53t\nunit=micron\n"
    Image.fromarray(PICTURE).save(tmp_path / "a.tif", tiffinfo=tags, x_resolution=4.0, y_resolution=4.0)
    Image.fromarray(PICTURE).save(tmp_path / "b.tif", dpi=(300, 300))
    assert open_slide(tmp_path / "a.tif").mpp == 0.25
    assert open_slide(tmp_path / "b.tif").mpp_or_none is None


def ngff(path: Path, unit: str | None, scale=(1.0, 0.0005, 0.00025)) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=2)
    pixels = PICTURE.transpose(2, 0, 1)
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, chunks=(3, 64, 64))[:] = pixels
    space = {} if unit is None else {"unit": unit}
    axes = [{"name": "c", "type": "channel"}, *({"name": name, "type": "space"} | space for name in "yx")]
    transforms = [{"type": "scale", "scale": list(scale)}]
    datasets = [{"path": "0", "coordinateTransformations": transforms}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    return path


def test_ome_zarr_has_the_scale_of_its_unit_along_both_axes(tmp_path: Path):
    slide = open_slide(ngff(tmp_path / "a.ome.zarr", "millimeter"))
    assert slide.mpp_xy == Point(0.25, 0.5)
    assert slide.mpp == pytest.approx(math.sqrt(0.125))
    assert open_slide(ngff(tmp_path / "b.ome.zarr", None)).mpp_or_none is None


def claim(source: Source, x: float, y: float | None = None, *, has_unit: bool = False) -> Claim:
    return Claim(source=source, mpp=Point(x, x if y is None else y), has_unit=has_unit)


def test_the_most_trusted_source_is_taken_whatever_the_order():
    found = scale_from_claims([claim(Source.TAGS, 0.5), *claim_of_power(20), claim(Source.OME, 0.501)])
    assert (found.mpp, found.remarks) == (0.501, ())
    assert found.source == "PhysicalSizeX and PhysicalSizeY of the OME-XML"


@pytest.mark.parametrize("factor", [10, 25.4, 100, 1000])
def test_a_mistaken_unit_is_noticed_where_two_sources_differ_by_it(factor: float):
    for taken, other in ((0.25, 0.25 * factor), (0.25 * factor, 0.25)):
        found = scale_from_claims([claim(Source.TEXT, taken), claim(Source.TAGS, other)])
        assert f"(a factor of {factor:g})" in " ".join(found.remarks), (taken, other)
        assert found.mpp == (0.25 if factor >= 100 else taken)  # what no microscope has is not believed


def test_a_disagreement_is_remarked_upon_with_both_numbers():
    (remark,) = scale_from_claims([claim(Source.TEXT, 0.25), claim(Source.TAGS, 0.5)]).remarks
    assert "the TIFF resolution tags say 0.5 um per pixel, but the ImageDescription says 0.25" in remark
    assert "(2 times)" in remark
    assert not scale_from_claims([claim(Source.TEXT, 0.25), claim(Source.TAGS, 0.252)]).remarks


def test_an_objective_that_does_not_fit_is_remarked_upon():
    (remark,) = scale_from_claims([claim(Source.TEXT, 2.5), *claim_of_power(40)]).remarks
    assert "the objective power (40x) says about 0.25 um per pixel" in remark
    assert not scale_from_claims([claim(Source.TEXT, 0.24), *claim_of_power(20)]).remarks


def test_what_no_light_microscope_has_is_believed_only_with_its_unit_and_a_remark():
    found = scale_from_claims([claim(Source.OME, 0.004, has_unit=True)])
    assert found.mpp == 0.004
    assert "outside what light microscopes have" in found.remarks[0]
    found = scale_from_claims([claim(Source.OME, 250.0)])
    assert found.mpp is None
    assert "250 um per pixel, which no light microscope has" in found.remarks[0]


def test_a_printers_dpi_is_no_scale_and_no_news():
    for per_unit, unit in ((72.0, 2), (300.0, 2), (1.0, 1), (28.35, 3)):
        found = scale_from_claims([claim(Source.TEXT, 0.25), *claims_of_tags(per_unit, per_unit, unit)])
        assert (found.mpp, found.remarks) == (0.25, ())


def test_pixels_that_are_not_square_are_said_beyond_one_percent():
    assert not scale_from_claims([claim(Source.OME, 0.25, 0.2524)]).remarks
    (remark,) = scale_from_claims([claim(Source.OME, 0.25, 0.5)]).remarks
    assert remark.startswith("pixels are not square: 0.25 x 0.5 um")


def test_convention_the_shape_of_a_pixel_has_area_one():
    assert pixel_shape(Point(0.25, 1.0)) == Point(0.5, 2.0)
    assert pixel_shape(Point(0.25, 0.2524)) == pixel_shape(None) == Point(1.0, 1.0)


def test_an_mpp_that_is_given_wins_and_says_what_it_contradicts(tmp_path: Path):
    path = written(tmp_path / "a.svs", description=f"{APERIO}|AppMag = 20|MPP = 5")
    assert len(open_slide(path).remarks) == 1
    slide = open_slide(path, mpp=0.5)
    assert (slide.mpp, slide.mpp_source) == (0.5, "the mpp that was given")
    (remark,) = slide.remarks
    assert "0.5 um per pixel and was taken; the file says 5 (10 times, as if a unit was mistaken" in remark
    assert open_slide(path, mpp=Point(4.0, 5.0)).mpp_xy == Point(4.0, 5.0)


@pytest.mark.parametrize(
    "text",
    ["mpp" + " " * 65_000, "mpp " * 16_000, "pixel size" * 6_500, "mpp=" + "1," * 30_000, "mpp=1 " + "u" * 60_000,
     "objective=" + "1" * 60_000 + "a", "x" * 65_000, "micron" * 10_000, "mpp=1 um" + " " * 60_000 + "per",
     "physicalsizex = 1 ," * 3_400, "mpp=[" + "1" * 60_000, "mpp=[1," * 8_000],
)  # fmt: skip
def test_hostile_texts_are_read_in_no_time(text: str):
    started = time.process_time()
    list(claims_of_description(text))
    list(claims_of_imagej(f"ImageJ=1\nunit={text}", 1.0, 1.0))
    list(claims_of_ome_xml(f"<OME><Pixels PhysicalSizeX='0.5' PhysicalSizeXUnit='{text}'/></OME>"))
    assert time.process_time() - started < 0.5
