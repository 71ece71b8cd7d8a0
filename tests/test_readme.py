"""README's promises that a machine can check."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from tiny_study import SIZE, tiny_model, tiny_study
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.drawn.study import draw_study

ROOT = Path(__file__).parents[1]


def test_readme_names_the_two_commands_and_only_targets_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z]+)\b", readme, re.MULTILINE))
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_in_readme_exists():
    readme = (ROOT / "README.md").read_text()
    commands = set(re.findall(r"(?:^ +|`)wsi-deform ([a-z-]+)", readme, re.MULTILINE))
    assert {"train", "segment", "evaluate", "demo", "view", "manifest"} <= commands
    for command in commands:
        result = CliRunner().invoke(typer_app, [command, "--help"])
        assert result.exit_code == 0, command


def test_python_in_readme_runs(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    study = tiny_study(tmp_path)
    tiny_model(tmp_path / "run", study.classes)
    (tmp_path / "slides" / "P002-A.tif").rename(tmp_path / "slide.svs")
    monkeypatch.chdir(tmp_path)
    said: dict[str, Any] = {}
    exec(blocks[0], said)
    assert said["picture"].shape == (160, 640, 3)
    assert said["patch"].shape == (64, 64, 3)
    assert said["labels"].shape == (80, 320)
    assert [one.shape for one in said["lazy"]] == [(160, 640, 3), (160, 640)]
    assert (tmp_path / "out" / "masks" / "slide.ome.tif").is_file()


# A small head, an encoder from scratch and one epoch; everything else is as README has it.
TINY = (
    "--set", "training.epochs=1", "--set", "device=cpu", "--set", "networks.pretrained=null",
    "--set", "networks.segmentation={name: efficientnet-lite0, width: 8}",
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_the_five_commands_lead_from_outlines_to_measures(tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text()
    assert len(readme.split()) <= 1200
    (block,) = re.findall(r"## My slides in five commands\n\n((?:    .*\n)+)", readme)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [each[1] for each in commands] == ["annotation", "manifest", "train", "segment", "evaluate"]
    study = draw_study(tmp_path / "drawn", train=4, val=0, test=0, size=SIZE, mpp=0.5, slides_per_patient=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawn" / "slides").rename("slides")
    Path("outlines").mkdir()
    for mask in sorted((tmp_path / "drawn" / "labels").iterdir()):
        name = mask.name.partition(".")[0]
        _call(
            [
                "annotation",
                "from-mask",
                str(mask),
                "--classes",
                str(study.classes),
                "--out",
                f"outlines/{name}.geojson.gz",
            ]
        )
    for _, *arguments in commands:
        # As a shell does.
        given = [
            name
            for each in arguments
            for name in (sorted(map(str, Path().glob(each))) if each.endswith("*") else [each])
        ]
        _call([*given, *(TINY if arguments[0] == "train" else ())])
    assert len(list(Path("out/masks").glob("*.ome.tif"))) == 4
    assert len(list(Path("out/geojson").glob("*.geojson.gz"))) == 4
    (summary,) = Path("out/evaluation").glob("test/summary.md")
    assert "mIoU" in summary.read_text()


def _call(arguments: list[str]) -> None:
    result = CliRunner().invoke(typer_app, arguments)
    assert result.exit_code == 0, (arguments, result.output)
