"""Our slides in MONAI's hands: the pixels of its own backends, and formats that these do not read."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MaskedPatchWSIDataset, PatchWSIDataset, SlidingPatchWSIDataset, WSIReader
from monai.transforms import LoadImage, LoadImaged
from slide_files import picture, pyramid, write_ome_zarr, write_svs, write_tiff

from wsi_deform.errors import ShapeError, SlideError
from wsi_deform.for_monai.slide_reader import SlideReader


@pytest.fixture(scope="module")
def svs(tmp_path_factory):
    return write_svs(tmp_path_factory.mktemp("svs") / "a.svs", pyramid(453, 331), compression="deflate")


@pytest.fixture
def real(shared_data):
    return shared_data / "slides"


def patches(reader, path, places, level):
    slide = reader.read(path)
    found = [reader.get_data(slide, location=place, size=(64, 96), level=level)[0] for place in places]
    if hasattr(slide, "close"):  # MONAI leaves that to whoever reads
        slide.close()
    return found


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("CMU-1-Small-Region.svs", [0]),
        ("test3-DAPI-2-387.ndpi", [0, 2]),
        ("multi_frame_jpeg2000_camelyon_challenge_image.dcm", [0]),
        ("boxes.tiff", [0, 1]),
    ],
)
def test_pixels_are_those_of_monais_openslide_backend(real, name, levels):
    theirs, ours = WSIReader("openslide"), SlideReader()
    for level in levels:
        places = [(0, 0), (64, 32), (112, 96)]
        for found, expected in zip(
            patches(ours, real / name, places, level),
            patches(theirs, real / name, places, level),
            strict=True,
        ):
            assert found.shape == (3, 64, 96)
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "name", ["CMU-1-Small-Region.jpeg.tiff", "CMU-1-Small-Region.jp2.tiff", "CMU-1-Small-Region.webp.tiff"]
)
def test_pixels_are_those_of_monais_tifffile_backend(real, name):
    places = [(0, 0), (301, 517), (2000, 1999)]
    for found, expected in zip(
        patches(SlideReader(), real / name, places, 0),
        patches(WSIReader("tifffile"), real / name, places, 0),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_sizes_scales_and_powers_of_a_real_slide_are_those_of_openslide(real):
    path = real / "CMU-1-Small-Region.svs"
    theirs, ours = WSIReader("openslide"), SlideReader()
    slide = ours.read(path)
    with theirs.read(path) as wsi:
        assert ours.get_size(slide, 0) == theirs.get_size(wsi, 0) == (2967, 2220)
        assert ours.get_mpp(slide, 0) == theirs.get_mpp(wsi, 0) == (0.499, 0.499)
        assert ours.get_power(slide, 0) == theirs.get_power(wsi, 0) == 20
        # OpenSlide sees the one level that is stored; ours builds coarser ones.
        assert theirs.get_level_count(wsi) == slide.stored_levels == 1
    assert ours.get_downsample_ratio(slide, 0) == 1
    assert ours.get_level_count(slide) == 4
    assert ours.get_power(slide, 1) == pytest.approx(10, rel=1e-3)


def test_a_dicom_series_that_openslide_refuses_is_read(real):
    found, meta = (reader := SlideReader()).get_data(
        reader.read(real / "CMU-1-Small-Region-dicom"), location=(500, 700), size=(64, 64)
    )
    svs = WSIReader("openslide")
    with svs.read(real / "CMU-1-Small-Region.svs") as opened:
        expected, _ = svs.get_data(opened, location=(500, 700), size=(64, 64))
    assert np.abs(found.astype(int) - expected).mean() < 3  # compressed once more
    assert meta["backend"] == "wsi-deform"


def test_levels_are_chosen_by_level_mpp_or_power(svs):
    reader = SlideReader()
    slide = reader.read(svs)
    assert [reader.get_size(slide, level) for level in range(3)] == [(331, 453), (165, 226), (82, 113)]
    for choice in ({"level": 1}, {"mpp": 1.0}, {"power": 10}):
        chosen = SlideReader(**choice)
        image, meta = chosen.get_data(chosen.read(svs), location=(20, 40), size=(30, 50))
        np.testing.assert_array_equal(image, np.moveaxis(pyramid(453, 331)[1][10:40, 20:70], -1, 0))
        assert meta["level"] == 1
    with pytest.raises(ValueError, match="does not exist in this whole slide image"):
        reader.get_data(slide, mpp=0.7)
    with pytest.raises(ValueError, match="Only one of"):
        SlideReader(level=1, mpp=1.0).get_data(slide)


def test_channels_types_and_modes(svs):
    slide = SlideReader().read(svs)
    last, _ = SlideReader(channel_dim=-1, dtype=np.float32).get_data(slide, size=(8, 9))
    assert (last.shape, last.dtype) == ((8, 9, 3), np.float32)
    rgba, _ = SlideReader(mode="RGBA").get_data(slide, size=(8, 9))
    assert rgba.shape == (4, 8, 9)
    assert (rgba[3] == 255).all()
    tensor, _ = SlideReader(dtype=torch.uint8).get_data(slide, size=(8, 9))
    assert isinstance(tensor, torch.Tensor)
    with pytest.raises(ShapeError, match="mode 'HSV'.*RGB, RGBA"):
        SlideReader(mode="HSV").get_data(slide, size=(8, 9))


def test_outside_the_slide_is_its_background(svs):
    reader = SlideReader()
    found, _ = reader.get_data(reader.read(svs), location=(321, 443), size=(20, 20))
    assert (found[:, 10:] == 255).all()
    np.testing.assert_array_equal(found[:, :10, :10], np.moveaxis(picture(453, 331)[321:, 443:], -1, 0))


def test_any_scale_is_an_average_over_areas(svs):
    reader = SlideReader()
    slide = reader.read(svs)
    np.testing.assert_array_equal(
        reader.get_wsi_at_mpp(slide, 0.99), np.moveaxis(pyramid(453, 331)[1], -1, 0)
    )
    found = reader.get_wsi_at_mpp(slide, 0.499 * 1.5).astype(float)
    assert found.shape == (3, 221, 302)
    # A pixel covers one and a half of level 0 along each axis: three of pixels of half the side.
    halves = picture(453, 331).repeat(2, 0).repeat(2, 1)[:660]
    means = halves.reshape(220, 3, 302, 3, 3).mean((1, 3))
    assert np.abs(np.moveaxis(found, 0, -1)[:220] - means).max() <= 0.51
    assert reader.get_wsi_at_mpp(slide, (0.499 * 6, 0.499 * 3)).shape == (3, 55, 151)


@pytest.mark.filterwarnings("ignore:NvImgCodec")  # MONAI tries all of its readers out
def test_load_image_finds_the_reader_for_files_and_folders(svs, tmp_path):
    image = LoadImage(reader=SlideReader, image_only=True, level=1)(str(svs))
    np.testing.assert_array_equal(np.asarray(image), np.moveaxis(pyramid(453, 331)[1], -1, 0))
    assert image.meta["path"] == str(svs)
    zarr = write_ome_zarr(tmp_path / "b.ome.zarr", pyramid(120, 90, 2))
    loaded = LoadImaged(keys="image", reader=SlideReader())({"image": str(zarr)})
    np.testing.assert_array_equal(np.asarray(loaded["image"]), np.moveaxis(picture(120, 90), -1, 0))
    assert SlideReader().verify_suffix([str(svs), zarr])
    (tmp_path / "notes.txt").write_text("no slide")
    assert not SlideReader().verify_suffix(tmp_path / "notes.txt")


@pytest.mark.parametrize("reader", [SlideReader, SlideReader(level=1)])
def test_datasets_of_patches_read_slides(svs, reader):
    data = [{"image": str(svs), "location": [100, 200], "label": [1]}]
    dataset = PatchWSIDataset(data, patch_size=(32, 48), patch_level=1, reader=reader)
    image = dataset[0]["image"]
    # MONAI takes the location as the middle, and the size in px of level 0.
    top, left = (100 - 16) // 2, (200 - 24) // 2
    expected = pyramid(453, 331)[1][top : top + 32, left : left + 48]
    np.testing.assert_array_equal(np.asarray(image), np.moveaxis(expected, -1, 0))


def test_sliding_patches_cover_the_slide_once_in_workers_too(svs):
    dataset = SlidingPatchWSIDataset(
        [{"image": str(svs)}], patch_size=(100, 150), patch_level=0, reader=SlideReader
    )
    loaded = [each["image"][0] for each in DataLoader(dataset, batch_size=1, num_workers=2)]
    assert len(loaded) == len(dataset) == 3 * 3
    assert sum(float(each.double().sum()) for each in loaded) == picture(453, 331)[:300, :450].sum()
    slide = dataset.wsi_reader.read(svs)
    assert pickle.loads(pickle.dumps(slide)).size == slide.size


def test_masked_patches_lie_where_the_slide_is_not_white(tmp_path):
    pixels = np.full((256, 320, 3), 255, np.uint8)
    pixels[64:128, 96:192] = (120, 30, 140)
    path = write_tiff(tmp_path / "a.tif", [pixels, pixels[::2, ::2]], tile=(64, 64))
    dataset = MaskedPatchWSIDataset(
        [{"image": str(path)}], patch_size=32, patch_level=0, mask_level=1, reader=SlideReader
    )
    assert len(dataset) == 32 * 48  # one for each pixel of the level that is not white
    assert all((np.asarray(dataset[number]["image"]) == 30).any() for number in (0, 700, 32 * 48 - 1))


def test_several_slides_are_stacked(svs):
    reader = SlideReader()
    both, meta = reader.get_data(reader.read([svs, svs]), size=(8, 8))
    assert both.shape == (6, 8, 8)  # along the channels, as MONAI stacks
    assert meta["path"] == [str(svs), str(svs)]


def test_what_a_slide_does_not_know_is_said(tmp_path):
    path = write_tiff(tmp_path / "plain.tif", [picture(64, 48)], tile=(32, 32))
    with pytest.raises(SlideError, match=r"no believable microns-per-pixel.*slide_mpp"):
        SlideReader(mpp=1.0).get_data(SlideReader().read(path))
    with pytest.raises(SlideError, match="no power of an objective"):
        SlideReader(power=20).get_data(SlideReader().read(path))
    given = SlideReader(slide_mpp=0.25)
    assert given.get_mpp(given.read(path), 0) == (0.25, 0.25)
    (tmp_path / "broken.svs").write_bytes(b"II*\0nothing")
    with pytest.raises(SlideError, match="broken.svs"):
        SlideReader().read(tmp_path / "broken.svs")
