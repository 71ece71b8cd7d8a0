"""The command `wsi-deform segment`, as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from tiny_study import tiny_model, tiny_study
from typer.testing import CliRunner

from wsi_deform.cli.segment import segment
from wsi_deform.errors import WsiDeformError

app = typer.Typer()
app.command()(segment)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    tiny_model(folder / "run", tiny_study(folder).classes)
    return folder


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(done.exception, WsiDeformError):
        raise done.exception
    return done.exit_code, done.output


def test_a_manifest_is_segmented_and_a_second_call_skips(study: Path, tmp_path: Path) -> None:
    arguments = (
        "--slides",
        study / "manifest.csv",
        "--model",
        study / "run",
        "--out",
        tmp_path,
        "--device",
        "cpu",
    )
    code, output = call(*arguments, "--split", "test")
    assert code == 0
    assert "2 done, 0 skipped, 0 failed" in output
    code, output = call(*arguments)
    assert code == 0
    assert "1 done, 2 skipped, 0 failed" in output
    assert str(tmp_path / "summary.md") in output
    assert len(list((tmp_path / "masks").iterdir())) == 3


def test_a_failed_slide_is_exit_code_1_and_its_reason_is_shown(study: Path, tmp_path: Path) -> None:
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "bad[x].svs").write_text("not a slide")
    code, output = call("--slides", tmp_path / "slides", "--model", study / "run", "--out", tmp_path / "out")
    assert code == 1
    assert "bad[x]: failed, " in output
    assert "0 done, 0 skipped, 1 failed" in output


def test_one_slide_and_a_limit(study: Path, tmp_path: Path) -> None:
    one = next((study / "slides").iterdir())
    code, output = call("--slides", one, "--model", study / "run", "--out", tmp_path / "one")
    assert code == 0
    assert "1 done" in output
    code, output = call(
        "--slides", study / "slides", "--model", study / "run", "--out", tmp_path, "--limit", 1
    )
    assert code == 0
    assert "1 done" in output


def test_errors_of_the_call_pass_through_for_exit_code_2(study: Path, tmp_path: Path) -> None:
    with pytest.raises(WsiDeformError, match="no slide among its 0 files"):
        call("--slides", tmp_path, "--model", study / "run", "--out", tmp_path / "out")
    with pytest.raises(WsiDeformError, match=r"model .*does not exist"):
        call("--slides", study / "slides", "--model", tmp_path / "none", "--out", tmp_path / "out")
    assert call("--slides", study / "manifest.csv", "--model", study / "run", "--split", "tset")[0] == 2
    assert not (tmp_path / "out").exists()


def test_an_interrupt_is_exit_code_130(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("wsi_deform.distribute.batch.segment_slides", interrupted)
    code, output = call("--slides", study / "slides", "--model", study / "run", "--out", tmp_path)
    assert code == 130
    assert "The same command goes on" in output


def test_without_out_masks_go_to_out_and_not_among_labels(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one = next((study / "slides").iterdir())
    code, _ = call("--slides", one, "--model", study / "run", "--device", "cpu")
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 1
