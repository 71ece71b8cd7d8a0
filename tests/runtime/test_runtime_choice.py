"""Which runtime a call computes with: what was asked for, what is installed, what was measured."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wsi_deform.distribute.job import SlideJob
from wsi_deform.distribute.sources import SlideSource
from wsi_deform.doctor import runtimes
from wsi_deform.errors import ModelError
from wsi_deform.runtime import choice, measured
from wsi_deform.runtime.choice import TORCH, Asked, Runtime, chosen_runtime, device_asked
from wsi_deform.runtime.measured import fastest_of, fastest_runtime, measured_file, write_measured
from wsi_deform.runtime.openvino_engine import repeated

INSTALLED = {"torch": (), "openvino": (), "onnx": ()}


def chosen(device: str = "cpu", *, fastest: str = "torch", digest: str = "d1", **asked: str) -> Runtime:
    return chosen_runtime(Asked(**asked), device, quantised=lambda: digest, fastest=lambda: fastest)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in INSTALLED:
        monkeypatch.setitem(choice.EXTRAS, name, ())


def test_without_a_measurement_all_is_as_before():
    found = chosen()
    assert (found.name, found.precision, found.text) == ("torch", "float32", "torch float32")
    assert found.settings() is None
    assert found.versions() == {}


@pytest.mark.usefixtures("installed")
def test_what_was_measured_is_taken_on_the_processor_alone():
    assert chosen(fastest="openvino").text == "openvino float32"
    assert chosen("cuda", fastest="openvino").text == "torch float32"
    assert chosen(fastest="openvino", name="torch").text == "torch float32"
    assert chosen(fastest="torch", name="onnx").text == "onnx float32"


def test_what_was_measured_and_removed_since_is_not_taken(monkeypatch):
    monkeypatch.setitem(choice.EXTRAS, "openvino", ("no_such_module_here",))
    assert chosen(fastest="openvino").text == "torch float32"


@pytest.mark.parametrize(("name", "extra"), [("openvino", "openvino"), ("onnx", "onnx")])
def test_what_is_not_installed_is_refused_with_the_command_that_installs_it(monkeypatch, name, extra):
    monkeypatch.setitem(choice.EXTRAS, name, ("json", "no_such_module_here"))
    with pytest.raises(ModelError) as told:
        chosen(name=name)
    assert str(told.value) == (
        f"runtime {name}: no_such_module_here not installed. Needed json, no_such_module_here. "
        f'Install them: pip install "wsi-deform[{extra}]"; or use --runtime torch.'
    )


@pytest.mark.usefixtures("installed")
def test_a_gpu_is_no_place_for_other_runtimes():
    with pytest.raises(ModelError, match=r"runtime openvino on device cuda: .* Needed --device cpu"):
        chosen("cuda", name="openvino")
    assert device_asked(Asked(name="openvino"), "auto") == "cpu"
    assert device_asked(Asked(precision="int8"), "auto") == "cpu"
    assert device_asked(Asked(), "auto") == "auto"
    assert device_asked(Asked(name="onnx"), "cuda:1") == "cuda:1"


@pytest.mark.usefixtures("installed")
def test_int8_is_openvino_and_says_which_networks():
    found = chosen(precision="int8")
    assert found.text == "openvino int8"
    assert found.settings() == {"runtime": "openvino", "precision": "int8", "networks": "d1"}
    assert found.others() == ()
    for name in ("torch", "onnx"):
        with pytest.raises(
            ModelError, match=rf"runtime {name} with precision int8: needed --runtime openvino"
        ):
            Asked(name=name, precision="int8")


def test_words_that_nobody_knows_are_refused():
    with pytest.raises(ModelError, match=r"runtime 'tvm': needed one of auto, torch, openvino, onnx\."):
        Asked(name="tvm")
    with pytest.raises(ModelError, match=r"precision 'int4': needed one of float32, int8\."):
        Asked(precision="int4")


def test_ten_per_cent_are_needed():
    assert fastest_of({"torch": 1.0, "openvino": 0.91, "onnx": 0.95}) == "torch"
    assert fastest_of({"torch": 1.0, "openvino": 0.9, "onnx": 0.95}) == "openvino"
    assert fastest_of({"torch": 1.0, "openvino": 0.8, "onnx": 0.7}) == "onnx"
    assert fastest_of({"openvino": 0.1}) == "torch"
    assert fastest_of({"torch": 1.0, "openvino": "fast", "tvm": 0.1}) == "torch"


@pytest.mark.usefixtures("installed")
def test_a_measurement_holds_for_its_processor_and_versions(monkeypatch, tmp_path):
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path))
    assert fastest_runtime() == "torch"
    write_measured({"torch": 1.0, "openvino": 0.5})
    assert measured_file() == tmp_path / "runtimes.json"
    assert fastest_runtime() == "openvino"
    kept = json.loads(measured_file().read_text())
    for broken in ("", "[1]", json.dumps(kept | {"format": "other"}), json.dumps(kept | {"cores": 10**6})):
        measured_file().write_text(broken)
        assert fastest_runtime() == "torch", broken
    measured_file().write_text(json.dumps(kept))
    monkeypatch.setattr(measured, "processor_name", lambda: "another one")
    assert fastest_runtime() == "torch"


def test_results_of_another_runtime_are_other_results():
    job = SlideJob(
        source=SlideSource(slide_id="a", path=Path("a.tif")), model=Path("m"), model_sha256="0", out=Path("o")
    )
    size = {"size": "1"}
    plain = job.fingerprint(size)
    made = {
        replace(job, runtime=runtime).fingerprint(size)
        for runtime in (
            TORCH,
            Runtime(name="openvino"),
            Runtime(name="onnx"),
            Runtime(name="openvino", precision="int8", digest="1"),
            Runtime(name="openvino", precision="int8", digest="2"),
        )
    }
    assert len(made) == 5
    assert plain in made
    # Whoever asked for a runtime gets its labels; who left the choice takes what is there, in float32.
    assert replace(job, runtime=Runtime(name="openvino")).fingerprints(size) == (
        replace(job, runtime=Runtime(name="openvino")).fingerprint(size),
    )
    left = replace(job, runtime=Runtime(name="openvino", is_auto=True)).fingerprints(size)
    assert len(left) == 3
    assert plain in left
    assert pickle.loads(pickle.dumps(job)).runtime == TORCH


def test_who_chooses_imports_neither_torch_nor_a_runtime():
    code = (
        "import sys, wsi_deform.runtime.measured as m; m.fastest_runtime(); "
        "print({'torch', 'openvino'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# What doctor measures


def test_doctor_says_what_to_install_where_there_is_torch_alone(monkeypatch):
    for name in ("openvino", "onnx"):
        monkeypatch.setitem(choice.EXTRAS, name, ("no_such_module_here",))
    (found,) = runtimes.runtime_findings()
    assert (found.status, found.subject) == ("ok", "fastest")
    assert found.text.startswith(
        'torch alone is installed; OpenVINO is often faster: pip install "wsi-deform[openvino]"'
    )


@pytest.mark.usefixtures("installed")
def test_doctor_keeps_what_it_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path))
    clock = SimpleNamespace(now=0.0)

    def passing(seconds: float):
        def run() -> None:
            clock.now += seconds

        return run

    monkeypatch.setattr(runtimes.time, "process_time", lambda: clock.now)
    passes = {"torch": passing(0.25), "openvino": passing(0.125), "onnx": passing(0.5)}
    monkeypatch.setattr(runtimes, "passes", lambda names, folder: passes)
    (found,) = runtimes.runtime_findings()
    assert found.status == "ok"
    assert found.text.startswith("torch 250 ms, openvino 125 ms, onnx 500 ms of processor time")
    assert found.text.endswith("`segment --runtime auto` takes openvino")
    assert fastest_runtime() == "openvino"
    assert chosen_runtime(Asked(), "cpu", quantised=str, fastest=fastest_runtime).text == "openvino float32"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WSI_DEFORM_CACHE", str(tmp_path / "file" / "below"))
    (found,) = runtimes.runtime_findings()
    assert (found.status, "not kept" in found.text) == ("remark", True)


def test_images_of_few_places_are_given_to_openvino_several_times():
    # int8 features of four places or fewer ended the process (OpenVINO 2026.4).
    assert repeated(np.empty((0, 3, 64, 64), np.float32)).shape == (0, 3, 64, 64)
    for shape, batch in (
        ((1, 3, 32, 32), 16),
        ((4, 3, 16, 16), 16),
        ((3, 3, 64, 64), 6),
        ((1, 3, 448, 64), 1),
    ):
        image = np.random.default_rng(0).random(shape, np.float32)
        found = repeated(image)
        assert found.shape == (batch, *shape[1:])
        assert np.array_equal(found[: shape[0]], image)
        assert np.array_equal(found[-shape[0] :], image)
