"""TIAToolbox is not installed where tests run: a small program with its names stands in for it."""

from __future__ import annotations

import importlib
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
try:
    from pipelines.benchmarks import __main__ as command
    from pipelines.benchmarks import tables, tiatoolbox_rows, whole_slide
    from pipelines.benchmarks.drawn_slides import CLASSES, QUICK_BLOCKS, Mosaic, drawn_file
    from pipelines.benchmarks.models import Trained
    from pipelines.benchmarks.results import Settings
    from wsi_deform.config import read_config
    from wsi_deform.geometry import Region
    from wsi_deform.model import Model
    from wsi_deform.model_file import save_model
finally:
    sys.path.remove(str(ROOT))

STAND_IN = {
    "tiatoolbox/__init__.py": "__version__ = '2.1.3'",
    "tiatoolbox/models/__init__.py": "",
    "tiatoolbox/models/engine/__init__.py": "",
    "tiatoolbox/models/engine/io_config.py": "IOSegmentorConfig = dict",
    "tiatoolbox/models/models_abc.py": "import torch\nclass ModelABC(torch.nn.Module):\n    pass",
    "tiatoolbox/models/engine/semantic_segmentor.py": """
import numpy as np
import tifffile
import tifffile
import torch
import zarr
from PIL import Image

class SemanticSegmentor:
    def __init__(self, model, batch_size, num_workers, device, verbose):
        self.model, self.batch = model, batch_size

    def run(self, slides, masks, patch_mode, ioconfig, auto_get_mask, save_dir, overwrite, output_type):
        (slide,), (mask,) = slides, masks
        pixels = np.asarray(Image.open(slide)) if slide.suffix == ".png" else tifffile.imread(slide, level=0)
        side, _ = ioconfig["patch_input_shape"]
        labels = np.zeros(pixels.shape[:2], np.uint8)
        places = np.argwhere(mask) * side
        for at in range(0, len(places), self.batch):
            corners = places[at : at + self.batch]
            windows = np.stack([pixels[y : y + side, x : x + side] for y, x in corners])
            found = self.model.infer_batch(self.model, torch.from_numpy(windows), device="cpu")
            for (y, x), each in zip(corners, self.model.postproc(found), strict=True):
                labels[y : y + side, x : x + side] = each
        zarr.create_group(save_dir / "slide.zarr", overwrite=overwrite).create_array("predictions", data=labels)
        return {slide: save_dir / "slide.zarr"}
""",
}


# What a Python of TIAToolbox's environment does when it is told to measure.
PROGRAM = """
import json
import sys
import numpy as np

def answer(**data):
    print(json.dumps(data), flush=True)

for line in sys.stdin:
    told = json.loads(line)
    if "prepare" in told:
        windows = int(np.load(told["prepare"]["mask"]).sum())
        answer(facts={{"part": told["prepare"]["part"], "version": "2.1.3"}}, base_mib=200)
    elif "run" in told:
        found = {{"started_as": " ".join(sys.argv[1:]), "windows": windows, "predictions": "{predictions}"}}
        answer(seconds=30.0, cpu_seconds=20.0, peak_mib=400, facts=found)
    else:
        answer(facts={{}})
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    for name, text in STAND_IN.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def rival(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.syspath_prepend(str(stand_in))
    found = importlib.import_module("pipelines.benchmarks.tiatoolbox_rival")
    monkeypatch.setattr(found, "WARM_UP_PX", 256)
    for name in [each for each in sys.modules if each.split(".")[0] == "tiatoolbox"] + [found.__name__]:
        monkeypatch.delitem(sys.modules, name)
    return found


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of patches that says class 3 everywhere."""
    changes = [
        "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 4}",
        "networks.area_channel=false",
        "sampling.budget=[16, 16]",
    ]
    made = Model(config=read_config(changes=changes), classes=CLASSES, mpp=0.25).eval()
    last = made.segmentation.head[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.eye(5)[3])
    save_model(made, tmp_path / "model.safetensors", facts={"steps": 0})
    return tmp_path / "model.safetensors"


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    return drawn_file(Mosaic(side_px=2048, **QUICK_BLOCKS), cache, say=lambda _: None).slide


def params(tmp_path: Path, slide: Path, model: Path, wanted: Any) -> dict[str, Any]:
    np.save(tmp_path / "windows.npy", np.asarray(wanted, bool))
    said = {"side": 2048, "slide": str(slide), "folder": str(tmp_path), "threads": 1, "window_px": 128}
    return {**said, "mask": str(tmp_path / "windows.npy"), "model": str(model)}


def test_tiatoolbox_is_among_the_rivals_where_there_is_a_python_that_has_it() -> None:
    given = {"side": 20_480, "slide": "s.tif", "labels": "l.tif", "folder": "out", "threads": 2}
    sizes = {"large": False, "quick": False}
    for python in (None, Path("venv/bin/python")):
        networks, zero = whole_slide._groups(given, [], "patches.safetensors", python, **sizes)
        found = [case for case in [*networks, *zero] if case.name.startswith("tiatoolbox")]
        if python is None:
            assert found == []
            continue
        assert [(case.name, case.params["part"]) for case in found] == [
            ("tiatoolbox, level 0", 0.05),
            ("tiatoolbox, level 0, zero", 1.0),
            ("tiatoolbox, level 0, zero, scores", 1.0),
        ]
        assert {case.python for case in found} == {"venv/bin/python"}
        others = {case.python for case in [*networks, *zero] if case not in found}
        assert others == {sys.executable}


def test_the_network_sees_a_part_of_the_batches_and_the_engine_all(
    tmp_path: Path, rival: ModuleType, slide: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0]]
    work = rival.work(**params(tmp_path, slide, model, wanted), part=0.5, zero=False)
    assert work.facts == {"part": 0.5, "version": "2.1.3"}
    # The clock goes on by a second in every call of the network, and by four in all that is around it.
    ticks = iter([10.0, 11.0, 12.0, 15.0])
    monkeypatch.setattr(rival.time, "process_time", lambda: next(ticks))
    facts = work.run(0)
    assert facts["windows"] == 6
    assert facts["decoded_mpx"] == 6 * 128 * 128 / 1e6
    looked = zarr.open_group(facts["predictions"], mode="r")["predictions"][:]
    # One batch of four or of the last two windows; the others are dark or not.
    assert [int((looked == label).sum()) % (128 * 128) for label in (3, 4)] == [0, 0]
    seen = int((looked == 3).sum()) // (128 * 128)
    assert seen in (2, 4)
    assert facts["cpu_of_rest"] == 4
    assert facts["cpu_seconds"] == pytest.approx(5 + (6 / seen - 1))


@pytest.mark.parametrize("scores", [False, True])
def test_a_network_that_costs_nothing_says_what_is_dark(
    tmp_path: Path, rival: ModuleType, slide: Path, scores: bool
) -> None:
    given = params(tmp_path, slide, Path("none"), np.eye(4))
    work = rival.work(**given, part=1.0, zero=True, scores=scores)
    facts = work.run(0)
    assert facts["windows"] == 4
    looked = zarr.open_group(facts["predictions"], mode="r")["predictions"][:]
    pixels = tifffile.imread(slide, level=0)
    assert np.array_equal(looked[:128, :128], pixels[:128, :128, 1] < 128)
    assert not looked[:128, 128:].any()


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_it_is_measured_in_its_own_python_on_the_windows_that_hold_tissue(
    tmp_path: Path, slide: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = slide.parents[1]
    truth = drawn_file(Mosaic(side_px=2048, **QUICK_BLOCKS), cache, say=lambda _: None).truth()
    labels = truth.read_region(Region(0, 0, 2048, 2048))
    zarr.create_group(tmp_path / "labels.zarr").create_array("predictions", data=labels)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(predictions=str(tmp_path / "labels.zarr")), encoding="utf-8")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{program}" "$@"\n', encoding="utf-8")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(
        whole_slide, "trained_models", lambda _: Trained(ours=model, patches=model, blocks=model)
    )
    monkeypatch.setattr(whole_slide, "_flops_of_window", lambda _: 2_000_000_000)
    settings = Settings(
        out=tmp_path,
        cache=cache,
        quick=True,
        threads=1,
        runs=1,
        only=("tiatoolbox, level 0",),
        tiatoolbox=python,
    )
    (row,) = whole_slide.benchmark(settings)
    assert row == {
        "case": "tiatoolbox, level 0",
        "side": 2048,
        "threads": 1,
        "part": 1.0,
        "zero": False,
        "seconds": 30.0,
        "cpu_seconds": 20.0,
        "peak_mib": pytest.approx(400, abs=200),
        "base_mib": 200,
        "runs": 1,
        "least_seconds": 30.0,
        "most_seconds": 30.0,
        "started_as": "-m pipelines.benchmarks.measure tiatoolbox_rival:work",
        "windows": 12,
        "version": "2.1.3",
        "tflop": 0.024,
        "miou": 1.0,
        "miou_without_background": 1.0,
    }


def test_labels_are_scored_where_the_network_saw_all_windows(tmp_path: Path, slide: Path) -> None:
    file = drawn_file(Mosaic(side_px=2048, **QUICK_BLOCKS), slide.parents[1], say=lambda _: None)
    truth = file.truth().read_region(Region(0, 0, 2048, 2048))
    zarr.create_group(tmp_path / "labels.zarr").create_array("predictions", data=truth)
    row = {"windows": 10, "part": 1.0, "predictions": str(tmp_path / "labels.zarr")}
    found = tiatoolbox_rows.what_it_found(row, file, 2_000_000_000)
    assert found == {"tflop": 0.02, "miou": 1.0, "miou_without_background": 1.0}
    assert tiatoolbox_rows.what_it_found({**row, "part": 0.5}, file, 2_000_000_000) == {"tflop": 0.02}


def test_options_choose_the_python_and_the_slides(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(command, "_run", lambda _, settings: bool(seen.append(settings)))
    assert command.main(["whole_slide", "--tiatoolbox", sys.executable, "--side", "61440"]) == 0
    assert command.main(["whole_slide"]) == 0
    assert [each.tiatoolbox for each in seen] == [Path(sys.executable), None]
    assert [each.sides for each in seen] == [(61_440,), (20_480, 61_440)]


def test_a_part_of_the_cases_does_not_take_the_place_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []
    monkeypatch.setattr(command, "_run", lambda _, settings: bool(seen.append(settings)))
    parts = (["--only", "mip"], ["--side", "20480"], ["--model", "model.safetensors"], ["--quick"])
    for part in ([], *parts, ["--only", "mip", "--out", "here"]):
        assert command.main(["gather", *part]) == 0
    named = [each.out.name if len(each.out.parts) == 1 else "/".join(each.out.parts[-2:]) for each in seen]
    assert named == ["benchmarks/results", *["build/benchmarks"] * 4, "here"]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        (
            "--tiatoolbox",
            "nowhere/python",
            "--tiatoolbox nowhere/python: needed the Python of an environment",
        ),
        ("--side", "4096", "--side 4096: needed 20480 or 61440."),
    ],
)
def test_options_that_cannot_be_are_refused(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["whole_slide", option, value])
    assert said in capsys.readouterr().err


def test_the_table_says_where_tiatoolbox_was_not_measured() -> None:
    row = {"case": "ours x1", "side": "20480", "cpu_seconds": "10", "part": "1", "runs": "3"}
    note = "TIAToolbox was not among them: `--tiatoolbox PYTHON` measures it too."
    assert note in tables.whole_slide_table([row])
    assert note not in tables.whole_slide_table([row, {**row, "case": "tiatoolbox, level 0"}])
