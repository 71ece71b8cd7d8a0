"""The overlay as a file: what lies where in it, and another name in place of the slide's."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from drawn_reader import ArrayReader
from PIL import Image

from wsi_deform.annotation.classes import ClassTable, class_table_from_data
from wsi_deform.errors import MaskError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.overlay_file import picture_in_overlay, renamed_overlay, write_overlay
from wsi_deform.mask.tiff import write_mask
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples
from wsi_deform.slide.slide import Slide

CLASSES = class_table_from_data(
    {
        "classes": [{"name": "background"}, {"name": "gland", "color": [230, 159, 0]}],
        "background": "background",
    },
    "table",
)


def written(path: Path, size: Size, classes: ClassTable = CLASSES, slide_id: str = "Miller_7") -> np.ndarray:
    """An overlay of a grey slide of 0.5 um pixels whose left half is gland."""
    slide = Slide.from_reader(
        ArrayReader(np.full((*size.shape, 3), 200, np.uint8), mpp=0.5), slide_id=slide_id
    )
    half = FieldSamples(
        kept=Region(0, 0, size.width // 2, size.height),
        points_px=np.array([[1.0, 1.0]]),
        labels=np.array([1], np.uint8),
    )
    mask = path.with_suffix(".ome.tif")
    write_mask(mask, ReverseSampler([half], size=size, outside_label=0).tiles(), size=size, mpp=0.5)
    write_overlay(path, slide, mask, classes)
    with Image.open(path) as opened:
        return np.asarray(opened).astype(int)


def test_the_picture_lies_below_the_name_and_above_a_bar_and_the_class_in_its_colour(tmp_path: Path):
    pixels = written(tmp_path / "a.jpg", Size(3000, 1500))
    # Letters of 28 px: a title of 48 rows, one row of 44 and a margin of 14 below.
    assert pixels.shape == (48 + 1024 + 44 + 14, 2048, 3)
    assert (np.abs(pixels[60:1060, 1100:] - 200) <= 2).all()  # the background is left clear
    assert np.abs(pixels[500, 300] - [0.65 * 200 + 0.35 * colour for colour in (230, 159, 0)]).max() <= 3
    assert (pixels[:46, 300:] > 245).all()
    row = pixels[48 + 1024 + 14 + 22]
    # 200 um are 400 px of the slide, 273 of the picture.
    dark = np.flatnonzero(row[:298].max(axis=-1) < 100)
    assert (dark[0], dark[-1]) == (14, 14 + 273 - 1)
    swatch = np.abs(row - [230, 159, 0]).max(axis=-1) < 12
    assert 22 <= swatch.sum() <= 28


def test_another_name_replaces_the_name_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.jpg"
    pixels = written(path, Size(3000, 1500))
    data = renamed_overlay(path, "slide-0123456789", aspect=2.0)
    with Image.open(io.BytesIO(data)) as opened:
        renamed = np.asarray(opened).astype(int)
    assert renamed.shape == pixels.shape
    assert np.abs(renamed[48:] - pixels[48:]).max() < 40  # what JPEG loses when it is written again
    assert np.abs(renamed[48:] - pixels[48:]).mean() < 0.5
    other = written(tmp_path / "b.jpg", Size(3000, 1500), slide_id="slide-0123456789")
    # As it would be, had the slide had this name from the start: no trace of the other is left.
    assert np.abs(renamed[:48] - other[:48]).max() < 40
    assert np.abs(renamed[:48] - pixels[:48]).max() > 150


def test_overlays_of_earlier_versions_have_no_name_and_stay_as_they_are(tmp_path: Path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (300, 100), (1, 2, 3)).save(path)
    assert renamed_overlay(path, "slide-0123456789", aspect=3.001) == path.read_bytes()


def test_an_overlay_that_lost_its_comment_is_refused_since_nobody_knows_where_the_name_is(tmp_path: Path):
    path = tmp_path / "a.jpg"
    written(path, Size(3000, 1500))
    with Image.open(path) as opened:
        Image.fromarray(np.asarray(opened)).save(path)
    with pytest.raises(MaskError, match="not the proportions of the slide"):
        renamed_overlay(path, "slide-0123456789", aspect=2.0)


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_a_damaged_overlay_is_refused(tmp_path: Path, data: bytes):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(MaskError, match="cannot be read"):
        renamed_overlay(tmp_path / "a.jpg", "slide-0123456789", aspect=2.0)


def test_a_comment_of_another_picture_is_not_believed(tmp_path: Path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (300, 100)).save(path, comment=b"wsi-deform picture 90000 x 80 px below its title")
    with Image.open(path) as opened:
        assert picture_in_overlay(opened) is None
    with pytest.raises(MaskError, match="300 x 100 px, not the proportions"):
        renamed_overlay(path, "slide-0123456789", aspect=2.0)


def test_the_file_says_where_the_picture_lies_in_it(tmp_path: Path):
    written(tmp_path / "a.jpg", Size(3000, 1500))
    with Image.open(tmp_path / "a.jpg") as opened:
        assert picture_in_overlay(opened) == (0, 48, 2048, 1072)
