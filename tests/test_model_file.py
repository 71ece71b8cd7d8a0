"""A model on disk: two files that fit each other, whatever happens while they are written."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from wsi_deform import model_file
from wsi_deform.annotation.classes import ClassTable
from wsi_deform.config import read_config
from wsi_deform.errors import ConfigError, ModelError
from wsi_deform.model import Model
from wsi_deform.model_file import (
    find_model,
    finish_saving,
    load_model,
    load_tensors,
    read_model_facts,
    save_model,
)

CLASSES = ClassTable.from_names(["background", "benign", "tumour"])
SMALL = "networks.segmentation={name: hrnetv2, width: 2, stem_stride: 4}"


def make(*changes, classes=CLASSES):
    return Model(config=read_config(changes=[SMALL, *changes]), classes=classes, mpp=0.5)


def filled(value):
    """A model all of whose weights are one number."""
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def weight(model):
    return float(next(model.parameters()).detach().flatten()[0])


def without(run, key):
    about = json.loads((run / "best.json").read_text())
    del about[key]
    (run / "best.json").write_text(json.dumps(about))


def as_of_version_0_1(run):
    without(run, "safetensors_sha256")
    about = json.loads((run / "best.json").read_text())
    (run / "best.json").write_text(json.dumps(about | {"format": "wsi-deform model 1"}))


def test_stored_model_loads_equal_and_ready_to_segment(tmp_path):
    model = make()
    save_model(model, tmp_path / "best.safetensors", facts={"epoch": 3})
    loaded = load_model(tmp_path)
    assert not loaded.training
    assert loaded.config == model.config
    assert loaded.classes == CLASSES
    assert loaded.mpp == 0.5
    found = loaded.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in model.state_dict().items())
    assert json.loads((tmp_path / "best.json").read_text())["epoch"] == 3


def test_model_with_another_class_count_is_refused(tmp_path):
    save_model(make(), tmp_path / "best.safetensors", facts={})
    about = json.loads((tmp_path / "best.json").read_text())
    about["classes"] = ClassTable.from_names(["background", "tumour"]).to_data()
    (tmp_path / "best.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=r"best\.safetensors(.|\n)*2 classes(.|\n)*found \[3, ") as error:
        load_model(tmp_path)
    assert "Keep the .safetensors and .json" in str(error.value)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda run: (run / "best.json").unlink(), r"best\.json beside it"),
        (lambda run: (run / "best.json").write_text("{}"), 'format "None". Needed "wsi-deform model 2"'),
        (lambda run: (run / "best.json").write_text("[]"), 'format "of list"'),
        (lambda run: without(run, "safetensors_sha256"), "best.json: without safetensors_sha256. Needed "),
        (lambda run: without(run, "config"), "best.json: without config. Needed "),
        (lambda run: (run / "best.safetensors").write_bytes(b"x" * 30), "not the tensors that best.json was"),
        (
            lambda run: save_file({"a": torch.zeros(1)}, run / "best.safetensors"),
            "not the tensors that best.js",
        ),
        (lambda run: (run / "best.safetensors").unlink(), r"has no best\.safetensors"),
    ],
)
def test_broken_run_folder_is_a_clear_error(tmp_path, break_it, message):
    save_model(make(), tmp_path / "best.safetensors", facts={})
    break_it(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


def test_a_model_is_named_by_its_folder_or_by_either_of_its_files(tmp_path):
    run = tmp_path / "run.1"
    for name in ("best", "last"):
        save_model(make(), run / f"{name}.safetensors", facts={})
    assert find_model(run) == run / "best.safetensors"
    assert find_model(run / "best.json") == run / "best.safetensors"
    assert find_model(run / "last.json") == run / "last.safetensors"
    assert find_model(run / "last.safetensors") == run / "last.safetensors"
    assert load_model(str(run / "last.json")).mpp == 0.5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("best.md", r"best\.md: not a model but a \.md file\. Needed .*, such as .*best\.safetensors"),
        (
            "config.yaml",
            r"config\.yaml: not a model but a \.yaml file\. Needed a run folder[^,]*, or a model's[^,]*$",
        ),
        ("demo.json", r"demo\.json: no demo\.safetensors beside it"),
        ("gone.json", r"gone\.json: does not exist"),
        ("empty", r"empty: has no best\.safetensors or last\.safetensors"),
    ],
)
def test_what_is_no_model_is_told_what_is_one(tmp_path, name, said):
    for other in ("best.md", "best.safetensors", "best.json", "config.yaml", "demo.json"):
        (tmp_path / other).write_text("{}")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=said):
        find_model(tmp_path / name)


def test_missing_run_folder_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere: does not exist"):
        load_model(tmp_path / "nowhere")


def test_configuration_of_the_future_is_refused_by_key(tmp_path):
    save_model(make(), tmp_path / "best.safetensors", facts={})
    about = json.loads((tmp_path / "best.json").read_text())
    about["config"]["sampling"]["entropy"] = 1
    (tmp_path / "best.json").write_text(json.dumps(about))
    with pytest.raises(ConfigError, match='unknown key "entropy"'):
        load_model(tmp_path)


def test_the_checksum_is_that_of_the_file_as_other_programs_take_it(tmp_path):
    import hashlib

    save_model(make(), tmp_path / "best.safetensors", facts={})
    about = json.loads((tmp_path / "best.json").read_text())
    assert about["format"] == "wsi-deform model 2"
    found = hashlib.sha256((tmp_path / "best.safetensors").read_bytes()).hexdigest()
    assert about["safetensors_sha256"] == found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.json", "best.safetensors"]


@pytest.mark.parametrize("place", [200, -1])
def test_a_flipped_bit_in_the_tensors_is_refused(tmp_path, place):
    path = tmp_path / "best.safetensors"
    save_model(filled(1.0), path, facts={})
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"best\.safetensors: these are not the tensors .* Copy both again"):
        load_model(tmp_path)
    as_of_version_0_1(tmp_path)
    if place == -1:
        # Version 0.1 wrote no checksum: nobody can tell.
        assert weight(load_model(tmp_path)) == 1.0


def test_the_tensors_of_another_model_of_the_same_shapes_are_refused(tmp_path):
    save_model(filled(1.0), tmp_path / "best.safetensors", facts={})
    save_model(filled(2.0), tmp_path / "last.safetensors", facts={})
    (tmp_path / "last.safetensors").replace(tmp_path / "best.safetensors")
    with pytest.raises(ModelError, match=r"best\.safetensors: these are not the tensors that best\.json was"):
        load_model(tmp_path)


class Killed(BaseException):
    """What nothing catches."""


def kill(*arguments, **options):
    raise Killed


def save_killed(monkeypatch, moment, model, path, facts):
    """Save a model, cut short before its JSON takes its place, or after that and before the tensors take theirs."""
    with monkeypatch.context() as patched:
        if moment == "before the JSON":
            patched.setattr(model_file, "write_json", kill)
        else:
            replace = Path.replace
            patched.setattr(
                Path,
                "replace",
                lambda own, to: kill() if own.name == f".next-{path.name}" else replace(own, to),
            )
        with pytest.raises(Killed):
            save_model(model, path, facts=facts)
    assert (path.parent / f".next-{path.name}").is_file()


@pytest.mark.parametrize(
    ("moment", "epoch", "value"), [("before the JSON", 1, 1.0), ("before the tensors", 2, 2.0)]
)
def test_a_model_that_is_replaced_is_loadable_whenever_that_is_cut_short(
    tmp_path, monkeypatch, moment, epoch, value
):
    path = tmp_path / "best.safetensors"
    save_model(filled(1.0), path, facts={"epoch": 1})
    save_killed(monkeypatch, moment, filled(2.0), path, {"epoch": 2})
    assert weight(load_model(tmp_path)) == value
    assert read_model_facts(path)["epoch"] == epoch
    finish_saving(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["best.json", "best.safetensors"]
    assert weight(load_model(tmp_path)) == value
    save_model(filled(3.0), path, facts={"epoch": 3})
    assert weight(load_model(tmp_path)) == 3.0


@pytest.mark.parametrize("moment", ["before the JSON", "before the tensors"])
def test_a_first_model_that_was_cut_short_leaves_the_other_one_of_its_run(tmp_path, monkeypatch, moment):
    save_model(filled(1.0), tmp_path / "last.safetensors", facts={})
    save_killed(monkeypatch, moment, filled(2.0), tmp_path / "best.safetensors", {})
    assert weight(load_model(tmp_path)) == 1.0
    finish_saving(tmp_path)
    assert weight(load_model(tmp_path)) == (1.0 if moment == "before the JSON" else 2.0)
    assert not list(tmp_path.glob(".next-*"))


def test_what_was_begun_stays_where_the_json_cannot_say_whose_it_is(tmp_path, monkeypatch):
    path = tmp_path / "best.safetensors"
    save_model(filled(1.0), path, facts={})
    save_killed(monkeypatch, "before the tensors", filled(2.0), path, {})
    path.with_suffix(".json").write_text("{")
    finish_saving(tmp_path)
    assert (tmp_path / ".next-best.safetensors").is_file()


@pytest.mark.parametrize("moment", ["after the JSON is read", "after the tensors are summed"])
def test_a_model_that_is_written_again_while_it_is_read_is_one_or_the_other(tmp_path, monkeypatch, moment):
    path = tmp_path / "best.safetensors"
    save_model(filled(1.0), path, facts={"epoch": 1})
    name = "read_model_facts" if moment == "after the JSON is read" else "_sha256"
    own, calls = getattr(model_file, name), []

    def with_a_save_after_it(*arguments):
        found = own(*arguments)
        calls.append(found)
        if len(calls) == 1:
            save_model(filled(2.0), path, facts={"epoch": 2})
        return found

    monkeypatch.setattr(model_file, name, with_a_save_after_it)
    assert weight(load_model(tmp_path)) == 2.0


def test_tensors_that_are_missing_and_too_many_are_named(tmp_path):
    model = make()
    tensors = dict(model.state_dict())
    first, *_ = sorted(tensors)
    del tensors[first]
    with pytest.raises(
        ModelError, match=rf"a\.st: 2 tensors do not fit a hrnetv2 with 3 classes: {first}: found nothing"
    ):
        load_tensors(model, tensors | {"zzz": torch.zeros(2, 3)}, source="a.st")
    with pytest.raises(ModelError, match=r"zzz: found \[2, 3\], needed nothing\. Keep"):
        load_tensors(model, dict(model.state_dict()) | {"zzz": torch.zeros(2, 3)}, source="a.st")
    extra = {f"zz{number}": torch.zeros(1) for number in range(5)}
    with pytest.raises(
        ModelError, match=r"5 tensors .*; zz3: found \[1\], needed nothing; and 1 more\. Keep"
    ):
        load_tensors(model, dict(model.state_dict()) | extra, source="a.st")
    del extra["zz4"]
    with pytest.raises(ModelError, match=r"4 tensors .*; zz3: found \[1\], needed nothing\. Keep"):
        load_tensors(model, dict(model.state_dict()) | extra, source="a.st")


def test_a_model_that_never_fits_is_read_three_times(tmp_path, monkeypatch):
    save_model(make(), tmp_path / "best.safetensors", facts={})
    asked = []
    monkeypatch.setattr(model_file, "_read_tensors", lambda path, sha256: asked.append(path.name))
    with pytest.raises(ModelError, match="these are not the tensors"):
        load_model(tmp_path)
    assert asked == ["best.safetensors", ".next-best.safetensors"] * 3


@pytest.mark.parametrize(
    ("found", "newer"), [("wsi-deform model 3", True), ("wsi-deform model 10", True), ("wsi-deform model 0", False),
    ("wsi-deform model x", False), ("something 3", False)],
)  # fmt: skip
def test_a_format_of_tomorrow_is_told_from_nonsense(tmp_path, found, newer):
    save_model(make(), tmp_path / "best.safetensors", facts={})
    about = json.loads((tmp_path / "best.json").read_text())
    (tmp_path / "best.json").write_text(json.dumps(about | {"format": found}))
    with pytest.raises(ModelError, match=f'format "{found}"') as error:
        read_model_facts(tmp_path / "best.safetensors")
    assert ("newer version" in str(error.value)) == newer


def test_a_model_of_images_without_um_is_stored_and_moved(tmp_path):
    free = read_config(changes=[SMALL, "fields.side_um=null", "sampling.coarsest_um=null"])
    save_model(Model(config=free, classes=CLASSES, mpp=None), tmp_path / "best.safetensors", facts={})
    assert load_model(tmp_path).mpp is None
    moved = make().to_device("meta")
    assert moved.device.type == "meta"
    kernel = max(moved.segmentation.parameters(), key=lambda each: each.numel())
    assert kernel.is_contiguous()
