"""The card that says what a model is for."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from tiny_study import tiny_model

from wsi_deform.annotation.classes import ClassTable
from wsi_deform.errors import ModelError
from wsi_deform.model_card import model_card, write_model_card


@pytest.fixture(scope="module")
def about(tmp_path_factory: pytest.TempPathFactory) -> dict:
    run = tmp_path_factory.mktemp("run")
    tiny_model(run, ClassTable.from_names(["background", "gland", "odd | name"]))
    return json.loads((run / "best.json").read_text())


def test_card_is_written_beside_the_model(tmp_path: Path):
    run = tiny_model(tmp_path, ClassTable.from_names(["background", "gland"]))
    card = write_model_card(run / "best.safetensors")
    assert card == run / "best.md"
    assert card.read_text().startswith("# Model card: joint (best)\n\n## What it does\n")


def test_card_names_classes_budget_and_mpp(about: dict):
    card = model_card(about)
    assert "Segments histology slides into 3 classes: gland and odd | name, and background." in card
    assert "576 samples (12 x 48" in card
    assert "0.5 um per pixel" in card
    # A bar in a name does not end its cell.
    assert "| 2 | odd \\| name | #" in card


@pytest.mark.parametrize(("option", "said"), [({}, "bilinear"), ({"fuse": "nearest"}, "nearest")])
def test_card_says_how_hrnet_fuses_its_branches(about: dict, option: dict, said: str):
    changed = copy.deepcopy(about)
    changed["config"]["networks"]["segmentation"] |= option
    assert f"segmentation network: hrnetv2 (width 4, stem_stride 1, fuse {said})" in model_card(changed)


def test_card_says_what_was_not_recorded(about: dict):
    card = model_card(about)
    assert "counts of slides and patients were not recorded" in card
    assert "none recorded with this model" in card
    assert "## Provenance\n\nNot recorded" in card
    assert "None" not in card
    assert "Manifest:" not in card


def test_card_shows_data_metrics_and_provenance(about: dict):
    full = copy.deepcopy(about) | {
        "epoch": 12,
        "metrics": {"val_miou": 0.61234, "loss": 0.5, "read_seconds": 3.0},
        "data": {
            "train": {"slides": 12, "patients": 9, "fields": 40},
            "val": {"slides": 3},
            "manifest": "study.csv",
            "manifest_sha256": "abcd",
        },
        "provenance": {
            "wsi_deform": "0.1.0",
            "git": {"commit": "1234abcd", "changed": True},
            "command": ["wsi-deform", "train", "--set", "seed=1"],
            "seed": 1,
            "packages": {"torch": "2.13.0", "openslide-bin": None},
        },
    }
    full["config"]["networks"]["pretrained"] = "/home/somebody/hrnet.pth"
    card = model_card(full, name="best")
    assert "| training | 12 | 9 | 40 |" in card
    assert "| validation | 3 | - | - |" in card
    assert "`study.csv`, SHA-256 `abcd`" in card
    assert "After epoch 12 of 250" in card
    assert "| validation mIoU, full resolution | 0.6123 |" in card
    assert "read_seconds" not in card
    assert "`1234abcd` with changes" in card
    assert "`wsi-deform train --set seed=1`" in card
    assert "| packages | torch 2.13.0 |" in card
    assert "started from `hrnet.pth`" in card
    assert "/home" not in card


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            {"val_miou": 0.5, "miou_classes": {"labelled": ["a", "b"], "over": ["a", "b"], "absent": ["c"]}},
            "\n\nThe validation mIoU is over 2 of 3 classes (absent: c).\n\nValidation slides chose",
        ),
        (
            {"loss": 0.5, "miou_classes": {"labelled": ["a"], "over": [], "absent": ["b", "c"]}},
            "\n\nThe validation mIoU cannot be measured: the labels hold only class 'a'.\n\n## ",
        ),
    ],
)
def test_card_says_which_classes_the_mean_is_over(about: dict, metrics: dict, said: str):
    card = model_card(copy.deepcopy(about) | {"metrics": metrics})
    assert said in card
    assert "There were no validation slides" not in card
    whole = {"val_miou": 0.5, "miou_classes": {"labelled": ["a", "b"], "over": ["a", "b"], "absent": []}}
    assert "The validation mIoU" not in model_card(copy.deepcopy(about) | {"metrics": whole})


def test_card_says_that_it_is_for_research_only(about: dict):
    card = model_card(about)
    assert "Not a medical device" in card
    assert "Apache-2.0" in card


@pytest.mark.parametrize(
    ("density", "words"),
    [
        ("uniform", "everywhere equally dense"),
        ("tissue", "denser on tissue"),
        ("edges", "an oracle for comparison, not for use"),
    ],
)
def test_card_says_how_samples_are_placed(about: dict, density: str, words: str):
    changed = copy.deepcopy(about)
    changed["config"]["sampling"]["density"] = density
    card = model_card(changed)
    assert words in card
    assert "deformation network:" not in card


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        ({"level_bias": -2.0, "coarsest_um": None}, "mip, 2 octaves finer than a sample's cell;"),
        ({"level_bias": 0.0, "coarsest_um": 16.0}, "mip, at most about 16 um per pixel;"),
        (
            {"level": "trilinear", "level_bias": 1.5, "coarsest_um": 12.5},
            "trilinear, 1.5 octaves coarser than a sample's cell, at most about 12.5 um per pixel;",
        ),
        ({"level": "exact", "level_bias": -2.0, "coarsest_um": None}, "exact;"),
        ({"level_bias": 0.0, "coarsest_um": None}, "mip;"),
    ],
)
def test_card_says_what_a_sample_reads(about: dict, reading: dict, words: str):
    changed = copy.deepcopy(about)
    changed["config"]["sampling"] |= reading
    assert f"pyramid level: {words}" in model_card(changed)


def test_model_without_its_json_is_refused(tmp_path: Path):
    (tmp_path / "best.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"best\.json beside it"):
        write_model_card(tmp_path / "best.safetensors")
