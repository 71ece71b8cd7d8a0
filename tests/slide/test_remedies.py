"""What messages advise was run on a file of that kind: the commands that they name are read from them and done.

``vips`` commands are done by the library of the same name, whose functions and options they are.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image
from slide_files import picture, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region
from wsi_deform.slide.open import open_slide

TIFFSAVE = re.compile(r"vips tiffsave IMAGE SLIDE\.tif (?P<options>(?:--\w+(?: \w+)? ?)+)")


def converted(said: str, image: Path, out: Path) -> Path:
    """Do the ``vips tiffsave`` that a message names."""
    found = TIFFSAVE.search(said)
    assert found, said
    options: dict[str, object] = {}
    for option in found["options"].split("--")[1:]:
        name, _, value = option.strip().partition(" ")
        options[name] = value or True
    assert options == {"tile": True, "pyramid": True, "compression": "jpeg"}
    pyvips.Image.new_from_file(str(image)).tiffsave(str(out), **options)
    return out


def check(out: Path, right: np.ndarray) -> None:
    slide = open_slide(out)
    found = slide.read_region(0, Region.whole(slide.size))
    assert np.abs(found.astype(int) - right).mean() < 12  # JPEG of noise
    assert slide.stored_levels > 1


def smooth() -> np.ndarray:
    return np.asarray(Image.fromarray(picture(80, 60)).resize((800, 600)))


def test_a_file_that_no_reader_knows_can_be_converted(tmp_path: Path):
    path = tmp_path / "a.v"
    pyvips.Image.new_from_array(smooth()).write_to_file(str(path))
    with pytest.raises(SlideError, match=r"a\.v: no reader can open it") as caught:
        open_slide(path)
    check(converted(str(caught.value), path, tmp_path / "SLIDE.tif"), smooth())


def test_strips_that_are_too_large_can_be_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write_tiff(tmp_path / "a.tif", [smooth()], compression="deflate", rowsperstrip=600)
    with monkeypatch.context() as patch:
        patch.setenv("WSI_DEFORM_MAX_STRIP_MIB", "1")
        patch.setattr("wsi_deform.slide.tiff.level.KEPT_STRIP_BYTES", 1 << 19)
        with pytest.raises(SlideError, match="compressed strips of") as caught:
            open_slide(path)
    check(converted(str(caught.value), path, tmp_path / "SLIDE.tif"), smooth())


def test_a_picture_that_is_too_large_can_be_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    Image.fromarray(smooth()).save(path)
    with monkeypatch.context() as patch:
        patch.setenv("WSI_DEFORM_MAX_PICTURE_MIB", "1")
        with pytest.raises(SlideError, match="decoded as a whole") as caught:
            open_slide(path)
    check(converted(str(caught.value), path, tmp_path / "SLIDE.tif"), smooth())


def test_a_tiff_in_a_compression_that_nobody_knows_is_not_sent_to_libvips(tmp_path: Path):
    path = write_tiff(tmp_path / "a.tif", [smooth()], compression="deflate", tile=(128, 128))
    data = bytearray(path.read_bytes())
    at = data.index((259).to_bytes(2, "little") + (3).to_bytes(2, "little"))
    data[at + 8 : at + 10] = (60001).to_bytes(2, "little")
    path.write_bytes(data)
    with pytest.raises(SlideError, match=r"tiff: compression 60001.* \| openslide: ") as caught:
        open_slide(path)
    assert "vips" not in str(caught.value)
