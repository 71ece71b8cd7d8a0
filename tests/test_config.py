import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from wsi_deform.config import dump_config, find_config, read_config
from wsi_deform.config_files import DEFAULT, packaged_configs
from wsi_deform.config_sections import Config
from wsi_deform.errors import ConfigError
from wsi_deform.mask.qupath_scripts import SCRIPTS


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


def test_joint_is_what_keys_mean_that_are_not_written_and_dense_what_training_takes():
    assert read_config(Path(__file__).parents[1] / "configs" / "joint.yaml") == Config() == read_config()
    assert DEFAULT == "dense"


def test_dense_is_blocks_of_one_level():
    assert unlike("dense", "blocks") == {
        "name": "dense", "blocks.finest_um": 5.0, "blocks.levels": 1, "blocks.share": 1.0,
    }  # fmt: skip


READS = (
    r": config {name} reads fields in blocks \(sampling\.geometry\), where this decides nothing\. How much is read "
    r"there say {keys}\. Needed one of these, or --config joint for samples\.$"
)


@pytest.mark.parametrize(
    ("name", "changes", "refused", "keys"),
    [
        (
            "dense",
            ["sampling.budget=[40, 400]"],
            r"sampling\.budget=\[40, 400\]",
            r"blocks\.finest_um and blocks\.levels",
        ),
        # What is there anyway.
        (
            "dense",
            ["sampling.budget=[80, 800]"],
            r"sampling\.budget=\[80, 800\]",
            r"blocks\.finest_um and blocks\.levels",
        ),
        (
            "dense",
            ["blocks.finest_um=null", "blocks.finest_px=4", "seed=1", " sampling.density =uniform"],
            r" sampling\.density =uniform",
            r"blocks\.finest_px and blocks\.levels",
        ),
        (
            "blocks",
            ["sampling.warp_steps=1"],
            r"sampling\.warp_steps=1",
            r"blocks\.finest_um, and one of blocks\.share, blocks\.px_per_mm2, blocks\.px",
        ),
        (
            "blocks",
            ["sampling={geometry: blocks, floor: 0.5}"],
            r"sampling=\{geometry: blocks, floor: 0\.5\}",
            r"blocks\.finest_um, and one of blocks\.share, blocks\.px_per_mm2, blocks\.px",
        ),
    ],
)
def test_a_change_of_samples_is_refused_where_blocks_are_read(name, changes, refused, keys):
    with pytest.raises(ConfigError, match=f"^--set {refused}{READS.format(name=name, keys=keys)}"):
        read_config(find_config(name), changes=changes)


def test_what_decides_something_may_be_changed_where_blocks_are_read(tmp_path):
    changes = [
        "sampling.geometry=blocks",
        "sampling.interpolation=nearest",
        "blocks.levels=2",
        "blocks.share=.4",
    ]
    config = read_config(find_config("dense"), changes=changes)
    assert (config.sampling.interpolation, config.blocks.levels, config.blocks.share) == ("nearest", 2, 0.4)
    # A file lists every key; and a warp has its own, whatever the file had.
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config).replace("budget: [80, 800]", "budget: [40, 400]"))
    assert read_config(path).sampling.budget == (40, 400)
    joint = ["sampling.geometry=warp", "blocks=null", "sampling.budget=[40, 400]", "networks.pretrained=null"]
    assert read_config(find_config("dense"), changes=joint).sampling.budget == (40, 400)


@pytest.mark.parametrize(
    "change", ["blocks.share=.5", "blocks.choice=detail", "blocks.noise=1", "blocks.budget_of=slide"]
)
def test_a_change_of_further_levels_is_refused_where_there_is_one(change):
    said = (
        f"--set {change}: with blocks.levels 1 each field is read whole at 5 um per px, and this decides nothing. "
        "Needed another blocks.finest_um, or more levels, as --config blocks has."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}$"):
        read_config(find_config("dense"), changes=[change])
    assert read_config(find_config("dense"), changes=["blocks.share=1"]).blocks.share == 1
    assert read_config(find_config("blocks"), changes=[change]).blocks.levels == 3


def test_one_level_needs_no_loss_that_teaches_a_scorer():
    assert read_config(find_config("dense"), changes=["loss.edge_weight=0"]).loss.edge_weight == 0
    with pytest.raises(ConfigError, match="nothing would teach the scorers"):
        read_config(find_config("blocks"), changes=["loss.edge_weight=0"])


NAMES = [
    *(
        "blocks",
        "cityscapes",
        "deepglobe",
        "dense",
        "edge_based",
        "edge_oracle",
        "glas",
        "interpolation",
        "joint",
        "paper",
    ),
    *("patches", "pca_histo", "single_loss", "uniform", "uniform_point"),
]


def flat(data, above=""):
    """Nested dictionaries as dotted key -> value."""
    found = {}
    for key, value in data.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found


def unlike(name, other):
    """Keys in which a packaged configuration differs from another, with its values."""
    own, others = (flat(read_config(find_config(each)).model_dump()) for each in (name, other))
    assert not others.keys() - own.keys()
    return {key: value for key, value in own.items() if others.get(key) != value}


def test_the_paper_as_published_differs_from_joint_in_these_keys():
    assert unlike("paper", "joint") == {
        "name": "paper",
        "sampling.size": "sides",
        "sampling.radius_sigmas": 1.0,
        "sampling.warp_steps": 1,
        "sampling.border": "replicate",
        "sampling.placement": "corner",
        "sampling.interpolation": "nearest",
        "sampling.level": "exact",
        "sampling.coarsest_um": None,
        "fields.side_um": None,
        "networks.segmentation.width": 48,
        "networks.segmentation.stem_stride": 4,
        "networks.segmentation.fuse": "bilinear",
        "networks.deformation.zero_init_head": False,
        "networks.area_channel": False,
        "loss.focal_gamma": 2.0,
        "loss.edge_weight": 100.0,
        "loss.edge_scale": "paper",
        "loss.edge_target": "class_numbers",
        "loss.edge_floor": 0.0,
        "optimiser.learning_rate": 0.001,
        "optimiser.deformation_learning_rate": 0.001,
        "optimiser.weight_decay": 0.0001,
        "optimiser.decay": "step",
        "optimiser.clip_norm": None,
        "augmentation.shift_cells": 0.0,
        "augmentation.warp_cells": 0.0,
    }


def test_baselines_are_a_few_keys_away():
    assert unlike("uniform", "joint") == {"name": "uniform", "sampling.density": "uniform"}
    assert unlike("single_loss", "joint") == {"name": "single loss", "loss.edge_weight": 0.0}
    point = {"name": "uniform point", "sampling.level": "exact", "sampling.coarsest_um": None}
    assert unlike("uniform_point", "uniform") == point
    edge_loss = {
        "loss.edge_weight": 100.0,
        "loss.edge_scale": "paper",
        "loss.edge_target": "class_numbers",
        "networks.segmentation.fuse": "bilinear",
    }
    assert unlike("paper", "pca_histo") == {"name": "paper"} | edge_loss


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
        files = {path.relative_to(source).as_posix() for path in (source / "wsi_deform").rglob("*.*")}
        # Modules, page, scripts, templates, licences: all of the package, and nothing but it.
        names = {name for name in wheel.namelist() if not name.startswith("wsi_deform-")}
        assert names == files | {f"wsi_deform/configs/{name}.yaml" for name in NAMES}
        held = [name for name in wheel.namelist() if "configs/" in name]
        assert held == [f"wsi_deform/configs/{name}.yaml" for name in NAMES]
        assert {f"wsi_deform/mask/qupath/{name}" for name in (*SCRIPTS, "results.groovy")} <= set(
            wheel.namelist()
        )
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


def test_an_unknown_key_of_a_section_that_may_be_null_is_told_the_nearest_of_it():
    with pytest.raises(
        ConfigError, match=r'networks\.resizer\.blokcs: unknown key "blokcs"\. Did you mean "blocks"'
    ):
        read_config(changes=["networks.resizer={blokcs: 2}"])
    with pytest.raises(ConfigError, match=r'unknown key "zzz"\. Known keys: blocks, filters, input_scale\.'):
        read_config(changes=["networks.resizer={zzz: 2}"])


def test_a_long_value_stays_on_its_line(tmp_path):
    config = read_config(changes=[f"name={'word ' * 300}"])
    (line,) = [line for line in dump_config(config).splitlines() if line.startswith("name: ")]
    assert len(line) > 1400
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert read_config(path) == config
