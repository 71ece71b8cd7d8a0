"""The parts of a model as modules of their own."""

from __future__ import annotations

import pytest
import torch
from exported_model import small_model

from wsi_deform.export.networks import (
    Centred,
    DensityNetwork,
    ScoreNetwork,
    exported_networks,
    network_arguments,
)
from wsi_deform.export.verify import example_input
from wsi_deform.geometry import Size
from wsi_deform.model_file import load_model, save_model
from wsi_deform.networks.deformation import DeformationNetwork
from wsi_deform.networks.inputs import network_input


@pytest.mark.parametrize("inputs", ["rgb", "rgb+tissue"])
@pytest.mark.parametrize("areas", [True, False])
def test_parts_compute_what_the_model_computes(inputs: str, areas: bool):
    model = small_model(inputs=inputs, areas=areas, dilations=[1, 2])
    parts = exported_networks(model)
    assert list(parts) == ["deformation", "segmentation"]
    view = example_input(3 if inputs == "rgb" else 4, Size(37, 11), batch=2)
    with torch.inference_mode():
        density = parts["deformation"](view)
        torch.testing.assert_close(density, model.density(view), rtol=1e-5, atol=0)
        torch.testing.assert_close(density.sum((1, 2, 3)), torch.ones(2))
        assert density.max() > 1.5 * density.min()
        sampled = example_input(4 if areas else 3, Size(37, 11), batch=2)
        torch.testing.assert_close(parts["segmentation"](sampled), model.scores(sampled))


def test_parts_of_hrnet_fuse_as_the_model_does(tmp_path):
    scores = {}
    sampled = example_input(4, Size(72, 40), batch=1)
    for fuse in ("nearest", "bilinear"):
        segmentation = {"name": "hrnetv2", "width": 2, "stem_stride": 4, "fuse": fuse}
        save_model(small_model(segmentation=segmentation), tmp_path / "best.safetensors", facts={})
        model = load_model(tmp_path)
        part = exported_networks(model)["segmentation"]
        with torch.inference_mode():
            scores[fuse] = part(sampled)
            # Rounding grows through 300 layers of random weights.
            assert (scores[fuse] - model.scores(sampled)).norm() < 1e-3 * scores[fuse].norm()
    # The same weights; only the option differs.
    assert (scores["nearest"] - scores["bilinear"]).norm() > 0.01 * scores["bilinear"].norm()


def test_channels_are_centred_as_the_model_does():
    image = example_input(4, Size(8, 6), batch=1)
    centred = Centred(4)(image)
    torch.testing.assert_close(centred[:, :3], network_input(image[:, :3]))
    torch.testing.assert_close(centred[:, 3], 2 * image[:, 3] - 1)


def test_constants_are_not_stored_with_the_weights_but_move_with_the_module():
    network = DensityNetwork(widths=(4,))
    assert all(name.startswith("network.") for name in network.state_dict())
    assert network.to("meta").centred.shift.is_meta


def test_networks_that_are_not_told_otherwise_are_those_of_models():
    density, plain = DensityNetwork(), DeformationNetwork()
    assert str(density.network) == str(plain)
    assert density.floor == 0
    assert ScoreNetwork(name="hrnetv2", classes=2, options={"width": 1}).network.backbone.in_channels == 3


def test_a_model_without_deformation_network_has_one_part():
    assert list(exported_networks(small_model(density="uniform"))) == ["segmentation"]


def test_arguments_are_plain_data():
    arguments = network_arguments(small_model(dilations=[1, 2]))
    assert arguments["deformation"] == {
        "in_channels": 3,
        "widths": [6, 2],
        "kernel": 3,
        "dilations": [1, 2],
        "floor": 0.1,
    }
    assert arguments["segmentation"]["options"]["channels"] == [4, 8]
