"""Masks and maps as Bio-Formats, the reader of QuPath and Fiji, sees them.

Needs Java and ``bioformats_package.jar``, which the variable ``WSI_DEFORM_BIO_FORMATS`` names. The jar copies a file
with all of its resolutions into one of its own, which is compared with the first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.coloured import write_coloured
from wsi_deform.mask.footprint import FootprintMap
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

SIZE = Size(3001, 1803)
LATTICE = Size(30, 20)
NAMES = ("background", "tumour & more", "\N{GREEK SMALL LETTER BETA}")
SPACE = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}


@pytest.fixture(scope="module")
def jar() -> Path:
    named = os.environ.get("WSI_DEFORM_BIO_FORMATS")
    if named is None or shutil.which("java") is None:
        pytest.skip("needs Java, and WSI_DEFORM_BIO_FORMATS naming bioformats_package.jar")
    return Path(named)


@pytest.fixture(scope="module")
def field() -> FieldSamples:
    columns, rows = np.meshgrid(
        (np.arange(LATTICE.width) + 0.5) / LATTICE.width, (np.arange(LATTICE.height) + 0.5) / LATTICE.height
    )
    shares = np.random.default_rng(0).dirichlet([0.3] * 3, LATTICE.area)
    return FieldSamples(
        kept=Region.whole(SIZE),
        points_px=np.stack([columns * SIZE.width, rows * SIZE.height], axis=-1).reshape(-1, 2),
        labels=shares.argmax(axis=1).astype(np.uint8),
        probabilities=shares.astype(np.float32),
        lattice=LATTICE,
        areas_px=np.linspace(100, 90_000, LATTICE.area, dtype=np.float32),
    )


def copied(jar: Path, path: Path) -> Path:
    """What Bio-Formats sees in a file, all resolutions, as a file of its own."""
    copy = path.with_name(f"copy-{path.name.split('.')[0]}.ome.tif")
    done = subprocess.run(
        ["java", "-cp", str(jar), "loci.formats.tools.ImageConverter", "-noflat", str(path), str(copy)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "OME-TIFF" in done.stdout + done.stderr
    return copy


def test_bio_formats_sees_the_coloured_copy_as_rgb_of_all_resolutions(
    jar: Path, field: FieldSamples, tmp_path: Path
):
    mask, path = tmp_path / "m.ome.tif", tmp_path / "s.tif"
    write_mask(mask, ReverseSampler([field], size=SIZE).tiles(), size=SIZE, mpp=0.25)
    write_coloured(path, mask, classes=ClassTable.from_names(NAMES), mpp=0.25, slide_id="s")
    copy = copied(jar, path)
    own, seen = levels(path), levels(copy)
    assert [each.shape for each in own] == [(1803, 3001, 3), (902, 1501, 3), (451, 751, 3), (226, 376, 3)]
    assert len(seen) == len(own)
    for mine, theirs in zip(own, seen, strict=True):
        if theirs.shape[0] == 3:
            theirs = np.moveaxis(theirs, 0, -1)
        np.testing.assert_array_equal(mine, theirs)
    assert pixels_element(copy).get("PhysicalSizeX") == "0.25"


def levels(path: Path) -> list[np.ndarray]:
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.series) == 1
        return [level.asarray().squeeze() for level in tiff.series[0].levels]


def pixels_element(path: Path) -> ElementTree.Element:
    with tifffile.TiffFile(path) as tiff:
        return ElementTree.fromstring(tiff.ome_metadata).find("ome:Image/ome:Pixels", SPACE)


@pytest.mark.parametrize("kind", ["classic mask", "big mask", "probability map", "footprint map"])
def test_bio_formats_sees_all_resolutions_pixel_for_pixel(
    jar: Path, field: FieldSamples, tmp_path: Path, kind: str
):
    path = tmp_path / "s.ome.tif"
    if kind.endswith("mask"):
        limit = 1000 if kind == "big mask" else 2**32
        tiles = ReverseSampler([field], size=SIZE).tiles()
        about = {"classes": '{"\N{GREEK SMALL LETTER BETA}": 1} & <more>'}
        write_mask(path, tiles, size=SIZE, mpp=0.25, annotations=about, classic_limit_bytes=limit)
    elif kind == "probability map":
        colours = [(255, 255, 255), (255, 0, 16), (0, 128, 255)]
        settings = {"size": SIZE, "mpp": 0.25, "class_names": NAMES, "downsample": 2, "colours": colours}
        with ProbabilityMap(path, **settings) as writer:
            writer.add(field)
    else:
        with FootprintMap(path, size=SIZE, mpp=0.25, downsample=2) as writer:
            writer.add(field)
    copy = copied(jar, path)
    own, seen = levels(path), levels(copy)
    assert len(own) > 1
    assert len(seen) == len(own)
    for mine, theirs in zip(own, seen, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    expected, found = pixels_element(path), pixels_element(copy)
    for name in ("PhysicalSizeX", "PhysicalSizeY", "SizeX", "SizeY", "SizeC", "Type"):
        assert found.get(name) == expected.get(name)
    assert found.get("PhysicalSizeXUnit", "\N{MICRO SIGN}m") == "\N{MICRO SIGN}m"
    for name in ("Name", "Color"):
        listed = [[each.get(name) for each in of.iterfind("ome:Channel", SPACE)] for of in (expected, found)]
        assert listed[0] == listed[1]
