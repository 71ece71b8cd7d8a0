"""Rows of whole slides whose networks another program computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_runtime import put_fake

from pipelines.benchmarks import __main__ as command
from pipelines.benchmarks import runtimes, whole_slide
from pipelines.benchmarks.results import RUNTIMES, Settings
from wsi_deform.model_file import load_model, save_model
from wsi_deform.networks.stand_in import has_stand_in

GIVEN = {"side": 20_480, "slide": "s.tif", "labels": "l.tif", "folder": "out", "threads": 2}


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    save_model(whole_slide.load_untrained(), tmp_path / "ours.safetensors", facts={})
    return tmp_path / "ours.safetensors"


def names(ours: Path, **options: Any) -> dict[str, dict[str, Any]]:
    sizes = {"large": False, "quick": False}
    networks, _ = whole_slide._groups(GIVEN, [str(ours)], "patches.safetensors", None, **sizes, **options)
    return {case.name: case.params for case in networks}


def test_every_system_at_full_resolution_gets_a_row_of_each_runtime(ours: Path) -> None:
    found = names(ours, runtimes=RUNTIMES)
    assert found.keys() - names(ours).keys() == {
        "ours x1, openvino", "patches, level 0, openvino", "monai, level 0, openvino",
        "ours x1, int8", "patches, level 0, int8", "monai, level 0, int8",
    }  # fmt: skip
    # All that differs is what computes the network.
    for name, runtime in (("patches, level 0", "openvino"), ("monai, level 0", "int8"), ("ours x1", "int8")):
        assert found[f"{name}, {runtime}"] == {**found[name], "runtime": runtime}


def test_rows_of_other_runtimes_are_asked_for_where_their_packages_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(command, "_run", lambda _, settings: bool(seen.append(settings)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "nncf" else object())
    with pytest.raises(SystemExit):
        command.main(["whole_slide", "--runtimes"])
    assert "--runtimes: nncf not installed. Needed both" in capsys.readouterr().err
    assert command.main(["whole_slide"]) == 0
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert command.main(["whole_slide", "--runtimes"]) == 0
    assert [each.runtimes for each in seen] == [(), ("openvino", "int8")]


def test_a_row_computes_with_its_runtime_and_the_model_of_the_other_rows(
    ours: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_fake(monkeypatch, tmp_path / "cache")
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    plain, other = (whole_slide._loaded(str(ours), zero=False, runtime=name) for name in ("", "openvino"))
    assert not has_stand_in(plain.segmentation)
    assert has_stand_in(other.segmentation)
    with torch.no_grad():
        needed, found = plain.scores(image), other.scores(image)
    assert float((found - needed).abs().max()) < 1e-5 * float(needed.abs().max())
    quantised = tmp_path / "ours.benchmark-int8" / "segmentation.xml"
    model = runtimes.computed_by(load_model(ours), ours, "int8")
    stand_in = vars(model.segmentation)["forward"]
    assert (stand_in.part, stand_in.path) == ("segmentation", quantised)


def test_models_that_take_turns_on_a_slide_write_masks_of_their_own(
    ours: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Both ran before either was measured, so that one had the accuracy of the other.
    written: list[Path] = []

    def noted(slide: object, model: object, out: Any, **options: object) -> Any:
        written.append(out.mask("s"))
        return SimpleNamespace(flops=1, read_pixels=1, samples=1, fields=1)

    monkeypatch.setattr(whole_slide, "segment_to_files", noted)
    monkeypatch.setattr(whole_slide, "_opened", lambda path: (None, SimpleNamespace(total_bytes=0)))
    monkeypatch.setattr(whole_slide, "tissue_of", lambda slide: None)
    monkeypatch.setattr(whole_slide, "_warm_up", lambda *given: None)
    given = {**GIVEN, "folder": str(tmp_path), "model": str(ours), "factor": 1.0, "zero": False}
    first, second = whole_slide.ours(**given), whole_slide.ours(**given)
    for work in (first, second, first):
        work.run(0)
    assert written[0] == written[2]
    assert written[0] != written[1]
