"""One network of MONAI without the rest of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsi_deform.networks import monai_alone
from wsi_deform.networks.monai_alone import nets_class, networks_alone

OPTIONS = {
    "DynUNet": {},
    "UNet": {},
    "BasicUNet": {"features": [4, 4, 4, 4, 4, 4]},
    "SegResNet": {},
    "AttentionUnet": {},
}
ALONE_AND_WHOLE = """
import json, sys, torch
from wsi_deform.networks.monai_alone import nets_class, networks_alone
from wsi_deform.networks.registry import segmentation_network

def made(name, options):
    torch.manual_seed(0)
    network = segmentation_network("monai:" + name, classes=3, **options).eval()
    with torch.no_grad():
        return network, network(torch.linspace(0, 1, 3 * 32 * 64).view(1, 3, 32, 64))

said = {}
options = json.loads(sys.argv[1])
with networks_alone():
    alone = {name: made(name, each) for name, each in options.items()}
    said["loaded"] = [name for name in ("monai", "matplotlib", "scipy.signal", "skimage") if name in sys.modules]
    # Its files ask for MONAI's version, which only all of MONAI has.
    said["whole"] = nets_class("VNet").__name__
import monai
said["version"] = monai.__version__ != "" and monai.networks.nets.DynUNet.__name__
for name, each in options.items():
    whole, scores = made(name, each)
    same_names = list(whole.state_dict()) == list(alone[name][0].state_dict())
    said[name] = same_names and bool(torch.equal(scores, alone[name][1]))
print(json.dumps(said))
"""


def test_a_network_alone_scores_as_with_all_of_monai_which_is_imported_whole_afterwards() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE_AND_WHOLE, json.dumps(OPTIONS)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"loaded": [], "version": "DynUNet", "whole": "VNet", **dict.fromkeys(OPTIONS, True)}


def test_a_name_that_monai_has_not_is_none_and_leaves_nothing_behind() -> None:
    with networks_alone():
        assert nets_class("NoSuchNet") is None
    assert not [each for each in sys.meta_path if isinstance(each, monai_alone._Finder)]


def test_a_monai_that_cannot_be_read_in_parts_is_imported_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {name: module for name, module in sys.modules.items() if monai_alone._is_monai(name)}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(monai_alone.ast, "parse", lambda source: (_ for _ in ()).throw(SyntaxError))
    whole = type("Whole", (), {"DynUNet": 7})
    real = monai_alone.importlib.import_module

    def imported(name: str, package: str | None = None) -> object:
        finders = [type(each).__name__ for each in sys.meta_path]
        return real(name, package) if "_Finder" in finders else whole

    monkeypatch.setattr(monai_alone.importlib, "import_module", imported)
    with networks_alone():
        assert nets_class("DynUNet") == 7


def test_monai_is_read_in_parts_only_when_asked_to_and_not_where_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [each for each in sys.modules if monai_alone._is_monai(each)]:
        monkeypatch.delitem(sys.modules, name)
    in_parts: list[bool] = []

    def imported(name: str, package: str | None = None) -> object:
        in_parts.append(any(isinstance(each, monai_alone._Finder) for each in sys.meta_path))
        return type("Nets", (), {"UNet": 7})

    monkeypatch.setattr(monai_alone.importlib, "import_module", imported)
    assert nets_class("UNet") == 7
    with networks_alone():
        assert nets_class("UNet") == 7
        monkeypatch.setitem(sys.modules, "monai", sys)
        assert nets_class("UNet") == 7
    assert in_parts == [False, True, False]
