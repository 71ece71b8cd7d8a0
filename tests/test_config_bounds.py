"""What each key of a configuration may be: the last value that is taken, and the first that is refused."""

from __future__ import annotations

import pytest

from wsi_deform.config import read_config
from wsi_deform.errors import ConfigError

BOUNDS = {
    "sampling.budget": (["[1, 1]", "[7, 7]"], ["[0, 7]", "[8, 7]"]),
    "sampling.edge_smoothness": ([0], [-0.01]),
    "sampling.edge_lattice": ([1], [0]),
    "sampling.map_scale": ([0.01, 8], [0, 8.01]),
    "sampling.view_px": (["null", "[1, 1]", "[7, 7]"], ["[0, 7]", "[8, 7]"]),
    "sampling.sigma": ([0.01], [0]),
    "sampling.sigma_px": (["null", 0.01], [0]),
    "sampling.radius_sigmas": ([0.01], [0]),
    "sampling.warp_steps": ([1, 8], [0, 9]),
    "sampling.floor": ([0, 1], [-0.01, 1.01]),
    "sampling.level_bias": ([-16, 16], [-16.01, 16.01]),
    "sampling.coarsest_um": (["null", 0.01, 20_000], [0, 0.0099, 20_001]),
    "fields.side_um": (["null", 0.01, 200_000], [0, 0.0099, 200_001]),
    "fields.whole_below_mpx": ([0], [-0.01]),
    "fields.whole_below_mm2": ([0], [-0.01]),
    "fields.margin": ([0, 1], [-0.01, 1.01]),
    "fields.allocation_ratio": ([1], [0.99]),
    "networks.deformation.kernel": ([3, 5, 7], [1, 4, 9]),
    "networks.resizer.blocks": ([1, 4], [0, 5]),
    "networks.resizer.filters": ([16, 32], [8, 24]),
    "networks.resizer.input_scale": ([1], [0.99]),
    "loss.focal_gamma": ([0], [-0.01]),
    "loss.edge_weight": ([0], [-0.01]),
    "loss.edge_blur": ([0], [-0.01]),
    "loss.edge_floor": ([0], [-0.01]),
    "optimiser.learning_rate": ([1e-9], [0]),
    "optimiser.deformation_learning_rate": ([1e-9], [0]),
    "optimiser.weight_decay": ([0], [-0.01]),
    "optimiser.warmup_epochs": ([0], [-0.01]),
    "optimiser.deformation_warmup_epochs": ([0], [-0.01]),
    "optimiser.step_epochs": ([1], [0]),
    "optimiser.clip_norm": (["null", 0.01], [0]),
    "optimiser.ema": (["null", 0.01, 0.99], [0, 1]),
    "augmentation.shift_cells": ([0], [-0.01]),
    "augmentation.warp_cells": ([0], [-0.01]),
    "augmentation.rotate_degrees": ([0, 180], [-0.01, 180.01]),
    "augmentation.stain_jitter": ([0, 1], [-0.01, 1.01]),
    "augmentation.move": ([0, 1], [-0.01, 1.01]),
    "training.epochs": ([1], [0]),
    "training.auxiliary_epochs": ([1], [0]),
    "training.patience": (["null", 1], [0]),
    "training.batch": ([1], [0]),
    "training.fields_per_slide": (["null", 1], [0]),
    "training.rare_classes": ([0, 1], [-0.01, 1.01]),
    "training.validate_every": ([1], [0]),
    "training.keep": ([0], [-1]),
    "training.pictures": ([0], [-1]),
    "training.workers": ([0], [-1]),
    "training.cache_gib": ([0], [-0.01]),
    "training.threads": (["null", 1], [0]),
}


@pytest.mark.parametrize(("key", "taken", "refused"), [(key, *bounds) for key, bounds in BOUNDS.items()])
def test_values_up_to_the_bound_are_taken_and_beyond_it_refused(key, taken, refused):
    for value in taken:
        read_config(changes=[f"{key}={value}"])
    for value in refused:
        with pytest.raises(ConfigError, match=rf"{key}: found "):
            read_config(changes=[f"{key}={value}"])


def test_a_side_is_one_px_or_more_and_given_once():
    assert read_config(changes=["fields={side_um: null, side_px: 1}"]).fields.side_px == 1
    with pytest.raises(ConfigError, match=r"fields\.side_px: found 0"):
        read_config(changes=["fields={side_um: null, side_px: 0}"])
    with pytest.raises(ConfigError, match="side_um 2048 and side_px 512: needed one of them"):
        read_config(changes=["fields.side_px=512"])


def test_a_resizer_of_which_nothing_is_said_is_the_smallest_of_the_paper_on_four_times_the_side():
    resizer = read_config(changes=["networks.resizer={}"]).networks.resizer
    assert (resizer.blocks, resizer.filters, resizer.input_scale) == (1, 16, 4.0)


SQUARE = "sampling.budget=[64, 64]"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([SQUARE, "fields.margin=0.49"], ""),
        ([SQUARE, "fields={side_um: null, side_px: 512}"], ""),
        ([SQUARE, "fields.side_um=null"], r"needed fields\.side_um or side_px"),
        (["sampling.budget=[63, 64]"], r"a square sampling\.budget such as \[512, 512\]"),
        ([SQUARE, "fields.margin=0.5"], r"needed fields\.margin below 0\.5"),
        ([SQUARE, "fields.cut_to_tissue=true"], "cut_to_tissue: false"),
        ([SQUARE, "fields.allocation=density"], "and allocation: equal"),
    ],
)
def test_fields_of_an_exact_side_need_a_side_a_square_budget_and_nothing_that_changes_them(changes, said):
    changes = [*changes, "fields.exact=true"]
    if not said:
        assert read_config(changes=changes).fields.exact
        return
    with pytest.raises(ConfigError, match=said):
        read_config(changes=changes)


def test_an_exact_size_of_images_goes_with_equal_shares_alone():
    assert read_config(changes=["sampling.size=exact"]).sampling.size == "exact"
    assert read_config(changes=["fields.allocation=density"]).fields.allocation == "density"
    with pytest.raises(
        ConfigError, match=r"size exact with fields\.allocation density: needed allocation: equal"
    ):
        read_config(changes=["sampling.size=exact", "fields.allocation=density"])


def test_the_pull_is_a_share_of_the_maps_short_side_unless_it_is_given_in_px():
    assert read_config(changes=["sampling.sigma=0.25"]).sampling.pull_px(60) == 15
    assert read_config(changes=["sampling.sigma_px=5"]).sampling.pull_px(60) == 5


def test_lengths_in_um_are_those_that_are_set():
    both = {"fields.side_um": 2048.0, "sampling.coarsest_um": 16.0}
    assert read_config().lengths_in_um == both
    assert read_config(changes=["fields.side_um=null"]).lengths_in_um == {"sampling.coarsest_um": 16.0}
    assert read_config(changes=["sampling.coarsest_um=null"]).lengths_in_um == {"fields.side_um": 2048.0}


def test_a_cell_is_bounded_in_um_or_in_px():
    changes = ["sampling.coarsest_um=null", "sampling.coarsest_px=1"]
    assert read_config(changes=changes).sampling.coarsest_px == 1
    with pytest.raises(ConfigError, match="coarsest_px: found 0.9"):
        read_config(changes=["sampling.coarsest_um=null", "sampling.coarsest_px=0.9"])
    with pytest.raises(
        ConfigError, match="coarsest_um 16 and coarsest_px 64: needed one of them; set the other"
    ):
        read_config(changes=["sampling.coarsest_px=64"])


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("fields.side_um=2048000", "needed um, 0.01 to 200,000; if it was meant in nm, write 2048"),
        ("sampling.coarsest_um=0.005", "needed um, 0.01 to 20,000; if it was meant in mm, write 5"),
        ("fields.side_um=1e12", "needed um, 0.01 to 200,000."),
    ],
)
def test_a_length_that_nothing_on_a_slide_has_is_refused_with_the_unit_that_it_looks_like(change, hint):
    with pytest.raises(ConfigError) as caught:
        read_config(changes=[change])
    assert hint in str(caught.value)
