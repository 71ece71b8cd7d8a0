"""How much of a slide each method reads, and what is said where methods are not on the same terms."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from wsi_deform.config import find_config, parse_config, read_config
from wsi_deform.config_sections import Config
from wsi_deform.evaluate.cost import SlideCost
from wsi_deform.geometry import Size
from wsi_deform.report.reading import reading, reading_table, unlike_notes

WARP = parse_config({"sampling": {"budget": [16, 64]}}, source="test")
BLOCKS = read_config(find_config("blocks"))


def evaluated(*costs: SlideCost) -> Any:
    """Slides of 2,048 x 512 and 1,024 x 512 px, and further ones of the latter."""
    sizes = [Size(2048, 512), *([Size(1024, 512)] * (len(costs) - 1))]
    return SimpleNamespace(
        slides=[SimpleNamespace(size=size, cost=cost) for size, cost in zip(sizes, costs, strict=True)]
    )


def test_samples_are_a_share_of_the_average_slide_and_views_are_counted_apart() -> None:
    cost = SlideCost(samples=1024, read_pixels=2048)
    read = reading(WARP, evaluated(cost, cost))
    assert (read.labelled, read.what, read.seen, read.share) == (1024, "samples", 2048, "1 / 768")
    assert read.text() == "1,024 samples, 1 / 768 of the pixels"


def test_of_blocks_pixels_count_not_labels() -> None:
    read = reading(BLOCKS, evaluated(SlideCost(samples=99, read_pixels=4000), SlideCost(read_pixels=4192)))
    assert (read.labelled, read.what, read.share) == (4096, "pixels read", "1 / 192")


def test_what_nobody_wrote_down_is_a_dash() -> None:
    read = reading(WARP, evaluated(SlideCost(samples=1024), SlideCost()))
    assert (read.labelled, read.share, read.text()) == (None, "–", "")
    assert reading_table({"joint": WARP}, {"joint": read}, {"joint": [{}]}).rows == (
        ("joint", "–", "–", "–", "random", "1 epoch, 0.0 s"),
    )


def test_a_row_says_what_a_method_reads_begins_with_and_takes() -> None:
    costs = {"joint": SlideCost(samples=1024, read_pixels=2048), "blocks": SlideCost(read_pixels=4096)}
    configs = {"joint": WARP, "blocks": BLOCKS}
    reads = {method: reading(configs[method], evaluated(cost)) for method, cost in costs.items()}
    logs = {"joint": [{"seconds": 40.0}, {"seconds": 41.0}], "blocks": [{"seconds": 3.0}]}
    assert reading_table(configs, reads, logs).rows == (
        ("joint", "1,024 samples", "1 / 1,024", "2,048", "random", "2 epochs, 1 min 21 s"),
        ("blocks", "4,096 pixels read", "1 / 256", "4,096", "ImageNet", "1 epoch, 3.0 s"),
    )


@pytest.mark.parametrize(
    ("pretrained", "expected"),
    [
        (
            "efficientnet-lite0",
            "blocks is not on the same terms: it reads 4 times as many pixels as uniform and joint take samples, and "
            "its encoder was trained on ImageNet's photographs before; the others begin with random weights. Where it "
            "is ahead, its way of looking is one reason of several.",
        ),
        (
            None,
            "blocks is not on the same terms: it reads 4 times as many pixels as uniform and joint take samples. Where "
            "it is ahead, its way of looking is one reason of several.",
        ),
    ],
)
def test_blocks_beside_samples_are_not_on_the_same_terms(pretrained: str | None, expected: str) -> None:
    networks = BLOCKS.networks.model_copy(update={"pretrained": pretrained})
    configs: dict[str, Config] = {
        "uniform": WARP, "joint": WARP, "blocks": BLOCKS.model_copy(update={"networks": networks})
    }  # fmt: skip
    reads = {
        method: reading(config, evaluated(SlideCost(samples=1024, read_pixels=4096)))
        for method, config in configs.items()
    }
    assert unlike_notes(configs, reads) == [expected]
    assert unlike_notes({"blocks": BLOCKS}, {"blocks": reads["blocks"]}) == []
    assert unlike_notes({"joint": WARP}, {"joint": reads["joint"]}) == []
