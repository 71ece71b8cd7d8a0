import numpy as np
import pytest
import torch
from skimage.color import hed2rgb, rgb2hed
from skimage.data import immunohistochemistry

from wsi_deform.data.stain_jitter import StainChange, random_stain_change, rgb_of_stains, stains_of_rgb


@pytest.fixture(scope="module")
def tissue():
    """(1, 3, H, W) in [0, 1], float32."""
    picture = immunohistochemistry()[::4, ::4] / np.float32(255)
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]


def skimage_of(image):
    return image[0].permute(1, 2, 0).double().numpy()


def test_stains_are_those_of_scikit_image_which_cuts_negative_ones_off(tissue):
    colours = torch.cat((tissue, torch.rand(tissue.shape, generator=torch.Generator().manual_seed(0))), dim=2)
    ours, theirs = skimage_of(stains_of_rgb(colours)), rgb2hed(skimage_of(colours))
    np.testing.assert_allclose(np.maximum(ours, 0), theirs, atol=2e-6)
    assert (ours < 0).any()
    np.testing.assert_allclose(
        skimage_of(rgb_of_stains(stains_of_rgb(colours).clamp(min=0))), hed2rgb(theirs), atol=2e-5
    )


def test_no_change_gives_the_image_back(tissue):
    none = StainChange(strength=torch.ones(1, 3), offset=torch.zeros(1, 3))
    torch.testing.assert_close(none(255 * tissue), 255 * tissue, atol=2e-3, rtol=0)


def test_convention_glass_stays_nearly_white_and_strength_darkens():
    drawn = random_stain_change(torch.randn(500, 2, 3, generator=torch.Generator().manual_seed(1)), 0.2)
    glass = torch.full((500, 3, 1, 1), 245.0)
    changed = drawn(glass)
    assert changed.mean() > 240
    assert (changed > 225).float().mean() > 0.99
    stronger = StainChange(strength=torch.tensor([[1.5, 1.0, 1.0]]), offset=torch.zeros(1, 3))
    # What is all haematoxylin has 1.5 times its optical density, channel by channel.
    pure = rgb_of_stains(torch.tensor([0.1, 0.0, 0.0]).view(1, 3, 1, 1))
    torch.testing.assert_close((stronger(255 * pure) / 255).log(), 1.5 * pure.log(), atol=1e-4, rtol=0)
    assert drawn.strength.std() == pytest.approx(0.2, rel=0.1)
    assert drawn.offset.std() == pytest.approx(0.02, rel=0.1)


def test_each_field_of_a_batch_has_its_own_change_and_parts_keep_it():
    drawn = random_stain_change(torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(2)), 0.1)
    images = torch.full((3, 3, 2, 2), 150.0)
    changed = drawn(images)
    assert not torch.allclose(changed[0], changed[1])
    assert torch.equal(drawn.part([2, 0])(images[[2, 0]]), changed[[2, 0]])


def test_gradient_reaches_the_image():
    drawn = random_stain_change(torch.randn(1, 2, 3, generator=torch.Generator().manual_seed(3)), 0.1)
    image = (40 + 150 * torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(4))).requires_grad_()
    drawn(image).sum().backward()
    with torch.no_grad():
        for channel in range(3):
            step = torch.zeros_like(image)
            step[0, channel, 1, 1] = 0.5
            slope = (drawn(image + step).sum() - drawn(image - step).sum()).item()
            assert image.grad[0, channel, 1, 1].item() == pytest.approx(slope, rel=0.02, abs=2e-3)
    black = torch.zeros(1, 3, 1, 1, requires_grad=True)
    drawn(black).sum().backward()
    assert torch.isfinite(black.grad).all()
