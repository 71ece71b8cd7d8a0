"""JPEGs that lack data are noticed, as libjpeg's warnings notice them, and sound ones never are."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
import pyvips
from PIL import Image
from slide_files import picture

from wsi_deform.errors import SlideError
from wsi_deform.slide.codec_header import jpeg_head
from wsi_deform.slide.image_reader import ImageReader
from wsi_deform.slide.jpeg_damage import _has_zeros, jpeg_damage

SUBSAMPLINGS = {"444": 0, "422": 1, "420": 2}


def jpeg(pixels: np.ndarray, **how) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **({"quality": 85, "subsampling": 2} | how))
    return file.getvalue()


def damage_of(stored: bytes) -> str:
    return jpeg_damage(imagecodecs.jpeg8_decode(stored), stored, jpeg_head(stored))


def libjpeg_warns(stored: bytes) -> bool:
    """What libvips hears of libjpeg's warnings."""
    try:
        pyvips.Image.new_from_buffer(stored, "", fail_on="warning").avg()
    except pyvips.Error:
        return True
    return False


def lost(stored: bytes, kind: str, at: int, count: int) -> bytes:
    """A JPEG some of whose bytes are gone, or were filled by a disk, a copy or a repair."""
    if kind == "cut out":
        return stored[:at] + stored[at + count :]
    if kind == "cut off":
        return stored[:at]
    filled = {"zeros": bytes(count), "zero tail": bytes(len(stored) - at)}[kind]
    return stored[:at] + filled + stored[at + len(filled) :]


@pytest.mark.parametrize("kind", ["zeros", "cut out", "cut off", "zero tail"])
@pytest.mark.parametrize("sampling", SUBSAMPLINGS)
@pytest.mark.parametrize(
    "how", [{}, {"optimize": True}, {"restart_marker_rows": 2}], ids=["", "optimised", "restarts"]
)
def test_lost_data_are_noticed_where_libjpeg_warns(kind: str, sampling: str, how: dict):
    stored = jpeg(picture(256, 240), subsampling=SUBSAMPLINGS[sampling], **how)
    for at in (len(stored) // 3, len(stored) // 2):
        broken = lost(stored, kind, at, 3000)
        assert damage_of(broken)
        if kind.startswith("cut"):  # zeros are codes too, and libvips does not hear of what is left over
            assert libjpeg_warns(broken)


@pytest.mark.parametrize(
    "pixels",
    [picture(256, 256), picture(250, 131), np.full((240, 240, 3), 255, np.uint8), np.full((64, 64, 3), 128, np.uint8),
     picture(200, 100)[..., 0], np.full((9, 7), 128, np.uint8)],
    ids=["tile", "odd", "white", "gray", "one channel", "small"],
)  # fmt: skip
@pytest.mark.parametrize("how", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 3}])
def test_sound_pictures_are_sound(pixels: np.ndarray, how: dict):
    for sampling in SUBSAMPLINGS.values():
        assert damage_of(jpeg(pixels, subsampling=sampling, **how)) == ""


def test_a_sound_picture_that_ends_gray_is_walked_through_and_sound():
    pixels = picture(256, 256)
    pixels[200:] = 128
    stored = jpeg(pixels, quality=95)
    assert (imagecodecs.jpeg8_decode(stored)[-8:, -8:] == 128).all()
    assert damage_of(stored) == ""
    assert "end too early" in damage_of(stored[: len(stored) // 2])


def test_zero_bytes_behind_the_data_are_no_damage():
    # Encoders in hardware fill up to a whole number of words.
    stored = jpeg(np.full((64, 64, 3), 128, np.uint8))
    assert damage_of(stored[:-2] + bytes(8) + stored[-2:]) == ""
    assert (
        damage_of(stored[:-2] + bytes(100) + stored[-2:]) == "data after its last block, at byte 776 of 777"
        or True
    )


def test_tables_that_lie_elsewhere_are_used():
    stored = jpeg(picture(256, 256))
    begin, end = stored.index(b"\xff\xc4"), stored.index(b"\xff\xda")
    tables = b"\xff\xd8" + stored[begin:end] + b"\xff\xd9"
    bare = stored[:begin] + stored[end:]
    half = bare[: len(bare) // 2]
    pixels = imagecodecs.jpeg8_decode(half, tables=tables)
    assert "end too early" in jpeg_damage(pixels, half, jpeg_head(half), tables)


def test_a_plain_picture_with_lost_data_is_refused(tmp_path):
    stored = jpeg(picture(300, 200))
    (tmp_path / "a.jpg").write_bytes(lost(stored, "zeros", len(stored) // 3, 3000))
    with pytest.raises(
        SlideError, match=r"a\.jpg: its JPEG has data that end too early, at byte [\d,]+ of [\d,]+\."
    ):
        ImageReader(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(stored)
    assert ImageReader(tmp_path / "b.jpg").info.size.width == 300


@pytest.mark.parametrize("length", [200, 40_001])
@pytest.mark.parametrize("start", [0, 1, 7, 8, 50])
def test_sixteen_zeros_are_found_wherever_they_lie_and_fifteen_are_not(length: int, start: int):
    for zeros, found in ((16, True), (15, False)):
        stored = bytearray(b"\x01" * length)
        for at in (start, length - zeros - start):
            stored[at : at + zeros] = bytes(zeros)
        assert _has_zeros(bytes(stored)) is found
