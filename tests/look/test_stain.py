import logging
import math

import numpy as np
import pytest
import torch
from drawn_reader import AddressReader, ArrayReader

from wsi_deform.errors import ShapeError
from wsi_deform.geometry import Point, Region, Size
from wsi_deform.look.stain import (
    REFERENCE,
    Stain,
    normalisation,
    stain_of,
    stain_of_pixels,
)
from wsi_deform.look.tissue import TissueMask, tissue_mask
from wsi_deform.slide.open import open_slide
from wsi_deform.slide.slide import Slide

PURPLE = np.array([[0.45, 0.84, 0.30], [0.15, 0.95, 0.27]])
DARK = np.array([[0.65, 0.66, 0.37], [0.27, 0.88, 0.39]])


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def tissue_pixels(vectors, strength, *, white=(255.0, 255.0, 255.0), count=4000, seed=0):
    """Pixels of mixed haematoxylin and eosin, (count, 3) float64; about 1 % of each is stronger than its strength."""
    rng = np.random.default_rng(seed)
    amounts = rng.beta(1.2, 2.0, (count, 2)) * np.asarray(strength) / 0.9
    alone = rng.random(count)
    amounts[alone < 0.15, 0] = 0
    amounts[alone > 0.85, 1] = 0
    return np.asarray(white) * np.exp(-amounts @ unit(vectors))


def drawn_slide(vectors, strength, *, white=(255.0, 255.0, 255.0), tissue=0.6, name="drawn"):
    """A slide of 256 x 256 px of 2 um, left part tissue, right part glass."""
    pixels = np.empty((256, 256, 3))
    pixels[:] = white
    columns = round(256 * tissue)
    if columns:
        drawn = tissue_pixels(vectors, strength, white=white, count=256 * columns)
        pixels[:, :columns] = drawn.reshape(256, columns, 3)
    reader = ArrayReader(np.rint(pixels).astype(np.uint8), mpp=2.0)
    return Slide.from_reader(reader, slide_id=name)


def image_of(pixels):
    """(1, 3, 1, N) of (N, 3)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.T)).float()[None, :, None]


def angle_degrees(one, other):
    return np.degrees(np.arccos(np.clip((unit(one) * unit(other)).sum(axis=1), -1, 1)))


@pytest.mark.parametrize(("vectors", "strength"), [(PURPLE, (2.2, 1.2)), (DARK, (3.0, 2.0))])
def test_stains_are_found_again(vectors, strength):
    found = stain_of_pixels(tissue_pixels(vectors, strength))
    assert angle_degrees(found.vectors, vectors).max() < 3
    np.testing.assert_allclose(found.strength, strength, rtol=0.15)
    white = (225.0, 228.0, 235.0)
    dim = stain_of_pixels(tissue_pixels(vectors, strength, white=white), white)
    np.testing.assert_allclose(dim.vectors, found.vectors, atol=1e-9)


def test_two_slides_of_different_stains_come_closer_and_near_the_reference():
    one, other = (tissue_pixels(*about) for about in ((PURPLE, (1.4, 0.8)), (DARK, (3.0, 2.0))))
    reference = tissue_pixels(REFERENCE.vectors, REFERENCE.strength)
    before = np.abs(one.mean(axis=0) - other.mean(axis=0)).max()
    same = [normalisation(stain_of_pixels(pixels))(image_of(pixels)) for pixels in (one, other)]
    means = [image.mean(dim=(0, 2, 3)).numpy() for image in same]
    assert np.abs(means[0] - means[1]).max() < 0.15 * before
    for mean in means:
        np.testing.assert_allclose(mean, reference.mean(axis=0), atol=10)


def test_a_slide_of_the_reference_stains_stays_as_it_is():
    image = 255 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    image = image.clamp(max=255)
    torch.testing.assert_close(normalisation(REFERENCE)(image), image, atol=1e-3, rtol=0)
    own = stain_of_pixels(tissue_pixels(PURPLE, (2.0, 1.0)))
    torch.testing.assert_close(normalisation(own, own)(image), image, atol=1e-2, rtol=0)


def test_convention_glass_becomes_white_and_haematoxylin_comes_first():
    slide = drawn_slide(PURPLE, (2.0, 1.2), white=(226.0, 229.0, 235.0))
    stain = stain_of(slide, tissue_mask(slide))
    assert stain.white == (226.0, 229.0, 235.0)
    assert angle_degrees(stain.vectors, PURPLE).max() < 4
    glass = torch.tensor(stain.white)[:, None, None]
    torch.testing.assert_close(normalisation(stain)(glass), torch.full((3, 1, 1), 255.0))
    full = drawn_slide(PURPLE, (2.0, 1.2), tissue=1.0)
    assert stain_of(full, tissue_mask(full)).white == (255.0, 255.0, 255.0)


def test_gradient_reaches_the_image_and_black_is_finite():
    change = normalisation(Stain(vectors=unit(PURPLE), strength=np.array([2.2, 1.2])))
    image = torch.tensor([120.0, 60.0, 140.0]).view(1, 3, 1, 1).requires_grad_()
    change(image).sum().backward()
    with torch.no_grad():
        step = torch.tensor([0.0, 0.5, 0.0]).view(1, 3, 1, 1)
        slope = (change(image + step).sum() - change(image - step).sum()).item()
    assert image.grad[0, 1].item() == pytest.approx(slope, rel=1e-2)
    black = torch.zeros(1, 3, 1, 1, requires_grad=True)
    change(black).sum().backward()
    assert torch.isfinite(black.grad).all()


def test_slides_without_enough_stained_tissue_are_left_alone(caplog):
    bare = drawn_slide(PURPLE, (2.0, 1.2), tissue=0.0, name="bare_glass")
    with caplog.at_level(logging.WARNING):
        assert stain_of(bare, tissue_mask(bare)) is None
    assert "bare_glass" in caplog.text
    one_stain = 255 * np.exp(-np.random.default_rng(0).random((1000, 1)) * unit(PURPLE)[:1])
    assert stain_of_pixels(one_stain) is None
    assert stain_of_pixels(tissue_pixels(PURPLE, (2.0, 1.2), count=150)) is None
    rng = np.random.default_rng(0)
    assert stain_of_pixels(rng.random((5000, 3)) ** 6 * 20) is None  # fluorescence: nearly black
    with pytest.raises(ShapeError, match="RGB"):
        stain_of_pixels(np.zeros((4, 4)))


def test_a_large_slide_is_measured_in_windows_and_twice_the_same():
    slide = drawn_slide(DARK, (2.5, 1.5))
    pixels = slide.read_region(0, slide.bounds).repeat(8, axis=0).repeat(8, axis=1)
    fine = Slide.from_reader(ArrayReader(pixels, mpp=0.25), slide_id="fine")
    found, again = (stain_of(fine, tissue_mask(fine)) for _ in range(2))
    assert np.array_equal(found.vectors, again.vectors)
    coarse = stain_of(slide, tissue_mask(slide))
    np.testing.assert_allclose(found.vectors, coarse.vectors, atol=0.02)
    np.testing.assert_allclose(found.strength, coarse.strength, rtol=0.05)


def test_real_tissue_has_two_stains_and_loses_its_own_tint(shared_data):
    names = ["glas/testA_10.png", "glas/train_3.png", "slides/CMU-1-Small-Region.svs"]
    means = []
    for name in names:
        slide = open_slide(shared_data / name)
        mask = tissue_mask(slide, max_side_px=1024)
        assert isinstance(mask, TissueMask)
        stain = stain_of(slide, mask)
        assert 10 < math.degrees(math.acos(stain.vectors[0] @ stain.vectors[1])) < 45
        assert 1 < stain.strength[0] < 3
        means.append(normalisation(stain).matrix)
    assert not np.allclose(means[0], means[2])


def mixed(first_px: int, second_px: int, *, amounts=(1.0, 1.0), vectors=PURPLE) -> np.ndarray:
    """Pixels of the one stain alone and of the other alone, so much of each."""
    density = unit(vectors) * np.asarray(amounts)[:, None]
    return 255 * np.exp(-np.repeat(density, (first_px, second_px), axis=0))


def turned(degrees: float) -> np.ndarray:
    """Two stains that are so far apart."""
    first, other = unit(PURPLE)
    across = unit((other - (other @ first) * first)[None])[0]
    return np.stack(
        (first, math.cos(math.radians(degrees)) * first + math.sin(math.radians(degrees)) * across)
    )


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (mixed(150, 50), True),
        (mixed(150, 49), False),  # 200 pixels or more
        # The first stain's least dense channel is blue, .302 of its length, the other's is red, .149 of its.
        (mixed(300, 300, amounts=(1.0, 1.02)), True),
        (mixed(100, 300, amounts=(1.0, 0.98)), False),  # .146 in red is glass: 100 are left
        (mixed(100, 300, amounts=(0.51, 1.1)), True),
        (mixed(300, 100, amounts=(0.49, 1.1)), False),
        (mixed(300, 300, vectors=turned(8.5), amounts=(1.0, 1.0)), True),
        (mixed(300, 300, vectors=turned(7.5), amounts=(1.0, 1.0)), False),
        (mixed(300, 300, amounts=(5.9, 2.0)), True),
        (mixed(300, 300, amounts=(6.1, 2.0)), False),
        (mixed(300, 300, amounts=(2.0, 5.3)), True),
    ],
)
def test_convention_how_much_of_what_is_a_stain(pixels, found):
    assert (stain_of_pixels(pixels) is not None) == found


def test_the_strength_is_the_99th_percentile():
    amounts = np.linspace(1, 2, 1001)
    vectors = unit(PURPLE)
    density = np.concatenate([amounts[:, None] * vector for vector in vectors])
    found = stain_of_pixels(255 * np.exp(-density))
    np.testing.assert_allclose(found.vectors, vectors, atol=1e-6)
    # Of 2,002 amounts of each, half of which are 0, 20 are above it.
    np.testing.assert_allclose(found.strength, [1.97999, 1.97999], atol=1e-4)


def test_windows_of_512_um_are_spread_evenly_and_read_at_2_um(monkeypatch):
    looked = []

    def view(_, region, size):
        looked.append((region, size))
        return np.full((*size.shape, 3), 200, np.float32)

    monkeypatch.setattr("wsi_deform.look.stain.low_res_view", view)
    for mpp, side, downsample in ((0.5, 20_000, 100), (None, 20_000, 100), (0.25, 40_000, 200)):
        looked.clear()
        reader = AddressReader(Size(side, side), mpp=mpp)
        full = TissueMask(tissue=np.ones((200, 200), bool), downsample=Point(downsample, downsample))
        assert stain_of(Slide.from_reader(reader, slide_id="a"), full) is None
        # 20 x 20 fields of 500 um, of which 16 are taken; the last view is for the glass.
        assert [size for _, size in looked] == [Size(250, 250)] * 16 + [Size(512, 512)]
        places = [(20 * region.x // side, 20 * region.y // side) for region, _ in looked[:-1]]
        assert places[:3] == [(0, 0), (7, 1), (13, 2)]  # numbers 0, 27 and 53
        assert places[-1] == (19, 19)
        assert looked[-1][0] == Region(0, 0, side, side)


def test_glass_is_200_bright_pixels_or_white_is_255():
    tissue = np.ones((256, 256), bool)
    tissue[:199, 255] = False  # of the right part, which is glass
    mask = TissueMask(tissue=tissue, downsample=Point(1, 1))
    slide = drawn_slide(PURPLE, (2.0, 1.2), white=(226.0, 229.0, 235.0))
    assert stain_of(slide, mask).white == (255.0, 255.0, 255.0)
    tissue[199, 255] = False
    assert stain_of(slide, mask).white == (226.0, 229.0, 235.0)
    for red, white in ((150.0, (255.0, 255.0, 255.0)), (151.0, (151.0, 229.0, 235.0))):
        slide = drawn_slide(PURPLE, (2.0, 1.2), white=(red, 229.0, 235.0))
        assert stain_of(slide, mask).white == white
