"""Settings that earlier versions wrote mean what they meant then, wherever they are read.

``data_of_earlier_versions`` holds the config.yaml and best.json of short trainings by three earlier commits; paths and
the machine are left out of them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file

from wsi_deform.annotation.classes import class_table_from_data
from wsi_deform.config import dump_config, find_config, parse_config, read_config
from wsi_deform.config_format import BEFORE, FIRST_KEYS, todays
from wsi_deform.config_sections import Config
from wsi_deform.errors import ConfigError, ModelError
from wsi_deform.model import Model
from wsi_deform.model_file import load_model, read_model_facts
from wsi_deform.report import run as report

DATA = Path(__file__).parent / "data_of_earlier_versions"
SINCE_E647079 = {"sampling.coarsest_um": None}
SINCE_967AEC1 = SINCE_E647079 | {"sampling.level_bias": 0.0, "networks.channels_last": None}
SINCE_825D58F = SINCE_967AEC1 | {
    "sampling.interpolation": "nearest",
    "fields.allocation": "equal",
    "fields.allocation_ratio": 4.0,
    "fields.cut_to_tissue": False,
    "networks.area_channel": False,
    "networks.stain": "none",
    "networks.deformation.dilations": None,
    "networks.deformation.inputs": "rgb",
    "loss.edge_decay": "none",
    "loss.edge_target": "edge",
    "loss.edge_blur": 1.0,
    "loss.segmentation_gradient": True,
    "loss.class_weights": "none",
    "optimiser.warmup_epochs": 0.0,
    "optimiser.deformation_warmup_epochs": 0.0,
    "optimiser.ema": None,
    "augmentation.transpose": False,
    "augmentation.rotate_degrees": 0.0,
    "augmentation.stain_jitter": 0.0,
    "training.patience": None,
    "training.mixed_shapes": False,
    "training.rare_classes": 0.0,
    "training.keep": 0,
    "training.pictures": 0,
    "training.precision": "float32",
    "training.compile": False,
}
# Keys that came with files of format 2 already there: absent, they have their default.
SINCE_FORMAT_2 = {
    "loss.edge_scale": "mean",
    "sampling.edge_smoothness": 1.0,
    "sampling.edge_lattice": 16,
    "networks.resizer": None,
    "training.auxiliary_epochs": 50,
    "sampling.view_px": None,
    "sampling.sigma_px": None,
    "fields.side_px": None,
    "fields.whole_below_mpx": 0.0,
    "sampling.coarsest_px": None,
    "fields.exact": False,
    "augmentation.move": 0.0,
    "training.fields_per_slide": None,
    "loss.segmentation.name": "focal",
    "sampling.geometry": "warp",
    "blocks": None,
}
ADDED = {"825d58f": SINCE_825D58F, "967aec1": SINCE_967AEC1, "e647079": SINCE_E647079}
# A few that have other defaults today, or had at that commit: (focal_gamma, interpolation, area_channel, level_bias).
TELLING = {
    "825d58f": (2.0, "nearest", False, 0.0),
    "967aec1": (2.0, "linear", True, 0.0),
    "e647079": (0.0, "linear", True, -2.0),
}


def flat(data: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested dictionaries as dotted key -> value."""
    found = {}
    for key, value in data.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {above + key: value}
    return found


@pytest.fixture(params=sorted(ADDED))
def commit(request) -> str:
    return request.param


def expected(commit: str) -> dict[str, Any]:
    written = flat(yaml.safe_load((DATA / commit / "config.yaml").read_text()))
    assert not written.keys() & ADDED[commit].keys()
    written.pop("training.channels_last", None)
    return written | ADDED[commit] | SINCE_FORMAT_2 | {"format": 2}


def run_of(commit: str, folder: Path) -> Path:
    """The run folder of an earlier commit, with tensors as its best.json describes them and a log of one epoch."""
    run = shutil.copytree(DATA / commit, folder / "run")
    about = json.loads((run / "best.json").read_text())
    classes = class_table_from_data(about["classes"], "test")
    model = Model(config=read_config(run / "config.yaml"), classes=classes, mpp=about["mpp"])
    save_file({name: tensor.clone() for name, tensor in model.state_dict().items()}, run / "best.safetensors")
    (run / "log.csv").write_text("epoch,loss,segmentation_loss\n1,2.5,1.5\n")
    (run / "provenance.json").write_text("{}")
    return run


def test_train_segment_and_report_read_the_same_settings_from_a_run_of_an_earlier_commit(
    commit, tmp_path, monkeypatch
):
    run = run_of(commit, tmp_path)
    reported = []
    monkeypatch.setattr(report, "describe_config", lambda config: reported.append(config) or [])
    report.report_run(run)
    trained, segmented = read_config(find_config(str(run / "config.yaml"))), load_model(run).config
    for config in (trained, segmented, *reported):
        assert flat(config.model_dump(mode="json")) == expected(commit)
        assert (
            config.loss.focal_gamma,
            config.sampling.interpolation,
            config.networks.area_channel,
            config.sampling.level_bias,
        ) == TELLING[commit]
    assert len(reported) == 1
    assert flat(read_model_facts(run / "best.safetensors")["config"]) == expected(commit)


def test_what_was_read_as_of_then_and_is_otherwise_today_is_said_once(commit, caplog):
    read_config(DATA / commit / "config.yaml")
    said = {
        "825d58f": "sampling.interpolation nearest, sampling.coarsest_um null, networks.area_channel false, "
        "training.pictures 0.",
        "967aec1": "sampling.coarsest_um null.",
        "e647079": "sampling.coarsest_um null.",
    }[commit]
    assert len(caplog.messages) == 1
    assert f"as of version 0.1, so that it is read as of then: {said} For today's defaults" in caplog.text


def test_a_dump_says_its_format_and_reads_back_without_a_warning(tmp_path, caplog):
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(read_config(DATA / "825d58f" / "config.yaml")))
    assert path.read_text().startswith("format: 2  # ")
    caplog.clear()
    assert flat(read_config(path).model_dump(mode="json")) == expected("825d58f")
    assert caplog.messages == []


def test_a_few_settings_without_a_format_take_todays_defaults(tmp_path, caplog):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 7\nsampling: {budget: [40, 400], level: exact}\n")
    config = read_config(path)
    assert (config.sampling.interpolation, config.sampling.coarsest_um) == ("linear", 16.0)
    assert (config.networks.area_channel, config.loss.focal_gamma) == (True, 0.0)
    whole = yaml.safe_load((DATA / "825d58f" / "config.yaml").read_text())
    del whole["training"]["threads"]
    path.write_text(yaml.safe_dump(whole))
    config = read_config(path)
    assert (config.sampling.interpolation, config.sampling.coarsest_um) == ("linear", 16.0)
    assert caplog.messages == []


def test_the_pull_ends_at_three_sigma_in_what_earlier_versions_wrote_and_at_five_in_new_models(
    commit, tmp_path
):
    before = read_config(DATA / commit / "config.yaml")
    assert before.sampling.radius_sigmas == 3.0
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(before))
    assert read_config(path).sampling.radius_sigmas == 3.0
    for few in ("seed: 7\n", "format: 2\nsampling: {budget: [40, 400]}\n"):
        path.write_text(few)
        assert read_config(path).sampling.radius_sigmas == 5.0
    whole = yaml.safe_load((DATA / commit / "config.yaml").read_text())
    del whole["sampling"]["radius_sigmas"]
    with pytest.raises(ConfigError, match=r"but without sampling\.radius_sigmas\. Needed every key"):
        parse_config({"format": 1} | whole, source="test")


def test_a_format_that_is_written_down_is_taken_at_its_word(tmp_path, caplog):
    whole = (DATA / "825d58f" / "config.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text("format: 2\n" + whole)
    assert read_config(path).sampling.interpolation == "linear"
    path.write_text("format: 1\n" + whole)
    assert read_config(path).sampling.interpolation == "nearest"
    assert caplog.messages == []
    path.write_text("format: 1\nseed: 3\n")
    with pytest.raises(
        ConfigError, match=r"mine\.yaml: format 1, but without name, device, sampling\.budget, "
    ):
        read_config(path)


def test_changes_on_the_command_line_come_after_the_settings_of_then(caplog):
    changes = ["sampling.interpolation=linear", "sampling.coarsest_um=8"]
    config = read_config(DATA / "825d58f" / "config.yaml", changes=changes)
    assert (config.sampling.interpolation, config.sampling.coarsest_um) == ("linear", 8)
    assert not config.networks.area_channel
    # Changes never make a file a whole one.
    caplog.clear()
    whole = flat(yaml.safe_load((DATA / "825d58f" / "config.yaml").read_text()))
    assert (
        read_config(
            changes=[f"{key}={json.dumps(value)}" for key, value in whole.items()]
        ).sampling.coarsest_um
        == 16
    )
    assert caplog.messages == []
    with pytest.raises(ConfigError, match="format: found 1"):
        read_config(changes=["format=1"])


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ("3", r"format 3\. Needed one from 1 to 2\. A newer version wrote it: update wsi-deform\."),
        ("two", r"format 'two'\. Needed one from 1 to 2\. Write format: 2\."),
        ("true", "format True"),
        ("0", r"format 0\. Needed one from 1 to 2\. Write format: 2\."),
        ("null", "format None"),
    ],
)
def test_an_unknown_format_is_refused_by_name(tmp_path, found, said):
    path = tmp_path / "mine.yaml"
    path.write_text(f"format: {found}\nseed: 1\nkey_of_tomorrow: 1\n")
    with pytest.raises(ConfigError, match=rf"mine\.yaml: {said}"):
        read_config(path)


def test_a_model_of_tomorrow_is_refused_by_name(tmp_path):
    run = run_of("e647079", tmp_path)
    about = json.loads((run / "best.json").read_text())
    (run / "best.json").write_text(json.dumps(about | {"format": "wsi-deform model 3"}))
    with pytest.raises(ModelError, match=r"best\.json: format .wsi-deform model 3.\. Needed .*newer version"):
        load_model(run)
    (run / "best.json").write_text(json.dumps(about | {"config": about["config"] | {"format": 3}}))
    with pytest.raises(ConfigError, match=r"best\.json: format 3"):
        load_model(run)


def test_what_is_read_is_left_as_it_is():
    raw = yaml.safe_load((DATA / "967aec1" / "config.yaml").read_text())
    before = json.dumps(raw)
    parse_config(raw, source="test")
    todays({"sampling": {}}, source="test")
    assert json.dumps(raw) == before


def test_every_key_is_of_the_first_day_or_came_later():
    known = flat({section: dict.fromkeys(keys) for section, keys in FIRST_KEYS.items() if section})
    known |= dict.fromkeys(FIRST_KEYS[""]) | flat(BEFORE) | SINCE_FORMAT_2
    options = {"networks.segmentation.width", "networks.segmentation.stem_stride"}
    assert flat(Config().model_dump()).keys() - options - {"format"} == known.keys()
