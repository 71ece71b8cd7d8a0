"""Drawn slides: the same for the same seed, equal in mean and contrast, readable as real slides."""

from __future__ import annotations

import numpy as np
import openslide
import pytest
import tifffile

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.annotation.raster import open_label_mask
from wsi_deform.drawn.gland import CLASS_NAMES, TEXTURES
from wsi_deform.drawn.slide import _distractors, draw_slide
from wsi_deform.drawn.study import _halved, draw_study, write_slide
from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest

SMALL = Size(512, 128)


@pytest.fixture(scope="module")
def drawings():
    return [draw_slide(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return draw_study(
        tmp_path_factory.mktemp("study"), train=3, val=1, test=2, size=SMALL, slides_per_patient=2, mpp=0.5
    )


def test_same_seed_draws_same_slide():
    first, again, other = draw_slide(7, SMALL), draw_slide(7, SMALL), draw_slide(8, SMALL)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(
    ("given", "counts", "rows", "columns"),
    [
        # A fold, a pen stroke above, dust, lymphocytes.
        pytest.param(
            {"seed": 1, "size": SMALL},
            [59928, 2558, 525, 0, 2525],
            [241.20, 242.50, 211.47, 196.92, 196.69, 206.86, 241.05, 243.56],
            [241.23, 228.01, 222.53, 222.66, 221.46, 218.19, 214.49, 215.20]
            + [221.76, 220.78, 221.82, 215.09, 217.21, 223.32, 220.92, 235.85],
            id="flat",
        ),
        # A fold, a pen stroke below; all classes.
        pytest.param(
            {"seed": 19, "size": SMALL, "patient": 3},
            [58917, 884, 1532, 2251, 1952],
            [242.02, 239.58, 206.96, 194.83, 193.19, 209.01, 240.95, 239.67],
            [237.06, 220.88, 219.50, 219.22, 216.03, 220.90, 220.72, 215.88]
            + [215.69, 213.28, 215.07, 219.79, 220.04, 218.67, 222.00, 237.68],
            id="of a patient",
        ),
        pytest.param(
            {"seed": 18, "size": Size(96, 256)},
            [22208, 442, 1227, 0, 699],
            [226.71, 216.09, 221.23, 221.63, 217.52, 219.11, 218.70, 229.90],
            [244.11, 244.02, 244.15, 241.72, 213.26, 198.88, 194.61, 191.36]
            + [188.58, 192.20, 199.62, 216.67, 240.43, 243.90, 244.18, 244.07],
            id="upright",
        ),
    ],
)
def test_a_seed_draws_what_it_always_drew(given, counts, rows, columns):
    """Numbers of studies on drawn slides hold for these pictures; brightness of 8 rows and 16 columns of boxes."""
    drawing = draw_slide(**given)
    assert np.bincount(drawing.labels.ravel(), minlength=5) == pytest.approx(counts, abs=2)
    height, width = drawing.labels.shape
    found = drawing.image.astype(float).reshape(8, height // 8, 16, width // 16, 3)
    assert found.mean((1, 2, 3, 4)) == pytest.approx(rows, abs=0.02)
    assert found.mean((0, 1, 3, 4)) == pytest.approx(columns, abs=0.02)


def test_about_nine_tenths_are_background_and_all_classes_occur(drawings):
    counts = np.bincount(np.concatenate([drawing.labels.ravel() for drawing in drawings]), minlength=5)
    assert len(counts) == len(CLASS_NAMES)
    assert 0.88 < counts[0] / counts.sum() < 0.94
    assert (counts[1:] / counts.sum() > 0.005).all()


def test_gland_classes_have_equal_mean_colour(drawings):
    # Per slide, because the stain differs between patients.
    for drawing in drawings:
        found = [
            drawing.image[drawing.labels == label] for label in TEXTURES if (drawing.labels == label).any()
        ]
        means = np.array([pixels.mean(axis=0) for pixels in found])
        assert np.ptp(means, axis=0).max() < 4


def test_contrast_varies_between_glands_alike_in_all_classes(drawings):
    contrast = [
        np.mean(
            [d.image[d.labels == label].mean(axis=1).std() for d in drawings if (d.labels == label).any()]
        )
        for label in TEXTURES
    ]
    assert max(contrast) / min(contrast) < 1.3


def test_classes_differ_in_the_period_of_their_texture(drawings):
    def detail_share(label):
        shares = []
        for drawing in drawings:
            grey = drawing.image.mean(axis=2)
            inside = drawing.labels == label
            whole = inside.reshape(32, 16, 128, 16).all((1, 3))
            blocks = grey.reshape(32, 16, 128, 16).swapaxes(1, 2)[whole]
            shares += [block.std() for block in blocks]
        return np.mean(shares)

    coarse, middle, fine = (detail_share(label) for label in (1, 2, 3))
    assert coarse < middle < fine


def test_slides_of_one_patient_share_the_stain():
    def stain(seed, patient):
        drawing = draw_slide(seed, SMALL, patient=patient)
        return np.median(drawing.image[:8].reshape(-1, 3), axis=0)

    assert np.abs(stain(1, 5) - stain(2, 5)).max() <= 1
    assert np.abs(stain(1, 5) - stain(1, 6)).max() > 1


@pytest.mark.parametrize("size", [Size(128, 512), Size(300, 77), Size(16, 16), Size(1, 40), Size(4096, 64)])
def test_any_size_can_be_drawn(size):
    drawing = draw_slide(5, size)  # 16 x 16 px with a gland whose texture is finer than pixels
    assert drawing.image.shape == (*size.shape, 3)
    assert drawing.labels.shape == size.shape
    assert drawing.image.dtype == drawing.labels.dtype == np.uint8
    assert drawing.labels.max() < len(CLASS_NAMES)


def test_several_cores_lie_side_by_side():
    tissue = (draw_slide(3, Size(512, 384), cores=3).image[..., 1] < 215).mean(axis=1)
    assert [tissue[row] > 0.5 for row in (64, 192, 320)] == [True] * 3
    assert [tissue[row] < 0.2 for row in (2, 128, 256, 381)] == [True] * 4


def test_light_goes_twice_through_a_fold():
    class Rng:
        random = iter([0.0, 0.9]).__next__  # a fold and no pen stroke
        poisson = staticmethod(lambda mean: 0)  # no dust
        uniform = staticmethod(lambda low, high: (low + high) / 2)

    image = np.full((128, 512, 3), 100, np.float32)
    _distractors(Rng(), image, 1.0, np.full(3, 200, np.float32))
    # Half of the light passes once, a quarter of it twice; the fold covers three quarters of its middle.
    assert image.min() == pytest.approx(62.5, abs=0.1)
    assert image.max() == 100
    assert image[0, :, 0].argmin() == 256  # half of the width, as drawn; upright


def test_too_many_cores_are_refused():
    with pytest.raises(ShapeError, match="cores = 9 on a slide of 512 x 128: needed 1 to 8"):
        draw_slide(0, SMALL, cores=9)


def test_study_can_be_read_as_a_user_would_bring_it(study):
    manifest = read_manifest(study.manifest)
    classes = read_class_table(study.classes)
    assert [row.split for row in manifest.rows] == ["train"] * 3 + ["val"] + ["test"] * 2
    assert [row.patient for row in manifest.rows] == ["P001", "P001", "P002", "P003", "P004", "P004"]
    assert classes.names == CLASS_NAMES
    assert classes.background == 0
    for row in manifest.rows:
        mask = open_label_mask(row.mask, slide_size=SMALL, classes=classes)
        assert mask.class_counts()[:-1].sum() == SMALL.area
    assert "slides/P001-A.tif" in study.manifest.read_text()
    assert sorted(path.name for path in study.manifest.parent.iterdir()) == [
        "classes.yaml",
        "labels",
        "manifest.csv",
        "slides",
    ]


def test_openslide_sees_every_level_and_mpp(study):
    row = read_manifest(study.manifest).rows[0]
    with openslide.OpenSlide(row.slide) as slide:
        assert slide.level_dimensions == ((512, 128), (256, 64), (128, 32), (64, 16))
        assert slide.level_downsamples == (1, 2, 4, 8)
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
        glass = np.asarray(slide.read_region((0, 0), 0, (64, 4)))[..., :3]
    assert glass.min() > 200  # colours survive: glass is white, not what YCbCr read as RGB looks like


def test_the_same_study_is_written_byte_for_byte(study, tmp_path):
    draw_study(tmp_path, train=3, val=1, test=2, size=SMALL, slides_per_patient=2, mpp=0.5, workers=1)
    for path in sorted(study.manifest.parent.rglob("*.*")):
        assert (tmp_path / path.relative_to(study.manifest.parent)).read_bytes() == path.read_bytes(), (
            path.name
        )


def test_levels_are_area_means(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (80, 96, 3)).astype(np.uint8)
    image = image.reshape(10, 8, 12, 8, 3).mean((1, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    write_slide(tmp_path / "a.tif", image, mpp=1.0, quality=100)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        levels = [page.asarray() for page in tiff.pages]
    assert [level.shape for level in levels] == [(80, 96, 3), (40, 48, 3), (20, 24, 3)]
    means = image.reshape(20, 4, 24, 4, 3).mean((1, 3))
    assert np.abs(levels[2].astype(float) - means).mean() < 5


def test_coarser_levels_are_rounded_means_and_end_above_half_of_32_px(tmp_path):
    image = np.zeros((3, 5, 3), np.uint8)
    image[:2, :2, 0] = [[1, 2], [3, 4]]  # 2.5
    image[:2, 2:4, 1] = [[1, 1], [0, 0]]  # 0.5
    image[0, 4, 2], image[2, 0, 0] = 9, 1
    halved = _halved(image)
    assert halved[..., 0].tolist() == [[3, 0, 0], [1, 0, 0]]
    assert halved[..., 1].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert halved[..., 2].tolist() == [[0, 0, 5], [0, 0, 0]]  # 4.5: the last column counts twice
    for height, levels in ((31, 1), (32, 2), (64, 3)):
        write_slide(tmp_path / "a.tif", np.zeros((height, 700, 3), np.uint8), mpp=1.0)
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            assert [page.subfiletype for page in tiff.pages] == [0, 1, 1][:levels]
            assert tiff.pages[0].tile == (256, 256)


def test_a_study_has_four_slides_a_patient_half_a_um_per_pixel_and_good_jpegs(tmp_path):
    told = []
    study = draw_study(
        tmp_path / "a", train=5, val=0, test=1, size=Size(96, 32), seed=3, on_slide=told.append
    )
    rows = read_manifest(study.manifest).rows
    assert told == [row.slide_id for row in rows]
    assert told == ["P001-A", "P001-B", "P001-C", "P001-D", "P002-A", "P003-A"]
    with openslide.OpenSlide(rows[0].slide) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    with tifffile.TiffFile(rows[0].mask) as tiff:
        numerator, denominator = tiff.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(20_000)
        assert "Software" not in tiff.pages[0].tags  # whose version would make bytes differ
    with tifffile.TiffFile(rows[0].slide) as tiff:
        assert "Software" not in tiff.pages[0].tags
    image = draw_slide(0, SMALL).image
    for path, given in (("b.tif", {}), ("c.tif", {"quality": 90}), ("d.tif", {"quality": 91})):
        write_slide(tmp_path / path, image, mpp=0.5, **given)
    default, same, other = ((tmp_path / f"{name}.tif").read_bytes() for name in "bcd")
    assert default == same != other


def test_slides_and_stains_of_a_study_have_seeds_of_their_own(tmp_path):
    study = draw_study(tmp_path, train=2, val=1, test=0, size=Size(96, 32), seed=3, slides_per_patient=2)
    for number, (row, patient) in enumerate(zip(read_manifest(study.manifest).rows, (1, 1, 2), strict=True)):
        own, stain = (
            int(np.random.SeedSequence([3, *each]).generate_state(1)[0])
            for each in ((number, 0), (patient, 1))
        )
        labels = draw_slide(own, Size(96, 32), patient=stain).labels
        np.testing.assert_array_equal(tifffile.imread(row.mask), labels)


def test_more_slides_a_patient_than_letters_are_numbered(tmp_path):
    for count, last in ((26, "P001-Z"), (27, "P001-027")):
        study = draw_study(
            tmp_path / str(count), train=count, val=0, test=0, size=Size(16, 16), slides_per_patient=count
        )
        assert read_manifest(study.manifest).rows[-1].slide_id == last


@pytest.mark.parametrize("wrong", [{"train": -1}, {"val": -1}, {"slides_per_patient": 0}, {"workers": 0}])
def test_a_study_that_cannot_be_is_refused(tmp_path, wrong):
    with pytest.raises(ShapeError, match="one slide per patient and one worker"):
        draw_study(tmp_path / "none", **{"train": 2, "val": 2, "test": 0, **wrong})
    assert not (tmp_path / "none").exists()


def test_an_empty_study_is_refused(tmp_path):
    with pytest.raises(ShapeError, match="needed at least one slide"):
        draw_study(tmp_path / "none", train=0, val=0, test=0)
    assert not (tmp_path / "none").exists()
