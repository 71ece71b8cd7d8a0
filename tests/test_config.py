import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from wsi_deform.config import dump_config, find_config, packaged_configs, read_config
from wsi_deform.config_sections import Config
from wsi_deform.errors import ConfigError


def test_unknown_key_names_the_nearest_key_and_the_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("sampling: {warp_stepps: 3}\nsede: 4\n")
    with pytest.raises(ConfigError) as error:
        read_config(path)
    assert "mine.yaml" in str(error.value)
    assert 'Did you mean "warp_steps"?' in str(error.value)
    assert 'Did you mean "seed"?' in str(error.value)


def test_value_out_of_range_names_the_value(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("sampling: {floor: 3, budget: [90, 10]}\n")
    with pytest.raises(ConfigError, match=r"floor: found 3(.|\n)*less than or equal to 1") as error:
        read_config(path)
    assert "budget: found [90, 10]" in str(error.value)


def test_changes_on_the_command_line_win():
    config = read_config(changes=["sampling.budget=[40, 400]", "networks.segmentation.width=32", "seed=7"])
    assert config.sampling.budget == (40, 400)
    assert config.networks.segmentation.options == {"width": 32}
    assert config.seed == 7


@pytest.mark.parametrize("change", ["sampling.budget", "=3", "seed.deep=1", "seed=[1"])
def test_broken_change_is_refused(change):
    with pytest.raises(ConfigError, match="--set|config"):
        read_config(changes=["seed=1", change])


def test_dumped_config_reads_back_equal(tmp_path):
    config = read_config(changes=["networks.segmentation={name: unet, channels: [8, 16]}"])
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert read_config(path) == config
    assert read_config() == Config()


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n"])
def test_file_that_is_no_mapping_is_refused(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.yaml"):
        read_config(path)


CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_complete_and_readable_alone(path):
    config = read_config(path)
    assert config.name == path.stem.replace("_", " ")

    def keys(data):
        return {
            (key, *rest)
            for key, value in data.items()
            for rest in (keys(value) if isinstance(value, dict) else [()])
        }

    import yaml

    written = keys(yaml.safe_load(path.read_text()))
    assert keys(config.model_dump()) <= written


def test_joint_is_the_default():
    assert read_config(Path(__file__).parents[1] / "configs" / "joint.yaml") == Config()


NAMES = [
    *("cityscapes", "deepglobe", "edge_based", "glas", "interpolation", "joint", "pca_histo", "single_loss"),
    "uniform",
]


def test_packaged_configurations_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert list(packaged_configs()) == NAMES
    assert read_config(find_config("uniform")).sampling.density == "uniform"


def test_a_path_is_a_file_and_never_a_packaged_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("joint.yaml").write_text("seed: 7\n")
    assert read_config(find_config("joint.yaml")).seed == 7
    assert read_config(find_config("./joint.yaml")).seed == 7
    Path("mine").write_text("seed: 8\n")
    assert read_config(find_config("mine")).seed == 8


@pytest.mark.parametrize("beside", ["joint", "joint.yaml", "joint.yml"])
def test_a_name_that_is_also_a_file_here_is_the_packaged_one_with_a_warning(
    tmp_path, monkeypatch, caplog, beside
):
    monkeypatch.chdir(tmp_path)
    Path(beside).write_text("seed: 7\n")
    assert read_config(find_config("joint")).seed == 0
    assert (
        f"the packaged configuration is taken, not the file of that name here; for the file write ./{beside}"
        in (caplog.text)
    )
    caplog.clear()
    monkeypatch.chdir(Path(__file__).parents[1] / "configs")
    find_config("joint")
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("unifrom", "no packaged configuration, and no file.*Did you mean uniform"),
        ("configs/joint.yaml", "configs/joint.yaml: no such file.*Did you mean joint"),
        ("nothing-like-it", f"one of {', '.join(NAMES)}.$"),
    ],
)
def test_an_unknown_name_is_told_the_names_and_the_nearest(tmp_path, monkeypatch, text, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        find_config(text)


def test_a_wheel_holds_every_packaged_configuration_and_finds_it(tmp_path):
    pytest.importorskip("setuptools")
    root = Path(__file__).parents[1]
    source = tmp_path / "source"
    source.mkdir()
    for name in ("wsi_deform", "configs"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(root / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source]
    subprocess.run(build, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = [name for name in wheel.namelist() if "configs/" in name]
        assert held == [f"wsi_deform/configs/{name}.yaml" for name in NAMES]
        wheel.extractall(tmp_path / "installed")
    asked = "from wsi_deform.config import *; f = find_config('joint'); print(f, read_config(f) == Config())"
    said = subprocess.run(
        [sys.executable, "-c", asked],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
    ).stdout
    assert said == f"{tmp_path / 'installed' / 'wsi_deform' / 'configs' / 'joint.yaml'} True\n"
