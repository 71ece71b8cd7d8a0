"""CZI slides against the pixels that Zeiss' library wrote; without that library, what is said of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import openslide
import pytest
from reader_contract import Case, ReaderContract
from slide_files import picture

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.open import open_slide

HEAD = b"ZISRAWFILE" + b"\0" * 600


def write_czi(path: Path, planes: list[dict[str, int]], pixels: list[np.ndarray], **metadata) -> Path:
    czi = pytest.importorskip("pylibCZIrw.czi", reason="the extra czi is not installed")
    with czi.create_czi(str(path)) as writer:
        for plane, one in zip(planes, pixels, strict=True):
            writer.write(one[..., ::-1] if one.shape[2] == 3 else one, plane=plane, **metadata.get("at", {}))
        writer.write_metadata(
            "drawn", scale_x=0.25e-6, scale_y=0.25e-6, channel_names=metadata.get("channels")
        )
    return path


class TestCziReader(ReaderContract):
    @pytest.fixture
    def case(self, tmp_path: Path) -> Case:
        pytest.importorskip("pylibCZIrw", reason="the extra czi is not installed")
        from wsi_deform.slide.czi_reader import CziReader

        drawn = picture(1203, 701)
        path = write_czi(tmp_path / "a.czi", [{}], [drawn], at={"location": (-300, 1000)})
        return Case(CziReader(path), [drawn], mpp=0.25)


def test_colours_come_in_the_right_order_and_the_middle_focal_plane_is_read(tmp_path: Path):
    drawn = [picture(300, 200, seed) for seed in range(3)]
    path = write_czi(tmp_path / "a.czi", [{"Z": number} for number in range(3)], drawn)
    with pytest.raises(openslide.OpenSlideError):
        openslide.OpenSlide(path)
    slide = open_slide(path)
    np.testing.assert_array_equal(slide.read_region(0, Region.whole(slide.size)), drawn[1])
    assert (slide.size, slide.mpp) == (Size(300, 200), pytest.approx(0.25))
    assert slide.info.remarks == ("3 focal planes: number 2, the middle one, is read.",)


def test_channels_of_gray_are_refused_by_name(tmp_path: Path):
    gray = [picture(300, 200)[..., :1]] * 2
    path = write_czi(tmp_path / "a.czi", [{"C": 0}, {"C": 1}], gray, channels={0: "DAPI", 1: "FITC"})
    with pytest.raises(SlideError, match=r"a\.czi: .*2 channels of gray \(DAPI, FITC\).*Needed RGB"):
        open_slide(path)


def test_16_bits_are_refused(tmp_path: Path):
    path = write_czi(tmp_path / "a.czi", [{}], [picture(300, 200)[..., :1].astype(np.uint16)])
    with pytest.raises(SlideError, match=r"a\.czi: .*Gray16 pixels\. Needed 8 bits"):
        open_slide(path)


def test_a_damaged_czi_is_refused(tmp_path: Path):
    pytest.importorskip("pylibCZIrw", reason="the extra czi is not installed")
    (tmp_path / "a.czi").write_bytes(HEAD)
    with pytest.raises(SlideError, match=r"a\.czi: .*cannot be read"):
        open_slide(tmp_path / "a.czi")


def test_without_the_library_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pylibCZIrw", None)
    (tmp_path / "a.czi").write_bytes(HEAD)
    with pytest.raises(
        SlideError, match=r'a Zeiss CZI.*pip install "wsi-deform\[czi\]", or export the slide'
    ):
        open_slide(tmp_path / "a.czi")


@pytest.mark.parametrize(
    ("name", "head", "said"),
    [
        ("a.vsi", b"II*\0", "an Olympus .Evident. VSI, .*: export it .* its scanner, or as OME-TIFF with QuPath"),
        ("a.isyntax", b"<Dat", "a Philips iSyntax.*with the software of its scanner"),
        ("a.mds", b"\xd0\xcf\x11\xe0", "a Motic MDS"),
        ("a.kfb", b"KFB\0", "a KFBio KFB"),
        ("a.sdpc", b"SQ\0\0", "a Sqray SDPC"),
        ("a.bin", b"\xd0\xcf\x11\xe0", "a Microsoft compound file, as of Motic MDS"),
    ],
)  # fmt: skip
def test_formats_that_are_not_read_are_named_with_a_way_out(
    tmp_path: Path, name: str, head: bytes, said: str
):
    (tmp_path / name).write_bytes(head + b"\0" * 2000)
    with pytest.raises(SlideError, match=said):
        open_slide(tmp_path / name)
