import pytest
import torch
from tiny_study import tiny_model

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.model_file import load_model
from wsi_deform.train.ema import WeightAverage


@pytest.fixture
def model(tmp_path):
    return load_model(tiny_model(tmp_path, ClassTable.from_names(["background", "gland"])))


def set_weights(model, value):
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(value)


def test_convention_average_of_early_steps_keeps_less_and_later_ones_keep_the_decay(model):
    set_weights(model, 0.0)
    average = WeightAverage(model, 0.5)
    expected = 0.0
    kept = [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5, 0.5, 0.5]
    for update, part in enumerate(kept):
        set_weights(model, float(update))
        average.update()
        expected = part * expected + (1 - part) * update
    for weight in average.weights.values():
        assert weight.flatten()[0].item() == pytest.approx(expected, rel=1e-5)
    assert int(average.updates) == 12


def test_after_an_applied_average_the_model_has_its_own_weights_bit_for_bit(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    average = WeightAverage(model, 0.9)
    for weight in average.weights.values():
        weight.add_(1.0)
    with average.applied():
        for name, weight in model.named_parameters():
            assert torch.equal(weight, average.weights[name])
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_convention_buffers_stay_the_models_own(model):
    average = WeightAverage(model, 0.9)
    buffers = dict(model.named_buffers())
    assert buffers
    with torch.no_grad():
        for buffer in buffers.values():
            buffer.add_(1)
    changed = {name: buffer.clone() for name, buffer in buffers.items()}
    with average.applied():
        assert all(torch.equal(changed[name], buffer) for name, buffer in model.named_buffers())
    assert not set(buffers) & set(average.weights)


def test_state_that_is_copied_in_is_the_state_from_then_on(model):
    one, two = WeightAverage(model, 0.9), WeightAverage(model, 0.9)
    set_weights(model, 2.0)
    one.update()
    for name, tensor in two.tensors().items():
        tensor.copy_(one.tensors()[name])
    set_weights(model, -1.0)
    one.update()
    two.update()
    assert int(two.updates) == 2
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)
