"""Which pixels: bits, colours and channels are what libvips and Pillow show, or the slide is refused."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import pyvips
import tifffile
import zarr
from PIL import Image
from range_server import serving
from slide_files import picture, write_ome_tiff, write_tiff

from wsi_deform.errors import SlideError
from wsi_deform.geometry import Region
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

HALF_UM = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}


def whole(slide: Slide, level: int = 0) -> np.ndarray:
    return slide.read_region(level, Region.whole(slide.levels[level].size))


def shown_by_vips(path: Path) -> np.ndarray:
    """(h, w, 3), as libvips shows it in 8 bits."""
    image = pyvips.Image.new_from_file(str(path)).colourspace("srgb").cast("uchar")
    pixels = image.numpy()
    return np.broadcast_to(np.atleast_3d(pixels)[..., :3], (*pixels.shape[:2], 3))


def shown_by_pillow(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    "how",
    [
        {}, {"miniswhite": True}, {"miniswhite": True, "tile": True}, {"bitdepth": 1, "tile": True},
        {"bitdepth": 1, "miniswhite": True}, {"bitdepth": 1, "compression": "ccittfax4"},
        {"bitdepth": 1, "compression": "ccittfax4", "miniswhite": True}, {"bitdepth": 2}, {"bitdepth": 4},
        {"bitdepth": 4, "miniswhite": True, "tile": True},
    ],
)  # fmt: skip
def test_gray_of_few_bits_is_what_libvips_and_pillow_show(tmp_path: Path, how: dict[str, object]):
    if how.get("compression") == "ccittfax4" and 4 not in tifffile.TIFF.DECOMPRESSORS:
        pytest.skip("this tifffile has no decoder of CCITT fax")
    path = tmp_path / "a.tif"
    gray = picture(300, 200)[..., 0]
    gray[:40, :40], gray[40:80, :40] = 0, 255
    pyvips.Image.new_from_array(gray).tiffsave(
        str(path), **({"compression": "deflate", "predictor": "none"} | how)
    )
    slide = open_slide(path)
    found = whole(slide)
    np.testing.assert_array_equal(found, shown_by_vips(path))
    np.testing.assert_array_equal(found, shown_by_pillow(path))
    assert found.min() == 0
    assert found.max() == 255
    assert "grayscale; models have seen RGB" in slide.info.remarks


@pytest.mark.parametrize("colours", [2, 13, 200])
@pytest.mark.parametrize("entries", ["16 bits", "8 bits"])
def test_palettes_of_16_and_of_8_bits_give_the_colours(tmp_path: Path, colours: int, entries: str):
    quantized = Image.fromarray(picture(300, 200)).quantize(colours)
    right = np.asarray(quantized.convert("RGB"))
    table = np.zeros((3, 256), np.uint16)
    table[:, :colours] = np.array(quantized.getpalette()[: 3 * colours]).reshape(-1, 3).T
    path = tmp_path / "a.tif"
    colormap = table * 257 if entries == "16 bits" else table
    index = np.asarray(quantized)
    tifffile.imwrite(path, index, photometric="palette", colormap=colormap, compression="lzw", tile=(64, 64))
    np.testing.assert_array_equal(whole(open_slide(path)), right)
    np.testing.assert_array_equal(shown_by_vips(path), right)
    if entries == "16 bits":
        np.testing.assert_array_equal(shown_by_pillow(path), right)


@pytest.mark.parametrize(("bits", "colours"), [(1, 2), (4, 13)])
def test_palettes_of_few_bits_give_the_colours(tmp_path: Path, bits: int, colours: int):
    quantized = Image.fromarray(picture(301, 200)).quantize(colours)
    table = np.array(quantized.getpalette()[: 3 * colours], np.uint16).reshape(-1, 3).T
    colormap = np.zeros((3, 1 << bits), np.uint16)
    colormap[:, :colours] = table * 257
    path = tmp_path / "a.tif"
    path.write_bytes(palette_tiff(np.asarray(quantized), bits, colormap))
    right = np.asarray(quantized.convert("RGB"))
    np.testing.assert_array_equal(shown_by_pillow(path), right)
    np.testing.assert_array_equal(whole(open_slide(path)), right)


def palette_tiff(index: np.ndarray, bits: int, colormap: np.ndarray) -> bytes:
    """A TIFF of one strip of packed palette indices, which no library at hand writes."""
    height, width = index.shape
    each = np.unpackbits(index[..., None], axis=2)[..., 8 - bits :]
    strip = np.packbits(each.reshape(height, -1), axis=1).tobytes()
    strip += b"\0" * (len(strip) % 2)
    colours = colormap.ravel().tolist()
    tags = [
        (256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, 3), (273, 4, 8), (277, 3, 1),
        (278, 3, height), (279, 4, len(strip)),
    ]  # fmt: skip
    directory = 8 + len(strip)
    entries = b"".join(
        struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in tags
    )
    entries += struct.pack("<HHII", 320, 3, len(colours), directory + 2 + 12 * (len(tags) + 1) + 4)
    head = b"II*\0" + struct.pack("<I", directory) + strip + struct.pack("<H", len(tags) + 1)
    return head + entries + b"\0" * 4 + struct.pack(f"<{len(colours)}H", *colours)


def sixteen(bits: int = 16) -> np.ndarray:
    """(200, 300, 3) uint16 that use all of so many bits."""
    low = np.random.default_rng(1).integers(0, 1 << (bits - 8), (200, 300, 3))
    return ((picture(300, 200).astype(np.uint16) << (bits - 8)) + low).astype(np.uint16)


FULL = "16 bits per channel, of which the upper 8 of its full range are read"


@pytest.mark.parametrize("how", ["interleaved", "planar", "ome pages", "ome interleaved", "zarr", "png"])
def test_rgb_of_16_bits_is_read_alike_in_all_containers_and_says_so(tmp_path: Path, how: str):
    deep = sixteen()
    planes = np.ascontiguousarray(deep.transpose(2, 0, 1))
    path = tmp_path / {"zarr": "a.zarr", "png": "a.png"}.get(how, "a.ome.tif" if "ome" in how else "a.tif")
    if how == "interleaved":
        write_tiff(path, [deep], tile=(64, 64), compression="deflate", predictor=True)
    elif how == "planar":
        write_tiff(path, [planes], tile=(64, 64), planarconfig="separate")
    elif how == "ome pages":
        write_ome_tiff(path, [planes], axes="CYX", photometric="minisblack")
    elif how == "ome interleaved":
        write_ome_tiff(path, [deep])
    elif how == "png":
        pyvips.Image.new_from_array(deep, interpretation="rgb16").pngsave(str(path), bitdepth=16)
    else:
        write_zarr(path, planes)
    slide = open_slide(path)
    np.testing.assert_array_equal(whole(slide), picture(300, 200))
    assert FULL in slide.info.remarks
    assert slide.mpp_or_none == (0.5 if "ome" in how or how == "zarr" else None)
    if how in ("interleaved", "png"):
        np.testing.assert_array_equal(whole(slide), shown_by_vips(path))


def write_zarr(path: Path, pixels: np.ndarray, axes: str = "cyx", **omero: object) -> Path:
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    array = group.create_array("0", shape=pixels.shape, chunks=pixels.shape, dtype=pixels.dtype)
    array[...] = pixels
    described = [{"name": axis, **({"unit": "micrometer"} if axis in "yx" else {})} for axis in axes]
    scale = [0.5 if axis in "yx" else 1.0 for axis in axes]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    ngff = {"version": "0.5", "multiscales": [{"axes": described, "datasets": datasets}]}
    group.attrs["ome"] = ngff | ({"omero": omero} if omero else {})
    return path


def test_fewer_bits_than_are_stored_are_used_where_the_file_says_so(tmp_path: Path):
    deep = sixteen(12)
    path = write_tiff(tmp_path / "max.tif", [deep], tile=(64, 64), extratags=[(281, 3, 3, (4095,) * 3, True)])
    said = write_ome_tiff(tmp_path / "said.ome.tif", [deep])
    with tifffile.TiffFile(said) as tif:
        xml = tif.pages.first.description
    tifffile.tiffcomment(said, xml.replace('Type="uint16"', 'Type="uint16" SignificantBits="12"').encode())
    for one in (path, said):
        slide = open_slide(one)
        np.testing.assert_array_equal(whole(slide), picture(300, 200))
        assert any("the range of 12 bits that the file says" in remark for remark in slide.info.remarks)
    # A largest value that is a statistic is no range.
    path = write_tiff(tmp_path / "stat.tif", [sixteen()], extratags=[(281, 3, 3, (60111,) * 3, True)])
    np.testing.assert_array_equal(whole(open_slide(path)), picture(300, 200))


@pytest.mark.parametrize("how", ["tiff", "zarr"])
def test_deep_rgb_that_leaves_its_range_unused_is_refused_and_the_remedy_works(tmp_path: Path, how: str):
    deep = sixteen(12)
    deep[0, 0] = 4095
    path = tmp_path / ("a.tif" if how == "tiff" else "a.zarr")
    if how == "tiff":
        write_tiff(path, [deep])
    else:
        write_zarr(path, deep.transpose(2, 0, 1))
    with pytest.raises(
        SlideError, match=r"of 16 bits of which none .* is above 4095.*(vips linear IMAGE|Write it anew)"
    ) as caught:
        open_slide(path)
    if how == "tiff":
        again = run_remedy(str(caught.value), path, tmp_path / "b.tif")
        slide = open_slide(again)
        assert np.abs(whole(slide).astype(int) - picture(300, 200))[1:].max() <= 1
        assert len(slide.info.remarks) == 0


def run_remedy(said: str, image: Path, out: Path) -> Path:
    """Do what ``vips linear IMAGE SLIDE.tif[...] A B --uchar`` in a message says, with libvips."""
    _, _, command = said.partition("vips linear IMAGE 'SLIDE.tif")
    options, factor, offset, kind = command.replace("'", "").rstrip(".").split()
    assert kind == "--uchar"
    assert options == "[tile,pyramid,compression=deflate]"
    changed = pyvips.Image.new_from_file(str(image)).linear(float(factor), float(offset), uchar=True)
    changed.write_to_file(f"{out}{options}")
    return out


@pytest.mark.parametrize("how", ["tiff", "ome", "zarr", "png", "png with alpha"])
def test_gray_of_16_bits_is_refused_alike_and_the_remedy_works(tmp_path: Path, how: str):
    gray = sixteen()[..., 0]
    path = tmp_path / {"zarr": "a.zarr", "tiff": "a.tif", "ome": "a.ome.tif"}.get(how, "a.png")
    if how == "tiff":
        write_tiff(path, [gray], photometric="minisblack", tile=(64, 64))
    elif how == "ome":
        write_ome_tiff(path, [gray], axes="YX", photometric="minisblack")
    elif how == "zarr":
        write_zarr(path, gray, "yx")
    else:
        image = pyvips.Image.new_from_array(gray, interpretation="grey16")
        image = image.bandjoin(65535) if how == "png with alpha" else image
        image.copy(interpretation="grey16").pngsave(str(path), bitdepth=16)
    with pytest.raises(
        SlideError, match="Needed (8 bits per channel, or 16 of RGB|uint8, or uint16 of RGB)"
    ) as caught:
        open_slide(path)
    if how in ("tiff", "png"):
        slide = open_slide(run_remedy(str(caught.value), path, tmp_path / "b.tif"))
        assert np.abs(whole(slide)[..., 0].astype(int) - gray // 257).max() <= 1


@pytest.mark.parametrize("mct", [True, False])
@pytest.mark.parametrize("compression", [34712, 33004, 33005])
@pytest.mark.parametrize("container", ["j2k", "jp2"])
def test_jpeg_2000_that_is_said_to_be_ycbcr_is_told_by_its_codestream(
    tmp_path: Path, mct: bool, compression: int, container: str
):
    pixels = picture(256, 128)
    stored = pixels if mct else np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    tiles = [
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(stored[:, x : x + 128]),
            codecformat=container,
            mct=mct,
            reversible=True,
            level=0,
        )
        for x in (0, 128)
    ]
    path = tmp_path / "a.tif"
    how = {"shape": pixels.shape, "dtype": "u1", "tile": (128, 128), "metadata": None, "photometric": "ycbcr"}
    tifffile.imwrite(path, iter(tiles), compression=compression, subsampling=(1, 1), **how)
    right = pixels if mct else np.asarray(Image.fromarray(pixels).convert("YCbCr").convert("RGB"))
    np.testing.assert_array_equal(whole(open_slide(path)), right)


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_ycbcr_of_aperio_in_jpeg_2000_is_read_by_openslide_whatever_its_tags_say(
    tmp_path: Path, photometric: str
):
    pixels = picture(256, 128)
    stored = np.asarray(Image.fromarray(pixels).convert("YCbCr"))
    tiles = [
        imagecodecs.jpeg2k_encode(
            np.ascontiguousarray(stored[:, x : x + 128]),
            codecformat="j2k",
            mct=False,
            reversible=True,
            level=0,
        )
        for x in (0, 128)
    ]
    path = tmp_path / "a.svs"
    how = {
        "shape": pixels.shape,
        "dtype": "u1",
        "tile": (128, 128),
        "metadata": None,
        "photometric": photometric,
    }
    how |= {"subsampling": (1, 1)} if photometric == "ycbcr" else {}
    tifffile.imwrite(path, iter(tiles), compression=33003, description="Aperio Image |MPP = 0.5", **how)
    found = whole(open_slide(path))
    assert np.abs(found.astype(int) - pixels).max() <= 3
    with serving(tmp_path) as server, pytest.raises(SlideError, match="YCbCr pixels in compression 33003"):
        open_slide(server.url("a.svs"))


def test_orientation_is_as_stored_and_remarked_upon(tmp_path: Path):
    pixels = picture(90, 60)
    path = write_tiff(tmp_path / "a.tif", [pixels], extratags=[(274, 3, 1, 3, True)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "b.png", exif=exif)
    for one, number in ((path, 3), (tmp_path / "b.png", 6)):
        slide = open_slide(one)
        np.testing.assert_array_equal(whole(slide), pixels)
        said = f"its Orientation is {number}; it is read as stored, not turned, and a mask of it has to be so too"
        assert slide.info.remarks == (said,)


NAMES = ["DAPI", "CD3", "CD8", "PD1", "CK"]


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize("how", ["ome", "ome 16 bits", "zarr"])
def test_fluorescence_is_refused_with_the_names_of_its_channels(tmp_path: Path, channels: int, how: str):
    stack = np.stack([picture(90, 60, seed)[..., 0] for seed in range(channels)])
    names = NAMES[:channels]
    if how == "zarr":
        shown = [{"label": name, "color": "FFFFFF"} for name in names]
        path = write_zarr(tmp_path / "a.zarr", stack, channels=shown)
    else:
        path = tmp_path / "a.ome.tif"
        stack = stack.astype(np.uint16) * 257 if how == "ome 16 bits" else stack
        metadata = {"axes": "CYX", "Channel": {"Name": names}, **HALF_UM}
        tifffile.imwrite(path, stack, ome=True, metadata=metadata, photometric="minisblack", tile=(64, 64))
    with pytest.raises(SlideError, match=rf"a\.\S+: {channels} channels \({', '.join(names)}\)") as caught:
        open_slide(path)
    assert "openslide" not in str(caught.value)


@pytest.mark.parametrize(
    "channel",
    [
        {"Fluor": ["FITC", "", ""]},
        {"EmissionWavelength": [520, 600, 700]},
        {"ContrastMethod": ["Fluorescence"] * 3},
    ],
)
def test_three_channels_that_are_said_to_fluoresce_are_refused(tmp_path: Path, channel: dict[str, object]):
    stack = picture(90, 60).transpose(2, 0, 1)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(
        path, stack, ome=True, metadata={"axes": "CYX", "Channel": channel}, photometric="minisblack"
    )
    with pytest.raises(SlideError, match="a fluorescence slide of 3 channels"):
        open_slide(path)


@pytest.mark.parametrize(
    ("labels", "colours", "is_rgb"),
    [
        (["Channel 0", "Channel 1", "Channel 2"], ["FF0000", "00FF00", "0000FF"], True),
        (["Red", "Green", "Blue"], ["FFFFFF"] * 3, True),
        (["r", "g", "b"], ["FFFFFF"] * 3, True),
        (["", "", ""], ["FFFFFF"] * 3, True),
        (["0", "1", "2"], ["0000FF", "00FF00", "FF0000"], False),
        (["blue", "green", "red"], ["FFFFFF"] * 3, False),
        (["DAPI", "FITC", "TRITC"], ["FF0000", "00FF00", "0000FF"], False),
    ],
)
def test_three_channels_are_rgb_unless_names_or_colours_say_otherwise(
    tmp_path: Path, labels: list[str], colours: list[str], is_rgb: bool
):
    shown = [{"label": one, "color": colour} for one, colour in zip(labels, colours, strict=True)]
    path = write_zarr(tmp_path / "a.zarr", picture(90, 60).transpose(2, 0, 1), channels=shown)
    if is_rgb:
        np.testing.assert_array_equal(whole(open_slide(path)), picture(90, 60))
    else:
        with pytest.raises(SlideError, match="that are not red, green and blue"):
            open_slide(path)


def test_four_channels_of_which_nothing_says_that_one_is_transparency_are_refused(tmp_path: Path):
    stack = np.stack([picture(90, 60, seed)[..., 0] for seed in range(4)])
    with pytest.raises(SlideError, match="4 channels, and nothing says"):
        open_slide(write_zarr(tmp_path / "a.zarr", stack))
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, ome=True, metadata={"axes": "CYX"}, photometric="minisblack", tile=(64, 64))
    with pytest.raises(SlideError, match="4 channels with photometric interpretation 1"):
        open_slide(path)
    shown = [{"label": one} for one in "rgba"]
    stack[3] = 255
    slide = open_slide(write_zarr(tmp_path / "b.zarr", stack, channels=shown))
    np.testing.assert_array_equal(whole(slide), stack[:3].transpose(1, 2, 0))


def test_one_channel_of_fluorescence_is_refused_and_one_with_a_name_is_gray(tmp_path: Path):
    gray = picture(90, 60)[..., 0]
    for name, channel in (("a", {"Fluor": "Cy3", "Name": "Cy3"}), ("b", {"Name": "transmitted"})):
        path = tmp_path / f"{name}.ome.tif"
        tifffile.imwrite(
            path, gray, ome=True, metadata={"axes": "YX", "Channel": channel}, photometric="minisblack"
        )
    with pytest.raises(SlideError, match=r"a fluorescence slide of 1 channel \(Cy3\)"):
        open_slide(tmp_path / "a.ome.tif")
    said = "grayscale; models have seen RGB; its channel is called transmitted"
    assert open_slide(tmp_path / "b.ome.tif").info.remarks == (said,)


def test_channels_of_imagej_are_refused_for_nobody_knows_their_colours(tmp_path: Path):
    stack = picture(90, 60).transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "CYX", "mode": "composite"})
    with pytest.raises(SlideError, match="3 channels with photometric interpretation 1"):
        open_slide(tmp_path / "a.tif")


@pytest.mark.parametrize("metadata", [None, {}])
def test_gray_pages_of_one_size_are_refused_until_one_is_named(
    tmp_path: Path, metadata: dict[str, object] | None
):
    stack = picture(90, 60).transpose(2, 0, 1)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.ascontiguousarray(stack), metadata=metadata, photometric="minisblack", tile=(64, 64)
    )
    with pytest.raises(SlideError, match=r"3 gray pages of one size.*FILE::0"):
        open_slide(path)
    slide = open_slide(f"{path}::1")
    np.testing.assert_array_equal(whole(slide), stack[1][..., None].repeat(3, 2))


def test_a_refusal_of_the_picture_is_not_undone_by_openslide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    real = "wsi_deform.slide.detect.OpenSlideReader"
    monkeypatch.setattr(real, lambda path, image="": asked.append(path))
    gray = np.zeros((100, 100), np.uint16)
    for number, (pixels, how) in enumerate([
        (gray, {"photometric": "minisblack"}),
        (np.zeros((100, 100, 5), np.uint8), {"photometric": "minisblack", "planarconfig": "contig"}),
        (np.zeros((100, 100, 3), np.float32), {"photometric": "rgb"}),
        (np.zeros((100, 100, 4), np.uint8), {"photometric": "separated"}),
    ]):  # fmt: skip
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, pixels, tile=(64, 64), metadata=None, **how)
        with pytest.raises(SlideError, match=f"{number}.tif: "):
            open_slide(path)
    assert asked == []


def test_a_compression_that_only_openslide_knows_passes_on_but_not_that_of_an_ome_tiff(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from wsi_deform.slide.tiff import level

    monkeypatch.setattr(level, "YCBCR_DECODED", ())
    pixels = picture(256, 256)
    how = {"compression": "jpeg", "photometric": "ycbcr", "tile": (128, 128), "subsampling": (2, 2)}
    slide = open_slide(write_tiff(tmp_path / "a.tif", [pixels], **how))
    assert type(slide._reader()[1].reader).__name__ == "OpenSlideReader"
    with pytest.raises(
        SlideError, match=r"b\.ome\.tif: YCbCr pixels in compression 7 cannot be read directly"
    ):
        open_slide(write_ome_tiff(tmp_path / "b.ome.tif", [pixels], **how))


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_a_picture_of_several_frames_is_remarked_upon(tmp_path: Path, suffix: str):
    frames = [Image.fromarray(picture(60, 40, seed)).quantize(16) for seed in (0, 1)]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert "2 pictures in the file; the first is read" in open_slide(path).remarks
    frames[0].save(path)
    assert not any("pictures in the file" in remark for remark in open_slide(path).remarks)


def test_colours_of_inks_are_refused_and_the_remedy_works(tmp_path: Path):
    path = tmp_path / "a.jpg"
    Image.fromarray(picture(60, 40)).convert("CMYK").save(path, quality=95)
    with pytest.raises(SlideError, match=r"a\.jpg: colours of inks \(CMYK\)") as caught:
        open_slide(path)
    _, _, command = str(caught.value).partition("vips icc_transform IMAGE 'SLIDE.tif")
    options, profile = command.replace("'", "").split()
    assert (options, profile) == ("[tile,pyramid,compression=deflate]", "srgb")
    converted = pyvips.Image.new_from_file(str(path)).icc_transform(profile)
    converted.write_to_file(f"{tmp_path / 'b.tif'}{options}")
    assert whole(open_slide(tmp_path / "b.tif")).shape == (40, 60, 3)


def test_gray_of_12_packed_bits_is_refused_and_the_remedy_works(tmp_path: Path):
    """Two samples in three bytes, which libvips refuses."""
    gray = sixteen()[..., 0] >> 4
    packed = np.stack(
        [gray[:, ::2] >> 4, (gray[:, ::2] & 15) << 4 | gray[:, 1::2] >> 8, gray[:, 1::2] & 255], axis=-1
    )
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.zeros_like(gray), photometric="minisblack", metadata=None, rowsperstrip=len(gray)
    )
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages[0]
        tif.filehandle.seek(page.dataoffsets[0])
        tif.filehandle.write(packed.astype(np.uint8).tobytes())
        page.tags["StripByteCounts"].overwrite(packed.size)
        page.tags["BitsPerSample"].overwrite(12)
    with pytest.raises(SlideError, match=r"pixels are uint16 and gray.* Convert it: python -c") as caught:
        open_slide(path)
    command = str(caught.value).partition("python -c ")[2].strip('"')
    done = command.replace("IMAGE", str(path)).replace("SLIDE.tif", str(tmp_path / "b.tif"))
    subprocess.run([sys.executable, "-c", done], check=True)
    assert (whole(open_slide(tmp_path / "b.tif"))[..., 0] == gray >> 4).all()
