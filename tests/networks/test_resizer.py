import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from wsi_deform.errors import ModelError, ShapeError
from wsi_deform.geometry import Size
from wsi_deform.networks.resizer import Resizer


def random_resizer(**options):
    torch.manual_seed(0)
    resizer = Resizer(**options)
    torch.nn.init.normal_(resizer.head.weight, std=0.1)
    return resizer


@pytest.mark.parametrize(
    ("image", "size"),
    [((64, 48), Size(12, 16)), ((37, 91), Size(13, 7)), ((8, 8), Size(8, 8)), ((5, 7), Size(10, 9))],
)
@pytest.mark.parametrize(("blocks", "filters"), [(1, 16), (4, 32)])
def test_images_of_any_size_become_images_of_any_size(image, size, blocks, filters):
    found = random_resizer(blocks=blocks, filters=filters).eval()(torch.randn(2, 3, *image), size)
    assert found.shape == (2, 3, *size.shape)
    assert torch.isfinite(found).all()


def test_convention_before_training_the_result_is_the_bilinear_antialiased_image():
    """The same as Pillow's, which scales its triangle with the factor."""
    image = torch.randn(1, 3, 30, 44, generator=torch.Generator().manual_seed(1))
    found = Resizer().eval()(image, Size(11, 6))[0]
    for channel in range(3):
        picture = Image.fromarray(image[0, channel].numpy(), mode="F")
        expected = torch.from_numpy(np.array(picture.resize((11, 6), Image.Resampling.BILINEAR)))
        torch.testing.assert_close(found[channel], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("blocks", "filters", "weights"),
    # 7x7 and 1x1 with biases, BN; per block twice 3x3 and BN; 3x3 and BN; 7x7 to 3 with biases.
    [
        (1, 16, 2368 + 272 + 32 + 2 * (2304 + 32) + 2304 + 32 + 2355),
        (3, 32, 4736 + 1056 + 64 + 6 * (9216 + 64) + 9216 + 64 + 4707),
    ],
)
def test_layers_are_those_of_the_paper(blocks, filters, weights):
    resizer = Resizer(blocks=blocks, filters=filters)
    assert sum(each.numel() for each in resizer.parameters()) == weights
    slopes = [each.negative_slope for each in resizer.modules() if isinstance(each, torch.nn.LeakyReLU)]
    assert slopes == [0.2] * (2 + blocks)


def test_gradients_reach_every_weight():
    resizer = random_resizer(blocks=2)
    resizer(torch.randn(2, 3, 32, 32), Size(8, 8)).square().mean().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in resizer.parameters())


def test_what_cannot_be_resized_is_refused():
    for options in ({"blocks": 0}, {"filters": 0}):
        with pytest.raises(ModelError, match="1 or more"):
            Resizer(**options)
    assert Resizer(filters=1).eval()(torch.zeros(1, 3, 8, 8), Size(2, 3)).shape == (1, 3, 3, 2)
    with pytest.raises(ShapeError, match=r"resizer.*needed \(B, 3, H, W\)"):
        Resizer()(torch.zeros(1, 4, 8, 8), Size(2, 2))


def test_the_cost_is_what_the_page_of_baselines_says():
    """209 million multiplications: 7x7 and 1x1 on 256 x 256 px, then a block, a 3x3 and a 7x7 on 64 x 64."""
    with FlopCounterMode(display=False) as counted:
        Resizer().eval()(torch.zeros(1, 3, 256, 256), Size(64, 64))
    large, small = 256**2 * (147 * 16 + 16 * 16), 64**2 * (3 * 144 * 16 + 784 * 3)
    assert counted.get_total_flops() == 2 * (large + small) == 2 * 208_863_232
