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


def test_card_says_names_in_annotation_files_and_groups_where_there_are_any(about: dict):
    card = model_card(about)
    assert "annotation files" not in card
    assert "Groups" not in card
    changed = copy.deepcopy(about)
    changed["classes"]["classes"][1]["source_names"] = ["Gland", "acinus"]
    changed["classes"]["groups"] = {"tissue": ["gland", "odd | name"]}
    card = model_card(changed)
    assert "| values in masks | names in annotation files |" in card
    assert "| 1 | gland, Gland, acinus |" in card
    assert "| 0 | background |" in card
    assert (
        "\n\nGroups of classes, which are also measured together: tissue is gland and odd | name.\n\n" in card
    )


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


def changed_card(about: dict, changes: dict) -> str:
    """The card with some dotted keys of its facts changed."""
    changed = copy.deepcopy(about)
    for key, value in changes.items():
        *sections, last = key.split(".")
        target = changed
        for section in sections:
            target = target[section]
        target[last] = value
    return model_card(changed)


def section(card: str, heading: str) -> str:
    return card.split(f"## {heading}\n\n")[1].split("\n\n## ")[0]


def test_the_sections_of_a_card_word_for_word(about: dict):
    card = model_card(about)
    assert section(card, "What it does") == (
        "Segments histology slides into 3 classes: gland and odd | name, and background. It looks at 576 samples "
        "(12 x 48, or as many in another shape) per field, denser where a learned deformation map says so, and writes "
        "a mask at full resolution. Its training slides have 0.5 um per pixel at level 0 (median); beyond a factor of "
        "4 from that the program warns."
    )
    assert section(card, "Classes").splitlines() == [
        "| index | class | colour | values in masks |",
        "| --- | --- | --- | --- |",
        "| 0 | background | #dcdcdc | 0 |",
        "| 1 | gland | #e69f00 | 1 |",
        "| 2 | odd \\| name | #009e73 | 2 |",
        "",
        "Values that mean unlabelled, and counted nowhere: 255.",
    ]
    assert section(card, "Metrics") == "After epoch 0 of 250: none recorded with this model."
    assert section(card, "Sampling and networks").splitlines() == [
        "- segmentation network: hrnetv2 (width 4, stem_stride 1, fuse bilinear), sees the areas of the samples' cells "
        "beside the colours",
        "- deformation network: convolutions of 24 - 24 - 3 channels on the colours of the low-res view",
        "- density: learned, sigma 0.25 of the map's short side, 2 warp steps, floor 0",
        "- pyramid level: mip, at most about 16 um per pixel; mask from samples: linear",
        "- fields of up to 2048 um cover the tissue; slides up to 16 mm2 are one field",
        "",
        "The full configuration is in the JSON beside the model.",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config.sampling.size": "sides"}, "It looks at at most 12 x 48 samples per field"),
        ({"config.sampling.size": "exact"}, "It looks at 12 x 48 samples per field"),
        ({"mpp": None}, "Segments images into"),
        ({"mpp": None}, "Its training images have no um per pixel"),
        (
            {"config.sampling.density": "edge_based"},
            "at positions that a network, trained before all else, expects near class borders",
        ),
        (
            {"config.sampling.density": "edge_based", "config.training.auxiliary_epochs": 70},
            "cells beside the colours\n- network of positions: trained first, for 70 epochs, then frozen\n",
        ),
        (
            {"config.sampling.density": "edge_positions", "config.sampling.edge_smoothness": 0.5},
            "- positions: edge positions, lattice of 16 cells along the short side, lambda 0.5\n",
        ),
        (
            {"config.sampling.density": "edge_positions"},
            "at positions solved from the labels, which must be known of every slide that it segments",
        ),
        ({"config.sampling.sigma_px": 7.5}, "sigma 7.5 px of the map, 2 warp steps"),
        ({"config.sampling.warp_steps": 1, "config.sampling.floor": 0.25}, "short side, 1 warp step, floor 0.25\n"),
        ({"config.networks.deformation.inputs": "rgb+tissue"}, "channels on the colours and the tissue mask of"),
        ({"config.networks.area_channel": False}, "(width 4, stem_stride 1, fuse bilinear)\n"),
        ({"config.networks.segmentation": {"name": "pspnet"}}, "- segmentation network: pspnet, sees the areas"),
        ({"config.networks.stain": "macenko"}, "- stain: colours are brought to one reference per slide first (mac"),
        (
            {"config.networks.resizer": {"blocks": 1, "filters": 16, "input_scale": 4.0}},
            "- resizer: 1 residual block of 16 filters make the sampled image out of one 4 times as long along",
        ),
        ({"config.networks.resizer": {"blocks": 2, "filters": 16, "input_scale": 2.5}}, "2 residual blocks of 16"),
        ({"config.fields.side_um": None}, "- one field over the whole slide\n"),
        (
            {"config.fields.side_um": None, "config.fields.side_px": 512},
            "- fields of up to 512 px cover the slide\n",
        ),
        ({"config.fields.exact": True}, "- patches of 2048 um cover the tissue\n"),
        (
            {"config.fields.exact": True, "config.fields.side_um": None, "config.fields.side_px": 512},
            "- patches of 512 px cover the tissue\n",
        ),
        ({"data": {"manifest_sha256": "abcd"}}, "Manifest: `not named`, SHA-256 `abcd`."),
        (
            {"data": {"data_licences": {"CC BY 4.0": 12, "not stated": 1}}},
            "the training and validation slides come under: CC BY 4.0 (12 slides), not stated (1 slide).\n",
        ),
        ({"data": {"manifest": "a.csv"}}, "Manifest: `a.csv`.\n"),
        ({"data": {"test": {"slides": 2, "patients": 1}}}, "| test | 2 | 1 | - |"),
        ({"metrics": {"loss": 0.25}}, "There were no validation slides: nothing here says how it does on new slides."),
        ({"metrics": {"loss": 0.25}}, "After epoch 0 of 250:\n\n| measure | value |\n| --- | --- |\n| training loss |"),
        (
            {"metrics": {"segmentation_loss": 1, "edge_loss": 2.0, "val_miou_without_background": 0.5}},
            "| validation mIoU without background | 0.5000 |\n| segmentation part | 1.0000 |\n| edge part | 2.0000 |",
        ),
        ({"metrics": {"val_miou": 0.5}}, "Validation slides chose between epochs: on untouched slides expect less."),
        ({"provenance": {"git": {"commit": "12ab"}}}, "| what | value |\n| --- | --- |\n| commit | `12ab` |\n\n"),
        ({"provenance": {"command": "wsi-deform train", "seed": 0}}, "command | `wsi-deform train` |\n| seed | 0 |\n"),
        ({"provenance": {"config_sha256": "ef01"}}, "| configuration, SHA-256 | `ef01` |\n\n"),
    ],
)  # fmt: skip
def test_a_card_says_each_setting_in_words(about: dict, changes: dict, words: str):
    assert words in changed_card(about, changes)
    assert words not in model_card(about)


@pytest.mark.parametrize(
    ("names", "background", "said"),
    [
        (["a", "b", "c"], None, "into 3 classes: a, b and c. It"),
        (["glass", "tumour"], "glass", "into 2 classes: tumour, and glass. It"),
        (["background"], "background", "into 1 classes: background. It"),
    ],
)
def test_a_card_names_the_background_last_and_marks_it_where_it_has_another_name(
    about, names, background, said
):
    table = about["classes"]["classes"][0]
    classes = [table | {"name": name, "values": [index, index + 7]} for index, name in enumerate(names)]
    card = changed_card(about, {"classes": {"classes": classes, "background": background}})
    assert said in card
    assert ("| 0 | glass (the background) | #dcdcdc | 0, 7 |" in card) == (background == "glass")
    assert card.count("(the background)") == (background == "glass")
    assert "counted nowhere: none." in card


def test_a_card_of_no_known_epoch_says_when_it_was_saved(about: dict):
    told = {key: value for key, value in about.items() if key != "epoch"} | {"metrics": {"loss": 0.5}}
    assert "At the time of saving:\n\n| measure" in model_card(told)
