"""README's promises that a machine can check."""

import re
from pathlib import Path
from typing import Any

from tiny_study import tiny_model, tiny_study

ROOT = Path(__file__).parents[1]


def test_readme_names_the_two_commands_and_only_targets_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^    |`)make ([a-z]+)\b", readme, re.MULTILINE))
    assert {"demo", "test"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_in_readme_exists():
    from typer.testing import CliRunner

    from wsi_deform.cli.main import typer_app

    readme = (ROOT / "README.md").read_text()
    commands = set(re.findall(r"(?:^ +|`)wsi-deform ([a-z]+)", readme, re.MULTILINE))
    assert {"train", "segment", "evaluate", "demo", "inspect", "manifest"} <= commands
    for command in commands:
        result = CliRunner().invoke(typer_app, [command, "--help"])
        assert result.exit_code == 0, command


def test_every_link_to_a_file_in_readme_leads_somewhere():
    for link in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / link).exists(), link


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
