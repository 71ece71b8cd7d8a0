"""Which methods can be compared on this machine, and slides that are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from wsi_deform.config_sections import Config
from wsi_deform.demo import demo_config
from wsi_deform.errors import ConfigError, ModelError, WsiDeformError
from wsi_deform.side_by_side import Methods, made_once, methods_here

METHODS = ("uniform", "joint", "blocks")


class Told:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.left_out: list[tuple[str, str]] = []

    def leaves_out(self, method: str, reason: str) -> None:
        self.left_out.append((method, reason))


def here(blocks: bool | None, *changes: str, watcher: Told | None = None) -> Methods:
    def make(method: str) -> Config:
        return demo_config(method, changes=changes)

    return methods_here(make, METHODS, pretrained=blocks, watcher=watcher or Told())  # type: ignore[arg-type]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That the encoder's weights are found, whatever is installed."""
    monkeypatch.setattr("wsi_deform.side_by_side.weight_file", lambda name: tmp_path)


@pytest.mark.usefixtures("weights")
def test_blocks_are_compared_where_their_weights_are_found() -> None:
    told = Told()
    methods = here(None, watcher=told)
    assert list(methods.configs) == ["uniform", "joint", "blocks"]
    assert (methods.left_out, told.left_out) == ({}, [])
    assert methods.configs["blocks"].networks.pretrained == "efficientnet-lite0"
    assert methods.text() == (
        "Uniform spreads its samples evenly. Joint learns where to put as many, the sampler of the paper (Jin et al., "
        "ICLR 2022). Blocks, which are not of the paper, read all coarsely and some of it closer, with a pretrained "
        "encoder."
    )


@pytest.mark.usefixtures("weights")
def test_blocks_that_nobody_wants_are_left_out_without_a_word() -> None:
    told = Told()
    methods = here(False, watcher=told)
    assert (list(methods.configs), methods.left_out, told.left_out) == (["uniform", "joint"], {}, [])


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ("networks.segmentation={name: 'monai:DynUNet'}", ModelError, "DynUNet"),
        ("augmentation.shift_cells=1", ConfigError, "shift_cells"),
    ],
)
def test_settings_that_do_not_suit_blocks_leave_them_out_unless_they_are_asked_for(
    change: str, error: type[WsiDeformError], reason: str
) -> None:
    told = Told()
    methods = here(None, change, watcher=told)
    assert list(methods.configs) == ["uniform", "joint"]
    assert reason in methods.left_out["blocks"]
    assert told.left_out == [("blocks", methods.left_out["blocks"])]
    assert methods.text().endswith(f"Without blocks: {methods.left_out['blocks']}")
    with pytest.raises(error, match=reason):
        here(True, change)


def test_a_setting_that_no_method_can_have_is_refused_whatever_is_asked() -> None:
    for blocks in (None, False, True):
        with pytest.raises(ConfigError, match="nonsense"):
            here(blocks, "nonsense=1")


def test_slides_are_made_once_and_others_are_refused(tmp_path: Path) -> None:
    made: list[int] = []
    for _ in range(2):
        study = made_once(tmp_path, {"seed": 1}, lambda: made.append(1))
    assert made == [1]
    assert (study.manifest, study.classes) == (tmp_path / "manifest.csv", tmp_path / "classes.yaml")
    with pytest.raises(
        WsiDeformError, match=r"a demo of \{'seed': 1\}. Needed \{'seed': 2\}, or an empty folder"
    ):
        made_once(tmp_path, {"seed": 2}, lambda: made.append(2))
    assert made == [1]


def test_slides_whose_making_was_interrupted_are_made_anew(tmp_path: Path) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path, {"seed": 1}, interrupted)
    made: list[int] = []
    made_once(tmp_path, {"seed": 1}, lambda: made.append(1))
    assert made == [1]
