"""DICOM slides: every codec, layout and oddity of headers, against the pixels drawn and against OpenSlide."""

from __future__ import annotations

import os
import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import openslide
import pydicom
import pytest
from dicom_files import JPEG, RAW, deflate, jpeg, rename_syntax, rle, tiles_of, write_dicom, write_other
from PIL import Image
from reader_contract import Case, ReaderContract, whole_level
from slide_files import halved, picture, pyramid

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region, Size
from wsi_deform.slide.dicom.frames import Frames
from wsi_deform.slide.dicom.header import read_instance
from wsi_deform.slide.dicom.reader import DicomReader
from wsi_deform.slide.dicom.series import read_series
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.openslide_reader import OpenSlideReader

TS = "1.2.840.10008.1.2"
# Of each lossless codec: transfer syntax and encoder.
LOSSLESS = {
    "uncompressed": (RAW, None),
    "implicit": (TS, None),
    "big endian": (f"{TS}.2", None),
    "deflated": (f"{TS}.1.99", None),
    "deflated frames": (f"{TS}.8.1", deflate),
    "rle": (f"{TS}.5", rle),
    "jpeg-ls": (f"{TS}.4.80", imagecodecs.jpegls_encode),
    "jpeg lossless": (f"{TS}.4.70", lambda tile: imagecodecs.jpeg8_encode(tile, lossless=True, predictor=1)),
    "jpeg 2000": (f"{TS}.4.90", lambda tile: imagecodecs.jpeg2k_encode(tile, level=0, codecformat="j2k")),
    "htj2k": (f"{TS}.4.201", lambda tile: imagecodecs.htj2k_encode(tile, reversible=True)),
    "jpeg xl": (f"{TS}.4.110", lambda tile: imagecodecs.jpegxl_encode(tile, lossless=True)),
    "jpeg xl in boxes": (
        f"{TS}.4.110",
        lambda tile: imagecodecs.jpegxl_encode(tile, lossless=True, usecontainer=True),
    ),
}


def own(path: Path) -> DicomReader:
    return DicomReader(read_series(path))


def opened(path: Path):
    slide = open_slide(path)
    return slide, slide.read_region(0, Region.whole(slide.size))


def reader_of(slide) -> type:
    return type(slide._reader()[1].reader)


def by_openslide(path: Path, level: int = 0) -> np.ndarray:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))[..., :3]


def assembled(pixels: np.ndarray, decode, side: int = 128) -> np.ndarray:
    """The picture as Pillow or another program decodes its tiles."""
    out = np.zeros_like(pixels)
    for (column, row), tile in tiles_of(pixels, side).items():
        part = out[row * side : (row + 1) * side, column * side : (column + 1) * side]
        part[:] = decode(tile)[: part.shape[0], : part.shape[1]]
    return out


class TestDicomReader(ReaderContract):
    @pytest.fixture(params=["jpeg", "rle", "sparse", "parts"])
    def case(self, request: pytest.FixtureRequest, tmp_path: Path) -> Case:
        levels = pyramid()
        for number, pixels in enumerate(levels):
            how = {"mpp": (0.5 * 2**number,) * 2}
            if request.param != "jpeg":
                how |= {"syntax": f"{TS}.5", "encode": rle, "photometric": "RGB"}
            if request.param == "sparse":
                how |= {"places": list(tiles_of(pixels, 128))[::-1]}
            if request.param == "parts" and number == 0:
                for part, frames in enumerate((slice(0, 5), slice(5, 12))):
                    more = how | {"frames": frames, "source": "1.9", "parts": 2}
                    write_dicom(tmp_path / f"{part}.dcm", pixels, **more)
                continue
            write_dicom(tmp_path / f"level{number}.dcm", pixels, **how)
        if request.param == "jpeg":
            levels = [by_openslide(tmp_path / "level0.dcm", level) for level in range(3)]
        return Case(own(tmp_path), levels, mpp=0.5)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("gray", [False, True])
def test_every_lossless_codec_gives_the_drawn_pixels(tmp_path: Path, name: str, gray: bool):
    syntax, encode = LOSSLESS[name]
    if name == "htj2k" and not hasattr(imagecodecs, "htj2k_encode"):
        pytest.skip("this imagecodecs decodes HTJ2K and does not encode it")
    drawn = picture(300, 200)
    pixels = drawn[..., 0] if gray else drawn
    write_dicom(
        tmp_path / "a.dcm", pixels, syntax=syntax, encode=encode, photometric="MONOCHROME2" if gray else "RGB"
    )
    _, found = opened(tmp_path / "a.dcm")
    np.testing.assert_array_equal(found, np.repeat(pixels[..., None], 3, axis=2) if gray else drawn)


@pytest.mark.parametrize("table", ["basic", "extended", "none"])
def test_frames_are_found_by_any_table_or_none(tmp_path: Path, table: str):
    write_dicom(tmp_path / "a.dcm", picture(300, 200), table=table)
    np.testing.assert_array_equal(whole_level(own(tmp_path / "a.dcm"), 0), by_openslide(tmp_path / "a.dcm"))


def test_a_table_that_leads_astray_is_not_followed(tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", picture(300, 200), table="basic")
    expected = by_openslide(path)
    data = bytearray(path.read_bytes())
    table = data.index(b"\xe0\x7f\x10\x00OB") + 12 + 8
    data[table + 20 : table + 24] = b"\0\0\0\x10"  # the last of 6 offsets
    path.write_bytes(data)
    slide, found = opened(path)
    np.testing.assert_array_equal(found, expected)
    assert reader_of(slide) is DicomReader  # OpenSlide follows it, and the process dies


def test_frames_in_several_fragments_are_put_together(tmp_path: Path):
    pixels = picture(300, 200)

    def split(dataset: pydicom.Dataset) -> None:
        coded = [jpeg(tile) for tile in tiles_of(pixels, 128).values()]
        dataset.PixelData = pydicom.encaps.encapsulate(coded, fragments_per_frame=3, has_bot=has_table)
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True

    write_dicom(tmp_path / "whole.dcm", pixels, series="1.5")
    for has_table in (True, False):
        path = write_dicom(
            tmp_path / f"{has_table}.dcm", pixels, series=f"1.6.{int(has_table)}", change=split
        )
        np.testing.assert_array_equal(whole_level(own(path), 0), by_openslide(tmp_path / "whole.dcm"))


@pytest.mark.parametrize("syntax", [RAW, f"{TS}.5"])
def test_channels_one_after_the_other_and_luma_and_chroma_are_made_rgb(tmp_path: Path, syntax: str):
    drawn = picture(300, 200)
    ycbcr = np.asarray(Image.fromarray(drawn).convert("YCbCr"))
    encode = None if syntax == RAW else rle
    path = write_dicom(
        tmp_path / "a.dcm", ycbcr, syntax=syntax, encode=encode, photometric="YBR_FULL", planar=syntax == RAW
    )
    _, found = opened(path)
    np.testing.assert_array_equal(found, np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB")))
    path = write_dicom(
        tmp_path / "b.dcm", drawn, syntax=RAW, encode=None, photometric="RGB", planar=True, series="1.5"
    )
    np.testing.assert_array_equal(opened(path)[1], drawn)


def test_min_is_white_where_the_file_says_so(tmp_path: Path):
    gray = picture(300, 200)[..., 0]
    path = write_dicom(tmp_path / "a.dcm", gray, syntax=RAW, encode=None, photometric="MONOCHROME1")
    np.testing.assert_array_equal(opened(path)[1][..., 1], 255 - gray)


@pytest.mark.parametrize(
    ("name", "photometric", "openslide_is_right"),
    [("ycbcr", "YBR_FULL_422", True), ("ycbcr", "YBR_FULL", None), ("ycbcr", "RGB", False),
     ("rgb", "RGB", True), ("rgb", "YBR_FULL_422", False), ("bare rgb", "RGB", True)],
)  # fmt: skip
def test_jpeg_frames_that_say_what_their_colours_are_are_believed(
    tmp_path: Path, name: str, photometric: str, openslide_is_right: bool | None
):
    def as_rgb(tile: np.ndarray) -> bytes:
        return imagecodecs.jpeg8_encode(tile, level=95, colorspace="rgb", outcolorspace="rgb")

    def bare(tile: np.ndarray) -> bytes:
        """Without a word on colours: components 0, 1, 2 and no marker, as Aperio writes it."""
        coded = as_rgb(tile)
        adobe = coded.index(b"\xff\xee")
        coded = coded[:adobe] + coded[adobe + 16 :]
        frame, scan = coded.index(b"\xff\xc0") + 10, coded.index(b"\xff\xda") + 5
        changed = bytearray(coded)
        for number in range(3):
            changed[frame + 3 * number] = changed[scan + 2 * number] = number
        return bytes(changed)

    drawn = picture(300, 200)
    encode = {"ycbcr": jpeg, "rgb": as_rgb, "bare rgb": bare}[name]
    path = write_dicom(tmp_path / "a.dcm", drawn, encode=encode, photometric=photometric)
    slide, found = opened(path)
    assert np.abs(found.astype(int) - drawn).mean() < 15
    if openslide_is_right is None:
        assert reader_of(slide) is DicomReader
    else:
        assert (np.abs(by_openslide(path).astype(int) - drawn).mean() < 15) == openslide_is_right
        assert reader_of(slide) is (OpenSlideReader if openslide_is_right else DicomReader)
    assert any("PhotometricInterpretation" in remark for remark in slide.info.remarks) == (
        openslide_is_right is False
    )


def test_our_reader_equals_openslide_bit_for_bit_where_both_read(tmp_path: Path):
    levels = pyramid(700, 500)
    for number, pixels in enumerate(levels):
        write_dicom(tmp_path / f"{number}.dcm", pixels, mpp=(0.25 * 2**number,) * 2)
    slide = open_slide(tmp_path)
    assert reader_of(slide) is OpenSlideReader
    mine = own(tmp_path)
    assert [level.size for level in mine.info.levels] == [Size(700, 500), Size(350, 250), Size(175, 125)]
    assert mine.info.mpp == slide.info.mpp == pytest.approx(0.25)
    for level in range(3):
        np.testing.assert_array_equal(whole_level(mine, level), by_openslide(tmp_path / "0.dcm", level))


def test_mpp_is_of_columns_along_x_and_rows_along_y(tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", picture(300, 200), mpp=(0.4, 0.6))
    assert read_instance(path).mpp == (pytest.approx(0.4), pytest.approx(0.6))
    slide = open_slide(path)
    assert (slide.info.mpp_xy.x, slide.info.mpp_xy.y) == (pytest.approx(0.4), pytest.approx(0.6))
    mine = own(path).info
    assert (mine.mpp_xy, mine.mpp_source, mine.remarks) == (
        slide.info.mpp_xy, "PixelSpacing of the DICOM series", slide.info.remarks
    )  # fmt: skip


def test_the_middle_of_focal_planes_is_read_and_said(tmp_path: Path):
    planes = [picture(300, 200, seed) for seed in range(4)]
    path = write_dicom(tmp_path / "a.dcm", planes, syntax=f"{TS}.5", encode=rle, photometric="RGB")
    slide, found = opened(path)
    np.testing.assert_array_equal(found, planes[2])
    assert slide.info.remarks == ("4 focal planes: number 3, the middle one, is read.",)


def test_the_middle_of_focal_planes_in_files_of_their_own_is_read(tmp_path: Path):
    for seed, depth in enumerate((2.0, -1.0, 0.5)):

        def deep(dataset: pydicom.Dataset, depth: float = depth) -> None:
            origin = pydicom.Dataset()
            origin.ZOffsetInSlideCoordinateSystem = depth
            dataset.TotalPixelMatrixOriginSequence = [origin]

        write_dicom(
            tmp_path / f"{seed}.dcm", picture(300, 200, seed), syntax=RAW, encode=None, photometric="RGB",
            change=deep,
        )  # fmt: skip
    np.testing.assert_array_equal(opened(tmp_path)[1], picture(300, 200, 2))


def test_the_middle_of_sparse_focal_planes_is_read_at_each_tile(tmp_path: Path):
    planes = [picture(300, 200, seed) for seed in range(3)]
    places = list(tiles_of(planes[0], 128))

    def deep(dataset: pydicom.Dataset) -> None:
        for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            group.PlanePositionSlideSequence[0].ZOffsetInSlideCoordinateSystem = (7, -3, 2)[
                number // len(places)
            ]

    how = {"syntax": RAW, "encode": None, "photometric": "RGB", "places": places, "change": deep}
    path = write_dicom(tmp_path / "a.dcm", planes, **how)
    slide, found = opened(path)
    np.testing.assert_array_equal(found, planes[2])
    assert slide.info.remarks == ("3 focal planes: number 2, the middle one, is read.",)


def test_the_first_of_optical_paths_is_read_and_channels_of_gray_are_refused_by_name(tmp_path: Path):
    def two(dataset: pydicom.Dataset) -> None:
        dataset.NumberOfOpticalPaths = 2
        dataset.OpticalPathSequence = [pydicom.Dataset(), pydicom.Dataset()]
        for path, name in zip(dataset.OpticalPathSequence, ("DAPI", "FITC"), strict=True):
            path.OpticalPathIdentifier = path.OpticalPathDescription = name
        dataset.TotalPixelMatrixFocalPlanes = 1

    planes = [picture(300, 200, seed) for seed in range(2)]
    how = {"syntax": RAW, "encode": None, "photometric": "RGB", "change": two}
    slide, found = opened(write_dicom(tmp_path / "a.dcm", planes, **how))
    np.testing.assert_array_equal(found, planes[0])
    assert slide.info.remarks == ("2 optical paths (DAPI, FITC): the first one is read.",)
    gray = [plane[..., 0] for plane in planes]
    path = write_dicom(tmp_path / "b.dcm", gray, **(how | {"photometric": "MONOCHROME2", "series": "1.5"}))
    with pytest.raises(SlideError, match=r"b\.dcm: 2 channels of gray \(DAPI, FITC\).*Needed RGB"):
        open_slide(path)


@pytest.mark.parametrize("scanned", [True, False])
def test_sparse_tiles_lie_where_they_say_and_others_are_white(
    tmp_path: Path, scanned: bool, monkeypatch: pytest.MonkeyPatch
):
    if not scanned:  # as pydicom parses them
        monkeypatch.setattr("wsi_deform.slide.dicom.places._scanned", lambda stored, instance: ())
    drawn = picture(300, 200)
    places = [(2, 1), (0, 0), (1, 0), (0, 1)]
    path = write_dicom(tmp_path / "a.dcm", drawn, syntax=RAW, encode=None, photometric="RGB", places=places)
    expected = np.full_like(drawn, 255)
    for column, row in places:
        at = np.s_[row * 128 : (row + 1) * 128, column * 128 : (column + 1) * 128]
        expected[at] = drawn[at]
    np.testing.assert_array_equal(whole_level(own(path), 0), expected)


def test_sparse_tiles_off_the_grid_are_refused_and_never_moved(tmp_path: Path):
    def off(dataset: pydicom.Dataset) -> None:
        place = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSlideSequence[0]
        place.ColumnPositionInTotalImagePixelMatrix = 60

    path = write_dicom(tmp_path / "a.dcm", picture(300, 200), places=[(0, 0), (1, 1)], change=off)
    with pytest.raises(
        SlideError, match=r"a frame at \(59, 128\)\. Needed frames of 128 x 128 px side by side"
    ):
        open_slide(path)


@pytest.mark.parametrize("name", ["rle", "jpeg 2000"])
def test_parts_of_a_concatenation_are_one_image_and_a_missing_one_is_named(tmp_path: Path, name: str):
    syntax, encode = LOSSLESS[name]
    drawn = picture(300, 200)
    for number, frames in enumerate((slice(0, 2), slice(2, 3), slice(3, 6))):
        write_dicom(
            tmp_path / f"{number}.dcm", drawn, syntax=syntax, encode=encode, photometric="RGB", frames=frames,
            source="1.7", parts=3,
        )  # fmt: skip
    for path in (tmp_path, tmp_path / "1.dcm"):
        np.testing.assert_array_equal(opened(path)[1], drawn)
    (tmp_path / "1.dcm").unlink()
    with pytest.raises(SlideError, match="2 of the 3 files that this image is divided into"):
        open_slide(tmp_path)


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
    ("words", "right"),
    [
        (["ORGINAL", "PRIMARY", "VOLUME", "NONE"], True),
        (["ORIGINAL", "PRIMARY", "VOLUMN", "NONE"], True),
        (["original", "primary", "volume"], True),
        ("", True),
        (["DERIVED", "PRIMARY", "LABLE", "NONE"], False),
        (["DERIVED", "PRIMARY", "LOCALIZER", "NONE"], False),
        (["DERIVED", "PRIMARY", "MACRO", "NONE"], False),
        (["DERIVED", "PRIMARY", "THUMBNAIL", "RESAMPLED"], False),
    ],
)
def test_a_slide_is_told_by_misspelt_words_and_labels_and_overviews_are_never_taken_for_it(
    tmp_path: Path, words: list[str] | str, right: bool
):
    def said(dataset: pydicom.Dataset) -> None:
        dataset.ImageType = words

    path = write_dicom(tmp_path / "a.dcm", picture(300, 200), change=said)
    if right:
        assert open_slide(path).size == Size(300, 200)
    else:
        with pytest.raises(
            SlideError, match=r"a\.dcm: images of a slide's .* only\. Needed an image of the slide"
        ):
            open_slide(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_what_pydicom_would_warn_of_is_neither_warned_of_nor_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    def odd(dataset: pydicom.Dataset) -> None:
        dataset.ImageType = ["DERIVED", "primary", "VOLUME"]
        dataset.OpticalPathSequence[0].OpticalPathIdentifier = "longer than sixteen letters"

    path = write_dicom(tmp_path / "a.dcm", picture(300, 200), change=odd)
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_slide(path).size == Size(300, 200)
    assert caplog.records == []


def test_a_misspelt_finest_level_is_not_passed_over_as_openslide_does(tmp_path: Path):
    def said(dataset: pydicom.Dataset) -> None:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUM", "NONE"]

    write_dicom(tmp_path / "0.dcm", picture(300, 200), change=said)
    write_dicom(tmp_path / "1.dcm", halved(picture(300, 200)), mpp=(1.0, 1.0))
    assert open_slide(tmp_path).size == Size(300, 200)


def test_a_label_and_an_overview_that_are_larger_than_the_slide_are_listed_and_not_read(tmp_path: Path):
    write_dicom(tmp_path / "slide", picture(300, 200))
    write_dicom(tmp_path / "label", picture(500, 400), kind="LABEL")
    write_dicom(tmp_path / "over", picture(450, 400), kind="OVERVIEW")
    info = open_slide(tmp_path).info
    assert info.size == Size(300, 200)
    assert [(one.name, one.size, one.is_chosen) for one in info.images] == [
        ("volume", Size(300, 200), True),
        ("label", Size(500, 400), False),
        ("overview", Size(450, 400), False),
    ]


def test_a_coarse_level_with_edge_tiles_of_the_wrong_size_is_built_anew_and_said(tmp_path: Path):
    drawn = picture(700, 500)
    count = iter(range(100))

    def cut_short(tile: np.ndarray) -> bytes:
        return jpeg(tile[:60, :60] if next(count) == 5 else tile)

    write_dicom(tmp_path / "0.dcm", drawn)
    write_dicom(tmp_path / "1.dcm", halved(drawn), mpp=(1.0, 1.0), encode=cut_short)
    slide = open_slide(tmp_path)
    assert slide.stored_levels == 1
    assert slide.info.remarks == (
        "Stored level of 350 x 250 px cannot be read and is built anew: a frame of 60 x 60 px where the file "
        "declares 128 x 128",
    )
    with pytest.raises(openslide.OpenSlideError):
        by_openslide(tmp_path / "0.dcm", 1)
    coarse = slide.read_region(1, Region.whole(slide.levels[1].size))
    expected = by_openslide(tmp_path / "0.dcm").reshape(250, 2, 350, 2, 3).mean((1, 3))
    assert np.abs(coarse - expected).max() <= 0.5


def test_a_file_of_another_part_is_no_level(tmp_path: Path):
    write_dicom(tmp_path / "0.dcm", picture(700, 500))
    write_dicom(tmp_path / "1.dcm", picture(350, 350))
    info = open_slide(tmp_path).info
    assert len([level for level in info.levels if level.size == Size(350, 350)]) == 0
    assert info.remarks == ("1.dcm (350 x 350 px) shows another part than the slide and is left out.",)


def test_annotations_and_reports_beside_a_slide_are_no_part_of_it(tmp_path: Path):
    write_dicom(tmp_path / "IM0", picture(300, 200))
    for number, name in enumerate(("91.1", "88.33", "66.4")):
        write_other(tmp_path / f"other{number}.dcm", f"1.2.840.10008.5.1.4.1.1.{name}", 500_000)
    for path in (tmp_path, tmp_path / "IM0"):
        assert open_slide(path).size == Size(300, 200)
    with pytest.raises(
        SlideError, match=r"other0\.dcm: a DICOM object of class 1.2.840.10008.5.1.4.1.1.91.1\. Needed"
    ):
        open_slide(tmp_path / "other0.dcm")


def test_a_folder_of_two_dicom_slides_is_refused_and_each_opens_by_its_file(tmp_path: Path):
    write_dicom(tmp_path / "a.dcm", picture(300, 200))
    write_dicom(tmp_path / "b.dcm", picture(310, 200), series="1.5")
    with pytest.raises(
        SlideError, match=r"a folder of 2 DICOM slides\. Needed one\. Name .*: a\.dcm, b\.dcm"
    ):
        open_slide(tmp_path)
    assert open_slide(tmp_path / "b.dcm").size == Size(310, 200)


def test_a_pipe_beside_a_dicom_slide_is_never_opened(tmp_path: Path):
    write_dicom(tmp_path / "a.dcm", picture(300, 200))
    os.mkfifo(tmp_path / "pipe")
    sizes: list[Size] = []
    thread = threading.Thread(target=lambda: sizes.append(open_slide(tmp_path / "a.dcm").size), daemon=True)
    thread.start()
    thread.join(20)
    assert sizes == [Size(300, 200)]


def too_few(dataset: pydicom.Dataset) -> None:
    dataset.NumberOfFrames = 5


def deep_pixels(dataset: pydicom.Dataset) -> None:
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11


def huge(dataset: pydicom.Dataset) -> None:
    dataset.TotalPixelMatrixColumns = dataset.TotalPixelMatrixRows = 400_000
    dataset.NumberOfFrames = 9_765_625


def huge_frame(dataset: pydicom.Dataset) -> None:
    dataset.Rows = dataset.Columns = 60_000


def palette(dataset: pydicom.Dataset) -> None:
    dataset.PhotometricInterpretation = "PALETTE COLOR"


def no_size(dataset: pydicom.Dataset) -> None:
    del dataset.TotalPixelMatrixColumns


def no_pixels(dataset: pydicom.Dataset) -> None:
    del dataset.PixelData


def many_paths(dataset: pydicom.Dataset) -> None:
    dataset["NumberOfOpticalPaths"].value = 2_000_000_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (too_few, "5 frames of 128 x 128 px. Needed 6 to fill 300 x 200 px"),
        (deep_pixels, "pixels of 12 bits in 16. Needed 8 bits per channel"),
        (huge, "9765625 frames declared, which take 78125000 bytes or more"),
        (huge_frame, "frames of 60000 x 60000 px, which decode to 10,299.7 MiB each"),
        (palette, "3 channels of photometric interpretation PALETTE COLOR. Needed RGB, YBR or gray"),
        (no_size, "a damaged DICOM file (TotalPixelMatrixColumns 0, TotalPixelMatrixRows 200)"),
        (no_pixels, "a damaged DICOM file (no pixel data of whole numbers)"),
        (many_paths, "2000000000 optical paths"),
    ],
)
def test_headers_that_cannot_be_are_refused_by_name_and_number(tmp_path: Path, change, said: str):
    path = write_dicom(tmp_path / "a.dcm", picture(300, 200), change=change)
    with pytest.raises(SlideError) as refused:
        open_slide(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


def test_codecs_that_are_not_read_are_named(tmp_path: Path):
    path = write_dicom(tmp_path / "a.dcm", picture(300, 200))
    rename_syntax(path, f"{TS}.4.102")
    with pytest.raises(
        SlideError, match=r"a\.dcm: pixels in transfer syntax .*\.4\.102\. Needed one that is read"
    ):
        open_slide(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.95, 0.999])
@pytest.mark.parametrize("name", ["rle", "uncompressed", "deflated", "jpeg-ls"])
def test_files_that_are_cut_off_are_refused(tmp_path: Path, keep: float, name: str):
    syntax, encode = LOSSLESS[name]
    path = write_dicom(tmp_path / "a.dcm", picture(300, 200), syntax=syntax, encode=encode, photometric="RGB")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(SlideError, match=r"a\.dcm: (a damaged DICOM file|tile)"):
        opened(path)


def is_refused(path: Path) -> bool:
    try:
        whole_level(own(path), 0)
    except SlideError as error:
        return str(path) in str(error)
    return False


def test_scrambled_bytes_give_our_errors_only(tmp_path: Path):
    syntax, encode = LOSSLESS["jpeg-ls"]
    pixels = picture(200, 150)
    whole = write_dicom(
        tmp_path / "a.dcm", pixels, syntax=syntax, encode=encode, photometric="RGB", places=[(0, 0), (1, 1)]
    ).read_bytes()
    end = whole.index(b"\xe0\x7f\x10\x00OB") + 40
    generator = np.random.default_rng(5)
    refused = 0
    for number in range(300):
        changed = bytearray(whole)
        for at in generator.integers(128, end, 1 + number % 4):
            changed[at] = generator.integers(256)
        (tmp_path / "a.dcm").write_bytes(changed)
        refused += is_refused(tmp_path / "a.dcm")
    assert 50 < refused < 300


def test_a_frame_is_read_alone_and_no_other(tmp_path: Path):
    drawn = picture(1200, 900)
    path = write_dicom(tmp_path / "a.dcm", drawn, table="none")
    frames = Frames(read_instance(path))
    read: list[int] = []
    real = frames._source.read
    frames._source.read = lambda offset, count: read.append(count) or real(offset, count)
    stored = frames.stored(33)
    assert stored.rstrip(b"\0") == jpeg(tiles_of(drawn, 128)[3, 3]).rstrip(b"\0")
    assert sum(read) < len(stored) + 80 * 16  # the headers of its 80 fragments
    read.clear()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(frames.stored, range(80)))
    assert sum(read) < path.stat().st_size + 80 * 16


def test_a_deflated_dataset_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    path = write_dicom(
        tmp_path / "a.dcm", picture(300, 200), syntax=f"{TS}.1.99", encode=None, photometric="RGB"
    )
    np.testing.assert_array_equal(opened(path)[1], picture(300, 200))
    assert list((tmp_path / "temp").iterdir()) == []
    stream = path.read_bytes()
    start = pydicom.filereader.read_file_meta_info(path).FileMetaInformationGroupLength + 144
    assert len(zlib.decompress(stream[start:], -15)) > 300 * 200 * 3


def test_a_series_that_openslide_refuses_equals_the_svs_that_it_was_made_from(shared_data: Path):
    slide, found = opened(shared_data / "slides" / "CMU-1-Small-Region-dicom")
    assert reader_of(slide) is DicomReader
    assert slide.mpp == pytest.approx(0.499, rel=1e-4)
    assert [(one.name, one.is_chosen) for one in slide.info.images] == [
        ("volume", True),
        ("label", False),
        ("overview", False),
    ]
    np.testing.assert_array_equal(found, by_openslide(shared_data / "slides" / "CMU-1-Small-Region.svs"))


def test_a_real_jpeg_2000_series_equals_openslide_bit_for_bit(shared_data: Path):
    path = shared_data / "slides" / "multi_frame_jpeg2000_camelyon_challenge_image.dcm"
    np.testing.assert_array_equal(whole_level(own(path), 0), by_openslide(path))
    assert read_instance(path).meta.syntax != JPEG


def without_spacing(dataset: pydicom.Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence


def test_the_scale_may_be_said_by_the_image_or_by_what_it_covers(tmp_path: Path):
    def of_image(dataset: pydicom.Dataset) -> None:
        without_spacing(dataset)
        dataset.PixelSpacing = [0.0005, 0.00025]

    def of_volume(dataset: pydicom.Dataset) -> None:
        without_spacing(dataset)
        dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = 200 * 0.00025, 150 * 0.0005

    for name, change, said in (
        ("image", of_image, "PixelSpacing of the DICOM series"),
        ("volume", of_volume, "ImagedVolumeWidth and ImagedVolumeHeight of the DICOM series"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        write_dicom(folder / "a.dcm", picture(200, 150), change=change)
        slide = open_slide(folder)
        assert (slide.mpp_xy.x, slide.mpp_xy.y) == (pytest.approx(0.25), pytest.approx(0.5))
        assert slide.mpp_source == said


def spacing_of_frames(*mm: float) -> Callable[[pydicom.Dataset], None]:
    """PixelSpacing in the groups of frames alone; of several they take turns."""

    def change(dataset: pydicom.Dataset) -> None:
        without_spacing(dataset)
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
        groups = groups or [pydicom.Dataset() for _ in range(int(dataset.NumberOfFrames))]
        for number, group in enumerate(groups):
            measures = pydicom.Dataset()
            measures.PixelSpacing = [2 * mm[number % len(mm)], mm[number % len(mm)]]
            group.PixelMeasuresSequence = [measures]
        dataset.PerFrameFunctionalGroupsSequence = groups

    return change


@pytest.mark.parametrize("places", [None, [(0, 0), (1, 0), (0, 1), (1, 1)]], ids=["full", "sparse"])
@pytest.mark.parametrize("lengths", [True, False], ids=["lengths", "delimiters"])
def test_the_scale_may_be_said_by_every_frame(
    tmp_path: Path, places: list[tuple[int, int]] | None, lengths: bool
):
    def change(dataset: pydicom.Dataset) -> None:
        spacing_of_frames(0.00025, 0.00025 * (1 + 1e-7))(dataset)
        dataset["PerFrameFunctionalGroupsSequence"].is_undefined_length = not lengths

    path = write_dicom(tmp_path / "a.dcm", picture(200, 150), places=places, change=change)
    slide = open_slide(path)
    assert (slide.mpp_xy.x, slide.mpp_xy.y) == (pytest.approx(0.25), pytest.approx(0.5))
    assert slide.mpp_source == "PixelSpacing of the DICOM series"
    # OpenSlide shows the same pixels, and knows no scale of single frames.
    np.testing.assert_array_equal(whole_level(own(path), 0), by_openslide(path))
    with openslide.OpenSlide(path) as other:
        assert "openslide.mpp-x" not in other.properties


def test_frames_that_differ_on_the_scale_are_not_believed_and_it_is_said(tmp_path: Path):
    def change(dataset: pydicom.Dataset) -> None:
        spacing_of_frames(0.00025, 0.0005)(dataset)
        dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = 0.1, 0.075

    path = write_dicom(tmp_path / "a.dcm", picture(200, 150), change=change)
    slide = open_slide(path)
    assert slide.mpp == pytest.approx(0.5)
    assert slide.mpp_source == "ImagedVolumeWidth and ImagedVolumeHeight of the DICOM series"
    assert slide.remarks == (
        "PixelSpacing differs from frame to frame (0.25 to 0.5 um): it is not believed; set the mpp column, or --mpp, "
        "if nothing else says the scale",
    )
    assert open_slide(path, mpp=0.4).remarks == ()


def test_a_spacing_in_um_is_not_believed_beside_the_size_of_what_is_imaged(tmp_path: Path):
    def in_um(dataset: pydicom.Dataset) -> None:
        dataset.ImagedVolumeWidth, dataset.ImagedVolumeHeight = 0.1, 0.075

    write_dicom(tmp_path / "a.dcm", picture(200, 150), mpp=(500.0, 500.0), change=in_um)
    slide = open_slide(tmp_path)
    assert slide.mpp == pytest.approx(0.5)
    assert "says 500 um per pixel, which no light microscope has" in slide.remarks[0]
    assert "as if a unit was mistaken (a factor of 1000)" in slide.remarks[0]


def test_gray_dicom_is_remarked_upon(tmp_path: Path):
    write_dicom(
        tmp_path / "a.dcm", picture(200, 150)[..., 0], syntax=RAW, encode=None, photometric="MONOCHROME2"
    )
    assert open_slide(tmp_path).remarks == ("grayscale; models have seen RGB",)
