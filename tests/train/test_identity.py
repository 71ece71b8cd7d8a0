"""A run goes on with the settings that it was started with, also one of an earlier version, or says which differ.

The hashes are those in the checkpoints that earlier commits wrote beside the config.yaml of the same trainings.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from wsi_deform.annotation.classes import class_table_from_data, read_class_table
from wsi_deform.annotation.raster import LABEL_CACHE
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import TrainingError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.train import start as start_module
from wsi_deform.train.checkpoint import stored_counters
from wsi_deform.train.identity import check_identity, identity_of, labels_remark
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.start import start_run

DATA = Path(__file__).parents[1] / "data_of_earlier_versions"
HASHES = {
    "825d58f": "e4b9995433660a5cbcbf8389973ea898e2bfcf0983379df6586517ffaff6c35b",
    "967aec1": "32957b8472ebce56d5f872f4731a2110a77be3f15cc0be1d196b8ca3f3d39237",
    "e647079": "820a63fb2cfe02ff3f7db0fe663692ad868a0127debf769223e4836c36d3919f",
}
BATCH = {"825d58f": {}, "967aec1": {"batch": 1}, "e647079": {"batch": 1}}
# What whoever gives the same command again is told; the settings of the test differ from the defaults in these.
GIVEN = [
    "sampling.budget=[24, 48]",
    "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 1}",
    "training={epochs: 6, validate_every: 1, batch: 1, threads: 1}",
]
DIFFERS = {
    "825d58f": 'config: sampling.radius_sigmas 3.0 (now 5.0), sampling.interpolation "nearest" (now "linear"), '
    "sampling.coarsest_um null (now 16.0), networks.area_channel false (now true), loss.focal_gamma 2.0 (now 0.0). "
    "Needed",
    "967aec1": "config: sampling.radius_sigmas 3.0 (now 5.0), sampling.coarsest_um null (now 16.0), "
    "loss.focal_gamma 2.0 (now 0.0). Needed",
    "e647079": "config: sampling.radius_sigmas 3.0 (now 5.0), sampling.level_bias -2.0 (now 0.0), "
    "sampling.coarsest_um null (now 16.0). Needed",
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=2, val=0, test=0, seed=4, size=Size(256, 128))
    return read_manifest(made.manifest), read_class_table(made.classes)


@pytest.fixture
def start(study):
    """Starts or goes on with a run; what that changes in this process is put back."""
    limits = TILE_CACHE.limit_bytes, LABEL_CACHE.limit_bytes
    yield lambda config, run: start_run(config, *study, run, None, ranks=Ranks(), checkpoint_every_s=0.0)
    TILE_CACHE.set_limit(limits[0])
    LABEL_CACHE.set_limit(limits[1])


@pytest.fixture(params=sorted(HASHES))
def earlier(request, start, tmp_path):
    """A run folder as an earlier commit left it, in its fourth epoch, and that commit."""
    run = started_by(request.param, start, tmp_path / "run")
    return run, request.param


def started_by(commit, start, run, **identity):
    own = DATA / commit / "config.yaml"
    begun = start(read_config(own), run)
    begun.counters.epoch = 3
    begun.counters.identity["config"] = HASHES[commit]
    del begun.counters.identity["batch"]
    begun.counters.identity |= BATCH[commit] | identity
    begun.save_checkpoint()
    shutil.copy(own, run / "config.yaml")
    return run


def test_a_run_of_an_earlier_commit_goes_on_with_its_own_settings(earlier, start):
    run, _ = earlier
    config = read_config(run / "config.yaml")
    assert start(config, run).counters.epoch == 3
    assert (run / "config.yaml").read_text().startswith("format: 2")
    identity = stored_counters(run).identity
    assert identity["config"]["sampling"]["coarsest_um"] is None
    assert "epochs" in identity["config"]["training"]
    assert not {"device", "format"} & identity["config"].keys()
    assert "batch" not in identity["config"]["training"]
    assert identity["batch"] == 1
    assert start(config, run).counters.epoch == 3


def test_a_run_of_an_earlier_commit_names_the_settings_that_differ_today(earlier, start):
    run, commit = earlier
    before = sorted((path.name, path.read_bytes()) for path in run.iterdir())
    with pytest.raises(TrainingError) as error:
        start(read_config(changes=GIVEN), run)
    assert f"run {run}: was started with other {DIFFERS[commit]} the same to go on. " in str(error.value)
    assert f"Go on with --config {run}/config.yaml. Or choose another --out" in str(error.value)
    assert sorted((path.name, path.read_bytes()) for path in run.iterdir()) == before


def test_an_earlier_run_killed_while_it_is_taken_over_goes_on(earlier, start, monkeypatch):
    run, _ = earlier
    config = read_config(run / "config.yaml")
    with monkeypatch.context() as patched:
        patched.setattr(start_module, "write_text", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            start(config, run)
    assert not (run / "config.yaml").read_text().startswith("format")
    assert start(config, run).counters.epoch == 3
    assert (run / "config.yaml").read_text().startswith("format: 2")


def test_the_batch_of_the_first_version_was_one_of_its_settings(start, tmp_path):
    run = started_by("825d58f", start, tmp_path / "run")
    with pytest.raises(TrainingError, match=r"other batch 1 \(now 2\)\. Needed the same"):
        start(read_config(run / "config.yaml", changes=["training.batch=2"]), run)
    assert start(read_config(run / "config.yaml", changes=["training.keep=3"]), run).counters.epoch == 3


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda path: path.unlink(), "its checkpoint is of an earlier version and needs its settings"),
        (
            lambda path: path.write_text(path.read_text().replace("sigma: 0.25", "sigma: 0.5")),
            "is not the one that",
        ),
        (lambda path: path.write_text("seed: 0\n"), "is not the one that it was trained with"),
    ],
)
def test_an_earlier_run_whose_settings_are_lost_or_changed_is_refused(start, tmp_path, break_it, said):
    run = started_by("967aec1", start, tmp_path / "run")
    config = read_config(run / "config.yaml")
    break_it(run / "config.yaml")
    with pytest.raises(TrainingError, match=said):
        start(config, run)
    if (run / "config.yaml").exists():
        with pytest.raises(TrainingError, match=said):
            start(read_config(run / "config.yaml"), run)


def test_a_run_of_today_names_what_differs_as_well(start, tmp_path):
    run = tmp_path / "run"
    start(read_config(changes=GIVEN), run).save_checkpoint()
    other = [*GIVEN, "networks.segmentation={name: pspnet, depth: 50}", "training.epochs=7", "device=cpu"]
    with pytest.raises(TrainingError) as error:
        start(read_config(changes=other), run)
    assert (
        'config: networks.segmentation.name "hrnetv2" (now "pspnet"), networks.segmentation.width 4 (now absent), '
        "networks.segmentation.stem_stride 1 (now absent), training.epochs 6 (now 7), "
        "networks.segmentation.depth absent (now 50). Needed"
    ) in str(error.value)


def test_shares_that_an_earlier_version_did_not_train_with_are_not_made_up(start, tmp_path):
    run = tmp_path / "run"
    begun = start(read_config(changes=GIVEN), run)
    config = read_config(changes=[*GIVEN, "fields.allocation=density"])
    begun.counters.identity["config"]["fields"]["allocation"] = "density"
    begun.save_checkpoint()
    with pytest.raises(
        TrainingError, match="holds no sizes. Needed them to go on: the version that wrote it trained"
    ):
        start(config, run)


def test_settings_that_came_after_a_checkpoint_are_as_they_were_before(start, tmp_path):
    """A checkpoint of format 2 lacks a key that a later version knows, with a default that changes nothing."""
    config = read_config(changes=GIVEN)
    run = start(config, tmp_path)
    run.save_checkpoint()
    stored = stored_counters(tmp_path).identity
    del stored["config"]["networks"]["resizer"]
    del stored["config"]["sampling"]["edge_lattice"]
    check_identity(tmp_path, stored, run.counters.identity)
    with pytest.raises(TrainingError, match=r"sampling.edge_lattice 16 \(now 8\)"):
        check_identity(
            tmp_path,
            stored,
            start(read_config(changes=[*GIVEN, "sampling.edge_lattice=8"]), tmp_path / "b").counters.identity,
        )


TABLE = {
    "classes": ["background", {"name": "gland", "source_names": ["Gland"]}, "other"],
    "regions": ["ROI"],
}


def of_table(study, data):
    """The identity of a run whose class table says this."""
    manifest, _ = study
    table = class_table_from_data(data, "classes")
    return identity_of(read_config(changes=GIVEN), table, manifest, [], Ranks())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"classes": ["background", {"name": "gland", "source_names": ["Gland", "IDC"]}, "other"]},
            'class table: gland.source_names ["Gland"] (now ["Gland", "IDC"]). Needed',
        ),
        (
            {"classes": ["background", {"name": "gland", "source_names": ["Gland"], "value": 7}, "other"]},
            "class table: gland.values [1] (now [7]). Needed",
        ),
        ({"regions": []}, 'class table: (regions) ["ROI"] (now absent). Needed'),
        ({"outline_order": "classes"}, 'class table: (outline_order) absent (now "classes"). Needed'),
        ({"outside_outlines": "other"}, 'class table: (outside_outlines) absent (now "other"). Needed'),
        ({"unlabelled_names": ["?"]}, 'class table: (unlabelled_names) absent (now ["?"]). Needed'),
        ({"ignored": ["ruler"]}, 'class table: (ignored) absent (now ["ruler"]). Needed'),
        ({"background": "other"}, 'class table: (background) "background" (now "other"). Needed'),
    ],
)
def test_a_class_table_that_gives_other_labels_is_another_run(study, changed, said):
    with pytest.raises(TrainingError) as error:
        check_identity(Path("run"), of_table(study, TABLE), of_table(study, TABLE | changed))
    assert str(error.value) == (
        f"run run: was started with other {said} the same to go on. Choose another --out, or delete the folder to "
        "start again."
    )


def test_colours_and_groups_of_a_class_table_may_change(study):
    classes = ["background", {"name": "gland", "source_names": ["Gland"], "color": [1, 2, 3]}, "other"]
    other = TABLE | {"classes": classes, "groups": {"tissue": ["gland", "other"]}}
    check_identity(Path("run"), of_table(study, TABLE), of_table(study, other))


def test_a_checkpoint_that_does_not_hold_its_class_table_goes_on(study):
    stored = of_table(study, TABLE)
    del stored["class table"], stored["label files"]
    check_identity(Path("run"), stored, of_table(study, TABLE | {"outline_order": "classes"}))


def test_labels_that_hold_something_else_are_remarked_upon_and_touched_ones_are_not(study, tmp_path):
    manifest, classes = study
    rows = []
    for row in manifest.rows:
        shutil.copy(row.mask, tmp_path / row.mask.name)
        rows.append(row.model_copy(update={"mask": tmp_path / row.mask.name}))
    own = manifest.model_copy(update={"rows": tuple(rows)})
    config = read_config(changes=GIVEN)
    before = identity_of(config, classes, own, [], Ranks())
    os.utime(rows[0].mask, (1, 1))
    touched = identity_of(config, classes, own, [], Ranks())
    assert labels_remark(tmp_path, before, touched) == labels_remark(tmp_path, {}, touched) == ""
    labels = tifffile.imread(rows[0].mask)
    tifffile.imwrite(rows[0].mask, np.roll(labels, 40, axis=1))
    now = identity_of(config, classes, own, [], Ranks())
    check_identity(tmp_path, before, now)
    assert labels_remark(tmp_path, before, now) == (
        f"run {tmp_path}: labels of 1 slide changed since it was started ({rows[0].slide_id}); it goes on with the "
        "new ones, and losses and mIoU before and after are not of the same labels"
    )
