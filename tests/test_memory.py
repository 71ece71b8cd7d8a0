import pytest
import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.cover import FieldBudget
from wsi_deform.errors import ModelError
from wsi_deform.geometry import Region, Size
from wsi_deform.memory import fields_per_batch
from wsi_deform.model import Model
from wsi_deform.networks.memory import forward_bytes
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.slide.fields import Field


@pytest.fixture
def model():
    before = TILE_CACHE.limit_bytes
    torch.manual_seed(0)
    config = read_config(changes=["networks.segmentation={name: hrnetv2, width: 4, stem_stride: 2}"])
    yield Model(config=config, classes=ClassTable.from_names(["a", "b"]), mpp=0.5).eval()
    TILE_CACHE.set_limit(before)


def budgets(side):
    region = Region(0, 0, 4096, 4096)
    return [FieldBudget(field=Field(region, region), size=Size(side, side))] * 3


def test_without_a_limit_as_many_fields_as_wanted(model):
    assert fields_per_batch(model, budgets(256), wanted=8, memory_gib=None) == 8


def test_less_memory_means_fewer_fields_and_a_smaller_cache(model):
    counts = [fields_per_batch(model, budgets(512), wanted=64, memory_gib=gib) for gib in (64, 8, 4)]
    assert counts[0] == 64
    assert counts[0] > counts[1] > counts[2] >= 1
    fields_per_batch(model, budgets(16), wanted=1, memory_gib=2)
    assert TILE_CACHE.limit_bytes <= 0.2 * 2**30


def test_a_limit_below_one_field_says_how_much_would_do(model):
    with pytest.raises(
        ModelError, match=r"limit 0\.5 GiB(.|\n)*4096 x 4096 samples needs \d+\.\d+ GiB(.|\n)*--memory-gib"
    ):
        fields_per_batch(model, budgets(4096), wanted=1, memory_gib=0.5)


def test_forward_bytes_grow_with_the_area_and_hold_at_least_the_widest_tensor(model):
    small, large = (forward_bytes(model.segmentation, Size(side, side)) for side in (128, 512))
    assert large == pytest.approx(16 * small, rel=1e-6)
    # The stem's first output: 64 channels at half the size, float32.
    assert small > 64 * 64 * 64 * 4
