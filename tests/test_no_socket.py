"""Loading a model asks nothing of any other machine, whatever its stored options say."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.model import Model
from wsi_deform.model_file import load_model, read_model_facts, save_model
from wsi_deform.networks.monai_nets import MonaiNetwork
from wsi_deform.networks.registry import segmentation_network

CLASSES = ClassTable.from_names(["background", "tumour"])
NETWORKS: dict[str, dict[str, Any]] = {
    "hrnetv2": {"width": 2, "stem_stride": 4},
    "pspnet": {"depth": 18, "stem_stride": 4},
    "efficientnet-lite0": {"width": 8},
    "monai:DynUNet": {},
    "monai:UNet": {"channels": [4, 8], "strides": [2], "num_res_units": 1},
    "monai:BasicUNet": {"features": [4, 4, 4, 4, 4, 4]},
    "monai:SegResNet": {"init_filters": 8},
    "monai:AttentionUnet": {"channels": [4, 8], "strides": [2]},
    "monai:FlexibleUNet": {"backbone": "resnet10", "decoder_channels": [8, 8, 8, 8, 8]},
}


class SocketError(Exception):
    """Somebody asked for another machine."""


@pytest.fixture
def forbidden_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """No name is resolved and no socket is made; what was tried is listed, also where the error is swallowed."""
    tried: list[str] = []

    def refuse(name: str) -> Any:
        def refused(*_: Any, **__: Any) -> None:
            tried.append(name)
            raise SocketError(name)

        return refused

    for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse(name))
    yield tried
    assert tried == []


def stored(run: Path, name: str, options: dict[str, Any]) -> Path:
    """A run folder with a small untrained model."""
    network = json.dumps({"name": name, **options})
    config = read_config(
        changes=["networks.deformation.widths=[4, 4, 3]", f"networks.segmentation={network}"]
    )
    save_model(Model(config=config, classes=CLASSES, mpp=0.5), run / "best.safetensors", facts={})
    return run


def changed(run: Path, part: str, **values: Any) -> None:
    """Change what the JSON of a model says of its networks, as an older version or somebody else may write it."""
    about = json.loads((run / "best.json").read_text())
    networks = about["config"]["networks"]
    (networks if part == "networks" else networks[part]).update(values)
    (run / "best.json").write_text(json.dumps(about))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_of_every_network_loads_without_a_socket(
    tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    run = stored(tmp_path, name, NETWORKS[name])
    changed(run, "networks", pretrained="efficientnet-lite0")
    if name.startswith("monai:"):
        changed(run, "segmentation", pretrained=True, weights="https://example.org/weights.pt")
    tried = request.getfixturevalue("forbidden_sockets")
    model = load_model(run)
    assert tried == []
    assert (
        model.config.networks.pretrained == "efficientnet-lite0"
    )  # it says where the weights once came from
    assert not {"pretrained", "weights"} & model.config.networks.segmentation.options.keys()
    assert model.config.networks.segmentation.name == name


def test_the_package_of_published_weights_is_not_asked_for_by_a_model_that_started_from_them(
    tmp_path: Path, forbidden_sockets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsi_deform.networks.encoders.importlib.util.find_spec", lambda name: None)
    run = stored(tmp_path, "efficientnet-lite0", {"width": 8})
    changed(run, "networks", pretrained="efficientnet-lite0")
    assert load_model(run).classes.names == ("background", "tumour")


def test_an_option_that_fetches_would_open_a_socket_and_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That the tests above can fail, and that a model trained from somebody's weights does not ask for them again."""
    asked = []

    def fetched(self: MonaiNetwork, name: str, **options: Any) -> None:
        asked.append(options.pop("pretrained", False))
        made(self, name, **options)

    made = MonaiNetwork.__init__
    monkeypatch.setattr(MonaiNetwork, "__init__", fetched)
    run = stored(tmp_path, "monai:UNet", {**NETWORKS["monai:UNet"], "pretrained": True})
    assert asked == [True]
    assert (
        "pretrained" not in read_model_facts(run / "best.safetensors")["config"]["networks"]["segmentation"]
    )
    changed(run, "segmentation", pretrained=True)
    with torch.no_grad():
        load_model(run)
    assert asked == [True, False]


def test_a_network_of_monai_with_somebodys_weights_asks_for_them(forbidden_sockets: list[str]) -> None:
    """What the option does where a training asks for it, so that leaving it out is not for nothing."""
    with pytest.raises(Exception):  # noqa: B017, PT011  whatever the package that fetches makes of it
        segmentation_network("monai:FlexibleUNet", classes=2, backbone="efficientnet-b0", pretrained=True)
    assert "getaddrinfo" in forbidden_sockets or "create_connection" in forbidden_sockets
    forbidden_sockets.clear()
