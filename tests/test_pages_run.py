"""What pages tell to type, and Python that they show, runs and gives what they say."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from plugged import example, unplugged
from tiny_study import MPP, SIZE, tiny_model, tiny_study
from typer.testing import CliRunner

import wsi_deform
from pipelines.budget import main as budget
from wsi_deform.annotation.outlines import open as formats
from wsi_deform.cli.main import typer_app
from wsi_deform.config import read_config
from wsi_deform.deform.block_choices import block_choice
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ModelError
from wsi_deform.networks import registry
from wsi_deform.networks.blocks import BlockNetwork
from wsi_deform.networks.losses import named_loss
from wsi_deform.slide.open import find_slides

DOCS = Path(__file__).parents[1] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def python_of(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page(name), re.DOTALL)


def run(command: str) -> None:
    here = ["--in-process"] if command.split()[1] == "segment" else []
    done = CliRunner().invoke(typer_app, [*command.split()[1:], *here])
    assert done.exit_code == 0, (command, done.output)


@pytest.fixture
def extending(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the example that names something; what it adds is out again after the test."""
    unplugged(monkeypatch)

    def run_example(named: str) -> dict[str, Any]:
        said: dict[str, Any] = {}
        exec(example(named), said)
        return said

    return run_example


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the commands of the page of a first mask were typed, after a demo of an untrained model."""
    folder = tmp_path_factory.mktemp("first")
    study = tiny_study(folder / "demo")
    tiny_model(folder / "demo" / "runs" / "joint", study.classes)
    typed = re.findall(r"^    (wsi-deform .+)$", page("first_mask.md"), re.MULTILINE)
    assert [each.split()[1] for each in typed] == ["doctor", "demo", "inspect", "segment", "view", "evaluate"]
    with contextlib.chdir(folder):
        for command in typed:
            if command.split()[1] in ("inspect", "segment", "evaluate"):
                # Of the demo's 22 patients the 19th is the first of the test split, here the second.
                run(command.replace("P019", "P002"))
    return folder


def test_commands_of_the_first_mask_leave_the_files_that_it_names(first: Path) -> None:
    named = re.findall(r"^\| `(first/\S+)` \|", page("first_mask.md"), re.MULTILINE)
    assert len(named) == 6
    assert [each for each in named if not (first / each.replace("P019", "P002")).is_file()] == []
    assert (first / "first" / "evaluation" / "test" / "summary.md").is_file()


def test_python_of_the_footprint_page_reads_what_segment_wrote(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "footprints").mkdir(parents=True)
    shutil.copy(
        first / "first" / "footprints" / "P002-A.footprint.ome.tif",
        tmp_path / "out" / "footprints" / "slide.footprint.ome.tif",
    )
    monkeypatch.chdir(tmp_path)
    (code,) = python_of("footprint.md")
    exec(code, {})
    # 12 x 48 samples on 320 x 80 um, which an untrained model spreads evenly.
    assert capsys.readouterr().out == "half of the slide: 6.7 um and finer; 95 %: 6.7 um\n"


def test_python_of_the_napari_page_gives_it_every_level_in_um(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_study(tmp_path, test=1)
    (tmp_path / "slides" / "P002-A.tif").rename(tmp_path / "slide.svs")
    given: dict[str, Any] = {}
    viewer = SimpleNamespace(add_image=lambda levels, **options: given.update(options, levels=levels))
    monkeypatch.setitem(sys.modules, "napari", SimpleNamespace(Viewer=lambda: viewer, run=lambda: None))
    monkeypatch.chdir(tmp_path)
    (code,) = python_of("napari.md")
    exec(code, {})
    assert [level.shape for level in given["levels"]][:2] == [(160, 640, 3), (80, 320, 3)]
    assert (given["rgb"], given["scale"]) == (True, (0.5, 0.5))


def test_tables_of_the_budget_page_are_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    budget(["--budgets", "40x40", "80x80", "160x160", "80x800", "320x320"])
    first, *rows = capsys.readouterr().out.strip().splitlines()
    assert first == "A field of 2,048 um, read with its margins: 2,458 um a side."
    assert "\n".join(rows).strip() in page("budget.md")
    assert "| 40x40 | 1,600 | 61.4 | 16 um |" in rows


def test_the_budget_page_says_how_densely_a_real_slide_is_sampled(
    shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slide = shared_data / "slides" / "CMU-1-Small-Region.svs"
    if not slide.is_file():
        pytest.skip(f"needs {slide.name}")
    budget([str(slide), *["--budgets", "20x20", "40x40", "80x80", "160x160"]])
    table = capsys.readouterr().out.strip().rpartition("\n\n")[2]
    assert table in page("budget.md")


def test_budget_follows_the_fields_of_a_slide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_study(tmp_path, test=1)
    # 320 x 80 um in fields of at most 160 um whose inner edges are multiples of 128 px: 64, 128 and 128 um, no margin.
    settings = ["fields.side_um=160", "fields.whole_below_mm2=0", "fields.margin=0"]
    changes = [word for each in settings for word in ("--set", each)]
    budget([str(tmp_path / "slides" / "P002-A.tif"), "--budgets", "8x8", *changes])
    said = capsys.readouterr().out.splitlines()
    assert said[4] == "| 8x8 | 64 | 20.0 | 16 um |"
    assert said[6] == "P002-A: 640 x 160 px of 0.5 um."
    # 7 x 9 samples in the first, 11 x 6 in each of the others.
    assert said[-1] == "| 8x8 | 3 | 195 | 525 | 11.5 | 11.5 um |"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "fields.side_um=null"], "budget: fields.side_um is null"),
        (["--budgets", "8"], "budget: budget 8: needed short x long, such as 80x800"),
        (["nowhere.svs"], "budget: nowhere.svs: cannot be found"),
    ],
)
def test_budget_refuses_in_a_line(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as error:
        budget(arguments)
    assert re.match(message, str(error.value))


def test_the_reader_of_the_extending_page_opens_slides(tmp_path: Path, extending: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 520, 3), dtype=np.uint8)
    np.save(tmp_path / "slide.npy", pixels)
    extending("class NumpyReader")
    np.save(tmp_path / "gray.npy", pixels[..., 0])
    assert find_slides(tmp_path) == [tmp_path / "slide.npy"]
    slide = wsi_deform.open_slide(tmp_path / "slide.npy")
    assert (slide.size.width, slide.size.height, slide.mpp, slide.info.vendor) == (520, 300, 0.5, "numpy")
    np.testing.assert_array_equal(slide.read(200, 40, 300, 250, level=0), pixels[40:290, 200:500])
    np.testing.assert_array_equal(np.asarray(slide.to_dask(level=0)), pixels)
    shown = CliRunner().invoke(typer_app, ["inspect", str(tmp_path / "slide.npy")]).output
    assert "mpp: 0.5 um per pixel; 0.26 x 0.15 mm" in shown


def test_the_network_of_the_extending_page_is_known_by_name_and_refuses_other_options(extending: Any) -> None:
    extending("class Plain")
    network = registry.segmentation_network("plain", classes=3, in_channels=4, width=8)
    scores = network(torch.rand(1, 4, 7, 1))
    assert scores.shape == (1, 3, 7, 1)
    scores.sum().backward()
    assert all(each.grad is not None for each in network.parameters())
    with pytest.raises(ModelError, match="width"):
        registry.segmentation_network("plain", classes=3, widht=8)


def test_the_format_of_the_extending_page_is_read(tmp_path: Path, extending: Any) -> None:
    areas = [
        {"label": "tumour", "points": [[0, 0], [8, 0], [8, 4], [0, 4]]},
        {"label": "a", "points": [[1, 1]]},
    ]
    path = tmp_path / "drawn.json"
    path.write_text(json.dumps({"tool": "lasso", "areas": areas}))
    extending("class LassoJson")
    found = formats.read_outlines(path)
    assert (found.format, [each.source_class for each in found.outlines]) == ("Lasso JSON", ["tumour"])
    assert found.remarks == ("Points and lines, no areas and left out: 1",)


def test_the_encoder_of_the_extending_page_is_one_of_blocks(extending: Any) -> None:
    extending("class Patches")
    network = BlockNetwork(classes=2, levels=2, encoder="patches", width=4)
    network.encode(torch.zeros(1, 3, 32, 16), 0).sum().backward()
    assert network.backbone.proj.weight.grad is not None


def test_weights_of_the_extending_page_say_what_they_were_trained_on(
    extending: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.chdir(tmp_path):
        extending("um_per_px")
    assert capsys.readouterr().out.strip().endswith(", 0.5)")


def test_the_command_of_the_extending_page_trains_from_the_weights_that_its_example_saves(
    extending: Any, tmp_path: Path
) -> None:
    (typed,) = re.findall(
        r"^    wsi-deform (train .*mine\.safetensors.*)$", page("extending.md"), re.MULTILINE
    )
    draw_study(tmp_path, train=1, val=1, test=0, size=SIZE, mpp=MPP, slides_per_patient=1)
    with contextlib.chdir(tmp_path):
        extending("um_per_px")
        done = CliRunner().invoke(
            typer_app, [*shlex.split(typed), "--set", "training.epochs=1", "--allow-empty-classes"]
        )
    assert done.exit_code == 0, done.output
    assert (tmp_path / "run" / "best.safetensors").is_file()


def test_the_choice_of_blocks_of_the_extending_page_prefers_blue(extending: Any) -> None:
    said = extending("def blueness")
    view = torch.full((1, 3, 2, 3), 200.0)
    view[0, 1, 0, 2] = 80.0
    choice = block_choice("blueness")
    assert (choice.worth, choice.words) == (said["blueness"], "where the view is bluest, and nothing learned")
    assert said["blueness"](view).tolist() == [[[[0.0, 0.0, 120.0], [0.0, 0.0, 0.0]]]]


def test_the_loss_of_the_extending_page_is_of_labelled_samples(extending: Any) -> None:
    extending("class Brier")
    settings = read_config(changes=["loss.segmentation={name: brier, power: 1}"]).loss.segmentation
    loss = named_loss(settings.name, classes=2, options=settings.options)
    labels = torch.tensor([[[0, 1, 255]]])
    # Probabilities of 0.5 are wrong by 0.5 for both classes; by 0.25 where they are squared.
    assert loss.sums(torch.zeros(1, 2, 1, 3), labels, 255)[0].tolist() == [1.0]
    assert named_loss("brier", classes=2).sums(torch.zeros(1, 2, 1, 3), labels, 255)[0].tolist() == [0.5]
