import math

import pytest
import torch

from wsi_deform.config import parse_config
from wsi_deform.train.schedule import edge_weight, set_learning_rates, warmup_factor

SEGMENTATION, DEFORMATION = 2e-3, 1e-2


def rates(epoch, step, *, steps=4, groups=2, **optimiser):
    config = parse_config({"optimiser": optimiser, "training": {"epochs": 10}}, source="test")
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(groups)]
    bases = (SEGMENTATION, DEFORMATION)[:groups]
    adam = torch.optim.Adam(
        [{"params": [weight], "base": base} for weight, base in zip(weights, bases, strict=True)], lr=1.0
    )
    found = set_learning_rates(adam, config, epoch, step, steps)
    assert list(found.values()) == [group["lr"] for group in adam.param_groups]
    return found


def test_convention_first_step_of_a_warm_up_has_the_first_part_of_the_rate_and_its_last_step_all():
    settings = {"decay": "none", "warmup_epochs": 1.5}
    assert rates(0, 0, **settings)["learning_rate"] == pytest.approx(SEGMENTATION / 6)
    assert rates(0, 3, **settings)["learning_rate"] == pytest.approx(SEGMENTATION * 4 / 6)
    assert rates(1, 0, **settings)["deformation_learning_rate"] == pytest.approx(DEFORMATION * 5 / 6)
    assert rates(1, 1, **settings) == {
        "learning_rate": SEGMENTATION,
        "deformation_learning_rate": DEFORMATION,
    }
    assert rates(9, 3, **settings)["learning_rate"] == SEGMENTATION


def test_deformation_network_warms_up_alone():
    found = rates(1, 0, decay="none", deformation_warmup_epochs=5.0)
    assert found["learning_rate"] == SEGMENTATION
    assert found["deformation_learning_rate"] == pytest.approx(DEFORMATION * 1.25 / 5)


def test_convention_deformation_network_follows_the_slower_of_two_warm_ups():
    for own, everything in ((5.0, 2.0), (2.0, 5.0)):
        found = rates(1, 0, decay="none", deformation_warmup_epochs=own, warmup_epochs=everything)
        assert found["deformation_learning_rate"] == pytest.approx(DEFORMATION * 1.25 / 5)
        assert found["learning_rate"] == pytest.approx(SEGMENTATION * 1.25 / everything)


def test_convention_warm_up_multiplies_the_decay_and_the_decay_is_as_without_it():
    plain = rates(2, 2, decay="cosine")["learning_rate"]
    assert plain == pytest.approx(SEGMENTATION * 0.5 * (1 + math.cos(math.pi * 0.25)))
    assert rates(2, 2, decay="cosine", warmup_epochs=2)["learning_rate"] == plain
    assert rates(2, 2, decay="cosine", warmup_epochs=5)["learning_rate"] == pytest.approx(plain * 2.75 / 5)


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1.0), (2, 1.0), (3, 0.1), (6, 0.01)])
def test_step_decay_divides_by_ten(epoch, factor):
    assert rates(epoch, 1, decay="step", step_epochs=3)["learning_rate"] == pytest.approx(
        SEGMENTATION * factor
    )


def test_without_a_deformation_network_there_is_one_rate():
    assert rates(0, 0, groups=1, decay="none") == {"learning_rate": SEGMENTATION}


def test_no_warm_up_is_a_factor_of_one():
    assert warmup_factor(0.0, 0.0) == 1.0
    assert warmup_factor(0.25, 0.5) == 0.5


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        ("none", [3.0, 3.0, 3.0]),
        ("linear", [3.0, 1.5, 3.0 / 40]),
        ("cosine", [3.0, 1.5, 1.5 * (1 + math.cos(math.pi * 39 / 40))]),
    ],
)
def test_edge_weight_falls_from_its_value_to_nothing_over_the_run(decay, expected):
    config = parse_config(
        {"loss": {"edge_weight": 3.0, "edge_decay": decay}, "training": {"epochs": 10}}, source="test"
    )
    found = [edge_weight(config, epoch, step, 4) for epoch, step in ((0, 0), (5, 0), (9, 3))]
    assert found == pytest.approx(expected)
    assert edge_weight(config, 10, 0, 4) == pytest.approx(3.0 if decay == "none" else 0.0)
