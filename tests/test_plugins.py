"""Names and files that installed packages add, and what is said where they do not."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from plugged import example, install, install_example, unplugged
from tiny_study import MPP, SIZE, tiny_model, tiny_study
from torch import nn
from typer.testing import CliRunner

from wsi_deform import open_slide, plugins
from wsi_deform.annotation.outlines.open import FORMATS, add_format, read_outlines
from wsi_deform.cli.main import typer_app
from wsi_deform.config import parse_config, read_config
from wsi_deform.config_blocks import looks_text
from wsi_deform.config_files import packaged_configs
from wsi_deform.deform.block_choices import add_choice, block_choice
from wsi_deform.doctor.installed_plugins import plugin_findings
from wsi_deform.drawn.study import draw_study
from wsi_deform.errors import AnnotationError, ConfigError, ModelError, PluginError, SlideError
from wsi_deform.model import Model
from wsi_deform.model_file import load_model, save_model
from wsi_deform.networks.block_encoders import add_encoder, block_encoder
from wsi_deform.networks.losses import add_loss, named_loss
from wsi_deform.networks.registry import add_network, segmentation_network
from wsi_deform.provenance import provenance
from wsi_deform.slide.added import add_reader
from wsi_deform.slide.open import find_slides

MINE = "wsi-deform-mine 1.0"
LOSS = """
def plug_in():
    from wsi_deform.networks.losses import add_loss
    add_loss("mine", Mine)


class Mine:
    def __init__(self, *, classes):
        pass

    def __call__(self, scores, labels):
        return scores.square().mean()
"""
BROKEN = "def plug_in():\n    raise OSError('no licence\\nfound')\n"


@pytest.fixture(autouse=True)
def _unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    unplugged(monkeypatch)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of the extending page is installed."""
    install_example(tmp_path / "site", monkeypatch)


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package is installed whose plug-in raises."""
    entry = "bad = broken_plugin:plug_in"
    install(tmp_path / "site", monkeypatch, {"broken_plugin.py": BROKEN}, package="broken-one", entry=entry)


def draw_array(folder: Path, name: str = "a.npy") -> np.ndarray:
    """A slide of the page's reader, the first one of a tiny study."""
    study = tiny_study(folder / "drawn", test=1)
    pixels = tifffile.imread(sorted((folder / "drawn" / "slides").glob("*.tif"))[0], level=0)
    (folder / "slides").mkdir()
    np.save(folder / "slides" / name, pixels)
    assert study.classes.is_file()
    return np.asarray(pixels)


def plain_model(run: Path, classes: Path, name: str = "plain", **sections: Any) -> Path:
    """An untrained model whose network is a plug-in's."""
    network = {"name": name, "width": 4}
    sections = {"sampling": {"budget": [12, 48]}, "networks": {"segmentation": network}} | sections
    model = Model(
        config=parse_config(sections, source="plain"),
        classes=load_model(tiny_model(run, classes)).classes,
        mpp=MPP,
    )
    save_model(model, run / "best.safetensors", facts={"epoch": 0})
    return run


# What installed plug-ins do.


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize("how", [[], ["--workers", "2"]])
def test_processes_that_segment_know_slides_and_networks_of_an_installed_plug_in(
    tmp_path: Path, how: list[str]
) -> None:
    np.save(tmp_path / "slides" / "b.npy", draw_array(tmp_path))
    module = tmp_path / "site" / "wsi_deform_mine" / "__init__.py"
    # A line for each process that imports it.
    module.write_text(
        f"import os\nwith open({str(tmp_path / 'pids')!r}, 'a') as file:\n    print(os.getpid(), file=file)\n"
        + module.read_text()
    )
    run = plain_model(tmp_path / "run", tmp_path / "drawn" / "classes.yaml")
    arguments = [
        "--slides",
        tmp_path / "slides",
        "--model",
        run,
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    done = CliRunner().invoke(typer_app, ["segment", *map(str, arguments), *how])
    assert done.exit_code == 0, done.output
    masks = [tifffile.imread(tmp_path / "out" / "masks" / f"{name}.npy.ome.tif", level=0) for name in "ab"]
    assert [each.shape for each in masks] == [(SIZE.height, SIZE.width)] * 2
    pids = [int(each) for each in (tmp_path / "pids").read_text().split()]
    assert len(pids) == len(set(pids))
    assert set(pids) - {os.getpid()}


@pytest.mark.usefixtures("mine")
def test_training_knows_the_network_of_an_installed_plug_in(tmp_path: Path) -> None:
    draw_study(tmp_path, train=1, val=1, test=0, size=SIZE, mpp=MPP, slides_per_patient=1)
    words = ["train", "--slides", "manifest.csv", "--out", "run", "--config", "joint"]
    words += ["--device", "cpu", "--allow-empty-classes"]
    for each in (
        "training.epochs=1",
        "sampling.budget=[12, 48]",
        "networks.segmentation={name: plain, width: 2}",
    ):
        words += ["--set", each]
    with contextlib.chdir(tmp_path):
        done = CliRunner().invoke(typer_app, words)
    assert done.exit_code == 0, done.output
    assert load_model(tmp_path / "run").segmentation.layers[0].weight.shape == (2, 4, 3, 3)
    about = json.loads((tmp_path / "run" / "best.json").read_text())
    assert about["provenance"]["plugins"] == {"wsi-deform-mine": "1.0"}


def test_the_page_says_how_a_package_names_its_plug_in() -> None:
    said = tomllib.loads(example("[project]", "toml"))
    assert said["project"]["entry-points"] == {plugins.GROUP: {"mine": "wsi_deform_mine:plug_in"}}
    assert said["tool"]["setuptools"]["packages"] == ["wsi_deform_mine"]


@pytest.mark.usefixtures("mine")
def test_plug_ins_run_once_and_only_where_something_is_not_known(tmp_path: Path) -> None:
    tiny_study(tmp_path, test=1)
    (slide, *_) = find_slides(tmp_path / "slides")
    open_slide(slide)
    segmentation_network("hrnetv2", classes=2, width=2)
    block_encoder("resnet18", {})
    read_config(
        packaged_configs()["blocks"], changes=["loss.segmentation=monai:DiceLoss", "blocks.choice=detail"]
    )
    assert plugins.loaded_plugins() == ()
    assert "wsi_deform_mine" not in sys.modules
    assert provenance().keys() & {"plugins"} == set()
    segmentation_network("plain", classes=2)
    (found,) = plugins.loaded_plugins()
    assert (found.name, found.package, found.version, found.problem) == ("mine", "wsi-deform-mine", "1.0", "")
    del sys.modules["wsi_deform_mine.network"]
    segmentation_network("plain", classes=2)
    assert "wsi_deform_mine.network" not in sys.modules


# What is said where one fails, or is not there.


@pytest.mark.usefixtures("broken", "mine")
def test_a_plug_in_that_raises_stops_neither_names_nor_files_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = draw_array(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert [each.name for each in find_slides(tmp_path / "slides")] == ["a.npy"]
        np.testing.assert_array_equal(
            open_slide(tmp_path / "slides" / "a.npy").read(0, 0, 64, 32, level=0), pixels[:32, :64]
        )
        segmentation_network("plain", classes=2)
    bad = "Plug-in bad of broken-one 1.0 (broken_plugin:plug_in)"
    remedy = "OSError: no licence found. Mend or uninstall it."
    assert [each.getMessage() for each in caplog.records] == [f"{bad} fails: {remedy}"]
    with pytest.raises(ModelError) as error:
        segmentation_network("qqq", classes=2)
    assert str(error.value) == (
        "network 'qqq' is not known. Known: hrnetv2, pspnet, efficientnet-lite0, plain, monai:UNet, monai:BasicUNet, "
        f"monai:SegResNet, monai:AttentionUnet, monai:DynUNet. Installed plug-ins do not know it ({MINE}). "
        f"{bad} might know it, but fails: {remedy}"
    )
    (tmp_path / "a.xyz").write_bytes(b"not a slide")
    with pytest.raises(
        SlideError, match="no reader can open it.*Plug-in bad of broken-one 1.0 .* no licence found"
    ):
        open_slide(tmp_path / "a.xyz")
    (tmp_path / "a.json").write_text('{"tool": "lasso"}')
    with pytest.raises(AnnotationError, match=r"in no format that is known.*Plug-in bad of broken-one 1\.0"):
        read_outlines(tmp_path / "a.json")


@pytest.mark.usefixtures("broken", "mine")
def test_doctor_lists_plug_ins_and_finds_those_that_do_not_load() -> None:
    good, bad = sorted(plugin_findings(), key=lambda each: each.status, reverse=True)
    assert (good.subject, good.status) == ("mine", "ok")
    assert good.text == "of wsi-deform-mine 1.0, wsi_deform_mine:plug_in: loads"
    assert (bad.subject, bad.status, bad.remedy) == (
        "bad",
        "fault",
        "Mend it, or leave it out: pip uninstall broken-one",
    )
    assert bad.text == "of broken-one 1.0, broken_plugin:plug_in: OSError: no licence found"


def test_a_model_is_refused_by_its_network_s_name_where_the_plug_in_is_not_installed(tmp_path: Path) -> None:
    study = tiny_study(tmp_path, test=1)
    add_network("plain", Tiny)
    run = plain_model(tmp_path / "run", study.classes)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules["wsi_deform.networks.registry"]._NETWORKS, "plain")
        with pytest.raises(ModelError) as error:
            load_model(run)
    assert str(error.value).startswith(f"model {run / 'best.json'}: network 'plain' is not known. ")
    assert str(error.value).endswith(
        "No plug-in is installed that might know it: where one had it, install that package here too."
    )


def test_a_model_whose_loss_was_a_plug_in_s_loads_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tiny_study(tmp_path, test=1)
    install(tmp_path / "site", monkeypatch, {"wsi_deform_mine.py": LOSS})
    add_network("plain", Tiny)
    run = plain_model(tmp_path / "run", study.classes, loss={"segmentation": "mine"})
    monkeypatch.setattr(plugins, "_PLUGINS", plugins._Plugins())
    sys.path.remove(str(tmp_path / "site"))
    sys.modules["wsi_deform.networks.losses"]._LOSSES.clear()
    assert load_model(run).config.loss.segmentation.name == "mine"
    with pytest.raises(ConfigError, match="loss 'mine' is not one of those .* No plug-in is installed"):
        read_config(changes=["loss.segmentation=mine"])


# What cannot be added.


class Tiny(nn.Module):
    def __init__(self, *, classes: int, in_channels: int = 3, width: int = 4, deep: bool = False):
        super().__init__()
        self.layer = nn.Conv2d(in_channels, classes, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.layer(image)


class Brightness:
    """Needs neither."""

    def __init__(self, *, classes: int):
        self.classes = classes

    def __call__(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return scores.sum()


def blue(view: torch.Tensor) -> torch.Tensor:
    return view[:, 2:]


def known(path: Path, head: bytes) -> bool:
    return head.startswith(b"mine")


def test_the_same_may_be_added_twice_and_another_of_its_name_may_not() -> None:
    for _ in range(2):
        add_network("tiny", Tiny)
        add_loss("bright", Brightness)
        add_choice("blue", blue, words="where it is blue")
        add_encoder("tiny", nn.Identity)
        add_reader("mine", known, open_slide, suffixes=(".mine",))
        add_format(type(FORMATS[0])())
    with pytest.raises(PluginError) as error:
        add_network("hrnetv2", Tiny)
    assert str(error.value) == (
        "network 'hrnetv2': there is one of that name, wsi_deform.networks.hrnet.HRNetV2, other than "
        f"{__name__}.Tiny. Needed a name of its own. Choose another, e.g. with the name of your package before it."
    )
    for refused in (
        lambda: add_network("tiny", lambda *, classes, in_channels: nn.Identity()),
        lambda: add_loss("bright", lambda *, classes: Brightness(classes=classes)),
        lambda: add_choice("detail", blue, words="where it is blue"),
        lambda: add_encoder("resnet18", nn.Identity),
        lambda: add_reader("mine", known, open_slide),
        lambda: add_format(Impostor()),
    ):
        with pytest.raises(PluginError, match="there is one of that name"):
            refused()


class Impostor:
    name = FORMATS[0].name
    is_cropped = False

    def recognises(self, file: Any) -> bool:
        return True

    def read(self, file: Any, found: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (lambda: add_network("", Tiny), "network '': no name"),
        (lambda: add_network(" a", Tiny), "network ' a': no name"),
        (lambda: add_network("monai:Mine", Tiny), "such names are MONAI's"),
        (lambda: add_network("a", lambda classes: 1), "takes classes. Needed the named argument in_channels"),  # type: ignore
        (lambda: add_network("a", 3), "3 cannot be called"),  # type: ignore[arg-type]
        (lambda: add_loss("focal", Brightness), "ours or MONAI's"),
        (lambda: add_loss("a", lambda: 1), "takes nothing. Needed the named argument classes"),  # type: ignore
        (lambda: add_encoder("a", lambda *, width: 1), "its argument width is an option of all"),  # type: ignore
        (lambda: add_choice("a", blue, words=" "), "words for model cards"),
        (lambda: add_reader("a", known, open_slide, suffixes=("npy",)), "suffix 'npy'. Needed lower case"),
        (lambda: add_reader("a", known, open_slide, suffixes=(".NPY",)), "suffix '.NPY'. Needed lower case"),
        (lambda: add_format(Tiny), "without name, is_cropped, recognises, read"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_refused_as_it_is_added(add: Any, said: str) -> None:
    with pytest.raises(PluginError, match=said.replace(".", r"\.")):
        add()


# Of what is added.


def test_types_written_beside_the_arguments_of_an_added_network_are_held_to() -> None:
    add_network("tiny", Tiny)
    with pytest.raises(ModelError, match=r"network 'tiny': width '8'\. Needed a whole number\."):
        segmentation_network("tiny", classes=2, width="8")
    with pytest.raises(ModelError, match=r"network 'tiny': deep '1'\. Needed true or false\."):
        segmentation_network("tiny", classes=2, deep=1)


def test_an_added_encoder_has_options_of_its_own_and_says_its_channels() -> None:
    class Mapped(nn.Module):
        def __init__(self, *, most: int = 3, flag: bool = False):
            super().__init__()
            self.channels = {8: most} if flag else {32: most}

    add_encoder("mapped", Mapped)
    encoder, _ = block_encoder("mapped", {"most": 5, "flag": True})
    assert encoder.channels == {8: 5}
    with pytest.raises(ModelError, match=r"encoder mapped: flag 1\. Needed true or false"):
        block_encoder("mapped", {"flag": 1})
    with pytest.raises(ModelError, match=r"its attribute channels is \{32: 3\}\. Needed channels by stride"):
        block_encoder("mapped", {})


def test_an_added_loss_is_told_labels_and_class_weights_and_unlabelled_images_count_nothing() -> None:
    class Weighed:
        def __init__(self, *, classes: int, class_weights: torch.Tensor | None = None, factor: int = 1):
            self.weights, self.factor = class_weights, factor

        def __call__(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            assert scores.dtype == torch.float32
            weight = 1.0 if self.weights is None else self.weights.sum()
            return self.factor * weight * scores.sum() + (labels != 255).sum()

    add_loss("weighed", Weighed)
    loss = named_loss("weighed", classes=2, class_weights=torch.tensor([1, 3]), options={"factor": 10})
    scores = torch.ones(2, 2, 1, 3, dtype=torch.bfloat16, requires_grad=True)
    labels = torch.tensor([[[0, 255, 1]], [[255, 255, 255]]], dtype=torch.uint8)
    losses, counts = loss.sums(scores, labels, 255)
    # 10 x (1 + 3) x 6 scores, and 2 labels.
    assert (losses.tolist(), counts.tolist()) == ([242.0, 0.0], [1.0, 0.0])
    losses.sum().backward()
    assert scores.grad is not None
    assert scores.grad[1].abs().sum() == 0
    add_loss("bright", Brightness)
    with pytest.raises(ModelError, match="loss bright: takes no class weights"):
        named_loss("bright", classes=2, class_weights=torch.ones(2))
    add_loss("none", lambda *, classes: lambda scores, labels: scores)
    with pytest.raises(ModelError, match="Needed one finite number"):
        named_loss("none", classes=1)
    with pytest.raises(ModelError, match=r"Of plug-ins: bright, none, weighed\. No plug-in is installed"):
        named_loss("wieghed", classes=2)


def test_a_choice_that_is_not_installed_is_refused_and_has_words_nevertheless() -> None:
    blocks = {
        "sampling": {"geometry": "blocks"},
        "blocks": {"choice": "blue"},
        "augmentation": {"shift_cells": 0, "warp_cells": 0},
    }
    with pytest.raises(
        ConfigError, match=r"blocks\.choice.*'blue' is not known\. Needed one of learned, detail, "
    ):
        parse_config(blocks, source="a")
    add_choice("blue", blue, words="where it is blue")
    settings = parse_config(blocks, source="a").blocks
    assert settings is not None
    assert block_choice("blue").worth is blue
    said = settings.model_dump()
    assert "in windows of 64 px, where it is blue: at most" in looks_text(said)
    assert "by the choice grey of a plug-in: at most" in looks_text(said | {"choice": "grey"})


def test_a_reader_that_fails_is_named_and_does_not_stop_the_search_of_a_folder(tmp_path: Path) -> None:
    def doubt(path: Path, head: bytes) -> bool:
        raise KeyError(head[:1])

    def fail(path: Path, asked: str) -> Any:
        raise IndexError("nothing there")

    for name in ("a.mine", "b.mine"):
        (tmp_path / name).write_bytes(b"mine" if name == "a.mine" else b"other")
    add_reader("doubting", doubt, open_slide, suffixes=(".mine",))
    add_reader("failing", known, fail, suffixes=(".mine",))
    assert [each.name for each in find_slides(tmp_path)] == ["a.mine"]
    with pytest.raises(
        SlideError, match=r"a\.mine: the reader failing, which was added .* IndexError: nothing there"
    ):
        open_slide(tmp_path / "a.mine")
    with pytest.raises(
        SlideError, match=r"doubting: cannot say whether it knows the file \(KeyError: b'o'\)"
    ):
        open_slide(tmp_path / "b.mine")


def test_formats_that_are_known_and_not_read_are_offered_to_added_readers(tmp_path: Path) -> None:
    def open_one(path: Path, asked: str) -> Any:
        raise SlideError(f"opened {path.name}")

    path = tmp_path / "a.kfb"
    path.write_bytes(b"mine" + bytes(200))
    with pytest.raises(SlideError, match="a KFBio KFB"):
        open_slide(path)
    add_reader("mine", known, open_one)
    with pytest.raises(SlideError, match=r"^opened a\.kfb$"):
        open_slide(path)
