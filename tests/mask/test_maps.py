"""Probability and footprint maps: values, channels, what the common readers see, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import pyvips
import tifffile
from scipy.interpolate import RegularGridInterpolator

from wsi_deform.errors import MaskError, ShapeError
from wsi_deform.geometry import Region, Size
from wsi_deform.mask.coarse import map_downsample
from wsi_deform.mask.footprint import FootprintMap
from wsi_deform.mask.probability import ProbabilityMap
from wsi_deform.reverse.sampler import ReverseSampler
from wsi_deform.reverse.samples import FieldSamples

SIZE = Size(6000, 4100)
NAMES = ("background", "tumour & more", "\N{GREEK SMALL LETTER BETA}")


def lattice_points(lattice: Size, region: Region) -> np.ndarray:
    columns, rows = np.meshgrid(
        (np.arange(lattice.width) + 0.5) / lattice.width, (np.arange(lattice.height) + 0.5) / lattice.height
    )
    points = np.stack([columns * region.width + region.x, rows * region.height + region.y], axis=-1)
    return points.reshape(-1, 2)


def drawn_field(kept: Region, region: Region | None = None, seed: int = 0, classes: int = 3) -> FieldSamples:
    """A field on a uniform lattice with smooth probabilities."""
    region = region or kept
    lattice = Size(30, 20)
    points = lattice_points(lattice, region)
    waves = np.random.default_rng(seed).uniform(0.5, 2, (classes, 2))
    scores = np.stack([np.sin(points @ wave / 1500) * 2 for wave in waves], axis=-1)
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    return FieldSamples(
        kept=kept,
        points_px=points,
        labels=shares.argmax(axis=1).astype(np.uint8),
        probabilities=shares.astype(np.float32),
        lattice=lattice,
        areas_px=np.linspace(100, 90_000, lattice.area, dtype=np.float32),
    )


def written(writer: FootprintMap | ProbabilityMap, fields: Iterable[FieldSamples]) -> None:
    """Put all fields into a map and finish it."""
    with writer:
        for field in fields:
            writer.add(field)


@pytest.fixture(scope="module")
def fields() -> list[FieldSamples]:
    kept = [Region(100, 200, 2500, 3000), Region(2600, 200, 2000, 3900)]
    return [drawn_field(each, each.grown(150, SIZE), seed) for seed, each in enumerate(kept)]


@pytest.fixture(scope="module")
def probability_file(fields: list[FieldSamples], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "s.probability.ome.tif"
    colours = [(255, 255, 255), (255, 0, 16), (0, 128, 255)]
    settings = {"size": SIZE, "mpp": 0.25, "class_names": NAMES, "downsample": 8, "colours": colours}
    written(ProbabilityMap(path, **settings), fields)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    return path


def test_probabilities_are_linear_between_samples_and_zero_where_no_field_looked(
    fields: list[FieldSamples], probability_file: Path
):
    shown = tifffile.imread(probability_file)
    assert shown.shape == (3, 513, 750)
    assert shown.dtype == np.uint8
    for field in fields:
        points = field.points_px.reshape(*field.lattice.shape, 2)
        # On an even lattice a triangle differs from the bilinear quad by its curvature alone.
        bilinear = RegularGridInterpolator(
            (points[:, 0, 1], points[0, :, 0]), field.probabilities.reshape(*field.lattice.shape, -1)
        )
        rows = np.arange(field.kept.y // 8 + 25, field.kept.bottom // 8 - 25)
        columns = np.arange(field.kept.x // 8 + 25, field.kept.right // 8 - 25)
        at = np.stack(np.meshgrid(rows * 8 + 4, columns * 8 + 4, indexing="ij"), axis=-1)
        expected = np.moveaxis(bilinear(at), -1, 0) * 255
        difference = np.abs(shown[:, rows[:, None], columns].astype(float) - expected)
        assert difference.max() < 5
        assert difference.mean() < 0.5
    inside = np.zeros(shown.shape[1:], bool)
    inside[25:400, 12:325] = True  # (x + 1/2) 8 in [100, 2600), y in [200, 3200)
    inside[25:, 325:575] = True
    assert (shown[:, ~inside] == 0).all()
    assert (np.abs(shown[:, inside].astype(int).sum(axis=0) - 255) <= 2).all()


def test_the_best_class_of_the_map_is_that_of_the_linear_mask(
    fields: list[FieldSamples], probability_file: Path
):
    sampler = ReverseSampler(fields, size=SIZE, interpolation="linear", outside_label=255, tile_px=256)
    labels = sampler.region(Region.whole(sampler.level_sizes[3]), 3)
    shown = tifffile.imread(probability_file)
    best = np.sort(shown, axis=0)
    certain = (labels != 255) & (best[-1] > best[-2] + 1)
    assert certain.mean() > 0.5
    np.testing.assert_array_equal(shown.argmax(axis=0)[certain], labels[certain])


def test_tifffile_sees_all_channels_and_levels_which_are_means(probability_file: Path):
    with tifffile.TiffFile(probability_file) as tiff:
        assert tiff.is_ome
        series = tiff.series[0]
        assert (len(tiff.series), series.axes, len(series.levels)) == (1, "CYX", 3)
        fine, coarse, last = (level.asarray() for level in series.levels)
        assert (fine.shape, coarse.shape, last.shape) == ((3, 513, 750), (3, 257, 375), (3, 129, 188))
        root = ElementTree.fromstring(tiff.ome_metadata)
    means = fine[:, :512].reshape(3, 256, 2, 375, 2).mean(axis=(2, 4))
    everywhere = fine[:, :512].any(axis=0).reshape(256, 2, 375, 2).all(axis=(1, 3))
    assert np.abs(coarse[:, :256] - means)[:, everywhere].max() <= 0.5
    # A place that no field looked at does not dilute the others: channels still sum to one.
    sums = coarse.astype(int).sum(axis=0)
    assert (np.abs(sums[coarse.any(axis=0)] - 255) <= 3).all()
    space = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}
    assert root.find("ome:Image", space).get("Name") == "s"
    channels = root.findall("ome:Image/ome:Pixels/ome:Channel", space)
    assert [channel.get("Name") for channel in channels] == list(NAMES)
    assert [int(channel.get("Color")) & 0xFFFFFFFF for channel in channels][1] == 0xFF0010FF
    planes = root.findall("ome:Image/ome:Pixels/ome:TiffData", space)
    assert [(plane.get("FirstC"), plane.get("IFD")) for plane in planes] == [
        ("0", "0"),
        ("1", "1"),
        ("2", "2"),
    ]
    pixels = root.find("ome:Image/ome:Pixels", space)
    assert (pixels.get("SizeC"), pixels.get("PhysicalSizeX")) == ("3", "2.0")


def test_openslide_sees_the_first_channel_with_its_levels(probability_file: Path):
    with tifffile.TiffFile(probability_file) as tiff:
        fine = tiff.series[0].asarray()[0]
    with openslide.OpenSlide(probability_file) as slide:
        assert slide.level_dimensions == ((750, 513), (375, 257), (188, 129))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(2.0)
        shown = np.asarray(slide.read_region((0, 0), 0, (750, 513)))
    np.testing.assert_array_equal(shown[..., 0], fine)


def test_libvips_sees_every_channel_as_a_page(probability_file: Path):
    expected = tifffile.imread(probability_file)
    for channel in range(3):
        page = pyvips.Image.new_from_file(str(probability_file), page=channel)
        np.testing.assert_array_equal(page.numpy(), expected[channel])
        level = pyvips.Image.new_from_file(str(probability_file), page=channel, subifd=0)
        assert (level.width, level.height) == (375, 257)


def test_fields_may_come_one_by_one_in_any_order_and_with_threads(
    fields: list[FieldSamples], probability_file: Path, tmp_path: Path
):
    path = tmp_path / "s.probability.ome.tif"
    colours = [(255, 255, 255), (255, 0, 16), (0, 128, 255)]
    settings = {"size": SIZE, "mpp": 0.25, "class_names": NAMES, "downsample": 8, "colours": colours}
    written(ProbabilityMap(path, threads=2, **settings), reversed(fields))
    assert path.read_bytes() == probability_file.read_bytes()


def test_the_footprint_is_the_side_of_the_nearest_samples_cell_in_tenths_of_um(
    fields: list[FieldSamples], tmp_path: Path
):
    path = tmp_path / "s.footprint.ome.tif"
    written(FootprintMap(path, size=SIZE, mpp=0.25, downsample=16), fields)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    shown = tifffile.imread(path)
    assert (shown.shape, shown.dtype) == ((257, 375), np.uint16)
    rng = np.random.default_rng(0)
    for x, y in zip(rng.integers(0, 375, 400), rng.integers(0, 257, 400), strict=True):
        centre = np.array([x, y]) * 16 + 8
        owner = [f for f in fields if f.kept.x <= x * 16 + 8 < f.kept.right and y * 16 + 8 >= f.kept.y]
        owner = [f for f in owner if y * 16 + 8 < f.kept.bottom or f.kept.bottom == SIZE.height]
        if not owner:
            assert shown[y, x] == 0
            continue
        nearest = ((owner[0].points_px - centre) ** 2).sum(axis=1).argmin()
        assert shown[y, x] == pytest.approx(10 * 0.25 * owner[0].areas_px[nearest] ** 0.5, abs=0.51)
    with tifffile.TiffFile(path) as tiff:
        fine, coarse = (level.asarray() for level in tiff.series[0].levels)
        assert tiff.series[0].axes == "YX"
    assert (coarse[:128, :187] == fine[:256, :374].reshape(128, 2, 187, 2).max(axis=(1, 3))).all()
    with openslide.OpenSlide(path) as slide:
        assert slide.level_count == 2
    np.testing.assert_array_equal(pyvips.Image.new_from_file(str(path)).numpy(), fine)


def test_the_smallest_and_largest_footprints_are_a_tenth_of_a_um_and_6553_of_them(tmp_path: Path):
    size = Size(64, 32)
    field = FieldSamples(
        kept=Region.whole(size),
        points_px=np.array([[8.0, 16.0], [24.0, 16.0], [40.0, 16.0], [56.0, 16.0]]),
        labels=np.zeros(4, np.uint8),
        areas_px=np.array([0.0, 4.0, 1e6, 1e12], np.float32),
    )
    written(FootprintMap(tmp_path / "f.ome.tif", size=size, mpp=0.5, downsample=2), [field])
    found = tifffile.imread(tmp_path / "f.ome.tif")
    assert found[8, [4, 12, 20, 28]].tolist() == [1, 10, 5000, 65535]


@pytest.mark.parametrize(("downsample", "said"), [(0, "1 to 256"), (3, "1 to 256"), (512, "1 to 256")])
def test_maps_of_other_than_a_power_of_two_or_of_a_few_pixels_are_refused(
    tmp_path: Path, downsample: int, said: str
):
    with pytest.raises(
        ShapeError, match=f"downsample {downsample}. Needed a power of two, {said} for a slide"
    ):
        FootprintMap(tmp_path / "f.ome.tif", size=Size(4000, 3000), mpp=1.0, downsample=downsample)
    coarsest = FootprintMap(tmp_path / "f.ome.tif", size=Size(4000, 3000), mpp=1.0, downsample=256)
    assert coarsest._map.size == Size(16, 12)
    assert list(tmp_path.iterdir()) == []


def test_maps_have_tiles_of_256_px(fields: list[FieldSamples], probability_file: Path):
    with tifffile.TiffFile(probability_file) as tiff:
        assert tiff.pages[0].tile == (256, 256)


def test_probabilities_of_no_field_may_be_written_too(tmp_path: Path):
    writer = ProbabilityMap(
        tmp_path / "p.ome.tif", size=Size(64, 32), mpp=1.0, class_names=["a", "b"], downsample=2
    )
    with writer:
        assert writer.size == Size(32, 16)
        writer.put(Region(3, 5, 2, 1), np.array([[[0.25, 0.0]], [[0.75, 0.0]]], np.float32))
    found = tifffile.imread(tmp_path / "p.ome.tif")
    assert found[:, 5, 2:5].tolist() == [[0, 64, 0], [0, 191, 0]]
    assert found.sum() == 64 + 191


def test_the_default_resolution_is_about_half_the_spacing_of_the_samples():
    assert map_downsample(64_000, 1e10, Size(100_000, 100_000)) == 128  # spacing 395 px
    assert map_downsample(10**9, 1e8, Size(10_000, 10_000)) == 1
    assert map_downsample(0, 1e8, Size(100_000, 100_000)) == 4096  # as of one sample: half of 10,000 px
    assert map_downsample(100, 64.0 * 64 * 100, Size(100_000, 100_000)) == 32  # exactly half of 64 px
    assert map_downsample(1, 1e8, Size(100, 60)) == 8  # 13 x 8 px
    assert map_downsample(1_200, 15_300_000, SIZE) == 32  # spacing 113 px


def test_the_resolution_of_a_map_is_that_of_its_pixels(fields: list[FieldSamples], tmp_path: Path):
    path = tmp_path / "coarse.ome.tif"
    written(FootprintMap(path, size=SIZE, mpp=0.5, downsample=32), fields)
    assert tifffile.imread(path).shape == (129, 188)
    with tifffile.TiffFile(path) as tiff:
        assert 'PhysicalSizeX="16.0"' in tiff.ome_metadata


def test_a_slide_of_a_few_pixels_has_maps_too(tmp_path: Path):
    size = Size(130, 90)
    field = drawn_field(Region.whole(size))
    downsample = map_downsample(len(field.labels), size.area, size)
    settings = {"size": size, "downsample": downsample}
    written(ProbabilityMap(tmp_path / "p.ome.tif", mpp=None, class_names=NAMES, **settings), [field])
    written(FootprintMap(tmp_path / "f.ome.tif", mpp=1.0, **settings), [field])
    assert tifffile.imread(tmp_path / "p.ome.tif").shape == (3, 45, 65)
    assert tifffile.imread(tmp_path / "f.ome.tif").shape == (45, 65)


def test_maps_are_whole_or_absent(fields: list[FieldSamples], tmp_path: Path):
    path = tmp_path / "p.ome.tif"
    settings = {"size": SIZE, "mpp": 0.25, "downsample": 8}

    def interrupted() -> Iterator[FieldSamples]:
        yield fields[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(ProbabilityMap(path, class_names=NAMES, **settings), interrupted())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ShapeError, match="a field has 3 classes"):
        written(ProbabilityMap(path, class_names=NAMES[:2], **settings), fields)
    with pytest.raises(ShapeError, match="downsample 12"):
        written(ProbabilityMap(path, class_names=NAMES, **(settings | {"downsample": 12})), fields)
    bare = FieldSamples(kept=fields[0].kept, points_px=fields[0].points_px, labels=fields[0].labels)
    with pytest.raises(ShapeError, match="no areas_px"):
        written(FootprintMap(path, **settings), [bare])
    with pytest.raises(ShapeError, match="no probabilities"):
        written(ProbabilityMap(path, class_names=NAMES, **settings), [bare])
    with pytest.raises(MaskError, match=r"nowhere.*Check folder"):
        written(FootprintMap(tmp_path / "nowhere" / "f.ome.tif", **settings), fields)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_at_a_coarser_level_is_a_clear_error(
    fields: list[FieldSamples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, made = np.memmap, []

    def memmap(path: Path, *args: Any, **given: Any) -> Any:
        if made:
            raise OSError(28, "No space left on device")
        made.append(path)
        return real(path, *args, **given)

    monkeypatch.setattr(np, "memmap", memmap)
    with pytest.raises(MaskError, match=r"f\.ome\.tif: cannot be written .*No space left.*free space"):
        written(FootprintMap(tmp_path / "f.ome.tif", size=SIZE, mpp=0.25, downsample=8), fields)
    assert list(tmp_path.iterdir()) == []
