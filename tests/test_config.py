from pathlib import Path

import pytest

from wsi_deform.config import Config, dump_config, read_config
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
