"""Masks of 0 and 255, from the manifest to the measures, as a user meets them."""

from __future__ import annotations

import csv
import html
import json
import shutil

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from wsi_deform.cli.main import typer_app
from wsi_deform.drawn.study import draw_study, write_labels
from wsi_deform.geometry import Size

FAST = [
    "--config", "joint",
    "--set", "sampling.budget=[12, 24]",
    "--set", "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "--set", "training={epochs: 2, validate_every: 1, batch: 2, threads: 1, pictures: 0}",
    "--device", "cpu",
]  # fmt: skip
YAML = "classes:\n- {name: background, value: 0}\n- {name: gland, value: 255}\n"


def call(*arguments):
    """Exit code and all that is said, errors included."""
    done = CliRunner().invoke(typer_app, [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    draw_study(folder, train=3, val=1, test=1, seed=2, size=Size(512, 256), slides_per_patient=1)
    return folder


@pytest.fixture
def study(drawn, tmp_path):
    """Slides of glands whose masks say 255 where there is one."""
    shutil.copytree(drawn / "slides", tmp_path / "slides")
    for path in sorted((drawn / "labels").glob("*.tif")):
        glands = tifffile.imread(path) > 0
        write_labels(tmp_path / "masks" / path.name, np.where(glands, 255, 0).astype(np.uint8), mpp=0.5)
    (tmp_path / "classes.yaml").write_text("[background, gland]\n")
    shutil.copy(drawn / "manifest.csv", tmp_path / "manifest.csv")
    text = (tmp_path / "manifest.csv").read_text().replace("labels/", "masks/")
    (tmp_path / "manifest.csv").write_text(text)
    return tmp_path


def test_masks_of_0_and_255_are_refused_and_the_yaml_that_is_printed_mends_them(study):
    manifest, run, out = study / "manifest.csv", study / "run", study / "out"
    code, said = call("manifest", "check", manifest)
    assert code == 1
    assert "255 (unlabelled, " in said
    assert "If 255 is 'gland', write this into classes.yaml:\n" + YAML in said
    code, said = call("train", "--slides", manifest, "--out", run, *FAST)
    assert code != 0
    assert said.rstrip().endswith("write this into classes.yaml:\n" + YAML.rstrip())
    assert not run.exists()

    (study / "classes.yaml").write_text(said[said.index("classes:\n") :])
    code, said = call("manifest", "check", manifest)
    assert (code, "5 slides, no problems" in said) == (0, True)
    code, said = call("train", "--slides", manifest, "--out", run, *FAST)
    assert code == 0, said
    assert "warning" not in said
    assert " over " not in said
    assert json.loads((run / "best.json").read_text())["metrics"]["miou_classes"] == {
        "labelled": ["background", "gland"],
        "over": ["background", "gland"],
        "absent": [],
    }
    assert call("segment", "--slides", manifest, "--model", run, "--out", out)[0] == 0
    code, said = call("evaluate", "--slides", manifest, "--masks", out)
    assert (code, "The mean IoU" in said) == (0, False)
    assert 0 < json.loads((out / "evaluation.json").read_text())["pooled"]["predicted"]["miou"] < 1

    (study / "classes.yaml").write_text("[background, gland]\n")
    measures = (out / "evaluation.json").read_bytes()
    code, said = call("evaluate", "--slides", manifest, "--masks", out)
    assert code != 0
    assert said.rstrip().endswith("write this into classes.yaml:\n" + YAML.rstrip())
    assert (out / "evaluation.json").read_bytes() == measures


def test_with_the_switch_one_class_has_no_mean_anywhere(study):
    manifest, run, out = study / "manifest.csv", study / "run", study / "out"
    allow = "--allow-empty-classes"
    cannot = "cannot be measured: the labels hold only class 'background'"
    assert call("manifest", "check", manifest, allow)[0] == 0
    code, said = call("train", "--slides", manifest, "--out", run, *FAST, allow)
    assert code == 0, said
    assert "warning: class table: only class 'background' has pixels in 4 masks" in said
    assert (
        f"epoch 2/2, loss {json.loads((run / 'last.json').read_text())['metrics']['loss']:.4f}, val mIoU {cannot}"
        in said
    )
    assert f"2 epochs, validation mIoU {cannot}." in said
    assert "1.000" not in said
    with (run / "log.csv").open() as file:
        assert [row["val_miou"] for row in csv.DictReader(file)] == ["", ""]
    assert not (run / "best.json").exists()
    assert f"The validation mIoU {cannot}." in (run / "last.md").read_text()
    assert call("segment", "--slides", manifest, "--model", run, "--out", out)[0] == 0
    code, said = call("evaluate", "--slides", manifest, "--masks", out, allow)
    assert code == 0, said
    assert f"The mean IoU {cannot}." in said
    assert json.loads((out / "evaluation.json").read_text())["pooled"]["predicted"]["miou"] is None
    assert call("report", run)[0] == call("report", out)[0] == 0
    for page in (run / "report.html", out / "report.html"):
        assert "cannot be measured: the labels hold only class 'background'" in html.unescape(
            page.read_text()
        )


def test_slides_without_patients_are_warned_of_before_training(study):
    rows = list(csv.DictReader((study / "manifest.csv").read_text().splitlines()))
    lines = ["slide,mask,split", *(f"{row['slide']},{row['mask']},{row['split']}" for row in rows)]
    (study / "bare.csv").write_text("\n".join(lines))
    (study / "classes.yaml").write_text(YAML)
    said = call(
        "train", "--slides", study / "bare.csv", "--out", study / "run", *FAST, "--set", "training.epochs=1"
    )[1]
    assert (
        "warning: 5 of 5 slides in splits have no patient: slides of one patient may be on both sides of a split"
    ) in said
    assert "5 of 5 slides in splits have no patient" in call("manifest", "check", study / "bare.csv")[1]
